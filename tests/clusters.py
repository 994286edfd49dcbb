"""What tests know of PostgreSQL servers of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from leaks import LEAKS
from wharfinger.store.cluster import OWNER, Layout, is_free
from wharfinger.store.database import DatabaseAddress
from wharfinger.store.embedded import Lease

# A crash of the machine loses the test cluster, which is thrown away anyway.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "autovacuum": "off",
    "logging_collector": "off",
    # The passwords are as long as a key. Nobody guesses them, however fast a guess is checked.
    "scram_iterations": "1",
}


def await_end(data_dir: Path) -> None:
    """Wait until the keeper of a data directory has gone."""
    keeper_lock = data_dir / "postgresql" / "keeper.lock"
    deadline = time.monotonic() + 30
    while keeper_lock.exists() and not is_free(keeper_lock):
        assert time.monotonic() < deadline, "the keeper does not stop"
        time.sleep(0.05)


def send_away(data_dir: Path) -> None:
    """Have the keeper of a data directory go now: by itself it waits a while for new users."""
    layout = Layout(data_dir / "postgresql")
    state = layout.read_state()
    if state and layout.keeper_lock.exists() and not is_free(layout.keeper_lock):
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.keeper_pid, signal.SIGTERM)
    await_end(data_dir)


@contextlib.contextmanager
def fresh_database(administrator: psycopg.Connection, *, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    # Without fsync the checkpoint that file_copy needs is cheap: 23 ms, through the log 38 ms.
    administrator.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
            sql.Identifier(name), sql.Identifier(template), sql.Identifier(OWNER)
        )
    )
    try:
        yield name
        # Some tests take their database away.
        with contextlib.suppress(psycopg.OperationalError):
            LEAKS.look_at_tables(make_conninfo(administrator.info.dsn, dbname=name))
    finally:
        administrator.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


def address_of(cluster: Lease, database: str) -> DatabaseAddress:
    address = cluster.address
    return DatabaseAddress(
        owner=make_conninfo(address.owner, dbname=database),
        app=make_conninfo(address.app, dbname=database),
    )
