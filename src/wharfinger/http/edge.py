"""The outermost layer: one form of the path, limits, and an id for every request."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from wharfinger.http.answers import Refusal, gateway_refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_URI_BYTES = 32 * 1024
MAX_BODY_BYTES = 12 * 1024 * 1024
# A body that is too large is read and thrown away up to here: a client that is still sending
# would otherwise see a reset connection instead of the answer.
_DRAIN_BYTES = 64 * 1024 * 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

REQUEST_ID = "wharfinger.request_id"
METHOD = "wharfinger.method"


class Edge:
    """Wraps the application. It reads only the request line and the headers.

    The path the application routes on is the one a signature covers: decoded once, without a
    final ``/``. ``scope["raw_path"]`` and ``scope[METHOD]`` keep what was sent.
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        answer = _with_headers(send, request_id)
        refusal = _refuse(scope, request_id)
        if refusal is not None:
            if refusal.status == 413:
                await _drain(receive)
            await _send(refusal, answer)
            return
        scope[REQUEST_ID] = request_id
        scope[METHOD] = scope["method"]
        if scope["method"] == "HEAD":
            # A HEAD is a GET whose body the server keeps to itself.
            scope["method"] = "GET"
        scope["path"] = normalised_path(scope["raw_path"])
        await self._app(scope, receive, answer)


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


def _refuse(scope: Scope, request_id: str) -> Refusal | None:
    if len(scope["raw_path"]) + len(scope["query_string"]) + 1 > MAX_URI_BYTES:
        return gateway_refusal(414, "APIGW.0201", "Request URI is longer than 32 KB", request_id)
    if _declared_length(scope) > MAX_BODY_BYTES:
        return gateway_refusal(413, "APIGW.0201", "Request body is larger than 12 MB", request_id)
    if normalised_path(scope["raw_path"]) is None:
        message = "API request error: the path has an empty, relative or unreadable segment"
        return gateway_refusal(400, "APIGW.0201", message, request_id)
    return None


def _declared_length(scope: Scope) -> int:
    text = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(text) if text.isdigit() else 0


def _with_headers(send: Send, request_id: str) -> Send:
    added = [
        (b"x-request-id", request_id.encode()),
        (b"x-content-type-options", b"nosniff"),
    ]

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *added]
        await send(message)

    return answer


async def _drain(receive: Receive) -> None:
    left = _DRAIN_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if not message.get("more_body"):
            return


async def _send(refusal: Refusal, send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(refusal.body)).encode()),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})
