"""Harbor, over its API v2.0: projects, repositories, and artifacts with and without tags."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from wharfinger.domain.artifacts import Referrer, Referrers, kind_of_artifact, subject_of_tag
from wharfinger.domain.errors import (
    CredentialsError,
    ForbiddenError,
    InvalidParameterError,
    ListLoopError,
    ListMovedError,
    MissingError,
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
from wharfinger.domain.ports import Authorise, Http, Reply, Request
from wharfinger.sources import read_options
from wharfinger.sources._distribution import Distribution
from wharfinger.sources._harbor_notifications import read_harbor_notification
from wharfinger.sources._manifests import Config, image_of, is_digest
from wharfinger.sources._oci_login import RegistryLogin
from wharfinger.sources._reading import (
    check_cursor,
    next_link,
    raise_for_status,
    reading,
    server_time,
    timestamp,
)

# A push within the clock's own granularity may have happened after the row was made.
_SETTLED_AFTER = dt.timedelta(seconds=5)
# How many creation times are remembered between a page of artifacts and its description.
_KEPT_TIMES = 8192
_IMAGE = "IMAGE"
_INDEXES = ("manifest.list", "image.index")
_API = "/api/v2.0"

_PROJECT = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_NAME_THEM = "name the projects to read with --option projects=NAME,NAME"
_PULL_OR_NOT = (
    "reading manifests needs the permission to pull;"
    " without it, --option manifests=false takes what the listing tells"
)


@dataclass(frozen=True, kw_only=True)
class HarborOptions:
    """What can be set for Harbor besides address and credential."""

    projects: tuple[str, ...] = field(
        default=(),
        metadata={"help": "the projects to read; without any, all that the account may see"},
    )
    proxy_caches: bool = field(
        default=True, metadata={"help": "read projects that cache another registry, too"}
    )
    manifests: bool = field(
        default=True,
        metadata={
            "help": "read each new image's manifest for its config digest (counts as a pull)"
        },
    )
    page_size: Annotated[int, msgspec.Meta(ge=1, le=100)] = field(
        default=100, metadata={"help": "rows asked for at a time, 1 to 100"}
    )


class _Row(Protocol):
    """What every list of Harbor's has: an id, and the time by which it puts the newest first."""

    @property
    def id(self) -> int: ...

    @property
    def born(self) -> str | None: ...


R = TypeVar("R", bound=_Row)


class _ProjectRow(
    msgspec.Struct, frozen=True, rename={"id": "project_id", "born": "creation_time"}
):
    id: int
    name: str
    registry_id: int | None = None  # of the registry that a proxy cache caches
    born: str | None = None


class _RepositoryRow(msgspec.Struct, frozen=True, rename={"born": "creation_time"}):
    id: int
    name: str
    artifact_count: int | None = None
    update_time: str | None = None
    born: str | None = None


class _TagRow(msgspec.Struct, frozen=True):
    name: str
    push_time: str | None = None


class _PlatformRow(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _ReferenceRow(msgspec.Struct, frozen=True):
    child_digest: str
    platform: _PlatformRow | None = None


class _AccessoryRow(msgspec.Struct, frozen=True, rename={"born": "creation_time"}):
    id: int
    digest: str
    type: str = ""
    size: int | None = None
    born: str | None = None


class _ArtifactRow(msgspec.Struct, frozen=True, rename={"born": "push_time"}):
    id: int
    digest: str
    type: str = ""
    media_type: str = ""
    manifest_media_type: str = ""
    artifact_type: str | None = None
    size: int | None = None
    born: str | None = None
    tags: list[_TagRow] | None = None
    references: list[_ReferenceRow] | None = None
    accessories: list[_AccessoryRow] | None = None
    extra_attrs: dict[str, Any] | None = None

    @property
    def is_index(self) -> bool:
        return any(word in self.manifest_media_type for word in _INDEXES)

    @property
    def created(self) -> str:
        told = (self.extra_attrs or {}).get("created")
        return told if isinstance(told, str) else ""


class _Listing(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """What one list needs to be read: where it is, and what its rows look like."""

    what: str  # for messages and the cursor
    path: str
    rows: type[list[R]]
    query: dict[str, str] = {}
    check: Callable[[Reply], None] = raise_for_status


class _Rows(msgspec.Struct, Generic[R], frozen=True):
    """One page of rows, with what is known about the list around it."""

    rows: list[R]
    is_last: bool
    total: int | None
    reply: Reply  # the answer that brought the page


class Harbor:
    """A Harbor's projects, as far as an account or a robot account may see them.

    Pages of numbered offsets prove nothing by themselves. They do where the newest row comes first,
    no row comes twice and the total stays: rows then move towards the end only, unless as many
    are deleted as are added, and even that leaves no row out that stood all along. Where the order
    is another, or no total is told, a list of several pages is read twice and has to be the same.
    """

    Options: ClassVar[type[HarborOptions]] = HarborOptions
    credential_kinds: ClassVar[frozenset[str]] = frozenset({"none", "basic"})
    kind: ClassVar[str] = "Harbor"

    def __init__(self, registry: RegistryRef, credential: RegistryCredential, http: Http) -> None:
        self._registry = registry
        self._options: HarborOptions = read_options(HarborOptions, registry.options)
        self._root = registry.address.rstrip("/").removesuffix(_API)
        self._http = http
        self._authorise = _basic(credential)
        self._distribution = Distribution(
            kind=self.kind,
            root=self._root,
            login=_RegistryLogin(
                self._authorise, RegistryLogin(self._root, credential, http), credential
            ),
            http=http,
            page_size=None,
            generation=registry.generation,
        )
        self._created: OrderedDict[str, str] = OrderedDict()

    @staticmethod
    def check(options: HarborOptions, credential: RegistryCredential) -> None:  # noqa: ARG004 - the kinds' common shape
        """Demand that every given project is one that Harbor could have."""
        for name in options.projects:
            if len(name) > 255 or not _PROJECT.fullmatch(name):
                raise InvalidParameterError(
                    "options.projects", f"{name!r} is no project name (like library)"
                )

    @staticmethod
    def notified(body: bytes) -> Notification:
        """Read what a project's webhook sends, in either format; see ``read_notification``.

        What tells of no change to a list (pulls, scans, quotas) is ignored rather than refused.
        """
        return read_harbor_notification(body)

    # --- listings --------------------------------------------------------------------------------

    async def repositories(self, after: Cursor | None) -> AsyncIterator[Page[RepositoryRef]]:
        """List the repositories of all projects, or of those that were chosen."""
        if after is not None:
            check_cursor(after, self._cursor("repositories"))
        projects = await self._chosen_projects()
        listings = [_repositories()] if projects is None else list(map(_repositories, projects))
        if not listings:
            yield Page(items=(), next=None, total=0)
        for number, listing in enumerate(listings, start=1):
            async for page in self._read(listing):
                clock = server_time(page.reply)
                items = tuple(_repository(row, clock) for row in page.rows)
                is_last = page.is_last and number == len(listings)
                total = page.total if len(listings) == 1 else None
                ahead = None if is_last else self._cursor("repositories")
                yield Page(items=items, next=ahead, total=total)

    async def tags(
        self, repository: RepositoryRef, after: Cursor | None
    ) -> AsyncIterator[Page[TagRef]]:
        """List a repository's artifacts by each of their tags, with what is attached to them."""
        if after is not None:
            check_cursor(after, self._cursor("artifacts"))
        untagged = set[str]()
        async for page in self._read(_artifacts(repository)):
            items = [tag for row in page.rows for tag in self._tags(row)]
            # An accessory may be one of several artifacts, and hangs on each.
            fresh = [tag for tag in items if tag.tag is not None or _add(untagged, tag.digest)]
            ahead = None if page.is_last else self._cursor("artifacts")
            yield Page(items=tuple(fresh), next=ahead)

    async def describe(
        self, repository: RepositoryRef, tags: Sequence[TagRef]
    ) -> AsyncIterator[Image]:
        """Read the manifests behind digests, each once; see ``ports.Source``.

        What the listing told of the image is not asked for again.
        """
        path = f"{repository.namespace}/{repository.name}"
        digests = list(dict.fromkeys(tag.digest for tag in tags))
        others = list[str]()
        try:
            async for held in self._distribution.manifests(path, digests):
                created = self._created.get(held.digest)
                if held.is_index or held.is_schema_1 or created is None:
                    others.append(held.digest)
                else:
                    yield image_of(held, Config(created=created))
            async for image in self._distribution.images(path, others):
                yield image
        except CredentialsError as exc:
            raise type(exc)(f"{exc}; {_PULL_OR_NOT}") from exc

    async def referrers(
        self, repository: RepositoryRef, digest: str, tags: Sequence[str] = ()
    ) -> Referrers:
        """List what belongs to a digest; see ``ports.ListsReferrers``.

        Harbor's own list costs no pull. Tags are read where they are named after the digest.
        """
        found = {
            row.digest: _referrer(digest, row)
            async for page in self._read(_accessories(repository, digest))
            for row in page.rows
        }
        named = [tag for tag in tags if (of := subject_of_tag(tag)) and of.digest == digest]
        if named:
            path = f"{repository.namespace}/{repository.name}"
            for one in (await self._distribution.referrers(path, digest, named)).found:
                found.setdefault(one.digest, one)
        return Referrers(listed=True, found=tuple(found.values()))

    async def aclose(self) -> None:
        """Forget the manifests; the connections are the transport's."""
        self._distribution.forget()
        self._created.clear()

    async def _chosen_projects(self) -> list[str] | None:
        """Return the projects to read one by one; ``None`` where one list has them all.

        Raises:
            MissingError: a project that was named is not there, or hidden.
        """
        chosen = list(dict.fromkeys(self._options.projects))
        if self._options.proxy_caches:
            return chosen or None
        rows = [row async for page in self._read(_projects()) for row in page.rows]
        caches = {row.name: bool(row.registry_id) for row in rows}
        for name in chosen:
            if name not in caches:
                raise MissingError(f"Harbor lists no project {name}")
        return [name for name in chosen or caches if not caches[name]]

    # --- reading ---------------------------------------------------------------------------------

    async def _read(self, listing: _Listing[R]) -> AsyncIterator[_Rows[R]]:
        walk: _Walk[R] = _Walk(listing.what)
        async for page in self._pages(listing, walk):
            if page.is_last and not walk.proves_itself:
                again: _Walk[R] = _Walk(listing.what)
                async for _ in self._pages(listing, again):
                    pass
                walk.compare(again)
            yield page

    async def _pages(self, listing: _Listing[R], walk: _Walk[R]) -> AsyncIterator[_Rows[R]]:
        while True:
            url = walk.ahead or self._url(listing, walk.pages + 1)
            rows, reply = await self._get(listing, url)
            is_last = walk.take(url, rows, reply, full=len(rows) >= self._options.page_size)
            yield _Rows(rows, is_last, walk.total, reply)
            if is_last:
                return

    async def _get(self, listing: _Listing[R], url: str) -> tuple[list[R], Reply]:
        request = Request(method="GET", url=url, headers={"Accept": "application/json"})
        answer: tuple[list[R], Reply] = await self._http.call(
            request, reading(listing.rows, listing.check), self._authorise
        )
        return answer

    def _url(self, listing: _Listing[R], page: int) -> str:
        query = {"page": str(page), "page_size": str(self._options.page_size), **listing.query}
        return f"{self._root}{_API}/{listing.path}?{urlencode(query)}"

    def _cursor(self, what: str) -> Cursor:
        return Cursor(
            kind=self.kind,
            api=f"v2.0 {what}",
            page_size=self._options.page_size,
            sort="",
            generation=self._registry.generation,
            position="",
            resumable=False,
        )

    # --- rows ------------------------------------------------------------------------------------

    def _tags(self, row: _ArtifactRow) -> Iterator[TagRef]:
        if not is_digest(row.digest):
            raise UnexpectedAnswerError("Harbor listed an artifact without a digest")
        pushed = timestamp(row.born)
        attached = tuple(_referrer(row.digest, one) for one in row.accessories or [])
        for tag in row.tags or []:
            yield TagRef(
                tag=tag.name,
                digest=row.digest,
                updated_at=timestamp(tag.push_time) or pushed,
                image=self._told(row, tag.name),
                attached=attached,
            )
        if not row.tags:
            yield TagRef(
                tag=None,
                digest=row.digest,
                updated_at=pushed,
                image=self._told(row, ""),
                attached=attached,
            )
        for accessory in row.accessories or []:
            yield _accessory(accessory)

    def _told(self, row: _ArtifactRow, tag: str) -> Image | None:
        """Return what the row tells of an artifact; ``None`` where its manifest shall."""
        if row.type == _IMAGE and self._options.manifests:
            self._created[row.digest] = row.created
            while len(self._created) > _KEPT_TIMES:
                self._created.popitem(last=False)
            return None
        return Image(
            digest=row.digest,
            image_id=row.digest,
            size=row.size or 0,
            media_type=row.manifest_media_type,
            artifact_type=_artifact_type(row, tag),
            created_at=timestamp(row.created),
            is_index=row.is_index,
            platforms=tuple(map(_platform, row.references or [])),
        )


class _RegistryLogin:
    """Logs in to the registry behind Harbor before it asks, and by a token where it insists.

    A challenge and a token for each repository would cost more than the manifests of most.
    """

    def __init__(
        self, at_once: Authorise, when_asked: RegistryLogin, credential: RegistryCredential
    ) -> None:
        self._at_once = at_once
        self._when_asked = when_asked
        self._insists = credential.kind == "none"

    def for_call(self, scope: str) -> Authorise:
        """Return what authorises the attempts of one call that needs ``scope``."""
        when_asked = self._when_asked.for_call(scope)

        async def authorise(request: Request, challenge: Reply | None) -> Request | None:
            if challenge is None and not self._insists:
                return await self._at_once(request, None)
            offered = challenge.headers.get("www-authenticate", "") if challenge else ""
            self._insists = self._insists or "bearer" in offered.lower()
            return await when_asked(request, challenge)

        return authorise


class _Walk(Generic[R]):
    """The state of one list, from its first page to the proof that it is complete."""

    def __init__(self, what: str) -> None:
        self.pages = 0
        self.total: int | None = None
        self.ahead: str | None = None  # the next page as Harbor links it
        self._what = what
        self._ids = set[int]()
        self._urls = set[str]()
        self._page: list[int] = []
        self._oldest: dt.datetime | None = None
        self._in_order = True

    @property
    def proves_itself(self) -> bool:
        """Whether the pages that came show by themselves that none of them lacks a row."""
        return self.pages == 1 or (self.total is not None and self._in_order)

    def take(self, url: str, rows: list[R], reply: Reply, *, full: bool) -> bool:
        """Take a page in, and tell whether it is the last; else set ``ahead``, if it is linked.

        Raises:
            ListMovedError: a row came twice, or the totals do not add up.
            ListLoopError: the page before came again, or the link leads back.
        """
        self._check_total(_total(reply))
        self._add([row.id for row in rows])
        self._check_order(rows)
        self.pages += 1
        self._urls.add(url)
        self.ahead = next_link(reply)
        if self.ahead in self._urls:
            raise ListLoopError(f"Harbor's list of {self._what} leads back to itself")
        is_last = self.ahead is None and self._is_end(full=full)
        if not is_last and not rows:
            raise self._moved(f"its rows end at {len(self._ids)}, before the total of {self.total}")
        if is_last and self.total is not None and len(self._ids) != self.total:
            raise self._moved(f"{len(self._ids)} rows came where the total says {self.total}")
        return is_last

    def compare(self, again: _Walk[R]) -> None:
        """Demand that a second reading found the same rows.

        Raises:
            ListMovedError: it did not.
        """
        if self._ids != again._ids:
            raise self._moved("a second reading found other rows")

    def _is_end(self, *, full: bool) -> bool:
        # Without a total a full page is asked once more for what comes after it.
        return not full if self.total is None else len(self._ids) >= self.total

    def _check_total(self, total: int | None) -> None:
        if self.pages and total != self.total:
            raise self._moved(f"the total went from {self.total} to {total}")
        self.total = total

    def _add(self, ids: list[int]) -> None:
        if ids and ids == self._page:
            raise ListLoopError(f"Harbor repeats a page of its {self._what}")
        before = len(self._ids)
        self._ids.update(ids)
        if len(self._ids) != before + len(ids):
            raise self._moved("a row came twice")
        self._page = ids

    def _check_order(self, rows: list[R]) -> None:
        for row in rows:
            born = timestamp(row.born)
            if born is None or (self._oldest is not None and born > self._oldest):
                self._in_order = False
            self._oldest = born or self._oldest

    def _moved(self, how: str) -> ListMovedError:
        return ListMovedError(f"Harbor's list of {self._what} changed while read: {how}")


def _projects() -> _Listing[_ProjectRow]:
    return _Listing(what="projects", path="projects", rows=list[_ProjectRow])


def _repositories(project: str = "") -> _Listing[_RepositoryRow]:
    rows, what = list[_RepositoryRow], "repositories"
    if project:
        return _Listing(what=what, path=f"projects/{quote(project)}/repositories", rows=rows)
    return _Listing(what=what, path="repositories", rows=rows, check=_check_all)


def _accessories(repository: RepositoryRef, digest: str) -> _Listing[_AccessoryRow]:
    path = f"{_place(repository)}/artifacts/{quote(digest)}/accessories"
    return _Listing(what="accessories", path=path, rows=list[_AccessoryRow])


def _place(repository: RepositoryRef) -> str:
    # Harbor decodes the path twice: a slash that is encoded but once parts the path.
    name = quote(quote(repository.name, safe=""), safe="")
    return f"projects/{quote(repository.namespace, safe='')}/repositories/{name}"


def _artifacts(repository: RepositoryRef) -> _Listing[_ArtifactRow]:
    return _Listing(
        what="artifacts",
        path=f"{_place(repository)}/artifacts",
        rows=list[_ArtifactRow],
        query={"with_tag": "true", "with_accessory": "true", "with_scan_overview": "false"},
    )


def _basic(credential: RegistryCredential) -> Authorise:
    """Return what logs every request in.

    Harbor asks nobody to: who comes without a name is shown what is public, and no more.
    """
    pair = f"{credential.identity}:{credential.secret}".encode()
    value = f"Basic {base64.b64encode(pair).decode()}"

    async def authorise(request: Request, challenge: Reply | None) -> Request | None:
        if challenge is not None:
            return None
        if credential.kind == "none":
            return request
        headers = {**request.headers, "Authorization": value}
        return msgspec.structs.replace(request, headers=headers)

    return authorise


def _check_all(reply: Reply) -> None:
    """Raise what the status of the list of all repositories means, and say what helps."""
    try:
        raise_for_status(reply)
    except (UnauthorisedError, ForbiddenError) as exc:
        kind = type(exc)
        raise kind(f"{exc}; if the credentials are right but not enough, {_NAME_THEM}") from exc
    except (MissingError, UnsupportedError) as exc:
        raise UnsupportedError(f"{exc}; this Harbor has no list of all: {_NAME_THEM}") from exc


def _total(reply: Reply) -> int | None:
    told = reply.headers.get("x-total-count", "").strip()
    return int(told) if re.fullmatch(r"[0-9]{1,12}", told) else None


def _repository(row: _RepositoryRow, server_clock: dt.datetime | None) -> RepositoryRef:
    split = _split(row.name)
    if not split.namespace or not split.name:
        raise UnexpectedAnswerError(f"Harbor lists {row.name!r}, which is no repository's name")
    return RepositoryRef(
        namespace=split.namespace,
        name=split.name,
        fingerprint=_fingerprint(row, server_clock),
        images=row.artifact_count,
        updated_at=timestamp(row.update_time),
    )


def _fingerprint(row: _RepositoryRow, server_clock: dt.datetime | None) -> str | None:
    """Return what stays equal while a repository stays unchanged, as far as its row can tell.

    Up to 2.15.2 tags that come, move or go over artifacts that stay show in neither
    (harbor#23149); that is for full passes to find.
    """
    updated_at = timestamp(row.update_time)
    if updated_at is None or server_clock is None or row.artifact_count is None:
        return None
    if server_clock - updated_at < _SETTLED_AFTER:
        return None
    told = msgspec.json.encode((row.id, row.update_time, row.artifact_count))
    return hashlib.blake2b(told, digest_size=16).hexdigest()


def _referrer(subject: str, row: _AccessoryRow) -> Referrer:
    return Referrer(
        subject=subject,
        digest=row.digest,
        artifact_type=row.type,
        kind=kind_of_artifact(row.type),
    )


def _accessory(row: _AccessoryRow) -> TagRef:
    if not is_digest(row.digest):
        raise UnexpectedAnswerError("Harbor listed an accessory without a digest")
    image = Image(
        digest=row.digest,
        image_id=row.digest,
        size=row.size or 0,
        artifact_type=row.type or "accessory",
    )
    pushed = timestamp(row.born)
    return TagRef(tag=None, digest=row.digest, updated_at=pushed, image=image)


def _artifact_type(row: _ArtifactRow, tag: str) -> str:
    """Return what an artifact is that is no container image, or nothing for an image."""
    if row.type == _IMAGE:
        # Before 2.5 Harbor took what cosign attaches to an image for an image.
        attached = subject_of_tag(tag)
        return f"{attached.kind.value}.cosign" if attached and attached.kind else ""
    return row.artifact_type or row.media_type or row.type or "unknown"


def _platform(row: _ReferenceRow) -> Platform:
    known = row.platform or _PlatformRow()
    return Platform(
        digest=row.child_digest,
        os=known.os,
        architecture=known.architecture,
        variant=known.variant,
    )


def _split(path: str) -> RepositoryName:
    namespace, _, name = path.partition("/")
    return RepositoryName(namespace=namespace, name=name)


def _add(known: set[str], one: str) -> bool:
    """Add to what is known, and tell whether it was new."""
    if one in known:
        return False
    known.add(one)
    return True
