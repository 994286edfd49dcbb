"""How synchronisations stand: ``image/tasks`` and the registries of one task."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal

from litestar import Response, get
from litestar.params import FromPath

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.model import (
    RunOutcome,
    RunProgress,
    RunState,
    TaskFilter,
    TaskProgress,
    hss_kind,
)
from wharfinger.http.hss.call import KINDS, Call, TheCall, kinds_of
from wharfinger.http.hss.wire import FailedImage, Task, TaskRegistries, TaskRegistry, Tasks
from wharfinger.http.parameters import Parameters, checked_text
from wharfinger.http.services import TheServices

MAX_TIME = 4070880000000
_MAX_REASON = 128
_FAILED = (RunOutcome.FAILED, RunOutcome.PARTIAL)
_TYPES = ("image_sync", "image_scan")
_TASK_TYPES = ("cycle", "manual", "autoSync", "manualSync")


@get("/v5/{project_id:str}/image/tasks", action="hss:imageTasks:list")
async def list_tasks(call: TheCall, services: TheServices) -> Response[Tasks]:
    """Answer ``ListImageScanTask``. There are no scans here, so their list is empty."""
    query = call.query
    kind = query.choice("type", _TYPES)
    if kind is None:
        raise InvalidParameterError("type", f"is required: {' or '.join(_TYPES)}")
    wanted = _filter(call)
    is_local = query.choice("global_image_type", ("local", "registry")) == "local"
    query.integer("scan_scope", smallest=0, largest=0x7FFFFFFF)
    offset, limit = call.window(smallest_limit=10)
    if kind == "image_scan" or is_local or wanted.sync_type in {"cycle", "manual"}:
        return Response(Tasks(total_num=0, data_list=[]))
    total, tasks = await services.synchroniser.tasks(
        call.caller, wanted, offset=offset, limit=limit
    )
    return Response(Tasks(total_num=total, data_list=[_task(task) for task in tasks]))


@get(
    "/v5/{project_id:str}/image/image-sync/tasks/{task_id:str}/registries",
    action="hss:imageTasks:get",
)
async def list_task_registries(
    call: TheCall, services: TheServices, task_id: FromPath[str]
) -> Response[TaskRegistries]:
    """Answer ``ListAssociateRegistries``."""
    query = call.query
    offset, limit = call.window(smallest_limit=10)
    total, runs = await services.synchroniser.task_runs(
        call.caller,
        checked_text("task_id", task_id, 64),
        registry_name=query.text("registry_name", longest=128),
        registry_kinds=kinds_of(query.choices("registry_type", KINDS)),
        sync_status=query.choice("sync_status", ("finished", "running", "failed")),
        offset=offset,
        limit=limit,
    )
    answer = TaskRegistries(total_num=total, data_list=[_task_registry(run) for run in runs])
    return Response(answer)


def _filter(call: Call) -> TaskFilter:
    query = call.query
    return TaskFilter(
        task_id=query.text("task_id", longest=256),
        name_contains=query.text("task_name", longest=256),
        sync_type=query.choice("task_type", _TASK_TYPES),
        created_from=_time(query, "create_time"),
        created_to=_time(query, "end_time"),
        status=query.choice("task_status", ("scanning", "finished")),
    )


def _time(query: Parameters, name: str) -> dt.datetime | None:
    ms = query.integer(name, smallest=0, largest=MAX_TIME)
    return None if ms is None else dt.datetime.fromtimestamp(ms / 1000, dt.UTC)


def _task(task: TaskProgress) -> Task:
    # What cannot be read is a repository, so failures are counted by repository.
    failed = [failure for run in task.runs for failure in _failed_images(run)]
    failed_num = sum(run.repositories_failed for run in task.runs)
    images = sum(run.images for run in task.runs)
    return Task(
        task_id=task.id,
        task_name=task.name,
        begin_time=milliseconds(task.created_at),
        end_time=None if task.finished_at is None else milliseconds(task.finished_at),
        task_type=task.sync_type,
        sync_task_type=task.sync_type,
        task_status=_status(task.runs),
        is_all=task.everything,
        failed_num=failed_num,
        success_num=images,
        total_num=images + failed_num,
        failed_reason=_reason(task.runs),
        failed_images=failed,
    )


def _status(runs: Iterable[RunProgress]) -> int:
    """Return 0 to 99 while anything is going on, then 100, or -3 when every run failed."""
    every = list(runs)
    if every and all(run.outcome is RunOutcome.FAILED for run in every):
        return -3
    if all(run.state is RunState.FINISHED for run in every):
        return 100
    return min(99, int(100 * sum(_share(run) for run in every) / len(every)))


def _share(run: RunProgress) -> float:
    if run.state is RunState.FINISHED:
        return 1.0
    done = run.repositories_done + run.repositories_failed
    return min(1.0, done / run.repositories_total) if run.repositories_total else 0.0


def _failed_images(run: RunProgress) -> list[FailedImage]:
    return [
        FailedImage(
            registry_id=run.registry_id,
            registry_name=run.registry_name,
            registry_type=hss_kind(run.registry_kind),
            namespace=_split(reason.repository)[0],
            image_name=_split(reason.repository)[1],
            failed_reason=reason.message[:_MAX_REASON],
        )
        for reason in run.reasons
        if reason.repository is not None
    ]


def _split(path: str) -> tuple[str, str]:
    namespace, slash, name = path.partition("/")
    return (namespace, name) if slash else ("", path)


def _task_registry(run: RunProgress) -> TaskRegistry:
    status = _sync_status(run)
    return TaskRegistry(
        registry_id=run.registry_id,
        registry_name=run.registry_name,
        registry_type=hss_kind(run.registry_kind),
        sync_status=status,
        failed_reason=_reason([run]) if status == "failed" else None,
        failed_code=run.reasons[0].code if status == "failed" and run.reasons else None,
    )


def _sync_status(run: RunProgress) -> Literal["finished", "running", "failed"]:
    if run.state is not RunState.FINISHED:
        return "running"
    return "failed" if run.outcome in _FAILED else "finished"


def _reason(runs: Iterable[RunProgress]) -> str | None:
    messages = [
        f"{reason.repository}: {reason.message}" if reason.repository else reason.message
        for run in runs
        if run.outcome in _FAILED
        for reason in run.reasons
    ]
    return "; ".join(messages)[:_MAX_REASON] or None


def milliseconds(time: dt.datetime) -> int:
    """Return a time in Unix milliseconds."""
    return (time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
