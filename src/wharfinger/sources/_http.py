"""The one HTTP client: checked addresses, capped answers, errors in the domain's own words."""

from __future__ import annotations

import functools
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from wharfinger import __version__
from wharfinger.domain.errors import (
    InvalidParameterError,
    MalformedAnswerError,
    NotTrustedError,
    SourceError,
    TooLargeError,
    UnexpectedAnswerError,
    UnreachableError,
)
from wharfinger.domain.ports import Reply, Request
from wharfinger.sources._addresses import AddressPolicy, literal_address
from wharfinger.sources._counting import count_request

CONNECT_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 60.0
# A byte a minute is no silence, and yet no answer.
ANSWER_TIMEOUT_S = 300.0
MAX_REDIRECTS = 5
USER_AGENT = f"wharfinger/{__version__}"
MAX_HEADERS = 128
MAX_HEADER_BYTES = 8190

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# All that travels to whatever host a redirect names; a header nobody thought of stays at home.
_HARMLESS_HEADERS = frozenset({"accept"})


# What may stand in a URL as it is; "%" because it is encoded already.
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"
# All that may stand in a URL once it is to be sent: printable ASCII, but no backslash.
_CLEAN = re.compile(r"[!-\[\]-~]*")


class AioTransport:
    """``ports.Transport`` on aiohttp; one session, and so one pool of connections, each.

    Args:
        policy: the addresses that may be reached, checked after name resolution.
        ca_pem: certificates to trust besides the system's.
        resolver: how names become addresses; the system's own by default.

    Raises:
        InvalidParameterError: ``ca_pem`` holds no certificate.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        ca_pem: str | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.requests = 0
        self._policy = policy
        self._tls = tls_context(ca_pem)
        self._resolver = resolver
        self._timeout = aiohttp.ClientTimeout(
            total=answer_timeout_s,
            connect=connect_timeout_s,
            sock_connect=connect_timeout_s,
            sock_read=idle_timeout_s,
        )
        self._session: aiohttp.ClientSession | None = None
        # The host that was checked last: it is nearly always the same one.
        self._passed = ""

    async def send(self, request: Request) -> Reply:
        """Exchange one request for one answer; see ``ports.Transport``.

        A GET or HEAD that is redirected within its scheme is followed up to five times, every hop
        under the same address check, and without credentials once the host is another.
        """
        url, headers = request.url, dict(request.headers)
        for _ in range(MAX_REDIRECTS + 1):
            reply = await self._exchange(request, url, headers)
            target = reply.headers.get("location")
            if reply.status not in _REDIRECTS or request.method not in ("GET", "HEAD"):
                return reply
            if not target:
                return reply
            if request.body:
                raise UnexpectedAnswerError(f"{redacted(url)} redirects a request with a body")
            url, headers = _redirected(url, target, headers)
        raise UnexpectedAnswerError(f"{redacted(request.url)}: more than {MAX_REDIRECTS} redirects")

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def _exchange(self, request: Request, url: str, headers: Mapping[str, str]) -> Reply:
        try:
            where = self._checked(url)
            self.count_request()
            async with self._open_session().request(
                request.method,
                where,
                headers=headers,
                data=request.body or None,
                allow_redirects=False,
            ) as response:
                return await read_answer(response, request.max_bytes, url)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, zlib.error) as exc:
            raise _in_our_words(exc, redacted(url)) from exc

    def count_request(self) -> None:
        """Count a request that is about to leave, or has left."""
        self.requests += 1
        count_request()

    def checked_resolver(self) -> AbstractResolver:
        """Return what finds addresses of names, and none that may not be reached."""
        return _CheckedResolver(self._resolver or aiohttp.ThreadedResolver(), self._policy)

    def _checked(self, url: str) -> URL:
        """Return the URL as it will be connected to; a name is checked when it is resolved."""
        where = URL(url, encoded=True)
        host = where.raw_host or ""
        if where.scheme not in ("http", "https") or not host:
            raise UnexpectedAnswerError(f"{redacted(url)} is no URL with https:// or http://")
        if where.raw_user is not None or where.raw_password is not None:
            raise UnexpectedAnswerError(f"{redacted(url)}: a URL must not hold credentials")
        if not host.isascii() or not _is_clean(url):
            raise UnexpectedAnswerError(f"{redacted(url)}: a URL must be percent-encoded")
        if host != self._passed:
            self._check_literal(host, url)
            self._passed = host
        return where

    def _check_literal(self, host: str, url: str) -> None:
        if address := literal_address(host):
            self._policy.check(address, host=host)
        elif ":" in host:
            # Names have no colon: the library would connect to this without resolving it.
            raise UnexpectedAnswerError(f"{redacted(url)}: the host is no address")

    def _open_session(self) -> aiohttp.ClientSession:
        # The session belongs to the running loop, which a constructor need not have.
        if self._session is None:
            connector = aiohttp.TCPConnector(
                # The budget of the host limits concurrency, not the pool.
                limit=0,
                ssl=self._tls,
                resolver=self.checked_resolver(),
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
                auto_decompress=False,
                # No proxy of the environment, and no .netrc: what an address check has let
                # through goes there, and nowhere else.
                trust_env=False,
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
                max_headers=MAX_HEADERS,
            )
        return self._session


class _CheckedResolver(AbstractResolver):
    """Resolves names to the addresses that may be reached, so that only those are connected to."""

    def __init__(self, resolver: AbstractResolver, policy: AddressPolicy) -> None:
        self._resolver = resolver
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        # One forbidden address among several is a sign of rebinding: the whole name is refused.
        for one in found:
            self._policy.check(one["host"], host=host)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def redacted(url: str) -> str:
    """Return the URL without user, query and fragment, fit for logs and error texts."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is no URL"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


async def read_answer(response: aiohttp.ClientResponse, max_bytes: int, url: str) -> Reply:
    """Take in an answer whose status and headers are there.

    Raises:
        TooLargeError: the body is larger than ``max_bytes``, received or decompressed.
        MalformedAnswerError: it is compressed in a way that was not asked for.
    """
    body = await _read_body(response, max_bytes, url)
    headers = _joined_headers(response)
    return Reply(status=response.status, headers=headers, body=body, url=url)


async def _read_body(response: aiohttp.ClientResponse, max_bytes: int, url: str) -> bytes:
    if response.method == "HEAD":
        return b""
    if (response.content_length or 0) > max_bytes:
        raise _too_large(url, max_bytes)
    if _is_plain(response):
        return await response.read()
    chunks, size = [], 0
    async for chunk in _decoded(response, max_bytes + 1, url):
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(url, max_bytes)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _is_plain(response: aiohttp.ClientResponse) -> bool:
    """Whether a body is neither compressed nor of a length that only its end tells."""
    headers = response.headers
    return (
        "Content-Length" in headers
        and "Content-Encoding" not in headers
        and "Transfer-Encoding" not in headers
    )


async def _decoded(response: aiohttp.ClientResponse, most: int, url: str) -> AsyncIterator[bytes]:
    """Yield the body, decompressed in pieces of at most ``most`` bytes."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding in ("identity", ""):
        async for chunk in response.content.iter_any():
            yield chunk
        return
    if coding not in ("gzip", "x-gzip"):
        raise MalformedAnswerError(f"{redacted(url)}: unknown Content-Encoding {coding!r}")
    inflate = zlib.decompressobj(wbits=31)
    async for received in response.content.iter_any():
        pending = received
        while pending:
            if inflate.eof:  # A gzip stream may have several members.
                inflate = zlib.decompressobj(wbits=31)
            yield inflate.decompress(pending, most)
            pending = inflate.unconsumed_tail or inflate.unused_data
    if not inflate.eof:
        raise UnreachableError(f"{redacted(url)}: answer cut short")


def _joined_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    joined = {name.lower(): value for name, value in response.headers.items()}
    if len(joined) == len(response.headers):
        return joined
    joined = {}
    for name, value in response.headers.items():
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined


def _redirected(url: str, location: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    try:
        target = quote(urljoin(url, location), safe=_URL_SAFE)
        # The same reader that finds out where to connect to; two may disagree on what is the host.
        before, after = URL(url, encoded=True), URL(target, encoded=True)
        same_host = before.origin() == after.origin()
        safe = before.scheme == after.scheme and after.raw_user is None
    except ValueError as exc:
        raise UnexpectedAnswerError(f"{redacted(url)} redirects to what is no URL") from exc
    if not safe:
        raise UnexpectedAnswerError(
            f"{redacted(url)} redirects to {redacted(target)}; "
            "if that is where the registry lives, make it the registry's address"
        )
    if same_host:
        return target, dict(headers)
    kept = {k: v for k, v in headers.items() if k.lower() in _HARMLESS_HEADERS}
    return target, kept


def _is_clean(url: str) -> bool:
    """Whether nothing in a URL could end the line it is written on, or be read as another host."""
    return _CLEAN.fullmatch(url) is not None


def _too_large(url: str, max_bytes: int) -> TooLargeError:
    return TooLargeError(f"{redacted(url)}: the answer is larger than {max_bytes} bytes")


def tls_context(ca_pem: str | None) -> ssl.SSLContext:
    """Make what verifies servers: by the certificates given besides the system's.

    Raises:
        InvalidParameterError: ``ca_pem`` holds no certificate.
    """
    if not ca_pem:
        return _system_tls_context()
    # One of its own: what one registry trusts, no other does.
    context = _new_tls_context()
    # Company CAs often lack the extensions the strict check of Python 3.13 asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError, TypeError) as exc:
        # A type that is wrong is how it says that a text is not all ASCII.
        raise InvalidParameterError("ca_pem", "must be certificates in PEM format") from exc
    return context


@functools.cache
def _system_tls_context() -> ssl.SSLContext:
    return _new_tls_context()


def _new_tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Python's own default, unless a system's configuration of OpenSSL says something else.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    # SSLKEYLOGFILE would have the keys of every connection written down.
    context.keylog_filename = None  # type: ignore[assignment] # Typeshed knows no "none".
    return context


# What aiohttp raises, the narrower first, and how a person is told.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "no such name"),
    (aiohttp.ClientConnectorCertificateError, "TLS: certificate not trusted"),
    (aiohttp.ClientSSLError, "TLS: handshake failed"),
    (TimeoutError, "timed out"),
    (aiohttp.ClientPayloadError, "answer cut short"),
    (aiohttp.ServerDisconnectedError, "connection closed without an answer"),
    (OSError, "connection broken"),
)


def _in_our_words(exc: Exception, url: str) -> SourceError:
    """Return the error to raise for what a library raised."""
    for kind, words in _WORDS:
        if isinstance(exc, kind):
            if isinstance(exc, aiohttp.ClientSSLError):
                return NotTrustedError(f"{url}: {words}{_verification(exc)}")
            refused = type(exc) is aiohttp.ClientConnectorError
            return UnreachableError(f"{url}: {_connect_failure(exc) if refused else words}")
    if isinstance(exc, aiohttp.ClientResponseError):
        return MalformedAnswerError(f"{url}: the answer is not HTTP")
    if isinstance(exc, zlib.error):
        return MalformedAnswerError(f"{url}: the compressed answer is broken")
    return UnexpectedAnswerError(f"{url}: cannot be requested ({type(exc).__name__})")


def _connect_failure(exc: Exception) -> str:
    error = getattr(exc, "os_error", exc)
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return f"cannot connect ({getattr(error, 'strerror', None) or type(error).__name__})"


def _verification(exc: aiohttp.ClientSSLError) -> str:
    """Say what is wrong with a certificate, in OpenSSL's words."""
    cause = getattr(exc, "certificate_error", None)
    words = getattr(cause, "verify_message", "")
    return f" ({words.rstrip('.')})" if words else ""
