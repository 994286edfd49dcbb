"""Pages about schedules: when each registry is read without anybody asking."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath

from wharfinger.domain.errors import InvalidParameterError, NotFoundError, NotGrantedError
from wharfinger.domain.schedule import FULL_SYNCS, USUAL_CRON, Schedule, ScheduleChange
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.pages import go, page
from wharfinger.http.ui.visit import TheVisit, Visit

LIST = "wharfinger:schedules:list"
SET = "wharfinger:schedules:set"
HERE = "/console/settings/schedules"
# Workers look for what is due every few seconds.
_LATE = dt.timedelta(minutes=2)


@get("/settings/schedules", action=LIST)
async def list_schedules(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show when every registry is read, and what all of that goes by."""
    return await _list_page(visit, services)


async def _list_page(
    visit: Visit, services: Services, *, problem: InvalidParameterError | None = None
) -> Response[str]:
    zone = await services.schedules.time_zone(visit.caller)
    late = dt.datetime.now(dt.UTC) - _LATE
    return page(
        visit,
        "schedules.html",
        schedules=await services.schedules.list(visit.caller),
        late=late,
        usual=USUAL_CRON,
        zone=zone,
        spread_minutes=services.schedules.jitter_s / 60,
        may_set_clock=_may_set_clock(visit),
        values={"time_zone": zone if problem is None else visit.form.text("time_zone")},
        problem=problem,
    )


@post("/settings/schedules/time-zone", status_code=303, action=SET)
async def set_schedule_time_zone(visit: TheVisit, services: TheServices) -> Response[Any]:
    """Have all schedules go by the clock of another place."""
    if not _may_set_clock(visit):
        raise NotGrantedError(
            "the time zone is that of all registries, and some are not yours to see"
        )
    try:
        zone = visit.form.text("time_zone", longest=64, shortest=1)
        await services.schedules.set_time_zone(visit.caller, zone)
    except InvalidParameterError as problem:
        return await _list_page(visit, services, problem=problem)
    return go(HERE, note="time_zone_set")


def _may_set_clock(visit: Visit) -> bool:
    """Whoever sees some registries only leaves alone what the others go by as well."""
    return visit.may(SET) and visit.caller.sees_every_enterprise_project


@get("/settings/schedules/{registry_id:str}", action=SET)
async def show_schedule(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[str]:
    """Show when a registry is read, to change it."""
    one = await _one(visit, services, registry_id)
    return await _form(visit, services, one, {"cron": one.cron, "full_syncs": one.full_syncs})


@post("/settings/schedules/{registry_id:str}", status_code=303, action=SET)
async def change_schedule(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[Any]:
    """Change when a registry is read; what is wrong is said beside the field."""
    one = await _one(visit, services, registry_id)
    try:
        change = ScheduleChange(
            cron=visit.form.text("cron"), full_syncs=visit.form.text("full_syncs") or None
        )
        await services.schedules.change(visit.caller, one.registry_id, change)
    except InvalidParameterError as problem:
        return await _form(visit, services, one, visit.form.given(), problem=problem)
    return go(HERE, note="schedule_changed")


async def _form(
    visit: Visit,
    services: Services,
    one: Schedule,
    values: Mapping[str, str],
    *,
    problem: InvalidParameterError | None = None,
) -> Response[str]:
    return page(
        visit,
        "schedule_form.html",
        one=one,
        values=values,
        full_syncs=FULL_SYNCS,
        usual=USUAL_CRON,
        zone=await services.schedules.time_zone(visit.caller),
        problem=problem,
    )


async def _one(visit: Visit, services: Services, registry_id: str) -> Schedule:
    for one in await services.schedules.list(visit.caller):
        if one.registry_id == registry_id:
            return one
    raise NotFoundError(f"there is no registry {registry_id}")
