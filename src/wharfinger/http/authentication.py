"""Hands a request, exactly as it was sent, to the authenticator."""

from __future__ import annotations

from litestar.types import HTTPScope

from wharfinger.domain.model import Caller
from wharfinger.http.edge import METHOD
from wharfinger.http.failures import AnyRequest
from wharfinger.http.services import Services
from wharfinger.identity.authentication import RawRequest


async def authenticated(request: AnyRequest, services: Services) -> Caller:
    """Tell who sent a request.

    Raises:
        NotAuthenticatedError: nobody we know.
    """
    return await services.authenticator.authenticate(_raw(request.scope, await request.body()))


def _raw(scope: HTTPScope, body: bytes) -> RawRequest:
    return RawRequest(
        method=str(scope.get(METHOD, scope["method"])),
        raw_path=scope["raw_path"],
        raw_query=scope["query_string"],
        headers=list(scope["headers"]),
        body=body,
    )
