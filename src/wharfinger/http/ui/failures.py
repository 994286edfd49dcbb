"""Errors as pages: what went wrong, what to do, and the id to quote."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from litestar import Response
from litestar.response import Redirect

from wharfinger.domain.errors import (
    CallerError,
    ConflictError,
    HistoryForgottenError,
    IdentityUnavailableError,
    InvalidParameterError,
    LockedError,
    NotAuthenticatedError,
    NotFoundError,
    NotGrantedError,
    OverRateError,
    StoreUnavailableError,
)
from wharfinger.http.answers import RETRY_AFTER_S
from wharfinger.http.failures import AnyRequest, answer_failure
from wharfinger.http.scope import METHOD, REQUEST_ID
from wharfinger.http.ui.look import look_of
from wharfinger.http.ui.pages import HEADERS, bare_page
from wharfinger.http.ui.words import Words

PREFIX = "/console"
SIGN_IN = f"{PREFIX}/sign-in"
# The first parent that is named here tells the status.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotFoundError, 404),
    (NotGrantedError, 403),
    (ConflictError, 409),
    (HistoryForgottenError, 410),
    (CallerError, 400),
    (NotAuthenticatedError, 401),
    (OverRateError, 429),
    (StoreUnavailableError, 503),
    (IdentityUnavailableError, 503),
)
# Of these the message is for whoever asked; of others it might tell too much.
_TELLING = (CallerError, OverRateError)


def is_of_the_console(request: AnyRequest) -> bool:
    """Whether a request is for a page."""
    path = str(request.scope["path"])
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def answer_page_failure(request: AnyRequest, error: Exception) -> Response[Any]:
    """Turn any error into a page; whoever is not signed in is asked to do so."""
    answer = _answer(request, error)
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


def _answer(request: AnyRequest, error: Exception) -> Response[Any]:
    path = request.scope["path"]
    if isinstance(error, NotAuthenticatedError):
        if path == SIGN_IN:
            return _refused(request, error)
        if request.scope.get(METHOD) in ("GET", "HEAD") and not _wants_no_page(request):
            return Redirect(_sign_in_first(request), status_code=303)
    return _failure_page(request, error, _status_of(request, error))


def _status_of(request: AnyRequest, error: Exception) -> int:
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    # Our own faults are logged where all are; the framework's errors have a status of their own.
    return answer_failure(request, error).status_code or 500


def _failure_page(request: AnyRequest, error: Exception, status: int) -> Response[Any]:
    look = look_of(request)
    known = look.words.has(f"failures.title_{status}")
    answer = bare_page(
        look,
        "failure.html",
        status=status,
        kind=status if known else (500 if status >= 500 else 400),
        about=error.parameter if isinstance(error, InvalidParameterError) else "",
        detail=_detail(error),
        request_id=str(request.scope.get(REQUEST_ID, "")),
    )
    if isinstance(error, OverRateError):
        answer.headers["Retry-After"] = str(error.retry_after_s)
    elif status == 503:
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer


def _detail(error: Exception) -> str:
    if isinstance(error, InvalidParameterError):
        return error.rule
    return str(error) if isinstance(error, _TELLING) else ""


def _refused(request: AnyRequest, error: NotAuthenticatedError) -> Response[Any]:
    look = look_of(request)
    return bare_page(
        look,
        "sign_in.html",
        status=401,
        refused=_why(look.words, error),
        next=safe_path(request.query_params.get("next", "")),
    )


def _why(words: Words, error: NotAuthenticatedError) -> str:
    key = "locked" if isinstance(error, LockedError) else error.reason
    known = words.has(f"sign_in.refused_{key}")
    return words(f"sign_in.refused_{key}" if known else "sign_in.refused")


def _wants_no_page(request: AnyRequest) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


def _sign_in_first(request: AnyRequest) -> str:
    query = request.scope["query_string"].decode("ascii", "replace")
    wanted = request.scope["path"] + (f"?{query}" if query else "")
    return f"{SIGN_IN}?next={quote(wanted, safe='/')}"


def safe_path(wanted: str) -> str:
    """A page of ours to go to after signing in, whatever an address says; else the first one."""
    path, _, query = wanted.partition("?")
    inside = path == PREFIX or path.startswith(f"{PREFIX}/")
    plain = wanted.isascii() and wanted.isprintable() and not set(wanted) & set('\\"<> ')
    if not inside or not plain or path == SIGN_IN or ".." in path or "//" in path:
        return PREFIX
    return path + (f"?{query}" if query else "")
