"""A city to break into."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
import structlog
from city import City

from clusters import address_of, fresh_database
from leaks import LEAKS
from wharfinger.settings import Settings, read_settings
from wharfinger.store.cluster import DATABASE
from wharfinger.store.database import DatabaseAddress, connection_options
from wharfinger.wiring import open_house


@pytest.fixture(autouse=True)
def quiet():
    """Nobody reads the thousand lines that refusals are logged with."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


class Built(NamedTuple):
    """A city that nobody has been to, the database it is in, and the folder of its key."""

    city: City
    database: str
    folder: Path


@pytest.fixture(scope="session")
def built(cluster, administrator, tmp_path_factory) -> Iterator[Built]:
    """Built once: most of it are tokens and sessions, which take hundreds of transactions."""
    folder = tmp_path_factory.mktemp("city")
    with fresh_database(administrator, template=DATABASE) as name:
        city = asyncio.run(build(address_of(cluster, name), folder))
        yield Built(city, name, folder)


async def build(address: DatabaseAddress, folder: Path) -> City:
    options = connection_options(address.owner)
    with psycopg.connect(address.owner, autocommit=True, options=options) as sql:
        async with open_house(settings_in(folder), address) as house:
            city = City(house, sql)
            await city.build()
    return city


@pytest.fixture
def database_address(built, cluster, administrator) -> Iterator[DatabaseAddress]:
    """A database of the test's own with the whole city in it."""
    with fresh_database(administrator, template=built.database) as name:
        yield address_of(cluster, name)


@pytest.fixture
async def city(built, database_address, owner_connection, tmp_path) -> AsyncIterator[City]:
    shutil.copy(built.folder / "secret.key", tmp_path)
    async with open_house(settings_in(tmp_path), database_address) as house:
        made = built.city.copied(house, owner_connection)
        for person in made.people:
            # What another test made meanwhile may have pushed them out of mind.
            for secret in (person.token, person.session, *person.spare_tokens):
                LEAKS.learn(secret)
        yield made


def settings_in(folder: Path) -> Settings:
    return read_settings(environment={"WHARFINGER_DATA_DIR": str(folder)})
