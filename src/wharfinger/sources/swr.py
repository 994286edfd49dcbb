"""SWR basic edition: an account's own repositories, and those that others share with it."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from wharfinger.domain.errors import (
    ListLoopError,
    ListMovedError,
    MalformedAnswerError,
    UnexpectedAnswerError,
)
from wharfinger.domain.model import (
    Cursor,
    Image,
    Page,
    Platform,
    RegistryCredential,
    RegistryRef,
    RepositoryRef,
    TagRef,
)
from wharfinger.domain.ports import Http, Reply, Request
from wharfinger.sources._reading import check_cursor, reading, server_time, timestamp
from wharfinger.sources._swr_login import CREDENTIAL_KINDS, Clock, check_login, open_login, utc_now
from wharfinger.sources._swr_reading import SETTLED_AFTER, add_distinct, check_status

T = TypeVar("T")
Row = TypeVar("Row")

_NO_MANIFEST = msgspec.Raw(b"null")
# By default the newest tag comes first. A marker over that order misses a tag that is pushed again
# while the list is read: it leaves the part that is still to come for the one that was read.
_BY_NAME = {"order_column": "tag", "order_type": "asc"}


@dataclass(frozen=True, kw_only=True)
class SwrOptions:
    """What can be set for an SWR registry besides address and credential."""

    api: Literal["v2", "v3"] = field(
        default="v2",
        metadata={"help": "v2 lists by offset and knows the tags' names, v3 by marker"},
    )
    page_size: Annotated[int, msgspec.Meta(ge=2, le=1000)] = field(
        default=1000, metadata={"help": "rows asked for at a time, 2 to 1000"}
    )
    iam_address: str = field(
        default="", metadata={"help": "IAM endpoint; a user name and password need it"}
    )
    project_id: str = field(
        default="", metadata={"help": "project id in Huawei Cloud, where it must be told"}
    )


class _RepositoryRow(msgspec.Struct, frozen=True, gc=False):
    """The kept part of a repository's row; v3 calls its organisation ``namespace_name``."""

    name: str
    namespace: str = ""
    namespace_name: str = ""
    num_images: int | None = None
    size: int | None = None
    updated_at: str | None = None
    domain_name: str | None = None
    tags: list[str] | None = None
    status: bool | None = None
    total_range: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace or self.namespace_name, self.name


class _TagRow(msgspec.Struct, frozen=True, gc=False):
    """The kept part of a tag's row; v2 writes ``Tag``, v3 ``tag``."""

    upper: str = msgspec.field(name="Tag", default="")
    lower: str = msgspec.field(name="tag", default="")
    image_id: str | None = None
    digest: str | None = None
    size: int | None = None
    created: str | None = None
    updated: str | None = None
    tag_type: int | None = None
    manifest: msgspec.Raw = _NO_MANIFEST
    total_range: int | None = None

    @property
    def key(self) -> str:
        return self.upper or self.lower


class _RepositoriesV3(
    msgspec.Struct, frozen=True, rename={"rows": "repos", "next_marker": "nextMarker"}
):
    rows: list[_RepositoryRow]
    next_marker: int | str | None = None
    has_more: bool | None = None


class _TagsV3(msgspec.Struct, frozen=True, rename={"rows": "tags", "next_marker": "nextMarker"}):
    rows: list[_TagRow]
    next_marker: int | str | None = None
    has_more: bool | None = None


class _ChildPlatform(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Child(msgspec.Struct, frozen=True):
    digest: str
    platform: _ChildPlatform | None = None


class _ManifestList(msgspec.Struct, frozen=True, rename={"media_type": "mediaType"}):
    manifests: list[_Child]
    media_type: str = ""


class _Rows(msgspec.Struct, Generic[Row], frozen=True):
    """One page of rows, with what is known about the list around it."""

    rows: list[Row]
    next: Cursor | None
    total: int | None
    reply: Reply  # the answer that brought the page


class _Listing(msgspec.Struct, Generic[Row], frozen=True, kw_only=True):
    """What one list needs to be read: where it is, and what its answers look like."""

    name: str
    path: str
    query: dict[str, str]
    answer: type[Any]
    key: Callable[[Row], Any]
    sort: str = ""  # The server's own order, unless one was asked for.
    claimed: int | None = None  # rows that another answer says the list has


class _Swr:
    """What private and shared repositories have in common."""

    Options: ClassVar[type[SwrOptions]] = SwrOptions
    credential_kinds: ClassVar[frozenset[str]] = CREDENTIAL_KINDS
    kind: ClassVar[str]

    def __init__(
        self,
        registry: RegistryRef,
        credential: RegistryCredential,
        http: Http,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._registry = registry
        self._options = msgspec.convert(dict(registry.options), SwrOptions)
        self._http = http
        self._login = open_login(registry, credential, http, self._options, clock)

    @staticmethod
    def check(options: SwrOptions, credential: RegistryCredential) -> None:
        """Demand the address of IAM where a password must be turned into a token."""
        check_login(options, credential)

    async def repositories(self, after: Cursor | None) -> AsyncIterator[Page[RepositoryRef]]:
        """List the repositories; see ``ports.Source``."""
        listing = self._repositories_v3() if self._options.api == "v3" else self._repositories_v2()
        async for page in self._read(listing, after):
            clock = server_time(page.reply)
            items = tuple(self._repository(row, clock) for row in page.rows)
            yield Page(items=items, next=page.next, total=page.total)

    async def tags(
        self, repository: RepositoryRef, after: Cursor | None
    ) -> AsyncIterator[Page[TagRef]]:
        """List a repository's tags, each with its image; see ``ports.Source``."""
        async for page in self._read(self._tags(repository), after):
            items = tuple(_tag(row) for row in page.rows)
            yield Page(items=items, next=page.next, total=page.total)

    async def describe(
        self,
        repository: RepositoryRef,  # noqa: ARG002 - the port's parameter
        tags: Sequence[TagRef],
    ) -> AsyncIterator[Image]:
        """Repeat what the listing told; SWR's rows leave nothing to ask for."""
        for tag in tags:
            if tag.image is not None:
                yield tag.image

    async def aclose(self) -> None:
        """Do nothing: the connections are the transport's."""

    # --- what differs between the kinds ----------------------------------------------------------

    def _repositories_v2(self) -> _Listing[_RepositoryRow]:
        raise NotImplementedError

    def _repositories_v3(self) -> _Listing[_RepositoryRow]:
        raise NotImplementedError

    def _repository(self, row: _RepositoryRow, server_clock: dt.datetime | None) -> RepositoryRef:
        namespace, name = row.key
        if not namespace or not name:
            raise UnexpectedAnswerError("SWR listed a repository without namespace or name")
        return RepositoryRef(
            namespace=namespace,
            name=name,
            fingerprint=_fingerprint(row, server_clock),
            images=row.num_images,
            updated_at=timestamp(row.updated_at),
        )

    # --- reading ---------------------------------------------------------------------------------

    def _tags(self, repository: RepositoryRef) -> _Listing[_TagRow]:
        # SWR wants a slash in the name as a dollar sign, which its SDK percent-encodes.
        name = quote(repository.name.replace("/", "$"), safe="")
        path = f"manage/namespaces/{quote(repository.namespace, safe='')}/repos/{name}/tags"
        v3 = self._options.api == "v3"
        return _Listing(
            name="tags",
            path=path,
            query={"with_manifest": "true", **_BY_NAME} if v3 else {},
            answer=_TagsV3 if v3 else list[_TagRow],
            key=lambda row: row.key,
            sort="tag" if v3 else "",
            claimed=repository.images,
        )

    def _read(self, listing: _Listing[Row], after: Cursor | None) -> AsyncIterator[_Rows[Row]]:
        if self._options.api == "v3":
            return self._by_marker(listing, after)
        return self._by_offset(listing, after)

    async def _by_offset(
        self, listing: _Listing[Row], after: Cursor | None
    ) -> AsyncIterator[_Rows[Row]]:
        """Read by offset, each page beginning with the last row of the one before.

        That row, a total that stays, and as many distinct rows as the total are what shows that
        nothing moved in between.
        """
        if after is not None:
            check_cursor(after, self._cursor(listing, "", resumable=False))
        walk = _OffsetWalk(listing, self._options.page_size)
        while not walk.finished:
            query = {**listing.query, "limit": str(walk.limit), "offset": str(walk.offset)}
            answer, reply = await self._get(listing, query)
            fresh = walk.advance(answer, reply)
            ahead = None if walk.finished else self._cursor(listing, str(walk.offset))
            yield _Rows(fresh, ahead, walk.total, reply)

    async def _by_marker(
        self, listing: _Listing[Row], after: Cursor | None
    ) -> AsyncIterator[_Rows[Row]]:
        marker = ""
        if after is not None:
            marker = check_cursor(after, self._cursor(listing, "", resumable=True))
        markers, keys = {marker}, set[int]()
        while True:
            query = {**listing.query, "limit": str(self._options.page_size)}
            answer, reply = await self._get(listing, query | ({"marker": marker} if marker else {}))
            rows: list[Row] = answer.rows
            add_distinct(keys, [listing.key(row) for row in rows], listing.name)
            marker = _next_marker(answer)
            if marker in markers and marker:
                raise ListLoopError(f"SWR gave the marker {marker!r} twice for its {listing.name}")
            markers.add(marker)
            ahead = self._cursor(listing, marker, resumable=True) if marker else None
            yield _Rows(rows, ahead, None, reply)
            if ahead is None:
                return

    async def _get(self, listing: _Listing[Row], query: dict[str, str]) -> tuple[Any, Reply]:
        root = f"{self._registry.address.rstrip('/')}/{self._options.api}"
        request = Request(
            method="GET",
            url=f"{root}/{listing.path}?{_encoded(tuple(sorted(query.items())))}",
            headers={"Accept": "application/json"},
        )

        return await self._http.call(
            request, reading(listing.answer, check_status), self._login.for_call()
        )

    def _cursor(self, listing: _Listing[Row], position: str, *, resumable: bool = False) -> Cursor:
        return Cursor(
            kind=self.kind,
            api=f"{self._options.api} {listing.name}",
            page_size=self._options.page_size,
            sort=listing.sort,
            generation=self._registry.generation,
            position=position,
            resumable=resumable,
        )


class SwrPrivate(_Swr):
    """The repositories of the account's own organisations."""

    kind = "SwrPrivate"

    def _repositories_v2(self) -> _Listing[_RepositoryRow]:
        return _repositories("manage/repos", {}, list[_RepositoryRow])

    def _repositories_v3(self) -> _Listing[_RepositoryRow]:
        return _repositories("manage/repos", {}, _RepositoriesV3)


class SwrShared(_Swr):
    """The repositories that other accounts share with this one."""

    kind = "SwrShared"

    def _repositories_v2(self) -> _Listing[_RepositoryRow]:
        query = {"center": "thirdparty"}
        return _repositories("manage/shared-repositories", query, list[_RepositoryRow])

    def _repositories_v3(self) -> _Listing[_RepositoryRow]:
        query = {"shared_by": "thirdparty"}
        return _repositories("manage/shared-repositories", query, _RepositoriesV3)

    def _repository(self, row: _RepositoryRow, server_clock: dt.datetime | None) -> RepositoryRef:
        status = {True: "effective", False: "expired", None: ""}[row.status]
        own = super()._repository(row, server_clock)
        return msgspec.structs.replace(own, owner=row.domain_name or "", shared_status=status)


class _OffsetWalk(Generic[Row]):
    """The state of one listing by offset, from the first page to the proof that it is complete."""

    def __init__(self, listing: _Listing[Row], limit: int) -> None:
        self.limit = limit
        self.offset = 0
        self.total: int | None = None
        self.finished = False
        self._listing = listing
        self._keys = set[int]()
        self._page: list[Any] | None = None  # keys of the page before

    def advance(self, rows: list[Row], reply: Reply) -> list[Row]:
        """Take a page in and return the rows that are new; set ``offset`` or ``finished``.

        Raises:
            ListMovedError: this page does not join the one before, or the totals do not add up.
            ListLoopError: the page before came again.
        """
        first = self._page is None
        self._check_total(_total(rows, reply), first=first)
        keys = [self._listing.key(row) for row in rows]
        joint = self._joint(keys)
        add_distinct(self._keys, keys[joint:], self._listing.name)
        end = self.offset + len(rows)
        self.finished = self._is_end(len(rows), len(rows) - joint, end, first=first)
        if self.finished and self.total is not None and len(self._keys) != self.total:
            raise self._moved(f"{len(self._keys)} rows came where the total says {self.total}")
        if not self.finished and len(rows) == joint:
            raise self._moved(f"the rows end at {end}, before the total of {self.total}")
        self._page = keys
        self.offset = end - self._overlap(keys)
        return rows[joint:]

    def _is_end(self, received: int, fresh: int, end: int, *, first: bool) -> bool:
        if self.total is not None:
            return end >= self.total
        if first:
            # Without any total a short page may be one that the server capped. It is the end if
            # it is empty, if the server ignored the limit, or if the repository's own row
            # claims as many; otherwise one more request tells.
            return received == 0 or received > self.limit or received == self._listing.claimed
        return fresh == 0

    def _check_total(self, total: int | None, *, first: bool) -> None:
        if first:
            self.total = total
        elif total != self.total:
            raise self._moved(f"the total went from {self.total} to {total}")

    def _joint(self, keys: list[Any]) -> int:
        """Return the number of rows, one or none, that this page repeats of the one before."""
        if self._page is None:
            return 0
        if len(keys) > 1 and keys == self._page:
            raise ListLoopError(f"SWR repeats a page of its {self._listing.name}")
        overlap = self._overlap(self._page)
        if keys[:overlap] != self._page[-1:] * overlap:
            raise self._moved("a page does not begin with the last row of the one before")
        return overlap

    @staticmethod
    def _overlap(keys: list[Any]) -> int:
        # After a page of a single row an overlap would never get on.
        return 1 if len(keys) > 1 else 0

    def _moved(self, how: str) -> ListMovedError:
        return ListMovedError(f"SWR's list of {self._listing.name} changed while read: {how}")


# Thousands of lists are asked for with the same few queries.
@functools.lru_cache(maxsize=64)
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    return urlencode(query, quote_via=quote)


def _repositories(path: str, query: dict[str, str], answer: type[Any]) -> _Listing[_RepositoryRow]:
    return _Listing(
        name="repositories", path=path, query=query, answer=answer, key=lambda row: row.key
    )


# ``Content-Range: 0-1/1`` is offset, number of rows on this page, and total.
_CONTENT_RANGE = re.compile(r"(?:items\s+)?\d+-\d+/(\d+)\s*")


def _total(rows: list[Any], reply: Reply) -> int | None:
    match = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", "").strip())
    if match:
        return int(match[1])
    return (rows[0].total_range or None) if rows else None


def _next_marker(answer: _RepositoriesV3 | _TagsV3) -> str:
    """Return the marker of the next page, or nothing on the last one.

    Rows are marked by their id, so a zero is a server's way to write that there is none.
    """
    marker = "" if answer.next_marker in (None, 0, "0") else str(answer.next_marker)
    if answer.has_more and not marker:
        raise MalformedAnswerError("SWR says that there are more rows, but not where")
    return "" if answer.has_more is False else marker


def _fingerprint(row: _RepositoryRow, server_clock: dt.datetime | None) -> str | None:
    """Return what stays equal while a repository stays unchanged, as far as its row can tell."""
    updated_at = timestamp(row.updated_at)
    if updated_at is None or server_clock is None or row.num_images is None:
        return None
    if server_clock - updated_at < SETTLED_AFTER:
        return None
    # SWR does not document whether it lists all tags of a large repository.
    whole = row.tags is not None and len(row.tags) == row.num_images
    names = sorted(row.tags) if whole and row.tags is not None else None
    told = msgspec.json.encode((row.updated_at, row.num_images, row.size, names))
    return hashlib.blake2b(told, digest_size=16).hexdigest()


def _tag(row: _TagRow) -> TagRef:
    name = row.upper or row.lower
    digest = row.digest
    if not name or not digest:
        raise UnexpectedAnswerError("SWR listed a tag without name or digest")
    created_at = timestamp(row.created)
    # Most tags were never moved: the same text is the same time.
    updated_at = created_at if row.updated == row.created else timestamp(row.updated)
    children = _children(row)
    if children is not None:
        image = _index(digest, row, children, created_at)
    else:
        image = Image(
            digest=digest,
            image_id=row.image_id or digest,
            size=row.size or 0,
            created_at=created_at,
        )
    return TagRef(tag=name, digest=digest, updated_at=updated_at or created_at, image=image)


def _index(
    digest: str, row: _TagRow, children: _ManifestList, created_at: dt.datetime | None
) -> Image:
    return Image(
        digest=digest,
        # An index has no config: it stands for itself.
        image_id=digest,
        size=row.size or 0,
        media_type=children.media_type,
        created_at=created_at,
        is_index=True,
        platforms=tuple(map(_platform, children.manifests)),
    )


def _children(row: _TagRow) -> _ManifestList | None:
    """Return the manifest list that a row carries as text, or ``None`` if it is an image's."""
    text = bytes(row.manifest)
    if row.tag_type != 1 and b"manifest.list" not in text and b"image.index" not in text:
        return None
    try:
        return msgspec.json.decode(msgspec.json.decode(text, type=str), type=_ManifestList)
    except msgspec.DecodeError:
        # Without its manifest a list is still a list; which platforms it has is unknown.
        return _ManifestList(manifests=[]) if row.tag_type == 1 else None


def _platform(child: _Child) -> Platform:
    known = child.platform or _ChildPlatform()
    return Platform(
        digest=child.digest,
        os=known.os,
        architecture=known.architecture,
        variant=known.variant,
    )
