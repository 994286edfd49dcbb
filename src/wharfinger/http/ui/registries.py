"""Pages about registries: all of them, each of them, and what can be done with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath

from wharfinger.domain.errors import InvalidParameterError, NotFoundError
from wharfinger.domain.model import ALL_GRANTED_ENTERPRISE_PROJECTS, VerdictState
from wharfinger.domain.overview import Standing
from wharfinger.domain.schedule import Schedule, ScheduleChange
from wharfinger.http.parameters import MAX_INT64
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui import registry_form, schedules
from wharfinger.http.ui.diagnosis import told as told_by_doctor
from wharfinger.http.ui.pages import go, page
from wharfinger.http.ui.plots import RUNS, durations_plot
from wharfinger.http.ui.progress import told
from wharfinger.http.ui.visit import TheVisit, Visit
from wharfinger.sources import KINDS
from wharfinger.store.registries import RegistryStatus

LIST = "hss:imageRegistries:list"
ADD = "hss:imageRegistries:create"
CHANGE = "hss:imageRegistries:update"
REMOVE = "hss:imageRegistries:delete"
SYNC = "hss:images:synchronize"
SCHEDULE = "wharfinger:schedules:set"
EXAMINE = "wharfinger:registries:examine"
HELD = "wharfinger:heldImages:list"
ACCEPT = "wharfinger:heldImages:accept"
_HERE = "/console/registries"
_REPOSITORIES, _HELD = 50, 100


@get("/registries", action=LIST)
async def list_registries(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show every registry."""
    found = await services.overview.standings(visit.caller)
    return page(visit, "registries.html", registries=found)


@get("/registries/{registry_id:str}", action=LIST)
async def show_registry(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[str]:
    """Show one registry: what its list is worth, and what can be done."""
    return await _registry_page(visit, services, registry_id)


async def _registry_page(
    visit: Visit, services: Services, registry_id: str, **context: Any
) -> Response[str]:
    one = await services.overview.standing(visit.caller, registry_id)
    progress = await services.overview.progress(visit.caller, one)
    failed = await services.registries.repositories(
        visit.caller, one.id, verdict=VerdictState.PARTIAL, limit=_REPOSITORIES
    )
    held = []
    if one.held and visit.may(HELD):
        held = await services.held.list(visit.caller, one.id, limit=_HELD)
    durations = await durations_plot(visit, services, one.id) if visit.may(RUNS) else None
    return page(
        visit,
        "registry.html",
        **{"examination": None, "problem": None} | context,
        one=one,
        progress=None if progress is None else told(progress, visit.words),
        run=progress,
        schedule=await _schedule(visit, services, one),
        failed=failed,
        held=held,
        durations=durations,
    )


async def _schedule(visit: Visit, services: Services, one: Standing) -> Schedule | None:
    found = await services.schedules.list(visit.caller)
    return next((schedule for schedule in found if schedule.registry_id == one.id), None)


@get("/registries/{registry_id:str}/repositories", action=LIST)
async def list_repositories(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[str]:
    """Show a registry's repositories, a page at a time, with what the list of each is worth."""
    one = await services.overview.standing(visit.caller, registry_id)
    verdict = visit.query.choice("verdict", ["", *(v.value for v in VerdictState)])
    after = visit.query.integer("after", smallest=0, largest=MAX_INT64) or 0
    found = await services.registries.repositories(
        visit.caller,
        one.id,
        verdict=VerdictState(verdict) if verdict else None,
        after=after,
        limit=_REPOSITORIES,
    )
    more = found[-1].id if len(found) == _REPOSITORIES else None
    return page(
        visit,
        "repositories.html",
        one=one,
        found=found,
        verdict=verdict or "",
        verdicts=list(VerdictState),
        after=after,
        more=more,
    )


# --- adding, changing, removing ------------------------------------------------------------------


@get("/registries/add", action=ADD)
async def show_add_form(visit: TheVisit) -> Response[str]:
    """Ask for the kind first, then for what registries of that kind need."""
    kind = visit.query.raw("kind") or ""
    if not kind:
        return page(visit, "registry_kind.html", kinds=list(KINDS))
    registry_form.checked_kind(kind)
    return _form(visit, kind, registry_form.empty(kind))


@post("/registries/add", status_code=303, action=ADD)
async def add_registry(visit: TheVisit, services: TheServices) -> Response[Any]:
    """Add a registry; what is wrong is said beside the field."""
    kind = registry_form.checked_kind(visit.form.text("kind"))
    try:
        new, credential = registry_form.read_new(visit.form, kind)
        registry_id = await services.registries.add(visit.caller, new, credential)
    except InvalidParameterError as error:
        return _form(visit, kind, visit.form.given(), problem=error)
    return go(f"{_HERE}/{registry_id}", note="registry_added")


@get("/registries/{registry_id:str}/edit", action=CHANGE)
async def show_edit_form(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[str]:
    """Show how a registry is configured, to change it."""
    before = await _configured(visit, services, registry_id)
    return _form(visit, before.kind, registry_form.filled(before), before=before)


@post("/registries/{registry_id:str}/edit", status_code=303, action=CHANGE)
async def change_registry(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[Any]:
    """Change a registry's configuration."""
    before = await _configured(visit, services, registry_id)
    try:
        change, credential = registry_form.read_change(visit.form, before)
        await services.registries.change(visit.caller, UUID(before.id), change, credential)
    except InvalidParameterError as error:
        given = {"name": before.name, **visit.form.given()}
        return _form(visit, before.kind, given, before=before, problem=error)
    return go(f"{_HERE}/{before.id}", note="registry_changed")


@post("/registries/{registry_id:str}/remove", status_code=303, action=REMOVE)
async def remove_registry(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[Any]:
    """Remove a registry, whose name has to be typed: its images leave the list."""
    one = await services.overview.standing(visit.caller, registry_id)
    if visit.form.text("name") != one.name:
        problem = InvalidParameterError("name", f"must be the registry's name, {one.name}")
        answer = await _registry_page(visit, services, one.id, problem=problem)
        answer.status_code = 400
        return answer
    await services.registries.remove_all(visit.caller, [UUID(one.id)])
    return go(_HERE, note="registry_removed")


def _form(
    visit: Visit,
    kind: str,
    values: Mapping[str, str],
    *,
    before: RegistryStatus | None = None,
    problem: InvalidParameterError | None = None,
) -> Response[str]:
    # A field for each option, named as the service names it in what it complains about.
    wrong = "" if problem is None else problem.parameter.replace("options.", "option_")
    return page(
        visit,
        "registry_form.html",
        kind=kind,
        fields=registry_form.fields_of(kind),
        credentials=registry_form.credentials_of(kind),
        enterprise_projects=visit.caller.enterprise_projects,
        values=values,
        before=before,
        wrong={"stale_after": "stale_after_hours"}.get(wrong, wrong),
        problem=problem,
    )


async def _configured(visit: Visit, services: Services, registry_id: str) -> RegistryStatus:
    for one in await services.registries.list(visit.caller):
        if one.id == registry_id:
            return one
    raise NotFoundError(f"there is no registry {registry_id}")


# --- what can be done with one --------------------------------------------------------------------


@post("/registries/sync", status_code=303, action=SYNC)
async def sync_all(visit: TheVisit, services: TheServices) -> Response[Any]:
    """Have every registry read now."""
    await _sync(visit, services, everything=True)
    return go(_HERE, note="sync_queued")


@post("/registries/{registry_id:str}/sync", status_code=303, action=SYNC)
async def sync_registry(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[Any]:
    """Have one registry read now."""
    one = await services.overview.standing(visit.caller, registry_id)
    await _sync(visit, services, chosen=one.id)
    return go(f"{_HERE}/{one.id}", note="sync_queued")


async def _sync(
    visit: Visit, services: Services, *, everything: bool = False, chosen: str = ""
) -> None:
    await services.synchroniser.synchronise_registries(
        visit.caller,
        enterprise_project_id=ALL_GRANTED_ENTERPRISE_PROJECTS,
        everything=everything,
        chosen=[(chosen, "")] if chosen else [],
        full=visit.form.flag("full"),
    )


@post("/registries/{registry_id:str}/schedule", status_code=303, action=SCHEDULE)
async def pause_or_resume(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[Any]:
    """Pause the registry's schedule, or let it go on; back to the page with the button."""
    one = await services.overview.standing(visit.caller, registry_id)
    paused = visit.form.text("paused") == "true"
    await services.schedules.change(visit.caller, one.id, ScheduleChange(paused=paused))
    back = schedules.HERE if visit.form.text("back") == "schedules" else f"{_HERE}/{one.id}"
    return go(back, note="schedule_paused" if paused else "schedule_resumed")


@post("/registries/{registry_id:str}/examination", status_code=200, action=EXAMINE)
async def examine_registry(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[str]:
    """Try every step of a sync once, and show what was found; nothing is stored."""
    examination = await services.doctor.diagnose(visit.caller, registry_id)
    found = told_by_doctor(examination, visit.words)
    return await _registry_page(visit, services, registry_id, examination=examination, found=found)


@post("/registries/{registry_id:str}/accept", status_code=303, action=ACCEPT)
async def accept_held(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[Any]:
    """Accept that held images are gone: those that are ticked, or all of them."""
    one = await services.overview.standing(visit.caller, registry_id)
    images = None if visit.form.flag("all") else [_number(i) for i in visit.form.all("image")]
    await services.held.accept(visit.caller, one.id, images=images)
    return go(f"{_HERE}/{one.id}", note="held_accepted")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > MAX_INT64:
        raise InvalidParameterError("image", "must be the number of a held image")
    return int(text)
