"""Reads what was: the feed, the list as of a number, lives of images, runs; and forgets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from psycopg import sql
from psycopg.rows import dict_row

from wharfinger.domain.errors import HistoryForgottenError, InvalidParameterError, NotFoundError
from wharfinger.domain.history import (
    Change,
    ChangeFilter,
    Difference,
    Life,
    Moment,
    PastFilter,
    PastImage,
    RegistryVerdict,
    RunRecord,
    Version,
)
from wharfinger.domain.model import Caller, Reason, VerdictState
from wharfinger.store.database import Ask, Connection
from wharfinger.store.named_sql import queries
from wharfinger.store.registries import seen_by

_SQL = queries("history")


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tenant's history ends and where it begins."""

    newest: int
    horizon_seq: int
    horizon_at: dt.datetime | None


async def feed_of(tx: Connection, caller: Caller) -> Feed:
    """The newest number, and the horizon.

    Raises:
        NotFoundError: there is no such project.
    """
    cursor = await tx.execute(_SQL["feed"], {"project": caller.project_id})
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"there is no project {caller.project_id!r}")
    return Feed(newest=row[0], horizon_seq=row[1], horizon_at=row[2])


async def check_horizon(tx: Connection, caller: Caller, seq: int) -> None:
    """See that everything after ``seq`` is still known.

    Called after the rows were read: whatever was forgotten before they were, is told now.

    Raises:
        HistoryForgottenError: some of it is forgotten.
    """
    _check_horizon((await feed_of(tx, caller)).horizon_seq, seq)


def _check_horizon(horizon: int, seq: int) -> None:
    if seq < horizon:
        raise HistoryForgottenError(
            f"history before number {horizon} is forgotten, and {seq} was asked for; read"
            " the whole list again and go on from its as_of"
        )


async def moment_at(ask: Ask, caller: Caller, at: dt.datetime) -> Moment:
    """The moment of a time.

    Raises:
        HistoryForgottenError: it lies before the horizon.
        NotFoundError: there is no such project.
    """
    values = {"project": caller.project_id, "at": at}
    given, feed = await ask(_queries("seq_at", "feed"), values)
    if not feed:
        raise NotFoundError(f"there is no project {caller.project_id!r}")
    horizon_at = feed[0][2]
    if horizon_at is not None and at < horizon_at:
        raise HistoryForgottenError(
            f"at: history before {horizon_at:%Y-%m-%dT%H:%M:%S.%fZ} is forgotten"
        )
    return Moment(seq=given[0][0], at=at)


async def moment_of(tx: Connection, caller: Caller, seq: int) -> Moment:
    """The last moment at which ``seq`` was the newest number.

    Raises:
        InvalidParameterError: no event has that number yet.
        HistoryForgottenError: it lies before the horizon.
    """
    feed = await feed_of(tx, caller)
    if seq > feed.newest:
        raise InvalidParameterError("as_of", f"must be at most {feed.newest}, the newest number")
    cursor = await tx.execute(_SQL["time_of"], {"project": caller.project_id, "seq": seq + 1})
    row = await cursor.fetchone()
    await check_horizon(tx, caller, seq)
    if row is None:
        return Moment(seq=seq, at=dt.datetime.now(dt.UTC))
    ended: dt.datetime = row[0]
    return Moment(seq=seq, at=ended - dt.timedelta(microseconds=1))


async def changes(
    tx: Connection, caller: Caller, *, after: int, newest: int, limit: int
) -> tuple[Change, ...]:
    """The events with numbers above ``after``, up to ``newest``, oldest first."""
    cursor = await tx.execute(
        _SQL["changes"],
        {**seen_by(caller), "after": after, "newest": newest, "limit": limit},
        prepare=False,
    )
    return tuple(_struct(Change, row) for row in await cursor.fetchall())


async def recent_changes(
    tx: Connection, caller: Caller, wanted: ChangeFilter, *, low: int, before: int, limit: int
) -> tuple[Change, ...]:
    """The events with numbers above ``low`` and below ``before``, newest first."""
    values = {
        **seen_by(caller),
        **msgspec.structs.asdict(wanted),
        "low": low,
        "before": before,
        "limit": limit,
    }
    cursor = await tx.execute(_SQL["recent_changes"], values, prepare=False)
    return tuple(_struct(Change, row) for row in await cursor.fetchall())


async def list_as_of(
    ask: Ask, caller: Caller, moment: Moment, wanted: PastFilter, *, after: int, limit: int
) -> tuple[tuple[PastImage, ...], tuple[RegistryVerdict, ...]]:
    """The images listed at a moment whose ids follow ``after``, by id, and the registries of then.

    Each registry with what its last run had told by then.

    Raises:
        HistoryForgottenError: the moment lies before the horizon.
    """
    name = wanted.name_contains
    values = {
        **seen_by(caller),
        **msgspec.structs.asdict(wanted),
        "name_pattern": None if name is None else _pattern(name),
        "at": moment.at,
        "seq": moment.seq,
        "after": after,
        "limit": limit,
    }
    images, registries, feed = await ask(_queries("images_as_of", "verdicts_then", "feed"), values)
    # Asked after the rows: what was forgotten before they were read, is told now.
    _check_horizon(feed[0][1], moment.seq)
    return (
        tuple(_struct(PastImage, row) for row in images),
        tuple(_verdict_then(row) for row in registries),
    )


def _queries(*names: str) -> list[sql.SQL]:
    return [sql.SQL(_SQL[name]) for name in names]


async def verdicts_now(tx: Connection, caller: Caller) -> tuple[RegistryVerdict, ...]:
    """Every registry with its verdict, by name."""
    cursor = await tx.execute(_SQL["verdicts_now"], seen_by(caller))
    return tuple(
        RegistryVerdict(
            **_cost(row),
            verdict=VerdictState(row[3]),
            repositories=row[11],
            images=row[12],
            held=row[13],
        )
        for row in await cursor.fetchall()
    )


async def life_of(tx: Connection, caller: Caller, image: int) -> Life:
    """One image, digest by digest.

    Raises:
        NotFoundError: the tenant never had an image of that id.
    """
    values = {**seen_by(caller), "image": image}
    cursor = await tx.execute(_SQL["image"], values)
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"image_id: there is no image {image}")
    cursor = await tx.execute(_SQL["versions"], values)
    versions = tuple(_struct(Version, v) for v in await cursor.fetchall())
    life: Life = _struct(Life, [*row, versions])
    return life


async def find_image(tx: Connection, caller: Caller, *, registry: str, path: str, tag: str) -> int:
    """The id of a tag, live or gone.

    Raises:
        NotFoundError: it was never seen.
    """
    values = {**seen_by(caller), "registry": registry, "path": path, "tag": tag}
    cursor = await tx.execute(_SQL["find_image"], values)
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"{path}:{tag} was never seen in the registry {registry!r}")
    return int(row[0])


async def runs(
    tx: Connection,
    caller: Caller,
    *,
    run: str | None = None,
    registry: str | None = None,
    outcome: str | None = None,
    before: tuple[dt.datetime, str] | None = None,
    limit: int = 1,
) -> tuple[RunRecord, ...]:
    """Runs, newest first; ``before`` is (queued at, id) of the last one that was seen.

    ``outcome`` is how they ended, or the state of those that have not.
    """
    values = {
        **seen_by(caller),
        "run": run,
        "registry": registry,
        "outcome": outcome,
        "queued_at": before and before[0],
        "last": before and before[1],
        "limit": limit,
    }
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["runs"], values)
        return tuple(
            RunRecord(**{**row, "reasons": _reasons(row["reasons"])})
            for row in await cursor.fetchall()
        )


async def differences(
    tx: Connection, caller: Caller, registry: str, span: tuple[int, int], *, after: int, limit: int
) -> tuple[Difference, ...]:
    """What changed in a registry from one event number to another, in net; by image id."""
    low, high = sorted(span)
    values = {
        **seen_by(caller),
        "registry": registry,
        "low": low,
        "high": high,
        "after": after,
        "limit": limit,
    }
    cursor = await tx.execute(_SQL["differences"], values, prepare=False)
    backwards = span[0] > span[1]
    return tuple(_difference(row, backwards=backwards) for row in await cursor.fetchall())


async def prune(tx: Connection, before: dt.datetime, *, most: int) -> int:
    """Forget events before a time, and the states they ended, oldest first; returns how many.

    No more than ``most`` at a time, since they go in one transaction that holds the feed.
    """
    cursor = await tx.execute(_SQL["prune"], {"before": before, "most": most})
    row = await cursor.fetchone()
    return int(row[0]) if row is not None else 0


async def prune_runs(tx: Connection, before: dt.datetime) -> int:
    """Forget runs that ended before a time and that no verdict rests on; returns how many."""
    values = {"before": before}
    await tx.execute(_SQL["prune_task_runs"], values)
    cursor = await tx.execute(_SQL["prune_runs"], values)
    forgotten = cursor.rowcount
    await tx.execute(_SQL["prune_tasks"], values)
    return forgotten


async def is_due(tx: Connection, project_id: str) -> bool:
    """Whether the tenant's history was last pruned more than a day ago."""
    cursor = await tx.execute(_SQL["is_due"], {"project": project_id})
    row = await cursor.fetchone()
    return bool(row and row[0])


def _struct(kind: Any, row: Sequence[Any]) -> Any:
    # The columns stand in the order of the fields.
    return kind(**dict(zip(kind.__struct_fields__, row, strict=True)))


def _cost(row: Sequence[Any]) -> dict[str, Any]:
    return {
        "id": row[0],
        "name": row[1],
        "kind": row[2],
        "reasons": _reasons(row[4] or []),
        "confirmed_at": row[5],
        "read_at": row[6],
        "stale_after_s": row[7],
        "run_id": row[8],
        "requests": row[9],
        "seconds": row[10],
    }


def _verdict_then(row: Sequence[Any]) -> RegistryVerdict:
    outcome, is_stale, was_ever_listed = row[3], row[11], row[12]
    if outcome in {"complete", "held"}:
        verdict = VerdictState.STALE if is_stale else VerdictState.COMPLETE
    else:
        verdict = VerdictState.PARTIAL if was_ever_listed else VerdictState.NEVER
    return RegistryVerdict(**_cost(row), verdict=verdict)


def _difference(row: Sequence[Any], *, backwards: bool) -> Difference:
    image, namespace, name, tag, *digests = row
    before, after = reversed(digests) if backwards else digests
    change = "added" if before is None else "retired" if after is None else "moved"
    return Difference(
        id=image,
        change=change,
        namespace=namespace,
        name=name,
        tag=tag,
        digest_before=before,
        digest_after=after,
    )


def _reasons(stored: Sequence[Mapping[str, Any]]) -> tuple[Reason, ...]:
    return msgspec.convert(stored, tuple[Reason, ...])


def _pattern(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
