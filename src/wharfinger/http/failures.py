"""Which error becomes which answer; the only place where errors meet status codes."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
)

from wharfinger.domain.errors import (
    CallerError,
    IdentityUnavailableError,
    NotAuthenticatedError,
    NotFoundError,
    NotGrantedError,
    OverRateError,
    ProjectUnavailableError,
    StoreUnavailableError,
    TokenExpiredError,
)
from wharfinger.http.answers import (
    RETRY_AFTER_S,
    Refusal,
    gateway_refusal,
    hss_refusal,
    over_rate_refusal,
)
from wharfinger.http.scope import REQUEST_ID

_log = structlog.get_logger(__name__)

AnyRequest = Request[Any, Any, Any]


class UnreadableBodyError(CallerError):
    """The body is not JSON."""

    code = "unreadable_body"


def answer_failure(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Turn any error into the body its reader expects."""
    request_id = request.scope.get(REQUEST_ID, "")
    refusal = _refusal(error, str(request_id))
    if refusal.status >= 500:
        _log.error(
            "http.failed",
            request_id=request_id,
            path=request.scope["path"],
            error=type(error).__name__,
            exc_info=error if refusal.status == 500 else None,
        )
    return Response(
        content=refusal.body,
        status_code=refusal.status,
        media_type="application/json",
        headers=dict(refusal.headers),
    )


def _refusal(error: Exception, request_id: str) -> Refusal:
    if isinstance(error, HTTPException):
        return _framework_refusal(error, request_id)
    if refusal := _identity_refusal(error, request_id):
        return refusal
    if isinstance(error, CallerError):
        return hss_refusal(_hss_code(error), str(error))
    if isinstance(error, StoreUnavailableError):
        return _store_unavailable()
    message = f"Internal error. Quote the request id {request_id} when you report it."
    return hss_refusal("HSS.0041", message, status=500)


def _identity_refusal(error: Exception, request_id: str) -> Refusal | None:
    """Word what went wrong with the question who is asking, as the gateway does."""
    if isinstance(error, TokenExpiredError):
        return gateway_refusal(401, "APIGW.0307", "The token must be updated.", request_id)
    if isinstance(error, NotAuthenticatedError):
        message = f"Incorrect IAM authentication information: {error.detail}"
        return gateway_refusal(401, "APIGW.0301", message, request_id)
    if isinstance(error, ProjectUnavailableError):
        message = f"The project is unavailable: {error}"
        return gateway_refusal(403, "APIGW.0310", message, request_id)
    if isinstance(error, IdentityUnavailableError):
        return gateway_refusal(
            503, "APIGW.0613", "IAM is unavailable.", request_id, retry_after_s=RETRY_AFTER_S
        )
    return over_rate_refusal(error, request_id) if isinstance(error, OverRateError) else None


def _hss_code(error: CallerError) -> str:
    if isinstance(error, UnreadableBodyError):
        return "HSS.0002"
    if isinstance(error, NotFoundError):
        return "HSS.0011"
    if isinstance(error, NotGrantedError):
        return "HSS.0013"
    return "HSS.0001"


def _store_unavailable() -> Refusal:
    message = "The database does not answer. Try again."
    refusal = hss_refusal("HSS.0041", message, status=503)
    # The SDK repeats a GET that met a 503 only where Retry-After stands.
    return msgspec.structs.replace(refusal, headers=(("Retry-After", str(RETRY_AFTER_S)),))


def _framework_refusal(error: HTTPException, request_id: str) -> Refusal:
    if isinstance(error, MethodNotAllowedException):
        return gateway_refusal(404, "APIGW.0101", "The API does not exist.", request_id)
    if isinstance(error, NotFoundException):
        message = "The API does not exist or has not been published in the environment"
        return gateway_refusal(404, "APIGW.0101", message, request_id)
    if error.status_code == 413:
        return gateway_refusal(413, "APIGW.0201", "Request body is larger than 12 MB", request_id)
    if error.status_code >= 500:
        message = f"Internal error. Quote the request id {request_id} when you report it."
        return hss_refusal("HSS.0041", message, status=500)
    return gateway_refusal(400, "APIGW.0201", "API request error", request_id)
