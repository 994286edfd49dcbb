"""Synchronise and wait, with progress for people and an exit code for scripts."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    print_json,
    print_line,
    with_house,
)
from wharfinger.cli.completing import complete_registry
from wharfinger.domain.errors import StoreUnavailableError
from wharfinger.domain.model import Caller, RunOutcome, RunProgress, TaskProgress
from wharfinger.wiring import House

POLL_S = 0.1
LOOK_S = 1.0
# A serve's worker beats every two seconds; one not heard of for so long is dead.
WORKER_FRESH_S = 6.0


def sync(
    project: ProjectOption,
    registry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this registry; repeatable.", autocompletion=complete_registry
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read every repository, whatever its fingerprint.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Synchronise registries and wait for the end.

    Exit code: 0 complete; 3 partial, or absences held; 1 failed.
    """

    async def work(house: House) -> TaskProgress:
        caller = await caller_of(house, project)
        async with somebody_works(house):
            task_id = await house.synchroniser.synchronise_names(caller, registry or [], full=full)
            return await _wait(house, caller, task_id, show=not json)

    task = with_house(work)
    if json:
        print_json(task)
    else:
        for run in task.runs:
            print_line(_summary(run))
    code = exit_code(task)
    if code:
        raise typer.Exit(code)


def exit_code(task: TaskProgress) -> int:
    """0 when every run is complete, 1 when any failed, else 3."""
    outcomes = {run.outcome for run in task.runs}
    if RunOutcome.FAILED in outcomes:
        return 1
    return 0 if outcomes == {RunOutcome.COMPLETE} else 3


@contextlib.asynccontextmanager
async def somebody_works(house: House) -> AsyncIterator[None]:
    """Work in this process whenever no live worker will, a worker that dies meanwhile included."""
    over = asyncio.Event()
    standing_in = asyncio.create_task(_stand_in(house, over))
    try:
        yield
    finally:
        over.set()
        await standing_in


async def _stand_in(house: House, over: asyncio.Event) -> None:
    while not over.is_set() and await _works_elsewhere(house):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), LOOK_S)
    if over.is_set():
        return
    # What is due by schedule is none of a command's business.
    async with house.worker(name="command line", schedules=False) as worker:
        working = asyncio.create_task(worker.run())
        await over.wait()
        # Not cancelled: the job that has just ended the run still has itself to take away.
        worker.stop()
        await working


async def _works_elsewhere(house: House) -> bool:
    try:
        return await house.queue.has_live_worker(WORKER_FRESH_S)
    except StoreUnavailableError:
        # Whoever waits for the run hears of that, too; a worker could do nothing now.
        return True


async def _wait(house: House, caller: Caller, task_id: str, *, show: bool) -> TaskProgress:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} repositories"),
        TextColumn("{task.fields[images]} images, {task.fields[requests]} requests"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        disable=not show,
        transient=True,
    ) as progress:
        bars: dict[str, TaskID] = {}
        while True:
            task = await house.synchroniser.task(caller, task_id)
            for run in task.runs:
                _draw(progress, bars, run)
            if task.finished_at is not None:
                return task
            await asyncio.sleep(POLL_S)


def _draw(progress: Progress, bars: dict[str, TaskID], run: RunProgress) -> None:
    if run.id not in bars:
        bars[run.id] = progress.add_task(run.registry_name, total=None, images=0, requests=0)
    progress.update(
        bars[run.id],
        total=run.repositories_total or None,
        completed=run.repositories_done + run.repositories_failed,
        images=run.images,
        requests=run.requests,
    )


def _summary(run: RunProgress) -> str:
    outcome = run.outcome or run.state
    line = (
        f"{run.registry_name}: {outcome}: {run.repositories_done}/{run.repositories_total}"
        f" repositories, {run.images} images, {run.requests} requests;"
        f" {run.added} added, {run.moved} moved, {run.retired} retired,"
        f" {run.restored} restored, {run.held} held"
    )
    shown = [f"  {_where(r.repository)}{r.message} ({r.code})" for r in run.reasons[:20]]
    more = len(run.reasons) - len(shown)
    return "\n".join([line, *shown, *([f"  and {more} more"] if more else [])])


def _where(repository: str | None) -> str:
    return f"{repository}: " if repository else ""
