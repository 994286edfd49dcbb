"""SWR enterprise edition: one instance of an account, with its namespaces and artifacts."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar
from urllib.parse import quote, urlencode

import msgspec

from wharfinger.domain.errors import (
    InvalidParameterError,
    ListLoopError,
    ListMovedError,
    UnexpectedAnswerError,
)
from wharfinger.domain.model import (
    Cursor,
    FoundRegistry,
    Image,
    Notification,
    Page,
    RegistryCredential,
    RegistryRef,
    RepositoryRef,
    TagRef,
)
from wharfinger.domain.ports import Http, Reply, Request
from wharfinger.sources._harbor_notifications import read_harbor_notification
from wharfinger.sources._manifests import DOCKER_INDEX, IMAGE_CONFIGS, OCI_INDEX
from wharfinger.sources._reading import check_cursor, deadline, reading, server_time, timestamp
from wharfinger.sources._swr_login import (
    CREDENTIAL_KINDS,
    Clock,
    check_login,
    open_login,
    utc_now,
)
from wharfinger.sources._swr_reading import SETTLED_AFTER, add_distinct, check_status

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}")
# What cosign and its kin push beside an image: a tag made of the digest that it speaks of.
_BESIDE = re.compile(r"sha256-[0-9a-f]{64}\.(sig|att|sbom)")
# By age, oldest first: what is pushed while the list is read comes behind what was read.
_OLDEST_FIRST = {"order_column": "created_at", "order_type": "asc"}


@dataclass(frozen=True, kw_only=True)
class SwrEnterpriseOptions:
    """What can be set for an enterprise instance besides address and credential."""

    instance_id: str = field(
        default="", metadata={"help": "the instance; `wharfinger swr instances` lists them"}
    )
    project_id: str = field(default="", metadata={"help": "project id in Huawei Cloud"})
    instance_name: str = field(
        default="", metadata={"help": "the instance's name, for the lists of HSS"}
    )
    instance_url: str = field(
        default="", metadata={"help": "the address that Docker uses, for the lists of HSS"}
    )
    page_size: Annotated[int, msgspec.Meta(ge=2, le=100)] = field(
        default=100, metadata={"help": "rows asked for at a time, 2 to 100"}
    )
    iam_address: str = field(
        default="", metadata={"help": "IAM endpoint; a user name and password need it"}
    )


class _InstanceRow(msgspec.Struct, frozen=True):
    id: str
    name: str = ""
    access_address: str = ""
    version: str = ""
    status: str = ""
    created_at: str | None = None
    expires_at: str | None = None

    @property
    def keys(self) -> tuple[Hashable, ...]:
        return (self.id,)


class _RepositoryRow(msgspec.Struct, frozen=True):
    name: str
    namespace_name: str
    tag_count: int | None = None
    artifact_count: int | None = None
    updated_at: str | None = None

    @property
    def keys(self) -> tuple[Hashable, ...]:
        return ((self.namespace_name, self.name),)


class _ArtifactTag(msgspec.Struct, frozen=True):
    name: str
    push_time: str | None = None


class _ArtifactRow(msgspec.Struct, frozen=True):
    digest: str
    type: str = ""
    media_type: str = ""
    manifest_media_type: str = ""
    push_time: str | None = None
    size: int | None = None
    tags: list[_ArtifactTag] | None = None

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The artifact and each of its tags: one that moves while it is read is seen twice."""
        return (self.digest, *((tag.name,) for tag in self.tags or []))


# One page each: its rows, which may be null where there are none, and how many there are in all.
class _Instances(msgspec.Struct, frozen=True, rename={"rows": "instances"}):
    rows: list[_InstanceRow] | None
    total: int


class _Repositories(msgspec.Struct, frozen=True, rename={"rows": "repositories"}):
    rows: list[_RepositoryRow] | None
    total: int


class _Artifacts(msgspec.Struct, frozen=True, rename={"rows": "artifacts"}):
    rows: list[_ArtifactRow] | None
    total: int


class _Tags(msgspec.Struct, frozen=True, rename={"rows": "tags"}):
    rows: list[msgspec.Raw] | None
    total: int


_Answer = _Instances | _Repositories | _Artifacts | _Tags


class _Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What one list needs to be read."""

    name: str
    path: str  # behind the version
    answer: type[_Answer]
    query: dict[str, str] = {}
    sort: str = ""


class SwrEnterprise:
    """The artifacts of one instance, tagged or not."""

    Options: ClassVar[type[SwrEnterpriseOptions]] = SwrEnterpriseOptions
    credential_kinds: ClassVar[frozenset[str]] = CREDENTIAL_KINDS
    kind: ClassVar[str] = "SwrEnterprise"

    def __init__(
        self,
        registry: RegistryRef,
        credential: RegistryCredential,
        http: Http,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._registry = registry
        self._options = msgspec.convert(dict(registry.options), SwrEnterpriseOptions)
        self._http = http
        self._login = open_login(registry, credential, http, self._options, clock)

    @staticmethod
    def check(options: SwrEnterpriseOptions, credential: RegistryCredential) -> None:
        """Demand what every path needs: the project, and the instance."""
        if not _ID.fullmatch(options.project_id):
            raise InvalidParameterError(
                "options.project_id", "must be the project's id in Huawei Cloud"
            )
        if not _ID.fullmatch(options.instance_id):
            raise InvalidParameterError(
                "options.instance_id",
                "must be an instance's id; `wharfinger swr instances` lists them",
            )
        check_login(options, credential)

    @staticmethod
    def notified(body: bytes) -> Notification:
        """Read what a trigger of the instance sends; see ``read_notification``."""
        return read_harbor_notification(body)

    async def repositories(self, after: Cursor | None) -> AsyncIterator[Page[RepositoryRef]]:
        """List the instance's repositories; see ``ports.Source``."""
        listing = _Listing(
            name="repositories",
            path=f"{self._instance}/repositories",
            answer=_Repositories,
            query=_OLDEST_FIRST,
            sort="created_at",
        )
        async for rows, ahead, total, reply in self._read(listing, after):
            clock = server_time(reply)
            items = tuple(_repository(row, clock) for row in rows)
            yield Page(items=items, next=ahead, total=total)

    async def tags(
        self, repository: RepositoryRef, after: Cursor | None
    ) -> AsyncIterator[Page[TagRef]]:
        """List a repository's tags, and the artifacts without any; see ``ports.Source``."""
        listing = _Listing(
            name="artifacts",
            path=f"{_path(self._instance, repository)}/artifacts",
            answer=_Artifacts,
        )
        seen, tags, several = set[int](), 0, False
        async for rows, ahead, _, _ in self._read(listing, after):
            items = tuple(tag for row in rows for tag in _tag_refs(row))
            seen.update(hash(row.keys) for row in rows)
            tags += sum(tag.tag is not None for tag in items)
            if ahead is None and several and tags != await self._count_tags(repository):
                await self._confirm(listing, seen)
            several = True
            yield Page(items=items, next=ahead)

    async def found(self) -> list[FoundRegistry]:
        """List the project's instances; see ``sources.find_registries``."""
        path = f"{self._options.project_id}/instances"
        listing = _Listing(name="instances", path=path, answer=_Instances)
        return [_found(row) async for rows, _, _, _ in self._read(listing, None) for row in rows]

    async def describe(
        self,
        repository: RepositoryRef,  # noqa: ARG002 - the port's parameter
        tags: Sequence[TagRef],
    ) -> AsyncIterator[Image]:
        """Repeat what the listing told; there is no more to ask for."""
        for tag in tags:
            if tag.image is not None:
                yield tag.image

    async def aclose(self) -> None:
        """Do nothing: the connections are the transport's."""

    # --- reading ---------------------------------------------------------------------------------

    @property
    def _instance(self) -> str:
        return f"{self._options.project_id}/instances/{self._options.instance_id}"

    async def _count_tags(self, repository: RepositoryRef) -> int:
        """Return how many tags the registry itself counts.

        A tag that moves from an artifact on a later page to one on an earlier page is on neither
        when it is read, and no row has moved: only the number of tags can tell.
        """
        alone = f"instances/{self._options.instance_id}"
        listing = _Listing(name="tags", path=f"{_path(alone, repository)}/tags", answer=_Tags)
        query = {"offset": "0", "limit": "1", "is_accessory": "false"}
        answer, _ = await self._get(listing, query)
        return answer.total

    async def _confirm(self, listing: _Listing, seen: set[int]) -> None:
        """Read a list again whose tags are not as many as the registry counts.

        What it counts is not documented well enough to be the last word. A second list that is
        the same as the first one is.

        Raises:
            ListMovedError: it is another one.
        """
        again = {hash(row.keys) async for rows, *_ in self._read(listing, None) for row in rows}
        if again != seen:
            raise ListMovedError(
                f"SWR's list of {listing.name} changed while read: a tag is elsewhere now"
            )

    async def _read(
        self, listing: _Listing, after: Cursor | None
    ) -> AsyncIterator[tuple[list[Any], Cursor | None, int, Reply]]:
        if after is not None:
            check_cursor(after, self._cursor(listing, 0))
        walk = _GridWalk(listing.name, self._options.page_size)
        while True:
            query = {**listing.query, "limit": str(walk.limit), "offset": str(walk.offset)}
            answer, reply = await self._get(listing, query)
            fresh = walk.advance(answer.rows or [], answer.total)
            if walk.finished:
                yield fresh, None, answer.total, reply
                return
            if fresh:
                yield fresh, self._cursor(listing, walk.offset), answer.total, reply

    async def _get(self, listing: _Listing, query: dict[str, str]) -> tuple[_Answer, Reply]:
        root = f"{self._registry.address.rstrip('/')}/v2"
        request = Request(
            method="GET",
            url=f"{root}/{listing.path}?{urlencode(sorted(query.items()), quote_via=quote)}",
            headers={"Accept": "application/json"},
        )
        read: Callable[[Reply], tuple[_Answer, Reply]] = reading(listing.answer, check_status)
        return await self._http.call(request, read, self._login.for_call())

    def _cursor(self, listing: _Listing, offset: int) -> Cursor:
        return Cursor(
            kind=self.kind,
            api=f"v2 {listing.name}",
            page_size=self._options.page_size,
            sort=listing.sort,
            generation=self._registry.generation,
            position=str(offset),
            resumable=False,
        )


class _GridWalk:
    """The state of one listing by offset, where every offset must be a multiple of the limit.

    A page begins with rows of the page before all the same, which shows that nothing moved in
    between: the limit varies, and of the page's size and less the number is taken that gets
    furthest from a multiple of it before the end of what was read. No number fits only where
    that end is a multiple of them all, which pages of a few rows run into. There the page that
    has just been read is read once more after the one behind it.
    """

    def __init__(self, name: str, size: int) -> None:
        self.offset, self.limit = 0, size
        self.finished = False
        self._name = name
        self._size = size
        self._total: int | None = None
        self._seen = set[int]()
        self._reached = 0  # rows read so far
        self._tail: list[int] = []  # the keys of the last of them
        self._page: list[int] = []  # the keys of the page before
        self._look_back: tuple[int, int] | None = None  # offset and limit of a page to come

    def advance(self, rows: list[Any], total: int) -> list[Any]:
        """Take a page in and return the rows that are new; set the next page or ``finished``.

        Raises:
            ListMovedError: this page does not join those before, or the totals do not add up.
            ListLoopError: the page before came again.
        """
        if self._total not in (None, total):
            raise self._moved(f"the total went from {self._total} to {total}")
        self._total = total
        keys = [hash(row.keys) for row in rows]
        fresh = rows[self._joint(keys) :]
        add_distinct(self._seen, (key for row in fresh for key in row.keys), self._name)
        self._keep(keys, len(fresh))
        self._go_on(len(rows))
        return fresh

    def _joint(self, keys: list[int]) -> int:
        """Return the number of rows that this page repeats of those before."""
        if len(keys) > 1 and keys == self._page:
            raise ListLoopError(f"SWR repeats a page of its {self._name}")
        start = self.offset - (self._reached - len(self._tail))
        repeated = self._tail[start : start + len(keys)]
        if keys[: len(repeated)] != repeated:
            raise self._moved("a page does not begin with the last rows of the one before")
        return len(repeated)

    def _keep(self, keys: list[int], fresh: int) -> None:
        self._page = keys
        self._reached += fresh
        # A page to be read again reaches back by two pages, the one behind it included.
        self._tail = (self._tail + keys[len(keys) - fresh :])[-2 * self._size :]

    def _go_on(self, received: int) -> None:
        if self._look_back is not None:
            (self.offset, self.limit), self._look_back = self._look_back, None
            return
        total = self._total or 0
        self.finished = self._reached == total
        if self._reached > total:
            raise self._moved(f"{self._reached} rows came where the total says {total}")
        if total > 0 and received == 0:
            raise self._moved(f"a page is empty where the total says {total}")
        if self.finished:
            return
        # A server with smaller pages of its own is asked for those, or it would leave gaps.
        self._size = min(self._size, received) if received < self.limit else self._size
        self._choose()

    def _choose(self) -> None:
        end = self._reached
        sizes = range(self._size, 1, -1)
        size = max(sizes, key=lambda one: _line_before(end, one) + one, default=1)
        self.offset, self.limit = _line_before(end, size), size
        if self.offset + size <= end:
            self._look_back = _line_before(end, self._size), self._size
            self.offset, self.limit = end, self._size

    def _moved(self, how: str) -> ListMovedError:
        return ListMovedError(f"SWR's list of {self._name} changed while read: {how}")


def _line_before(end: int, size: int) -> int:
    """Return the last multiple of ``size`` that leaves a row before ``end``."""
    return (end - 1) // size * size


def _path(instance: str, repository: RepositoryRef) -> str:
    # The gateway decodes a path before it looks for its parts, so a slash within a part has to
    # be encoded twice.
    namespace, name = (
        quote(quote(p, safe=""), safe="") for p in (repository.namespace, repository.name)
    )
    return f"{instance}/namespaces/{namespace}/repositories/{name}"


def _repository(row: _RepositoryRow, server_clock: dt.datetime | None) -> RepositoryRef:
    if not row.namespace_name or not row.name:
        raise UnexpectedAnswerError("SWR listed a repository without namespace or name")
    return RepositoryRef(
        namespace=row.namespace_name,
        name=row.name,
        fingerprint=_fingerprint(row, server_clock),
        images=_claimed(row),
        updated_at=timestamp(row.updated_at),
    )


def _claimed(row: _RepositoryRow) -> int | None:
    """Return how many images the row vouches for: each tag is one, an artifact may be hidden."""
    return None if not row.tag_count and row.artifact_count else row.tag_count


def _fingerprint(row: _RepositoryRow, server_clock: dt.datetime | None) -> str | None:
    """Return what stays equal while a repository stays unchanged, as far as its row can tell."""
    updated_at = timestamp(row.updated_at)
    if updated_at is None or server_clock is None:
        return None
    if row.tag_count is None or row.artifact_count is None:
        return None
    if server_clock - updated_at < SETTLED_AFTER:
        return None
    # The moment and not its text, which may be of another zone in the next answer.
    told = msgspec.json.encode((updated_at, row.tag_count, row.artifact_count))
    return hashlib.blake2b(told, digest_size=16).hexdigest()


def _tag_refs(row: _ArtifactRow) -> list[TagRef]:
    if not row.digest:
        raise UnexpectedAnswerError("SWR listed an artifact without digest")
    image = Image(
        digest=row.digest,
        # The config's digest is not told.
        image_id=row.digest,
        size=row.size or 0,
        media_type=row.manifest_media_type,
        artifact_type=_artifact_type(row),
        is_index=_is_index(row),
    )
    pushed_at = timestamp(row.push_time)
    if not row.tags:
        return [TagRef(tag=None, digest=row.digest, updated_at=pushed_at, image=image)]
    return [
        TagRef(
            tag=tag.name,
            digest=row.digest,
            updated_at=timestamp(tag.push_time) or pushed_at,
            image=image,
        )
        for tag in row.tags
    ]


def _is_index(row: _ArtifactRow) -> bool:
    return row.manifest_media_type in (OCI_INDEX, DOCKER_INDEX)


def _artifact_type(row: _ArtifactRow) -> str:
    """Return what an artifact is that is no container image, or nothing for an image."""
    beside = [_BESIDE.fullmatch(tag.name) for tag in row.tags or []]
    if beside and beside[0] and all(beside):
        return f"application/vnd.dev.cosign.artifact.{beside[0][1]}.v1+json"
    if row.type not in ("", "IMAGE"):
        return row.media_type or row.type
    return "" if _is_index(row) or row.media_type in IMAGE_CONFIGS else row.media_type


def _found(row: _InstanceRow) -> FoundRegistry:
    return FoundRegistry(
        id=row.id,
        name=row.name,
        url=row.access_address,
        version=row.version,
        status=row.status,
        created_at=timestamp(row.created_at),
        expires_at=deadline(row.expires_at),
    )
