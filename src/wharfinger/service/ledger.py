"""What the audit is told without being waited for: refused calls, and notifications counted."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import ipaddress
from collections import Counter
from collections.abc import Callable

import msgspec
import structlog

from wharfinger.domain.audit import Kind, RefusalSample
from wharfinger.domain.errors import (
    NotAuthenticatedError,
    OverRateError,
    StoreUnavailableError,
    WharfingerError,
)
from wharfinger.domain.model import OURSELVES, Caller, Origin
from wharfinger.domain.tally import Tally
from wharfinger.store import audit
from wharfinger.store.database import Database
from wharfinger.sync.together import end

log = structlog.get_logger()

# Entries that wait in memory; an outage of the database may fill it, half a kilobyte each.
MOST_WAITING = 10_000
AT_ONCE = 500
# Refusals of known credentials that nobody has shown to hold, and of those that ask too often:
# kept one by one up to here, a minute and project, and counted beyond. An access key is no secret,
# so anybody may bring it.
MOST_UNPROVEN = 60
# Of calls of nobody we know, so much is kept of a minute by each process, whatever comes.
MOST_NETWORKS = 20
MOST_SAMPLES = 10
OTHERS = "others"
PAUSE_S = 0.5
CLOSE_WITHIN_S = 5.0
# What is written later than this tells when it was seen, too.
_LATE = dt.timedelta(seconds=5)


class RefusedCall(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. ``route`` is its pattern; ``action`` what it needs, if it names one."""

    method: str
    route: str
    action: str
    origin: Origin


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the audit that waits to be written."""

    caller: Caller
    action: str
    target: str
    outcome: str
    details: dict[str, object]
    kind: Kind
    seen_at: dt.datetime


class _Minute:
    """What is counted within one minute."""

    def __init__(self, begins: dt.datetime) -> None:
        self.begins = begins
        self.refused: Counter[tuple[str, str]] = Counter()
        self.samples = 0
        self.unproven: Counter[str] = Counter()
        self.notified: Counter[tuple[str, str]] = Counter()

    def __bool__(self) -> bool:
        return bool(self.refused or self.notified)

    def count(self, reason: str, network: str) -> None:
        key = (reason, network)
        if key not in self.refused and len(self.refused) >= MOST_NETWORKS:
            key = (reason, OTHERS)
        self.refused[key] += 1


class Ledger:
    """Takes in at once, writes a moment later; ``aclose`` writes what is left.

    Taking in never fails and never waits, so that no answer depends on it. Memory is bounded
    whatever comes, and so is what a minute of strangers' calls adds to the database.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        pause_s: float = PAUSE_S,
        tally: Tally | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pause_s = pause_s
        self._tally = tally or Tally()
        self._entries: dict[str, list[_Entry]] = {}
        self._samples: list[RefusalSample] = []
        self._past: list[_Minute] = []
        self._now = _Minute(_minute(clock()))
        self._writer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    # --- taking in ------------------------------------------------------------------------------

    def refused(self, error: WharfingerError, caller: Caller | None, call: RefusedCall) -> None:
        """Keep that a call was refused.

        Args:
            error: why.
            caller: who called, where the call was authenticated before it was refused.
            call: what was asked for.
        """
        reason, proven = error.code, True
        if isinstance(error, NotAuthenticatedError):
            reason, caller, proven = error.reason, error.caller, error.proven
        elif isinstance(error, OverRateError):
            # One entry for each would be the flood that the limit is there against.
            proven = False
        self._tally.add("refusals", reason)
        self._turn_minute()
        home = "" if caller is None else caller.project_id or caller.account_id
        if caller is None or not home or not (proven or self._may_be_kept(home)):
            self._count(reason, call)
        else:
            known = msgspec.structs.replace(caller, project_id=home, origin=call.origin)
            self._add(_refusal(known, call, reason, self._clock()), call)
        self._wake()

    def notified(self, project_id: str, registry_id: str) -> None:
        """Count a notification that a registry has sent."""
        self._turn_minute()
        self._now.notified[project_id, registry_id] += 1
        self._wake()

    def _may_be_kept(self, project_id: str) -> bool:
        self._now.unproven[project_id] += 1
        return self._now.unproven[project_id] <= MOST_UNPROVEN

    def _add(self, entry: _Entry, call: RefusedCall) -> None:
        if sum(map(len, self._entries.values())) >= MOST_WAITING:
            self._count("not_written", call)
            return
        self._entries.setdefault(entry.caller.project_id, []).append(entry)

    def _count(self, reason: str, call: RefusedCall) -> None:
        self._now.count(reason, network_of(call.origin.source))
        if self._now.samples < MOST_SAMPLES and len(self._samples) < MOST_WAITING:
            self._now.samples += 1
            self._samples.append(_sample(reason, call, self._clock()))

    def _turn_minute(self) -> None:
        begins = _minute(self._clock())
        if begins != self._now.begins:
            self._end_minute(begins)

    def _end_minute(self, begins: dt.datetime) -> None:
        if self._now:
            self._past.append(self._now)
        if len(self._past) > MOST_WAITING // MOST_NETWORKS:
            # Hours of an outage: what was counted longest ago goes into the minute after it.
            oldest = self._past.pop(0)
            for (reason, _), calls in oldest.refused.items():
                self._past[0].refused[reason, OTHERS] += calls
            self._past[0].notified += oldest.notified
        self._now = _Minute(begins)

    # --- writing --------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._writer is None or self._writer.done():
            # It writes for many calls, and is no part of the one that came first.
            self._writer = asyncio.create_task(self._write(), context=contextvars.Context())

    async def _write(self) -> None:
        while self._entries or self._samples or self._past or self._now:
            await asyncio.sleep(self._pause_s)
            self._turn_minute()
            try:
                await self._flush()
            except Exception as error:  # noqa: BLE001 - whatever it is, the rest must be tried again
                log.warning("audit.waits", error=type(error).__name__)
                await asyncio.sleep(self._pause_s * 10)

    async def aclose(self) -> None:
        """Write what is left, this minute's counts included."""
        self._end_minute(_minute(self._clock()))
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._flush()
        except Exception as error:  # noqa: BLE001 - whatever it is, the house must close
            left = sum(map(len, self._entries.values()))
            log.warning("audit.lost", entries=left, minutes=len(self._past), error=str(error))
        if self._writer is not None:
            await end(self._writer)

    async def _flush(self) -> None:
        async with self._turn:
            await self._flush_strangers()
            for minute in self._past:
                self._enter_notifications(minute)
            stuck: Exception | None = None
            for project_id in list(self._entries):
                try:
                    while project_id in self._entries:
                        await self._flush_project(project_id)
                except StoreUnavailableError:
                    raise
                except Exception as error:  # noqa: BLE001 - one project's trouble is not the others'
                    stuck = error
            if stuck is not None:
                raise stuck

    async def _flush_project(self, project_id: str) -> None:
        entries = self._entries[project_id][:AT_ONCE]
        async with self._database.tenant(project_id) as tx:
            for entry in entries:
                await audit.record(
                    tx,
                    entry.caller,
                    entry.action,
                    target=entry.target,
                    outcome=entry.outcome,
                    details=self._dated(entry),
                    kind=entry.kind,
                )
        # Only now: what a failure has rolled back is written again.
        del self._entries[project_id][: len(entries)]
        if not self._entries[project_id]:
            del self._entries[project_id]

    def _dated(self, entry: _Entry) -> dict[str, object]:
        late = self._clock() - entry.seen_at > _LATE
        return {**entry.details, "seen_at": entry.seen_at} if late else entry.details

    async def _flush_strangers(self) -> None:
        samples, minutes = list(self._samples), list(self._past)
        if not samples and not any(minute.refused for minute in minutes):
            return
        async with self._database.system() as tx:
            for sample in samples:
                await audit.sample_refused(tx, sample)
            for minute in minutes:
                for (reason, network), calls in minute.refused.items():
                    await audit.count_refused(
                        tx, minute=minute.begins, reason=reason, network=network, calls=calls
                    )
        del self._samples[: len(samples)]
        for minute in minutes:
            minute.refused.clear()

    def _enter_notifications(self, minute: _Minute) -> None:
        for (project_id, registry_id), count in minute.notified.items():
            entry = _notification(project_id, registry_id, count, minute.begins)
            self._entries.setdefault(project_id, []).append(entry)
        minute.notified.clear()
        self._past = [one for one in self._past if one]


def network_of(source: str) -> str:
    """The network that an address is counted under: its /24, or of IPv6 its /48."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network((str(address), bits), strict=False))


def _refusal(caller: Caller, call: RefusedCall, reason: str, now: dt.datetime) -> _Entry:
    return _Entry(
        caller=caller,
        action="call.refuse",
        target=f"route {call.method} {call.route}",
        outcome=reason,
        details={"action": call.action} if call.action else {},
        kind="refusal",
        seen_at=now,
    )


def _notification(project_id: str, registry_id: str, count: int, minute: dt.datetime) -> _Entry:
    return _Entry(
        caller=msgspec.structs.replace(
            OURSELVES, project_id=project_id, principal=f"registry {registry_id}"
        ),
        action="registry.notify",
        target=f"registry {registry_id}",
        outcome="counted",
        details={"count": count},
        kind="change",
        seen_at=minute,
    )


def _sample(reason: str, call: RefusedCall, now: dt.datetime) -> RefusalSample:
    return RefusalSample(
        at=now,
        reason=reason,
        source=call.origin.source,
        method=call.method,
        route=call.route,
        user_agent=call.origin.user_agent,
        request_id=call.origin.request_id,
    )


def _minute(moment: dt.datetime) -> dt.datetime:
    return moment.replace(second=0, microsecond=0)
