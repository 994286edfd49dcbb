"""The course everyone runs: rounds over worlds and delays, each on a fresh database."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.contenders import Images, Pass, bare_reader, curl, sdk_loop
from bench.stage import Size, Stage
from bench.wharf import RowsWritten, Server, Sync, Wharf, difference
from wharfinger.testing.rendered import Nginx

REGISTRY, WARM_UP = "measured", "warm-up"
WARM_UP_SIZE = Size(repositories=20, tags=3)

# A loop slower than this would take most of the bench's time; its figure hardly varies.
ONCE_ABOVE_S = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Round:
    """Everyone's figures over one state of the world, and Wharfinger's after 1 % of it changed."""

    sdk: Pass
    curl: Pass
    bare: Pass
    copy_s: float
    first: Sync
    unchanged: Sync
    changed: Sync
    changed_repositories: int
    unchanged_writes: RowsWritten
    changed_writes: RowsWritten
    rows_equal: bool


@dataclass(frozen=True, kw_only=True)
class Lie:
    """What became of a tag that moved while its repository's row stood still."""

    quick: Sync
    seen_by_quick: bool
    full: Sync
    seen_by_full: bool
    after: Sync
    lies_recorded: int
    later: Sync


@dataclass(kw_only=True)
class Cell:
    """One world behind one delay."""

    size: Size
    delay_s: float
    rounds: list[Round] = field(default_factory=list)
    lie: Lie | None = None

    @property
    def title(self) -> str:
        return f"{self.size} {'no delay' if not self.delay_s else f'{self.delay_s * 1000:.0f} ms'}"


class Course:
    """Runs the cells.

    Args:
        folder: a folder of the bench's own.
        server: the PostgreSQL to write to.
        runs: rounds per cell.
        say: tells a person how far it has come.
    """

    def __init__(self, folder: Path, server: Server, *, runs: int, say: Say) -> None:
        self._folder = folder
        self._server = server
        self._runs = runs
        self._say = say

    async def run(self, sizes: list[Size], delays_s: list[float]) -> list[Cell]:
        """Every size behind every delay; the last act over the first cell is the lie."""
        cells = []
        with self._warm_up() as warm_up:
            for size in sizes:
                stage = Stage(self._folder / f"world-{size.repositories}x{size.tags}", size)
                for delay_s in delays_s:
                    cell = Cell(size=size, delay_s=delay_s)
                    cells.append(cell)
                    with stage.upstream(delay_s=delay_s) as nginx:
                        lane = _Lane(self, stage, nginx, warm_up)
                        await lane.run(cell, self._runs, lie=len(cells) == 1)
        return cells

    @contextlib.contextmanager
    def _warm_up(self) -> Iterator[Nginx]:
        with Stage(self._folder / "warm-up", WARM_UP_SIZE).upstream(delay_s=0) as nginx:
            yield nginx


class _Lane:
    """One world behind one delay, as it is run."""

    def __init__(self, course: Course, stage: Stage, nginx: Nginx, warm_up: Nginx) -> None:
        self._folder, self._say = course._folder, course._say  # noqa: SLF001 - its own part
        self._server = course._server  # noqa: SLF001
        self._stage = stage
        self._nginx = nginx
        self._warm_up = warm_up
        self._slow_sdk: Pass | None = None

    async def run(self, cell: Cell, runs: int, *, lie: bool) -> None:
        for number in range(runs):
            began = time.monotonic()
            cell.rounds.append(await self._round())
            done = cell.rounds[-1]
            self._say(
                f"{cell.title}, round {number + 1} of {runs}: SDK {done.sdk.seconds:.2f} s, "
                f"curl {done.curl.seconds:.2f} s, bare {done.bare.seconds:.2f} s,"
                f" COPY {done.copy_s:.2f} s; first "
                f"{done.first.seconds:.2f} s, unchanged {done.unchanged.seconds:.3f} s, changed "
                f"{done.changed.seconds:.3f} s ({time.monotonic() - began:.0f} s in all)"
            )
        if lie:
            cell.lie = await self._lie()

    async def _round(self) -> Round:
        async with Wharf.over_a_fresh_database(self._server) as wharf:
            await self._attach(wharf)
            first, _ = await self._sync(wharf)
            expected = self._stage.world.images()
            rows_equal = wharf.stored(REGISTRY) == expected
            sdk, read = self._sdk_loop()
            rows_equal &= read is None or read == expected
            curled = curl(self._stage, self._nginx, self._folder)
            bare = bare_reader(self._stage, self._nginx, self._folder)
            copy_s = wharf.copy_seconds()
            unchanged, unchanged_writes = await self._sync(wharf)
            changed_repositories = self._stage.move_one_percent()
            changed, changed_writes = await self._sync(wharf)
            rows_equal &= wharf.stored(REGISTRY) == self._stage.world.images() != expected
        return Round(
            sdk=sdk,
            curl=curled,
            bare=bare,
            copy_s=copy_s,
            first=first,
            unchanged=unchanged,
            changed=changed,
            changed_repositories=changed_repositories,
            unchanged_writes=unchanged_writes,
            changed_writes=changed_writes,
            rows_equal=rows_equal,
        )

    def _sdk_loop(self) -> tuple[Pass, Images | None]:
        """The loop's time and rows. One that takes very long is run in the first round only."""
        if self._slow_sdk is not None:
            return self._slow_sdk, None
        sdk, read = sdk_loop(self._stage, self._nginx, self._folder)
        if sdk.seconds > ONCE_ABOVE_S:
            self._slow_sdk = sdk
        return sdk, read

    async def _attach(self, wharf: Wharf) -> None:
        key = self._stage.world.access_key()
        await wharf.attach(WARM_UP, self._warm_up.url, key)
        await wharf.attach(REGISTRY, self._nginx.url, key)

    async def _sync(self, wharf: Wharf, *, full: bool = False) -> tuple[Sync, RowsWritten]:
        """One sync by a warm worker of its own, with what it wrote.

        The worker has synchronised another, tiny registry before, as a worker that has been
        running for a while has; after the first time that writes nothing.
        """
        before = wharf.table_writes()
        async with wharf.worker() as worker:
            await wharf.sync(WARM_UP, self._warm_up, worker)
            sync = await wharf.sync(REGISTRY, self._nginx, worker, full=full)
        return sync, difference(before, wharf.table_writes())

    async def _lie(self) -> Lie:
        async with Wharf.over_a_fresh_database(self._server) as wharf:
            await self._attach(wharf)
            await self._sync(wharf)
            moved = self._stage.move_one_quietly()
            quick, _ = await self._sync(wharf)
            seen_by_quick = moved in wharf.stored(REGISTRY)
            full, _ = await self._sync(wharf, full=True)
            stored: Images = wharf.stored(REGISTRY)
            after, _ = await self._sync(wharf)
            lies_recorded = wharf.lies(REGISTRY)
            later, _ = await self._sync(wharf)
            return Lie(
                quick=quick,
                seen_by_quick=seen_by_quick,
                full=full,
                seen_by_full=moved in stored and stored == self._stage.world.images(),
                after=after,
                lies_recorded=lies_recorded,
                later=later,
            )
