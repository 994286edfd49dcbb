"""The budgets of registry hosts as the database keeps them, shared by all processes and tenants."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Literal

from wharfinger.store.database import Database
from wharfinger.store.named_sql import queries

_SQL = queries("pacing")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a process has met at a host since its last report, and what it asks for.

    Attributes:
        asks: requests under way or waiting.
        holds: requests under way.
        allowed: requests it may have had under way until now.
        answered: successes of the last second.
        grown: successes while all of its places were in use.
        trouble: the worst that happened; ``trouble_epoch`` is the epoch of the request it met.
        stated_rate: requests per second, if a refusal named the host's limit.
        pause_s: how long the host asked to be left alone.
        slots: requests that wait for a time to begin.
    """

    asks: int
    holds: int
    allowed: int
    answered: int = 0
    grown: int = 0
    trouble: Literal["", "trouble", "throttled"] = ""
    trouble_epoch: int = 0
    stated_rate: float | None = None
    pause_s: float = 0.0
    slots: int = 0


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a process may do until its lease ends; times are seconds from the answer on.

    Attributes:
        places: requests it may have under way.
        epoch: grows with every lesson.
        rate: requests per second over all processes; ``None`` when there is no such limit.
        slots: how many requests may begin, the first after ``first_slot_s``, the others 1/rate
            apart. Without a rate they need no slot.
        paused_s: no request may begin before.
    """

    places: int
    epoch: int
    rate: float | None
    slots: int
    first_slot_s: float
    paused_s: float


class SharedBudgets:
    """One process's leases of the shared budgets.

    Args:
        database: where they are kept.
        start: requests at once that a host is asked with to begin with, and at most.
        lease_s: how long a share holds without being renewed.

    Raises:
        StoreUnavailableError: from every method, when the database does not answer.
    """

    def __init__(self, database: Database, *, start: int, lease_s: float) -> None:
        self._database = database
        self._start = start
        self._lease_s = lease_s
        self._process = uuid.uuid4()

    async def renew(self, host: str, report: Report) -> Share:
        """Report, and lease a share of the host until ``lease_s`` from now."""
        values = {
            "host": _digest(host),
            "process": self._process,
            "start": self._start,
            "lease_s": self._lease_s,
            **vars(report),
        }
        async with self._database.system() as connection:
            cursor = await connection.execute(_SQL["pace_host"], values)
            row = await cursor.fetchone()
        if row is None:  # pragma: no cover - the function always answers
            raise AssertionError
        _, places, epoch, rate, slots, first_slot_s, paused_s = row
        return Share(
            places=places,
            epoch=epoch,
            rate=rate,
            slots=slots,
            first_slot_s=first_slot_s,
            paused_s=paused_s,
        )

    async def leave(self, host: str) -> None:
        """Give the share of a host back."""
        values = {"host": _digest(host), "process": self._process}
        async with self._database.system() as connection:
            await connection.execute(_SQL["leave_host"], values)


def _digest(host: str) -> bytes:
    return hashlib.sha256(host.encode()).digest()
