"""How everything stands, at a glance: what the first pages of the console are made of."""

from __future__ import annotations

import datetime as dt
import uuid
import zoneinfo
from collections.abc import Iterable, Sequence

from wharfinger.domain.errors import InvalidParameterError, NotFoundError
from wharfinger.domain.model import Caller, VerdictState
from wharfinger.domain.overview import Changed, ChangedOn, Day, Progress, Standing, Took
from wharfinger.service.held import find_registry
from wharfinger.store import overview
from wharfinger.store.database import Database
from wharfinger.sync.pacing import host_and_port

# What has to be looked at comes first.
_URGENCY = (VerdictState.PARTIAL, VerdictState.STALE, VerdictState.NEVER, VerdictState.COMPLETE)


class Overview:
    """Answers from counts that are kept, so that a million images take no longer than ten."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standings(self, caller: Caller) -> list[Standing]:
        """Every registry, by name."""
        async with self._database.tenant(caller.project_id) as tx:
            return await overview.standings(tx, caller)

    async def standing(self, caller: Caller, registry: str) -> Standing:
        """One registry, by its id or its name.

        Raises:
            NotFoundError: there is no such registry.
        """
        async with self._database.tenant(caller.project_id) as tx:
            registry_id, _ = await find_registry(tx, caller, registry)
            found = await overview.standings(tx, caller)
        for one in found:
            if one.id == registry_id:
                return one
        raise NotFoundError(f"there is no registry {registry}")

    async def changed_today(self, caller: Caller) -> Changed:
        """What the runs of the last 24 hours have changed."""
        async with self._database.tenant(caller.project_id) as tx:
            return await overview.changed_today(tx, caller)

    async def growth(self, caller: Caller, *, days: int, zone: str) -> list[Day]:
        """How many images there were at the end of each day, oldest first, and today's so far."""
        async with self._database.tenant(caller.project_id) as tx:
            found = await overview.images_by_day(tx, caller, days=days, zone=zone)
            now = sum(one.images for one in await overview.standings(tx, caller))
        today = dt.datetime.now(zoneinfo.ZoneInfo(zone)).date()
        return [*_added_up([row for row in found if row[1] != today]), Day(day=today, images=now)]

    async def changes_by_day(
        self, caller: Caller, *, days: int, zone: str, registry: str | None = None
    ) -> list[ChangedOn]:
        """What runs have changed on each of the last days, today included, oldest first.

        Raises:
            InvalidParameterError: the registry is no id.
        """
        registry = None if registry is None else _checked_id(registry)
        async with self._database.tenant(caller.project_id) as tx:
            found = await overview.changes_by_day(
                tx, caller, days=days, zone=zone, registry=registry
            )
        known = {one.day: one for one in found}
        today = dt.datetime.now(zoneinfo.ZoneInfo(zone)).date()
        since = (today - dt.timedelta(days=days - 1 - n) for n in range(days))
        return [known.get(day) or _unchanged(day) for day in since]

    async def took(self, caller: Caller, registry: str, *, limit: int) -> list[Took]:
        """How long the last syncs of a registry took, the oldest first.

        Raises:
            InvalidParameterError: the registry is no id.
        """
        registry_id = _checked_id(registry)
        async with self._database.tenant(caller.project_id) as tx:
            return (await overview.took(tx, caller, registry_id, limit=limit))[::-1]

    async def slowest(self, caller: Caller, *, limit: int) -> list[Took]:
        """How long the last sync of each registry took, the slowest first."""
        async with self._database.tenant(caller.project_id) as tx:
            return await overview.slowest(tx, caller, limit=limit)

    async def progress(self, caller: Caller, registry: Standing) -> Progress | None:
        """How far a registry's sync has come; of none that is going, how the last one ended."""
        async with self._database.tenant(caller.project_id) as tx:
            host = host_and_port(registry.address)
            return await overview.progress(tx, caller, registry.id, host=host)


def by_urgency(found: Iterable[Standing]) -> list[Standing]:
    """What needs attention, the worst first: not complete, or with images held."""
    wanting = [one for one in found if one.held or one.verdict is not VerdictState.COMPLETE]
    return sorted(wanting, key=lambda one: (_URGENCY.index(one.verdict), -one.images, one.name))


def _checked_id(registry: str) -> str:
    try:
        return str(uuid.UUID(registry))
    except ValueError as exc:
        raise InvalidParameterError("registry_id", "must be the id of a registry") from exc


def _unchanged(day: dt.date) -> ChangedOn:
    return ChangedOn(day=day, added=0, moved=0, retired=0, restored=0)


def _added_up(found: Sequence[tuple[str, dt.date, int]]) -> list[Day]:
    """Add the registries up; one that was not read on a day has what it had before."""
    known: dict[str, int] = {}
    days: dict[dt.date, int] = {}
    for registry_id, day, images in sorted(found, key=lambda row: row[1]):
        known[registry_id] = images
        days[day] = sum(known.values())
    return [Day(day=day, images=images) for day, images in days.items()]
