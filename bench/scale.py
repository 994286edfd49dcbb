"""``python -m bench.scale``: a model of syncs, calibrated on measured runs, asked about a billion.

A discrete-event simulation. Registries are listed page by page, each page makes units, a worker
takes a unit from the one queue when it has room, reads it from the registry's host, decodes it on
its processor, and publishes it in the database. Host and worker each share what they can do
equally among those who want it; the database serves one unit a core, in turn. What a unit costs
there is measured (``bench.growth``); runs that were not used to calibrate (``bench.growth``,
``bench.fleet``) say how wrong it is.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.report import Line, table

MEASURED = Path(__file__).parent / "measured.json"
RESULTS = Path(__file__).parent / "results"
PAGE, UNIT_REPOSITORIES, UNIT_IMAGES = 1000, 100, 4000
UNITS_AT_ONCE = 6
GIGABYTE = 1e9
DAY_S = 86_400.0


# --- the model -----------------------------------------------------------------------------------


class Shared:
    """Something that does so much a second, shared equally; nobody gets more than ``each``.

    Work is counted in virtual time, which passes as fast as one sharer is served; so an event
    costs no more than a step in a heap, however many share.
    """

    def __init__(self, capacity: float, each: float = math.inf) -> None:
        self._capacity = capacity
        self._each = each
        self._virtual = 0.0
        self._at = 0.0
        self._ends: list[tuple[float, int, object]] = []
        self.version = 0
        self.done = 0.0

    def _speed(self) -> float:
        return min(self._each, self._capacity / len(self._ends)) if self._ends else 0.0

    def _pass(self, now: float) -> None:
        speed = self._speed()
        self._virtual += (now - self._at) * speed
        self.done += (now - self._at) * speed * len(self._ends)
        self._at = now
        self.version += 1

    def add(self, now: float, work: float, number: int, who: object) -> None:
        self._pass(now)
        heapq.heappush(self._ends, (self._virtual + work, number, who))

    def next_end(self) -> float:
        if not self._ends:
            return math.inf
        return self._at + max(0.0, self._ends[0][0] - self._virtual) / self._speed()

    def take(self, now: float) -> object:
        self._pass(now)
        end, _, who = heapq.heappop(self._ends)
        self._virtual = max(self._virtual, end)
        return who

    def used(self, seconds: float) -> float:
        """The part of what it could have done that was asked for."""
        return self.done / (self._capacity * seconds) if seconds else 0.0


class Served:
    """Something that serves so many at once, each at full speed; the others stand in line.

    So it is with batches that take turns in numbering their events: who is served first goes on
    first, and the next stage of one overlaps with this stage of another.
    """

    def __init__(self, places: float) -> None:
        self._places = places
        self._line: deque[tuple[float, int, object]] = deque()
        self._ends: list[tuple[float, int, object]] = []
        self.version = 0
        self.done = 0.0

    def add(self, now: float, work: float, number: int, who: object) -> None:
        self.version += 1
        self.done += work
        self._line.append((work, number, who))
        self._serve(now)

    def next_end(self) -> float:
        return self._ends[0][0] if self._ends else math.inf

    def take(self, now: float) -> object:
        self.version += 1
        _, _, who = heapq.heappop(self._ends)
        self._serve(now)
        return who

    def used(self, seconds: float) -> float:
        """The part of what it could have done that was asked for."""
        return self.done / (self._places * seconds) if seconds else 0.0

    def _serve(self, now: float) -> None:
        while self._line and len(self._ends) < self._places:
            work, number, who = self._line.popleft()
            heapq.heappush(self._ends, (now + work, number, who))


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What things cost, in processor seconds; measured."""

    worker_per_image: float
    server_per_image: float
    worker_per_request: float = 0.0
    fixed_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Registry:
    """One registry and its host: repositories to be read, tags of each, and how it answers."""

    repositories: int
    tags: int
    delay_s: float
    concurrency: int
    rate: float = math.inf

    @property
    def requests_per_s(self) -> float:
        served = self.concurrency / self.delay_s if self.delay_s else math.inf
        return min(self.rate, served)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Workers with a processor each, and a database with some."""

    workers: int
    server_cores: float


@dataclass(kw_only=True)
class Unit:
    """So many repositories of one registry."""

    number: int
    registry: int
    repositories: int
    images: int
    worker: int = 0
    left: deque[tuple[Shared | Served, float]] = field(default_factory=deque)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How long it took, and how busy what was."""

    seconds: float
    units: int
    requests: int
    workers_used: float
    server_used: float
    hosts_used: float


class Simulation:
    """A first sync of everything, by a fleet.

    Units are read in the order in which they came, as those of one project are; with ``turns``
    those of the registries take turns.
    """

    def __init__(
        self, registries: Sequence[Registry], fleet: Fleet, costs: Costs, *, turns: bool = False
    ) -> None:
        self._registries = registries
        self._fleet = fleet
        self._costs = costs
        self._hosts = [Shared(min(r.requests_per_s, 1e9)) for r in registries]
        self._workers = [Shared(1.0, 1.0) for _ in range(fleet.workers)]
        self._server = Served(fleet.server_cores)
        self._room = [UNITS_AT_ONCE] * fleet.workers
        self._waiting: deque[deque[Unit]] = deque()
        self._turns = turns
        self._lines: list[deque[Unit]] = [deque() for _ in registries] if turns else [deque()]
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Any, int]] = []
        self._requests = 0
        self._units = 0

    def run(self) -> Outcome:
        """Simulate until everything is read."""
        now = 0.0
        for index, registry in enumerate(self._registries):
            for at, units in self._pages(index, registry):
                self._schedule(at, units)
        while self._events:
            at, _, what, version = heapq.heappop(self._events)
            if isinstance(what, list):
                now = at
                self._wait(what)
            elif what.version == version:
                now = at
                self._advance(now, what.take(now))
                self._watch(what)
            self._start(now)
        seconds = now + self._costs.fixed_s
        return Outcome(
            seconds=seconds,
            units=self._units,
            requests=self._requests,
            workers_used=_mean(w.used(seconds) for w in self._workers),
            server_used=self._server.used(seconds),
            hosts_used=_mean(h.used(seconds) for h in self._hosts),
        )

    def _pages(self, index: int, registry: Registry) -> Iterator[tuple[float, list[Unit]]]:
        """The pages of a registry's list, one after the other, and the units they make."""
        per_unit = max(1, min(UNIT_REPOSITORIES, UNIT_IMAGES // max(1, registry.tags)))
        page_s = max(registry.delay_s, 1 / min(registry.rate, 1e9))
        for number, first in enumerate(range(0, registry.repositories, PAGE), start=1):
            size = min(PAGE, registry.repositories - first)
            counts = [min(per_unit, size - done) for done in range(0, size, per_unit)]
            self._requests += 1
            yield number * page_s, [self._unit(index, registry, count) for count in counts]

    def _unit(self, index: int, registry: Registry, repositories: int) -> Unit:
        self._units += 1
        self._requests += repositories
        return Unit(
            number=next(self._numbers),
            registry=index,
            repositories=repositories,
            images=repositories * registry.tags,
        )

    def _schedule(self, at: float, what: Any, version: int = 0) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), what, version))

    def _watch(self, shared: Shared | Served) -> None:
        end = shared.next_end()
        if end < math.inf:
            self._schedule(end, shared, shared.version)

    def _start(self, now: float) -> None:
        """Give waiting units to the workers with the most room."""
        while self._waiting and (room := max(self._room)):
            unit = self._next()
            unit.worker = self._room.index(room)
            self._room[unit.worker] -= 1
            costs = self._costs
            unit.left = deque([(self._hosts[unit.registry], float(unit.repositories))])
            decode = unit.images * costs.worker_per_image
            decode += unit.repositories * costs.worker_per_request
            publish = unit.images * costs.server_per_image
            unit.left.append((self._workers[unit.worker], decode))
            unit.left.append((self._server, publish))
            self._next_stage(now, unit)

    def _wait(self, units: list[Unit]) -> None:
        line = self._lines[units[0].registry if self._turns else 0]
        if not line:
            self._waiting.append(line)
        line.extend(units)

    def _next(self) -> Unit:
        line = self._waiting.popleft()
        unit = line.popleft()
        if line:
            self._waiting.append(line)
        return unit

    def _advance(self, now: float, unit: Any) -> None:
        if unit.left:
            self._next_stage(now, unit)
        else:
            self._room[unit.worker] += 1

    def _next_stage(self, now: float, unit: Unit) -> None:
        shared, work = unit.left.popleft()
        shared.add(now, work, unit.number, unit)
        self._watch(shared)


def _mean(values: Iterator[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def simulate(
    registries: Sequence[Registry], fleet: Fleet, costs: Costs, *, turns: bool = False
) -> Outcome:
    """A first sync of these registries by this fleet."""
    return Simulation(registries, fleet, costs, turns=turns).run()


# --- what was measured ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures that the model stands on, as ``bench.growth`` and ``bench.fleet`` wrote them."""

    growth: dict[str, Any]
    fleet: dict[str, Any]

    @classmethod
    def from_file(cls, path: Path) -> Measured:
        told = json.loads(path.read_text("utf-8"))
        return cls(growth=told["growth"], fleet=told["fleet"])

    @property
    def steps(self) -> list[dict[str, Any]]:
        return list(self.growth["steps"])

    @property
    def largest(self) -> dict[str, Any]:
        return max(self.steps, key=lambda step: step["images"])

    def costs(self) -> Costs:
        """Calibrated on one run: the growth bench's of 100,000 images, or its middle one."""
        middle = sorted(self.steps, key=lambda step: step["images"])[len(self.steps) // 2]
        first = middle["first"]
        return Costs(
            worker_per_image=first["cpu_s"] / middle["images"],
            server_per_image=first["server_cpu_s"] / middle["images"],
        )

    def bytes_per_row(self, name: str) -> float:
        """What a row of a table takes with its share of the indexes."""
        one = self.largest["tables"][name]
        return float((one["table_bytes"] + one["index_bytes"]) / one["rows"])

    def wal_per_image(self) -> float:
        return float(self.largest["first"]["wal_bytes"] / self.largest["images"])

    def wal_per_change(self) -> float:
        return float(self.largest["changed"]["wal_bytes"] / self.largest["moved"])

    def per_repository_unchanged_s(self) -> tuple[float, float]:
        """Processor seconds of worker and database for a row of a list that did not change."""
        unchanged, rows = self.largest["unchanged"], self.largest["repositories"]
        return unchanged["cpu_s"] / rows, unchanged["server_cpu_s"] / rows


def validate(measured: Measured) -> list[Line]:
    """The model beside runs that it was not calibrated on."""
    costs = measured.costs()
    told = []
    for step in measured.steps:
        # The bench's machine has two processors: one for the worker, one for the database.
        registry = Registry(repositories=step["repositories"], tags=20, delay_s=0, concurrency=16)
        foretold = simulate([registry], Fleet(workers=1, server_cores=1), costs)
        case = f"{step['images']:,} images, no delay, 1 worker"
        told.append(_beside(case, step["first"]["seconds"], foretold.seconds))
    repositories, tags = map(int, measured.fleet["world"].split("x"))
    for workers in sorted({c["workers"] for c in measured.fleet["crews"]}):
        crews = [c for c in measured.fleet["crews"] if c["workers"] == workers]
        seconds = min(c["seconds"] for c in crews if not c["killed"])
        registry = Registry(
            repositories=repositories,
            tags=tags,
            delay_s=measured.fleet["delay_s"],
            concurrency=measured.fleet["concurrency"] * workers,
        )
        foretold = simulate([registry], Fleet(workers=workers, server_cores=1), costs)
        case = f"{repositories * tags:,} images, 30 ms, {workers} workers of 4 at once"
        told.append(_beside(case, seconds, foretold.seconds))
    return told


def _beside(case: str, measured_s: float, foretold_s: float) -> Line:
    error = foretold_s / measured_s - 1
    return Line(
        case=case,
        what="measured, foretold, error",
        value=f"{measured_s:.2f} s, {foretold_s:.2f} s, {error:+.0%}",
    )


# --- ten million, a hundred, a thousand ----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Question:
    """An estate: so many images in so many registries, and who is to keep the list of them."""

    images: int
    registries: int
    workers: int
    server_cores: int
    tags: int = 20
    delay_s: float = 0.03
    concurrency: int = 16
    # Images pushed, moved or deleted in a day.
    changed_a_day: float = 0.01
    history_days: int = 400


QUESTIONS = (
    Question(images=10**7, registries=100, workers=4, server_cores=4),
    Question(images=10**8, registries=1_000, workers=16, server_cores=8),
    Question(images=10**9, registries=10_000, workers=64, server_cores=32),
)


def answer(question: Question, measured: Measured) -> list[Line]:
    """What an estate of that size takes."""
    case = f"{question.images:,} images in {question.registries:,} registries"
    fleet = f"{question.workers} workers, {question.server_cores} cores for PostgreSQL"
    outcome = first_sync(question, measured.costs())
    fair = first_sync(question, measured.costs(), turns=True)
    changes = question.images * question.changed_a_day
    current = question.images * (measured.bytes_per_row("image"))
    current += question.images / question.tags * measured.bytes_per_row("repository")
    kept = question.images + changes * question.history_days
    history = kept * (measured.bytes_per_row("image_version") + measured.bytes_per_row("event"))
    rows = question.images / question.tags
    worker_s, server_s = (rows * s for s in measured.per_repository_unchanged_s())
    pages = math.ceil(rows / question.registries / PAGE) * question.registries
    largest_share = measured.largest["tables"]["image"]
    indexes = question.images * largest_share["index_bytes"] / largest_share["rows"]
    told = [
        ("fleet", fleet),
        (
            "first sync",
            _busy(outcome),
        ),
        ("first sync, if the registries' units took turns", _busy(fair)),
        (
            "first sync by one worker",
            _time(question.images * measured.costs().worker_per_image),
        ),
        ("WAL of the first sync", _bytes(question.images * measured.wal_per_image())),
        ("current list on disk (images, repositories)", _bytes(current)),
        ("of it indexes of images, to be kept in memory", _bytes(indexes)),
        (f"history of {question.history_days} days, 1 % changed daily", _bytes(history)),
        ("rows of events", f"{kept:.3g}"),
        (
            "confirming that nothing changed",
            (
                f"{pages:,} requests ({pages / question.registries:.0f} a registry),"
                f" {_time(worker_s)} of workers, {_time(server_s)} of PostgreSQL"
            ),
        ),
        (
            "changes a day",
            f"{changes:,.0f}, at most {_bytes(changes * measured.wal_per_change())} of WAL",
        ),
        ("connections", f"{question.workers * 13} of workers"),
    ]
    return [Line(case=case, what=what, value=value) for what, value in told]


def first_sync(question: Question, costs: Costs, *, turns: bool = False) -> Outcome:
    """The first sync of an estate."""
    registry = Registry(
        repositories=question.images // question.tags // question.registries,
        tags=question.tags,
        delay_s=question.delay_s,
        concurrency=question.concurrency,
    )
    fleet = Fleet(workers=question.workers, server_cores=question.server_cores)
    return simulate([registry] * question.registries, fleet, costs, turns=turns)


def _busy(outcome: Outcome) -> str:
    return (
        f"{_time(outcome.seconds)}; busy: workers {outcome.workers_used:.0%},"
        f" PostgreSQL {outcome.server_used:.0%}, registries {outcome.hosts_used:.0%}"
    )


def _time(seconds: float) -> str:
    for unit, size in (("days", DAY_S), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _bytes(count: float) -> str:
    return f"{count / 1e12:.2f} TB" if count >= 1e12 else f"{count / GIGABYTE:.1f} GB"


def take(results: Path, measured: Path) -> None:
    """Keep the newest figures of ``bench.growth`` and ``bench.fleet`` as what was measured."""
    kept = ("machine", "postgresql", "steps", "world", "delay_s", "concurrency", "crews")
    told = {
        name: {
            key: value
            for key, value in json.loads((results / f"{name}.json").read_text("utf-8")).items()
            if key in kept
        }
        for name in ("growth", "fleet")
    }
    for step in told["growth"]["steps"]:
        step["tables"] = {n: t for n, t in step["tables"].items() if n in KEPT_TABLES}
    measured.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


KEPT_TABLES = ("image", "image_version", "event", "repository")


def main(given: list[str] | None = None) -> int:
    """Print the model beside what was measured, and its answers."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="the figures to stand on")
    parser.add_argument(
        "--take",
        action="store_true",
        help="first keep the newest results of bench.growth and bench.fleet there",
    )
    parser.add_argument(
        "--questions", type=int, default=len(QUESTIONS), help="how many estates to ask about (3)"
    )
    chosen = parser.parse_args(given)
    if chosen.take:
        take(RESULTS, chosen.measured)
    measured = Measured.from_file(chosen.measured)
    found = validate(measured)
    for question in QUESTIONS[: chosen.questions]:
        found += answer(question, measured)
    print(table(found, value="value"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
