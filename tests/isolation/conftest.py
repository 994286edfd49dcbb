"""A city to break into."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
import structlog
from city import City

from wharfinger.settings import read_settings
from wharfinger.wiring import open_house


@pytest.fixture(autouse=True)
def quiet():
    """Nobody reads the thousand lines that refusals are logged with."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.fixture
async def city(database_address, owner_connection, tmp_path) -> AsyncIterator[City]:
    settings = read_settings(environment={"WHARFINGER_DATA_DIR": str(tmp_path)})
    async with open_house(settings, database_address) as house:
        made = City(house, owner_connection)
        await made.build()
        yield made
