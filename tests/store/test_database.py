"""A transaction is committed or raises: there is no third way out of it."""

from __future__ import annotations

import pytest

from wharfinger.domain.errors import StoreUnavailableError

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
