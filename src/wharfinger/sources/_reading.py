"""Reading answers, shared by all kinds: status, JSON, errors of all sorts, links, times."""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar, cast
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import msgspec

from wharfinger.domain.errors import (
    CursorRefusedError,
    ForbiddenError,
    MalformedAnswerError,
    MissingError,
    SourceError,
    ThrottledError,
    UnauthorisedError,
    UnexpectedAnswerError,
    UnsupportedError,
    UpstreamFailureError,
)
from wharfinger.domain.model import Cursor
from wharfinger.domain.ports import Reply
from wharfinger.sources._http import redacted

T = TypeVar("T")

# No registry is older than Docker's first release in 2013 by more than its projects' imports.
_EARLIEST = dt.datetime(1990, 1, 1, tzinfo=dt.UTC)
_FUTURE_TOLERANCE = dt.timedelta(days=1)
_STARTED = dt.datetime.now(dt.UTC)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_MESSAGE = 200

# Throttling that comes as another status than 429: ECR's exceptions, Harbor's and Quay's codes.
_THROTTLING = re.compile(r"throttl|toomanyrequests|too many requests|rate ?exceeded", re.IGNORECASE)


class ErrorBody(msgspec.Struct, frozen=True):
    """Code and message of an error, whichever of the many shapes carried them."""

    code: str = ""
    message: str = ""


def raise_for_status(reply: Reply, *, throttling_codes: frozenset[str] = frozenset()) -> None:
    """Raise the error that an answer's status means; 2xx passes.

    Args:
        reply: the answer.
        throttling_codes: error codes of this registry that mean "too many requests", whatever
            the status.
    """
    if 200 <= reply.status < 300:
        return
    error = error_body(reply.body)
    said = " ".join(part for part in (error.code, error.message) if part)
    text = f"{redacted(reply.url)}: {reply.status} {said}".rstrip()
    wait_s = retry_after_s(reply)
    if reply.status == 429 or error.code in throttling_codes:
        raise ThrottledError(text, retry_after_s=wait_s)
    if reply.status == 400 and _THROTTLING.search(said):
        raise ThrottledError(text, retry_after_s=wait_s)
    if reply.status == 408 or (reply.status >= 500 and reply.status not in (501, 505)):
        raise UpstreamFailureError(text, retry_after_s=wait_s)
    raise _LASTING.get(reply.status, UnexpectedAnswerError)(text)


_LASTING: Mapping[int, type[SourceError]] = {
    401: UnauthorisedError,
    403: ForbiddenError,
    404: MissingError,
    405: UnsupportedError,
    501: UnsupportedError,
}


def decode(reply: Reply, shape: type[T]) -> T:
    """Decode a JSON answer.

    Raises:
        MalformedAnswerError: it is not what the protocol says; with a hint of what it is instead.
    """
    try:
        return cast("T", _decoder(cast("Hashable", shape)).decode(reply.body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedAnswerError(f"{redacted(reply.url)}: {_hint(reply.body, exc)}") from exc


@functools.lru_cache(maxsize=64)
def _decoder(shape: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def _hint(body: bytes, exc: Exception) -> str:
    start = body[:200].lstrip()
    if not start:
        return "the answer is empty"
    if start.startswith(b"<"):
        return "an HTML or XML page where JSON was expected (from a proxy?)"
    if "truncated" in str(exc):
        return "the JSON answer is cut short"
    error = error_body(body)
    if error.code or error.message:
        return f"an error where a result was expected: {error.code} {error.message}".rstrip()
    return f"not the expected JSON: {_harmless(str(exc))}"


def error_body(body: bytes) -> ErrorBody:
    """Read code and message from any of the shapes registries and their gateways use."""
    if len(body) > 64 * 1024:
        return ErrorBody()
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorBody()
    for code, message in _error_pairs(tree, depth=0):
        return ErrorBody(_harmless(str(code)), _harmless(str(message)))
    return ErrorBody()


_PAIRS = (
    ("error_code", "error_msg"),
    ("errorCode", "errorMessage"),
    ("errorCode", "errorMsg"),
    ("code", "message"),
    ("__type", "message"),
    ("code", "msg"),
)


def _error_pairs(tree: Any, *, depth: int) -> Iterator[tuple[Any, Any]]:
    if depth > 3:
        return
    if isinstance(tree, dict):
        for code, message in _PAIRS:
            if code in tree and message in tree:
                yield tree[code], tree[message]
        # Only the members that are known to wrap an error: a result may hold codes of its own.
        for name in ("errors", "error"):
            yield from _error_pairs(tree.get(name), depth=depth + 1)
    elif isinstance(tree, list) and depth < 2:
        for element in tree[:3]:
            yield from _error_pairs(element, depth=depth + 1)


_LONG_SECRET = re.compile(r"(?i)\b(?:basic|bearer)\s+\S+|[A-Za-z0-9+/=_.\-]{32,}")


def _harmless(text: str) -> str:
    """Shorten what a server said and take out what could be a credential it echoes."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return _LONG_SECRET.sub("…", printable)[:_LONGEST_MESSAGE].strip()


def retry_after_s(reply: Reply) -> float | None:
    """Return how long the server asks to wait, in seconds, from any of the known headers.

    A date is taken against the server's own ``Date``, so that clocks need not agree.
    """
    value = reply.headers.get("retry-after", "").strip()
    now = server_time(reply) or dt.datetime.now(dt.UTC)
    if not value:
        epoch = reply.headers.get("x-retry-after", "").strip()
        return max(0.0, float(epoch) - now.timestamp()) if epoch.isdigit() else None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    when = _http_date(value)
    return max(0.0, (when - now).total_seconds()) if when else None


def server_time(reply: Reply) -> dt.datetime | None:
    """Return the server's clock as its ``Date`` header tells it."""
    return _http_date(reply.headers.get("date", ""))


def _http_date(text: str) -> dt.datetime | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return when if when.tzinfo else when.replace(tzinfo=dt.UTC)


def timestamp(text: str | None) -> dt.datetime | None:
    """Read an RFC 3339 time with any number of fractional digits; without a zone it is UTC.

    What no clock could have said (year 1, the epoch's first day, tomorrow) is ``None``.
    """
    when = _in_utc(text)
    if when is None:
        return None
    # What lies before this process needs no look at the clock; of two times a row, most do.
    if when > _STARTED and when > dt.datetime.now(dt.UTC) + _FUTURE_TOLERANCE:
        return None
    return when if when >= _EARLIEST else None


def deadline(text: str | None) -> dt.datetime | None:
    """Read a time that may lie ahead; where it is the year 1, there is none."""
    when = _in_utc(text)
    return when if when is not None and when >= _EARLIEST else None


def _in_utc(text: str | None) -> dt.datetime | None:
    if not text:
        return None
    try:
        when = dt.datetime.fromisoformat(text.strip())
        if when.tzinfo is not dt.UTC:
            when = when.astimezone(dt.UTC) if when.tzinfo else when.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        return None
    return when


# --- paging ------------------------------------------------------------------------------------


def next_link(reply: Reply) -> str | None:
    """Return the absolute URL of the page after this one, or ``None`` on the last (RFC 8288).

    The link is followed as it is, never rebuilt. It must stay on the host that was asked; where
    a proxy made the registry forget its scheme, or where in front of ``/v2/`` it lives, what was
    asked is kept.

    Raises:
        UnexpectedAnswerError: the link leads to another host, or is no URL.
    """
    for target, rels in _links(reply.headers.get("link", "")):
        if "next" in rels:
            return _on_same_host(reply.url, target)
    return None


def _links(header: str) -> Iterator[tuple[str, set[str]]]:
    for link in _split_outside(header, ","):
        target, *params = _split_outside(link, ";")
        yield target.strip().removeprefix("<").removesuffix(">"), _rels(params)


def _rels(params: list[str]) -> set[str]:
    for param in params:
        name, _, value = param.partition("=")
        if name.strip().lower() == "rel":
            return set(value.strip().strip('"').lower().split())
    return set()


def _split_outside(text: str, separator: str) -> list[str]:
    """Split at a separator that is neither between ``<>`` nor between quotes."""
    parts, start, closing = [], 0, ""
    for at, char in enumerate(text):
        if closing:
            closing = "" if char == closing else closing
        elif char in '<"':
            closing = ">" if char == "<" else char
        elif char == separator:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _on_same_host(base: str, target: str) -> str:
    try:
        here, there = urlsplit(base), urlsplit(urljoin(base, target))
        same = _authority(here.hostname, here.port, here.scheme) == _authority(
            there.hostname, there.port, there.scheme
        )
    except ValueError as exc:
        raise UnexpectedAnswerError(f"{redacted(base)}: its Link is no URL") from exc
    if there.scheme not in _DEFAULT_PORTS or not same or "@" in there.netloc:
        raise UnexpectedAnswerError(
            f"{redacted(base)}: its Link leads to another host, {there.hostname!r}"
        )
    own = _own_path(here.path, there.path)
    path, query = (quote(part, safe="!#$%&'()*+,/:;=?@[]~") for part in (own, there.query))
    return urlunsplit((here.scheme, here.netloc, path, query, ""))


def _own_path(asked: str, linked: str) -> str:
    """Return the path to go on with: the asked one, where the linked one is that but for its root.

    Nexus behind a port of its own adds ``/repository/NAME`` (nexus-public#1011), and Artifactory
    leaves out its repository (RTFACT-18971).
    """
    before, after = (path.rpartition("/v2/")[2] for path in (asked, linked))
    same = before == after or before.endswith(f"/{after}")
    return asked if after and same else linked


def _authority(host: str | None, port: int | None, scheme: str) -> tuple[str | None, int | None]:
    return host, None if port == _DEFAULT_PORTS.get(scheme) else port


def check_cursor(cursor: Cursor, own: Cursor) -> str:
    """Return where a cursor stands, if it was made under the configuration that ``own`` has.

    Raises:
        CursorRefusedError: it is another configuration's, or an offset, which cannot be resumed.
    """
    for name in ("kind", "api", "page_size", "sort", "generation"):
        was, now = getattr(cursor, name), getattr(own, name)
        if was != now:
            raise CursorRefusedError(f"the cursor was made with {name} {was!r}, now it is {now!r}")
    if not cursor.resumable:
        raise CursorRefusedError("a listing by offset begins again; its cursor cannot be resumed")
    return cursor.position


def reading(shape: type[T], check: Callable[[Reply], None] = raise_for_status) -> Any:
    """Return a reader for ``Http.call`` that gives the decoded answer and the answer itself."""

    def read(reply: Reply) -> tuple[T, Reply]:
        check(reply)
        return decode(reply, shape), reply

    return read
