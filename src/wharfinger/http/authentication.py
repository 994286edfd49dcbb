"""Hands a request, exactly as it was sent, to the authenticator."""

from __future__ import annotations

import msgspec
from litestar.types import HTTPScope

from wharfinger.domain.errors import NotAuthenticatedError, NotGrantedError
from wharfinger.domain.model import Caller
from wharfinger.http.failures import AnyRequest
from wharfinger.http.origin import origin_of, source_address
from wharfinger.http.scope import METHOD
from wharfinger.http.services import Services
from wharfinger.identity.authentication import RawRequest

CALLER = "wharfinger.caller"


async def authenticated(request: AnyRequest, services: Services) -> Caller:
    """Tell who sent a request.

    Raises:
        NotAuthenticatedError: nobody we know.
        OverRateError: somebody who has asked too often.
    """
    raw = _raw(request.scope, await request.body(), services)
    return await _known(request, services, raw)


def check_project(project_id: str, caller: Caller) -> None:
    """Refuse a path of another project than the caller's.

    Raises:
        NotGrantedError: it is another's, or the caller's token opens no project at all.
    """
    if not caller.project_id:
        raise NotGrantedError("project_id: the token is scoped to no project; ask for one that is")
    if project_id != caller.project_id:
        raise NotGrantedError(f"project_id: {project_id!r} is not the project of the credential")


def check_action(request: AnyRequest, caller: Caller, *, free: bool = False) -> None:
    """Refuse a caller whose policies do not allow the action that the route names.

    Raises:
        NotAllowedError: it names the action.
    """
    # A route that names none fails here, and in the tests: nothing is open by an oversight.
    caller.require(request.route_handler.opt["action"], free=free)


async def authenticated_by_token(
    request: AnyRequest, services: Services, given: str | None
) -> tuple[str, Caller]:
    """Return the token that a request brings, once it is found good, and whose it is.

    It is the one ``given`` in the body, which then stands alone, or ``X-Auth-Token``.

    Raises:
        NotAuthenticatedError: there is none, or it does not hold.
        OverRateError: it has been used too often.
    """
    raw = _raw(request.scope, await request.body(), services)
    if given is not None:
        alone = RawRequest(
            method=raw.method,
            raw_path=raw.raw_path,
            raw_query=raw.raw_query,
            headers=[(b"x-auth-token", given.encode())],
        )
        return given, await _known(request, services, alone)
    token = request.headers.get("X-Auth-Token")
    if token is None:
        raise NotAuthenticatedError("X-Auth-Token must be given", reason="no_credentials")
    return token, await _known(request, services, raw)


async def _known(request: AnyRequest, services: Services, raw: RawRequest) -> Caller:
    return admit(request, services, await services.authenticator.authenticate(raw))


def admit(request: AnyRequest, services: Services, caller: Caller) -> Caller:
    """Take note of who asks, and from where.

    Raises:
        OverRateError: the caller has asked too often.
    """
    caller = msgspec.structs.replace(caller, origin=origin_of(request.scope, services.proxies))
    # For whoever has to tell later who was refused.
    request.scope[CALLER] = caller  # type: ignore[literal-required]
    # All tokens of one user count as one: a user makes as many as it likes.
    name = f"{caller.account_id}/{caller.project_id}/{caller.principal}"
    services.throttle.admit_credential(name)
    return caller


def _raw(scope: HTTPScope, body: bytes, services: Services) -> RawRequest:
    return RawRequest(
        method=str(scope.get(METHOD, scope["method"])),
        raw_path=scope["raw_path"],
        raw_query=scope["query_string"],
        headers=list(scope["headers"]),
        body=body,
        source=source_address(scope, services.proxies),
    )
