"""The jobs of a sync on procrastinate: enqueued in our transactions, fenced, reaped, retried."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import procrastinate
import structlog
from procrastinate import exceptions as job_errors
from procrastinate.connector import BaseConnector
from procrastinate.worker import Worker as EngineWorker
from structlog.contextvars import bound_contextvars, get_contextvars

from wharfinger.domain import tracing
from wharfinger.domain.errors import (
    FencedError,
    NotFoundError,
    StoreBusyError,
    StoreUnavailableError,
)
from wharfinger.domain.tally import Tally
from wharfinger.store import runs
from wharfinger.store.database import Connection, Database
from wharfinger.sync.engine import Engine
from wharfinger.sync.together import end

log = structlog.get_logger()

# Long work and short. A hint, and the end of a run, need not wait until a long unit makes room.
QUEUE, QUICK = "sync", "quick"
QUICK_AT_ONCE = 2
PLAN, READ, FINISH = "wharfinger.plan", "wharfinger.read", "wharfinger.finish"
TICK = "wharfinger.tick"
EVERY_MINUTE = "* * * * *"

# A worker that has not been heard of for STALLED_S is dead; with the reaper's own pace this gives a
# killed worker's jobs back within about 12 s.
HEARTBEAT_S = 2.0
STALLED_S = 8.0
REAP_EVERY_S = 2.0
CARETAKER_EVERY_S = 10.0

# What a worker that is asked to stop grants its running jobs; the rest is taken up again.
SHUTDOWN_S = 5.0

# What a job carries along from whoever enqueued it, and how it is called in logs.
CARRIED = "carried"
_LOGGED = {"run_id": "run", "unit_id": "unit", "registry_id": "registry"}

# A job that fails for a reason of our own is tried this often before its work is given up.
MOST_ATTEMPTS = 5

# Plans and ends are short and let others begin; the units of all projects then take turns.
PRIORITY = {FINISH: 2, PLAN: 2, READ: 1}

# The turn of the unit that is read next, and of the last one that the project has waiting. Both are
# found from the ends of the job engine's own index.
_TURNS = """
SELECT (SELECT priority FROM procrastinate_jobs
        WHERE status = 'todo' AND queue_name = %(queue)s AND task_name = %(task)s
        ORDER BY priority DESC, id LIMIT 1),
       (SELECT priority FROM procrastinate_jobs
        WHERE status = 'todo' AND queue_name = %(queue)s AND task_name = %(task)s
          AND args ->> 'project_id' = %(project)s
        ORDER BY priority, id DESC LIMIT 1)
"""


class SyncQueue:
    """Enqueues jobs. It implements ``engine.Jobs``."""

    def __init__(self, connector: BaseConnector) -> None:
        self.app = procrastinate.App(connector=connector)

    async def plan(
        self,
        tx: Connection,
        *,
        project_id: str,
        run_id: str,
        registry_id: str,
        hinted: bool = False,
    ) -> None:
        """Enqueue the listing of a registry. The lock holds through a crash of the worker."""
        await self._defer(
            tx,
            PLAN,
            [{"project_id": project_id, "run_id": run_id, "registry_id": registry_id}],
            lock=f"registry:{registry_id}",
            queue=QUICK if hinted else QUEUE,
        )

    async def read(
        self,
        tx: Connection,
        *,
        project_id: str,
        run_id: str,
        units: Sequence[int],
        hinted: bool = False,
    ) -> None:
        """Enqueue the reading of units; those of a hint do not wait for others.

        The units of projects take turns: each gets a priority one lower than the project's last,
        and a project that comes anew begins at the turn that is read next. So a few units do not
        wait behind another project's hundreds, and nobody's hundreds wait for ever.
        """
        jobs = [{"project_id": project_id, "run_id": run_id, "unit_id": unit} for unit in units]
        if hinted or not jobs:
            await self._defer(tx, READ, jobs, queue=QUICK)
            return
        turn = await self._turn(tx, project_id)
        await self._defer(tx, READ, jobs, priorities=range(turn, turn - len(jobs), -1))

    async def _turn(self, tx: Connection, project_id: str) -> int:
        cursor = await tx.execute(_TURNS, {"queue": QUEUE, "task": READ, "project": project_id})
        next_of_all, last_of_project = await cursor.fetchone() or (None, None)
        turns = [next_of_all] if next_of_all is not None else [PRIORITY[READ]]
        if last_of_project is not None:
            turns.append(last_of_project - 1)
        return min(turns)

    async def finish(
        self, tx: Connection, *, project_id: str, run_id: str, registry_id: str
    ) -> None:
        """Enqueue the end of a run."""
        await self._defer(
            tx,
            FINISH,
            [{"project_id": project_id, "run_id": run_id, "registry_id": registry_id}],
            queue=QUICK,
        )

    async def has_live_worker(self, fresh_s: float) -> bool:
        """Whether some worker has been heard of within so many seconds.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        try:
            rows = await self.app.connector.execute_query_all_async(
                "SELECT 1 FROM procrastinate_workers"
                " WHERE last_heartbeat > now() - make_interval(secs => %(fresh_s)s) LIMIT 1",
                fresh_s=fresh_s,
            )
        except job_errors.ConnectorException as exc:
            raise StoreUnavailableError("the database does not answer") from exc
        return bool(rows)

    async def _defer(
        self,
        tx: Connection,
        task: str,
        jobs: Sequence[dict[str, Any]],
        *,
        lock: str | None = None,
        queue: str = QUEUE,
        priorities: Iterable[int] | None = None,
    ) -> None:
        if not jobs:
            return
        if carried := _carried():
            jobs = [{**job, CARRIED: carried} for job in jobs]
        deferrer = self.app.configure_task(
            task, queue=queue, lock=lock, priority=PRIORITY[task], connection=tx
        )
        made = [deferrer.make_new_job(**arguments) for arguments in jobs]
        if priorities is not None:
            made = [j.evolve(priority=p) for j, p in zip(made, priorities, strict=True)]
        await self.app.job_manager.batch_defer_jobs_async(made, connection=tx)


def _carried() -> dict[str, str]:
    """What the jobs of a call have from it: the id of the request, and the trace."""
    request_id = get_contextvars().get("request_id")
    carried = {"request_id": str(request_id)} if request_id else {}
    tracing.inject(carried)
    return carried


def _attributes(ids: Mapping[str, Any]) -> dict[str, tracing.Value]:
    return {f"wharfinger_{key}": str(value) for key, value in ids.items()}


class _Lane:
    """One worker of the job engine, as it runs."""

    def __init__(self, worker: EngineWorker) -> None:
        self._worker = worker
        self.running = asyncio.create_task(worker.run())  # type: ignore[no-untyped-call]

    async def end(self) -> None:
        """Stop it, and wait until its jobs have ended.

        It is asked rather than cancelled: a cancellation that meets it while it waits for the
        database may be lost there. Only what is still there long after its jobs must have ended is
        cancelled.
        """
        # What it is told before its first step it forgets.
        await asyncio.sleep(0)
        self._worker.stop()  # type: ignore[no-untyped-call]
        while not self.running.done():
            await asyncio.wait([self.running], timeout=2 * SHUTDOWN_S)
            if not self.running.done():
                self.running.cancel()


class Worker:
    """Runs the jobs of a sync until told to stop, whatever becomes of the database meanwhile.

    ``tick`` is called once a minute, by one of all the workers there are.
    """

    def __init__(
        self,
        queue: SyncQueue,
        engine: Engine,
        database: Database,
        *,
        concurrency: int = 6,
        name: str = "worker",
        tick: Callable[[], Awaitable[object]] | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._queue = queue
        self._engine = engine
        self._database = database
        self._concurrency = concurrency
        self._name = name
        self._tick = tick
        self._tally = tally or Tally()
        self._trouble = asyncio.Event()
        self._stop = asyncio.Event()
        self._register()

    def stop(self) -> None:
        """Ask the worker to end its jobs and return."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    async def run(self) -> None:
        """Work until ``stop``. Jobs a lost database left behind are taken up again."""
        reaper = asyncio.create_task(self._reap_for_ever())
        try:
            while not self._stop.is_set():
                await self._work_until_trouble()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), 0.5)
        finally:
            await end(reaper)

    async def _work_until_trouble(self) -> None:
        self._trouble.clear()
        lanes = [self._lane(QUEUE, self._concurrency), self._lane(QUICK, QUICK_AT_ONCE)]
        tasks = [lane.running for lane in lanes]
        waits = [asyncio.create_task(e.wait()) for e in (self._trouble, self._stop)]
        try:
            await asyncio.wait([*tasks, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*(lane.end() for lane in lanes))
            for task in tasks:
                if not task.cancelled() and (error := task.exception()):
                    log.warning("worker.interrupted", error=type(error).__name__)

    def _lane(self, queue: str, concurrency: int) -> _Lane:
        worker = EngineWorker(
            self._queue.app,
            queues=[queue],
            name=f"{self._name}-{queue}",
            concurrency=concurrency,
            install_signal_handlers=False,
            fetch_job_polling_interval=1.0,
            abort_job_polling_interval=30.0,
            update_heartbeat_interval=HEARTBEAT_S,
            stalled_worker_timeout=STALLED_S,
            shutdown_graceful_timeout=SHUTDOWN_S,
            delete_jobs="always",
        )
        return _Lane(worker)

    # --- jobs ---

    def _register(self) -> None:
        engine = self._engine

        async def plan(project_id: str, run_id: str, registry_id: str) -> None:
            await engine.plan(project_id, run_id, registry_id)

        async def give_up_plan(
            error: BaseException, project_id: str, run_id: str, registry_id: str
        ) -> None:
            await engine.give_up_listing(project_id, run_id, registry_id, error)

        async def read(project_id: str, run_id: str, unit_id: int) -> None:  # noqa: ARG001 - run_id finds a run's jobs
            await engine.read(project_id, unit_id)

        async def give_up_read(
            error: BaseException,
            project_id: str,
            run_id: str,  # noqa: ARG001 - the same arguments as the job
            unit_id: int,
        ) -> None:
            await engine.give_up_unit(project_id, unit_id, error)

        async def finish(project_id: str, run_id: str, registry_id: str) -> None:
            await engine.finish(project_id, run_id, registry_id)

        self._task(PLAN, plan, give_up_plan)
        self._task(READ, read, give_up_read)
        self._task(FINISH, finish, None)
        if self._tick is not None:
            self._every_minute(self._tick)

    def _every_minute(self, work: Callable[[], Awaitable[object]]) -> None:
        async def tick(timestamp: int) -> None:  # noqa: ARG001 - the job engine's; the database's time decides
            await work()

        self._task(TICK, tick, None, queue=QUICK, queueing_lock=TICK)
        # The job engine sees to it that each minute has one job, however many workers there are.
        app = self._queue.app
        app.periodic_registry.periodic_tasks.clear()
        app.periodic(cron=EVERY_MINUTE)(app.tasks[TICK])

    def _task(
        self,
        name: str,
        work: Callable[..., Awaitable[None]],
        give_up: Callable[..., Awaitable[None]] | None,
        *,
        queue: str = QUEUE,
        queueing_lock: str | None = None,
    ) -> None:
        async def job(context: procrastinate.JobContext, /, **arguments: Any) -> None:
            carried = arguments.pop(CARRIED, {})
            ids = {_LOGGED[key]: value for key, value in arguments.items() if key in _LOGGED}
            request = {key: carried.pop(key) for key in ("request_id",) if key in carried}
            with (
                bound_contextvars(task=name, **ids, **request),
                tracing.span(name, "consumer", carried=carried, **_attributes(ids | request)),
            ):
                await attempt(context, arguments)

        async def attempt(context: procrastinate.JobContext, arguments: dict[str, Any]) -> None:
            try:
                await work(**arguments)
            except FencedError:
                log.info("job.fenced", job=context.job.id)
            except NotFoundError:
                log.info("job.pointless", job=context.job.id)
            except StoreBusyError:
                log.info("job.busy", job=context.job.id)
                raise
            except StoreUnavailableError:
                # This worker may no longer be able to say that the job failed. Another one, or
                # this one under a new name, takes it up when the old name is given up.
                self._trouble.set()
                raise
            except Exception as error:
                self._tally.add("job_failures", name)
                log.exception("job.failed", attempts=context.job.attempts)
                if give_up is None or context.job.attempts + 1 < MOST_ATTEMPTS:
                    raise
                await give_up(error, **arguments)

        # Retries are without end: a job ends by succeeding, by being fenced or by giving up.
        retry = procrastinate.RetryStrategy(exponential_wait=2)
        if name in self._queue.app.tasks:
            del self._queue.app.tasks[name]
        self._queue.app.task(
            name=name, queue=queue, queueing_lock=queueing_lock, retry=retry, pass_context=True
        )(job)

    # --- the reaper and the caretaker ---

    async def _reap_for_ever(self) -> None:
        ticks = round(CARETAKER_EVERY_S / REAP_EVERY_S)
        tick = 0
        while True:
            tick += 1
            try:
                await self._reap()
                if tick % ticks == 0:
                    await self._take_care()
            except (StoreUnavailableError, job_errors.ConnectorException) as error:
                log.info("reaper.waits", error=type(error).__name__)
            except Exception:
                # Without a reaper a dead worker's runs would stay running for ever.
                log.exception("reaper.failed")
            await asyncio.sleep(REAP_EVERY_S)

    async def _reap(self) -> None:
        """Give back the jobs of workers that are dead."""
        jobs = self._queue.app.job_manager
        for job in await jobs.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
            # Another reaper may have been quicker: then the job is no longer "doing".
            with contextlib.suppress(job_errors.ConnectorException):
                await jobs.retry_job(job)
                log.info("reaper.retried", job=job.id, task=job.task_name)

    async def _take_care(self) -> None:
        """Enqueue what an open run needs if no job is left that would do it."""
        async with self._database.system() as tx:
            orphans = await runs.orphaned_runs(tx)
        for run in orphans:
            async with self._database.tenant(run.project_id) as tx:
                if await runs.claim_orphan(tx, run):
                    log.warning("caretaker.revived", run=run.id)
                    await self._queue.plan(
                        tx, project_id=run.project_id, run_id=run.id, registry_id=run.registry_id
                    )
