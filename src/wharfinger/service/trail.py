"""The audit as it is read, and how long it is kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from wharfinger.domain.audit import AuditEntry, AuditFilter, Strangers
from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.model import Caller
from wharfinger.store import audit
from wharfinger.store.database import Database

PRUNE_AT_ONCE = 20_000


class Trail:
    """Who did or was refused what in a project. ``days`` is how long it is kept, 0 for ever."""

    def __init__(self, database: Database, *, days: int) -> None:
        self._database = database
        self._days = days

    async def entries(
        self, caller: Caller, wanted: AuditFilter, *, before: int | None = None, limit: int
    ) -> list[AuditEntry]:
        """Entries whose ids are below ``before``, newest first.

        Raises:
            InvalidParameterError: the time begins after its end.
        """
        _check_times(wanted, "since", "until")
        async with self._database.tenant(caller.project_id) as tx:
            return await audit.entries(tx, caller, wanted, before=before, limit=limit)

    async def page(
        self, caller: Caller, wanted: AuditFilter, *, offset: int, limit: int
    ) -> tuple[int, list[AuditEntry]]:
        """How many entries there are, and one page of them, newest first.

        Raises:
            InvalidParameterError: the time begins after its end.
        """
        _check_times(wanted, "start_time", "end_time")
        async with self._database.tenant(caller.project_id) as tx:
            total = await audit.count(tx, caller, wanted)
            found = await audit.entries(tx, caller, wanted, offset=offset, limit=limit)
        return total, found

    async def strangers(self, since: dt.datetime, *, limit: int) -> Strangers:
        """Refused calls of nobody we know, of the whole installation; for the operator only."""
        async with self._database.system() as tx:
            return await audit.strangers(tx, since, limit=limit)

    async def prune(self, projects: Sequence[str]) -> int:
        """Forget what is older than the setting keeps; returns how many rows.

        The database itself forgets nothing that is younger than 30 days.
        """
        if not self._days:
            return 0
        before = dt.datetime.now(dt.UTC) - dt.timedelta(days=self._days)
        forgotten = 0
        for project_id in projects:
            while True:
                async with self._database.tenant(project_id) as tx:
                    rows = await audit.prune(tx, before, most=PRUNE_AT_ONCE)
                forgotten += rows
                if not rows:
                    break
        async with self._database.system() as tx:
            return forgotten + await audit.prune_refusals(tx, before, most=PRUNE_AT_ONCE)


def _check_times(wanted: AuditFilter, since: str, until: str) -> None:
    if wanted.since is not None and wanted.until is not None and wanted.since > wanted.until:
        raise InvalidParameterError(until, f"must not lie before {since}")
