"""One honest answer for the operations of HSS that have to do with images and are not offered."""

from __future__ import annotations

import re
from collections.abc import Iterable

from litestar import HttpMethod, route
from litestar.handlers import HTTPRouteHandler

from wharfinger.domain.errors import NotOfferedError
from wharfinger.http.authentication import authenticated, check_project
from wharfinger.http.failures import AnyRequest
from wharfinger.http.hss.operations import OPERATIONS, Operation
from wharfinger.http.services import TheServices

# How a handler says which operation it refuses.
NOT_OFFERED = "not_offered"


def refusals(offered: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """Make a handler for every operation that none of the handlers offers."""
    known = {
        (method, _nameless(path))
        for one in offered
        for path in one.paths
        for method in one.http_methods
    }
    return [_refusal(one) for one in OPERATIONS if (one.method, _nameless(one.route)) not in known]


def _nameless(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def _refusal(operation: Operation) -> HTTPRouteHandler:
    # It tells nothing and does nothing, so it asks for no action, but a stranger learns nothing.
    @route(
        operation.route,
        http_method=HttpMethod(operation.method),
        status_code=200,
        include_in_schema=False,
        opt={NOT_OFFERED: operation.name},
    )
    async def refuse(request: AnyRequest, services: TheServices) -> None:
        caller = await authenticated(request, services)
        check_project(str(request.path_params["project_id"]), caller)
        raise NotOfferedError(operation.name)

    return refuse
