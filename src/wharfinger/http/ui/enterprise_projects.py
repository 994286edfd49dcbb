"""Pages about enterprise projects: which there are, and who is granted which."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath

from wharfinger.domain.errors import ConflictError, InvalidParameterError, NotFoundError
from wharfinger.domain.model import DEFAULT_ENTERPRISE_PROJECT
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.pages import beside_name, go, page
from wharfinger.http.ui.visit import TheVisit, Visit
from wharfinger.store.enterprise_projects import EnterpriseProject, not_found

LIST = "eps:enterpriseProjects:list"
SHOW = "eps:enterpriseProjects:get"
ADD = "eps:enterpriseProjects:create"
CHANGE = "eps:enterpriseProjects:update"
GRANT = "eps:enterpriseProjects:grant"
REVOKE = "eps:enterpriseProjects:revoke"
HERE = "/console/settings/enterprise-projects"


@get("/settings/enterprise-projects", action=LIST)
async def list_enterprise_projects(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show those that the viewer is granted."""
    return await _list_page(visit, services)


async def _list_page(
    visit: Visit, services: Services, *, problem: InvalidParameterError | None = None
) -> Response[str]:
    return page(
        visit,
        "enterprise_projects.html",
        found=await services.enterprise_projects.list(visit.caller) if visit.may(LIST) else [],
        values=visit.form.given(),
        problem=problem,
    )


@post("/settings/enterprise-projects", status_code=303, action=ADD)
async def add_enterprise_project(visit: TheVisit, services: TheServices) -> Response[Any]:
    """Make one."""
    try:
        name = visit.form.text("name", longest=64)
        made = await services.enterprise_projects.create(visit.caller, name)
    except (InvalidParameterError, ConflictError) as error:
        return await _list_page(visit, services, problem=beside_name(error))
    return _to(visit, made.id, "enterprise_project_added")


@get("/settings/enterprise-projects/{enterprise_project_id:str}", action=SHOW)
async def show_enterprise_project(
    visit: TheVisit, services: TheServices, enterprise_project_id: FromPath[str]
) -> Response[str]:
    """Show one, and who is granted it."""
    return await _page(visit, services, enterprise_project_id)


async def _page(
    visit: Visit,
    services: Services,
    wanted: str,
    *,
    problem: InvalidParameterError | None = None,
) -> Response[str]:
    one = await _found(visit, services, wanted)
    granted = await services.enterprise_projects.grants(visit.caller, wanted)
    reach = await services.users.reach(visit.caller)
    seen = {user.name: user.kind for user in reach.seen()}
    holders = {grant.user for grant in granted}
    return page(
        visit,
        "enterprise_project.html",
        one=one,
        is_default=one.id == DEFAULT_ENTERPRISE_PROJECT,
        grants=[grant for grant in granted if grant.user in seen],
        users=[name for name, kind in seen.items() if kind == "user" and name not in holders],
        values={"name": one.name} | dict(visit.form.given()),
        here_path=f"{HERE}/{one.id}",
        problem=problem,
    )


async def _found(visit: Visit, services: Services, wanted: str) -> EnterpriseProject:
    for one in await services.enterprise_projects.list(visit.caller):
        if one.id == wanted:
            return one
    raise not_found(wanted)


@post("/settings/enterprise-projects/{enterprise_project_id:str}", status_code=303, action=CHANGE)
async def change_enterprise_project(
    visit: TheVisit, services: TheServices, enterprise_project_id: FromPath[str]
) -> Response[Any]:
    """Rename one, or disable or enable it: whatever the form has."""
    await _found(visit, services, enterprise_project_id)
    state = visit.form.text("disabled")
    try:
        await services.enterprise_projects.change(
            visit.caller,
            enterprise_project_id,
            name=None if state else visit.form.text("name", longest=64),
            disabled=state == "true" if state else None,
        )
    except (InvalidParameterError, ConflictError) as error:
        problem = beside_name(error)
        return await _page(visit, services, enterprise_project_id, problem=problem)
    return _to(visit, enterprise_project_id, "enterprise_project_changed")


@post(
    "/settings/enterprise-projects/{enterprise_project_id:str}/grants",
    status_code=303,
    action=GRANT,
)
async def grant_enterprise_project(
    visit: TheVisit, services: TheServices, enterprise_project_id: FromPath[str]
) -> Response[Any]:
    """Grant one to a user."""
    await _found(visit, services, enterprise_project_id)
    try:
        user = await _user(visit, services)
        await services.enterprise_projects.grant(visit.caller, enterprise_project_id, user)
    except NotFoundError as error:
        problem = InvalidParameterError("user", str(error))
        return await _page(visit, services, enterprise_project_id, problem=problem)
    return _to(visit, enterprise_project_id, "enterprise_project_granted")


@post(
    "/settings/enterprise-projects/{enterprise_project_id:str}/grants/revoke",
    status_code=303,
    action=REVOKE,
)
async def revoke_enterprise_project(
    visit: TheVisit, services: TheServices, enterprise_project_id: FromPath[str]
) -> Response[Any]:
    """Take a user's grant back."""
    await _found(visit, services, enterprise_project_id)
    user = await _user(visit, services)
    await services.enterprise_projects.revoke(visit.caller, enterprise_project_id, user)
    return _to(visit, enterprise_project_id, "enterprise_project_revoked")


async def _user(visit: Visit, services: Services) -> str:
    """The user whom a form names, if the viewer may know of one.

    Raises:
        NotFoundError: not so.
    """
    reach = await services.users.reach(visit.caller)
    return reach.user(visit.form.text("user", longest=64)).name


def _to(visit: Visit, which: str, note: str) -> Response[Any]:
    return go(f"{HERE}/{which}" if visit.may(SHOW) else HERE, note=note)
