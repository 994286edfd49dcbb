"""One running server for all tests of the HTTP edge; every test has a tenant of its own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from house import House, Tenant
from psycopg import sql
from psycopg.conninfo import make_conninfo

from wharfinger.service.synchronise import Synchroniser
from wharfinger.store.cluster import DATABASE, OWNER
from wharfinger.store.database import DatabaseAddress, connection_options


@pytest.fixture(scope="session")
def shared_house(cluster, administrator, tmp_path_factory) -> Iterator[House]:
    with house_of_its_own(cluster, administrator, tmp_path_factory) as running:
        yield running


@contextlib.contextmanager
def house_of_its_own(cluster, administrator, tmp_path_factory, synchroniser=None):
    """A server over a database that lives as long as it does."""
    name = f"test_{uuid.uuid4().hex}"
    administrator.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY wal_log").format(
            sql.Identifier(name), sql.Identifier(DATABASE), sql.Identifier(OWNER)
        )
    )
    address = DatabaseAddress(
        owner=make_conninfo(cluster.address.owner, dbname=name),
        app=make_conninfo(cluster.address.app, dbname=name),
    )
    options = connection_options(address.owner)
    with psycopg.connect(address.owner, autocommit=True, options=options) as connection:
        key_file = tmp_path_factory.mktemp("keys") / "secret.key"
        running = House(address, key_file, connection, synchroniser)
        running.start()
        yield running
        running.stop()
    administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class NobodyWorks:
    """Takes jobs in and leaves them there."""

    async def plan(self, tx, **job) -> None:
        pass


@pytest.fixture(scope="module")
def house_with_tasks(cluster, administrator, tmp_path_factory) -> Iterator[House]:
    """A server with the real synchroniser, for a module of tests."""

    def synchroniser(database):
        return Synchroniser(database, NobodyWorks())

    with house_of_its_own(cluster, administrator, tmp_path_factory, synchroniser) as running:
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
