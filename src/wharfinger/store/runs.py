"""Tasks, runs, pages and units: what a sync has promised, and how far it has come."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from wharfinger.domain.errors import FencedError
from wharfinger.domain.model import (
    Cursor,
    Image,
    Page,
    Reason,
    RepositoryRef,
    RunOutcome,
    RunProgress,
    RunState,
    TagRef,
    TaskProgress,
)
from wharfinger.store.database import Connection
from wharfinger.store.named_sql import queries
from wharfinger.store.writing import (
    SECOND_LOOK_S,
    Tally,
    WantedRepository,
    add_platforms,
    conclude,
    copy_incoming,
    hide,
    incoming_row,
    keep_held,
    prepare_workspace,
    retire_within_budget,
    strike,
)

_SQL = queries("runs")
_WRITING = queries("writing")
_HELD = queries("held")
_HINTS = queries("hints")

# A run that would retire more than this share of the images live at its start stops and asks.
RETIRE_SHARE = 0.2
RETIRE_LEAST = 10

# A run that changed at least this many images, and a tenth of its registry, is told to the planner.
STATISTICS_LEAST = 1000

# A unit is published in one transaction: this bounds its memory and how long its locks are held.
UNIT_REPOSITORIES = 100
UNIT_IMAGES = 4000


@dataclass(frozen=True, kw_only=True)
class QueuedRun:
    """A run a call points to. ``start`` says that nothing stands before it."""

    id: str
    registry_id: str
    start: bool
    hinted: bool = False


@dataclass(frozen=True, kw_only=True)
class TakenRun:
    """A run under one attempt's care."""

    id: str
    registry_id: str
    attempt: int
    full: bool
    listing: str
    listing_pass: int
    cursor: Cursor | None
    generation: int
    current_generation: int
    started_at: dt.datetime
    listed: int
    kind: str


@dataclass(frozen=True, kw_only=True)
class TakenUnit:
    """A unit under one attempt's care."""

    id: int
    attempt: int
    run_id: str
    registry_id: str
    generation: int
    hinted: bool
    # The registry's listing names the repositories.
    listed: bool
    # Its run reads everything, whatever fingerprints say.
    is_full: bool
    repositories: tuple[WantedRepository, ...]


@dataclass(frozen=True, kw_only=True)
class StagedListing:
    """A tag listing that takes more than one page, as far as it has come."""

    id: int
    cursor: Cursor | None
    pages: int


async def queue_task(
    tx: Connection,
    project_id: str,
    registries: Sequence[str],
    *,
    name: str,
    requested: dict[str, Any],
    requested_by: str,
    full: bool,
    sync_type: str = "manualSync",
) -> tuple[str, list[QueuedRun]]:
    """Record a call as a task, and point it to one queued run per registry.

    A run still queued is joined; beside a running one exactly one successor is queued. The caller
    starts the runs with ``start`` in the same transaction.
    """
    cursor = await tx.execute(
        _SQL["insert_task"],
        {
            "project": project_id,
            "name": name,
            "sync_type": sync_type,
            "requested": Jsonb(requested),
            "requested_by": requested_by,
        },
    )
    task_id = str(await _value(cursor))
    runs = []
    for registry in sorted(registries):
        run = await _queue_run(tx, project_id, registry, full=full)
        await tx.execute(_SQL["join_task"], {"task": task_id, "run": run.id, "project": project_id})
        runs.append(run)
    return task_id, runs


async def _queue_run(tx: Connection, project_id: str, registry: str, *, full: bool) -> QueuedRun:
    await tx.execute(_SQL["lock_registry"], {"registry": registry})
    cursor = await tx.execute(
        _SQL["queue_run"], {"project": project_id, "registry": registry, "full": full}
    )
    row = await cursor.fetchone()
    if row is None:
        raise LookupError(f"no run was queued for registry {registry}")
    run_id, is_new = row
    cursor = await tx.execute(_SQL["is_running"], {"registry": registry})
    return QueuedRun(
        id=str(run_id), registry_id=registry, start=is_new and not await _value(cursor)
    )


async def take_run(tx: Connection, run_id: str, registry_id: str) -> TakenRun | None:
    """Start a queued run or take up an interrupted one; ``None`` when there is nothing to do."""
    await tx.execute(_SQL["lock_registry"], {"registry": registry_id})
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            _SQL["take_run"],
            {
                "run": run_id,
                "registry": registry_id,
                "budget_least": RETIRE_LEAST,
                "budget_share": RETIRE_SHARE,
            },
        )
        row = await cursor.fetchone()
    if row is None:
        return None
    return TakenRun(
        id=run_id,
        registry_id=registry_id,
        attempt=row["attempt"],
        full=row["is_full"],
        listing=row["listing"],
        listing_pass=row["listing_pass"],
        cursor=_cursor(row["cursor"]),
        generation=row["generation"],
        current_generation=row["config_generation"],
        started_at=row["started_at"],
        listed=row["repositories_total"],
        kind=row["kind"],
    )


async def restart_listing(tx: Connection, run: TakenRun) -> TakenRun:
    """Begin the listing of repositories again, in a new pass.

    Raises:
        FencedError: another attempt has taken the run over.
    """
    cursor = await tx.execute(_SQL["restart_listing"], {"run": run.id, "attempt": run.attempt})
    row = await cursor.fetchone()
    if row is None:
        raise FencedError(f"run {run.id}, attempt {run.attempt}")
    return replace(run, listing_pass=row[0], cursor=None, listed=0)


async def store_page(
    tx: Connection,
    project_id: str,
    run: TakenRun,
    page: Page[RepositoryRef],
    *,
    requests: int,
) -> list[int]:
    """Store one page of the listing, its cursor, and units for what must be read.

    Returns the new units' ids, for which the caller enqueues jobs in the same transaction.

    Raises:
        FencedError: another attempt has taken the run over.
    """
    scope = {"project": project_id, "registry": run.registry_id, "run": run.id}
    cursor = await tx.execute(_SQL["fence_run"], {**scope, "attempt": run.attempt})
    if await cursor.fetchone() is None:
        raise FencedError(f"run {run.id}, attempt {run.attempt}")
    known = await _match_page(tx, {**scope, "listing_pass": run.listing_pass}, page.items)
    lies = [k for k in known if k.lied]
    if lies:
        await tx.execute(_SQL["record_lies"], {**scope, "lies": len(lies)})
    sort = _sort_out(known, full=run.full or bool(lies))
    await _clear_suspicion(tx, known)
    if assigned := [k.id for k in known if k.assigned]:
        await tx.execute(_HINTS["adopt"], {**scope, "repositories": assigned})
    await tx.execute(
        _SQL["insert_page"],
        {
            **scope,
            "listing_pass": run.listing_pass,
            "repositories": [k.id for k in known],
        },
    )
    units = [await _insert_unit(tx, scope, batch) for batch in _batches(sort.wanted)]
    await tx.execute(
        _SQL["advance_listing"],
        {
            **scope,
            "cursor": _json_cursor(page.next),
            "units": len(units),
            "listed": len(known),
            "skipped": len(sort.skipped),
            "images": sum(k.live_images for k in sort.skipped),
            "requests": requests,
        },
    )
    return units


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A listed repository beside what the store holds of it."""

    id: int
    listed: RepositoryRef
    fingerprint: str | None
    suspect: str | None
    settled: bool
    live_images: int
    assigned: bool

    @property
    def stands(self) -> bool:
        return (
            self.settled
            and self.listed.fingerprint is not None
            and self.listed.fingerprint == self.fingerprint
        )

    @property
    def expired(self) -> bool:
        return self.listed.shared_status == "expired"

    @property
    def lied(self) -> bool:
        return self.suspect is not None and self.suspect == self.listed.fingerprint


@dataclass(frozen=True, kw_only=True)
class _Sorted:
    wanted: list[WantedRepository]
    skipped: list[_Known]


def _sort_out(known: Sequence[_Known], *, full: bool) -> _Sorted:
    # An expired share cannot be read any more, and its row says so: what is known of it stays.
    skipped = [k for k in known if k.expired or (k.stands and not full)]
    passed = {k.id for k in skipped} | {k.id for k in known if k.assigned}
    wanted = [
        WantedRepository(
            id=k.id,
            namespace=k.listed.namespace,
            name=k.listed.name,
            fingerprint=k.listed.fingerprint,
            images=k.listed.images,
            stood=k.stands,
        )
        for k in known
        if k.id not in passed
    ]
    return _Sorted(wanted=wanted, skipped=skipped)


async def _match_page(
    tx: Connection, scope: dict[str, Any], items: Sequence[RepositoryRef]
) -> list[_Known]:
    listed = {(r.namespace, r.name): r for r in items}
    columns = {
        **scope,
        "namespaces": [r.namespace for r in listed.values()],
        "names": [r.name for r in listed.values()],
        "owners": [r.owner for r in listed.values()],
        "shared": [r.shared_status for r in listed.values()],
    }
    await tx.execute(_SQL["new_repositories"], columns)
    if any(r.owner or r.shared_status for r in items):
        await tx.execute(_SQL["refresh_shares"], columns)
    cursor = await tx.execute(_SQL["match_repositories"], columns)
    return [
        _Known(
            id=row[0],
            listed=listed[row[1], row[2]],
            fingerprint=row[3],
            suspect=row[4],
            settled=row[5],
            live_images=row[6],
            assigned=row[7],
        )
        for row in await cursor.fetchall()
    ]


async def _clear_suspicion(tx: Connection, known: Sequence[_Known]) -> None:
    suspects = [k.id for k in known if k.suspect is not None]
    if suspects:
        await tx.execute(_SQL["clear_suspicion"], {"repositories": suspects})


def _batches(wanted: Sequence[WantedRepository]) -> list[list[WantedRepository]]:
    batches: list[list[WantedRepository]] = []
    room = 0
    for repository in wanted:
        # A row that does not say how many images it has is taken for a middling one.
        size = repository.images if repository.images is not None else UNIT_IMAGES // 25
        if not batches or len(batches[-1]) >= UNIT_REPOSITORIES or size > room:
            batches.append([])
            room = UNIT_IMAGES
        batches[-1].append(repository)
        room -= size
    return batches


async def _insert_unit(
    tx: Connection, scope: dict[str, Any], batch: Sequence[WantedRepository]
) -> int:
    cursor = await tx.execute(
        _SQL["insert_unit"],
        {
            **scope,
            "repository_ids": [r.id for r in batch],
            "repositories": Jsonb(msgspec.to_builtins(batch)),
        },
    )
    return int(await _value(cursor))


async def end_listing(
    tx: Connection,
    run: TakenRun,
    *,
    reasons: Sequence[Reason] = (),
    requests: int = 0,
) -> bool:
    """Say that the listing of repositories is over: complete, or failed for these reasons.

    Returns whether the run has nothing left but its end.
    """
    cursor = await tx.execute(
        _SQL["end_listing"],
        {
            "run": run.id,
            "attempt": run.attempt,
            "listing": "failed" if reasons else "complete",
            "requests": requests,
            "reasons": Jsonb(msgspec.to_builtins(list(reasons))),
        },
    )
    row = await cursor.fetchone()
    if row is None:
        raise FencedError(f"run {run.id}, attempt {run.attempt}")
    return bool(row[0])


async def hide_uncovered(
    tx: Connection, project_id: str, run: TakenRun, covers: Callable[[str, str], bool]
) -> int:
    """Hide what a complete listing lacks because a filter leaves it out; returns the images.

    Called before ``end_listing``, in its transaction, which refuses an attempt given up for dead.
    """
    scope = {"project": project_id, "registry": run.registry_id, "run": run.id}
    parameters = {**scope, "listing_pass": run.listing_pass, "after": 0, "limit": None}
    cursor = await tx.execute(_SQL["absent_repositories"], parameters)
    hidden = [row[0] for row in await cursor.fetchall() if not covers(row[2], row[3])]
    return await hide(tx, scope, hidden) if hidden else 0


async def take_unit(tx: Connection, unit_id: int) -> TakenUnit | None:
    """Take a unit up; ``None`` when it is done or its run is over."""
    cursor = await tx.execute(_SQL["take_unit"], {"unit": unit_id})
    row = await cursor.fetchone()
    if row is None:
        return None
    await tx.execute(_SQL["note_changed_configuration"], {"run": row[1]})
    return TakenUnit(
        id=unit_id,
        attempt=row[0],
        run_id=str(row[1]),
        registry_id=str(row[2]),
        generation=row[4],
        hinted=row[5],
        listed=row[6],
        is_full=row[7],
        repositories=msgspec.convert(row[3], tuple[WantedRepository, ...]),
    )


async def open_listing(
    tx: Connection, project_id: str, unit: TakenUnit, repository_id: int
) -> StagedListing:
    """Find or begin the staged listing of one repository in this run.

    Raises:
        FencedError: another attempt has taken the unit over.
    """
    cursor = await tx.execute(
        _SQL["open_listing"],
        {
            "project": project_id,
            "run": unit.run_id,
            "unit": unit.id,
            "attempt": unit.attempt,
            "repository": repository_id,
        },
    )
    row = await cursor.fetchone()
    if row is None:
        raise FencedError(f"unit {unit.id}, attempt {unit.attempt}")
    return StagedListing(id=row[0], cursor=_cursor(row[1]), pages=row[2])


async def reset_listing(tx: Connection, unit: TakenUnit, listing: StagedListing) -> StagedListing:
    """Forget the staged pages; the listing begins again."""
    await _fence_listing(tx, unit, listing)
    await tx.execute(_SQL["empty_listing"], {"listing": listing.id})
    await tx.execute(_SQL["reset_listing"], {"listing": listing.id})
    return replace(listing, cursor=None, pages=0)


async def stage_page(
    tx: Connection,
    project_id: str,
    unit: TakenUnit,
    listing: StagedListing,
    page: Page[TagRef],
) -> StagedListing:
    """Stage one page of a long tag listing together with its cursor."""
    await _fence_listing(tx, unit, listing)
    await prepare_workspace(tx)
    await copy_incoming(tx, [incoming_row(0, tag) for tag in page.items])
    await tx.execute(
        _SQL["insert_listing_rows"],
        {"listing": listing.id, "project": project_id, "page": listing.pages},
    )
    await _stage_platforms(tx, project_id, unit, page)
    await tx.execute(
        _SQL["advance_tag_listing"],
        {"listing": listing.id, "cursor": _json_cursor(page.next)},
    )
    return replace(listing, cursor=page.next, pages=listing.pages + 1)


async def _stage_platforms(
    tx: Connection, project_id: str, unit: TakenUnit, page: Page[TagRef]
) -> None:
    images: list[Image] = [t.image for t in page.items if t.image and t.image.platforms]
    if not images:
        return
    # Content-addressed rows that nothing shows before an image names their index.
    await add_platforms(tx, {"project": project_id, "registry": unit.registry_id}, images)


async def _fence_listing(tx: Connection, unit: TakenUnit, listing: StagedListing) -> None:
    cursor = await tx.execute(
        _SQL["fence_listing"],
        {"listing": listing.id, "unit": unit.id, "attempt": unit.attempt},
    )
    if await cursor.fetchone() is None:
        raise FencedError(f"unit {unit.id}, attempt {unit.attempt}")


async def take_over_listings(tx: Connection, unit: TakenUnit) -> dict[int, StagedListing]:
    """Take over long tag listings that an earlier attempt at this unit began, by repository."""
    cursor = await tx.execute(
        _SQL["take_over_listings"], {"unit": unit.id, "attempt": unit.attempt}
    )
    return {
        row[1]: StagedListing(id=row[0], cursor=_cursor(row[2]), pages=row[3])
        for row in await cursor.fetchall()
    }


async def has_read_images(tx: Connection, run_id: str) -> bool:
    """Whether a unit of this run has read any tag."""
    cursor = await tx.execute(_SQL["has_read_images"], {"run": run_id})
    return bool(await _value(cursor))


async def count_staged(tx: Connection, listing: StagedListing) -> int:
    """How many distinct tags the staged pages hold."""
    cursor = await tx.execute(_SQL["count_listing"], {"listing": listing.id})
    return int(await _value(cursor))


@dataclass(frozen=True, kw_only=True)
class _Ending:
    """A run that has nothing left but its end."""

    registry_id: str
    listing: str
    listing_pass: int
    is_full: bool
    attempt: int
    started_at: dt.datetime
    repositories_total: int
    repositories_failed: int
    repositories_skipped: int
    units_done: int
    units_total: int
    live_at_start: int
    generation: int
    reasons: list[dict[str, Any]]
    held: int
    retired: int
    retire_budget: int
    holds_everything: bool
    kind: str

    @property
    def came_up_empty(self) -> bool:
        return self.repositories_total == 0 and self.live_at_start > 0


async def finish_run(
    tx: Connection, project_id: str, run_id: str, registry_id: str
) -> tuple[RunOutcome | None, QueuedRun | None]:
    """End a run: retire repositories a complete listing lacks, settle the verdict.

    One transaction, so that a run ends once. Returns the outcome (``None`` when the run is not
    ready to end, or has ended) and the queued successor that may start now.
    """
    await tx.execute(_SQL["lock_registry"], {"registry": registry_id})
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["take_finish"], {"run": run_id})
        row = await cursor.fetchone()
    if row is None:
        return None, None
    ending = _Ending(**{**row, "registry_id": str(row["registry_id"])})
    if ending.listing == "open" or ending.units_done < ending.units_total:
        return None, None
    scope = {"project": project_id, "registry": registry_id, "run": run_id}
    held = ending.held
    if ending.listing == "complete" and ending.kind == "sync":
        held += await _retire_repositories(tx, scope, ending)
    # What one reading of a run held, a later one of a hint may have found again.
    cursor_ = await tx.execute(_SQL["count_held"], scope)
    held = min(held, int(await _value(cursor_)))
    outcome = _outcome(ending, held)
    if held:
        reason = Jsonb(msgspec.to_builtins([_held_reason(held, ending)]))
        await tx.execute(_SQL["add_reasons"], {"run": run_id, "reasons": reason})
        if ending.kind == "hint":
            await tx.execute(_HINTS["tell_held"], {**scope, "reasons": reason})
    if ending.kind == "hint":
        await tx.execute(_HINTS["settle_registry"], scope)
        await tx.execute(_HELD["count_registry"], scope)
    else:
        await _settle(tx, scope, ending, outcome)
    await tx.execute(_SQL["finish_run"], {**scope, "outcome": outcome, "held": held})
    for sweep in ("sweep_listing_rows", "sweep_listings", "sweep_units", "sweep_pages"):
        await tx.execute(_SQL[sweep], {"run": run_id})
    cursor_ = await tx.execute(_SQL["queued_run"], {"registry": registry_id})
    row_ = await cursor_.fetchone()
    if row_ is None:
        return outcome, None
    return outcome, QueuedRun(
        id=str(row_[0]), registry_id=registry_id, start=True, hinted=row_[1] == "hint"
    )


async def refresh_statistics(tx: Connection, run_id: str) -> None:
    """Let the planner know of a run that changed much of the list."""
    cursor = await tx.execute(_SQL["changed_much"], {"run": run_id, "least": STATISTICS_LEAST})
    if await _value(cursor):
        await tx.execute("SELECT refresh_statistics()")


async def fold_counts(tx: Connection, registry_id: str) -> None:
    """Make one row of the many that a run's batches added to the counts of listed images."""
    await tx.execute("SELECT fold_live_counts(%s)", (registry_id,))


async def _retire_repositories(tx: Connection, scope: dict[str, Any], ending: _Ending) -> int:
    """Retire the images of repositories that the complete listing lacks; returns those held."""
    parameters = {**scope, "listing_pass": ending.listing_pass, "after": 0, "limit": None}
    cursor = await tx.execute(_SQL["absent_repositories"], parameters)
    absent = [row[0] for row in await cursor.fetchall()]
    cursor = await tx.execute(
        _SQL["note_empty_registry"],
        {**scope, "empty": ending.came_up_empty, "second_look_s": SECOND_LOOK_S},
    )
    agreed = bool(await _value(cursor))
    if not absent:
        return 0
    await prepare_workspace(tx)
    parameters = {**scope, "repositories": absent}
    await tx.execute(_SQL["absent_images"], parameters)
    tally = Tally()
    tally.held += await keep_held(tx, decided=absent if agreed else [])
    if not ending.came_up_empty:
        await strike(tx, parameters, tally)
    cursor = await tx.execute("SELECT count(*) FROM absent")
    images = int(await _value(cursor))
    if ending.came_up_empty and not agreed:
        await tx.execute(_WRITING["hold"], parameters)
        tally.held += images
    else:
        await retire_within_budget(tx, parameters, images, tally)
    if tally.held or tally.struck:
        await tx.execute(_HELD["count_repositories"], parameters)
    await tx.execute(_SQL["retire_repositories"], parameters)
    await conclude(tx, scope, tally)
    return tally.held


def _held_reason(images: int, ending: _Ending) -> Reason:
    if ending.holds_everything:
        why = "this is the first complete listing after a change of address, credential or filter"
    elif ending.came_up_empty:
        why = f"the registry listed nothing where {ending.live_at_start} images were"
    else:
        why = (
            f"a repository came up empty, or more than this run's budget of"
            f" {ending.retire_budget} would be retired"
        )
    code = "suspiciously_empty" if ending.came_up_empty else "held"
    return Reason(code=code, message=f"{images} absent images are held: {why}")


def _outcome(ending: _Ending, held: int) -> RunOutcome:
    if ending.listing == "failed":
        nothing_read = ending.repositories_total == 0
        return RunOutcome.FAILED if nothing_read else RunOutcome.PARTIAL
    if ending.repositories_failed:
        everything = ending.repositories_failed >= ending.repositories_total
        return RunOutcome.FAILED if everything else RunOutcome.PARTIAL
    return RunOutcome.HELD if held else RunOutcome.COMPLETE


async def _settle(
    tx: Connection, scope: dict[str, Any], ending: _Ending, outcome: RunOutcome
) -> None:
    if outcome is RunOutcome.PARTIAL:
        await tx.execute(
            _SQL["confirm_repositories"],
            {**scope, "listing_pass": ending.listing_pass, "began": ending.started_at},
        )
    cursor = await tx.execute("SELECT reasons FROM run WHERE id = %(run)s", scope)
    await tx.execute(
        _SQL["settle_registry"],
        {
            **scope,
            "outcome": outcome,
            "reasons": Jsonb((await _value(cursor))[:100]),
            "began": ending.started_at,
            "read_all": ending.repositories_skipped == 0,
            "listed": ending.listing == "complete",
            "generation": ending.generation,
        },
    )


async def open_work(tx: Connection, run_id: str) -> tuple[bool, list[int]]:
    """What an interrupted run still needs: (whether it is ready to end, its open units)."""
    cursor = await tx.execute(_SQL["run_state"], {"run": run_id})
    row = await cursor.fetchone()
    if row is None or row[0] != "running":
        return False, []
    cursor = await tx.execute(_SQL["open_units"], {"run": run_id})
    units = [r[0] for r in await cursor.fetchall()]
    return row[1] != "open" and row[2], units


class TaskQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks are asked for, in the words of the table; ``None`` leaves a question out."""

    project: str
    enterprise_projects: list[str]
    task_id: str | None = None
    name_pattern: str | None = None
    sync_type: str | None = None
    created_from: dt.datetime | None = None
    created_to: dt.datetime | None = None
    unfinished: bool | None = None


async def list_tasks(
    tx: Connection, question: TaskQuestion, *, offset: int, limit: int
) -> tuple[int, list[TaskProgress]]:
    """Tasks, newest first: how many there are in all, and one page of them."""
    parameters = msgspec.structs.asdict(question)
    cursor = await tx.execute(_SQL["list_tasks"], {**parameters, "offset": offset, "limit": limit})
    rows = await cursor.fetchall()
    if not rows and offset:
        cursor = await tx.execute(_SQL["list_tasks"], {**parameters, "offset": 0, "limit": 1})
        first = await cursor.fetchone()
        return (first[4] if first else 0), []
    tasks = await _read_tasks(tx, question, [(str(r[0]), r[1], r[2], r[3], r[5]) for r in rows])
    return (rows[0][4] if rows else 0), tasks


async def _read_tasks(
    tx: Connection,
    question: TaskQuestion,
    tasks: Sequence[tuple[str, str, str, dt.datetime, bool]],
) -> list[TaskProgress]:
    """Tasks given as (id, name, sync type, created at, everything), with their runs."""
    scope = {"project": question.project, "enterprise_projects": question.enterprise_projects}
    cursor = await tx.execute(_SQL["progress"], {**scope, "tasks": [t[0] for t in tasks]})
    runs: dict[str, list[RunProgress]] = {}
    for row in await cursor.fetchall():
        runs.setdefault(str(row[21]), []).append(_progress(row))
    return [
        TaskProgress(
            id=task_id,
            name=name,
            sync_type=sync_type,
            created_at=created_at,
            finished_at=_finished_at(runs.get(task_id, [])),
            runs=tuple(runs.get(task_id, [])),
            everything=everything,
        )
        for task_id, name, sync_type, created_at, everything in tasks
    ]


def _finished_at(runs: Sequence[RunProgress]) -> dt.datetime | None:
    ends = [run.finished_at for run in runs]
    return max((e for e in ends if e is not None), default=None) if None not in ends else None


def _progress(row: Sequence[Any]) -> RunProgress:
    return RunProgress(
        id=str(row[0]),
        registry_id=str(row[1]),
        registry_name=row[2],
        registry_kind=row[3],
        state=RunState(row[4]),
        outcome=RunOutcome(row[5]) if row[5] else None,
        full=row[6],
        repositories_total=row[7],
        repositories_done=row[8],
        repositories_failed=row[9],
        images=row[10],
        requests=row[11],
        added=row[12],
        moved=row[13],
        retired=row[14],
        restored=row[15],
        held=row[16],
        queued_at=row[17],
        started_at=row[18],
        finished_at=row[19],
        reasons=msgspec.convert(row[20], tuple[Reason, ...]),
    )


def _cursor(value: Any) -> Cursor | None:
    return msgspec.convert(value, Cursor) if value is not None else None


def _json_cursor(cursor: Cursor | None) -> Jsonb | None:
    return Jsonb(msgspec.to_builtins(cursor)) if cursor is not None else None


async def _value(cursor: Any) -> Any:
    row = await cursor.fetchone()
    return row[0] if row is not None else None


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run that is not finished."""

    id: str
    project_id: str
    registry_id: str


async def orphaned_runs(tx: Connection) -> list[OpenRun]:
    """Open runs of all tenants that no job would carry on."""
    cursor = await tx.execute(_SQL["orphaned_runs"])
    return [
        OpenRun(id=str(row[0]), project_id=row[1], registry_id=str(row[2]))
        for row in await cursor.fetchall()
    ]


async def claim_orphan(tx: Connection, run: OpenRun) -> bool:
    """Whether the run is still without a job, under its registry's lock."""
    await tx.execute(_SQL["lock_registry"], {"registry": run.registry_id})
    cursor = await tx.execute(_SQL["still_orphaned"], {"run": run.id})
    return bool(await _value(cursor))


async def kind_and_duration(tx: Connection, run_id: str) -> tuple[str, float]:
    """The kind of a run's registry, and how many seconds the run has taken."""
    cursor = await tx.execute(_SQL["kind_and_duration"], {"run": run_id})
    row: Any = await cursor.fetchone()
    return str(row[0]), float(row[1])
