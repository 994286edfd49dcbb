"""The second client, of the extra ``fast``: pyreqwest, for what it may be trusted with."""

from __future__ import annotations

import importlib
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from yarl import URL

from wharfinger.domain.errors import (
    ExtraMissingError,
    MalformedAnswerError,
    SourceError,
    UnexpectedAnswerError,
    UnreachableError,
)
from wharfinger.domain.ports import Reply, Request
from wharfinger.sources._addresses import literal_address
from wharfinger.sources._http import (
    USER_AGENT,
    AioTransport,
    _in_our_words,
    read_answer,
    redacted,
)

if TYPE_CHECKING:
    import aiohttp

# A name is asked for again after this time, as by the other client.
NAME_LASTS_S = 10.0
# Nor is a connection that has been idle for so long relied on.
IDLE_LASTS_S = 15.0
# A registry that leads to ever new hosts and addresses is read by the other client.
MOST_CLIENTS = 8
# What went wrong before a request was sent.
_UNSENT = ("Connect", "Builder")


class FastTransport(AioTransport):
    """``AioTransport`` that hands plain reads to a client which is not written in Python.

    That client is told which address a name has, so what was checked is what is connected to. What
    it would do in another way than ours is ours to do: requests with a body, certificates of one's
    own, a URL it would spell otherwise, and whatever it cannot connect to, so that a failure is
    told in the same words.

    Raises:
        ExtraMissingError: the extra is not installed.
    """

    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self._client = _module("client")
        self._http = _module("http")
        self._errors = _module("exceptions")
        self._may_be_used = not settings.get("ca_pem")
        # One client for each host and the address that it was found to have.
        self._clients: dict[tuple[str, str], Any] = {}
        self._addresses: dict[str, tuple[float, str]] = {}

    async def aclose(self) -> None:
        """Close every connection."""
        while self._clients:
            await self._clients.popitem()[1].close()
        await super().aclose()

    async def _exchange(self, request: Request, url: str, headers: Mapping[str, str]) -> Reply:
        client = await self._client_for(request, url)
        if client is None:
            return await super()._exchange(request, url, headers)
        try:
            return await self._asked(client, request, url, headers)
        except self._errors.PyreqwestError as exc:
            if not type(exc).__name__.startswith(_UNSENT):
                raise self._told(exc, redacted(url)) from exc
        except (ValueError, zlib.error) as exc:
            raise _in_our_words(exc, redacted(url)) from exc
        # Nothing was sent; the other client knows how to say why, or does better.
        return await super()._exchange(request, url, headers)

    async def _client_for(self, request: Request, url: str) -> Any | None:
        """The client that takes a request, or ``None`` if the other one has to."""
        if not self._may_be_used or request.body or request.method not in ("GET", "HEAD"):
            return None
        try:
            where = self._checked(url)
            return await self._client_to(where) if self._understands(url, where) else None
        except (OSError, ValueError):
            # No such name, or no URL.
            return None

    def _understands(self, url: str, where: URL) -> bool:
        """Whether two readers agree on a URL: on its host, and on the spelling that is signed."""
        understood = self._http.Url(url)
        return str(understood) == url and understood.host_str == where.raw_host

    async def _client_to(self, where: URL) -> Any | None:
        host, port = where.raw_host or "", where.port or 0
        address = await self._address_of(host, port)
        key = (f"{host}:{port}", address)
        client = self._clients.get(key)
        if client is None and len(self._clients) < MOST_CLIENTS:
            client = self._clients[key] = self._new_client(host, address, port)
        return client

    async def _address_of(self, host: str, port: int) -> str:
        if literal_address(host):
            return host
        until, address = self._addresses.get(host, (0.0, ""))
        if time.monotonic() >= until:
            found = [one["host"] for one in await self.checked_resolver().resolve(host, port)]
            # One of several is as good as another: the one whose connections are open.
            address = address if address in found else found[0]
            self._addresses[host] = (time.monotonic() + NAME_LASTS_S, address)
        return address

    def _new_client(self, host: str, address: str, port: int) -> Any:
        timeout = self._timeout
        builder = (
            self._client.ClientBuilder()
            .http1_only()
            .no_proxy()
            .follow_redirects(enable=False)
            .referer(enable=False)
            .gzip(enable=False)
            .brotli(enable=False)
            .zstd(enable=False)
            .deflate(enable=False)
            .user_agent(USER_AGENT)
            .default_headers({"Accept-Encoding": "gzip"})
            .min_tls_version("TLSv1.2")
            .pool_idle_timeout(timedelta(seconds=IDLE_LASTS_S))
            .connect_timeout(timedelta(seconds=timeout.connect or 0))
            .read_timeout(timedelta(seconds=timeout.sock_read or 0))
            .timeout(timedelta(seconds=timeout.total or 0))
        )
        return (builder if address == host else builder.resolve(host, address, port)).build()

    async def _asked(
        self, client: Any, request: Request, url: str, headers: Mapping[str, str]
    ) -> Reply:
        building = client.request(request.method, url).headers(dict(headers))
        async with building.build_streamed() as response:
            self.count_request()
            answer = cast("aiohttp.ClientResponse", _Answer(request.method, response))
            try:
                return await read_answer(answer, request.max_bytes, url)
            except self._errors.PyreqwestError as exc:
                late = isinstance(exc, TimeoutError)
                words = "timed out" if late else "answer cut short"
                raise UnreachableError(f"{redacted(url)}: {words}") from exc

    def _told(self, exc: Exception, url: str) -> SourceError:
        """Say what became of a request that was sent and not answered."""
        self.count_request()
        if isinstance(exc, TimeoutError):
            return UnreachableError(f"{url}: timed out")
        if not isinstance(exc, self._errors.RequestError):
            return UnexpectedAnswerError(f"{url}: cannot be requested ({type(exc).__name__})")
        causes = str(getattr(exc, "details", ""))
        if "invalid HTTP" in causes or "parse" in causes.lower():
            return MalformedAnswerError(f"{url}: the answer is not HTTP")
        return UnreachableError(f"{url}: connection broken")


class _Answer:
    """An answer of pyreqwest, seen as the other client's are."""

    def __init__(self, method: str, response: Any) -> None:
        self.method = method
        self.status = response.status
        self.headers = response.headers
        self.content = self
        length = response.get_header("content-length") or ""
        self.content_length = int(length) if length.isdigit() else None
        self._body = response.body_reader

    async def read(self) -> bytes:
        """The whole body, whose length has been looked at."""
        return bytes(await self._body.bytes())

    async def iter_any(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        while (chunk := await self._body.read_chunk()) is not None:
            yield bytes(chunk)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"pyreqwest.{name}")
    except ImportError as exc:
        raise ExtraMissingError("pyreqwest", "fast") from exc


def fast_client() -> type[AioTransport]:
    """Return the class of the fast transport.

    Raises:
        ExtraMissingError: the extra is not installed.
    """
    _module("client")
    return FastTransport
