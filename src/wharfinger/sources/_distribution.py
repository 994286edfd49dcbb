"""The OCI distribution protocol as far as it reads: lists of names, digests, and images."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from wharfinger.domain.artifacts import (
    Referrer,
    Referrers,
    Subject,
    kind_of_artifact,
    subject_of_tag,
)
from wharfinger.domain.errors import (
    ForbiddenError,
    ListLoopError,
    ListMovedError,
    MalformedAnswerError,
    MissingError,
    NameUnknownError,
    UnauthorisedError,
    UnexpectedAnswerError,
    UnsupportedError,
)
from wharfinger.domain.model import Cursor, Image, Platform, TagRef
from wharfinger.domain.ports import Authorise, Http, Reply, Request
from wharfinger.sources._manifests import (
    ACCEPT,
    OCI_INDEX,
    Config,
    Descriptor,
    Held,
    Manifest,
    artifact_type_of,
    check_digest,
    image_of,
    index_image_of,
    is_digest,
    is_schema_1_type,
    media_type_of,
    platform_of,
    sha256_of,
)
from wharfinger.sources._reading import (
    check_cursor,
    decode,
    error_body,
    next_link,
    raise_for_status,
)

T = TypeVar("T")
U = TypeVar("U")

MAX_MANIFEST_BYTES = 8 * 1024 * 1024
MAX_CONFIG_BYTES = 8 * 1024 * 1024

# How many manifests are remembered, and how many images are described at once.
_KEPT_MANIFESTS = 512
_DESCRIBED_AT_ONCE = 32
# Filtering registries send pages with a link and nothing in them, but not for ever.
_MOST_EMPTY_PAGES = 100
_MOST_PLATFORMS = 1000

# A registry without lists of referrers is not asked again for so long, however many images it has.
_NO_REFERRERS_S = 3600.0

_NAME_THEM = "name the repositories to read with --repository"


class _Catalog(msgspec.Struct, frozen=True):
    repositories: list[str] | None  # Old registries write null for none.

    @property
    def names(self) -> list[str]:
        return self.repositories or []


class _TagList(msgspec.Struct, frozen=True):
    name: str | None = None
    tags: list[str] | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def names(self) -> list[str]:
        if self.tags is msgspec.UNSET and not self.name:
            raise MalformedAnswerError("an object without name and tags is no list of tags")
        return self.tags or []


class _Names(msgspec.Struct, frozen=True):
    """One page of names and the URL of the next, if the registry gave one."""

    names: list[str]
    next: str | None


class _Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What one list of names needs to be read."""

    what: str  # for messages and the cursor
    path: str
    shape: type[_Catalog | _TagList]
    scope: str
    check: Callable[[Reply], None]


class Login(Protocol):
    """What authorises calls, whichever way the registry wants it."""

    def for_call(self, scope: str) -> Authorise:
        """Return what authorises the attempts of one call that needs ``scope``."""
        ...


class Distribution:
    """The protocol below one root, where ``/v2/`` is.

    Args:
        kind: the kind of registry that its cursors are for.
        root: the URL above ``/v2/``, without a slash at the end.
        login: authorises its calls.
        http: sends them.
        page_size: rows asked for at a time; ``None`` asks for as many as the registry likes, and
            takes a page without a link for the last.
        generation: of the registry's configuration, for the cursors.
        resumable: whether a list may go on from a cursor of an earlier reading.
    """

    def __init__(
        self,
        *,
        kind: str,
        root: str,
        login: Login,
        http: Http,
        page_size: int | None,
        generation: int,
        resumable: bool = True,
    ) -> None:
        self._kind = kind
        self._root = root
        self._login = login
        self._http = http
        self._page_size = page_size
        self._generation = generation
        self._resumable = resumable
        self._probes = page_size is not None
        self._head_tells = True
        self._lists_referrers = False  # It has answered with a list.
        self._no_referrers_until = 0.0
        self._first_referrers = asyncio.Lock()
        self._manifests: OrderedDict[str, Held] = OrderedDict()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # --- what a kind asks for --------------------------------------------------------------------

    async def catalog(self, after: Cursor | None) -> AsyncIterator[tuple[list[str], Cursor | None]]:
        """List the paths of all repositories, with where the list goes on after each page."""
        listing = _Listing(
            what="repositories",
            path="/v2/_catalog",
            shape=_Catalog,
            scope="registry:catalog:*",
            check=_check_catalog,
        )
        try:
            async for page in self._names(listing, after):
                yield page
        except (UnauthorisedError, ForbiddenError) as exc:
            # The registry may say so, and its token service may, of a scope it does not grant.
            kind = type(exc)
            raise kind(f"{exc}; if the credentials are right but not enough, {_NAME_THEM}") from exc

    async def tags_of(
        self, path: str, after: Cursor | None, *, named: bool = False
    ) -> AsyncIterator[tuple[list[TagRef], Cursor | None]]:
        """List a repository's tags, each with its digest.

        Of a repository that somebody ``named``, 404 says nothing but that the name may be wrong.
        """
        listing = _Listing(
            what="tags",
            path=f"/v2/{quote(path)}/tags/list",
            shape=_TagList,
            scope=_pull(path),
            check=raise_for_status if named else _check_tags,
        )
        async for names, ahead in self._names(listing, after):
            yield await _each(names, lambda tag: self._tag(path, tag)), ahead

    async def tag(self, path: str, tag: str) -> TagRef:
        """Ask for one tag's digest."""
        return await self._tag(path, tag)

    async def images(self, path: str, digests: Sequence[str]) -> AsyncIterator[Image]:
        """Read what is behind digests, some at a time."""
        for start in range(0, len(digests), _DESCRIBED_AT_ONCE):
            batch = digests[start : start + _DESCRIBED_AT_ONCE]
            for image in await _each(batch, lambda digest: self._image(path, digest)):
                yield image

    async def manifests(self, path: str, digests: Sequence[str]) -> AsyncIterator[Held]:
        """Read the manifests of digests and nothing that they name, some at a time."""
        for start in range(0, len(digests), _DESCRIBED_AT_ONCE):
            batch = digests[start : start + _DESCRIBED_AT_ONCE]
            for held in await _each(batch, lambda digest: self._manifest(path, digest)):
                yield held

    async def referrers(self, path: str, subject: str, tags: Sequence[str]) -> Referrers:
        """List what belongs to a digest, by the registry's own list and by tags named after it."""
        entries = await self._listed_referrers(path, subject)
        found = {entry.digest: _referrer(subject, entry) for entry in entries or []}
        for tag in tags:
            named = subject_of_tag(tag)
            if named is not None and named.digest == subject:
                for one in await self._tagged_referrers(path, tag, named):
                    found.setdefault(one.digest, one)
        return Referrers(listed=entries is not None, found=tuple(found.values()))

    def forget(self) -> None:
        """Forget the manifests."""
        self._manifests.clear()

    # --- names, page by page ---------------------------------------------------------------------

    async def _names(
        self, listing: _Listing, after: Cursor | None
    ) -> AsyncIterator[tuple[list[str], Cursor | None]]:
        position = ""
        if after is not None:
            position = check_cursor(after, self._cursor(listing, ""))
            if not position.startswith("/"):
                raise UnexpectedAnswerError("the cursor does not name a page")
        page_size: int | None = self._page_size
        url = self._origin + position if position else self._first_url(listing, page_size)
        walk = _Walk(listing.what)
        while True:
            try:
                page = await self._page(listing, url)
            except NameUnknownError as exc:
                if walk.has_begun or position:
                    raise ListMovedError(f"{exc}; its first page was there") from exc
                raise
            if page is None:  # The registry does not want to be told how many.
                page_size, url = None, self._first_url(listing, None)
                continue
            fresh = walk.take(url, page)
            ahead = page.next
            if ahead is None and self._probes and fresh and _may_be_cut(page, page_size):
                ahead = self._next_url(listing, page_size, page.names[-1])
            if ahead is None:
                yield fresh, None
                return
            yield fresh, self._cursor(listing, ahead.removeprefix(self._origin))
            url = ahead

    async def _page(self, listing: _Listing, url: str) -> _Names | None:
        def read(reply: Reply) -> _Names | None:
            if "n=" in url and _refuses_page_size(reply):
                return None
            listing.check(reply)
            return _Names(decode(reply, listing.shape).names, next_link(reply))

        request = Request(method="GET", url=url, headers={"Accept": "application/json"})
        return await self._http.call(request, read, self._login.for_call(listing.scope))

    def _first_url(self, listing: _Listing, page_size: int | None) -> str:
        query = f"?n={page_size}" if page_size else ""
        return f"{self._root}{listing.path}{query}"

    def _next_url(self, listing: _Listing, page_size: int | None, last: str) -> str:
        """Return the page after ``last``, for a registry that gave no link where one is due."""
        query = {"n": str(page_size), "last": last} if page_size else {"last": last}
        return f"{self._root}{listing.path}?{urlencode(query, quote_via=quote, safe='/')}"

    @property
    def _origin(self) -> str:
        parts = urlsplit(self._root)
        return f"{parts.scheme}://{parts.netloc}"

    def _cursor(self, listing: _Listing, position: str) -> Cursor:
        return Cursor(
            kind=self._kind,
            api=f"v2 {listing.what}",
            page_size=self._page_size or 0,
            sort="",
            generation=self._generation,
            position=position,
            resumable=self._resumable,
        )

    # --- digests ---------------------------------------------------------------------------------

    async def _tag(self, path: str, tag: str) -> TagRef:
        digest = await self._digest_by_head(path, tag) if self._head_tells else None
        if digest is None:
            digest = (await self._fetch_manifest(path, tag)).digest
        return TagRef(tag=tag, digest=digest)

    async def _digest_by_head(self, path: str, tag: str) -> str | None:
        """Ask for a tag's digest without its manifest; ``None`` where only a GET can tell."""

        def read(reply: Reply) -> str | None:
            if reply.status in (405, 501):
                self._head_tells = False
                return None
            # Some registries know GET only, and say so with 404 or 400.
            if reply.status in (400, 404):
                return None
            raise_for_status(reply)
            digest = reply.headers.get("docker-content-digest", "").strip()
            return digest if is_digest(digest) else None

        return await self._http.call(
            self._manifest_request("HEAD", path, tag), read, self._login.for_call(_pull(path))
        )

    async def _fetch_manifest(self, path: str, reference: str) -> Held:
        """Read a manifest by tag or digest and remember it.

        Raises:
            ListMovedError: it is not there although it was listed.
        """
        expected = reference if is_digest(reference) else None

        def read(reply: Reply) -> Held:
            raise_for_status(reply)
            return _held(reply, expected)

        try:
            held = await self._http.call(
                self._manifest_request("GET", path, reference),
                read,
                self._login.for_call(_pull(path)),
            )
        except MissingError as exc:
            raise ListMovedError(
                f"{path}: {reference} was listed, but its manifest is not there"
            ) from exc
        self._manifests[held.digest] = held
        while len(self._manifests) > _KEPT_MANIFESTS:
            self._manifests.popitem(last=False)
        return held

    def _manifest_request(self, method: str, path: str, reference: str) -> Request:
        return Request(
            method=method,
            url=f"{self._root}/v2/{quote(path)}/manifests/{quote(reference, safe=':')}",
            headers={"Accept": ACCEPT},
            max_bytes=MAX_MANIFEST_BYTES,
        )

    async def _manifest(self, path: str, digest: str) -> Held:
        """Return a manifest by digest, asked for once however many want it at a time."""
        try:
            async with self._turns[digest]:
                held = self._manifests.get(digest)
                if held is None:
                    return await self._fetch_manifest(path, digest)
                self._manifests.move_to_end(digest)
                return held
        finally:
            # Whoever comes later finds the manifest or fails by itself.
            self._turns.pop(digest, None)

    # --- referrers -------------------------------------------------------------------------------

    async def _listed_referrers(self, path: str, subject: str) -> list[Descriptor] | None:
        """Return what the registry lists; ``None`` where it has no such list.

        A registry that has the list has it for every digest, be it empty (OCI distribution
        specification, "Listing Referrers"). So one answer tells, and the others wait for it.
        """
        async with contextlib.AsyncExitStack() as stack:
            if not self._lists_referrers:
                await stack.enter_async_context(self._first_referrers)
            if time.monotonic() < self._no_referrers_until:
                return None
            if self._lists_referrers:
                await stack.aclose()  # Somebody else's answer has told meanwhile.
            try:
                found = await self._pages_of_referrers(path, subject)
            except (MissingError, UnsupportedError):
                if self._lists_referrers:
                    raise
                self._no_referrers_until = time.monotonic() + _NO_REFERRERS_S
                return None
            self._lists_referrers = True
            return found

    async def _pages_of_referrers(self, path: str, subject: str) -> list[Descriptor]:
        def read(reply: Reply) -> tuple[list[Descriptor], str | None]:
            try:
                raise_for_status(reply)
            except UnexpectedAnswerError as exc:
                if reply.status == 400:
                    raise UnsupportedError(f"{exc}; there is no list of referrers") from exc
                raise
            return decode(reply, Manifest).manifests or [], next_link(reply)

        url: str | None = f"{self._root}/v2/{quote(path)}/referrers/{quote(subject, safe=':')}"
        entries: list[Descriptor] = []
        seen = set[str]()
        while url is not None and url not in seen:
            seen.add(url)
            request = Request(method="GET", url=url, headers={"Accept": OCI_INDEX})
            page, url = await self._http.call(request, read, self._login.for_call(_pull(path)))
            entries += page
        if url is not None:
            raise ListLoopError("the registry's list of referrers leads back to itself")
        return entries

    async def _tagged_referrers(self, path: str, tag: str, named: Subject) -> list[Referrer]:
        try:
            held = await self._fetch_manifest(path, tag)
        except ListMovedError:
            return []
        if named.kind is None:
            entries = held.manifest.manifests or []
            return [_referrer(named.digest, one, tag=tag) for one in entries]
        one = Referrer(
            subject=named.digest,
            digest=held.digest,
            artifact_type=artifact_type_of(held.manifest) or held.media_type,
            kind=named.kind,
            tag=tag,
        )
        return [one]

    # --- images ----------------------------------------------------------------------------------

    async def _image(self, path: str, digest: str) -> Image:
        held = await self._manifest(path, digest)
        if held.is_index:
            return await self._index_image(path, held)
        return image_of(held, await self._config(path, held))

    async def _index_image(self, path: str, held: Held) -> Image:
        children = await self._children(path, held.manifest.manifests or [], nested=True)
        # The index itself does not say when it was made; its first image does.
        first = next((child for _, child in children if _is_image(child)), None)
        config = await self._config(path, first) if first else None
        return index_image_of(held, children, config)

    async def _children(
        self, path: str, entries: list[Descriptor], *, nested: bool
    ) -> list[tuple[Platform, Held | None]]:
        if len(entries) > _MOST_PLATFORMS:
            raise UnexpectedAnswerError(f"{path}: an index of {len(entries)} platforms")
        found: list[tuple[Platform, Held | None]] = []
        for entry, child in zip(
            entries, await _each(entries, lambda one: self._child(path, one)), strict=True
        ):
            if child is not None and child.is_index and nested:
                below = child.manifest.manifests or []
                found += await self._children(path, below, nested=False)
            else:
                config = await self._config(path, child) if _is_anonymous(entry, child) else None
                found.append((platform_of(entry, child, config), child))
        return found

    async def _child(self, path: str, entry: Descriptor) -> Held | None:
        """Return a child's manifest, or ``None`` where it was never pushed or is gone."""
        try:
            return await self._manifest(path, entry.digest)
        except ListMovedError:
            return None

    async def _config(self, path: str, held: Held | None) -> Config | None:
        """Read an image's config; an image whose config is gone only lacks what it says."""
        if held is None or not _is_image(held) or held.manifest.config is None:
            return None
        digest = held.manifest.config.digest

        def read(reply: Reply) -> Config:
            raise_for_status(reply)
            check_digest(reply.body, digest, path)
            return decode(reply, Config)

        request = Request(
            method="GET",
            url=f"{self._root}/v2/{quote(path)}/blobs/{quote(digest, safe=':')}",
            max_bytes=MAX_CONFIG_BYTES,
        )
        try:
            return await self._http.call(request, read, self._login.for_call(_pull(path)))
        except MissingError:
            return None


class _Walk:
    """Guards one listing against turning in circles."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._urls = set[str]()
        self._names = set[int]()
        self._empty = 0

    @property
    def has_begun(self) -> bool:
        """Whether a page has come."""
        return bool(self._urls)

    def take(self, url: str, page: _Names) -> list[str]:
        """Take a page in and return its names that are new.

        Raises:
            ListLoopError: the registry leads back to a page it gave before, or on for ever.
        """
        self._urls.add(url)
        fresh = [name for name in dict.fromkeys(page.names) if hash(name) not in self._names]
        self._names.update(map(hash, fresh))
        self._empty = 0 if page.names else self._empty + 1
        again = bool(page.names) and not fresh and page.next is not None
        if page.next in self._urls or again or self._empty > _MOST_EMPTY_PAGES:
            raise ListLoopError(f"the registry's list of {self._what} leads back to itself")
        return fresh


def _may_be_cut(page: _Names, page_size: int | None) -> bool:
    """Tell whether a page without a link may still not be the last.

    Proxies drop the header, and so do groups of registries; a full page is therefore asked once
    more for what comes after it.
    """
    return page_size is None or len(page.names) >= page_size


def _refuses_page_size(reply: Reply) -> bool:
    return reply.status == 400 and error_body(reply.body).code == "PAGINATION_NUMBER_INVALID"


def _check_catalog(reply: Reply) -> None:
    """Raise what the catalog's status means, and say what helps."""
    try:
        raise_for_status(reply)
    except (MissingError, UnsupportedError) as exc:
        raise UnsupportedError(f"{exc}; the registry offers no catalog: {_NAME_THEM}") from exc


def _check_tags(reply: Reply) -> None:
    """Raise what the status of a list of tags means, and tell a name unknown from any other 404."""
    try:
        raise_for_status(reply)
    except MissingError as exc:
        if error_body(reply.body).code == "NAME_UNKNOWN":
            raise NameUnknownError(str(exc)) from exc
        raise


def _held(reply: Reply, expected: str | None) -> Held:
    content_type = reply.headers.get("content-type", "")
    if expected is not None and not is_schema_1_type(content_type):
        check_digest(reply.body, expected, "manifest")
    manifest = decode(reply, Manifest)
    said = reply.headers.get("docker-content-digest", "").strip()
    digest = expected or sha256_of(reply.body)
    # The digest of a signed schema 1 manifest is not that of its bytes: only the registry knows.
    if expected is None and is_schema_1_type(content_type) and is_digest(said):
        digest = said
    return Held(digest, media_type_of(content_type, manifest), manifest)


def _referrer(subject: str, entry: Descriptor, *, tag: str | None = None) -> Referrer:
    told = entry.artifact_type or entry.media_type
    return Referrer(
        subject=subject,
        digest=entry.digest,
        artifact_type=told,
        kind=kind_of_artifact(told, entry.annotations),
        tag=tag,
    )


def _is_image(held: Held | None) -> bool:
    return held is not None and not held.is_index and not artifact_type_of(held.manifest)


def _is_anonymous(entry: Descriptor, child: Held | None) -> bool:
    """Tell whether only the config can say which platform this is."""
    return entry.platform is None and child is not None


def _pull(path: str) -> str:
    return f"repository:{path}:pull"


async def _each(items: Iterable[T], work: Callable[[T], Awaitable[U]]) -> list[U]:
    """Work on all items at once, in order; the first error ends the others and is raised.

    How many requests are under way is for the ``Http`` behind to limit.
    """

    async def one(item: T) -> U:
        return await work(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
