"""What a page's filters and forms offer to choose from."""

from __future__ import annotations

from wharfinger.http.services import Services
from wharfinger.http.ui.visit import Visit

_REGISTRIES = "hss:imageRegistries:list"
_ENTERPRISE_PROJECTS = "eps:enterpriseProjects:list"


async def registry_names(visit: Visit, services: Services) -> dict[str, str]:
    """The registries' names by their ids, for those who may list registries."""
    if not visit.may(_REGISTRIES):
        return {}
    return {one.id: one.name for one in await services.overview.standings(visit.caller)}


async def enterprise_project_names(visit: Visit, services: Services) -> dict[str, str]:
    """The enterprise projects' names by their ids, for those who may list them."""
    if not visit.may(_ENTERPRISE_PROJECTS):
        return {}
    return {one.id: one.name for one in await services.enterprise_projects.list(visit.caller)}
