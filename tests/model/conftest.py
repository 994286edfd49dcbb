"""A database and a superuser for one shard of the model, and how long it is to run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import structlog
from driver import JOBS

from wharfinger.store import runs
from wharfinger.store.database import DatabaseAddress
from wharfinger.store.sealing import Sealer

# Small worlds have to reach the budget, too.
RETIRE_LEAST = 3


@dataclass(frozen=True)
class Shard:
    """What the machine of one shard works on."""

    address: DatabaseAddress
    owner: psycopg.Connection
    administrator: psycopg.Connection
    seals: Sealer


@pytest.fixture
def shard(
    database_address: DatabaseAddress,
    owner_connection: psycopg.Connection,
    administrator: psycopg.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shard]:
    """A shard of the model, over a database of its own."""
    monkeypatch.setattr(runs, "RETIRE_LEAST", RETIRE_LEAST)
    owner_connection.execute(JOBS)
    logs = structlog.get_config()
    # Ten lines a run that nobody reads cost more than some of the runs' own work.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    pool = logging.getLogger("psycopg.pool")
    before, pool.level = pool.level, logging.CRITICAL
    try:
        yield Shard(
            database_address,
            owner_connection,
            administrator,
            Sealer.from_file(tmp_path / "secret.key"),
        )
    finally:
        pool.level = before
        structlog.configure(**logs)
