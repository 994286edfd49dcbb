"""The house over a PostgreSQL of one's own."""

from __future__ import annotations

import asyncio
import datetime as dt

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from wharfinger import wiring
from wharfinger.domain.errors import NotAllowedError, SetupError
from wharfinger.domain.model import Caller, Origin
from wharfinger.service.ledger import RefusedCall
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


def old_event(sql, seq, age_days):
    sql.execute(
        "INSERT INTO event (project_id, seq, kind, image_id, repository_id, registry_id, at)"
        " VALUES ('acme', %s, 'added', 1, 1, gen_random_uuid(), now() - %s)",
        (seq, dt.timedelta(days=age_days)),
    )


def old_entry(sql, project, age_days):
    sql.execute(
        "INSERT INTO audit (project_id, at, principal, action, target, outcome)"
        " VALUES (%s, now() - %s, 'p', 'old', 't', 'done')",
        (project, dt.timedelta(days=age_days)),
    )


async def becomes(sql, query, expected, within_s=20):
    deadline = asyncio.get_running_loop().time() + within_s
    while (found := sql.execute(query).fetchall()) != expected:
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.02)


async def test_a_worker_forgets_old_history_and_audit_daily(
    database_address, owner_connection, tmp_path, monkeypatch
):
    monkeypatch.setattr(wiring, "PRUNE_LOOK_S", 0.02)
    sql = owner_connection
    settings = settings_for(tmp_path, WHARFINGER_HISTORY_DAYS="60", WHARFINGER_AUDIT_DAYS="100")
    async with open_house(settings, database_address) as house:
        for project in ("acme", "other"):
            await house.callers.create_project(project, project)
        old_event(sql, 1, 70)
        old_event(sql, 2, 50)
        sql.execute("UPDATE tenant_feed SET seq = 2 WHERE project_id = 'acme'")
        for age_days in (101, 99):
            old_entry(sql, "acme", age_days)
            old_entry(sql, "other", age_days)

        async with house.worker():
            await becomes(sql, "SELECT seq FROM event", [(2,)])
            ages = "SELECT project_id, extract(day FROM now() - at)::int FROM audit"
            kept = [("acme", 99), ("other", 99)]
            await becomes(sql, f"{ages} WHERE action = 'old' ORDER BY 1", kept)
            # Today it was done: it is not done again at every look.
            old_entry(sql, "acme", 101)
            await asyncio.sleep(0.2)

    assert sql.execute(f"{ages} WHERE action = 'old' ORDER BY 1, 2").fetchall() == [
        ("acme", 99),
        ("acme", 101),
        ("other", 99),
    ]
    done = "SELECT principal, details ->> 'forgotten' FROM audit WHERE action = 'history.prune'"
    assert sql.execute(done).fetchall() == [("wharfinger", "1")]


async def test_a_pruning_that_fails_is_tried_again(
    database_address, owner_connection, tmp_path, monkeypatch
):
    monkeypatch.setattr(wiring, "PRUNE_LOOK_S", 0.02)
    sql = owner_connection
    async with open_house(settings_for(tmp_path), database_address) as house:
        await house.callers.create_project("acme", "acme")
        old_entry(sql, "acme", 500)
        sql.execute("ALTER FUNCTION prune_audit RENAME TO away")

        async with house.worker():
            await asyncio.sleep(0.2)
            sql.execute("ALTER FUNCTION away RENAME TO prune_audit")
            await becomes(sql, "SELECT count(*) FROM audit WHERE action = 'old'", [(0,)])


async def test_closing_the_house_writes_what_was_refused_a_moment_before(
    database_address, owner_connection, tmp_path
):
    alice = Caller(project_id="acme", project_name="acme", principal="user alice, token")
    call = RefusedCall(method="GET", route="/x", action="", origin=Origin(source="192.0.2.1"))

    async with open_house(settings_for(tmp_path), database_address) as house:
        house.ledger.refused(NotAllowedError("hss:images:list"), alice, call)

    rows = owner_connection.execute("SELECT principal, outcome, source FROM audit").fetchall()
    assert rows == [("user alice, token", "not_allowed", "192.0.2.1")]
