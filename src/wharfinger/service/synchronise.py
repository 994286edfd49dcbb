"""Asking for a sync, and seeing how far it has come."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence

from wharfinger.domain.errors import NotConfiguredError, NotFoundError
from wharfinger.domain.model import (
    Caller,
    RunOutcome,
    RunProgress,
    RunState,
    TaskFilter,
    TaskProgress,
    hss_kind,
)
from wharfinger.store import audit, registries, runs
from wharfinger.store.database import Connection, Database
from wharfinger.sync.engine import Jobs

# How the answer calls the state of one registry in a task (HSS ``sync_status``).
RUNNING, FINISHED, FAILED = "running", "finished", "failed"


class Synchroniser:
    """Accepts syncs durably: what it has returned from survives any crash."""

    def __init__(self, database: Database, jobs: Jobs) -> None:
        self._database = database
        self._jobs = jobs

    async def synchronise_kind(
        self, caller: Caller, kind: str, enterprise_project_id: str, *, full: bool = False
    ) -> str:
        """Synchronise every registry of a kind; returns the task's id.

        Raises:
            NotConfiguredError: the project has no registry of that kind.
            NotGrantedError: the enterprise project is not the caller's.
        """
        caller = caller.within(enterprise_project_id)
        async with self._database.tenant(caller.project_id) as tx:
            found = await registries.select_registries(tx, caller, kind=kind)
            if not found:
                raise NotConfiguredError(how_to_configure(caller, kind))
            requested: dict[str, object] = {"kind": kind, "eps": enterprise_project_id}
            return await self._queue(tx, caller, [r[0] for r in found], requested, full=full)

    async def synchronise_registries(
        self,
        caller: Caller,
        *,
        enterprise_project_id: str,
        everything: bool,
        chosen: Sequence[tuple[str, str]],
        full: bool = False,
    ) -> str:
        """Synchronise all registries, or those given as (id, kind); returns the task's id.

        An empty kind leaves the kind open; an empty id stands for every registry of the kind.

        Raises:
            NotConfiguredError: everything was asked for, and there is no registry.
            NotFoundError: a registry does not exist, or is of another kind.
            NotGrantedError: the enterprise project is not the caller's.
        """
        caller = caller.within(enterprise_project_id)
        async with self._database.tenant(caller.project_id) as tx:
            known = {r[0]: r[2] for r in await registries.select_registries(tx, caller)}
            if everything and not known:
                raise NotConfiguredError(how_to_configure(caller, "SwrPrivate"))
            wanted = list(known) if everything else choose_registries(known, chosen)
            return await self._queue(
                tx,
                caller,
                list(dict.fromkeys(wanted)),
                {"all": everything, "eps": enterprise_project_id},
                full=full,
            )

    async def synchronise_names(
        self, caller: Caller, names: Sequence[str], *, full: bool = False
    ) -> str:
        """Synchronise registries by name, all of them where none is named; for operators.

        Raises:
            NotConfiguredError: there is no registry at all.
            NotFoundError: a name is unknown.
        """
        async with self._database.tenant(caller.project_id) as tx:
            found = await registries.select_registries(tx, caller, names=names)
            unknown = set(names) - {r[1] for r in found}
            if unknown:
                raise NotFoundError(f"there is no registry named {', '.join(sorted(unknown))}")
            if not found:
                raise NotConfiguredError(how_to_configure(caller, "SwrPrivate"))
            return await self._queue(
                tx, caller, [r[0] for r in found], {"names": list(names)}, full=full
            )

    async def _queue(
        self,
        tx: Connection,
        caller: Caller,
        chosen: Sequence[str],
        requested: dict[str, object],
        *,
        full: bool,
    ) -> str:
        task_id, queued = await runs.queue_task(
            tx,
            caller.project_id,
            chosen,
            name=f"image-sync-{dt.datetime.now(dt.UTC):%Y%m%d%H%M%S}",
            requested=requested,
            requested_by=caller.principal,
            full=full,
        )
        for run in queued:
            if run.start:
                await self._jobs.plan(
                    tx, project_id=caller.project_id, run_id=run.id, registry_id=run.registry_id
                )
        await audit.record(
            tx,
            caller,
            "image.synchronize",
            target=f"task {task_id}",
            outcome="queued",
            details={**requested, "full": full, "registries": list(chosen)},
        )
        return task_id

    async def tasks(
        self, caller: Caller, wanted: TaskFilter, *, offset: int, limit: int
    ) -> tuple[int, list[TaskProgress]]:
        """Tasks, newest first: how many there are, and one page of them."""
        if wanted.task_id is not None and not _is_uuid(wanted.task_id):
            return 0, []
        question = runs.TaskQuestion(
            task_id=wanted.task_id,
            name_pattern=_contains(wanted.name_contains),
            sync_type=wanted.sync_type,
            created_from=wanted.created_from,
            created_to=wanted.created_to,
            unfinished=None if wanted.status is None else wanted.status == "scanning",
            project=caller.project_id,
            enterprise_projects=list(caller.enterprise_projects),
        )
        async with self._database.tenant(caller.project_id) as tx:
            return await runs.list_tasks(tx, question, offset=offset, limit=limit)

    async def task(self, caller: Caller, task_id: str) -> TaskProgress:
        """One task.

        Raises:
            NotFoundError: there is no such task in the caller's project.
        """
        if _is_uuid(task_id):
            question = runs.TaskQuestion(
                project=caller.project_id,
                enterprise_projects=list(caller.enterprise_projects),
                task_id=task_id,
            )
            async with self._database.tenant(caller.project_id) as tx:
                _, tasks = await runs.list_tasks(tx, question, offset=0, limit=1)
            if tasks:
                return tasks[0]
        raise NotFoundError(f"task_id: there is no task {task_id}")

    async def task_runs(
        self,
        caller: Caller,
        task_id: str,
        *,
        registry_name: str | None,
        registry_kinds: Sequence[str] | None,
        sync_status: str | None,
        offset: int,
        limit: int,
    ) -> tuple[int, list[RunProgress]]:
        """The registries of a task with their state: how many match, and one page of them.

        Raises:
            NotFoundError: there is no such task in the caller's project.
        """
        task = await self.task(caller, task_id)
        matching = [
            run
            for run in task.runs
            if (registry_name is None or registry_name.lower() in run.registry_name.lower())
            and (not registry_kinds or run.registry_kind in registry_kinds)
            and (sync_status is None or run_status(run) == sync_status)
        ]
        return len(matching), matching[offset : offset + limit]


def run_status(run: RunProgress) -> str:
    """A run in HSS's three words. Partial counts as failed: the list is not known complete."""
    if run.state is not RunState.FINISHED:
        return RUNNING
    good = run.outcome in (RunOutcome.COMPLETE, RunOutcome.HELD)
    return FINISHED if good else FAILED


def choose_registries(known: Mapping[str, str], chosen: Sequence[tuple[str, str]]) -> list[str]:
    """The ids of what is chosen, by pairs of id and kind; "" leaves either open.

    Raises:
        NotFoundError: a registry does not exist, or is of another kind.
    """
    wanted: list[str] = []
    for asked_id, kind in chosen:
        registry_id = _canonical(asked_id)
        found = [
            i for i, k in known.items() if kind in ("", hss_kind(k)) and registry_id in ("", i)
        ]
        if not found:
            which = f"with the id {asked_id}" if asked_id else "at all"
            raise NotFoundError(f"registry_info: there is no {kind} registry {which}")
        wanted += found
    return wanted


def how_to_configure(caller: Caller, kind: str) -> str:
    """What somebody can do about a project without a registry of a kind."""
    return (
        f"the project has no {kind} registry; configure its access to SWR with: wharfinger swr"
        f" configure --project {caller.project_id} --region REGION --access-key AK"
        " --secret-key-stdin"
    )


def _contains(text: str | None) -> str | None:
    if text is None:
        return None
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _canonical(registry_id: str) -> str:
    return str(uuid.UUID(registry_id)) if _is_uuid(registry_id) else registry_id
