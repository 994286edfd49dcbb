"""Harbor over a world: its API v2.0, its token service, and the registry behind it."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hmac
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

import msgspec

from wharfinger.testing.content import DOCKER_CONFIG, OCI_CONFIG, OCI_MANIFEST, Content, digest_of
from wharfinger.testing.faults import Answer, Asked, json_answer
from wharfinger.testing.model import PLANTED, Repository, UnknownNameError, World
from wharfinger.testing.oci import OciBehaviour, OciUpstream, RefusedError

T = TypeVar("T")

API = "/api/v2.0"
MAX_PAGE_SIZE = 100
ADMINISTRATOR = "admin"

# What Harbor writes where it has no time, such as for an image that nobody has pulled.
_NEVER = "0001-01-01T00:00:00.000Z"
_CLOUD_TYPES = {
    "PUSH_ARTIFACT": "harbor.artifact.pushed",
    "PULL_ARTIFACT": "harbor.artifact.pulled",
    "DELETE_ARTIFACT": "harbor.artifact.deleted",
    "SCANNING_COMPLETED": "harbor.scan.completed",
}


class HarborRefusedError(Exception):
    """Harbor refuses the request: a status, a code, a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody who may log in; ``projects`` are those they may read, ``None`` all of them."""

    name: str
    password: str = field(repr=False)
    projects: frozenset[str] | None = None


@dataclass(slots=True, kw_only=True)
class Accessory:
    """What is attached to an artifact: a signature, an SBOM."""

    id: int
    digest: str
    type: str
    size: int
    created: dt.datetime


@dataclass(slots=True, kw_only=True)
class Artifact:
    """One artifact of a repository: a content with its tags, its id and the time of its push."""

    id: int
    content: Content
    pushed: dt.datetime
    tags: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class HarborBehaviour:
    """How this Harbor behaves. The defaults are those of a current one.

    Attributes:
        global_list: the list of all repositories is there, forbidden to robot accounts, or absent
            as in old versions.
        page_cap: the largest page, whatever ``page_size`` says.
        order: how lists are sorted; old versions do not sort.
        links: send ``Link``.
        totals: send ``X-Total-Count``.
        basic_registry: let the registry take user names and passwords without a token.
        read_only: refuse all modifications.
        proxy_caches: projects that cache another registry, and that registry's id.
        public: projects that anybody may read.
    """

    global_list: Literal["open", "forbidden", "absent"] = "open"
    page_cap: int = MAX_PAGE_SIZE
    order: Literal["newest", "oldest"] = "newest"
    links: bool = True
    totals: bool = True
    basic_registry: bool = True
    read_only: bool = False
    proxy_caches: dict[str, int] = field(default_factory=dict)
    public: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One request: who asks (``None``: nobody), the path's parts, the parameters."""

    asked: Asked
    account: Account | None
    parts: tuple[str, ...]
    wishes: dict[str, str]


class HarborUpstream(OciUpstream):
    """Harbor over the repositories of the world's home account; a namespace is a project.

    The world's own calls keep no content without a tag, as Harbor does: ``push``, ``delete_tag``
    and ``delete_artifact`` of this class change it the way Harbor would.

    Attributes:
        world: what it holds.
        harbor: how the API behaves; change it at any time.
        accounts: who may log in, by name.
    """

    def __init__(
        self, world: World | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        registry = OciBehaviour(
            auth="bearer",
            anonymous_tokens=True,
            token_path="/service/token",  # noqa: S106 - a path
            service="harbor-registry",
        )
        super().__init__(world, registry, host=host, port=port)
        self.harbor = HarborBehaviour()
        self.accounts = {
            ADMINISTRATOR: Account(name=ADMINISTRATOR, password=f"Harbor-{PLANTED}-Password-1")
        }
        self._accessories: dict[str, list[Accessory]] = {}
        self._kinds: dict[str, tuple[str, str]] = {}
        self._born: dict[tuple[str, str], tuple[int, dt.datetime]] = {}
        part = r"([^/]+)"
        repository = f"/projects/{part}/repositories/{part}"
        artifact = f"{repository}/artifacts/{part}"
        self._routes: list[tuple[str, re.Pattern[str], Callable[[_Call], Answer]]] = [
            ("GET", re.compile("/ping"), lambda _: Answer(body=b"Pong")),
            ("GET", re.compile("/health"), _health),
            ("GET", re.compile("/systeminfo"), self._system_info),
            ("GET", re.compile("/projects"), self._list_projects),
            ("GET", re.compile(f"/projects/{part}"), self._show_project),
            ("GET", re.compile("/repositories"), self._list_all_repositories),
            ("GET", re.compile(f"/projects/{part}/repositories"), self._list_repositories),
            ("GET", re.compile(repository), self._show_repository),
            ("DELETE", re.compile(repository), self._delete_repository),
            ("GET", re.compile(f"{repository}/artifacts"), self._list_artifacts),
            ("GET", re.compile(artifact), self._show_artifact),
            ("DELETE", re.compile(artifact), self._delete_artifact),
            ("GET", re.compile(f"{artifact}/tags"), self._list_tags),
            ("DELETE", re.compile(f"{artifact}/tags/{part}"), self._delete_tag),
            ("GET", re.compile(f"{artifact}/accessories"), self._list_accessories),
        ]

    # --- who ------------------------------------------------------------------------------

    def robot(self, name: str, *projects: str) -> Account:
        """A robot account: of one project ``robot$project+name``, of several ``robot$name``.

        Without projects it may read them all.
        """
        full = f"robot${projects[0]}+{name}" if len(projects) == 1 else f"robot${name}"
        made = Account(
            name=full,
            password=f"{name}-{PLANTED}-Robot-Secret-1",
            projects=frozenset(projects) if projects else None,
        )
        self.accounts[full] = made
        return made

    def _account(self, given: str) -> Account | None:
        """Who sent this ``Authorization``; ``None`` for nobody we know."""
        try:
            pair = base64.b64decode(given.removeprefix("Basic "), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        name, _, password = pair.partition(":")
        account = self.accounts.get(name)
        right = account is not None and hmac.compare_digest(account.password, password)
        return account if right and given.startswith("Basic ") else None

    def _is_basic(self, given: str) -> bool:
        return self._account(given) is not None

    def _authorise(self, asked: Asked, scope: str | None) -> None:
        given = asked.headers.get("authorization", "")
        if not given and asked.method == "GET" and scope and self._granted("", {scope}):
            return
        if not given.startswith("Basic ") or not self.harbor.basic_registry:
            super()._authorise(asked, scope)
        elif not self._is_basic(given) or (scope and scope not in self._granted(given, {scope})):
            raise RefusedError(
                401, "UNAUTHORIZED", "unauthorized", challenge='Basic realm="harbor"'
            )

    def _granted(self, given: str, scopes: set[str]) -> set[str]:
        account = self._account(given)
        return {
            scope
            for scope in super()._granted(given, scopes)
            if self._may_read(account, scope.split(":")[1].split("/")[0])
        }

    def _may_read(self, account: Account | None, project: str) -> bool:
        if project in self.harbor.public:
            return True
        return account is not None and (account.projects is None or project in account.projects)

    # --- changes --------------------------------------------------------------------------

    def push(self, path: str, tag: str, *, content: Content | None = None) -> Content:
        """Push an image; what the tag named before stays, without a tag unless it has others."""
        with self.world.lock:
            before = self._tagged(path, tag)
            placed = self.world.push(path, tag, content=content).content
            if before is not None and before.digest != placed.digest:
                self._keep(path, before)
            self.world.repository(path).untagged.pop(placed.digest, None)
            self._artifacts(self.world.repository(path))
            return placed

    def delete_tag(self, path: str, tag: str) -> Content:
        """Delete a tag and leave its artifact; the row of the repository shows nothing of it."""
        with self.world.lock:
            content = self.world.tag(path, tag).content
            self._artifacts(self.world.repository(path))
            self.world.delete_tag(path, tag, quiet=True)
            self._keep(path, content)
            return content

    def delete_artifact(self, path: str, digest: str) -> None:
        """Delete an artifact with its tags."""
        with self.world.lock:
            repository = self.world.repository(path)
            repository.untagged.pop(digest, None)
            for name in [n for n, t in repository.tags.items() if t.content.digest == digest]:
                self.world.delete_tag(path, name, quiet=True)

    def attach(self, digest: str, kind: str) -> Accessory:
        """Attach a ``signature.cosign``, an ``sbom.harbor`` or the like to an artifact."""
        made = Accessory(
            id=1_000_000 + sum(map(len, self._accessories.values())),
            digest=digest_of(f"{kind} of {digest}".encode()),
            type=kind,
            size=1_337,
            created=self.world.clock.tick(),
        )
        self._accessories.setdefault(digest, []).append(made)
        return made

    def detach(self, digest: str) -> None:
        """Delete whatever is attached to an artifact."""
        self._accessories.pop(digest, None)

    def declare(self, digest: str, kind: str, media_type: str) -> None:
        """Let an artifact be a ``CHART`` or the like, with a config of this media type."""
        self._kinds[digest] = (kind, media_type)

    def _tagged(self, path: str, tag: str) -> Content | None:
        repository = self.world.repositories.get(path)
        placed = repository.tags.get(tag) if repository else None
        return placed.content if placed else None

    def _keep(self, path: str, content: Content) -> None:
        repository = self.world.repository(path)
        if all(tag.content.digest != content.digest for tag in repository.tags.values()):
            repository.untagged[content.digest] = content

    # --- webhooks -------------------------------------------------------------------------

    def hook(
        self, path: str, kind: str = "PUSH_ARTIFACT", *, tag: str = "v1", cloud: bool = False
    ) -> bytes:
        """What a project's webhook sends of an event, in Harbor's own format or as CloudEvents."""
        project, name = path.split("/", 1)
        digest = digest_of(f"{path}:{tag}".encode())
        at = self.world.clock.now()
        resource = {"digest": digest, "tag": tag, "resource_url": f"{self.host}/{path}:{tag}"}
        about = {
            "date_created": int(at.timestamp()),
            "name": name,
            "namespace": project,
            "repo_full_name": path,
            "repo_type": "public" if project in self.harbor.public else "private",
        }
        data = {"resources": [resource], "repository": about}
        body: dict[str, object] = {
            "type": kind,
            "occur_at": int(at.timestamp()),
            "operator": ADMINISTRATOR,
            "event_data": data,
        }
        if cloud:
            body = {
                "specversion": "1.0",
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind} {path}:{tag}")),
                "requestid": str(uuid.uuid5(uuid.NAMESPACE_URL, path)),
                "source": f"/projects/{self._project_id(project)}/webhook/policies/1",
                "type": _CLOUD_TYPES[kind],
                "datacontenttype": "application/json",
                "time": _wire(at),
                "data": data,
                "operator": ADMINISTRATOR,
            }
        return msgspec.json.encode(body)

    # --- answering ------------------------------------------------------------------------

    def _route(self, asked: Asked) -> Answer:
        if not asked.path.startswith(f"{API}/"):
            return super()._route(asked)
        try:
            return self._api(asked)
        except HarborRefusedError as refused:
            return _error(refused)

    def _api(self, asked: Asked) -> Answer:
        given = asked.headers.get("authorization", "")
        account = self._account(given) if given else None
        if given and account is None:
            raise HarborRefusedError(401, "UNAUTHORIZED", "unauthorized")
        path = asked.path.removeprefix(API)
        for method, pattern, route in self._routes:
            found = pattern.fullmatch(path)
            if found is not None and method == asked.method:
                if self.harbor.read_only and method != "GET":
                    text = "The system is in read only mode. Any modification is prohibited."
                    raise HarborRefusedError(403, "DENIED", text)
                wishes = dict(parse_qsl(asked.query, keep_blank_values=True))
                return route(
                    _Call(asked=asked, account=account, parts=found.groups(), wishes=wishes)
                )
        raise HarborRefusedError(404, "NOT_FOUND", f"path {path} was not found")

    # --- projects -------------------------------------------------------------------------

    def _list_projects(self, call: _Call) -> Answer:
        names = [name for name in self._projects() if self._may_read(call.account, name)]
        rows = [self._project_row(name) for name in names]
        wanted = call.wishes.get("name", "")
        return self._numbered(call, [row for row in rows if wanted in str(row["name"])])

    def _show_project(self, call: _Call) -> Answer:
        name = unquote(call.parts[0])
        by_id = {str(self._project_id(one)): one for one in self._projects()}
        if call.asked.headers.get("x-is-resource-name") != "true":
            name = by_id.get(name, name)
        self._check_project(call, name)
        return json_answer(self._project_row(name))

    def _check_project(self, call: _Call, name: str) -> None:
        if not self._may_read(call.account, name):
            if call.account is None:
                raise HarborRefusedError(401, "UNAUTHORIZED", "unauthorized")
            raise HarborRefusedError(403, "FORBIDDEN", "forbidden")
        if name not in self._projects():
            raise HarborRefusedError(404, "NOT_FOUND", f"project {name} not found")

    def _projects(self) -> list[str]:
        home = self.world.home.name
        own = [n for n in self.world.namespaces.values() if n.account == home]
        return [n.name for n in sorted(own, key=lambda n: n.id, reverse=True)]

    def _project_id(self, name: str) -> int:
        return self.world.namespaces[name].id

    def _project_row(self, name: str) -> dict[str, object]:
        mine = [r for r in self.world.owned() if r.namespace == name]
        made = min((r.created for r in mine if isinstance(r.created, dt.datetime)), default=None)
        when = _wire(made) if made else _NEVER
        row: dict[str, object] = {
            "project_id": self._project_id(name),
            "name": name,
            "owner_id": 1,
            "owner_name": ADMINISTRATOR,
            "creation_time": when,
            "update_time": when,
            "deleted": False,
            "togglable": False,
            "repo_count": len(mine),
            "current_user_role_id": 1,
            "current_user_role_ids": [1],
            "metadata": {"public": str(name in self.harbor.public).lower()},
            "cve_allowlist": {
                "id": self._project_id(name),
                "project_id": self._project_id(name),
                "items": [],
                "creation_time": _NEVER,
                "update_time": _NEVER,
            },
        }
        if name in self.harbor.proxy_caches:
            row["registry_id"] = self.harbor.proxy_caches[name]
        return row

    # --- repositories ---------------------------------------------------------------------

    def _list_all_repositories(self, call: _Call) -> Answer:
        behaviour = self.harbor.global_list
        is_robot = call.account is not None and call.account.name.startswith("robot$")
        if behaviour == "absent":
            raise HarborRefusedError(404, "NOT_FOUND", f"path {call.asked.path} was not found")
        if behaviour == "forbidden" and is_robot:
            raise HarborRefusedError(403, "FORBIDDEN", "forbidden")
        found = [r for r in self.world.owned() if self._may_read(call.account, r.namespace)]
        return self._repositories_page(call, found)

    def _list_repositories(self, call: _Call) -> Answer:
        project = unquote(call.parts[0])
        self._check_project(call, project)
        found = [r for r in self.world.owned() if r.namespace == project]
        return self._repositories_page(call, found)

    def _repositories_page(self, call: _Call, found: Iterable[Repository]) -> Answer:
        ordered = sorted(found, key=lambda r: r.id, reverse=self.harbor.order == "newest")
        return self._numbered(call, ordered, self._repository_row)

    def _show_repository(self, call: _Call) -> Answer:
        return json_answer(self._repository_row(self._readable(call)))

    def _delete_repository(self, call: _Call) -> Answer:
        self.world.delete_repository(self._readable(call).path)
        return Answer()

    def _readable(self, call: _Call) -> Repository:
        project = unquote(call.parts[0])
        self._check_project(call, project)
        name = unquote(call.parts[1])
        if "/" in name:
            # What is decoded here is a path again, and none that has a route.
            raise HarborRefusedError(404, "NOT_FOUND", f"path {call.asked.path} was not found")
        path = f"{project}/{unquote(name)}"
        try:
            found = self.world.repository(path)
        except UnknownNameError:
            raise HarborRefusedError(404, "NOT_FOUND", f"repository {path} not found") from None
        return found

    def _repository_row(self, repository: Repository) -> dict[str, object]:
        return {
            "id": repository.id,
            "project_id": self._project_id(repository.namespace),
            "name": repository.path,
            "description": repository.description,
            "artifact_count": len(self._artifacts(repository)),
            "pull_count": repository.num_download,
            "creation_time": _wire(repository.created),
            "update_time": _wire(repository.updated),
        }

    # --- artifacts ------------------------------------------------------------------------

    def _artifacts(self, repository: Repository) -> list[Artifact]:
        """The artifacts of a repository: what has a tag, or is nobody's child; newest first."""
        found: dict[str, Artifact] = {}
        for tag in sorted(repository.tags.values(), key=lambda tag: tag.id):
            at = tag.updated if isinstance(tag.updated, dt.datetime) else self.world.clock.now()
            self._found(found, repository.path, tag.content, at).tags.append(tag.name)
        children = {c.digest for one in found.values() for c in one.content.children}
        for content in repository.untagged.values():
            if content.digest not in children:
                self._found(found, repository.path, content, self.world.clock.now())
        newest = self.harbor.order == "newest"
        return sorted(found.values(), key=lambda one: (one.pushed, one.id), reverse=newest)

    def _found(
        self, found: dict[str, Artifact], path: str, content: Content, at: dt.datetime
    ) -> Artifact:
        if content.digest not in found:
            number, pushed = self._born.setdefault(
                (path, content.digest), (len(self._born) + 1, at)
            )
            found[content.digest] = Artifact(id=number, content=content, pushed=pushed)
        return found[content.digest]

    def _list_artifacts(self, call: _Call) -> Answer:
        repository = self._readable(call)
        return self._numbered(
            call,
            self._artifacts(repository),
            lambda one: self._artifact_row(repository, one, call.wishes),
        )

    def _artifact(self, call: _Call) -> tuple[Repository, Artifact]:
        repository, reference = self._readable(call), unquote(call.parts[2])
        for one in self._artifacts(repository):
            if reference == one.content.digest or reference in one.tags:
                return repository, one
        raise HarborRefusedError(
            404, "NOT_FOUND", f"artifact {repository.path}:{reference} not found"
        )

    def _show_artifact(self, call: _Call) -> Answer:
        repository, one = self._artifact(call)
        return json_answer(self._artifact_row(repository, one, call.wishes))

    def _delete_artifact(self, call: _Call) -> Answer:
        repository, one = self._artifact(call)
        self.delete_artifact(repository.path, one.content.digest)
        return Answer()

    def _list_tags(self, call: _Call) -> Answer:
        repository, one = self._artifact(call)
        return self._numbered(call, self._tag_rows(repository, one))

    def _delete_tag(self, call: _Call) -> Answer:
        repository, one = self._artifact(call)
        name = unquote(call.parts[3])
        if name not in one.tags:
            raise HarborRefusedError(404, "NOT_FOUND", f"tag {name} not found")
        self.delete_tag(repository.path, name)
        return Answer()

    def _list_accessories(self, call: _Call) -> Answer:
        repository, one = self._artifact(call)
        return self._numbered(call, self._accessory_rows(repository, one))

    def _artifact_row(
        self, repository: Repository, one: Artifact, wishes: dict[str, str]
    ) -> dict[str, object]:
        content = one.content
        kind, config = self._kind_of(content)
        row: dict[str, object] = {
            "id": one.id,
            "type": kind,
            "media_type": config,
            "manifest_media_type": content.media_type,
            "artifact_type": config,
            "project_id": self._project_id(repository.namespace),
            "repository_id": repository.id,
            "repository_name": repository.path,
            "digest": content.digest,
            "size": content.size + len(content.manifest),
            "icon": "sha256:" + "0" * 64,
            "push_time": _wire(one.pushed),
            "pull_time": _NEVER,
            "extra_attrs": _extra_attrs(content),
            "annotations": None,
            "references": self._references(repository, one),
            "labels": None,
            "addition_links": {},
        }
        row["tags"] = None
        if wishes.get("with_tag", "true") == "true":
            row["tags"] = self._tag_rows(repository, one) or None
        row["accessories"] = None
        if wishes.get("with_accessory", "false") == "true":
            row["accessories"] = self._accessory_rows(repository, one)
        return row

    def _kind_of(self, content: Content) -> tuple[str, str]:
        if content.digest in self._kinds:
            return self._kinds[content.digest]
        if content.is_index:
            return "IMAGE", content.media_type
        return "IMAGE", OCI_CONFIG if content.media_type == OCI_MANIFEST else DOCKER_CONFIG

    def _references(self, repository: Repository, one: Artifact) -> list[dict[str, object]] | None:
        rows: list[dict[str, object]] = []
        for child in one.content.children:
            platform = {"architecture": child.architecture, "os": child.os}
            if child.variant:
                platform["variant"] = child.variant
            number, _ = self._born.setdefault(
                (repository.path, child.digest), (len(self._born) + 1, one.pushed)
            )
            rows.append(
                {
                    "parent_id": one.id,
                    "child_id": number,
                    "child_digest": child.digest,
                    "platform": platform,
                    "annotations": None,
                    "urls": None,
                }
            )
        return rows or None

    def _tag_rows(self, repository: Repository, one: Artifact) -> list[dict[str, object]]:
        return [
            {
                "id": repository.tags[name].id,
                "repository_id": repository.id,
                "artifact_id": one.id,
                "name": name,
                "push_time": _wire(repository.tags[name].updated),
                "pull_time": _NEVER,
                "immutable": False,
            }
            for name in one.tags
        ]

    def _accessory_rows(self, repository: Repository, one: Artifact) -> list[dict[str, object]]:
        return [
            {
                "id": accessory.id,
                "artifact_id": accessory.id,
                "subject_artifact_id": one.id,
                "subject_artifact_digest": one.content.digest,
                "subject_artifact_repo": repository.path,
                "size": accessory.size,
                "digest": accessory.digest,
                "type": accessory.type,
                "icon": "",
                "creation_time": _wire(accessory.created),
            }
            for accessory in self._accessories.get(one.content.digest, [])
        ]

    # --- the rest -------------------------------------------------------------------------

    def _system_info(self, _: _Call) -> Answer:
        return json_answer(
            {
                "auth_mode": "db_auth",
                "banner": "",
                "external_url": self.url,
                "registry_url": self.host,
                "harbor_version": "v2.11.1-6b7ecba1",
                "has_ca_root": False,
                "project_creation_restriction": "everyone",
                "self_registration": False,
                "read_only": self.harbor.read_only,
                "notification_enable": True,
                "registry_storage_provider_name": "filesystem",
            }
        )

    def _numbered(
        self,
        call: _Call,
        found: Sequence[T],
        shown: Callable[[T], dict[str, object]] | None = None,
    ) -> Answer:
        page, size = _number(call, "page", 1), _number(call, "page_size", 10)
        if size > MAX_PAGE_SIZE:
            text = "page_size in query should be less than or equal to 100"
            raise HarborRefusedError(
                422, "UNPROCESSABLE_ENTITY", f"validation failure list:\n{text}"
            )
        size = min(size, self.harbor.page_cap)
        rows = found[(page - 1) * size : page * size]
        answer = json_answer([shown(row) for row in rows] if shown else list(rows))
        if self.harbor.totals:
            answer = answer.with_headers(X_Total_Count=str(len(found)))
        links = " , ".join(_links(call, page, size, len(found)))
        return answer.with_headers(Link=links) if links and self.harbor.links else answer


def _links(call: _Call, page: int, size: int, total: int) -> Iterator[str]:
    for rel, number, there in (
        ("prev", page - 1, page > 1 and (page - 1) * size < total),
        ("next", page + 1, page * size < total),
    ):
        if there:
            query = {**call.wishes, "page": str(number), "page_size": str(size)}
            target = f"{call.asked.path}?{urlencode(sorted(query.items()))}"
            yield f'<{target}>; rel="{rel}"'


def _number(call: _Call, name: str, default: int) -> int:
    text = call.wishes.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or (name == "page" and int(text) < 1):
        raise HarborRefusedError(422, "UNPROCESSABLE_ENTITY", f"{name} in query must be a number")
    return int(text) or default


def _health(_: _Call) -> Answer:
    names = ("core", "database", "jobservice", "portal", "redis", "registry", "registryctl")
    parts = [{"name": name, "status": "healthy"} for name in names]
    return json_answer({"status": "healthy", "components": parts})


def _error(refused: HarborRefusedError) -> Answer:
    row = {"code": refused.code, "message": str(refused)}
    return json_answer({"errors": [row]}, status=refused.status)


def _extra_attrs(content: Content) -> dict[str, object] | None:
    if content.is_index:
        return None
    return {
        "architecture": content.architecture,
        "author": "",
        "config": {"Cmd": ["/entrypoint"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
        "created": _wire(content.created),
        "os": content.os,
    }


def _wire(moment: dt.datetime | str) -> str:
    """A moment as Harbor writes it: with three digits behind the seconds."""
    if isinstance(moment, str):
        return moment
    text = moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{text}Z"
