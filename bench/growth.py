"""``python -m bench.growth``: how a sync's cost grows from 10,000 to 1,000,000 images."""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.folders import own_folder
from bench.report import MEMORY_MB, Line, machine, table
from bench.stage import Size, Stage
from bench.wharf import Server, Wharf, WorkerProcess
from wharfinger.testing.rendered import Nginx, nginx_missing

RESULTS = Path(__file__).parent / "results" / "growth.json"
REGISTRY, WARM_UP = "measured", "warm-up"
WARM_UP_SIZE = Size(repositories=20, tags=3)
IMAGES = (10_000, 100_000, 1_000_000)
TAGS = 20
EXPONENT = 1.05
MEMORY_GROWTH = 0.15
# Tables smaller than this at the largest size say nothing about a row.
SMALLEST_TABLE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one sync took. ``cpu_s`` is the worker's, ``server_cpu_s`` PostgreSQL's."""

    seconds: float
    requests: int
    cpu_s: float
    server_cpu_s: float
    wal_bytes: int
    peak_mb: float

    @property
    def processor_s(self) -> float:
        return self.cpu_s + self.server_cpu_s


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table after the first sync."""

    rows: int
    table_bytes: int
    index_bytes: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One size: first sync, nothing changed, 1 % of the repositories changed."""

    images: int
    repositories: int
    first: Cost
    unchanged: Cost
    changed: Cost
    moved: int
    tables: dict[str, Table]
    rows_equal: bool


def main(given: list[str] | None = None) -> int:
    """Run it; 0 when every target is met, 1 when one is not, 2 without nginx."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--images", type=int, action="append", help="a size; may be repeated")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go")
    chosen = parser.parse_args(given)
    if missing := nginx_missing():
        print(missing, file=sys.stderr)
        return 2
    began = time.monotonic()
    where = machine()
    with own_folder() as folder, Server.running(folder / "data") as server:
        settings = server.settings()
        steps = [asyncio.run(_step(folder, server, n)) for n in chosen.images or IMAGES]
    where["took_s"] = round(time.monotonic() - began)
    found = lines(steps)
    told = {
        "machine": where,
        "postgresql": settings,
        "lines": [{**asdict(line), "met": line.met} for line in found],
        "steps": [asdict(step) for step in steps],
    }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")
    print(f"\n{table(found, value='value')}\n")
    missed = sum(line.met is False for line in found)
    print(f"{missed or 'no'} target missed; {where['took_s']} s in all; figures in {chosen.json}")
    return 1 if missed else 0


# --- measuring -----------------------------------------------------------------------------------


async def _step(folder: Path, server: Server, images: int) -> Step:
    size = Size(repositories=max(1, images // TAGS), tags=TAGS)
    world = folder / f"world-{images}"
    stage = Stage(world, size)
    warm_up = Stage(folder / f"warm-up-{images}", WARM_UP_SIZE)
    with stage.upstream(delay_s=0) as nginx, warm_up.upstream(delay_s=0) as quick:
        async with Wharf.over_a_fresh_database(server) as wharf:
            key = stage.world.access_key()
            await wharf.attach(WARM_UP, quick.url, key)
            await wharf.attach(REGISTRY, nginx.url, key)
            step = await _Lane(server, wharf, stage, nginx, quick).run()
    shutil.rmtree(world)
    # The largest world takes a gigabyte, which the next measurement need not carry along.
    del stage
    gc.unfreeze()
    gc.collect()
    print(f"{images:,} images: first {step.first}, unchanged {step.unchanged}", flush=True)
    return step


class _Lane:
    """One size, as it is measured."""

    def __init__(
        self, server: Server, wharf: Wharf, stage: Stage, nginx: Nginx, quick: Nginx
    ) -> None:
        self._server = server
        self._wharf = wharf
        self._stage = stage
        self._nginx = nginx
        self._quick = quick

    async def run(self) -> Step:
        first = await self._sync()
        rows_equal = self._wharf.stored(REGISTRY) == self._stage.world.images()
        tables = self._tables()
        unchanged = await self._sync()
        moved = self._stage.move_one_percent()
        changed = await self._sync()
        rows_equal &= self._wharf.stored(REGISTRY) == self._stage.world.images()
        size = self._stage.size
        return Step(
            images=size.repositories * size.tags,
            repositories=size.repositories,
            first=first,
            unchanged=unchanged,
            changed=changed,
            moved=moved,
            tables=tables,
            rows_equal=rows_equal,
        )

    async def _sync(self) -> Cost:
        """One sync by a warm worker of its own."""
        async with self._wharf.worker() as worker:
            await self._wharf.sync(WARM_UP, self._quick, worker)
            with self._server.superuser() as connection:
                connection.execute("CHECKPOINT")
            before = self._spent(worker)
            sync = await self._wharf.sync(REGISTRY, self._nginx, worker)
            after = self._spent(worker)
        cpu_s, server_cpu_s, wal = (b - a for a, b in zip(before, after, strict=True))
        return Cost(
            seconds=sync.seconds,
            requests=sync.requests,
            cpu_s=cpu_s,
            server_cpu_s=server_cpu_s,
            wal_bytes=int(wal),
            peak_mb=sync.peak_mb,
        )

    def _spent(self, worker: WorkerProcess) -> tuple[float, float, float]:
        with self._server.superuser() as connection:
            row = connection.execute(
                "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
            ).fetchone()
        wal = float(row[0]) if row else 0.0
        return worker.cpu_s(), self._server.cpu_s(), wal

    def _tables(self) -> dict[str, Table]:
        """Every table's rows and bytes."""
        with self._server.superuser(self._wharf.database) as connection:
            connection.execute("VACUUM ANALYZE")
            rows: list[Any] = connection.execute(
                "SELECT relname, greatest(reltuples, 0)::bigint, pg_table_size(oid),"
                " pg_indexes_size(oid) FROM pg_class"
                " WHERE relnamespace = 'wharfinger'::regnamespace AND relkind = 'r'"
            ).fetchall()
        return {n: Table(rows=r, table_bytes=t, index_bytes=i) for n, r, t, i in rows}


# --- verdicts ------------------------------------------------------------------------------------


def lines(steps: Sequence[Step]) -> list[Line]:
    """The whole table."""
    return [*_growth(steps), *_memory(steps), *_constants(steps[-1]), *_equal(steps)]


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of a straight line through points (x, y) on logarithmic axes (least squares)."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    above = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return above / sum((x - mean_x) ** 2 for x, _ in logs)


def _growth(steps: Sequence[Step]) -> list[Line]:
    measures: dict[str, Callable[[Cost], float]] = {
        "requests": lambda cost: cost.requests,
        "seconds": lambda cost: cost.seconds,
        "processor seconds, worker and PostgreSQL": lambda cost: cost.processor_s,
        "bytes of WAL": lambda cost: cost.wal_bytes,
    }
    told = []
    for case in ("first", "unchanged", "changed"):
        for what, measure in measures.items():
            found = [(step.images, measure(getattr(step, case))) for step in steps]
            slope = exponent(found)
            # Without a change almost nothing is done and written; what there is, is not growth.
            judged = case != "unchanged" or what == "requests"
            told.append(
                Line(
                    case=f"{TITLES[case]}, {steps[0].images:,} to {steps[-1].images:,} images",
                    what=f"exponent of {what}",
                    value=f"{slope:.3f} ({', '.join(f'{y:,.4g}' for _, y in found)})",
                    target=f"at most {EXPONENT}" if judged else "",
                    met=slope <= EXPONENT if judged else None,
                )
            )
    return told


TITLES = {"first": "first sync", "unchanged": "nothing changed", "changed": "1 % changed"}


def _memory(steps: Sequence[Step]) -> list[Line]:
    peaks = [max(s.first.peak_mb, s.unchanged.peak_mb, s.changed.peak_mb) for s in steps]
    growth = peaks[-1] / peaks[0] - 1
    told = ", ".join(f"{peak:.0f}" for peak in peaks)
    return [
        Line(
            case="memory of the worker",
            what="most at any size",
            value=f"{max(peaks):.0f} MB ({told})",
            target=f"under {MEMORY_MB:.0f} MB",
            met=max(peaks) < MEMORY_MB,
        ),
        Line(
            case="memory of the worker",
            what="growth from the smallest to the largest",
            value=f"{growth:.1%}",
            target=f"under {MEMORY_GROWTH:.0%}",
            met=growth < MEMORY_GROWTH,
        ),
    ]


def _constants(step: Step) -> list[Line]:
    case = f"{step.images:,} images"
    told = [
        Line(
            case=case,
            what=f"bytes per row of {name} (indexes)",
            value=f"{one.table_bytes / one.rows:.0f} ({one.index_bytes / one.rows:.0f})",
        )
        for name, one in sorted(step.tables.items())
        if one.rows and one.table_bytes > SMALLEST_TABLE
    ]
    first, changed = step.first, step.changed
    return [
        *told,
        Line(
            case=case,
            what="WAL per image, first sync",
            value=f"{first.wal_bytes / step.images:.0f} bytes",
        ),
        Line(
            case=case,
            what="WAL per changed image",
            value=f"{changed.wal_bytes / step.moved:.0f} bytes",
        ),
        Line(
            case=case,
            what="processor per image, worker and PostgreSQL",
            value=f"{first.cpu_s / step.images * 1e6:.1f} and"
            f" {first.server_cpu_s / step.images * 1e6:.1f} us",
        ),
    ]


def _equal(steps: Sequence[Step]) -> list[Line]:
    equal = all(step.rows_equal for step in steps)
    return [
        Line(
            case="every size",
            what="rows equal the upstream's (first and changed)",
            value="yes" if equal else "no",
            target="yes",
            met=equal,
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
