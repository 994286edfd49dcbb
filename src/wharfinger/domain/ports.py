"""What the engine asks of the outside world, and what a source may ask of the transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from wharfinger.domain.artifacts import Referrers
from wharfinger.domain.model import Cursor, Image, Page, RepositoryRef, TagRef

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request. ``url`` is absolute and already percent-encoded: it is sent as it is."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    max_bytes: int = 64 * 1024 * 1024  # the answer's cap after decompression

    def __repr__(self) -> str:
        # Headers and bodies carry credentials, and a query may: error reports show none of them.
        return f"Request({self.method} {self.url.partition('?')[0]})"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP answer. Header names are in lower case; a repeated header is joined with ", "."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def __repr__(self) -> str:
        # The answer to a login is a token.
        return f"Reply({self.status} to {self.url.partition('?')[0]})"


class Authorise(Protocol):
    """Adds credentials to a request.

    Called before every attempt. ``challenge`` is the 401 the attempt before met, or ``None``.
    ``None`` as the answer means that nothing better can be offered for that challenge.
    """

    async def __call__(self, request: Request, challenge: Reply | None) -> Request | None:
        """Return the request with credentials."""
        ...


class Transport(Protocol):
    """One exchange on the wire: no retry, no pacing, no redirect to an unchecked address.

    Raises:
        UnreachableError: no connection, time-out, or the answer was cut short.
        AddressRefusedError: the address is in a network this registry may not reach.
        TooLargeError: the answer is larger than ``Request.max_bytes``.
    """

    async def send(self, request: Request) -> Reply:
        """Exchange one request for one answer."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


class Http(Protocol):
    """What a source calls. Pacing and retries happen behind it.

    ``read`` turns the answer into a value or raises; a ``TemporarySourceError`` from ``read`` (or
    from the transport) is tried again within the deadline, anything else ends the call at once.
    """

    async def call(
        self, request: Request, read: Callable[[Reply], T], authorise: Authorise | None = None
    ) -> T:
        """Send a request, and return what ``read`` makes of its answer."""
        ...


class Source(Protocol):
    """One registry. It answers in full or raises.

    It never filters, retries, sleeps, limits concurrency, logs and continues, or decides what is
    gone. All errors are ``SourceError``. A listing is complete when its iterator ends without
    raising; the last page has ``next=None``.
    """

    def repositories(self, after: Cursor | None) -> AsyncIterator[Page[RepositoryRef]]:
        """List every repository, in pages."""
        ...

    def tags(self, repository: RepositoryRef, after: Cursor | None) -> AsyncIterator[Page[TagRef]]:
        """List every tag of a repository, in pages."""
        ...

    def describe(self, repository: RepositoryRef, tags: Sequence[TagRef]) -> AsyncIterator[Image]:
        """Tell what the digests are that the engine does not know yet."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


class ListsReferrers(Protocol):
    """An ability: a source that can tell which artifacts belong to an image."""

    @property
    def asks_for_referrers(self) -> bool:
        """Whether the engine shall ask, for the listing does not tell and nobody forbids it."""
        ...

    async def referrers(
        self, repository: RepositoryRef, digest: str, tags: Sequence[str] = ()
    ) -> Referrers:
        """List what belongs to a digest; ``tags`` are the repository's, as far as they are known.

        Where a registry cannot list referrers, and for what was attached before it could, tags
        named after the digest hold them.
        """
        ...
