"""Counts what the processes of an installation do, and tells how it stands."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator

import structlog

from wharfinger.domain.errors import StoreUnavailableError
from wharfinger.domain.model import RunOutcome
from wharfinger.domain.tally import Key, Tally
from wharfinger.store.metrics import Metrics, Pool, Sample
from wharfinger.sync.queue import FINISH, PLAN, READ, TICK
from wharfinger.sync.together import end

log = structlog.get_logger()

# How old the counts of another process may be in a scrape.
REPORT_S = 5.0
CLOSE_WITHIN_S = 3.0

# The worst of several verdicts' rows is what is told of their kind; all else is added up.
_WORST = frozenset({"registry_confirmed_age_seconds", "registry_read_age_seconds"})


class Metering:
    """What this process counts, added to the counts of all; and what all of them come to.

    A process that is killed takes the last few seconds of its counts along.
    """

    def __init__(self, metrics: Metrics, tally: Tally) -> None:
        self.tally = tally
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._pool = metrics.pool()
        self._cpu_s = 0.0

    def pool(self) -> Pool:
        """The database connections of this process."""
        return self._metrics.pool()

    async def observe(self) -> list[Sample] | None:
        """How the installation stands; ``None`` while the database does not answer."""
        # One at a time: however many ask, the database is asked by one of them.
        async with self._turn:
            try:
                await self._report()
                return _together(await self._metrics.observe())
            except StoreUnavailableError:
                return None

    @contextlib.asynccontextmanager
    async def reporting(self, role: str) -> AsyncIterator[None]:
        """Add up what is counted meanwhile, every few seconds and at the end."""
        self._cpu_s = time.process_time()
        task = asyncio.create_task(self._report_for_ever(role))
        try:
            yield
        finally:
            await end(task)
            with contextlib.suppress(StoreUnavailableError, TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_S), self._turn:
                    self._count_own(role)
                    await self._report()

    async def _report_for_ever(self, role: str) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            try:
                async with self._turn:
                    self._count_own(role)
                    await self._report()
            except StoreUnavailableError as error:
                log.info("metrics.wait", error=error.code)
            except Exception:
                # Nothing else depends on it.
                log.exception("metrics.failed")

    async def _report(self) -> None:
        taken = self.tally.take()
        if not taken:
            return
        try:
            await self._metrics.add(taken)
        except BaseException:
            self.tally.put_back(taken)
            raise

    def _count_own(self, role: str) -> None:
        before, self._pool = self._pool, self._metrics.pool()
        cpu_before, self._cpu_s = self._cpu_s, time.process_time()
        for name, more in (
            ("database_pool_requests", self._pool.requests - before.requests),
            ("database_pool_wait_seconds", self._pool.wait_s - before.wait_s),
            ("database_pool_failures", self._pool.failures - before.failures),
            ("cpu_seconds", self._cpu_s - cpu_before),
        ):
            if more > 0:
                self.tally.add(name, role, by=more)


def _counted_from_nothing(kinds: set[str]) -> list[Key]:
    """Counts that are told from zero on: in a series that begins with one, no step is seen."""
    return [
        *(("runs", (kind, outcome.value)) for kind in kinds for outcome in RunOutcome),
        *(("job_failures", (task,)) for task in (PLAN, READ, FINISH, TICK)),
    ]


def _together(samples: list[Sample]) -> list[Sample]:
    found: defaultdict[tuple[str, tuple[str, ...]], float] = defaultdict(float)
    for name, labels, value in samples:
        key = (name, labels)
        found[key] = max(found[key], value) if name in _WORST else found[key] + value
    for key in _counted_from_nothing({labels[0] for name, labels in found if name == "images"}):
        found[key] += 0
    return [(name, labels, value) for (name, labels), value in found.items()]
