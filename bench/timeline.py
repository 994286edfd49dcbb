"""``python -m bench.timeline``: the course of one first sync, looked at while it goes.

A sampler beside the sync asks PostgreSQL for the run's own row and for what is listed, and counts
the lines of nginx's log. ``bench.plots`` draws what it writes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from bench.folders import own_folder
from bench.report import machine
from bench.stage import Size, Stage
from bench.wharf import Server, Wharf
from wharfinger.store.database import connection_options
from wharfinger.testing.rendered import Nginx, nginx_missing

RESULTS = Path(__file__).parent / "results" / "timeline.json"
REGISTRY, WARM_UP = "measured", "warm-up"
WARM_UP_SIZE = Size(repositories=20, tags=3)
EVERY_S = 0.05
_LOOK = """
SELECT extract(epoch FROM r.started_at)::float8, r.state, r.listing, r.repositories_total,
    r.repositories_done,
    (SELECT coalesce(sum(c.images), 0)::bigint FROM live_count c WHERE c.registry_id = g.id),
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
    extract(epoch FROM clock_timestamp())::float8
FROM registry g JOIN run r ON r.registry_id = g.id WHERE g.name = %s
ORDER BY r.queued_at DESC LIMIT 1
"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was seen ``s`` seconds after the call; counts are since the call."""

    s: float
    requests: int
    repositories: int
    images: int
    wal_bytes: int


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the sync; parts may overlap: reading begins before all is listed."""

    name: str
    from_s: float
    to_s: float


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One look at the run, as the database has it."""

    sample: Sample
    started_s: float | None
    state: str
    is_listed: bool
    total: int


def main(given: list[str] | None = None) -> int:
    """Measure it; 2 without nginx."""
    parser = argparse.ArgumentParser(prog="python -m bench.timeline", description=__doc__)
    parser.add_argument("--world", default="5000x20", help="repositories x tags")
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go")
    chosen = parser.parse_args(given)
    if missing := nginx_missing():
        print(missing, file=sys.stderr)
        return 2
    repositories, tags = (int(part) for part in chosen.world.split("x"))
    size = Size(repositories=repositories, tags=tags)
    where = machine()
    with own_folder() as folder, Server.running(folder / "data") as server:
        settings = server.settings()
        measured = asyncio.run(_measured(folder, server, size, chosen.delay_ms / 1000))
    told = {"machine": where, "postgresql": settings, "delay_ms": chosen.delay_ms, **measured}
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")
    print(f"{size}: {measured['seconds']:.2f} s, {len(measured['samples'])} looks; {chosen.json}")
    return 0


async def _measured(folder: Path, server: Server, size: Size, delay_s: float) -> dict[str, Any]:
    stage, warm_up = Stage(folder / "world", size), Stage(folder / "warm-up", WARM_UP_SIZE)
    with stage.upstream(delay_s=delay_s) as nginx, warm_up.upstream(delay_s=0) as quick:
        async with Wharf.over_a_fresh_database(server) as wharf:
            key = stage.world.access_key()
            await wharf.attach(WARM_UP, quick.url, key)
            await wharf.attach(REGISTRY, nginx.url, key)
            async with wharf.worker() as worker:
                await wharf.sync(WARM_UP, quick, worker)
                nginx.forget_requests()
                async with _watched(server.address(wharf.database).owner, nginx) as sights:
                    sync = await wharf.timed(REGISTRY, worker)
    return {
        "repositories": size.repositories,
        "tags": size.tags,
        "seconds": sync.seconds,
        "phases": [asdict(phase) for phase in phases(sights)],
        "samples": [asdict(sight.sample) for sight in sights],
    }


@asynccontextmanager
async def _watched(dsn: str, nginx: Nginx) -> AsyncIterator[list[Sight]]:
    """Look at the sync again and again until the context ends, and once more then."""
    watch = _Watch(dsn, nginx)
    looking = asyncio.create_task(watch.look_on())
    try:
        yield watch.sights
    finally:
        looking.cancel()
        watch.look()
        watch.close()


class _Watch:
    def __init__(self, dsn: str, nginx: Nginx) -> None:
        self.sights: list[Sight] = []
        self._began, self._began_at = time.perf_counter(), time.time()
        self._nginx = nginx
        self._wal: int | None = None
        self._connection = psycopg.connect(dsn, autocommit=True, options=connection_options(dsn))

    async def look_on(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        row = self._connection.execute(_LOOK, (REGISTRY,)).fetchone()
        if row is None:
            return
        started, state, listing, total, done, images, wal, now = row
        self._wal = wal if self._wal is None else self._wal
        sample = Sample(
            s=round(time.perf_counter() - self._began, 3),
            requests=len(self._nginx.requests()),
            repositories=done,
            images=images,
            wal_bytes=wal - self._wal,
        )
        self.sights.append(
            Sight(
                sample=sample,
                # By the database's clock, on which this machine's own is not relied.
                started_s=None if started is None else sample.s - (now - started),
                state=state,
                is_listed=listing != "open",
                total=total,
            )
        )

    def close(self) -> None:
        self._connection.close()


def phases(sights: Sequence[Sight]) -> list[Phase]:
    """The parts of a sync, by when each was first seen to have ended."""
    end = sights[-1].sample.s
    started = next((s.started_s for s in sights if s.started_s is not None), end)
    listed = _first(sights, lambda s: s.is_listed, end)
    read_from = _first(sights, lambda s: s.sample.images > 0, end)
    read = _first(sights, lambda s: s.is_listed and s.sample.repositories >= s.total, end)
    found = [
        Phase(name="waits", from_s=0.0, to_s=started),
        Phase(name="lists repositories", from_s=started, to_s=listed),
        Phase(name="reads and writes", from_s=min(read_from, read), to_s=read),
        Phase(name="settles", from_s=read, to_s=end),
    ]
    return [Phase(name=p.name, from_s=round(p.from_s, 3), to_s=round(p.to_s, 3)) for p in found]


def _first(sights: Sequence[Sight], holds: Any, otherwise: float) -> float:
    return next((s.sample.s for s in sights if holds(s)), otherwise)


if __name__ == "__main__":
    sys.exit(main())
