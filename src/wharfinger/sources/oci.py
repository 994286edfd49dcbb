"""Any registry that speaks the OCI distribution protocol, over its catalog or a given list."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from wharfinger.domain.errors import (
    ForbiddenError,
    InvalidParameterError,
    ListLoopError,
    ListMovedError,
    MalformedAnswerError,
    MissingError,
    NameUnknownError,
    UnauthorisedError,
    UnexpectedAnswerError,
    UnsupportedError,
)
from wharfinger.domain.model import (
    Cursor,
    Image,
    Notification,
    Page,
    Platform,
    RegistryCredential,
    RegistryRef,
    RepositoryName,
    RepositoryRef,
    TagRef,
)
from wharfinger.domain.ports import Http, Reply, Request
from wharfinger.sources._manifests import (
    ACCEPT,
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
from wharfinger.sources._oci_login import RegistryLogin
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

_NAME = re.compile(
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
)
_NAME_THEM = "name the repositories to read with --repository"


@dataclass(frozen=True, kw_only=True)
class OciOptions:
    """What can be set for an OCI registry besides address and credential."""

    repositories: tuple[str, ...] = field(
        default=(),
        metadata={"help": "the repositories to read; without any, the registry's catalog"},
    )
    page_size: Annotated[int, msgspec.Meta(ge=1, le=10000)] = field(
        default=1000, metadata={"help": "rows asked for at a time, 1 to 10000"}
    )


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


class _Target(msgspec.Struct, frozen=True, rename="camel"):
    repository: str = ""
    media_type: str = ""
    tag: str = ""


class _Event(msgspec.Struct, frozen=True):
    """An event of docker-registry's notifications, as far as it is looked at."""

    action: str = ""
    target: _Target = _Target()

    @property
    def tells_of_a_manifest(self) -> bool:
        """Whether a list of tags may have changed."""
        path = self.target.repository
        if self.action not in ("push", "delete") or len(path) > 255 or not _NAME.fullmatch(path):
            return False
        # Layers are pushed, too. What is deleted comes with a tag or a digest and nothing else.
        kind = self.target.media_type
        return self.action == "delete" or bool(self.target.tag) or "manifest" in kind


class _Envelope(msgspec.Struct, frozen=True):
    events: Annotated[tuple[_Event, ...], msgspec.Meta(max_length=100_000)]


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


class Other:
    """A registry of which nothing is known but that it speaks the protocol."""

    Options: ClassVar[type[OciOptions]] = OciOptions
    credential_kinds: ClassVar[frozenset[str]] = frozenset({"none", "basic", "token"})
    kind: ClassVar[str] = "Other"

    def __init__(self, registry: RegistryRef, credential: RegistryCredential, http: Http) -> None:
        self._registry = registry
        self._options = msgspec.convert(dict(registry.options), OciOptions)
        self._http = http
        self._root = registry.address.rstrip("/")
        self._login = RegistryLogin(registry.address, credential, http)
        self._head_tells = True
        self._manifests: OrderedDict[str, Held] = OrderedDict()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @staticmethod
    def check(options: OciOptions, credential: RegistryCredential) -> None:  # noqa: ARG004 - the kinds' common shape
        """Demand that every given name is one that a registry could have."""
        for name in options.repositories:
            if len(name) > 255 or not _NAME.fullmatch(name):
                raise InvalidParameterError(
                    "options.repositories", f"{name!r} is no repository name (like team/app)"
                )

    @staticmethod
    def notified(body: bytes) -> Notification:
        """Read what docker-registry's ``notifications.endpoints`` send; see ``read_notification``.

        What is no push or deletion of a manifest is ignored rather than refused: a registry sends
        a refused envelope again for ever, and everything after it waits.
        """
        try:
            envelope = msgspec.json.decode(body, type=_Envelope)
        except msgspec.DecodeError as exc:
            raise InvalidParameterError(
                "body", "must be an envelope of events, as docker-registry sends them"
            ) from exc
        told = [event for event in envelope.events if event.tells_of_a_manifest]
        names = {event.target.repository: None for event in told}
        return Notification(
            repositories=tuple(map(_split, names)), ignored=len(envelope.events) - len(told)
        )

    # --- listings --------------------------------------------------------------------------------

    async def repositories(self, after: Cursor | None) -> AsyncIterator[Page[RepositoryRef]]:
        """List the catalog, or the repositories that were named; see ``ports.Source``."""
        if self._options.repositories:
            names = dict.fromkeys(self._options.repositories)
            yield Page(items=tuple(map(_repository, names)), next=None, total=len(names))
            return
        catalog = _Listing(
            what="repositories",
            path="/v2/_catalog",
            shape=_Catalog,
            scope="registry:catalog:*",
            check=_check_catalog,
        )
        async for names_of_page, ahead in self._names(catalog, after):
            yield Page(items=tuple(map(_repository, names_of_page)), next=ahead)

    async def tags(
        self, repository: RepositoryRef, after: Cursor | None
    ) -> AsyncIterator[Page[TagRef]]:
        """List a repository's tags, each with its digest; see ``ports.Source``."""
        path = _path_of(repository)
        # Of a repository that somebody named, 404 says nothing but that the name may be wrong.
        check = raise_for_status if self._options.repositories else _check_tags
        listing = _Listing(
            what="tags",
            path=f"/v2/{quote(path)}/tags/list",
            shape=_TagList,
            scope=_pull(path),
            check=check,
        )
        async for names, ahead in self._names(listing, after):
            items = await _each(names, lambda tag: self._tag(path, tag))
            yield Page(items=tuple(items), next=ahead)

    async def describe(
        self, repository: RepositoryRef, tags: Sequence[TagRef]
    ) -> AsyncIterator[Image]:
        """Read the manifests behind digests, each once; see ``ports.Source``."""
        path = _path_of(repository)
        digests = list(dict.fromkeys(tag.digest for tag in tags))
        for start in range(0, len(digests), _DESCRIBED_AT_ONCE):
            batch = digests[start : start + _DESCRIBED_AT_ONCE]
            for image in await _each(batch, lambda digest: self._image(path, digest)):
                yield image

    async def aclose(self) -> None:
        """Forget the manifests; the connections are the transport's."""
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
        page_size: int | None = self._options.page_size
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
            if ahead is None and fresh and _may_be_cut(page, page_size):
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
            kind=self.kind,
            api=f"v2 {listing.what}",
            page_size=self._options.page_size,
            sort="",
            generation=self._registry.generation,
            position=position,
            resumable=True,
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

    # --- images ----------------------------------------------------------------------------------

    async def _image(self, path: str, digest: str) -> Image:
        held = await self._manifest(path, digest)
        if held.is_index:
            return await self._index_image(path, held)
        return image_of(held, await self._config(path, held))

    async def _index_image(self, path: str, held: Held) -> Image:
        children = await self._children(path, held.manifest.manifests or [], nested=True)
        platforms = [platform for platform, _ in children]
        # The index itself does not say when it was made; its first image does.
        first = next((child for _, child in children if _is_image(child)), None)
        config = await self._config(path, first) if first else None
        return index_image_of(held, tuple(platforms), config)

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
    except (UnauthorisedError, ForbiddenError) as exc:
        kind = type(exc)
        raise kind(f"{exc}; if the credentials are right but not enough, {_NAME_THEM}") from exc
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


def _is_image(held: Held | None) -> bool:
    return held is not None and not held.is_index and not artifact_type_of(held.manifest)


def _is_anonymous(entry: Descriptor, child: Held | None) -> bool:
    """Tell whether only the config can say which platform this is."""
    return entry.platform is None and child is not None


def _repository(path: str) -> RepositoryRef:
    split = _split(path)
    if not split.name or ("/" in path and not split.namespace):
        raise UnexpectedAnswerError(f"the registry lists {path!r}, which is no repository name")
    return RepositoryRef(namespace=split.namespace, name=split.name)


def _split(path: str) -> RepositoryName:
    namespace, slash, name = path.partition("/")
    return RepositoryName(namespace=namespace if slash else "", name=name if slash else path)


def _path_of(repository: RepositoryRef) -> str:
    return "/".join(filter(None, (repository.namespace, repository.name)))


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
