"""A transport whose exchanges are counted."""

from __future__ import annotations

import time
from collections.abc import Callable

from wharfinger.domain.errors import SourceError
from wharfinger.domain.ports import Reply, Request, Transport

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
            reply = await self._transport.send(request)
            met = str(reply.status)
        except SourceError as error:
            met = error.code
            raise
        else:
            return reply
        finally:
            self._saw(request.url, met, time.monotonic() - began)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()
