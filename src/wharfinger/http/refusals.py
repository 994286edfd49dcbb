"""Tells the ledger of calls that were refused, whichever route and whichever shape of answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from litestar.types import HTTPScope, Scope

from wharfinger.domain.errors import (
    HiddenError,
    NotAuthenticatedError,
    NotGrantedError,
    OverRateError,
    ProjectUnavailableError,
)
from wharfinger.domain.model import Caller
from wharfinger.http.authentication import CALLER
from wharfinger.http.origin import origin_of
from wharfinger.http.scope import METHOD
from wharfinger.http.services import Services
from wharfinger.service.ledger import RefusedCall

# Who may not; what is wrong with a call that may, or not there, is no refusal.
_REFUSALS = (
    NotAuthenticatedError,
    NotGrantedError,
    ProjectUnavailableError,
    HiddenError,
    OverRateError,
)


def refusal_hook(services: Services) -> Callable[[Exception, Scope], Awaitable[None]]:
    """What the framework calls with every error, before it is worded."""

    async def note(error: Exception, scope: Scope) -> None:
        if isinstance(error, _REFUSALS):
            # There are no websockets here.
            call = _call(cast("HTTPScope", scope), services)
            services.ledger.refused(error, cast("Caller | None", scope.get(CALLER)), call)

    return note


def _call(scope: HTTPScope, services: Services) -> RefusedCall:
    # The route's pattern, not the path: that is the caller's text, and might hold anything.
    return RefusedCall(
        method=str(scope.get(METHOD, scope["method"])),
        route=scope.get("path_template", ""),
        action=str(scope["route_handler"].opt.get("action") or ""),
        origin=origin_of(scope, services.proxies),
    )
