"""The outermost layer: one form of the path, limits, and an id for every request."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import structlog
from h11 import LocalProtocolError
from litestar.types import HTTPScope

from wharfinger.domain import tracing
from wharfinger.domain.errors import OverRateError
from wharfinger.http.answers import (
    RETRY_AFTER_S,
    Refusal,
    gateway_refusal,
    headers_of,
    headers_of_all,
    over_rate_refusal,
)
from wharfinger.http.limits import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_URI_BYTES,
    SLOWEST_BYTES_PER_S,
    SMALL_BODY_BYTES,
    Limits,
    Room,
)
from wharfinger.http.origin import known_request_id, origin_of, source_address
from wharfinger.http.scope import METHOD, REQUEST_ID
from wharfinger.http.services import Services
from wharfinger.service.ledger import RefusedCall

log = structlog.get_logger()

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

# A body that is refused is read and thrown away up to here, and as long as it keeps coming: a
# client that is still sending would otherwise see a reset connection instead of the answer.
_DRAIN_BYTES = 64 * 1024 * 1024
_DRAIN_PAUSE_S = 0.5

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Whoever asks whether we are well must not be told that somebody else asks too much.
_UNCOUNTED = frozenset({"/healthz", "/readyz"})
_CLOSE = (b"connection", b"close")
_TRACE_HEADERS = frozenset({b"traceparent", b"tracestate"})
# Whoever watches us asks every few seconds: that is in no trace.
_WATCHED = frozenset({b"/healthz", b"/readyz", b"/metrics"})


class _RefusedError(Exception):
    """The answer is known before the application is asked."""

    def __init__(self, status: int, message: str, *, code: str = "APIGW.0201") -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def refusal(self, request_id: str) -> Refusal:
        later = RETRY_AFTER_S if self.status == 503 else None
        return gateway_refusal(self.status, self.code, str(self), request_id, retry_after_s=later)


class _GoneError(Exception):
    """Whoever asked has gone, and nobody waits for an answer."""


class Edge:
    """Wraps the application, which gets requests that are whole, and no larger than they may be.

    The path the application routes on is the one a signature covers: decoded once, without a
    final ``/``. ``scope["raw_path"]`` and ``scope[METHOD]`` keep what was sent.
    """

    def __init__(self, app: Asgi, services: Services) -> None:
        self._app = app
        self._services = services
        self._room = Room()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A copy: the server goes on to look at its own, whose method may be HEAD.
        scope = dict(scope)
        said = known_request_id(cast("HTTPScope", scope), self._services.proxies)
        request_id = said or uuid.uuid4().hex
        # Whatever is logged on the way, and by the jobs that the request leaves behind, has it.
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            if tracing.is_on() and scope["raw_path"] not in _WATCHED:
                await self._trace(scope, receive, send, request_id)
            else:
                await self._receive(scope, receive, send, request_id)

    async def _trace(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Make a span of the request, in the trace that it says it belongs to."""
        method = scope["method"]
        carried = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _TRACE_HEADERS
        }
        with tracing.span(
            method,
            "server",
            carried=carried,
            http_request_method=method,
            wharfinger_request_id=request_id,
        ) as span:

            async def tell(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.tell(http_response_status_code=message["status"])
                    if message["status"] >= 500:
                        span.fail(str(message["status"]))
                await send(message)

            await self._receive(scope, receive, tell, request_id)
            if route := scope.get("path_template"):
                span.rename(f"{method} {route}")
                span.tell(http_route=route)

    async def _receive(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        incoming = _Incoming(scope, receive, self._room, self._services.limits)
        source = source_address(cast("HTTPScope", scope), self._services.proxies)
        answer = self._answering(send, scope, request_id, source)
        try:
            self._check(scope, source)
            await incoming.fetch()
            await self._serve(scope, incoming, answer, request_id)
        except _GoneError:
            return
        except _RefusedError as error:
            await incoming.refuse(error.refusal(request_id), answer)
        except OverRateError as error:
            self._tell(scope, request_id, error)
            await incoming.refuse(over_rate_refusal(error, request_id), answer)
        finally:
            incoming.let_go()

    async def _serve(
        self, scope: Scope, incoming: _Incoming, answer: Send, request_id: str
    ) -> None:
        scope[REQUEST_ID] = request_id
        scope[METHOD] = scope["method"]
        if scope["method"] == "HEAD":
            # A HEAD is a GET whose body the server keeps to itself.
            scope["method"] = "GET"
        await self._app(scope, incoming.receive, answer)

    def _check(self, scope: Scope, source: str) -> None:
        """Refuse by request line and header fields alone; what is left has a normalised path."""
        _check_size(scope)
        path = normalised_path(scope["raw_path"])
        if path not in _UNCOUNTED:
            self._services.throttle.admit_address(source)
        if path is None:
            raise _RefusedError(
                400, "API request error: the path has an empty, relative or unreadable segment"
            )
        scope["path"] = path

    def _tell(self, scope: Scope, request_id: str, error: OverRateError) -> None:
        """Count it: who asks is not known yet."""
        scope[REQUEST_ID] = request_id
        origin = origin_of(cast("HTTPScope", scope), self._services.proxies)
        call = RefusedCall(method=scope["method"], route="", action="", origin=origin)
        self._services.ledger.refused(error, None, call)

    def _answering(self, send: Send, scope: Scope, request_id: str, source: str) -> Send:
        added = headers_of_all(request_id)
        exposition, began = self._services.exposition, time.perf_counter()
        method = scope["method"]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
                if message["status"] == 401:
                    self._services.throttle.failed(source)
                # The route is its pattern: the path is the caller's own text.
                route = scope.get("path_template") or "none"
                took_s = time.perf_counter() - began
                log.debug(
                    "http.answered",
                    method=method,
                    route=route,
                    status=message["status"],
                    milliseconds=round(took_s * 1000),
                )
                if exposition is not None:
                    exposition.answered(method, route, message["status"], took_s)
            await send(message)

        return answer


def normalised_path(raw_path: bytes) -> str | None:
    """Decode a path once, as the signature does; ``None`` where it could be read in two ways.

    That is: an empty segment, ``.`` or ``..``, a control character, or bytes that are not UTF-8.
    ``%2F`` is ``/`` and a final ``/`` means nothing, since the signature cannot tell them apart.
    """
    try:
        path = unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not path.startswith("/"):
        return None
    if path == "/":
        return path
    segments = path.removesuffix("/").split("/")[1:]
    if any(segment in {"", ".", ".."} for segment in segments) or _CONTROL.search(path):
        return None
    return "/" + "/".join(segments)


def _check_size(scope: Scope) -> None:
    if len(scope["raw_path"]) + len(scope["query_string"]) + 1 > MAX_URI_BYTES:
        raise _RefusedError(414, "Request URI is longer than 32 KB")
    headers = scope["headers"]
    # Four bytes go to the colon, the space and the end of each line.
    if sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEADER_BYTES:
        raise _RefusedError(494, "Request headers are larger than 64 KB")
    if len(headers) > MAX_HEADERS:
        raise _RefusedError(494, f"Request headers are more than {MAX_HEADERS}")
    if _declared_length(scope) > MAX_BODY_BYTES:
        raise _RefusedError(413, "Request body is larger than 12 MB")
    if _header(scope, b"transfer-encoding") and _header(scope, b"content-length"):
        # A proxy in front may have believed the one of which we believe the other.
        raise _RefusedError(
            400, "API request error: Content-Length must not stand beside Transfer-Encoding"
        )


class _Incoming:
    """The body of one request: fetched whole before the application is asked, or refused."""

    def __init__(self, scope: Scope, receive: Receive, room: Room, limits: Limits) -> None:
        self._receive = receive
        self._room = room
        self._limits = limits
        self._chunks: list[bytes] = []
        self._size = 0
        self._began = asyncio.get_running_loop().time()
        self._told = False
        self._complete = not (
            _declared_length(scope) or _header(scope, b"transfer-encoding") is not None
        )
        # Such a client waits for our word before it sends anything.
        self._waits = _header(scope, b"expect") is not None

    async def fetch(self) -> None:
        """Receive all of it."""
        while not self._complete:
            await self._fetch_some()
            if self._size > MAX_BODY_BYTES:
                raise _RefusedError(413, "Request body is larger than 12 MB")

    async def _fetch_some(self) -> None:
        chunk = await self._next()
        self._size += len(chunk)
        self._chunks.append(chunk)
        is_full = self._room.take(len(chunk)) > self._limits.bodies_bytes
        if is_full and self._size > SMALL_BODY_BYTES:
            raise _RefusedError(503, "Too many large requests at once. Try again.")

    async def _next(self) -> bytes:
        self._waits = False
        deadline = self._began + self._limits.receive_s + self._size / SLOWEST_BYTES_PER_S
        return await self._next_until(deadline)

    async def _next_until(self, deadline: float) -> bytes:
        try:
            async with asyncio.timeout_at(deadline):
                message = await self._receive()
        except TimeoutError:
            raise _RefusedError(408, "Request body did not arrive in time") from None
        except LocalProtocolError:
            # The connection was given up while the answer to an Expect was on its way.
            raise _GoneError from None
        if message["type"] == "http.disconnect":
            raise _GoneError
        self._complete = not message.get("more_body", False)
        return bytes(message.get("body", b""))

    async def receive(self) -> Message:
        """The application's ``receive``: the whole body, then only whether the caller has gone."""
        if self._told:
            return await self._receive()
        self._told = True
        return {"type": "http.request", "body": b"".join(self._chunks), "more_body": False}

    async def refuse(self, refusal: Refusal, answer: Send) -> None:
        """Answer in the application's stead, if anybody is left to be answered."""
        try:
            await self._drain()
        except _GoneError:
            return
        headers = headers_of(refusal) + ([] if self._complete else [_CLOSE])
        await answer({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await answer({"type": "http.response.body", "body": refusal.body})

    async def _drain(self) -> None:
        self.let_go()
        loop, left = asyncio.get_running_loop(), _DRAIN_BYTES
        end = loop.time() + self._limits.receive_s
        try:
            while not self._complete and not self._waits and left > 0:
                left -= len(await self._next_until(min(end, loop.time() + _DRAIN_PAUSE_S)))
        except _RefusedError:
            # It has stopped coming.
            return

    def let_go(self) -> None:
        """Give the room back."""
        self._room.give_back(sum(len(chunk) for chunk in self._chunks))
        self._chunks.clear()


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)


def _declared_length(scope: Scope) -> int:
    text = _header(scope, b"content-length") or b"0"
    return int(text) if text.isdigit() else 0
