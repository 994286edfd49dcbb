"""The HTTP server: uvicorn's, with the patience and the errors of a gateway."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from wharfinger.http.answers import (
    RETRY_AFTER_S,
    Refusal,
    gateway_refusal,
    headers_of,
    headers_of_all,
)
from wharfinger.http.edge import Asgi, Receive, Scope, Send
from wharfinger.http.limits import MAX_HEADER_BYTES, MAX_URI_BYTES, Limits

# A head that has not ended after so many bytes is too large; its fields are measured at the edge.
_MAX_HEAD_BYTES = MAX_URI_BYTES + MAX_HEADER_BYTES
# How often a connection is looked at.
_LOOK_S = 1.0
# Who takes less than this of an answer, in the time that a request has, has stopped reading.
_STALLED_BYTES = 16 * 1024
# Connections beyond the limit that are still told so; those beyond are closed without a word.
_TOLD = 64
# A body may come in so many pieces of any size; more must be so large on average.
_FREE_PIECES, _SMALLEST_PIECE = 1000, 64
# After an answer to what we did not read, we listen so long: who is still sending would otherwise
# see a reset connection instead of the answer.
_LINGER_S = 2.0


class ServerConfig(uvicorn.Config):
    """How the application is served, wherever it is served."""

    def __init__(self, app: Asgi, *, host: str, port: int, limits: Limits) -> None:
        super().__init__(
            cast("Any", app),
            host=host,
            port=port,
            http=Connection,
            # There are none, and an upgrade to one is no way around the rest.
            ws="none",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            # Behind a proxy the signature is still over what the client sent: nothing is rewritten.
            proxy_headers=False,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            timeout_keep_alive=cast("int", limits.keep_alive_s),
            timeout_graceful_shutdown=5,
        )
        self.limits = limits
        # What strangers send must not fill our log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class _TooFineError(h11.RemoteProtocolError):
    """A body comes in pieces so small that reading them costs more than sending them."""


class _Reader(h11.Connection):
    """Reads requests, and refuses a body in tiny pieces: each costs as much as a large one."""

    _pieces = _size = 0

    def next_event(self) -> Any:
        """Read the next event."""
        event = super().next_event()
        if type(event) is h11.Request:
            self._pieces = self._size = 0
        elif type(event) is h11.Data:
            self._pieces += 1
            self._size += len(event.data)
            if self._pieces > _FREE_PIECES and self._size < self._pieces * _SMALLEST_PIECE:
                raise _TooFineError("the pieces are too small")
        return event


class Connection(H11Protocol):
    """One connection. It ends when its client is too slow, to send or to read."""

    def __init__(self, config: uvicorn.Config, *arguments: Any, **named: Any) -> None:
        super().__init__(config, *arguments, **named)
        self.conn = _Reader(h11.SERVER, _MAX_HEAD_BYTES)
        self._limits = cast("ServerConfig", config).limits
        # Since when the head of a request is awaited; None while one is carried out.
        self._waits_since: float | None = None
        self._unread = 0
        self._read_at = 0.0
        self._lingers = False
        self._watch: asyncio.TimerHandle | None = None

    # --- what the loop tells us -------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection in, make room for it, or tell it that there is none."""
        super().connection_made(transport)
        self._waits_since = self._read_at = self.loop.time()
        excess = len(self.connections) - self._limits.connections
        if excess > 0 and not self._make_room():
            if excess > _TOLD:
                transport.abort()
                return
            self.app = cast("Any", _answer_full)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what the client sends."""
        if self._lingers:
            return
        is_first = self._has_nothing
        super().data_received(data)
        self._note_head(is_first=is_first)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._note_head(is_first=True)

    # --- the head of a request --------------------------------------------------------------

    @property
    def _has_nothing(self) -> bool:
        return not self.conn.trailing_data[0]

    @property
    def _awaits_head(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def _note_head(self, *, is_first: bool) -> None:
        if not self._awaits_head:
            self._waits_since = None
        elif is_first or self._waits_since is None:
            self._waits_since = self.loop.time()

    def _make_room(self) -> bool:
        """Close the connection that has waited for a request the longest, if it did for a while.

        Honest requests arrive whole, so this one is idle, or slow on purpose.
        """
        waiting = [
            one
            for one in self.connections
            if isinstance(one, Connection) and one.waited_s > _LOOK_S
        ]
        if not waiting:
            return False
        max(waiting, key=lambda one: one.waited_s).close_quietly()
        return True

    @property
    def waited_s(self) -> float:
        """For how long the head of a request has been awaited."""
        return 0.0 if self._waits_since is None else self.loop.time() - self._waits_since

    def close_quietly(self) -> None:
        """Make room for somebody else."""
        self.connections.discard(self)
        self.transport.abort()

    # --- patience ---------------------------------------------------------------------------

    def _look_later(self) -> None:
        self._watch = self.loop.call_later(min(_LOOK_S, self._limits.receive_s / 4), self._look)

    def _look(self) -> None:
        self._look_later()
        if self._has_stopped_reading():
            self.transport.abort()
        elif not self.transport.is_closing() and self._is_slow():
            self._answer_slow()

    def _has_stopped_reading(self) -> bool:
        now, unread = self.loop.time(), self.transport.get_write_buffer_size()
        if unread == 0 or unread <= self._unread - _STALLED_BYTES:
            self._unread, self._read_at = unread, now
        self._unread = max(self._unread, unread)
        return now - self._read_at > self._limits.receive_s

    def _is_slow(self) -> bool:
        if self._lingers:
            return self.waited_s > _LINGER_S
        # One that waits between two requests has sent nothing; uvicorn's own timer ends it.
        is_between = self.timeout_keep_alive_task is not None
        return not is_between and self.waited_s > self._limits.receive_s

    def _answer_slow(self) -> None:
        if self._lingers or self._has_nothing:
            self.transport.close()
        else:
            self._refuse(408, "Request headers did not arrive in time")

    # --- errors -----------------------------------------------------------------------------

    def _should_upgrade(self) -> bool:
        # uvicorn logs a line for each one who asks.
        return False

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Word what cannot be read as a request, as the gateway does."""
        error = sys.exc_info()[1]
        if isinstance(error, _TooFineError):
            self._refuse(400, "API request error: the body comes in pieces that are too small")
        elif getattr(error, "error_status_hint", 400) != 431:
            self._refuse(400, "API request error: this is not HTTP/1.1")
        elif b"\n" not in self.conn.trailing_data[0][:MAX_URI_BYTES]:
            self._refuse(414, "Request URI is longer than 32 KB")
        else:
            self._refuse(494, "Request headers are larger than 64 KB")

    def _refuse(self, status: int, message: str) -> None:
        """Answer without the application, unless it has begun to, and close."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()
            return
        request_id = uuid.uuid4().hex
        try:
            self._write(gateway_refusal(status, "APIGW.0201", message, request_id), request_id)
        except h11.LocalProtocolError:
            # To a HEAD no body can be sent.
            self.transport.close()
        else:
            self._linger()

    def _write(self, refusal: Refusal, request_id: str) -> None:
        headers = [*headers_of(refusal), *headers_of_all(request_id), (b"connection", b"close")]
        for event in (
            h11.Response(
                status_code=refusal.status,
                headers=headers,
                reason=STATUS_PHRASES[refusal.status],
            ),
            h11.Data(data=refusal.body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")

    def _linger(self) -> None:
        self._lingers = True
        self._waits_since = self.loop.time()
        self.transport.resume_reading()
        self.transport.write_eof()


async def _answer_full(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    request_id = uuid.uuid4().hex
    refusal = gateway_refusal(
        503,
        "APIGW.0201",
        "Too many connections at once. Try again.",
        request_id,
        retry_after_s=RETRY_AFTER_S,
    )
    headers = [*headers_of(refusal), *headers_of_all(request_id), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})
