"""A real HTTP server on loopback: its life, its log, and its faults. Dialects build on it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiohttp import web

from wharfinger.testing.faults import Answer, Asked, Fault, Faults

_MAX_BODY = 16 * 1024 * 1024
# How often a held request looks whether it may be answered.
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One line of a server's log: a request as it came, and the status it got (0: reset)."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    status: int
    body: bytes = b""

    @property
    def target(self) -> str:
        """Path and query as they stood in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path


class LoopbackServer:
    """Serves ``respond`` over HTTP/1.1; as ``async with``, or ``with server.running_in_thread()``.

    Attributes:
        url: ``http://127.0.0.1:port``, without a slash at the end, once it runs; ``https`` when
            ``tls`` is given. A server that was stopped and started again keeps its port.
        log: every request in the order of their answers.
        faults: what goes wrong, and when.
        peak: the largest number of requests that were in flight at once; set it to 0 at will.
        tls: set before the start, serves HTTPS with this context.
        witness: called with every request and the answer it is about to get, before it is sent:
            what a caller was shown, whatever was true.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.log: list[Logged] = []
        self.faults = Faults()
        self.peak = 0
        self.tls: ssl.SSLContext | None = None
        self.witness: Callable[[Asked, Answer], None] | None = None
        self._in_flight = 0
        self._host = host
        self._port = port
        self._runner: web.ServerRunner | None = None

    # --- for dialects -----------------------------------------------------------------------

    def respond(self, asked: Asked) -> Answer:
        """The true answer to a request. It must not block."""
        raise NotImplementedError

    # --- life -------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the server is found."""
        if self._runner is None:
            raise RuntimeError("the server does not run: use it as a context manager")
        return f"{'http' if self.tls is None else 'https'}://{self._host}:{self._port}"

    @property
    def host(self) -> str:
        """Host and port, as they stand in a ``Host`` header."""
        return self.url.partition("://")[2]

    async def start(self) -> None:
        """Begin to listen; a port of 0 becomes the one the system chose."""
        runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), shutdown_timeout=0.1, handle_signals=False
        )
        await runner.setup()
        site = web.TCPSite(
            runner,
            self._host,
            self._port,
            ssl_context=self.tls,
            reuse_address=True,
            backlog=1024,
        )
        await site.start()
        self._port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Close the socket and every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _stop_for_good(self) -> None:
        """Stop, and end what still waits: the loop that would let it end is about to close."""
        await self.stop()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @contextlib.contextmanager
    def running_in_thread(self) -> Iterator[Self]:
        """Serve from a thread with a loop of its own, for callers without one."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="loopback", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.start(), loop).result(10)
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._stop_for_good(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    def requests(self, path: str = "", *, method: str = ".*") -> list[Logged]:
        """The log's lines whose path and query contain this regular expression."""
        return [
            line
            for line in self.log
            if re.search(path, line.target) and re.fullmatch(method, line.method)
        ]

    # --- one exchange -----------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._in_flight += 1
        self.peak = max(self.peak, self._in_flight)
        try:
            return await self._exchange(request)
        finally:
            self._in_flight -= 1

    async def _exchange(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = await _as_asked(request)
        striking = self.faults.striking(asked, in_flight=self._in_flight)
        for fault in striking:
            if fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            while fault.gate is not None and not fault.gate.is_set():  # noqa: ASYNC110 - see below
                # Whoever releases it may be in another thread, without a loop.
                await asyncio.sleep(_LOOK_S)
        answer = self._answer(asked, striking)
        if self.witness is not None:
            self.witness(asked, answer)
        self.log.append(
            Logged(
                method=asked.method,
                path=asked.path,
                query=asked.query,
                headers=asked.headers,
                status=0 if answer.reset else answer.status,
                body=asked.body,
            )
        )
        return await _send(request, answer)

    def _answer(self, asked: Asked, striking: list[Fault]) -> Answer:
        for fault in striking:
            if fault.before is not None:
                fault.before()
        instead = next((fault.instead for fault in striking if fault.instead), self.respond)
        answer = instead(asked)
        for fault in striking:
            if fault.change is not None:
                answer = fault.change(asked, answer)
        for fault in striking:
            if fault.after is not None:
                fault.after()
        return answer


async def _as_asked(request: web.BaseRequest) -> Asked:
    path, _, query = request.raw_path.partition("?")
    pairs = [
        (name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape"))
        for name, value in request.raw_headers
    ]
    return Asked(
        method=request.method,
        path=path,
        query=query,
        headers=dict(pairs),
        header_pairs=pairs,
        body=await request.content.read(_MAX_BODY) if request.can_read_body else b"",
    )


async def _send(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    lengths = [v for k, v in answer.headers.items() if k.lower() == "content-length"]
    if answer.reset:
        _reset(request)
    elif answer.sent is not None or answer.chunked or lengths:
        await _break_off(request, answer, lengths)
    elif request.method == "HEAD":
        return await _head_only(request, answer)
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


async def _head_only(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    return response


async def _break_off(request: web.BaseRequest, answer: Answer, lengths: list[str]) -> None:
    """Write an answer that no honest server writes, byte by byte, and close the connection."""
    if request.transport is None:
        return
    body = answer.body if answer.sent is None else answer.body[: answer.sent]
    whole = answer.sent is None
    if request.method == "HEAD":
        body = b""
    headers = {k: v for k, v in answer.headers.items() if k.lower() != "content-length"}
    if answer.chunked:
        headers["Transfer-Encoding"] = "chunked"
        ending = b"0\r\n\r\n" if whole else b""
        body = b"%x\r\n%s\r\n%s" % (len(body), body, ending) if body else ending
    else:
        headers["Content-Length"] = lengths[0] if lengths else str(len(answer.body))
    lines = [f"HTTP/1.1 {answer.status} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
    request.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    if answer.stall_s:
        await asyncio.sleep(answer.stall_s)
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.BaseRequest) -> None:
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    # A linger time of zero makes the kernel send RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
