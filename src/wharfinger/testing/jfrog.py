"""JFrog Artifactory over a world: its repositories, AQL, storage and docker API."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

from wharfinger.testing import _aql
from wharfinger.testing.content import Content, wire_time
from wharfinger.testing.faults import Answer, Asked, json_answer
from wharfinger.testing.model import PLANTED, World
from wharfinger.testing.oci import OciBehaviour, OciUpstream
from wharfinger.testing.server import LoopbackServer

RepositoryClass = Literal["local", "remote", "virtual", "federated"]

_NON_ADMIN_FIELDS = ("repo", "path", "name")
_CHALLENGE = 'Basic realm="Artifactory Realm"'


@dataclass(kw_only=True)
class JfrogRepository:
    """One of Artifactory's own repositories, of which each holds many images.

    ``members`` are those that a virtual one shows. What a remote one has cached lies in the
    world's namespace ``KEY-cache``, as Artifactory itself calls it.
    """

    key: str
    rclass: RepositoryClass = "local"
    package_type: str = "docker"
    members: tuple[str, ...] = ()
    url: str = "https://registry-1.docker.io/"

    @property
    def storage(self) -> str:
        """Where its items are."""
        return f"{self.key}-cache" if self.rclass == "remote" else self.key


@dataclass(kw_only=True)
class JfrogBehaviour:
    """How the server behaves; the defaults are those of an honest one asked by a normal user.

    Attributes:
        username: for basic authentication.
        password: likewise; an API key works in its place, too.
        access_token: for ``Authorization: Bearer``.
        anonymous: let everybody in.
        administrator: whether the caller is one, who need not include ``repo, path, name``.
        aql_status: answer AQL with this status instead.
        hard_limit: the most rows of any AQL answer; more are trimmed, and a notification says so.
        hidden: prefixes of ``repo/path`` that the caller may not read; they are taken out of an
            AQL answer after its limit was applied.
        caseless: compare and sort as a database does to which case is nothing.
        no_sha256: digests of manifests whose items lack it, as those of before Artifactory 5.5.
        default_page: rows of a docker list when ``n`` is not given; without it, all.
        link_lost: leave the repository out of a docker list's ``Link``, as Artifactory does.
        positions: write the position of the next page into ``last`` instead of a name.
        elsewhere: names that the registry behind a remote repository has and nobody pulled yet.
    """

    username: str = "reader"
    password: str = field(default=f"reader-{PLANTED}-Password-1", repr=False)
    api_key: str = field(default=f"AKCp8-{PLANTED}-Key-1", repr=False)
    access_token: str = field(default=f"eyJ-{PLANTED}-Access-Token-1", repr=False)
    anonymous: bool = False
    administrator: bool = False
    aql_status: int | None = None
    hard_limit: int = 500_000
    hidden: set[str] = field(default_factory=set)
    caseless: bool = False
    no_sha256: set[str] = field(default_factory=set)
    default_page: int | None = None
    link_lost: bool = True
    positions: bool = False
    elsewhere: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A file of a repository."""

    repo: str
    path: str
    name: str
    raw: bytes
    created: str
    modified: str

    @property
    def full_path(self) -> str:
        """``repo/path/name``."""
        return f"{self.repo}/{self.path}/{self.name}"


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class JfrogUpstream(LoopbackServer):
    """Artifactory below ``/artifactory``, and docker's API at the root by repository path.

    A namespace of the world is a local docker repository, unless ``repositories`` says more.

    Attributes:
        world: what it holds.
        behaviour: change it at any time.
        repositories: the repositories that are more than a namespace, by key.
    """

    def __init__(
        self,
        world: World | None = None,
        behaviour: JfrogBehaviour | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port)
        self.world = world or World()
        self.behaviour = behaviour or JfrogBehaviour()
        self.repositories: dict[str, JfrogRepository] = {}
        self._docker = OciUpstream(self.world, OciBehaviour())

    def add(self, key: str, rclass: RepositoryClass = "local", **more: Any) -> JfrogRepository:
        """Make a repository of any class."""
        self.repositories[key] = JfrogRepository(key=key, rclass=rclass, **more)
        return self.repositories[key]

    def known(self) -> dict[str, JfrogRepository]:
        """Every repository by its key."""
        stored = {one.storage for one in self.repositories.values()}
        plain = {n: JfrogRepository(key=n) for n in self.world.namespaces if n not in stored}
        return dict(sorted({**plain, **self.repositories}.items()))

    def respond(self, asked: Asked) -> Answer:
        """The true answer to a request."""
        with self.world.lock:
            try:
                return self._route(asked)
            except _RefusedError as refused:
                row = {"status": refused.status, "message": str(refused)}
                answer = json_answer({"errors": [row]}, status=refused.status)
                if refused.status == 401:
                    answer = answer.with_headers(WWW_Authenticate=_CHALLENGE)
                return answer

    def _route(self, asked: Asked) -> Answer:
        path = unquote(asked.path)
        self._authorise(asked)
        if path.startswith("/v2/"):
            return self._by_path(asked, path)
        routes: tuple[tuple[str, Callable[..., Answer]], ...] = (
            (r"/api/repositories", self._list),
            (r"/api/repositories/([^/]+)", self._details),
            (r"/api/search/aql", self._search),
            (r"/api/storage/(.+)", self._storage),
            (r"/api/docker/([^/]+)/v2/(.*)", self._docker_api),
            (r"/(.+)", self._download),
        )
        inside = path.removeprefix("/artifactory")
        for pattern, route in routes if inside != path else ():
            if found := re.fullmatch(pattern, inside):
                return route(asked, *found.groups())
        raise _RefusedError(404, "Not Found")

    def _authorise(self, asked: Asked) -> None:
        own, given = self.behaviour, asked.headers.get("authorization", "")
        pairs = [f"{own.username}:{secret}".encode() for secret in (own.password, own.api_key)]
        right = [f"Basic {base64.b64encode(pair).decode()}" for pair in pairs]
        right.append(f"Bearer {own.access_token}")
        if given and not any(hmac.compare_digest(given, one) for one in right):
            raise _RefusedError(401, "Bad credentials")
        if not given and not own.anonymous:
            raise _RefusedError(401, "Authentication is required")

    # --- repositories ---------------------------------------------------------------------

    def _list(self, asked: Asked) -> Answer:
        wishes = dict(parse_qsl(asked.query))
        rows = [
            {
                "key": one.key,
                "description": "",
                "type": one.rclass.upper(),
                "url": one.url if one.rclass == "remote" else f"{self._root}/{one.key}",
                "packageType": one.package_type.capitalize(),
            }
            for one in self.known().values()
            if wishes.get("type", one.rclass) == one.rclass
            and wishes.get("packageType", one.package_type) == one.package_type
        ]
        return json_answer(rows)

    def _details(self, _: Asked, key: str) -> Answer:
        known = self.known().get(key)
        if known is None:
            raise _RefusedError(400, f"Repository {key} does not exist")
        told: dict[str, Any] = {
            "key": key,
            "rclass": known.rclass,
            "packageType": known.package_type,
            "repoLayoutRef": "simple-default",
            "dockerApiVersion": "V2",
        }
        if known.rclass == "virtual":
            told["repositories"] = list(known.members)
        if known.rclass == "remote":
            told["url"] = known.url
        return json_answer(told)

    @property
    def _root(self) -> str:
        return f"{self.url}/artifactory"

    # --- items ----------------------------------------------------------------------------

    def items(self, storage: str) -> Iterator[Item]:
        """Every file below ``storage``, in no order."""
        for repository in self.world.owned():
            if repository.namespace != storage:
                continue
            for tag in repository.tags.values():
                times = wire_time(tag.created), wire_time(tag.updated)
                where = f"{repository.name}/{tag.name}"
                yield from _files(storage, where, tag.content, times)
                for child in tag.content.children:
                    below = f"{repository.name}/{child.digest}"
                    yield from _files(storage, below, child, times)

    def _search(self, asked: Asked) -> Answer:
        if asked.method != "POST":
            raise _RefusedError(405, "Method Not Allowed")
        if self.behaviour.aql_status is not None:
            raise _RefusedError(self.behaviour.aql_status, "Forbidden")
        text = asked.body.decode()
        try:
            query = _aql.parse(text)
            return self._found(query)
        except _aql.BadQueryError as exc:
            message = (
                f"Failed to parse query: {text}, it looks like there is syntax error near the"
                f" following sub-query: {exc}"
            )
            raise _RefusedError(400, message) from exc

    def _found(self, query: _aql.Query) -> Answer:
        if not self.behaviour.administrator and not {*_NON_ADMIN_FIELDS} <= {*query.include}:
            raise _RefusedError(
                400,
                "For permissions reasons AQL demands the following fields: repo, path and name.",
            )
        if self.behaviour.caseless:
            query.criteria = _lowered(query.criteria)
        rows = [self._row(item) for one in self.known().values() for item in self._readable(one)]
        folded = [self._folded(row) | {"real": row} for row in rows]
        asked_for = [row for row in folded if query.matches(row)]
        rows = [row["real"] for row in _sorted(query, asked_for)][query.offset :]
        most = min(query.limit or self.behaviour.hard_limit, self.behaviour.hard_limit)
        trimmed = len(rows) > most and most < (query.limit or len(rows))
        shown = [row for row in rows[:most] if not self._is_hidden(row)]
        about: dict[str, Any] = {"start_pos": query.offset, "end_pos": len(shown)}
        about |= {"total": len(shown), "limit": most}
        if trimmed:
            about["notification"] = "AQL query reached the search hard limit, results are trimmed."
        include = [name for name in query.include if name != "sha256"]
        results = [
            {name: row[name] for name in include}
            | ({"sha256": row["sha256"]} if "sha256" in query.include and row["sha256"] else {})
            for row in shown
        ]
        return json_answer({"results": results, "range": about})

    def _readable(self, one: JfrogRepository) -> Iterator[Item]:
        return iter(()) if one.rclass == "virtual" else self.items(one.storage)

    def _row(self, item: Item) -> dict[str, Any]:
        sha256 = hashlib.sha256(item.raw).hexdigest()
        return {
            "repo": item.repo,
            "path": item.path,
            "name": item.name,
            "type": "file",
            "size": len(item.raw),
            "created": item.created,
            "modified": item.modified,
            "updated": item.modified,
            "sha256": "" if f"sha256:{sha256}" in self.behaviour.no_sha256 else sha256,
        }

    def _folded(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as the database compares it."""
        return {**row, "path": row["path"].lower()} if self.behaviour.caseless else row

    def _is_hidden(self, row: dict[str, Any]) -> bool:
        where = f"{row['repo']}/{row['path']}"
        return any(where.startswith(prefix) for prefix in self.behaviour.hidden)

    def _storage(self, asked: Asked, path: str) -> Answer:
        wishes = dict(parse_qsl(asked.query, keep_blank_values=True))
        storage, _, inside = path.partition("/")
        items = list(self.items(storage))
        here = [one for one in items if one.full_path == path]
        if "properties" in wishes and here:
            return self._properties(here[0])
        if here:
            return json_answer(self._file(here[0]))
        below = [one for one in items if one.full_path.startswith(f"{path}/")]
        if not below and storage not in self.known():
            raise _RefusedError(404, "Unable to find item")
        if inside and not below:
            raise _RefusedError(404, "Unable to find item")
        if "list" in wishes:
            return json_answer(self._deep(path, below))
        return json_answer(self._folder(path, below))

    def _about(self, path: str, one: Item | None) -> dict[str, Any]:
        storage, _, inside = path.partition("/")
        return {
            "repo": storage,
            "path": f"/{inside}",
            "created": one.created if one else wire_time(dt.datetime.fromtimestamp(0, dt.UTC)),
            "createdBy": "ci",
            "lastModified": one.modified if one else wire_time(self.world.clock.now()),
            "modifiedBy": "ci",
            "lastUpdated": one.modified if one else wire_time(self.world.clock.now()),
            "uri": f"{self._root}/api/storage/{path}",
        }

    def _file(self, one: Item) -> dict[str, Any]:
        sums = {
            "sha1": hashlib.sha1(one.raw, usedforsecurity=False).hexdigest(),
            "md5": hashlib.md5(one.raw, usedforsecurity=False).hexdigest(),
            "sha256": hashlib.sha256(one.raw).hexdigest(),
        }
        return self._about(one.full_path, one) | {
            "downloadUri": f"{self._root}/{one.full_path}",
            "mimeType": "application/json",
            "size": str(len(one.raw)),
            "checksums": sums,
            "originalChecksums": {"sha256": sums["sha256"]},
        }

    def _folder(self, path: str, below: list[Item]) -> dict[str, Any]:
        names = {}
        for one in below:
            first, _, rest = one.full_path.removeprefix(f"{path}/").partition("/")
            names[first] = bool(rest)
        children = [{"uri": f"/{name}", "folder": folder} for name, folder in sorted(names.items())]
        return self._about(path, below[0] if below else None) | {"children": children}

    def _deep(self, path: str, below: list[Item]) -> dict[str, Any]:
        files = [
            {
                "uri": one.full_path.removeprefix(path),
                "size": len(one.raw),
                "lastModified": one.modified,
                "folder": False,
                "sha1": hashlib.sha1(one.raw, usedforsecurity=False).hexdigest(),
                "sha2": hashlib.sha256(one.raw).hexdigest(),
            }
            for one in below
        ]
        about = self._about(path, below[0] if below else None)
        return {"uri": about["uri"], "created": about["created"], "files": files}

    def _properties(self, one: Item) -> Answer:
        repository, _, tag = one.path.rpartition("/")
        told = {
            "docker.manifest": [tag],
            "docker.manifest.digest": [f"sha256:{hashlib.sha256(one.raw).hexdigest()}"],
            "docker.repoName": [repository],
        }
        uri = f"{self._root}/api/storage/{one.full_path}"
        return json_answer({"uri": uri, "properties": told})

    def _download(self, _: Asked, path: str) -> Answer:
        for one in self.items(path.partition("/")[0]):
            if one.full_path == path:
                return Answer(body=one.raw, headers={"Content-Type": "application/json"})
        raise _RefusedError(404, "File not found.")

    # --- docker ---------------------------------------------------------------------------

    def _by_path(self, asked: Asked, path: str) -> Answer:
        """The repository path method: ``/v2/KEY/IMAGE/…`` for clients that know hosts only."""
        key, _, rest = path.removeprefix("/v2/").partition("/")
        if not key:
            return json_answer({}, Docker_Distribution_Api_Version="registry/2.0")
        return self._docker_api(asked, key, rest)

    def _docker_api(self, asked: Asked, key: str, rest: str) -> Answer:
        storages = {one.storage for one in self.known().values()} | set(self.known())
        if key not in storages:
            raise _RefusedError(404, f"Repository {key} was not found")
        if rest == "":
            return json_answer({}, Docker_Distribution_Api_Version="registry/2.0")
        if rest == "_catalog":
            return self._listed(asked, key, "repositories", self._names(key), {})
        if found := re.fullmatch(r"(.+)/tags/list", rest):
            name = found[1]
            repository = self.world.repositories.get(f"{self._stored(key)}/{name}")
            if repository is None:
                row = {"code": "NAME_UNKNOWN", "message": "Repository name not known to registry."}
                return json_answer({"errors": [{**row, "detail": {"name": name}}]}, status=404)
            return self._listed(asked, key, "tags", sorted(repository.tags), {"name": name})
        return self._docker.respond(
            dataclasses.replace(asked, path=f"/v2/{self._stored(key)}/{rest}")
        )

    def _stored(self, key: str) -> str:
        known = self.known().get(key)
        return known.storage if known else key

    def _names(self, key: str) -> list[str]:
        known = self.known().get(key)
        if known is not None and known.rclass == "virtual":
            return sorted({name for member in known.members for name in self._names(member)})
        own = {r.name for r in self.world.owned() if r.namespace == self._stored(key)}
        asks_elsewhere = known is not None and known.rclass == "remote"
        return sorted(own | (self.behaviour.elsewhere if asks_elsewhere else set()))

    def _listed(
        self, asked: Asked, key: str, what: str, names: list[str], body: dict[str, Any]
    ) -> Answer:
        wishes = dict(parse_qsl(asked.query))
        size = int(wishes.get("n", 0)) or self.behaviour.default_page or len(names)
        last = wishes.get("last", "")
        start = int(last) if last.isdecimal() else sum(name <= last for name in names)
        page = names[start : start + size]
        answer = json_answer({**body, what: page}, Docker_Distribution_Api_Version="registry/2.0")
        if start + size >= len(names):
            return answer
        at = start + size if self.behaviour.positions else page[-1]
        path = unquote(asked.path)
        if self.behaviour.link_lost:
            path = path.replace(f"/artifactory/api/docker/{key}", "").replace(f"/{key}/", "/")
        return answer.with_headers(Link=f'<{path}?last={at}&n={size}>; rel="next"')


def _files(storage: str, where: str, content: Content, times: tuple[str, str]) -> Iterator[Item]:
    """A manifest and, of an image, the config that Artifactory keeps beside it."""
    created, modified = times
    name = "list.manifest.json" if content.is_index else "manifest.json"
    files = [(name, content.manifest)]
    if not content.is_index:
        files.append((content.image_id.replace(":", "__"), content.config))
    for file, raw in files:
        yield Item(repo=storage, path=where, name=file, raw=raw, created=created, modified=modified)


def _sorted(query: _aql.Query, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not query.sort:  # The order of a database is its own affair.
        return sorted(rows, key=lambda row: hashlib.sha256(str(row).encode()).digest())
    return sorted(
        rows,
        key=lambda row: tuple(row[name] for name in query.sort),
        reverse=query.descending,
    )


def _lowered(criteria: Any) -> Any:
    """The criteria with their paths in lower case."""
    if isinstance(criteria, list):
        return [_lowered(one) for one in criteria]
    if not isinstance(criteria, dict):
        return criteria
    return {
        name: _lowered_texts(value) if name == "path" else _lowered(value)
        for name, value in criteria.items()
    }


def _lowered_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {operator: text.lower() for operator, text in value.items()}
    return value.lower()
