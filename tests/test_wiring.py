"""The house over a PostgreSQL of one's own."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from wharfinger.domain.errors import SetupError
from wharfinger.settings import read_settings
from wharfinger.wiring import database_of, open_house


def settings_for(tmp_path, **variables):
    return read_settings(environment={"WHARFINGER_DATA_DIR": str(tmp_path), **variables})


@pytest.fixture
def theirs(own_cluster) -> str:
    """A database of somebody who may create roles, on a server new to Wharfinger."""
    with psycopg.connect(own_cluster.superuser_dsn(), autocommit=True) as administrator:
        administrator.execute("DROP ROLE wharfinger_app")
        administrator.execute("CREATE ROLE boss LOGIN CREATEROLE PASSWORD 'made-up'")
        administrator.execute("CREATE DATABASE theirs OWNER boss")
    return make_conninfo(
        own_cluster.superuser_dsn("theirs"), user="boss", password="made-up", passfile=""
    )


async def test_a_database_of_ones_own_is_migrated_by_its_owner_and_used_as_the_working_role(
    theirs, tmp_path
):
    settings = settings_for(tmp_path, WHARFINGER_DATABASE_URL=theirs)

    with database_of(settings) as address:
        async with open_house(settings, address) as house:
            await house.callers.create_project("mine", "p1")
            async with house.database.tenant("p1") as tx:
                cursor = await tx.execute(
                    "SELECT current_user, session_user, count(*) FROM project"
                )
                role, login, projects = await cursor.fetchone()

    assert (role, login, projects) == ("wharfinger_app", "boss", 1)
    assert not (tmp_path / "postgresql").exists()


async def test_a_working_role_that_cannot_log_in_is_told_why(empty_database_address, tmp_path):
    # This owner did not make the working role, so it may not become it either.
    settings = settings_for(tmp_path, WHARFINGER_DATABASE_URL=empty_database_address.owner)

    with database_of(settings) as address, pytest.raises(SetupError, match="permission denied"):
        async with open_house(settings, address):
            pass


async def test_a_working_role_that_row_level_security_does_not_bind_is_refused(
    cluster, empty_database_address, tmp_path
):
    name = empty_database_address.owner.split("dbname=")[1].split()[0]
    superuser = make_conninfo(cluster.superuser_dsn(), dbname=name)
    settings = settings_for(
        tmp_path,
        WHARFINGER_DATABASE_URL=empty_database_address.owner,
        WHARFINGER_DATABASE_APP_URL=superuser,
    )

    with database_of(settings) as address, pytest.raises(SetupError, match="superuser"):
        async with open_house(settings, address):
            pass


async def test_the_owner_is_no_working_role(empty_database_address, tmp_path):
    settings = settings_for(
        tmp_path,
        WHARFINGER_DATABASE_URL=empty_database_address.owner,
        WHARFINGER_DATABASE_APP_URL=empty_database_address.owner,
    )

    with database_of(settings) as address, pytest.raises(SetupError, match="owns the tables"):
        async with open_house(settings, address):
            pass
