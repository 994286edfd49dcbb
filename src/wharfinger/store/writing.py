"""Publishing a batch of finished repositories: all of it becomes visible at once, or none."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from psycopg.types.json import Jsonb

from wharfinger.domain.errors import FencedError, MissingError
from wharfinger.domain.model import Image, Reason, TagRef
from wharfinger.store import attachments
from wharfinger.store.attachments import Told
from wharfinger.store.database import Ask, Connection, rows_of
from wharfinger.store.named_sql import queries

T = TypeVar("T")

_SQL = queries("writing")
_HINTS = queries("hints")
_RUNS = queries("runs")

# A repository that came up empty is believed when a second complete listing says so this much
# later.
SECOND_LOOK_S = 60.0

# So many images that were retired and came back unchanged within a day say that a registry answers
# inconsistently; from then on an absence must be seen twice.
FLICKERS = 3

_INCOMING_TYPES = ["int8", *["text"] * 5, "bool", "int8", "timestamptz", "timestamptz"]
_ARRIVAL_TYPES = ["int4", *_INCOMING_TYPES]
_PLATFORM_TYPES = ["text", "int2", *["text"] * 4, "int8", "text"]


class WantedRepository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that a unit is to read, with what the registry's listing said of it."""

    id: int
    namespace: str
    name: str
    fingerprint: str | None = None
    images: int | None = None
    # The fingerprint is the one stored at the last complete read: the tags should be, too.
    stood: bool = False


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What reading one repository took: requests, retries included, and milliseconds."""

    requests: int = 0
    milliseconds: int = 0


@dataclass(frozen=True, kw_only=True)
class ReadRepository:
    """A repository whose tags were listed completely.

    ``listing`` names the staged rows where the listing took more than one page; ``tags`` holds
    them otherwise. ``unknown`` says that there was no list, for the registry knew no such name.
    ``attached`` is what was told of its images' referrers, ``None`` where nobody asks.
    """

    wanted: WantedRepository
    tags: Sequence[TagRef] = ()
    listing: int | None = None
    rows: int = 0
    unknown: bool = False
    attached: Told | None = None
    cost: Cost = Cost()

    @property
    def tells_all(self) -> bool:
        """Whether all that is to be known of its images is in ``tags``."""
        return self.listing is None and all(tag.image is not None for tag in self.tags)

    @property
    def came_up_short(self) -> bool:
        """Whether the repository's own row claims more than its list showed.

        What stands behind such a row's fingerprint then is not what was read.
        """
        return self.wanted.images is not None and self.rows < self.wanted.images

    @property
    def is_to_be_read_again(self) -> bool:
        """Whether its fingerprint must not stand for what was read."""
        return self.came_up_short or (
            self.attached is not None and self.attached.unread is not None
        )

    @property
    def referrers_read(self) -> bool:
        """Whether all is known of its images' referrers."""
        return self.attached is not None and self.attached.unread is None


@dataclass(frozen=True, kw_only=True)
class FailedRepository:
    """A repository that could not be read; its rows stay as they are."""

    wanted: WantedRepository
    reason: Reason
    cost: Cost = Cost()


@dataclass(frozen=True, kw_only=True)
class UnitResult:
    """Everything a unit found out, to be published in one transaction."""

    unit: int
    attempt: int
    began: dt.datetime
    read: Sequence[ReadRepository] = ()
    failed: Sequence[FailedRepository] = ()
    requests: int = 0

    @property
    def wanted(self) -> list[WantedRepository]:
        """All its repositories."""
        return [*(r.wanted for r in self.read), *(f.wanted for f in self.failed)]


@dataclass(frozen=True, kw_only=True)
class Published:
    """What publishing a unit left to do."""

    run_id: str
    # The run has nothing left but its end.
    ready: bool
    # Units of the same repositories that waited for this one and may be read now.
    released: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class _FencedUnit:
    """A unit under lock, its attempt still the current one."""

    run_id: str
    registry_id: str
    hinted: bool
    listed: bool
    counted: bool
    began_at: dt.datetime


@dataclass(frozen=True)
class _Stored:
    """What the store knew of a repository when its row was locked."""

    live_images: int
    held_images: int
    empty_seen_at: dt.datetime | None
    is_new: bool
    was_retired: bool
    is_read: bool
    referrers_read: bool


@dataclass(kw_only=True)
class Tally:
    """What one transaction adds to its run's counters."""

    units_done: int = 0
    repositories_done: int = 0
    repositories_failed: int = 0
    images: int = 0
    requests: int = 0
    added: int = 0
    moved: int = 0
    retired: int = 0
    restored: int = 0
    held: int = 0
    struck: int = 0
    flickers: int = 0
    settled: int = 0  # repositories whose own row changed
    arrived: int = 0  # images of repositories never read before, which no row of ``change`` tells
    attached: int = 0  # what came to belong to images, or ceased to
    reasons: list[Any] = field(default_factory=list)

    def parameters(self) -> dict[str, Any]:
        """The counters as parameters of ``count_into_run``."""
        return {**self.__dict__, "reasons": Jsonb(self.reasons)}


async def publish_unit(tx: Connection, project_id: str, result: UnitResult) -> Published:
    """Publish what a unit read and mark it done.

    Raises:
        FencedError: another attempt has taken the unit over, or it is done already.
    """
    unit = await _fence(tx, result)
    scope = {"project": project_id, "registry": unit.registry_id, "run": unit.run_id}
    tally = Tally(units_done=1, requests=result.requests)
    await prepare_workspace(tx)
    stored = await _lock_repositories(tx, result)
    overtaken = await _overtaken(tx, scope, unit, result, stored)
    read = [r for r in result.read if r.wanted.id not in overtaken]
    failed: Sequence[FailedRepository] = [f for f in result.failed if f.wanted.id not in overtaken]
    await _publish_read(tx, scope, read, stored, tally, began=result.began)
    if not unit.listed:
        failed = await _forget_unknown(tx, failed)
    await _mark_failed(tx, failed, tally)
    tally.repositories_done += len(overtaken)
    if not unit.counted:
        # Another unit of the run answers for these repositories.
        tally.repositories_done = tally.images = 0
    await tx.execute(_SQL["finish_unit"], {"unit": result.unit})
    again = await _read_again(tx, scope, unit, list(overtaken.values()))
    ready = await conclude(tx, scope, tally)
    # Only now, with the run's row locked, can no hint be about to wait for this unit.
    cursor = await tx.execute(_HINTS["release"], {"run": unit.run_id, "unit": result.unit})
    released = [row[0] for row in await cursor.fetchall()]
    return Published(run_id=unit.run_id, ready=ready, released=[*again, *released])


async def _lock_repositories(tx: Connection, result: UnitResult) -> dict[int, _Stored]:
    ids = [wanted.id for wanted in result.wanted]
    cursor = await tx.execute(_SQL["lock_repositories"], {"repositories": ids})
    return {row[0]: _Stored(*row[1:]) for row in await cursor.fetchall()}


async def _overtaken(
    tx: Connection,
    scope: Mapping[str, Any],
    unit: _FencedUnit,
    result: UnitResult,
    stored: Mapping[int, _Stored],
) -> dict[int, WantedRepository]:
    """Repositories that somebody else has read and published since this unit began.

    Of two readings that overlap nobody can say which saw more, so this one counts for nothing and
    the repository is read again. A failure published meanwhile overtakes nothing.
    """
    cursor = await tx.execute(
        _HINTS["overtaken"],
        {
            **scope,
            "unit": result.unit,
            "began_at": unit.began_at,
            "hinted": unit.hinted,
            "repositories": list(stored),
        },
    )
    others = {row[0] for row in await cursor.fetchall()}
    return {w.id: w for w in result.wanted if w.id in others and stored[w.id].is_read}


async def _read_again(
    tx: Connection, scope: Mapping[str, Any], unit: _FencedUnit, wanted: Sequence[WantedRepository]
) -> list[int]:
    """Make a unit for each repository whose reading was overtaken."""
    made = []
    for repository in wanted:
        plain = WantedRepository(
            id=repository.id, namespace=repository.namespace, name=repository.name
        )
        cursor = await tx.execute(
            _HINTS["insert_unit"],
            {
                **scope,
                "repository_ids": [plain.id],
                "repositories": Jsonb(msgspec.to_builtins([plain])),
                "listed": unit.listed,
                "counted": False,
                "waits_for": None,
            },
        )
        row = await cursor.fetchone()
        made.append(row[0] if row else 0)
    if made:
        await tx.execute(_HINTS["grow_run"], {**scope, "units": len(made), "repositories": 0})
    return made


async def unknown_digests(
    ask: Ask, project_id: str, registry_id: str, digests: Sequence[str]
) -> list[str]:
    """Those of the digests that the store cannot describe yet."""
    values = {"project": project_id, "registry": registry_id, "digests": list(digests)}
    return [row[0] for row in await rows_of(ask, _SQL["unknown_digests"], values)]


async def prepare_workspace(tx: Connection) -> None:
    """Make the connection's temporary tables, once per connection."""
    cursor = await tx.execute("SELECT to_regclass('pg_temp.absent') IS NULL")
    row = await cursor.fetchone()
    if row is not None and row[0]:
        await tx.execute(_SQL["workspace"])


async def _fence(tx: Connection, result: UnitResult) -> _FencedUnit:
    cursor = await tx.execute(_SQL["fence_unit"], {"unit": result.unit, "attempt": result.attempt})
    row = await cursor.fetchone()
    if row is None:
        raise FencedError(f"unit {result.unit}, attempt {result.attempt}")
    return _FencedUnit(
        run_id=str(row[0]),
        registry_id=str(row[1]),
        hinted=row[2],
        listed=row[3],
        counted=row[4],
        began_at=row[5],
    )


async def _forget_unknown(
    tx: Connection, failed: Sequence[FailedRepository]
) -> Sequence[FailedRepository]:
    """Put aside names that a hint brought and the registry does not know; returns the others."""
    missing = [f.wanted.id for f in failed if f.reason.code == MissingError.code]
    if not missing:
        return failed
    cursor = await tx.execute(_HINTS["forget_unknown"], {"repositories": missing})
    unknown = {row[0] for row in await cursor.fetchall()}
    return [f for f in failed if f.wanted.id not in unknown]


async def _publish_read(
    tx: Connection,
    scope: Mapping[str, Any],
    read: Sequence[ReadRepository],
    stored: Mapping[int, _Stored],
    tally: Tally,
    *,
    began: dt.datetime,
) -> None:
    if not read:
        return
    ids = [repository.wanted.id for repository in read]
    known = [i for i in ids if not stored[i].is_new]
    returned = [i for i in ids if stored[i].was_retired]
    arrived, listed = _parted(read, lambda r: stored[r.wanted.id].is_new and r.tells_all)
    new = [r.wanted.id for r in listed if stored[r.wanted.id].is_new]
    await add_platforms(tx, scope, _indexes(read))
    await _add_arrived(tx, scope, arrived, tally)
    await _load(tx, {**scope, "repositories": [r.wanted.id for r in listed]}, listed)
    if new:
        await tx.execute(_SQL["add_new"], {**scope, "new": new})
    empty = await _level(tx, {**scope, "repositories": known}, read, stored, tally)
    if returned:
        await tx.execute(_SQL["forget_hidden"], {"repositories": returned})
    cursor = await tx.execute(
        _SQL["settle_repositories"],
        {
            "repositories": ids,
            "new": new,
            "known": known,
            "fingerprints": [r.wanted.fingerprint for r in read],
            "requests": [r.cost.requests for r in read],
            "read_ms": [r.cost.milliseconds for r in read],
            "came_up_empty": empty,
            "short": [r.wanted.id for r in read if r.is_to_be_read_again],
            "referrers_read": [r.referrers_read for r in read],
            "stood": [r.wanted.id for r in read if r.wanted.stood],
            "began": began,
        },
    )
    tally.settled += cursor.rowcount
    tally.attached += await _attach(tx, scope, read, stored)
    tally.reasons += [
        msgspec.to_builtins(r.attached.unread) for r in read if r.attached and r.attached.unread
    ]
    tally.repositories_done += len(read)
    tally.images += sum(r.rows for r in read)


def _parted(values: Iterable[T], which: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    """Part those that are so from those that are not."""
    parts: tuple[list[T], list[T]] = ([], [])
    for value in values:
        parts[not which(value)].append(value)
    return parts


async def _add_arrived(
    tx: Connection, scope: Mapping[str, Any], read: Sequence[ReadRepository], tally: Tally
) -> None:
    """Add what repositories never read before have; ``arrival`` keeps it until it is told."""
    if not any(repository.tags for repository in read):
        return
    numbered = ((n, *row) for n, row in enumerate(_incoming_rows(read), start=1))
    await _copy(tx, "copy_arrival", _ARRIVAL_TYPES, numbered)
    cursor = await tx.execute(_SQL["add_arrived"], scope)
    tally.arrived += cursor.rowcount


async def _attach(
    tx: Connection,
    scope: Mapping[str, Any],
    read: Sequence[ReadRepository],
    stored: Mapping[int, _Stored],
) -> int:
    told = {r.wanted.id: r.attached for r in read if r.attached is not None}
    abandoned = {
        r.wanted.id: attachments.NOTHING
        for r in read
        if r.attached is None and stored[r.wanted.id].referrers_read
    }
    return await attachments.publish(tx, scope, {**told, **abandoned})


async def _load(
    tx: Connection, parameters: Mapping[str, Any], read: Sequence[ReadRepository]
) -> None:
    if not read:
        return
    await copy_incoming(tx, _incoming_rows(read))
    listings = [r.listing for r in read if r.listing is not None]
    if listings:
        await tx.execute(_SQL["take_staged"], {"listings": listings})
    if listings or any(t.image is None for r in read for t in r.tags):
        await tx.execute(_SQL["fill_known"], parameters)


async def _level(
    tx: Connection,
    parameters: Mapping[str, Any],
    read: Sequence[ReadRepository],
    stored: Mapping[int, _Stored],
    tally: Tally,
) -> list[int]:
    """Bring repositories that were read before level. Returns those that came up empty."""
    if not parameters["repositories"]:
        return []
    # The planner knows nothing of a fresh temporary table, and a wrong guess costs seconds.
    await tx.execute("ANALYZE incoming")
    await tx.execute(_SQL["merge"], parameters)
    return await _retire_or_hold(tx, parameters, read, stored, tally)


async def copy_incoming(tx: Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Copy rows of ``incoming_row`` into the connection's temporary table."""
    await _copy(tx, "copy_incoming", _INCOMING_TYPES, rows)


async def add_platforms(
    tx: Connection, parameters: Mapping[str, Any], indexes: Sequence[Image]
) -> None:
    """Store the children of indexes that the store does not know yet."""
    if not indexes:
        return
    rows = [row for image in indexes for row in _platform_rows(image)]
    await _copy(tx, "copy_incoming_platform", _PLATFORM_TYPES, rows)
    await tx.execute(_SQL["add_platforms"], parameters)


async def _copy(
    tx: Connection, query: str, types: list[str], rows: Iterable[Sequence[Any]]
) -> None:
    async with tx.cursor() as cursor, cursor.copy(_SQL[query]) as copy:
        copy.set_types(types)
        for row in rows:
            await copy.write_row(row)


def _incoming_rows(read: Sequence[ReadRepository]) -> Iterable[Sequence[Any]]:
    for repository in read:
        # The last one wins where a listing names a tag twice.
        for tag in {t.tag or "@" + t.digest: t for t in repository.tags}.values():
            yield incoming_row(repository.wanted.id, tag)


def incoming_row(repository_id: int, tag: TagRef) -> Sequence[Any]:
    """One row of ``incoming``; the image's columns are empty where the store knows the digest."""
    image = tag.image
    if image is None:
        return (repository_id, tag.tag, tag.digest, *[None] * 6, tag.updated_at)
    return (
        repository_id,
        tag.tag,
        tag.digest,
        image.image_id,
        image.media_type,
        image.artifact_type,
        image.is_index,
        image.size,
        image.created_at,
        tag.updated_at,
    )


def _indexes(read: Sequence[ReadRepository]) -> list[Image]:
    return [
        tag.image
        for repository in read
        for tag in repository.tags
        if tag.image is not None and tag.image.platforms
    ]


def _platform_rows(image: Image) -> Iterable[Sequence[Any]]:
    for position, child in enumerate(image.platforms):
        yield (
            image.digest,
            position,
            child.digest,
            child.os,
            child.architecture,
            child.variant,
            child.size,
            child.image_id,
        )


async def _retire_or_hold(
    tx: Connection,
    parameters: Mapping[str, Any],
    read: Sequence[ReadRepository],
    stored: Mapping[int, _Stored],
    tally: Tally,
) -> list[int]:
    """Retire what the listings lack, within the budget. Returns the repositories found empty."""
    await tx.execute(_SQL["find_absent"], parameters)
    empty = [r.wanted.id for r in read if r.rows == 0 and stored[r.wanted.id].live_images > 0]
    doubtful = {r.wanted.id for r in read if r.wanted.id in empty and not _agreed(r, stored)}
    tally.held += await keep_held(tx, decided=[r for r in empty if r not in doubtful])
    first_looked_at = [r.wanted.id for r in read if r.wanted.id not in doubtful]
    await strike(tx, {**parameters, "repositories": first_looked_at}, tally)
    cursor = await tx.execute(_SQL["count_absent"])
    absent = {row[0]: row[1] for row in await cursor.fetchall()}
    if not absent:
        return empty
    sure = sum(count for repository, count in absent.items() if repository not in doubtful)
    run = {**parameters, "repositories": [r for r in absent if r in doubtful]}
    await _hold(tx, run, tally)
    certain = [r for r in absent if r not in doubtful]
    await retire_within_budget(tx, {**parameters, "repositories": certain}, sure, tally)
    return empty


def _agreed(repository: ReadRepository, stored: Mapping[int, _Stored]) -> bool:
    """Whether a second signal says that a repository which came up empty is empty."""
    if repository.wanted.images == 0:
        return True
    if repository.unknown:
        # A lost permission looks the same, today and tomorrow: only a person can tell.
        return False
    seen = stored[repository.wanted.id].empty_seen_at
    return seen is not None and (dt.datetime.now(dt.UTC) - seen).total_seconds() >= SECOND_LOOK_S


async def strike(tx: Connection, parameters: Mapping[str, Any], tally: Tally) -> None:
    """Where a source answers inconsistently, let what is absent for the first time stay listed."""
    cursor = await tx.execute("SELECT EXISTS (SELECT FROM absent)")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return
    cursor = await tx.execute(_SQL["has_two_strikes"], {**parameters, "flickers": FLICKERS})
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return
    cursor = await tx.execute(_SQL["strike"], parameters)
    tally.struck += cursor.rowcount


async def hide(tx: Connection, scope: Mapping[str, Any], repositories: Sequence[int]) -> int:
    """Take repositories that a filter leaves out off the list; returns how many images.

    They are not gone: their ids, their history and, once they are wanted again, their rows go on.
    """
    parameters = {**scope, "repositories": sorted(repositories)}
    await tx.execute(_SQL["lock_repositories"], parameters)
    await prepare_workspace(tx)
    await tx.execute(_RUNS["absent_images"], parameters)
    cursor = await tx.execute(_SQL["hide"], parameters)
    hidden = cursor.rowcount
    await tx.execute(_RUNS["retire_repositories"], parameters)
    await conclude(tx, scope, Tally())
    return hidden


async def keep_held(tx: Connection, *, decided: Sequence[int]) -> int:
    """Leave rows held before to whoever accepts them; returns how many are left so.

    ``decided`` are repositories whose emptiness a second listing has confirmed meanwhile.
    """
    cursor = await tx.execute(_SQL["keep_held"], {"decided": list(decided)})
    return cursor.rowcount


async def retire_within_budget(
    tx: Connection, parameters: Mapping[str, Any], count: int, tally: Tally
) -> None:
    """Retire the rows of ``absent`` in these repositories, or hold them all.

    The run's row is locked first, so that concurrent batches share one budget.
    """
    if not count:
        return
    cursor = await tx.execute(_SQL["lock_run"], parameters)
    row = await cursor.fetchone()
    retired, budget, holds_everything = row if row is not None else (0, 0, True)
    if holds_everything or retired + count > budget:
        await _hold(tx, parameters, tally)
    else:
        await tx.execute(_SQL["retire"], parameters)


async def _hold(tx: Connection, parameters: Mapping[str, Any], tally: Tally) -> None:
    repositories = parameters["repositories"]
    if not repositories:
        return
    await tx.execute(_SQL["hold"], parameters)
    cursor = await tx.execute(
        "SELECT count(*) FROM absent WHERE repository_id = ANY(%s)", (repositories,)
    )
    row = await cursor.fetchone()
    tally.held += row[0] if row else 0


async def _mark_failed(tx: Connection, failed: Sequence[FailedRepository], tally: Tally) -> None:
    if not failed:
        return
    reasons = [msgspec.to_builtins(f.reason) for f in failed]
    await tx.execute(
        _SQL["mark_failed"],
        {
            "repositories": [f.wanted.id for f in failed],
            "reasons": [Jsonb(reason) for reason in reasons],
            "requests": [f.cost.requests for f in failed],
            "read_ms": [f.cost.milliseconds for f in failed],
        },
    )
    tally.repositories_failed += len(failed)
    tally.reasons.extend(reasons)


async def conclude(tx: Connection, scope: Mapping[str, Any], tally: Tally) -> bool:
    """The last steps of a publishing transaction: count, number, tell.

    The run's row comes before the feed's, always, so that two batches cannot wait for each other.
    Returns whether the run has nothing left but its end.

    Raises:
        FencedError: the run is over; nothing of this transaction may stay.
    """
    cursor = await tx.execute(_SQL["count_changes"])
    changes: dict[str, int] = {}
    for kind, count, flickered in await cursor.fetchall():
        changes[kind] = count
        tally.flickers += flickered
    if not changes.keys().isdisjoint({"moved", "retired", "hidden"}):
        await attachments.forget_gone(tx, scope)
    if tally.struck:
        tally.reasons.append(msgspec.to_builtins(_second_look(tally.struck)))
    tally.added += changes.get("added", 0) + tally.arrived
    tally.moved += changes.get("moved", 0)
    tally.retired += changes.get("retired", 0)
    tally.restored += changes.get("restored", 0) + changes.get("shown", 0)
    cursor = await tx.execute(_SQL["count_into_run"], {**scope, **tally.parameters()})
    row = await cursor.fetchone()
    if row is None and scope["run"] is not None:
        # The run was ended while this batch waited for its rows: a registry that was removed.
        raise FencedError(f"run {scope['run']} is over")
    touched = changes.pop("touched", 0)
    if events := tally.arrived + sum(changes.values()):
        await _tell(tx, scope, tally.arrived, events, changes)
    elif touched or tally.settled or tally.repositories_failed or tally.attached:
        await tx.execute(_SQL["touch_feed"], scope)
    return bool(row and row[0])


async def _tell(
    tx: Connection, scope: Mapping[str, Any], arrived: int, events: int, changes: Mapping[str, int]
) -> None:
    """Take so many numbers and write the events under them, those of ``arrival`` first."""
    cursor = await tx.execute(_SQL["take_numbers"], {**scope, "count": events})
    last = await cursor.fetchone()
    if last is None:
        raise LookupError(f"project {scope['project']} has no feed")
    first = {**scope, "base": last[0] - events, "at": last[1]}
    if arrived:
        await tx.execute(_SQL["tell_arrived"], first)
    numbers = {**first, "base": first["base"] + arrived}
    if not changes.keys().isdisjoint({"moved", "retired", "hidden"}):
        await tx.execute(_SQL["close_versions"], numbers)
    if changes:
        await tx.execute(_SQL["write_events"], numbers)


def _second_look(images: int) -> Reason:
    return Reason(
        code="second_look",
        message=f"{images} images are absent for the first time; the registry has answered"
        " inconsistently before, so a second complete listing decides",
    )
