"""Webhooks as rows: how far each receiver has been told, whose turn it is, and what came back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from psycopg.types.json import Jsonb

from wharfinger.domain.errors import ConflictError, NotFoundError
from wharfinger.domain.model import Caller
from wharfinger.domain.webhooks import Delivery, SealedParts, Webhook
from wharfinger.store.database import Connection, all_rows, first_row
from wharfinger.store.named_sql import queries
from wharfinger.store.sealing import Sealer

_SQL = queries("webhooks")

EXCERPT = 500


class Mark(NamedTuple):
    """How far a receiver has been told: the last image change, and the last notice."""

    change: int
    notice: int


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What a person can set, as it is stored; ``registries`` are ids."""

    name: str
    address: str
    types: Sequence[str]
    registries: Sequence[str] | None
    pattern: str | None
    labels: Mapping[str, str]
    batch: int
    allow_private_networks: bool

    def values(self) -> dict[str, Any]:
        """As a query wants them."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        ids = None if self.registries is None else list(self.registries)
        return {**given, "types": list(self.types), "registries": ids, "labels": Jsonb(self.labels)}


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook whose turn to deliver is ours."""

    sealed: bytes
    allow_private_networks: bool
    enterprise_projects: Sequence[str] | None
    types: Sequence[str]
    registries: Sequence[str]
    pattern: str | None
    labels: Mapping[str, str]
    batch: int
    mark: Mark
    failures: int


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt as it goes into the log."""

    kind: str
    event_id: str
    events: int
    attempt: int
    status: int | None
    error: str
    latency_ms: int
    excerpt: str


class StoredChange(NamedTuple):
    """An image change as it is read for webhooks; a name is ``None`` where it was erased."""

    seq: int
    kind: str
    at: dt.datetime
    run_id: str | None
    registry_id: str
    registry: str | None
    enterprise_project_id: str | None
    image: int
    repository_id: int
    namespace: str | None
    name: str | None
    tag: str | None
    digest_before: str | None
    digest_after: str | None


class Notice(NamedTuple):
    """What is no change of an image, and the newest change when it happened."""

    seq: int
    after_seq: int
    kind: str
    at: dt.datetime
    registry_id: str
    registry: str | None
    enterprise_project_id: str | None
    data: Mapping[str, Any]


def webhook_context(project_id: str, webhook_id: str) -> bytes:
    """What a webhook's sealed parts are bound to."""
    return f"webhook:{project_id}:{webhook_id}".encode()


def sealed_parts(seals: Sealer, project_id: str, webhook_id: str, parts: SealedParts) -> bytes:
    """Seal what of a webhook nobody may read."""
    text = msgspec.json.encode(parts).decode()
    return seals.seal(text, context=webhook_context(project_id, webhook_id))


def opened_parts(seals: Sealer, project_id: str, webhook_id: str, sealed: bytes) -> SealedParts:
    """Open what of a webhook is sealed.

    Raises:
        SetupError: the key file does not open it.
    """
    text = seals.unseal(bytes(sealed), context=webhook_context(project_id, webhook_id))
    return msgspec.json.decode(text, type=SealedParts)


# --- what people do -------------------------------------------------------------------------------


async def add(
    tx: Connection, caller: Caller, webhook_id: str, stored: Stored, sealed: bytes
) -> None:
    """Store a webhook that tells what happens from now on.

    Raises:
        ConflictError: the name is taken.
        NotFoundError: there is no such project.
    """
    every = caller.sees_every_enterprise_project or caller.is_operator
    values = {
        **stored.values(),
        **_one(caller.project_id, webhook_id),
        "sealed": sealed,
        "enterprise_projects": None if every else list(caller.enterprise_projects),
    }
    if await first_row(tx, _SQL["add"], values) is None:
        if await _value(tx, "newest", {"project": caller.project_id}) is None:
            raise NotFoundError(f"there is no project {caller.project_id!r}")
        raise ConflictError(f"name: there is a webhook {stored.name!r}")


async def select(tx: Connection, caller: Caller, webhook: str | None = None) -> list[Webhook]:
    """The webhooks that the caller may see, or one of them by its name or id; by name."""
    values = {
        "project": caller.project_id,
        "webhook": webhook,
        "every": caller.sees_every_enterprise_project or caller.is_operator,
        "enterprise_projects": list(caller.enterprise_projects),
    }
    return [Webhook(**row) for row in await all_rows(tx, _SQL["select"], values)]


async def find(tx: Connection, caller: Caller, webhook: str) -> Webhook:
    """One webhook by its name or id.

    Raises:
        NotFoundError: there is none that the caller may see.
    """
    found = await select(tx, caller, webhook)
    if not found:
        raise NotFoundError(f"webhook: there is no webhook {webhook!r}")
    # A name may look like another one's id.
    return next((one for one in found if one.id == webhook), found[0])


async def count(tx: Connection, project_id: str) -> int:
    """How many a project has."""
    return int(await _value(tx, "count", {"project": project_id}) or 0)


async def sealed(tx: Connection, project_id: str, webhook_id: str) -> tuple[bytes, bool]:
    """What is sealed of one, and whether private networks are allowed; the row is locked."""
    row = await (await tx.execute(_SQL["sealed"], _one(project_id, webhook_id))).fetchone()
    if row is None:
        raise NotFoundError(f"webhook: there is no webhook {webhook_id!r}")
    return bytes(row[0]), row[1]


async def every_sealed(tx: Connection, project_id: str) -> list[tuple[str, bytes]]:
    """What is sealed, of every webhook of a project."""
    cursor = await tx.execute(_SQL["every_sealed"], {"project": project_id})
    return [(str(row[0]), bytes(row[1])) for row in await cursor.fetchall()]


async def change(
    tx: Connection, project_id: str, webhook_id: str, stored: Stored, sealed_: bytes
) -> None:
    """Store other settings.

    Raises:
        ConflictError: the name is taken.
    """
    values = {**stored.values(), **_one(project_id, webhook_id), "sealed": sealed_}
    if await _value(tx, "is_taken", values):
        raise ConflictError(f"name: there is a webhook {stored.name!r}")
    await tx.execute(_SQL["change"], values)


async def pause(tx: Connection, project_id: str, webhook_id: str, *, paused: bool) -> None:
    """Pause one, or let it go on from where it stopped."""
    await tx.execute(_SQL["pause" if paused else "resume"], _one(project_id, webhook_id))


async def remove(tx: Connection, project_id: str, webhook_id: str) -> None:
    """Remove one with its log."""
    await tx.execute(_SQL["remove"], _one(project_id, webhook_id))


async def move(
    tx: Connection, project_id: str, webhook_id: str, *, change: int, notice: int | None = None
) -> None:
    """Have everything after a mark told again, or what lies before it not at all."""
    values = {**_one(project_id, webhook_id), "change": change, "notice": notice}
    await tx.execute(_SQL["replay"], values)


async def mark_of(tx: Connection, project_id: str, webhook_id: str, delivery: int) -> Mark | None:
    """Where a webhook stood before a delivery."""
    values = {**_one(project_id, webhook_id), "delivery": delivery}
    row = await (await tx.execute(_SQL["delivery"], values)).fetchone()
    return None if row is None else Mark(*row)


async def deliveries(
    tx: Connection, project_id: str, webhook_id: str, *, before: int | None, limit: int
) -> list[Delivery]:
    """Attempts, newest first."""
    values = {**_one(project_id, webhook_id), "before": before, "limit": limit}
    return [Delivery(**row) for row in await all_rows(tx, _SQL["deliveries"], values)]


# --- what workers do ------------------------------------------------------------------------------


async def due(tx: Connection, most: int) -> list[tuple[str, str]]:
    """(project, webhook) of those that have something to tell now."""
    cursor = await tx.execute(_SQL["due"], {"most": most})
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def claim(
    tx: Connection, project_id: str, webhook_id: str, *, lease: str, lease_s: float
) -> Claim | None:
    """Take the turn of one, or keep it; ``None`` where it is another's or nothing is to be done."""
    values = {**_one(project_id, webhook_id), "lease": lease, "lease_s": lease_s}
    row = await first_row(tx, _SQL["claim"], values)
    if row is None:
        return None
    mark = Mark(row.pop("change_seq"), row.pop("notice_seq"))
    return Claim(**{**row, "sealed": bytes(row["sealed"])}, mark=mark)


async def release(tx: Connection, project_id: str, webhook_id: str, lease: str) -> None:
    """Give a turn back."""
    await tx.execute(_SQL["release"], {**_one(project_id, webhook_id), "lease": lease})


async def advance(tx: Connection, project_id: str, webhook_id: str, lease: str, mark: Mark) -> bool:
    """Pass over what does not concern the receiver; whether the turn was still ours."""
    values = {**_one(project_id, webhook_id), "lease": lease, **mark._asdict()}
    return (await tx.execute(_SQL["advance"], values)).rowcount > 0


async def delivered(
    tx: Connection, project_id: str, webhook_id: str, lease: str, mark: Mark, *, status: int
) -> bool:
    """Note that all up to a mark was taken; whether the turn was still ours."""
    values = {**_one(project_id, webhook_id), "lease": lease, **mark._asdict(), "status": status}
    return (await tx.execute(_SQL["delivered"], values)).rowcount > 0


async def failed(
    tx: Connection,
    project_id: str,
    webhook_id: str,
    lease: str,
    *,
    status: int | None,
    wait_s: float,
    patience_days: int,
) -> str | None:
    """Note a failure and end the turn; why the webhook is given up, if it is."""
    values = {
        **_one(project_id, webhook_id),
        "lease": lease,
        "status": status,
        "gone": status == 410,
        "wait_s": wait_s,
        "patience_days": patience_days,
    }
    row = await (await tx.execute(_SQL["failed"], values)).fetchone()
    return None if row is None else row[0]


async def log(
    tx: Connection, project_id: str, webhook_id: str, mark: Mark, attempt: Attempt
) -> Delivery | None:
    """Write an attempt down; nothing where the webhook was removed meanwhile."""
    values = {
        **_one(project_id, webhook_id),
        **mark._asdict(),
        **msgspec.structs.asdict(attempt),
    }
    row = await first_row(tx, _SQL["log"], values)
    return None if row is None else Delivery(**row)


async def newest(tx: Connection, project_id: str) -> tuple[int, int]:
    """The newest number of a project, and up to which its history is forgotten."""
    row = await (await tx.execute(_SQL["newest"], {"project": project_id})).fetchone()
    return (row[0], row[1]) if row else (0, 0)


async def next_changes(
    tx: Connection, project_id: str, mark: Mark, *, newest_: int, limit: int
) -> list[StoredChange]:
    """Image changes that have not been told, in order."""
    values = {"project": project_id, "change": mark.change, "newest": newest_, "limit": limit}
    cursor = await tx.execute(_SQL["next_changes"], values, prepare=False)
    return [StoredChange(*row) for row in await cursor.fetchall()]


async def next_notices(tx: Connection, project_id: str, mark: Mark, *, limit: int) -> list[Notice]:
    """Notices that have not been told, in order."""
    values = {"project": project_id, "notice": mark.notice, "limit": limit}
    cursor = await tx.execute(_SQL["next_notices"], values)
    return [Notice(*row) for row in await cursor.fetchall()]


async def prune(
    tx: Connection,
    project_id: str,
    *,
    deliveries_before: dt.datetime | None,
    notices_before: dt.datetime | None,
) -> None:
    """Forget attempts and notices before a time each; ``None`` keeps them."""
    for query, before in (
        ("prune_deliveries", deliveries_before),
        ("prune_notices", notices_before),
    ):
        if before is not None:
            await tx.execute(_SQL[query], {"project": project_id, "before": before})


def _one(project_id: str, webhook_id: str) -> dict[str, Any]:
    return {"project": project_id, "webhook": webhook_id}


async def _value(tx: Connection, query: str, values: Mapping[str, Any]) -> Any:
    row = await (await tx.execute(_SQL[query], values)).fetchone()
    return None if row is None else row[0]
