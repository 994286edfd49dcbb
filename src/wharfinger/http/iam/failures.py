"""Errors of IAM: one body that both the cloud's SDK and Keystone's clients can read."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from litestar import Response

from wharfinger.domain.errors import (
    CallerError,
    LoginRefusedError,
    NotAllowedError,
    NotFoundError,
    NotGrantedError,
    ScopeRefusedError,
    UserLockedError,
    WharfingerError,
)
from wharfinger.http.answers import GatewayError
from wharfinger.http.failures import AnyRequest, answer_failure
from wharfinger.http.iam.wire import IamError, KeystoneErrorBody
from wharfinger.http.scope import REQUEST_ID

# The first parent that is named here tells status and code; all others go the common way.
_CODES: tuple[tuple[type[WharfingerError], int, str], ...] = (
    (LoginRefusedError, 401, "IAM.0062"),
    (UserLockedError, 401, "IAM.0061"),
    (ScopeRefusedError, 401, "IAM.0001"),
    (NotAllowedError, 403, "IAM.0003"),
    (NotGrantedError, 403, "IAM.0002"),
    (NotFoundError, 404, "IAM.0004"),
    (CallerError, 400, "IAM.0011"),
)


def answer_iam_failure(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Turn an error into IAM's body."""
    for kind, status, code in _CODES:
        if isinstance(error, kind):
            return _answer(request, status, code, str(error))
    answer = answer_failure(request, error)
    try:
        said = msgspec.json.decode(answer.content, type=GatewayError)
    except msgspec.ValidationError:
        return answer
    ours = _answer(request, answer.status_code or 500, said.error_code, said.error_msg)
    ours.headers.update(answer.headers)
    return ours


def _answer(request: AnyRequest, status: int, code: str, message: str) -> Response[bytes]:
    title = HTTPStatus(status).phrase
    body = IamError(
        error_code=code,
        error_msg=message,
        error=KeystoneErrorBody(code=status, message=message, title=title),
        request_id=str(request.scope.get(REQUEST_ID, "")),
    )
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")
