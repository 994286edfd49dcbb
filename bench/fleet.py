"""``python -m bench.fleet``: several workers on one database, one killed, and a shared limit."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from bench.folders import own_folder
from bench.report import Line, machine, size_of, table
from bench.stage import Size, Stage
from bench.wharf import Server, Wharf, WorkerProcess
from wharfinger.testing.model import made_up_world
from wharfinger.testing.rendered import Nginx, nginx_missing
from wharfinger.testing.upstream import Upstream

RESULTS = Path(__file__).parent / "results" / "fleet.json"
REGISTRY, WARM_UP = "measured", "warm-up"
WARM_UP_SIZE = Size(repositories=20, tags=3)
FLEETS = (1, 2, 4)
CONCURRENCY, DELAY_S = 4, 0.03
SPEED_UPS = {2: 1.8, 4: 3.4}
# A source of so many requests a second answers 429 to the rest; it is learned within LEARNED_S.
RATE, LEARNED_S = 20, 3.0
MOST_TIME, MOST_REFUSED = 1.2, 0.02
LOOK_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Crew:
    """One sync by so many workers."""

    workers: int
    seconds: float
    requests: int
    cpu_s: float
    rows_equal: bool
    killed: bool = False


@dataclass(frozen=True, kw_only=True)
class Limited:
    """One sync of a source that takes so many requests a second, by so many workers."""

    workers: int
    seconds: float
    ideal_s: float
    requests: int
    refused: int
    refused_late: int


def main(given: list[str] | None = None) -> int:
    """Run it; 0 when every target is met, 1 when one is not, 2 without nginx."""
    chosen = arguments(given)
    if missing := nginx_missing():
        print(missing, file=sys.stderr)
        return 2
    began = time.monotonic()
    where = machine()
    with own_folder() as folder, Server.running(folder / "data") as server:
        settings = server.settings()
        fleet = Fleet(folder, server, size_of(chosen.world))
        crews = asyncio.run(fleet.speed_up(chosen.runs))
        limited = asyncio.run(shared_limit(server, chosen.limited)) if chosen.limited else []
    where["took_s"] = round(time.monotonic() - began)
    found = [*speed_lines(size_of(chosen.world), crews), *limit_lines(limited)]
    told = {
        "machine": where,
        "postgresql": settings,
        "world": chosen.world,
        "delay_s": DELAY_S,
        "concurrency": CONCURRENCY,
        "lines": [{**asdict(line), "met": line.met} for line in found],
        "crews": [asdict(crew) for crew in crews],
        "limited": [asdict(one) for one in limited],
    }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")
    print(f"\n{table(found, value='value')}\n")
    missed = sum(line.met is False for line in found)
    print(f"{missed or 'no'} target missed; {where['took_s']} s in all; figures in {chosen.json}")
    return 1 if missed else 0


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--world", default="8000x10", metavar="REPOSITORIESxTAGS")
    parser.add_argument("--runs", type=int, default=1, help="rounds of 1, 2 and 4 workers (1)")
    parser.add_argument(
        "--limited",
        type=int,
        default=600,
        help="requests to the source with a limit (600); 0: leave it out",
    )
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go")
    return parser.parse_args(given)


class Fleet:
    """Workers with four requests at once each, and a ceiling that lets them all have their four."""

    def __init__(self, folder: Path, server: Server, size: Size) -> None:
        self._folder = folder
        self._server = server
        self._size = size

    async def speed_up(self, runs: int) -> list[Crew]:
        """So many rounds of each number of workers, and one of the most with a kill."""
        stage = Stage(self._folder / "world", self._size)
        warm_up = Stage(self._folder / "warm-up", WARM_UP_SIZE)
        crews = []
        with stage.upstream(delay_s=DELAY_S) as nginx, warm_up.upstream(delay_s=0) as quick:
            for _ in range(runs):
                for workers in FLEETS:
                    crews.append(await self._crew(stage, nginx, quick, workers))
                    _say(crews[-1])
            after_s = random.uniform(0.2, 0.8) * crews[-1].seconds
            crews.append(await self._crew(stage, nginx, quick, FLEETS[-1], kill_after_s=after_s))
            _say(crews[-1])
        return crews

    async def _crew(
        self,
        stage: Stage,
        nginx: Nginx,
        quick: Nginx,
        workers: int,
        *,
        kill_after_s: float | None = None,
    ) -> Crew:
        key = stage.world.access_key()
        ceiling = str(CONCURRENCY * workers)
        async with (
            Wharf.over_a_fresh_database(self._server) as wharf,
            contextlib.AsyncExitStack() as stack,
        ):
            await wharf.attach(WARM_UP, quick.url, key)
            await wharf.attach(REGISTRY, nginx.url, key)
            crew = [
                await stack.enter_async_context(wharf.worker(WHARFINGER_HOST_CONCURRENCY=ceiling))
                for _ in range(workers)
            ]
            await wharf.sync(WARM_UP, quick, crew[0])
            victim = crew.pop() if kill_after_s is not None else None
            before_s = sum(one.cpu_s() for one in crew)
            sync, _ = await asyncio.gather(
                wharf.sync(REGISTRY, nginx, crew[0]), _kill(victim, kill_after_s)
            )
            return Crew(
                workers=workers,
                seconds=sync.seconds,
                requests=sync.requests,
                cpu_s=sum(one.cpu_s() for one in crew) - before_s,
                rows_equal=wharf.stored(REGISTRY) == stage.world.images(),
                killed=victim is not None,
            )


async def _kill(victim: WorkerProcess | None, after_s: float | None) -> None:
    if victim is not None and after_s is not None:
        await asyncio.sleep(after_s)
        victim.kill()


async def shared_limit(server: Server, requests: int) -> list[Limited]:
    """A source of twenty requests a second, read by each number of workers."""
    found = []
    for workers in FLEETS:
        found.append(await _limited(server, workers, requests))
        _say(found[-1])
    return found


async def _limited(server: Server, workers: int, requests: int) -> Limited:
    # One request lists the repositories, and each has its tags listed by another.
    world = made_up_world(requests - 1, 1)
    async with (
        Upstream(world) as upstream,
        Wharf.over_a_fresh_database(server) as wharf,
        contextlib.AsyncExitStack() as stack,
    ):
        await wharf.attach(REGISTRY, upstream.url, upstream.key)
        crew = [await stack.enter_async_context(wharf.worker()) for _ in range(workers)]
        upstream.faults.limit_rate("/", RATE)
        watch = asyncio.create_task(_refused_until_learned(upstream))
        sync = await wharf.timed(REGISTRY, crew[0])
        watch.cancel()
        (early,) = await asyncio.gather(watch, return_exceptions=True)
        refused = _refused(upstream)
        return Limited(
            workers=workers,
            seconds=sync.seconds,
            ideal_s=(requests - RATE) / RATE,
            requests=requests,
            refused=refused,
            refused_late=refused - early if isinstance(early, int) else 0,
        )


async def _refused_until_learned(upstream: Upstream) -> int:
    """How many were refused until the limit could be known: a while after the first refusal."""
    while not _refused(upstream):  # noqa: ASYNC110 - the log is written in another task
        await asyncio.sleep(LOOK_S)
    await asyncio.sleep(LEARNED_S)
    return _refused(upstream)


def _refused(upstream: Upstream) -> int:
    return sum(line.status == 429 for line in upstream.log)


# --- verdicts ------------------------------------------------------------------------------------


def speed_lines(size: Size, crews: Sequence[Crew]) -> list[Line]:
    """How much faster more workers are, and whether a kill changed anything."""
    case = f"{size} {DELAY_S * 1000:.0f} ms, {CONCURRENCY} at once per worker"
    told = [
        Line(
            case=case,
            what=f"{crew.workers} workers{', one of them killed' if crew.killed else ''}",
            value=f"{crew.seconds:.2f} s, {crew.requests} requests,"
            f" {crew.cpu_s:.1f} s of processor in the workers",
        )
        for crew in crews
    ]
    for workers, target in SPEED_UPS.items():
        ratio = _median_s(crews, 1) / _median_s(crews, workers)
        told.append(
            Line(
                case=case,
                what=f"1 worker / {workers} workers",
                value=f"{ratio:.2f}",
                target=f"at least {target:g}",
                met=ratio >= target,
            )
        )
    for killed in (False, True):
        equal = all(crew.rows_equal for crew in crews if crew.killed is killed)
        what = "with one of four killed at random" if killed else "without a kill"
        told.append(
            Line(
                case=case,
                what=f"stored rows equal the upstream's, {what}",
                value="yes" if equal else "no",
                target="yes",
                met=equal,
            )
        )
    return told


def _median_s(crews: Sequence[Crew], workers: int) -> float:
    return statistics.median(c.seconds for c in crews if c.workers == workers and not c.killed)


def limit_lines(limited: Sequence[Limited]) -> list[Line]:
    """How near the limit of a source several workers come, and how often they hit it."""
    told = []
    for one in limited:
        case = f"{one.requests} requests to a source of {RATE}/s, {one.workers} workers"
        ratio, late = one.seconds / one.ideal_s, one.refused_late / one.requests
        told += [
            Line(
                case=case,
                what="time / ideal time",
                value=f"{ratio:.3f} ({one.seconds:.1f} s)",
                target=f"at most {MOST_TIME:g}",
                met=ratio <= MOST_TIME,
            ),
            Line(
                case=case,
                what=f"refused later than {LEARNED_S:g} s after the first refusal",
                value=f"{late:.2%} ({one.refused} refused in all)",
                target=f"under {MOST_REFUSED:.0%}",
                met=late < MOST_REFUSED,
            ),
        ]
    return told


def _say(one: Crew | Limited) -> None:
    print(one, flush=True)


if __name__ == "__main__":
    sys.exit(main())
