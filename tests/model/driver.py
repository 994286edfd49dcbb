"""Carries out the jobs of an engine, in whatever order, with whatever interruptions."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from interruptions import ATTEMPT, Attempt, Reaper, WatchedDatabase

from wharfinger.domain.errors import FencedError, NotFoundError, StoreUnavailableError
from wharfinger.domain.model import RegistryCredential, RegistryRef
from wharfinger.sources import filter_of, open_source
from wharfinger.sources._addresses import AddressPolicy
from wharfinger.sources._http import AioTransport
from wharfinger.store.database import Connection
from wharfinger.store.sealing import Sealer
from wharfinger.sync.engine import Engine
from wharfinger.sync.pacing import HostBudget, PacedHttp
from wharfinger.wiring import OpenedSource

# In a table, so that they are there exactly if the transaction that enqueued them is.
JOBS = """
CREATE TABLE model_job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL, kind text NOT NULL, run text NOT NULL, registry text, unit bigint
);
CREATE INDEX model_job_idx ON model_job (project, id);
GRANT INSERT ON model_job TO wharfinger_app;
"""

# More than all interruptions of a run together.
_MOST_ATTEMPTS = 20


@dataclass(frozen=True)
class Job:
    """One job as its row says."""

    id: int
    kind: str
    run: str
    registry: str | None
    unit: int | None


class Table:
    """Jobs in a table. It implements ``engine.Jobs``."""

    async def plan(self, tx: Connection, *, project_id, run_id, registry_id, hinted=False) -> None:
        await _insert(tx, (project_id, "plan", run_id, registry_id, None))

    async def read(self, tx: Connection, *, project_id, run_id, units, hinted=False) -> None:
        for unit in units:
            await _insert(tx, (project_id, "read", run_id, None, unit))

    async def finish(self, tx: Connection, *, project_id, run_id, registry_id) -> None:
        await _insert(tx, (project_id, "finish", run_id, registry_id, None))


async def _insert(tx: Connection, row: Sequence) -> None:
    await tx.execute(
        "INSERT INTO model_job (project, kind, run, registry, unit) VALUES (%s, %s, %s, %s, %s)",
        row,
    )


class Watch:
    """A clock that nobody waits for: to sleep moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class Opener:
    """Opens sources over real HTTP that are patient without waiting."""

    def __init__(self) -> None:
        self._watch = Watch()
        self.budget = self._fresh()

    def _fresh(self) -> HostBudget:
        return HostBudget(clock=self._watch.now, sleep=self._watch.sleep)

    def forget(self) -> None:
        """Think of the host as one that was never in trouble."""
        self.budget.answered()

    def __call__(self, registry: RegistryRef, credential: RegistryCredential) -> OpenedSource:
        transport = AioTransport(AddressPolicy(allow_private=True, allow_networks=()))
        http = PacedHttp(
            transport,
            self.budget,
            attempts=2,
            clock=self._watch.now,
            sleep=self._watch.sleep,
        )
        return OpenedSource(open_source(registry, credential, http), transport, filter_of(registry))


class Driver:
    """Does what a queue and its workers do, one chosen step after the other."""

    def __init__(
        self,
        project: str,
        database: WatchedDatabase,
        seals: Sealer,
        owner: psycopg.Connection,
        reaper: Reaper,
    ) -> None:
        self.ends: Counter[str] = Counter()
        self.began: Callable[[str], None] = lambda _: None
        self.opener = Opener()
        self._project = project
        self._owner = owner
        self.jobs_table = Table()
        self._engine = Engine(database, seals, self.opener, self.jobs_table)
        reaper.begin_twin = self._begin_twin

    async def aclose(self) -> None:
        """Let go of the registry's connections."""
        await self._engine.aclose()

    def jobs(self) -> list[Job]:
        """What is still to be done."""
        rows = self._owner.execute(
            "SELECT id, kind, run, registry, unit FROM model_job WHERE project = %s ORDER BY id",
            (self._project,),
        )
        return [Job(*row) for row in rows.fetchall()]

    async def carry_out(self, jobs: Sequence[Job]) -> None:
        """Carry out jobs side by side, each until it has ended."""
        ends = [self._until_it_ends(job) for job in jobs]
        for error in await asyncio.gather(*ends, return_exceptions=True):
            if error is not None:
                raise error

    async def _until_it_ends(self, job: Job) -> None:
        for _ in range(_MOST_ATTEMPTS):
            if await self._try(job):
                self._owner.execute("DELETE FROM model_job WHERE id = %s", (job.id,))
                return
        raise AssertionError(f"{job} never ends")

    async def _try(self, job: Job) -> bool:
        attempt = self._begin(Attempt(job))
        await asyncio.wait([attempt.task])
        twin = attempt.twin
        if twin is None:
            return _has_ended(attempt)
        twin.released.set()
        await asyncio.wait([twin.task])
        _has_ended(attempt)
        return _has_ended(twin)

    def _begin_twin(self, attempt: Attempt, depth: int) -> Attempt:
        return self._begin(Attempt(attempt.job, is_twin=True, stop_at=depth))

    def _begin(self, attempt: Attempt) -> Attempt:
        context = contextvars.copy_context()
        context.run(ATTEMPT.set, attempt)
        loop = asyncio.get_running_loop()
        attempt.task = loop.create_task(self._call(attempt.job), context=context)
        return attempt

    async def _call(self, job: Job) -> None:
        if job.kind == "plan":
            self.began(job.run)
            await self._engine.plan(self._project, job.run, job.registry)
        elif job.kind == "read":
            await self._engine.read(self._project, job.unit)
        elif await self._engine.finish(self._project, job.run, job.registry) is not None:
            self.ends[job.run] += 1


def _has_ended(attempt: Attempt) -> bool:
    """Whether the queue would call this the job's end; an error of our own is raised."""
    with contextlib.suppress(asyncio.CancelledError):
        error = attempt.task.exception()
        if error is None or isinstance(error, FencedError | NotFoundError):
            return True
        if not isinstance(error, StoreUnavailableError):
            raise error
    return False
