"""Reads how registries stand from the counts that are kept with them."""

from __future__ import annotations

import datetime as dt
import hashlib

import msgspec

from wharfinger.domain.model import Caller
from wharfinger.domain.overview import Changed, ChangedOn, Progress, Standing, Took
from wharfinger.store.database import Connection, all_rows, first_row, only_row
from wharfinger.store.named_sql import queries

_SQL = queries("overview")


async def standings(tx: Connection, caller: Caller) -> list[Standing]:
    """Every registry that the caller may see, by name."""
    rows = await all_rows(tx, _SQL["registries"], _seen_by(caller))
    return [msgspec.convert(row, Standing) for row in rows]


async def changed_today(tx: Connection, caller: Caller) -> Changed:
    """What the runs of the last 24 hours have changed."""
    return Changed(**await only_row(tx, _SQL["today"], _seen_by(caller)))


async def changes_by_day(
    tx: Connection, caller: Caller, *, days: int, zone: str, registry: str | None
) -> list[ChangedOn]:
    """What runs have changed on each of the last days on which one ended."""
    values = {**_seen_by(caller), "days": days, "zone": zone, "registry": registry}
    rows = await all_rows(tx, _SQL["changes_by_day"], values)
    return [ChangedOn(**row) for row in rows]


async def took(tx: Connection, caller: Caller, registry_id: str, *, limit: int) -> list[Took]:
    """The last syncs of a registry, the newest first."""
    values = {**_seen_by(caller), "registry": registry_id, "limit": limit}
    rows = await all_rows(tx, _SQL["took"], values)
    return [msgspec.convert(row, Took) for row in rows]


async def slowest(tx: Connection, caller: Caller, *, limit: int) -> list[Took]:
    """The last sync of each registry, the slowest first."""
    rows = await all_rows(tx, _SQL["slowest"], {**_seen_by(caller), "limit": limit})
    return [msgspec.convert(row, Took) for row in rows]


async def images_by_day(
    tx: Connection, caller: Caller, *, days: int, zone: str
) -> list[tuple[str, dt.date, int]]:
    """Registry, day, and how many images it had: of each day with a run."""
    values = {**_seen_by(caller), "days": days, "zone": zone}
    rows = await all_rows(tx, _SQL["days"], values)
    return [(row["registry_id"], row["day"], row["images"]) for row in rows]


async def progress(
    tx: Connection, caller: Caller, registry_id: str, *, host: str
) -> Progress | None:
    """The run of a registry that is going, waits, or was the last; ``None`` before the first."""
    digest = hashlib.sha256(host.encode()).digest()
    values = {**_seen_by(caller), "registry": registry_id, "host": digest}
    row = await first_row(tx, _SQL["progress"], values)
    return None if row is None else Progress(**row)


def _seen_by(caller: Caller) -> dict[str, object]:
    return {
        "project": caller.project_id,
        "enterprise_projects": list(caller.enterprise_projects),
    }
