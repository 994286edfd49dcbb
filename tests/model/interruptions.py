"""Interruptions inside the process: where a job can be hit, and by what."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import psycopg

from wharfinger.store.database import Connection, Database
from wharfinger.store.named_sql import queries


class Point(StrEnum):
    """The kill points of a run."""

    FIRST_PAGE = "before the first page"
    PAGES = "between pages"
    REPOSITORIES = "between repositories"
    BATCHES = "between batches of one repository"
    END = "between the last write and the end"
    RETIREMENT = "during retirement"


class Kind(StrEnum):
    """What happens to a job."""

    CANCELLED = "task cancelled"
    CUT = "connection cut"
    TERMINATED = "backend terminated"
    UNHEARD = "commit unheard"  # It was committed, but the connection broke before the word came.
    GIVEN_UP = "given up for dead"  # Another worker takes the job over, and this one lives on.


class Phase(StrEnum):
    """Where inside a transaction a job is."""

    BEGIN = "begin"
    INSIDE = "inside"
    COMMIT = "commit"


_SUITED = {
    Phase.BEGIN: {Kind.CANCELLED, Kind.GIVEN_UP},
    Phase.INSIDE: {Kind.CANCELLED, Kind.CUT, Kind.TERMINATED, Kind.GIVEN_UP},
    Phase.COMMIT: {Kind.CANCELLED, Kind.CUT, Kind.TERMINATED, Kind.UNHEARD},
}

_NAMES = {text: name for file in ("runs", "writing") for name, text in queries(file).items()}
_PAGE = {"fence_run", "insert_page", "advance_listing", "restart_listing", "end_listing"}
_BATCH = {"fence_listing", "insert_listing_rows", "advance_tag_listing", "count_listing"}
_UNIT = {"take_unit", "take_over_listings", "fence_unit", "lock_repositories", "finish_unit"}
_END = {"lock_registry", "absent_repositories", "settle_registry", "finish_run", "sweep_units"}
_RETIREMENT = {"retire", "hold", "retire_repositories", "close_versions", "write_events"}

# How long the first copy of a job waits for the second, which may wait for the first one's locks.
_PATIENCE_S = 0.008


@dataclass
class Strike:
    """One interruption that is due: the ``skip``-th time a job comes by, it is hit.

    ``depth``: of a job given up for dead, how many transactions its successor begins before the
    first copy goes on.
    """

    kind: Kind
    point: Point
    skip: int = 0
    depth: int = 9


@dataclass(eq=False)
class Attempt:
    """One copy of a job that is being carried out."""

    job: Any
    is_twin: bool = False
    stop_at: int | None = None
    task: asyncio.Task[None] = field(init=False)
    twin: Attempt | None = None
    begun: int = 0
    staged: int = 0
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop_if_asked(self) -> None:
        """Let the first copy go on, and wait for its end."""
        self.begun += 1
        if self.stop_at is not None and self.begun == self.stop_at:
            self.stopped.set()
            await self.released.wait()


ATTEMPT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


class Reaper:
    """Knows the interruptions that are due, and carries them out."""

    def __init__(self, administrator: psycopg.Connection) -> None:
        self.due: list[Strike] = []
        self.struck: Counter[tuple[Kind, Point]] = Counter()
        self.begin_twin: Callable[[Attempt, int], Attempt]
        self.gave_up = False
        self.pages: Counter[str] = Counter()  # of repositories, stored so far, by run
        self._administrator = administrator

    async def pass_by(
        self, attempt: Attempt, point: Point, phase: Phase, connection: Connection | None = None
    ) -> bool:
        """Hit the job if that is due; returns whether its commit is to stay unheard."""
        for strike in self.due:
            if strike.point is point and strike.kind in _SUITED[phase]:
                break
        else:
            return False
        if strike.kind is Kind.GIVEN_UP and (attempt.is_twin or attempt.twin is not None):
            return False
        if strike.skip:
            strike.skip -= 1
            return False
        self.due.remove(strike)
        self.struck[strike.kind, point] += 1
        await self._hit(strike, attempt, phase, connection)
        return strike.kind is Kind.UNHEARD

    async def _hit(
        self, strike: Strike, attempt: Attempt, phase: Phase, connection: Connection | None
    ) -> None:
        if strike.kind is Kind.CANCELLED:
            attempt.task.cancel()
            if phase is not Phase.COMMIT:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        elif strike.kind is Kind.CUT and connection is not None:
            _cut(connection)
        elif strike.kind is Kind.TERMINATED and connection is not None:
            self._administrator.execute(
                "SELECT pg_terminate_backend(%s, 1000)", (connection.info.backend_pid,)
            )
        elif strike.kind is Kind.GIVEN_UP:
            await self._give_up(strike, attempt, holds_locks=phase is Phase.INSIDE)

    async def _give_up(self, strike: Strike, attempt: Attempt, *, holds_locks: bool) -> None:
        self.gave_up = True
        twin = attempt.twin = self.begin_twin(attempt, strike.depth)
        stopped = asyncio.ensure_future(twin.stopped.wait())
        try:
            await asyncio.wait(
                [twin.task, stopped],
                timeout=_PATIENCE_S if holds_locks else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stopped.cancel()


def _cut(connection: Connection) -> None:
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)


class WatchedDatabase(Database):
    """The application's database, in which every step of a job can be its last."""

    reaper: Reaper

    @contextlib.asynccontextmanager
    async def tenant(self, project_id: str) -> AsyncIterator[Connection]:
        """One transaction, watched while it belongs to a job."""
        attempt = ATTEMPT.get()
        if attempt is None:
            async with super().tenant(project_id) as connection:
                yield connection
            return
        await attempt.stop_if_asked()
        await self.reaper.pass_by(attempt, self._point_of(attempt), Phase.BEGIN)
        async with super().tenant(project_id) as connection:
            watched = _Watched(connection, attempt, self.reaper)
            yield watched  # type: ignore[misc]
            if watched.point is not None and await self.reaper.pass_by(
                attempt, watched.point, Phase.COMMIT, connection
            ):
                await connection.commit()
                watched.note_commit()
                raise psycopg.OperationalError("the connection was lost before the commit's word")
        watched.note_commit()

    def _point_of(self, attempt: Attempt) -> Point:
        if attempt.job.kind == "plan":
            return Point.PAGES if self.reaper.pages[attempt.job.run] else Point.FIRST_PAGE
        if attempt.job.kind == "read":
            return Point.BATCHES if attempt.staged else Point.REPOSITORIES
        return Point.END


class _Watched:
    """A connection that says what it is about to do."""

    def __init__(self, connection: Connection, attempt: Attempt, reaper: Reaper) -> None:
        self._connection = connection
        self._attempt = attempt
        self._reaper = reaper
        self._names: set[str] = set()
        self.point: Point | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, query: Any, *arguments: Any, **more: Any) -> Any:
        """Carry a statement out, unless something happens before it or after it."""
        name = _NAMES.get(query, "")
        point = self._before(name)
        if point is not None:
            self.point = point
            await self._reaper.pass_by(self._attempt, point, Phase.INSIDE, self._connection)
        cursor = await self._connection.execute(query, *arguments, **more)
        self._names.add(name)
        if name in _RETIREMENT and cursor.rowcount > 0 and self._retires(name):
            self.point = Point.RETIREMENT
            await self._reaper.pass_by(self._attempt, self.point, Phase.INSIDE, self._connection)
        return cursor

    def _retires(self, name: str) -> bool:
        return name in {"retire", "hold", "retire_repositories"} or bool(
            self._names & {"retire", "hold"}
        )

    def _before(self, name: str) -> Point | None:
        kind, run = self._attempt.job.kind, self._attempt.job.run
        if kind == "plan" and name in _PAGE | {"lock_registry"}:
            return Point.PAGES if self._reaper.pages[run] else Point.FIRST_PAGE
        if kind == "read" and name in _BATCH and self._attempt.staged:
            return Point.BATCHES
        if kind == "read" and name in _UNIT:
            return Point.REPOSITORIES
        if kind == "finish" and name in _END:
            return Point.END
        return None

    def note_commit(self) -> None:
        """Remember what has become durable."""
        if "advance_listing" in self._names:
            self._reaper.pages[self._attempt.job.run] += 1
        if "advance_tag_listing" in self._names:
            self._attempt.staged += 1


Carry = Callable[[Any], Awaitable[None]]
