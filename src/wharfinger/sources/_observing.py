"""A transport whose exchanges are counted."""

from __future__ import annotations

import time
from collections.abc import Callable

from wharfinger.domain import tracing
from wharfinger.domain.errors import SourceError
from wharfinger.domain.ports import Reply, Request, Transport
from wharfinger.sources._http import redacted

# Called with a request's URL, the status of the answer or the error in its place, and the seconds.
Saw = Callable[[str, str, float], None]


class CountedTransport:
    """Another transport, and somebody who is told of each exchange. It is a ``Transport``."""

    def __init__(self, transport: Transport, saw: Saw) -> None:
        self._transport = transport
        self._saw = saw

    async def send(self, request: Request) -> Reply:
        """Exchange one request for one answer."""
        began, met = time.monotonic(), "error"
        try:
            if tracing.is_on():
                reply = await self._send_and_tell(request)
            else:
                reply = await self._transport.send(request)
            met = str(reply.status)
        except SourceError as error:
            met = error.code
            raise
        else:
            return reply
        finally:
            self._saw(request.url, met, time.monotonic() - began)

    async def _send_and_tell(self, request: Request) -> Reply:
        # A registry is told nothing of our traces, and they nothing of queries and headers.
        with tracing.span(
            request.method,
            "client",
            http_request_method=request.method,
            url_full=redacted(request.url),
        ) as span:
            reply = await self._transport.send(request)
            span.tell(http_response_status_code=reply.status)
            if reply.status >= 400:
                span.fail(str(reply.status))
            return reply

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()
