"""The routes under ``/api/v1/projects/{project_id}/enterprise-projects``."""

from __future__ import annotations

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.http.api.call import TheApiCall
from wharfinger.http.hss.call import read_body
from wharfinger.http.services import TheServices
from wharfinger.store.enterprise_projects import EnterpriseGrant, EnterpriseProject


class EnterpriseProjectList(msgspec.Struct, frozen=True, kw_only=True):
    """Enterprise projects; there is one page."""

    items: list[EnterpriseProject]


class EnterpriseGrantList(msgspec.Struct, frozen=True, kw_only=True):
    """Who is granted an enterprise project; there is one page."""

    items: list[EnterpriseGrant]


class NewEnterpriseProject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that makes one."""

    name: str


class EnterpriseProjectChange(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What is to be different; what is left out stays."""

    name: str | None = None
    disabled: bool | None = None


class NewEnterpriseGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that grants one."""

    user: str


@get("/enterprise-projects", action="eps:enterpriseProjects:list")
async def list_enterprise_projects(
    call: TheApiCall, services: TheServices
) -> EnterpriseProjectList:
    """Those that the caller is granted."""
    return EnterpriseProjectList(items=await services.enterprise_projects.list(call.caller))


@post("/enterprise-projects", status_code=201, action="eps:enterpriseProjects:create")
async def create_enterprise_project(call: TheApiCall, services: TheServices) -> EnterpriseProject:
    """Make one."""
    body = read_body(call.body, NewEnterpriseProject)
    return await services.enterprise_projects.create(call.caller, body.name)


@put("/enterprise-projects/{enterprise_project_id:str}", action="eps:enterpriseProjects:update")
async def change_enterprise_project(
    call: TheApiCall, services: TheServices, enterprise_project_id: FromPath[str]
) -> EnterpriseProject:
    """Rename one, disable or enable it."""
    body = read_body(call.body, EnterpriseProjectChange)
    if body.name is None and body.disabled is None:
        raise InvalidParameterError("body", "must give name, or disabled, or both")
    return await services.enterprise_projects.change(
        call.caller, enterprise_project_id, name=body.name, disabled=body.disabled
    )


@get("/enterprise-projects/{enterprise_project_id:str}/grants", action="eps:enterpriseProjects:get")
async def list_enterprise_grants(
    call: TheApiCall, services: TheServices, enterprise_project_id: FromPath[str]
) -> EnterpriseGrantList:
    """Who is granted one."""
    found = await services.enterprise_projects.grants(call.caller, enterprise_project_id)
    return EnterpriseGrantList(items=list(found))


@post(
    "/enterprise-projects/{enterprise_project_id:str}/grants",
    status_code=204,
    action="eps:enterpriseProjects:grant",
)
async def grant_enterprise_project(
    call: TheApiCall, services: TheServices, enterprise_project_id: FromPath[str]
) -> None:
    """Grant one, or with ``all_granted_eps`` every one."""
    body = read_body(call.body, NewEnterpriseGrant)
    await services.enterprise_projects.grant(call.caller, enterprise_project_id, body.user)


@delete(
    "/enterprise-projects/{enterprise_project_id:str}/grants/{user_name:str}",
    status_code=204,
    action="eps:enterpriseProjects:revoke",
)
async def revoke_enterprise_project(
    call: TheApiCall,
    services: TheServices,
    enterprise_project_id: FromPath[str],
    user_name: FromPath[str],
) -> None:
    """Take a grant back, exactly as it was given."""
    await services.enterprise_projects.revoke(call.caller, enterprise_project_id, user_name)
