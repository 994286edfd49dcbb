"""Rows held back from retirement, and what is decided about them; and the end of a registry."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec

from wharfinger.domain.errors import NotFoundError
from wharfinger.domain.model import Caller, HeldImage
from wharfinger.store.database import Connection, only_row
from wharfinger.store.named_sql import queries
from wharfinger.store.registries import seen_by
from wharfinger.store.writing import Tally, conclude, prepare_workspace


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows one transaction retired, and the last id it looked at if there may be more."""

    retired: int
    last: int | None


_SQL = queries("held")
_RUNS = queries("runs")
_WRITING = queries("writing")


async def find_registry(
    tx: Connection, caller: Caller, *, registry_id: str | None = None, name: str | None = None
) -> tuple[str, str]:
    """(id, name) of a registry that is given by one of them.

    Raises:
        NotFoundError: the caller may see no such registry.
    """
    values = {**seen_by(caller), "id": registry_id, "name": name}
    cursor = await tx.execute(_SQL["find_registry"], values)
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"there is no registry {name or registry_id!r}")
    return str(row[0]), row[1]


async def list_held(tx: Connection, registry_id: str, *, after: int, limit: int) -> list[HeldImage]:
    """The held rows of a registry whose ids follow ``after``, by id."""
    cursor = await tx.execute(
        _SQL["list"], {"registry": registry_id, "after": after, "limit": limit}
    )
    return [_held(row) for row in await cursor.fetchall()]


async def accept(tx: Connection, project_id: str, registry_id: str, images: Sequence[int]) -> int:
    """Retire held rows that are named; returns how many.

    A row that a newer listing contained is held no more, and is not touched.

    Raises:
        NotFoundError: a row that was named is not held; none is retired then.
    """
    await _lock_registry(tx, registry_id)
    retired, held = await _retire(tx, project_id, registry_id, images)
    missing = sorted(set(images) - held)
    if missing:
        shown = ", ".join(map(str, missing[:10]))
        raise NotFoundError(f"not held, or held no more: {shown}")
    return retired


async def accept_some(
    tx: Connection, project_id: str, registry_id: str, *, after: int, until: dt.datetime, most: int
) -> Accepted:
    """Retire up to ``most`` rows whose ids follow ``after`` and that are held since ``until``."""
    await _lock_registry(tx, registry_id)
    values = {"registry": registry_id, "after": after, "until": until, "limit": most}
    cursor = await tx.execute(_SQL["next"], values)
    images = [row[0] for row in await cursor.fetchall()]
    retired, _ = await _retire(tx, project_id, registry_id, images)
    return Accepted(retired=retired, last=images[-1] if len(images) == most else None)


async def time_of(tx: Connection) -> dt.datetime:
    """When the transaction began, by the clock of the database."""
    began: dt.datetime = (await only_row(tx, "SELECT now() AS began"))["began"]
    return began


async def _lock_registry(tx: Connection, registry_id: str) -> None:
    # The one order of locks: registry, repositories, run, feed.
    await tx.execute(_RUNS["lock_registry"], {"registry": registry_id})


async def _retire(
    tx: Connection, project_id: str, registry_id: str, images: Sequence[int]
) -> tuple[int, set[int]]:
    """Retire those of some rows that are held; returns how many, and which were held."""
    scope = {"project": project_id, "registry": registry_id, "run": None}
    wanted = {**scope, "images": list(images)}
    cursor = await tx.execute(_SQL["repositories"], wanted)
    repositories = [row[0] for row in await cursor.fetchall()]
    parameters: dict[str, Any] = {**wanted, "repositories": repositories}
    await prepare_workspace(tx)
    cursor = await tx.execute(_SQL["absent"], parameters)
    held = {row[0] for row in await cursor.fetchall()}
    if not repositories:
        return 0, held
    await tx.execute(_WRITING["retire"], parameters)
    await tx.execute(_SQL["count_repositories"], parameters)
    tally = Tally()
    await conclude(tx, scope, tally)
    await tx.execute(_SQL["count_registry"], scope)
    return tally.retired, held


async def purge(tx: Connection, caller: Caller, name: str) -> tuple[list[str], int]:
    """Erase every removed registry of a name; returns their ids, and how many images they had.

    Raises:
        NotFoundError: no registry of that name was removed.
    """
    cursor = await tx.execute(_SQL["removed_registries"], {**seen_by(caller), "name": name})
    found = [str(row[0]) for row in await cursor.fetchall()]
    if not found:
        raise NotFoundError(f"no registry named {name!r} was removed; only those can be purged")
    images = 0
    for registry_id in found:
        cursor = await tx.execute("SELECT purge_registry(%s)", (registry_id,))
        row = await cursor.fetchone()
        images += row[0] if row is not None and row[0] is not None else 0
    return found, images


def _held(row: Sequence[Any]) -> HeldImage:
    image_id, namespace, name, tag, digest, since = row
    held_since: dt.datetime = since
    return HeldImage(
        id=image_id,
        namespace=namespace,
        name=name,
        tag=tag,
        digest=digest,
        held_since=held_since,
    )
