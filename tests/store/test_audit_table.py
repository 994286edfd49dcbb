"""The audit in the database: added to, read, and forgotten in time; never rewritten."""

from __future__ import annotations

import datetime as dt

import psycopg
import pytest
from psycopg import sql

from wharfinger.domain.audit import AuditFilter
from wharfinger.domain.model import Caller, Origin
from wharfinger.service.trail import Trail
from wharfinger.store import audit

CALLER = Caller(
    project_id="acme",
    project_name="acme",
    principal="user alice, token",
    user_name="alice",
    origin=Origin(source="192.0.2.1", user_agent="curl/8\n", request_id="r1"),
)
ACCOUNT = Caller(
    project_id="acme", project_name="acme", principal="test", sees_every_enterprise_project=True
)
TABLES = ("audit", "refusal_count", "refusal_sample")


@pytest.fixture
def aged(owner_connection):
    """Rows of every table that are so many days old."""

    def write(*days, project="acme"):
        for age in days:
            ago = (dt.timedelta(days=age),)
            owner_connection.execute(
                "INSERT INTO audit (project_id, at, principal, action, target, outcome)"
                " VALUES (%s, now() - %s, 'p', 'a', 't', 'done')",
                (project, *ago),
            )
            owner_connection.execute(
                "INSERT INTO refusal_count (at, minute, reason, network, calls)"
                " VALUES (now() - %s, now(), 'r', 'n', 1)",
                ago,
            )
            owner_connection.execute(
                "INSERT INTO refusal_sample (at, reason, source, method, route, user_agent,"
                " request_id) VALUES (now() - %s, '', '', '', '', '', '')",
                ago,
            )

    return write


def ages(connection, table, where="true"):
    rows = connection.execute(
        sql.SQL("SELECT extract(day FROM now() - at)::int FROM {} WHERE {} ORDER BY 1").format(
            sql.Identifier(table), sql.SQL(where)
        )
    ).fetchall()
    return [row[0] for row in rows]


async def recorded(database, details=None, caller=CALLER):
    async with database.tenant("acme") as tx:
        await audit.record(tx, caller, "registry.set", target="registry 1", details=details)
        found = await audit.entries(tx, ACCOUNT, AuditFilter(), limit=10)
    return found[0]


async def test_an_entry_tells_who_what_and_from_where(database):
    entry = await recorded(database, {"name": "swr", "images": 7})

    assert (entry.principal, entry.user_name) == ("user alice, token", "alice")
    assert (entry.source, entry.user_agent, entry.request_id) == ("192.0.2.1", "curl/8?", "r1")
    assert (entry.action, entry.target, entry.target_name) == ("registry.set", "registry 1", "swr")
    assert (entry.kind, entry.outcome, entry.details) == (
        "change",
        "done",
        {"name": "swr", "images": 7},
    )


async def test_details_without_a_name_on_the_list_are_left_out(database):
    entry = await recorded(database, {"password": "planted", "secret": {"name": "planted"}})

    assert entry.details == {}


async def test_details_are_cut_to_a_size(database):
    deep = {"a": {"b": {"c": {"d": "too deep"}}}}

    entry = await recorded(
        database, {"name": "n" * 9999, "images": list(range(9999)), "options": deep}
    )

    assert len(entry.details["name"]) == 256
    assert entry.details["images"] == list(range(100))
    assert entry.details["options"] == {"a": {"b": {"c": "dict"}}}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM {}",
        "UPDATE {} SET at = now()",
        "TRUNCATE {}",
        "INSERT INTO {} (at) VALUES (now())",
    ],
)
async def test_the_application_can_neither_rewrite_nor_date_the_audit(database, table, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with database.tenant("acme") as tx:
            await tx.execute(sql.SQL(statement).format(sql.Identifier(table)))


async def test_old_entries_are_forgotten(database, owner_connection, aged):
    aged(0, 99, 101, 500)
    aged(500, project="other")

    forgotten = await Trail(database, days=100).prune(["acme"])

    assert forgotten == 2 + 3 + 3
    assert ages(owner_connection, "audit", "project_id = 'acme'") == [0, 99]
    assert ages(owner_connection, "audit", "project_id = 'other'") == [500]
    for table in TABLES[1:]:
        assert ages(owner_connection, table) == [0, 99]


async def test_nothing_is_forgotten_where_the_audit_is_kept_for_ever(
    database, owner_connection, aged
):
    aged(10_000)

    assert await Trail(database, days=0).prune(["acme"]) == 0
    assert ages(owner_connection, "audit") == [10_000]


async def test_what_is_younger_than_thirty_days_cannot_be_forgotten_by_anybody_who_asks(
    database, owner_connection, aged
):
    aged(1, 29, 31)

    async with database.tenant("acme") as tx:
        await audit.prune(tx, dt.datetime.now(dt.UTC) + dt.timedelta(days=1), most=100)
        await audit.prune_refusals(tx, dt.datetime.now(dt.UTC), most=100)

    for table in TABLES:
        assert ages(owner_connection, table) == [1, 29], table
