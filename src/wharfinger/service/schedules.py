"""Syncs that nobody asks for: when they are due, and queueing those that are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from wharfinger.domain.errors import (
    InvalidParameterError,
    NotConfiguredError,
    NotFoundError,
    StoreUnavailableError,
)
from wharfinger.domain.model import Caller
from wharfinger.domain.schedule import (
    CYCLES,
    FULL_SYNCS,
    JITTER_S,
    USUAL_CRON,
    Schedule,
    ScheduleChange,
    checked_cron,
    checked_time_zone,
    cycle_of,
    next_time,
)
from wharfinger.service.held import find_registry
from wharfinger.service.synchronise import choose_registries, how_to_configure
from wharfinger.store import audit, registries, runs, schedules
from wharfinger.store.database import Connection, Database
from wharfinger.store.schedules import Clock, Due
from wharfinger.sync.engine import Jobs

log = structlog.get_logger()

BY_SCHEDULE = "schedule"


class Schedules:
    """The schedules of all projects. ``jitter_s`` spreads registries that have the same time."""

    def __init__(self, database: Database, jobs: Jobs, *, jitter_s: int = JITTER_S) -> None:
        self._database = database
        self._jobs = jobs
        self._jitter_s = jitter_s

    @property
    def jitter_s(self) -> int:
        """Over how long registries that have the same time begin spread, at most."""
        return self._jitter_s

    async def list(self, caller: Caller) -> list[Schedule]:
        """The schedule of every registry that the caller may see, by name."""
        async with self._database.tenant(caller.project_id) as tx:
            clock = await schedules.clock(tx, caller.project_id)
            found = await schedules.list_schedules(tx, caller)
        return [self._planned(clock, one) for one in found]

    async def change(self, caller: Caller, name: str, change: ScheduleChange) -> Schedule:
        """Change a registry's schedule, found by name or id; returns it as it is now.

        Raises:
            NotFoundError: there is no such registry.
            InvalidParameterError: naming the parameter and what would be accepted.
        """
        cron = None if change.cron is None else checked_cron(change.cron)
        if change.full_syncs is not None and change.full_syncs not in FULL_SYNCS:
            raise InvalidParameterError("full_syncs", f"must be {' or '.join(FULL_SYNCS)}")
        async with self._database.tenant(caller.project_id) as tx:
            registry_id, _ = await find_registry(tx, caller, name)
            before = await self._one(tx, caller, registry_id)
            clock = await schedules.clock(tx, caller.project_id)
            await self._change(tx, caller, clock, before, change, cron=cron or before.cron)
            return await self._one(tx, caller, registry_id)

    async def set_cycle(
        self, caller: Caller, days: int | None, chosen: Sequence[tuple[str, str]] | None
    ) -> None:
        """Have registries read every so many days, and no others: all, or none of it.

        Those that followed such a cycle and are not chosen go back to the usual time, as all do
        where ``days`` is ``None``. Other schedules of the rest stay, and so does what is paused.

        Args:
            caller: who sees the registries that this is about.
            days: one of ``CYCLES``.
            chosen: pairs of id and kind, of which either may be "" to leave it open; ``None``
                chooses all.

        Raises:
            NotConfiguredError: all are chosen, and there is none.
            NotFoundError: a registry does not exist, or is of another kind.
        """
        async with self._database.tenant(caller.project_id) as tx:
            known = {r[0]: r[2] for r in await registries.select_registries(tx, caller)}
            wanted = set() if days is None else _chosen(caller, known, chosen)
            clock = await schedules.clock(tx, caller.project_id)
            for before in await schedules.list_schedules(tx, caller):
                if days is not None and before.registry_id in wanted:
                    cron = CYCLES[days]
                elif cycle_of(before.cron) is not None:
                    cron = USUAL_CRON
                else:
                    continue
                change = ScheduleChange(cron=cron)
                await self._change(tx, caller, clock, before, change, cron=cron)

    async def time_zone(self, caller: Caller) -> str:
        """The time zone that a project's schedules go by."""
        async with self._database.tenant(caller.project_id) as tx:
            return (await schedules.clock(tx, caller.project_id)).time_zone

    async def set_time_zone(self, caller: Caller, time_zone: str) -> None:
        """Have a project's schedules go by another time zone.

        Raises:
            NotFoundError: there is no such project.
            InvalidParameterError: there is no such time zone.
        """
        checked_time_zone(time_zone)
        async with self._database.tenant(caller.project_id) as tx:
            await schedules.set_time_zone(tx, caller.project_id, time_zone)
            await audit.record(
                tx,
                caller,
                "project.set",
                target=f"project {caller.project_id}",
                outcome="done",
                details={"time_zone": time_zone},
            )

    async def tick(self) -> int:
        """Queue every sync that is due; returns how many registries it were.

        What was missed while nothing ran is made up for once. A project whose turn fails costs
        the others nothing, and is due again at the next tick.
        """
        async with self._database.system() as tx:
            waiting = await schedules.projects(tx)
        queued = 0
        for project_id in waiting:
            try:
                queued += await self._tick_project(project_id)
            except StoreUnavailableError:
                raise
            except Exception:
                log.exception("schedules.project_failed", project=project_id)
        return queued

    async def _tick_project(self, project_id: str) -> int:
        async with self._database.tenant(project_id) as tx:
            await self._plan(tx, project_id)
            found = await schedules.due(tx, project_id)
            clock = await schedules.clock(tx, project_id)
            for full in (True, False):
                await self._queue(tx, project_id, clock, [d for d in found if d.full is full])
        return len(found)

    async def _queue(
        self, tx: Connection, project_id: str, clock: Clock, found: Sequence[Due]
    ) -> None:
        """Make a task of its own of what is due, and say when each registry is due next."""
        if not found:
            return
        task_id, queued = await runs.queue_task(
            tx,
            project_id,
            [one.registry_id for one in found],
            name=f"image-sync-{clock.now:%Y%m%d%H%M%S}",
            requested={"schedule": True},
            requested_by=BY_SCHEDULE,
            full=found[0].full,
            sync_type="autoSync",
        )
        for run in queued:
            if run.start:
                await self._jobs.plan(
                    tx, project_id=project_id, run_id=run.id, registry_id=run.registry_id
                )
        for one in found:
            next_at = self._next(clock, one.cron, one.registry_id)
            await schedules.ran(tx, one.registry_id, task_id=task_id, next_at=next_at)
        log.info("schedules.queued", project=project_id, task=task_id, registries=len(found))

    async def _change(
        self,
        tx: Connection,
        caller: Caller,
        clock: Clock,
        before: Schedule,
        change: ScheduleChange,
        *,
        cron: str,
    ) -> None:
        paused = before.paused_at is not None if change.paused is None else change.paused
        await schedules.change(
            tx,
            caller.project_id,
            before.registry_id,
            cron=cron,
            full_syncs=change.full_syncs or before.full_syncs,
            next_at=None if paused else self._next(clock, cron, before.registry_id),
        )
        await audit.record(
            tx,
            caller,
            "schedule.set",
            target=f"registry {before.registry_id}",
            outcome="done",
            name=before.registry,
            details={k: v for k, v in msgspec.to_builtins(change).items() if v is not None},
        )

    async def _one(self, tx: Connection, caller: Caller, registry_id: str) -> Schedule:
        found = await schedules.list_schedules(tx, caller, registry_id=registry_id)
        if not found:
            raise NotFoundError(f"there is no registry {registry_id}")
        return found[0]

    def _planned(self, clock: Clock, one: Schedule) -> Schedule:
        """Fill in what the next tick will say."""
        if one.next_at is not None or one.paused_at is not None:
            return one
        next_at = self._next(clock, one.cron, one.registry_id)
        return msgspec.structs.replace(one, next_at=next_at)

    async def _plan(self, tx: Connection, project_id: str) -> None:
        waiting = await schedules.unplanned(tx, project_id)
        if not waiting:
            return
        clock = await schedules.clock(tx, project_id)
        for registry_id, cron in waiting:
            next_at = self._next(clock, cron, registry_id)
            await schedules.plan(tx, project_id, registry_id, cron=cron, next_at=next_at)

    def _next(self, clock: Clock, cron: str, registry_id: str) -> dt.datetime:
        return next_time(
            cron, clock.time_zone, clock.now, registry_id=registry_id, jitter_s=self._jitter_s
        )


def _chosen(
    caller: Caller, known: Mapping[str, str], chosen: Sequence[tuple[str, str]] | None
) -> set[str]:
    if chosen is not None:
        return set(choose_registries(known, chosen))
    if not known:
        raise NotConfiguredError(how_to_configure(caller, "SwrPrivate"))
    return set(known)
