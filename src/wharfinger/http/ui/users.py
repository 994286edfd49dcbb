"""Pages about users: all that are seen, each of them, and what can be done about one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from litestar import Response, get, post
from litestar.params import FromPath

from wharfinger.domain.errors import ConflictError, InvalidParameterError, NotFoundError
from wharfinger.domain.model import DEFAULT_ENTERPRISE_PROJECT
from wharfinger.http.parameters import checked_choice
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.choices import enterprise_project_names
from wharfinger.http.ui.pages import beside_name, go, page
from wharfinger.http.ui.visit import Form, TheVisit, Visit
from wharfinger.identity.reach import EVERY_ENTERPRISE_PROJECT
from wharfinger.identity.users import KINDS, NewUser

LIST = "iam:users:list"
ADD = "iam:users:create"
CHANGE = "iam:users:update"
ROLES = "iam:permissions:set"
KEYS = "iam:credentials:list"
SHOW_EVERYTHING = "eps:enterpriseProjects:grant"
HERE = "/console/settings/users"


@get("/settings/users", action=LIST)
async def list_users(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show whom the viewer may know of, and what each may do."""
    return page(
        visit,
        "users.html",
        found=await services.users.list(visit.caller),
        keys=await _keys(visit, services),
        names=await enterprise_project_names(visit, services),
    )


async def _keys(visit: Visit, services: Services) -> Mapping[str, int]:
    """How many keys of each user work, for those who may see keys."""
    found: dict[str, int] = {}
    for one in await services.access_keys.list(visit.caller) if visit.may(KEYS) else ():
        if one.works and one.key.user_name:
            found[one.key.user_name] = found.get(one.key.user_name, 0) + 1
    return found


@get("/settings/users/add", action=ADD)
async def show_add_user(visit: TheVisit, services: TheServices) -> Response[str]:
    """Ask who it is, and what it may do and see."""
    usual = [one for one in visit.caller.enterprise_projects if one == DEFAULT_ENTERPRISE_PROJECT]
    return await _add_form(visit, services, {}, roles=(), shown=usual)


@post("/settings/users/add", status_code=303, action=ADD)
async def add_user(visit: TheVisit, services: TheServices) -> Response[Any]:
    """Make a user; what is wrong is said beside the field."""
    form = visit.form
    try:
        new = _new_user(form)
        if new.enterprise_projects:
            visit.caller.require(SHOW_EVERYTHING)
        await services.users.create(visit.caller, new)
    except (InvalidParameterError, ConflictError) as error:
        return await _add_form(
            visit,
            services,
            form.given(),
            roles=form.all("role"),
            shown=form.all("enterprise_project"),
            problem=beside_name(error),
        )
    return go(address_of(new.name), note="user_added")


def _new_user(form: Form) -> NewUser:
    return NewUser(
        name=form.text("name", longest=64, shortest=1),
        kind=checked_choice("kind", form.text("kind") or "user", KINDS),
        roles=form.all("role"),
        enterprise_projects=form.all("enterprise_project"),
        password=form.secret("password") or None,
    )


async def _add_form(
    visit: Visit,
    services: Services,
    values: Mapping[str, str],
    *,
    roles: Sequence[str],
    shown: Sequence[str],
    problem: InvalidParameterError | None = None,
) -> Response[str]:
    reach = await services.users.reach(visit.caller)
    offered = list(visit.caller.enterprise_projects) if visit.may(SHOW_EVERYTHING) else []
    if offered and visit.caller.sees_every_enterprise_project:
        offered.insert(0, EVERY_ENTERPRISE_PROJECT)
    return page(
        visit,
        "user_add.html",
        values=values,
        kinds=KINDS if reach.is_account else KINDS[:1],
        offered_roles=[one for one in await services.users.roles(visit.caller) if one.may_be_given],
        offered=offered,
        names=await enterprise_project_names(visit, services),
        roles=roles,
        shown=shown,
        problem=problem,
    )


@get("/settings/users/{user_name:str}", action=LIST)
async def show_user(
    visit: TheVisit, services: TheServices, user_name: FromPath[str]
) -> Response[str]:
    """Show one user: what it may do and see, and what can be done about it."""
    return await _user_page(visit, services, user_name)


async def _user_page(
    visit: Visit,
    services: Services,
    name: str,
    *,
    problem: InvalidParameterError | None = None,
) -> Response[str]:
    known = await services.users.find(visit.caller, name)
    held = known.roles(visit.caller.project_id)
    roles = await services.users.roles(visit.caller)
    keys = await services.access_keys.list(visit.caller) if visit.may(KEYS) else []
    return page(
        visit,
        "user.html",
        known=known,
        held=held,
        offered_roles=[one for one in roles if one.may_be_given or one.name in held],
        keys=[one for one in keys if one.key.user_name == name],
        names=await enterprise_project_names(visit, services),
        here_path=address_of(name),
        problem=problem,
    )


@post("/settings/users/{user_name:str}/roles", status_code=303, action=ROLES)
async def set_roles(
    visit: TheVisit, services: TheServices, user_name: FromPath[str]
) -> Response[Any]:
    """Give a user the roles that are ticked, in this project, and no others."""
    try:
        await services.users.set_roles(visit.caller, user_name, visit.form.all("role"))
    except InvalidParameterError as error:
        return await _user_page(visit, services, user_name, problem=error)
    return await _back(visit, services, user_name, note="user_roles")


@post("/settings/users/{user_name:str}/password", status_code=303, action=CHANGE)
async def set_password(
    visit: TheVisit, services: TheServices, user_name: FromPath[str]
) -> Response[Any]:
    """Give a user another password."""
    try:
        await services.users.set_password(visit.caller, user_name, visit.form.secret("password"))
    except InvalidParameterError as error:
        return await _user_page(visit, services, user_name, problem=error)
    return await _back(visit, services, user_name, note="user_password")


@post("/settings/users/{user_name:str}/disabled", status_code=303, action=CHANGE)
async def set_disabled(
    visit: TheVisit, services: TheServices, user_name: FromPath[str]
) -> Response[Any]:
    """Close a user, or open it again."""
    disabled = visit.form.text("disabled") == "true"
    try:
        await services.users.set_disabled(visit.caller, user_name, disabled=disabled)
    except InvalidParameterError as error:
        return await _user_page(visit, services, user_name, problem=error)
    note = "user_disabled" if disabled else "user_enabled"
    return await _back(visit, services, user_name, note=note)


async def _back(visit: Visit, services: Services, name: str, *, note: str) -> Response[Any]:
    """To the user's page, if the viewer may still know of the user, and see users at all."""
    if not visit.may(LIST):
        return go("/console/settings", note=note)
    try:
        await services.users.find(visit.caller, name)
    except NotFoundError:
        return go(HERE, note=note)
    return go(address_of(name), note=note)


def address_of(name: str) -> str:
    """The address of a user's page."""
    return f"{HERE}/{quote(name)}"
