"""One running server for all tests of the HTTP edge; every test has a tenant of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from house import House, Tenant, standing_house

from wharfinger.service.synchronise import Synchroniser


@pytest.fixture(scope="session")
def shared_house(cluster, administrator, tmp_path_factory) -> Iterator[House]:
    with standing_house(cluster, administrator, tmp_path_factory.mktemp("keys")) as running:
        yield running


class NobodyWorks:
    """Takes jobs in and leaves them there."""

    async def plan(self, tx, **job) -> None:
        pass


@pytest.fixture(scope="module")
def house_with_tasks(cluster, administrator, tmp_path_factory) -> Iterator[House]:
    """A server with the real synchroniser, for a module of tests."""

    def synchroniser(database):
        return Synchroniser(database, NobodyWorks())

    folder = tmp_path_factory.mktemp("keys")
    with standing_house(cluster, administrator, folder, synchroniser=synchroniser) as running:
        yield running


@pytest.fixture
def house(shared_house) -> House:
    shared_house.forget()
    return shared_house


@pytest.fixture
def house_to_break(database_address, owner_connection, tmp_path) -> Iterator[House]:
    """A server over a database that nobody else needs."""
    running = House(database_address, tmp_path / "secret.key", owner_connection)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def tenant(house) -> Tenant:
    return house.tenant()
