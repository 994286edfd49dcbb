"""A look at a registry's host and at every exchange with it, for the doctor."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from wharfinger.domain.errors import NotTrustedError, UnreachableError
from wharfinger.domain.examination import Certificate, Contact, Exchange
from wharfinger.domain.ports import Reply, Request
from wharfinger.sources._addresses import AddressPolicy, literal_address
from wharfinger.sources._http import AioTransport, redacted, tls_context

CONTACT_TIMEOUT_S = 10.0
_PORTS = {"http": 80, "https": 443}
# What a finding may rest on; everything else stays where it is.
_TELLING = frozenset(
    {
        "date",
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
                seconds=time.monotonic() - began,
                at=dt.datetime.now(dt.UTC),
            )
        )
        return reply


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
            _, writer = await asyncio.open_connection(
                addresses[0], port, ssl=tls, server_hostname=host if tls else None
            )
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
