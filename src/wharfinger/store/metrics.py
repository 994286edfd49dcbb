"""What monitoring asks of the database: counts that all processes share, and how things stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

import msgspec
from psycopg.types.json import Jsonb

from wharfinger.domain.metrics import MOST_HOSTS
from wharfinger.domain.tally import Key
from wharfinger.store.database import Connection, Database
from wharfinger.store.named_sql import queries

_SQL = queries("metrics")

# A name of ``domain.metrics``, the values of its labels, and its value.
Sample = tuple[str, tuple[str, ...], float]


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """The connections of this process: now, and since it began."""

    used: int
    idle: int
    waiting: int
    requests: int
    failures: int
    wait_s: float


class Metrics:
    """Adds to the counts of the installation, and tells how it stands.

    Raises:
        StoreUnavailableError: from every method but ``pool``, when the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, counts: Mapping[Key, float]) -> None:
        """Add what a process has counted."""
        added = [{"name": n, "labels": list(ls), "value": v} for (n, ls), v in counts.items()]
        async with self._database.system() as tx:
            await tx.execute(_SQL["add"], {"added": Jsonb(added), "most_hosts": MOST_HOSTS})

    async def observe(self) -> list[Sample]:
        """How the installation stands, and what was counted in it."""
        found: list[Sample] = []
        async with self._database.system() as tx:
            for name, labels, value in await _rows(tx, _SQL["totals"]):
                found.append((name, tuple(labels), value))
            for row in await _rows(tx, _SQL["registries"]):
                found += _of_registries(*row)
            for state, runs, oldest_s in await _rows(tx, _SQL["runs"]):
                found.append(("runs_open", (state,), runs))
                found.append(("run_oldest_seconds", (state,), oldest_s or 0.0))
            for host, *facts in await _rows(tx, _SQL["budgets"]):
                names = ("concurrency", "concurrency_ceiling", "rate", "paused_seconds")
                found += [
                    (f"host_{name}", (host,), value)
                    for name, value in zip(names, facts, strict=True)
                    if value is not None
                ]
            found += await _of_queue(tx)
            for projects, events in await _rows(tx, _SQL["projects"]):
                found += [("projects", (), projects), ("events", (), events)]
        return found

    def pool(self) -> Pool:
        """The connections of this process."""
        stats = self._database.pool.get_stats()
        size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
        return Pool(
            used=size - idle,
            idle=idle,
            waiting=stats.get("requests_waiting", 0),
            requests=stats.get("requests_num", 0),
            failures=stats.get("requests_errors", 0),
            wait_s=stats.get("requests_wait_ms", 0) / 1000,
        )


def _of_registries(
    kind: str,
    verdict: str,
    registries: int,
    images: int,
    held: int,
    lies: int,
    confirmed_age_s: float | None,
    read_age_s: float | None,
) -> list[Sample]:
    found: list[Sample] = [
        ("registries", (kind, verdict), registries),
        ("images", (kind,), images),
        ("images_held", (kind,), held),
        ("fingerprint_lies", (kind,), lies),
    ]
    if confirmed_age_s is not None:
        found.append(("registry_confirmed_age_seconds", (kind,), confirmed_age_s))
    if read_age_s is not None:
        found.append(("registry_read_age_seconds", (kind,), read_age_s))
    return found


async def _of_queue(tx: Connection) -> list[Sample]:
    found: list[Sample] = []
    for queue, status, jobs in await _rows(tx, _SQL["jobs"]):
        found.append(("jobs", (queue, status), jobs))
    for queue, waited_s in await _rows(tx, _SQL["oldest_jobs"]):
        found.append(("job_oldest_seconds", (queue,), max(0.0, waited_s or 0.0)))
    for (workers,) in await _rows(tx, _SQL["workers"]):
        found.append(("workers", (), workers))
    return found


async def _rows(tx: Connection, query: LiteralString) -> list[Any]:
    cursor = await tx.execute(query)
    return await cursor.fetchall()
