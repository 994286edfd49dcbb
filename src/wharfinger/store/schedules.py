"""Schedules as rows: what is due, what has run, and when it comes next."""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

from wharfinger.domain.errors import NotFoundError
from wharfinger.domain.model import Caller
from wharfinger.domain.schedule import USUAL_CRON, Schedule
from wharfinger.store.database import Connection
from wharfinger.store.named_sql import queries

_SQL = queries("schedules")


class Due(NamedTuple):
    """A registry whose time has come, its schedule locked until the transaction ends."""

    registry_id: str
    cron: str
    full: bool


class Clock(NamedTuple):
    """A project's time zone, and the database's time, which decides what is due."""

    time_zone: str
    now: dt.datetime


async def projects(tx: Connection) -> list[str]:
    """The projects where something is due or has yet to be planned, whoever's they are."""
    cursor = await tx.execute(_SQL["projects"])
    return [row[0] for row in await cursor.fetchall()]


async def clock(tx: Connection, project_id: str) -> Clock:
    """The clock that a project goes by.

    Raises:
        NotFoundError: there is no such project.
    """
    cursor = await tx.execute(_SQL["time_zone"], {"project": project_id})
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"there is no project {project_id!r}")
    return Clock(*row)


async def set_time_zone(tx: Connection, project_id: str, time_zone: str) -> None:
    """Change a project's time zone; its schedules have to be planned again.

    Raises:
        NotFoundError: there is no such project.
    """
    values = {"project": project_id, "time_zone": time_zone}
    cursor = await tx.execute(_SQL["set_time_zone"], values)
    if await cursor.fetchone() is None:
        raise NotFoundError(f"there is no project {project_id!r}")
    await tx.execute(_SQL["unplan"], values)


async def unplanned(tx: Connection, project_id: str) -> list[tuple[str, str]]:
    """(id, cron expression) of the registries that wait to be planned."""
    values = {"project": project_id, "usual": USUAL_CRON}
    cursor = await tx.execute(_SQL["unplanned"], values)
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def plan(
    tx: Connection, project_id: str, registry_id: str, *, cron: str, next_at: dt.datetime
) -> None:
    """Say when a registry that waited to be planned is due."""
    await tx.execute(
        _SQL["plan"],
        {"project": project_id, "registry": registry_id, "cron": cron, "next_at": next_at},
    )


async def due(tx: Connection, project_id: str) -> list[Due]:
    """What is due in a project and no other worker is just dealing with."""
    cursor = await tx.execute(_SQL["due"], {"project": project_id})
    return [Due(*row) for row in await cursor.fetchall()]


async def ran(tx: Connection, registry_id: str, *, task_id: str, next_at: dt.datetime) -> None:
    """Note that a registry's sync was queued, and when the next one is due."""
    await tx.execute(_SQL["ran"], {"registry": registry_id, "task": task_id, "next_at": next_at})


async def list_schedules(
    tx: Connection, caller: Caller, *, registry_id: str | None = None
) -> list[Schedule]:
    """The schedules of the registries that the caller may see, by name; or of one."""
    values: dict[str, Any] = {
        "project": caller.project_id,
        "enterprise_projects": list(caller.enterprise_projects),
        "usual": USUAL_CRON,
        "registry": registry_id,
    }
    cursor = await tx.execute(_SQL["list"], values)
    return [
        Schedule(
            registry_id=row[0],
            registry=row[1],
            cron=row[2],
            full_syncs=row[3],
            paused_at=row[4],
            next_at=row[5],
            last_at=row[6],
            last_task_id=row[7],
        )
        for row in await cursor.fetchall()
    ]


async def change(
    tx: Connection,
    project_id: str,
    registry_id: str,
    *,
    cron: str,
    full_syncs: str,
    next_at: dt.datetime | None,
) -> None:
    """Store a schedule; without a next time it is paused."""
    await tx.execute(
        _SQL["change"],
        {
            "project": project_id,
            "registry": registry_id,
            "cron": cron,
            "full_syncs": full_syncs,
            "paused": next_at is None,
            "next_at": next_at,
        },
    )
