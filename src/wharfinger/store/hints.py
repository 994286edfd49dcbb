"""Hints: repositories that a notification names, each read once more; the listing decides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from psycopg.types.json import Jsonb

from wharfinger.domain.errors import NotFoundError
from wharfinger.domain.model import RepositoryName
from wharfinger.store.database import Connection
from wharfinger.store.named_sql import queries
from wharfinger.store.writing import WantedRepository

_SQL = queries("hints")
_RUNS = queries("runs")


@dataclass(frozen=True, kw_only=True)
class HintedRegistry:
    """Whose notifications a token stands for."""

    project_id: str
    registry_id: str
    kind: str
    options: Mapping[str, Any]
    include: Sequence[str]
    exclude: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class HintedRun:
    """The run that reads what was named.

    ``start``: it is new and nothing stands before it. ``units`` may be read at once.
    """

    id: str
    start: bool
    units: Sequence[int]


async def set_token(tx: Connection, registry_id: str, token: str | None) -> None:
    """Let a registry's notifications in under a token; ``None`` keeps all of them out."""
    digest = None if token is None else _digest(token)
    await tx.execute(_SQL["set_token"], {"registry": registry_id, "digest": digest})


async def find_token(tx: Connection, token: str) -> HintedRegistry | None:
    """Whose token this is, in whatever tenant."""
    cursor = await tx.execute(_SQL["find_token"], {"digest": _digest(token)})
    row = await cursor.fetchone()
    if row is None:
        return None
    return HintedRegistry(
        project_id=row[0],
        registry_id=str(row[1]),
        kind=row[2],
        options=row[3],
        include=row[4],
        exclude=row[5],
    )


async def receive(
    tx: Connection, project_id: str, registry_id: str, names: Sequence[RepositoryName]
) -> HintedRun | None:
    """Have the named repositories read by the run that is going, else by one that is queued.

    A repository whose reading has not begun is not queued again, and one that is being read is
    read once more when that has ended: the notification may be of something it did not see.

    Returns ``None`` where nothing is named. The caller starts the run or enqueues its units in the
    same transaction.

    Raises:
        NotFoundError: the registry has been removed.
    """
    scope: dict[str, Any] = {"project": project_id, "registry": registry_id}
    await tx.execute(_RUNS["lock_registry"], scope)
    cursor = await tx.execute(_SQL["note"], scope)
    if await cursor.fetchone() is None:
        raise NotFoundError(f"there is no registry {registry_id}")
    if not names:
        return None
    columns = {
        **scope,
        "namespaces": [n.namespace for n in names],
        "names": [n.name for n in names],
        "owners": [""] * len(names),
        "shared": [""] * len(names),
    }
    await tx.execute(_RUNS["new_repositories"], columns)
    run_id, state, kind = await _open_run(tx, scope)
    scope["run"] = run_id
    cursor = await tx.execute(_SQL["named"], {**columns, "run": run_id})
    running = state == "running"
    made = [
        await _insert(tx, scope, row, counted=running and kind == "hint")
        for row in await cursor.fetchall()
        if row[4] != 0
    ]
    counts = {"units": len(made), "repositories": len(made) if running and kind == "hint" else 0}
    await tx.execute(_SQL["grow_run"], {**scope, **counts})
    ready = [unit for unit, waits in made if not waits] if running else []
    return HintedRun(id=run_id, start=state == "new", units=ready)


async def begin_run(tx: Connection, run_id: str) -> None:
    """Begin a run of hints: what it has to read is known already."""
    await tx.execute(_SQL["begin_run"], {"run": run_id})
    await tx.execute(_SQL["count_units"], {"run": run_id})


async def _open_run(tx: Connection, scope: dict[str, Any]) -> tuple[str, str, str]:
    cursor = await tx.execute(_SQL["open_run"], scope)
    row = await cursor.fetchone()
    if row is not None:
        return str(row[0]), row[1], row[2]
    cursor = await tx.execute(_SQL["queue_run"], scope)
    row = await cursor.fetchone()
    if row is None:  # An INSERT … RETURNING of one row returns one row.
        raise AssertionError("the database returned no row")
    return str(row[0]), "new", "hint"


async def _insert(
    tx: Connection, scope: dict[str, Any], row: Sequence[Any], *, counted: bool
) -> tuple[int, bool]:
    wanted = WantedRepository(id=row[0], namespace=row[1], name=row[2])
    waits_for = row[3]
    cursor = await tx.execute(
        _SQL["insert_unit"],
        {
            **scope,
            "repository_ids": [wanted.id],
            "repositories": Jsonb(msgspec.to_builtins([wanted])),
            "listed": False,
            "counted": counted,
            "waits_for": waits_for,
        },
    )
    made = await cursor.fetchone()
    return (made[0] if made else 0), waits_for is not None


def _digest(token: str) -> bytes:
    # A token has 256 bits of entropy, so nothing slower is needed.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
