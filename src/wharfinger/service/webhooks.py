"""Webhooks: who is told what, and how that is kept in order."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Sequence
from typing import Protocol

import msgspec

from wharfinger.domain.errors import (
    ConflictError,
    InvalidParameterError,
    NotFoundError,
    SourceError,
)
from wharfinger.domain.labels import checked_label
from wharfinger.domain.model import OURSELVES, Caller
from wharfinger.domain.ports import Reply, Request
from wharfinger.domain.webhooks import (
    MOST_BATCH,
    MOST_WEBHOOKS,
    TEST,
    CloudEvent,
    Delivery,
    NewWebhook,
    SealedParts,
    Webhook,
    WebhookChange,
    checked_types,
    checked_url,
    encode_events,
    event_of,
    new_secret,
    sign,
)
from wharfinger.service.held import find_registry
from wharfinger.store import audit, webhooks
from wharfinger.store.database import Connection, Database
from wharfinger.store.sealing import Sealer
from wharfinger.store.webhooks import EXCERPT, Attempt, Mark, Stored

# What of an answer is read at all.
MOST_ANSWER_BYTES = 64 * 1024


class Send(Protocol):
    """Sends a request to an address that was checked, and follows no redirect."""

    async def __call__(self, request: Request, *, allow_private: bool) -> Reply:
        """Return the answer.

        Raises:
            SourceError: there is none, or the address may not be reached.
        """
        ...


class NewSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook with the secret that its receiver checks signatures by, shown once."""

    webhook: Webhook
    secret: str

    def __repr__(self) -> str:
        return f"NewSecret(webhook={self.webhook.name!r}, secret=***)"


class Webhooks:
    """The webhooks of all projects."""

    def __init__(self, database: Database, seals: Sealer, send: Send) -> None:
        self._database = database
        self._seals = seals
        self._send = send

    async def list(self, caller: Caller) -> list[Webhook]:
        """Every webhook that tells no more than the caller may see, by name."""
        async with self._database.tenant(caller.project_id) as tx:
            return await webhooks.select(tx, caller)

    async def add(
        self, caller: Caller, new: NewWebhook, *, allow_private: bool = False
    ) -> NewSecret:
        """Add a webhook that tells what happens from now on, or from a number on.

        Raises:
            NotFoundError: there is no such registry.
            InvalidParameterError: naming the parameter and what would be accepted.
            ConflictError: the name is taken, or there are as many as there may be.
        """
        webhook_id = str(uuid.uuid4())
        parts = SealedParts(
            url=checked_url(new.url, allow_private=allow_private), secret=new_secret()
        )
        async with self._database.tenant(caller.project_id) as tx:
            if await webhooks.count(tx, caller.project_id) >= MOST_WEBHOOKS:
                raise ConflictError(f"a project has at most {MOST_WEBHOOKS} webhooks")
            stored = await _stored(tx, caller, new, allow_private=allow_private)
            sealed = webhooks.sealed_parts(self._seals, caller.project_id, webhook_id, parts)
            await webhooks.add(tx, caller, webhook_id, stored, sealed)
            if new.from_number is not None:
                await _move(tx, caller, webhook_id, new.from_number)
            made = await webhooks.find(tx, caller, webhook_id)
            await _record(tx, caller, "webhook.add", made)
        return NewSecret(webhook=made, secret=parts.secret)

    async def change(self, caller: Caller, webhook: str, change: WebhookChange) -> Webhook:
        """Change a webhook, found by name or id; returns it as it is now.

        Raises:
            NotFoundError: there is no such webhook, or registry.
            InvalidParameterError: naming the parameter and what would be accepted.
            ConflictError: the name is taken.
        """
        async with self._database.tenant(caller.project_id) as tx:
            before = await webhooks.find(tx, caller, webhook)
            sealed, may_be_private = await webhooks.sealed(tx, caller.project_id, before.id)
            parts = webhooks.opened_parts(self._seals, caller.project_id, before.id, sealed)
            # What the operator let into private networks stays there only as long as nobody else
            # says where it is.
            moves = change.url is not None and change.url != parts.url
            allow_private = may_be_private and (caller.is_operator or not moves)
            after = NewWebhook(
                name=before.name if change.name is None else change.name,
                url=parts.url if change.url is None else change.url,
                types=tuple(before.types) if change.types is None else change.types,
                registries=change.registries or (),
                pattern=before.pattern if change.pattern is None else change.pattern or None,
                labels=dict(before.labels) if change.labels is None else change.labels,
                batch=before.batch if change.batch is None else change.batch,
            )
            parts = msgspec.structs.replace(
                parts, url=checked_url(after.url, allow_private=allow_private)
            )
            stored = await _stored(tx, caller, after, allow_private=allow_private)
            if change.registries is None:
                stored = msgspec.structs.replace(stored, registries=None)
            sealed = webhooks.sealed_parts(self._seals, caller.project_id, before.id, parts)
            await webhooks.change(tx, caller.project_id, before.id, stored, sealed)
            if change.paused is not None:
                await webhooks.pause(tx, caller.project_id, before.id, paused=change.paused)
            changed = await webhooks.find(tx, caller, before.id)
            await _record(tx, caller, "webhook.set", changed)
        return changed

    async def remove(self, caller: Caller, webhook: str) -> None:
        """Remove a webhook with the log of its deliveries.

        Raises:
            NotFoundError: there is no such webhook.
        """
        async with self._database.tenant(caller.project_id) as tx:
            found = await webhooks.find(tx, caller, webhook)
            await webhooks.remove(tx, caller.project_id, found.id)
            await _record(tx, caller, "webhook.remove", found)

    async def rotate(self, caller: Caller, webhook: str, *, keep_old: dt.timedelta) -> NewSecret:
        """Make a new secret; the one before it signs beside it for a while.

        Raises:
            NotFoundError: there is no such webhook.
            InvalidParameterError: the while is longer than 30 days.
        """
        if not dt.timedelta(0) <= keep_old <= dt.timedelta(days=30):
            raise InvalidParameterError("keep_old_s", "must be 0 to 2592000 seconds")
        async with self._database.tenant(caller.project_id) as tx:
            found = await webhooks.find(tx, caller, webhook)
            sealed, is_private = await webhooks.sealed(tx, caller.project_id, found.id)
            before = webhooks.opened_parts(self._seals, caller.project_id, found.id, sealed)
            parts = SealedParts(
                url=before.url,
                secret=new_secret(),
                old_secret=before.secret if keep_old else "",
                old_until=dt.datetime.now(dt.UTC) + keep_old if keep_old else None,
            )
            stored = Stored(
                name=found.name,
                address=found.address,
                types=found.types,
                registries=None,
                pattern=found.pattern,
                labels=found.labels,
                batch=found.batch,
                allow_private_networks=is_private,
            )
            sealed = webhooks.sealed_parts(self._seals, caller.project_id, found.id, parts)
            await webhooks.change(tx, caller.project_id, found.id, stored, sealed)
            await _record(tx, caller, "webhook.rotate_secret", found)
        return NewSecret(webhook=found, secret=parts.secret)

    async def test(self, caller: Caller, webhook: str) -> Delivery:
        """Send an event that says nothing, at once, whatever state the webhook is in.

        Raises:
            NotFoundError: there is no such webhook.
        """
        async with self._database.tenant(caller.project_id) as tx:
            found = await webhooks.find(tx, caller, webhook)
            sealed, is_private = await webhooks.sealed(tx, caller.project_id, found.id)
            await _record(tx, caller, "webhook.test", found)
        parts = webhooks.opened_parts(self._seals, caller.project_id, found.id, sealed)
        event = event_of(
            caller.project_id,
            TEST,
            id=f"test-{uuid.uuid4()}",
            time=dt.datetime.now(dt.UTC),
            data={"webhook": found.name},
        )
        attempt, _ = await send_events(
            self._send, parts, [event], batch=found.batch, allow_private=is_private
        )
        attempt = msgspec.structs.replace(attempt, kind="test")
        async with self._database.tenant(caller.project_id) as tx:
            done = await webhooks.log(tx, caller.project_id, found.id, Mark(0, 0), attempt)
        if done is None:
            raise NotFoundError(f"webhook: there is no webhook {webhook!r}")
        return done

    async def deliveries(
        self, caller: Caller, webhook: str, *, before: int | None = None, limit: int
    ) -> Sequence[Delivery]:
        """Attempts, newest first; ``before`` is the id of the last one that was seen.

        Raises:
            NotFoundError: there is no such webhook.
        """
        async with self._database.tenant(caller.project_id) as tx:
            found = await webhooks.find(tx, caller, webhook)
            return await webhooks.deliveries(
                tx, caller.project_id, found.id, before=before, limit=limit
            )

    async def replay(
        self,
        caller: Caller,
        webhook: str,
        *,
        from_number: int | None = None,
        delivery: int | None = None,
    ) -> Webhook:
        """Tell everything again from an image change on, or from a delivery on.

        A number beyond those that were told passes over what lies between.

        Raises:
            NotFoundError: there is no such webhook, or delivery.
            InvalidParameterError: both are given, or neither, or no event has that number yet.
        """
        if (from_number is None) == (delivery is None):
            raise InvalidParameterError("from_number", "give it or delivery, one of them")
        async with self._database.tenant(caller.project_id) as tx:
            found = await webhooks.find(tx, caller, webhook)
            if from_number is not None:
                await _move(tx, caller, found.id, from_number)
            else:
                await _move_before(tx, caller, found.id, delivery or 0)
            moved = await webhooks.find(tx, caller, found.id)
            await _record(tx, caller, "webhook.replay", moved)
        return moved

    async def prune(self, project_id: str, *, delivery_days: int, history_days: int) -> None:
        """Forget old attempts, and notices that are as old as forgotten history."""
        async with self._database.tenant(project_id) as tx:
            await webhooks.prune(
                tx,
                project_id,
                deliveries_before=_days_ago(delivery_days),
                notices_before=_days_ago(history_days),
            )


async def send_events(
    send: Send,
    parts: SealedParts,
    events: Sequence[CloudEvent],
    *,
    batch: int,
    allow_private: bool,
    attempt: int = 1,
) -> tuple[Attempt, Reply | None]:
    """Send events once; what became of it, and the answer if there was one."""
    now = dt.datetime.now(dt.UTC)
    media_type, body = encode_events(events, batch=batch)
    first = events[0].id
    headers = sign(body, event_id=first, now=now, by=parts.secrets_at(now), media_type=media_type)
    request = Request(
        method="POST", url=parts.url, headers=headers, body=body, max_bytes=MOST_ANSWER_BYTES
    )
    began = time.monotonic()
    reply, error = None, ""
    try:
        reply = await send(request, allow_private=allow_private)
    except SourceError as exc:
        error = str(exc)
    done = Attempt(
        kind="events",
        event_id=first,
        events=len(events),
        attempt=attempt,
        status=None if reply is None else reply.status,
        error=error[:EXCERPT],
        latency_ms=round((time.monotonic() - began) * 1000),
        excerpt="" if reply is None else _excerpt(reply.body),
    )
    return done, reply


def _excerpt(body: bytes) -> str:
    text = body[: 4 * EXCERPT].decode("utf-8", "replace")
    return "".join(char for char in text if char.isprintable() or char == "\n")[:EXCERPT]


async def _stored(
    tx: Connection, caller: Caller, new: NewWebhook, *, allow_private: bool
) -> Stored:
    if not 1 <= len(new.name) <= 128 or not new.name.isprintable():
        raise InvalidParameterError("name", "must have 1 to 128 characters")
    if new.pattern is not None and not 1 <= len(new.pattern) <= 512:
        raise InvalidParameterError("pattern", "must have 1 to 512 characters")
    if not 1 <= new.batch <= MOST_BATCH:
        raise InvalidParameterError("batch", f"must be 1 to {MOST_BATCH}")
    if len(new.registries) > MOST_WEBHOOKS or len(new.labels) > 8:
        raise InvalidParameterError("registries", "must be at most 100, and labels at most 8")
    return Stored(
        name=new.name,
        address=new.url.partition("?")[0],
        types=checked_types(new.types),
        registries=[(await find_registry(tx, caller, one))[0] for one in new.registries],
        pattern=new.pattern,
        labels=dict(checked_label(key, value) for key, value in new.labels.items()),
        batch=new.batch,
        allow_private_networks=allow_private,
    )


async def _move(tx: Connection, caller: Caller, webhook_id: str, number: int) -> None:
    newest, horizon = await webhooks.newest(tx, caller.project_id)
    if not horizon < number <= newest + 1:
        raise InvalidParameterError("from_number", f"must be {horizon + 1} to {newest + 1}")
    await webhooks.move(tx, caller.project_id, webhook_id, change=number - 1)


async def _move_before(tx: Connection, caller: Caller, webhook_id: str, delivery: int) -> None:
    mark = await webhooks.mark_of(tx, caller.project_id, webhook_id, delivery)
    if mark is None:
        raise NotFoundError(f"delivery: there is no delivery {delivery} of events")
    await webhooks.move(tx, caller.project_id, webhook_id, change=mark.change, notice=mark.notice)


async def _record(tx: Connection, caller: Caller, action: str, webhook: Webhook) -> None:
    await audit.record(
        tx,
        caller,
        action,
        target=f"webhook {webhook.id}",
        name=webhook.name,
        details={
            "name": webhook.name,
            "address": webhook.address,
            "paused": webhook.state == "paused",
        },
    )


async def record_given_up(tx: Connection, webhook_id: str, reason: str) -> None:
    """Note that a webhook is told nothing any more."""
    await audit.record(
        tx,
        OURSELVES,
        "webhook.give_up",
        target=f"webhook {webhook_id}",
        details={"reason": reason},
    )


def _days_ago(days: int) -> dt.datetime | None:
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=days) if days else None
