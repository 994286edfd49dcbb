"""A transaction is committed or raises: there is no third way out of it."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from wharfinger.domain.errors import StoreUnavailableError
from wharfinger.store.database import rows_of

PROJECT = "acme-project"


async def test_a_transaction_whose_connection_was_lost_is_not_taken_for_committed(
    database, owner_connection
):
    with pytest.raises(StoreUnavailableError):
        async with database.tenant(PROJECT) as tx:
            await tx.execute("INSERT INTO project VALUES (%s, 'acme')", (PROJECT,))
            await tx.close()

    assert owner_connection.execute("SELECT count(*) FROM project").fetchone() == (0,)


async def test_a_transaction_whose_backend_was_terminated_is_not_taken_for_committed(
    database, owner_connection, administrator
):
    with pytest.raises(StoreUnavailableError):
        async with database.tenant(PROJECT) as tx:
            await tx.execute("INSERT INTO project VALUES (%s, 'acme')", (PROJECT,))
            administrator.execute("SELECT pg_terminate_backend(%s, 2000)", (tx.info.backend_pid,))

    assert owner_connection.execute("SELECT count(*) FROM project").fetchone() == (0,)


TENANT = sql.SQL("SELECT current_setting('wharfinger.tenant', true)")


async def test_a_question_sees_its_tenant_and_leaves_nothing_of_it_behind(database):
    (mine,) = await rows_of(database.asking("it's mine"), TENANT, {})
    async with database.system() as tx:
        after = await (await tx.execute(TENANT)).fetchone()

    assert mine == ("it's mine",)
    assert after in {(None,), ("",)}


async def test_what_is_quoted_into_a_question_is_not_taken_for_sql(database):
    odd = "'; SELECT 'x'; -- \\' %s %(x)s \" \u2028"

    rows = await rows_of(
        database.asking(PROJECT),
        "SELECT %(odd)s::text, %(many)s::text[]",
        {
            "odd": odd,
            "many": [odd, "b"],
        },
    )

    assert rows == [(odd, [odd, "b"])]


async def test_a_question_after_every_connection_was_lost_is_answered(database, administrator):
    await rows_of(database.asking(PROJECT), TENANT, {})
    administrator.execute(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = %s",
        (psycopg.conninfo.conninfo_to_dict(database._address)["dbname"],),
    )

    assert await rows_of(database.asking(PROJECT), TENANT, {}) == [(PROJECT,)]
