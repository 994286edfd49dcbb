"""GitLab's container registry: GitLab lists the repositories, the registry behind it the rest.

The registry's own catalog is for administrators. GitLab's API lists the repositories of a group
with all its subgroups, and of a project (docs.gitlab.com, "Container registry API").
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from wharfinger.domain.artifacts import Referrers
from wharfinger.domain.errors import (
    ForbiddenError,
    InvalidParameterError,
    ListLoopError,
    ListMovedError,
    MissingError,
    UnexpectedAnswerError,
)
from wharfinger.domain.model import (
    Cursor,
    Image,
    Page,
    RegistryCredential,
    RegistryRef,
    RepositoryRef,
    TagRef,
)
from wharfinger.domain.ports import Http, Reply, Request
from wharfinger.sources import read_options
from wharfinger.sources._distribution import Distribution
from wharfinger.sources._oci_login import RegistryLogin
from wharfinger.sources._paths import path_of, repository_at
from wharfinger.sources._reading import check_cursor, reading

_API = "/api/v4"
_PLACES = ("groups", "projects")
_HOSTED, _HOSTED_REGISTRY = "gitlab.com", "https://registry.gitlab.com"
_PATH = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
# Of a hundred rows each, more than one GitLab has had so far.
_MOST_PAGES = 100_000


@dataclass(frozen=True, kw_only=True)
class GitlabOptions:
    """What can be set for GitLab besides address and credential."""

    groups: tuple[str, ...] = field(
        default=(),
        metadata={"help": "the groups to read, with all their subgroups, and single projects"},
    )
    registry: str = field(
        default="",
        metadata={"help": "where the registry answers, if not at GitLab's own address"},
    )
    page_size: Annotated[int, msgspec.Meta(ge=1, le=100)] = field(
        default=100, metadata={"help": "rows asked for at a time, 1 to 100"}
    )
    referrers: bool = field(
        default=True,
        metadata={"help": "ask what belongs to each new image (one request for each)"},
    )


class _Row(msgspec.Struct, frozen=True):
    id: int
    path: str
    location: str


class _Rows(msgspec.Struct, frozen=True):
    rows: list[_Row]
    is_last: bool


class Gitlab:
    """The repositories of GitLab's groups and projects, as far as a token may see them.

    Pages are numbered, and a repository that is deleted moves those behind it forward, past the
    reader. So a list of several pages is read twice and has to be the same.
    """

    Options: ClassVar[type[GitlabOptions]] = GitlabOptions
    credential_kinds: ClassVar[frozenset[str]] = frozenset({"none", "basic"})
    kind: ClassVar[str] = "Gitlab"

    def __init__(self, registry: RegistryRef, credential: RegistryCredential, http: Http) -> None:
        self._options: GitlabOptions = read_options(GitlabOptions, registry.options)
        self._generation = registry.generation
        self._root = registry.address.rstrip("/").removesuffix(_API)
        self._http = http
        self._token = credential.secret
        self._registry = self._options.registry.rstrip("/") or _registry_of(self._root)
        self._distribution = Distribution(
            kind=self.kind,
            root=self._registry,
            login=RegistryLogin(self._registry, credential, http),
            http=http,
            page_size=self._options.page_size,
            generation=registry.generation,
        )

    @property
    def asks_for_referrers(self) -> bool:
        """Whether the registry is asked; see ``ports.ListsReferrers``."""
        return self._options.referrers

    @staticmethod
    def check(options: GitlabOptions, credential: RegistryCredential) -> None:  # noqa: ARG004 - the kinds' common shape
        """Demand groups: without any, nobody could say what all would be."""
        if not options.groups:
            raise InvalidParameterError(
                "options.groups", "is required: the groups or projects to read, like team,team/app"
            )
        for path in options.groups:
            if len(path) > 255 or not _PATH.fullmatch(path):
                raise InvalidParameterError(
                    "options.groups", f"{path!r} is no path of a group or project (like team/app)"
                )
        if options.registry and urlsplit(options.registry).scheme not in ("http", "https"):
            raise InvalidParameterError(
                "options.registry", "must be a URL, like https://registry.example.com"
            )

    async def repositories(self, after: Cursor | None) -> AsyncIterator[Page[RepositoryRef]]:
        """List the repositories of every group and project; see ``ports.Source``."""
        if after is not None:
            check_cursor(after, self._cursor())
        seen = set[str]()
        groups = dict.fromkeys(self._options.groups)
        for number, group in enumerate(groups, start=1):
            async for page in self._read(group):
                # A project may be named beside the group that it lies in.
                fresh = [row.path for row in page.rows if row.path not in seen]
                seen.update(fresh)
                is_last = page.is_last and number == len(groups)
                yield Page(
                    items=tuple(map(repository_at, fresh)), next=None if is_last else self._cursor()
                )

    async def tags(
        self, repository: RepositoryRef, after: Cursor | None
    ) -> AsyncIterator[Page[TagRef]]:
        """List a repository's tags, each with its digest; see ``ports.Source``."""
        async for tags, ahead in self._distribution.tags_of(path_of(repository), after):
            yield Page(items=tuple(tags), next=ahead)

    async def describe(
        self, repository: RepositoryRef, tags: Sequence[TagRef]
    ) -> AsyncIterator[Image]:
        """Read the manifests behind digests, each once; see ``ports.Source``."""
        digests = list(dict.fromkeys(tag.digest for tag in tags))
        async for image in self._distribution.images(path_of(repository), digests):
            yield image

    async def referrers(
        self, repository: RepositoryRef, digest: str, tags: Sequence[str] = ()
    ) -> Referrers:
        """List what belongs to a digest; see ``ports.ListsReferrers``."""
        return await self._distribution.referrers(path_of(repository), digest, tags)

    async def aclose(self) -> None:
        """Forget the manifests; the connections are the transport's."""
        self._distribution.forget()

    # --- GitLab's lists --------------------------------------------------------------------------

    async def _read(self, path: str) -> AsyncIterator[_Rows]:
        """Read the list of a group, or of a project where there is no such group."""
        kind, first = await self._found(path)
        ids = list[int]()
        async for page in self._pages(kind, path, first):
            ids += [row.id for row in page.rows]
            if len(set(ids)) < len(ids):
                raise _moved(path, "a row came twice")
            if page.is_last and page is not first:
                again = [row.id async for rows in self._pages(kind, path) for row in rows.rows]
                if again != ids:
                    raise _moved(path, "a second reading found other rows")
            yield page

    async def _pages(
        self, kind: str, path: str, first: _Rows | None = None
    ) -> AsyncIterator[_Rows]:
        for number in range(1, _MOST_PAGES):
            known = first if number == 1 else None
            page = known or await self._page(kind, path, number)
            yield page
            if page.is_last:
                return
        raise ListLoopError(f"GitLab's list of {path} does not end")

    async def _found(self, path: str) -> tuple[str, _Rows]:
        """Return what is at a path, a group or a project, and the first page of its list."""
        for kind in _PLACES:
            try:
                return kind, await self._page(kind, path, 1)
            except MissingError:
                continue
        raise MissingError(f"GitLab shows this account no group and no project {path}")

    async def _page(self, kind: str, path: str, number: int) -> _Rows:
        query = urlencode({"page": number, "per_page": self._options.page_size})
        place = f"{kind}/{quote(path, safe='')}/registry/repositories"
        headers = {"Accept": "application/json"}
        if self._token:
            headers["PRIVATE-TOKEN"] = self._token
        request = Request(method="GET", url=f"{self._root}{_API}/{place}?{query}", headers=headers)
        try:
            rows, reply = await self._http.call(request, reading(list[_Row]))
        except ForbiddenError as exc:
            raise ForbiddenError(
                f"{exc}; the token needs the scope read_api, its owner the role of Reporter in"
                f" {path}, and {path} a container registry that is not switched off"
            ) from exc
        for row in rows:
            self._check_registry(row)
        return _Rows(rows, _is_last(reply, rows))

    def _check_registry(self, row: _Row) -> None:
        """See that the images are where we shall ask for them, before any token goes there."""
        told = row.location.partition("/")[0]
        if told != urlsplit(self._registry).netloc:
            raise UnexpectedAnswerError(
                f"GitLab's images are at {told}, not at {self._registry}: say so with"
                f" --option registry=https://{told}"
            )

    def _cursor(self) -> Cursor:
        return Cursor(
            kind=self.kind,
            api="v4 repositories",
            page_size=self._options.page_size,
            sort="",
            generation=self._generation,
            position="",
            resumable=False,
        )


def _moved(path: str, how: str) -> ListMovedError:
    return ListMovedError(f"GitLab's list of {path} changed while it was read: {how}")


def _registry_of(root: str) -> str:
    return _HOSTED_REGISTRY if urlsplit(root).hostname == _HOSTED else root


def _is_last(reply: Reply, rows: list[_Row]) -> bool:
    """Tell by what GitLab says; where a proxy drops that, only an empty page is the last."""
    ahead = reply.headers.get("x-next-page")
    return not rows if ahead is None else not ahead.strip()
