"""A look at a registry's host and at every exchange with it, for the doctor."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from wharfinger.domain.errors import NotTrustedError, ThrottledError, UnreachableError
from wharfinger.domain.examination import Certificate, Contact, Exchange
from wharfinger.domain.ports import Authorise, Http, Reply, Request
from wharfinger.sources._addresses import AddressPolicy, literal_address
from wharfinger.sources._http import AioTransport, redacted, tls_context
from wharfinger.sources._reading import server_time

T = TypeVar("T")

CONTACT_TIMEOUT_S, ADDRESS_TIMEOUT_S = 10.0, 4.0
_PORTS = {"http": 80, "https": 443}
# What a finding may rest on; everything else stays where it is.
_TELLING = frozenset(
    {
        "docker-content-digest",
        "docker-distribution-api-version",
        "link",
        "ratelimit",
        "ratelimit-limit",
        "ratelimit-remaining",
        "retry-after",
        "server",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
    }
)


class WatchedTransport(AioTransport):
    """A transport that remembers what went over the wire, but neither bodies nor credentials."""

    def __init__(self, policy: AddressPolicy, *, ca_pem: str | None = None) -> None:
        super().__init__(policy, ca_pem=ca_pem)
        self.exchanges: list[Exchange] = []

    async def send(self, request: Request) -> Reply:
        """Exchange one request for one answer."""
        began = time.monotonic()
        reply = await super().send(request)
        self.exchanges.append(
            Exchange(
                method=request.method,
                url=redacted(request.url),
                status=reply.status,
                headers={k: v for k, v in reply.headers.items() if k in _TELLING},
                server_time=server_time(reply),
                seconds=time.monotonic() - began,
                at=dt.datetime.now(dt.UTC),
            )
        )
        return reply


class WatchedHttp:
    """``ports.Http`` that counts the answers which a source takes for a wish to slow down."""

    def __init__(self, http: Http) -> None:
        self.refused = 0
        self._http = http

    async def call(
        self, request: Request, read: Callable[[Reply], T], authorise: Authorise | None = None
    ) -> T:
        """Send the request and return what ``read`` makes of the answer."""

        def watched(reply: Reply) -> T:
            try:
                return read(reply)
            except ThrottledError:
                self.refused += 1
                raise

        return await self._http.call(request, watched, authorise)


async def make_contact(url: str, policy: AddressPolicy, *, ca_pem: str | None) -> Contact:
    """Resolve a URL's host, connect to it, and shake hands; nothing is asked.

    Raises:
        UnreachableError: there is no such name, or nobody answers.
        AddressRefusedError: an address of it may not be reached.
        NotTrustedError: its certificate is not trusted, or there is no TLS.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    began = time.monotonic()
    try:
        async with asyncio.timeout(CONTACT_TIMEOUT_S):
            addresses = await _resolved(host, port)
            for address in addresses:
                policy.check(address, host=host)
            tls = tls_context(ca_pem) if parts.scheme == "https" else None
            writer = await _connected(addresses, port, host, tls)
    except ssl.SSLCertVerificationError as exc:
        raise NotTrustedError(f"{host}: {exc.verify_message}") from exc
    except ssl.SSLError as exc:
        raise NotTrustedError(f"{host}: no TLS handshake ({exc.reason})") from exc
    except TimeoutError as exc:
        raise UnreachableError(f"{host}: nobody answers on port {port}") from exc
    except socket.gaierror as exc:
        raise UnreachableError(f"{host}: no such name") from exc
    except OSError as exc:
        raise UnreachableError(f"{host}: port {port}: {exc.strerror}") from exc
    session: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    writer.close()
    return Contact(
        host=host,
        addresses=tuple(addresses),
        seconds=time.monotonic() - began,
        certificate=None if session is None else _certificate(session),
    )


async def _connected(
    addresses: list[str], port: int, host: str, tls: ssl.SSLContext | None
) -> asyncio.StreamWriter:
    """Connect to the first address that answers; from here, some may lead nowhere."""
    failure: OSError = OSError("no address")
    for address in addresses:
        try:
            async with asyncio.timeout(ADDRESS_TIMEOUT_S):
                _, writer = await asyncio.open_connection(
                    address, port, ssl=tls, server_hostname=host if tls else None
                )
        except ssl.SSLError:
            raise
        except OSError as exc:
            failure = exc
        else:
            return writer
    raise failure


async def _resolved(host: str, port: int) -> list[str]:
    if address := literal_address(host):
        return [address]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _certificate(session: ssl.SSLObject) -> Certificate:
    told: dict[str, Any] = session.getpeercert() or {}
    ends_s = ssl.cert_time_to_seconds(told["notAfter"])
    issuer = {name: value for part in told.get("issuer", ()) for name, value in part}
    return Certificate(
        version=session.version() or "",
        issuer=issuer.get("organizationName") or issuer.get("commonName") or "",
        ends_at=dt.datetime.fromtimestamp(ends_s, dt.UTC),
    )
