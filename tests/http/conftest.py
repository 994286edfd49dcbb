"""A running server and a tenant for every test of the HTTP edge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from house import House, Tenant


@pytest.fixture
def house(database_address, owner_connection, tmp_path) -> Iterator[House]:
    running = House(database_address, tmp_path / "secret.key", owner_connection)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def tenant(house) -> Tenant:
    return house.tenant()
