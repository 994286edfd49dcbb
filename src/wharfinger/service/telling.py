"""Delivers what webhooks have to tell: in order, until it is taken, each at its own pace."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import itertools
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import structlog

from wharfinger.domain.errors import StoreUnavailableError
from wharfinger.domain.webhooks import FORGOTTEN, CloudEvent, event_of, wait_s
from wharfinger.service.webhooks import Send, record_given_up, send_events
from wharfinger.store import webhooks
from wharfinger.store.database import Connection, Database, within
from wharfinger.store.labels import of_repositories
from wharfinger.store.sealing import Sealer
from wharfinger.store.webhooks import Claim, Mark, Notice, StoredChange
from wharfinger.sync.together import end

log = structlog.get_logger()

POLL_S = 1.0
# Webhooks that a worker delivers at once; one slow receiver takes one of them.
AT_ONCE = 16
# After so long a turn others may have theirs.
TURN_S = 10.0
# Longer than an attempt can take. A worker that dies leaves its turns to others after that.
LEASE_S = 30.0
AFTER_OUR_FAULT_S = 300.0
# What is looked at in one go where a filter leaves most of it out.
MOST_LOOKED_AT = 500


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be sent next, and where the receiver stands once it has taken that."""

    events: Sequence[CloudEvent]
    mark: Mark


class Teller:
    """Works for the webhooks of all projects, beside any number of others that do."""

    def __init__(
        self, database: Database, seals: Sealer, send: Send, *, patience_days: int
    ) -> None:
        self._database = database
        self._seals = seals
        self._send = send
        self._patience_days = patience_days
        self._turns: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                try:
                    await self._begin_turns()
                except StoreUnavailableError as error:
                    log.info("webhooks.wait", error=error.code)
                except Exception:
                    log.exception("webhooks.failed")
                await asyncio.sleep(POLL_S)
        finally:
            await end(*self._turns.values())

    async def _begin_turns(self) -> None:
        room = AT_ONCE - len(self._turns)
        if room <= 0:
            return
        async with self._database.system() as tx:
            found = await webhooks.due(tx, room)
        for project_id, webhook_id in found:
            if webhook_id not in self._turns:
                turn = asyncio.create_task(self._turn(project_id, webhook_id))
                self._turns[webhook_id] = turn
                turn.add_done_callback(functools.partial(self._end_turn, webhook_id))

    def _end_turn(self, webhook_id: str, _: asyncio.Task[None]) -> None:
        self._turns.pop(webhook_id, None)

    async def _turn(self, project_id: str, webhook_id: str) -> None:
        lease, until = str(uuid.uuid4()), time.monotonic() + TURN_S
        try:
            while time.monotonic() < until and await self.step(project_id, webhook_id, lease):
                pass
        except StoreUnavailableError as error:
            log.info("webhooks.wait", error=error.code)
        except Exception:
            # A fault of ours, or a key that is missing: no reason to try every second.
            log.exception("webhooks.turn_failed", webhook=webhook_id)
            await self._put_off(project_id, webhook_id, lease)
        finally:
            # Should the database be away, the turn runs out by itself.
            with contextlib.suppress(StoreUnavailableError):
                async with self._database.tenant(project_id) as tx:
                    await webhooks.release(tx, project_id, webhook_id, lease)

    async def _put_off(self, project_id: str, webhook_id: str, lease: str) -> None:
        with contextlib.suppress(StoreUnavailableError):
            async with self._database.tenant(project_id) as tx:
                await webhooks.failed(
                    tx,
                    project_id,
                    webhook_id,
                    lease,
                    status=None,
                    wait_s=AFTER_OUR_FAULT_S,
                    patience_days=self._patience_days,
                )

    async def step(self, project_id: str, webhook_id: str, lease: str) -> bool:
        """Deliver what comes next; whether there may be more to do at once."""
        async with self._database.tenant(project_id) as tx:
            claim = await webhooks.claim(tx, project_id, webhook_id, lease=lease, lease_s=LEASE_S)
            if claim is None:
                return False
            telling = await _next(tx, project_id, claim)
            if not telling.events:
                is_further = telling.mark != claim.mark
                return is_further and await webhooks.advance(
                    tx, project_id, webhook_id, lease, telling.mark
                )
        parts = webhooks.opened_parts(self._seals, project_id, webhook_id, claim.sealed)
        attempt, reply = await send_events(
            self._send,
            parts,
            telling.events,
            batch=claim.batch,
            allow_private=claim.allow_private_networks,
            attempt=claim.failures + 1,
        )
        async with self._database.tenant(project_id) as tx:
            await webhooks.log(tx, project_id, webhook_id, claim.mark, attempt)
            if reply is not None and 200 <= reply.status < 300:
                return await webhooks.delivered(
                    tx, project_id, webhook_id, lease, telling.mark, status=reply.status
                )
            wish = None if reply is None else reply.headers.get("retry-after")
            given_up = await webhooks.failed(
                tx,
                project_id,
                webhook_id,
                lease,
                status=attempt.status,
                wait_s=wait_s(attempt.attempt, wish, dt.datetime.now(dt.UTC)),
                patience_days=self._patience_days,
            )
            if given_up:
                await record_given_up(tx, webhook_id, given_up)
        log.info("webhooks.refused", webhook=webhook_id, status=attempt.status)
        return False


async def _next(tx: Connection, project_id: str, claim: Claim) -> Telling:
    newest, horizon = await webhooks.newest(tx, project_id)
    if claim.mark.change < horizon:
        return _forgotten(project_id, claim.mark, horizon)
    reach = MOST_LOOKED_AT if _leaves_out(claim) else claim.batch
    changes = await webhooks.next_changes(tx, project_id, claim.mark, newest_=newest, limit=reach)
    notices = await webhooks.next_notices(tx, project_id, claim.mark, limit=reach)
    labels: Mapping[int, Mapping[str, str]] = {}
    if claim.labels:
        labels = await of_repositories(
            within(tx), project_id, {one.repository_id for one in changes}
        )
    events: list[CloudEvent] = []
    mark = claim.mark
    for one in _in_order(changes, notices, newest=newest, reach=reach):
        if isinstance(one, StoredChange):
            mark = mark._replace(change=one.seq)
            if _wants_image(claim, one, labels.get(one.repository_id, {})):
                events.append(_of_change(project_id, one))
        else:
            mark = mark._replace(notice=one.seq)
            if _wants(claim, one, one.kind):
                events.append(_of_notice(project_id, one))
        if len(events) == claim.batch:
            break
    return Telling(events=events, mark=mark)


def _forgotten(project_id: str, mark: Mark, horizon: int) -> Telling:
    event = event_of(
        project_id,
        FORGOTTEN,
        id=f"forgotten-{mark.change + 1}-{horizon}",
        time=dt.datetime.now(dt.UTC),
        data={"from": mark.change + 1, "to": horizon},
    )
    return Telling(events=[event], mark=mark._replace(change=horizon))


def _in_order(
    changes: Sequence[StoredChange], notices: Sequence[Notice], *, newest: int, reach: int
) -> Iterator[StoredChange | Notice]:
    """Merge both as they happened, up to where what was read of either ends."""
    told = iter(notices)
    notice = next(told, None)
    for change in changes:
        while notice is not None and notice.after_seq < change.seq:
            yield notice
            notice = next(told, None)
        if notice is None and len(notices) == reach:
            return
        yield change
    if len(changes) == reach:
        return
    # A notice that came later than the newest change we know of may follow changes we do not.
    rest = itertools.chain([] if notice is None else [notice], told)
    yield from itertools.takewhile(lambda one: one.after_seq <= newest, rest)


def _leaves_out(claim: Claim) -> bool:
    filters = (claim.types, claim.registries, claim.pattern, claim.labels)
    return any(filters) or claim.enterprise_projects is not None


def _wants(claim: Claim, one: StoredChange | Notice, kind: str) -> bool:
    if one.registry is None:  # It was erased, and with it all that could be told.
        return False
    return (
        (not claim.types or kind in claim.types)
        and (not claim.registries or one.registry_id in claim.registries)
        and _may_see(claim.enterprise_projects, one.enterprise_project_id)
    )


def _may_see(granted: Collection[str] | None, enterprise_project: str | None) -> bool:
    return granted is None or enterprise_project in granted


def _wants_image(claim: Claim, change: StoredChange, labels: Mapping[str, str]) -> bool:
    if not _wants(claim, change, f"image.{change.kind}"):
        return False
    matches = claim.pattern is None or fnmatchcase(_path(change), claim.pattern)
    return matches and all(labels.get(key) == value for key, value in claim.labels.items())


def _path(change: StoredChange) -> str:
    return f"{change.namespace}/{change.name}" if change.namespace else change.name or ""


def _of_change(project_id: str, change: StoredChange) -> CloudEvent:
    tag = f":{change.tag}" if change.tag else f"@{change.digest_after or change.digest_before}"
    data: dict[str, Any] = {
        "seq": change.seq,
        "registry_id": change.registry_id,
        "registry": change.registry,
        "run_id": change.run_id,
        "image": change.image,
        "namespace": change.namespace,
        "name": change.name,
        "tag": change.tag,
        "digest_before": change.digest_before,
        "digest_after": change.digest_after,
    }
    return event_of(
        project_id,
        f"image.{change.kind}",
        id=f"change-{change.seq}",
        time=change.at,
        subject=f"{change.registry}/{_path(change)}{tag}",
        data=data,
    )


def _of_notice(project_id: str, notice: Notice) -> CloudEvent:
    return event_of(
        project_id,
        notice.kind,
        id=f"notice-{notice.seq}",
        time=notice.at,
        subject=notice.registry or "",
        data={
            "seq": notice.seq,
            "after_change": notice.after_seq,
            "registry_id": notice.registry_id,
            "registry": notice.registry,
            **notice.data,
        },
    )
