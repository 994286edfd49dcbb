"""What every call of our own API has: a caller, a query, a body, and errors of one shape."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from typing import TypeVar

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from wharfinger.domain.errors import (
    CallerError,
    ConflictError,
    HistoryForgottenError,
    InvalidParameterError,
    NotFoundError,
    NotGrantedError,
    StoreUnavailableError,
)
from wharfinger.domain.model import ALL_GRANTED_ENTERPRISE_PROJECTS, Caller
from wharfinger.http.answers import RETRY_AFTER_S, GatewayError
from wharfinger.http.authentication import authenticated, check_action, check_project
from wharfinger.http.failures import AnyRequest, answer_failure
from wharfinger.http.parameters import MAX_INT64, Parameters
from wharfinger.http.scope import REQUEST_ID
from wharfinger.http.services import TheServices

T = TypeVar("T")

MOST_ITEMS = 1000
USUAL_ITEMS = 100

# The first parent that is named here tells the status.
_STATUS: tuple[tuple[type[CallerError], int], ...] = (
    (NotFoundError, 404),
    (NotGrantedError, 403),
    (ConflictError, 409),
    (HistoryForgottenError, 410),
    (CallerError, 400),
)


class ApiCall(msgspec.Struct, frozen=True, kw_only=True):
    """One authenticated call on the caller's own project.

    Its caller sees the enterprise projects that the call speaks of, and no others.
    """

    caller: Caller
    query: Parameters
    body: bytes
    accept: str = ""
    if_none_match: str = ""

    def limit(self, *, most: int = MOST_ITEMS) -> int:
        """How many items are asked for."""
        given = self.query.integer("limit", smallest=1, largest=most)
        return USUAL_ITEMS if given is None else given

    def number(self, name: str) -> int | None:
        """An event number."""
        return self.query.integer(name, smallest=0, largest=MAX_INT64)

    def moment(self, name: str) -> dt.datetime | None:
        """A time with its offset from UTC."""
        value = self.query.raw(name)
        return None if value is None else read_time(name, value)

    def after(self, shape: type[T]) -> T | None:
        """Where to go on: a cursor that ``cursor`` made, or ``None`` at the beginning."""
        value = self.query.text("after", longest=512)
        if value is None:
            return None
        try:
            padded = value + "=" * (-len(value) % 4)
            return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=shape)
        except (binascii.Error, ValueError) as exc:
            raise InvalidParameterError("after", "must be a `next` of the same list") from exc


# How a route asks for it.
TheApiCall = SkipValidation[NamedDependency[ApiCall]]


async def api_call(request: AnyRequest, services: TheServices) -> ApiCall:
    """Authenticate a call and check the project.

    Raises:
        NotAuthenticatedError: nobody we know.
        NotGrantedError: the project or the enterprise project is not the caller's.
        NotAllowedError: no policy of the caller's allows the route's action.
    """
    caller = await authenticated(request, services)
    check_project(str(request.path_params["project_id"]), caller)
    check_action(request, caller)
    query = Parameters(request.scope["query_string"])
    asked_for = query.text("enterprise_project_id", longest=256) or ALL_GRANTED_ENTERPRISE_PROJECTS
    return ApiCall(
        caller=caller.within(asked_for),
        query=query,
        body=await request.body(),
        accept=request.headers.get("accept", ""),
        if_none_match=request.headers.get("if-none-match", ""),
    )


def cursor(position: object) -> str:
    """Make an opaque cursor of a position."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def read_time(name: str, text: str) -> dt.datetime:
    """Read a time as RFC 3339 writes it.

    Raises:
        InvalidParameterError: it is something else, or has no offset.
    """
    rule = "must be a time with an offset, like 2026-11-01T00:00:00Z"
    try:
        value = dt.datetime.fromisoformat(text)
        if value.tzinfo is None:
            raise InvalidParameterError(name, rule)
        return value.astimezone(dt.UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidParameterError(name, rule) from exc


def answer_api_failure(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Turn an error into our own API's body; what is not ours to word goes the common way."""
    if isinstance(error, CallerError):
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        return _answer(request, error.code, str(error), status)
    if isinstance(error, StoreUnavailableError):
        answer = _answer(request, error.code, "The database does not answer. Try again.", 503)
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
        return answer
    answer = answer_failure(request, error)
    if answer.status_code == 500:
        message = "Internal error. Quote the request id when you report it."
        return _answer(request, "internal", message, 500)
    return answer


def _answer(request: AnyRequest, code: str, message: str, status: int) -> Response[bytes]:
    request_id = str(request.scope.get(REQUEST_ID, ""))
    body = GatewayError(error_code=code, error_msg=message, request_id=request_id)
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")
