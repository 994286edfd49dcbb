"""JFrog Artifactory: the images of its docker repositories, over AQL or its docker API."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

import msgspec

from wharfinger.domain.artifacts import Referrers
from wharfinger.domain.errors import (
    ForbiddenError,
    InvalidParameterError,
    ListLoopError,
    ListMovedError,
    MissingError,
    NameUnknownError,
    SourceError,
    UnauthorisedError,
    UnexpectedAnswerError,
    UnsupportedError,
)
from wharfinger.domain.model import (
    Cursor,
    Image,
    Notification,
    Page,
    RegistryCredential,
    RegistryRef,
    RepositoryName,
    RepositoryRef,
    TagRef,
)
from wharfinger.domain.ports import Authorise, Http, Reply, Request
from wharfinger.sources._distribution import Distribution, Login
from wharfinger.sources._oci_login import RegistryLogin
from wharfinger.sources._reading import (
    check_cursor,
    decode,
    raise_for_status,
    reading,
    timestamp,
)

_MANIFESTS = ("list.manifest.json", "manifest.json")
_KINDS_OF_PACKAGE = frozenset({"docker", "oci"})
# Children of an index lie in folders of their own, which no tag can be called.
_CHILD = re.compile(r"sha256(?::|__)[0-9a-f]{64}")
_IMAGE = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[a-z0-9][a-z0-9._-]*)+", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class JfrogOptions:
    """What can be set for Artifactory besides address and credential."""

    listing: Literal["auto", "aql", "docker"] = field(
        default="auto",
        metadata={"help": "aql, docker, or auto: AQL, and docker's API where AQL is refused"},
    )
    page_size: Annotated[int, msgspec.Meta(ge=3, le=10000)] = field(
        default=1000, metadata={"help": "rows asked for at a time by AQL, 3 to 10000"}
    )
    referrers: bool = field(
        default=True,
        metadata={"help": "ask what belongs to each new image (one request for each)"},
    )


class _Repository(msgspec.Struct, frozen=True, rename="camel"):
    """One of Artifactory's own repositories, as far as it is looked at."""

    key: str
    type: str
    package_type: str

    @property
    def storage(self) -> str:
        """Where its images really are; nothing for one that only shows others'."""
        if self.package_type.lower() not in _KINDS_OF_PACKAGE:
            return ""
        kind = self.type.lower()
        if kind in ("local", "federated"):
            return self.key
        return f"{self.key}-cache" if kind == "remote" else ""


class _Item(msgspec.Struct, frozen=True):
    """A manifest's file."""

    repo: str
    path: str
    name: str
    modified: str | None = None
    sha256: str | None = None

    @property
    def image(self) -> str:
        """The path of the image, or nothing where this is no tag's manifest."""
        image, _, tag = self.path.rpartition("/")
        return "" if _CHILD.fullmatch(tag) else image

    @property
    def tag(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """The digest, or nothing where the item lacks the hash, as old ones do."""
        told = self.sha256 or ""
        return f"sha256:{told}" if _SHA256.fullmatch(told) else ""


class _Range(msgspec.Struct, frozen=True):
    notification: str = ""


class _Found(msgspec.Struct, frozen=True):
    """The answer to a query. A notification says that rows were left out."""

    results: list[_Item]
    range: _Range = _Range()


class _Told(msgspec.Struct, frozen=True):
    repo_key: str = ""
    image_name: str = ""


class _Event(msgspec.Struct, frozen=True):
    """What a webhook of Artifactory's docker domain sends, as far as it is looked at."""

    domain: str = ""
    event_type: str = ""
    data: _Told = _Told()

    @property
    def names_an_image(self) -> bool:
        """Whether an image's tags may have changed, and which image that is is told."""
        told = self.data
        known = self.domain == "docker" and self.event_type in ("pushed", "deleted", "promoted")
        # Whoever forges a name makes us look for it, so what cannot be one is not looked for.
        path = f"{told.repo_key}/{told.image_name}"
        return known and len(path) <= 512 and bool(_IMAGE.fullmatch(path))


class Jfrog:
    """Artifactory's docker and OCI repositories; an image's namespace is the repository's key.

    AQL is asked first. One answer has the digests and times of thousands of tags, over all images
    of a repository at once, so that unchanged images cost nothing more; its pages go by path,
    which does not move. Docker's API needs a request for every image and another for every tag. It
    serves where AQL is refused.
    """

    Options: ClassVar[type[JfrogOptions]] = JfrogOptions
    credential_kinds: ClassVar[frozenset[str]] = frozenset({"none", "basic", "token"})
    kind: ClassVar[str] = "Jfrog"

    def __init__(self, registry: RegistryRef, credential: RegistryCredential, http: Http) -> None:
        self._registry = registry
        self._credential = credential
        self._options = msgspec.convert(dict(registry.options), JfrogOptions)
        self._http = http
        self._root = _root(registry.address)
        self._login = _login(self._root, credential, http)
        self._by_aql = self._options.listing != "docker"
        self._docker_apis: dict[str, Distribution] = {}

    @property
    def asks_for_referrers(self) -> bool:
        """Whether the registry is asked; see ``ports.ListsReferrers``."""
        return self._options.referrers

    @staticmethod
    def check(options: JfrogOptions, credential: RegistryCredential) -> None:
        """Accept what the single fields accept."""

    @staticmethod
    def notified(body: bytes) -> Notification:
        """Read what a webhook of the docker domain sends; see ``read_notification``."""
        try:
            event = msgspec.json.decode(body, type=_Event)
        except msgspec.DecodeError as exc:
            raise InvalidParameterError(
                "body", "must be an event, as Artifactory sends it"
            ) from exc
        if not event.names_an_image:
            return Notification(repositories=(), ignored=1)
        name = RepositoryName(namespace=event.data.repo_key, name=event.data.image_name)
        return Notification(repositories=(name,), ignored=0)

    # --- listings --------------------------------------------------------------------------------

    async def repositories(self, after: Cursor | None) -> AsyncIterator[Page[RepositoryRef]]:
        """List the images of every repository in turn; see ``ports.Source``.

        A cursor names the repository to go on with, which is then listed from its beginning.
        """
        begin = check_cursor(after, self._cursor("repositories")) if after else ""
        storages = [one for one in await self._storages() if one >= begin]
        for storage, following in zip(storages, [*storages[1:], None], strict=True):
            here = self._cursor("repositories", storage)
            ahead = self._cursor("repositories", following) if following else None
            async for items, is_last in _with_last(self._images_of(storage)):
                yield Page(items=tuple(items), next=ahead if is_last else here)
        if not storages:
            yield Page(items=(), next=None)

    async def tags(
        self, repository: RepositoryRef, after: Cursor | None
    ) -> AsyncIterator[Page[TagRef]]:
        """List an image's tags with their digests; see ``ports.Source``."""
        if self._by_aql:
            begun = False
            try:
                async for page in self._tags_by_aql(repository, after):
                    begun = True
                    yield page
            except SourceError as exc:
                self._without_aql(exc, begun=begun)
            else:
                return
        docker = self._docker(repository.namespace)
        async for tags, ahead in docker.tags_of(repository.name, after):
            yield Page(items=tuple(tags), next=ahead)

    async def describe(
        self, repository: RepositoryRef, tags: Sequence[TagRef]
    ) -> AsyncIterator[Image]:
        """Read the manifests behind digests, each once; see ``ports.Source``."""
        digests = list(dict.fromkeys(tag.digest for tag in tags))
        async for image in self._docker(repository.namespace).images(repository.name, digests):
            yield image

    async def referrers(
        self, repository: RepositoryRef, digest: str, tags: Sequence[str] = ()
    ) -> Referrers:
        """List what belongs to a digest; see ``ports.ListsReferrers``."""
        return await self._docker(repository.namespace).referrers(repository.name, digest, tags)

    async def aclose(self) -> None:
        """Forget the manifests; the connections are the transport's."""
        self._docker_apis.clear()

    # --- Artifactory's own repositories ----------------------------------------------------------

    async def _storages(self) -> list[str]:
        """Return where images really are: views of others are left out, so that none comes twice.

        What a remote repository has cached lies in another whose key has ``-cache`` behind it.
        """
        request = Request(
            method="GET",
            url=f"{self._root}/api/repositories",
            headers={"Accept": "application/json"},
        )
        rows, _ = await self._http.call(
            request, reading(list[_Repository]), self._login.for_call("")
        )
        return sorted({row.storage for row in rows} - {""})

    async def _images_of(self, storage: str) -> AsyncIterator[list[RepositoryRef]]:
        """List one repository's images, in pages of which the last may be empty."""
        if self._by_aql:
            try:
                found = await self._images_by_aql(storage)
            except SourceError as exc:
                self._without_aql(exc)
            else:
                for start in range(0, max(len(found), 1), self._options.page_size):
                    yield found[start : start + self._options.page_size]
                return
        async for names, _ in self._docker(storage).catalog(None):
            yield [_image(storage, name) for name in names]

    def _without_aql(self, exc: SourceError, *, begun: bool = False) -> None:
        """Do without AQL from now on, if that is what its refusal means.

        Raises:
            SourceError: it means something else, a list had begun, or AQL is what was asked for.
        """
        anonymous = self._credential.kind == "none" and isinstance(exc, UnauthorisedError)
        refused = isinstance(exc, ForbiddenError | MissingError | UnsupportedError) or anonymous
        refused = refused and not isinstance(exc, NameUnknownError)
        if self._options.listing == "aql" or begun or not refused:
            raise exc
        self._by_aql = False

    # --- AQL -------------------------------------------------------------------------------------

    async def _images_by_aql(self, storage: str) -> list[RepositoryRef]:
        images: dict[str, _Tally] = {}
        async for items, _ in self._items(storage, "", 0):
            for item in items:
                images.setdefault(item.image, _Tally()).add(item)
        return [tally.as_repository(storage, image) for image, tally in images.items()]

    async def _tags_by_aql(
        self, repository: RepositoryRef, after: Cursor | None
    ) -> AsyncIterator[Page[TagRef]]:
        begin = check_cursor(after, self._cursor("aql tags")) if after else ""
        claimed = repository.images or 0
        pages = self._items(repository.namespace, begin, claimed, image=repository.name)
        any_tags = bool(begin)
        async for items, ahead in pages:
            any_tags = any_tags or bool(items)
            if not any_tags and not ahead:
                # To AQL an image is the tags it has: without any there is none of that name.
                raise NameUnknownError(
                    f"Artifactory has no tag of {repository.name} in {repository.namespace}"
                )
            tags = [await self._tag(repository, item) for item in items]
            yield Page(items=tuple(tags), next=self._cursor("aql tags", ahead) if ahead else None)

    async def _tag(self, repository: RepositoryRef, item: _Item) -> TagRef:
        updated_at = timestamp(item.modified)
        if item.digest:
            return TagRef(tag=item.tag, digest=item.digest, updated_at=updated_at)
        asked = await self._docker(repository.namespace).tag(repository.name, item.tag)
        return msgspec.structs.replace(asked, updated_at=updated_at)

    async def _items(
        self, storage: str, begin: str, claimed: int, *, image: str = ""
    ) -> AsyncIterator[tuple[list[_Item], str]]:
        """List the manifests of tags by path, with the path to go on from, or "" at the end."""
        walk = _PathWalk(begin, self._options.page_size, claimed, image)
        while not walk.finished:
            found = await self._query(_query(storage, walk.path, image, walk.limit))
            if foreign := next((one.repo for one in found.results if one.repo != storage), None):
                raise UnexpectedAnswerError(f"AQL was asked for {storage} and told of {foreign}")
            items = walk.take(found)
            yield items, "" if walk.finished else walk.path

    async def _query(self, text: str) -> _Found:
        request = Request(
            method="POST",
            url=f"{self._root}/api/search/aql",
            headers={"Accept": "application/json", "Content-Type": "text/plain"},
            body=text.encode(),
        )

        def read(reply: Reply) -> _Found:
            _check_aql(reply)
            return decode(reply, _Found)

        return await self._http.call(request, read, self._login.for_call(""))

    # --- docker's API ----------------------------------------------------------------------------

    def _docker(self, storage: str) -> Distribution:
        """Return docker's API of one repository.

        Its pages are those that Artifactory makes by itself: what ``last`` means, a name or a
        position, depends on the version, and a list by position cannot be resumed.
        """
        if storage not in self._docker_apis:
            root = f"{self._root}/api/docker/{quote(storage, safe='')}"
            self._docker_apis[storage] = Distribution(
                kind=self.kind,
                root=root,
                login=_login(root, self._credential, self._http),
                http=self._http,
                page_size=None,
                generation=self._registry.generation,
                resumable=False,
            )
        return self._docker_apis[storage]

    def _cursor(self, what: str, position: str = "") -> Cursor:
        return Cursor(
            kind=self.kind,
            api=what,
            page_size=self._options.page_size,
            sort="path",
            generation=self._registry.generation,
            position=position,
            resumable=True,
        )


class _Tally:
    """Adds up what AQL tells of one image's tags, in whatever order they come."""

    def __init__(self) -> None:
        self._tags = 0
        self._sum: int | None = 0
        self._updated_at: dt.datetime | None = None

    def add(self, item: _Item) -> None:
        """Take a tag in."""
        self._tags += 1
        if self._sum is not None:
            self._sum = (self._sum + _hash(item)) % 2**128 if item.digest else None
        times = [t for t in (timestamp(item.modified), self._updated_at) if t is not None]
        self._updated_at = max(times, default=None)

    def as_repository(self, storage: str, image: str) -> RepositoryRef:
        """Return the image, with a fingerprint made of every tag's digest and time."""
        return RepositoryRef(
            namespace=storage,
            name=image,
            fingerprint=None if self._sum is None else f"{self._tags}-{self._sum:032x}",
            images=self._tags,
            updated_at=self._updated_at,
        )


class _PathWalk:
    """The state of one listing by path, from the first page to the proof that it is complete.

    Each page begins with the last row of the one before, which shows that the order holds.
    Artifactory takes out what the caller may not see *after* it has applied the limit, so a page
    that is not full, or even empty, may not be the last; what comes after it is asked for once
    more without any limit.
    """

    def __init__(self, begin: str, page_size: int, claimed: int, image: str) -> None:
        self.path = begin
        self.limit: int | None = page_size
        self.finished = False
        self._page_size = page_size
        self._claimed = claimed
        self._image = image
        self._joint = ""
        self._rows = set[int]()
        self._tags = set[int]()

    def take(self, found: _Found) -> list[_Item]:
        """Take a page in and return the manifests of tags that are new.

        Raises:
            ListMovedError: this page does not join the one before.
            ListLoopError: a full page brought nothing new.
        """
        rows = found.results
        if self._joint and rows and all(row.path != self._joint for row in rows):
            raise ListMovedError("AQL's list of manifests changed while it was read")
        fresh = [row for row in rows if hash((row.path, row.name)) not in self._rows]
        self._rows.update(hash((row.path, row.name)) for row in fresh)
        items = self._of_tags(fresh)
        cut = bool(found.range.notification) or (self.limit is not None and len(rows) >= self.limit)
        if cut and not fresh:
            raise ListLoopError("AQL's list of manifests does not get on")
        # As many as the list of images claims for this one are a proof of their own.
        proven = self.limit is None or (self._claimed > 0 and len(self._tags) == self._claimed)
        self.finished = not cut and proven
        self.limit = self._page_size if cut else None
        if rows:
            self.path = self._joint = rows[-1].path
        return items

    def _of_tags(self, rows: Iterable[_Item]) -> list[_Item]:
        """Return one manifest a tag: of a tag that has both, the list comes first and counts."""
        items = []
        for row in rows:
            wanted = row.image and row.image == (self._image or row.image)
            if wanted and hash(row.path) not in self._tags:
                self._tags.add(hash(row.path))
                items.append(row)
        return items


def _query(storage: str, begin: str, image: str, limit: int | None) -> str:
    """Return the query for manifests at and after a path. A normal user must include the fields.

    See JFrog's "Artifactory Query Language": users without admin privileges, display limits.
    """
    criteria: list[dict[str, Any]] = [
        {"repo": storage},
        {"$or": [{"name": name} for name in _MANIFESTS]},
        {"path": {"$nmatch": "*/sha256:*"}},
    ]
    if image:
        criteria.append({"path": {"$match": f"{image}/*"}})
    if begin:
        criteria.append({"path": {"$gte": begin}})
    found = msgspec.json.encode({"$and": criteria}).decode()
    text = (
        f'items.find({found}).include("repo","path","name","modified","sha256")'
        '.sort({"$asc":["path","name"]})'
    )
    return f"{text}.limit({limit})" if limit else text


def _check_aql(reply: Reply) -> None:
    """Raise what the status means; a query that is refused as such is AQL that is not offered."""
    try:
        raise_for_status(reply)
    except UnexpectedAnswerError as exc:
        if reply.status == 400:
            raise UnsupportedError(str(exc)) from exc
        raise


def _image(storage: str, name: str) -> RepositoryRef:
    if not name:
        raise UnexpectedAnswerError(f"Artifactory lists an image without a name in {storage}")
    return RepositoryRef(namespace=storage, name=name)


def _hash(item: _Item) -> int:
    told = msgspec.json.encode((item.tag, item.digest, item.modified))
    return int.from_bytes(hashlib.blake2b(told, digest_size=16).digest())


class _GivenLogin:
    """Sends the credential along with every call: Artifactory's REST API asks nobody for it."""

    def __init__(self, credential: RegistryCredential) -> None:
        if credential.kind == "token":
            self._value = f"Bearer {credential.secret}"
        else:
            pair = f"{credential.identity}:{credential.secret}".encode()
            self._value = f"Basic {base64.b64encode(pair).decode()}"

    def for_call(self, _scope: str) -> Authorise:
        async def authorise(request: Request, challenge: Reply | None) -> Request | None:
            if challenge is not None:
                return None
            headers = {**request.headers, "Authorization": self._value}
            return msgspec.structs.replace(request, headers=headers)

        return authorise


def _login(root: str, credential: RegistryCredential, http: Http) -> Login:
    if credential.kind == "none":
        return RegistryLogin(root, credential, http)
    return _GivenLogin(credential)


def _root(address: str) -> str:
    """Return where the API is: the address as it is, or below ``/artifactory`` of a bare host."""
    trimmed = address.rstrip("/")
    return trimmed if urlsplit(trimmed).path else f"{trimmed}/artifactory"


async def _with_last(
    pages: AsyncIterator[list[RepositoryRef]],
) -> AsyncIterator[tuple[list[RepositoryRef], bool]]:
    """Pass pages on, each with whether it is the last."""
    held: list[RepositoryRef] | None = None
    async for page in pages:
        if held is not None:
            yield held, False
        held = page
    yield held or [], True
