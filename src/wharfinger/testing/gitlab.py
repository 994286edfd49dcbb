"""A GitLab with its registry over a world: the API that lists repositories, and the registry.

What it does is what docs.gitlab.com says of the "Container registry API" and of the "REST API"
(paging, errors), and what GitLab's own source shows of the order of rows.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from wharfinger.testing.faults import Answer, Asked, json_answer
from wharfinger.testing.model import PLANTED, Repository, World
from wharfinger.testing.oci import OciBehaviour, OciUpstream

_ROUTE = re.compile(r"/api/v4/(groups|projects)/([^/]+)/registry/repositories")
_CATALOG = "registry:catalog:*"


@dataclass(kw_only=True)
class GitlabBehaviour:
    """How GitLab's own API behaves. The defaults are those of an honest one.

    Attributes:
        token: what opens it, in ``PRIVATE-TOKEN``.
        page_cap: the largest page, whatever ``per_page`` says.
        page_headers: whether answers say which page comes next, and how many rows there are.
        projects: what is a project's path and no group's.
        switched_off: paths whose container registry is switched off.
        registry: what images are said to be at; "" for this server.
    """

    token: str = field(default=f"glpat-{PLANTED}-Token-1", repr=False)
    page_cap: int = 100
    page_headers: bool = True
    projects: set[str] = field(default_factory=set)
    switched_off: set[str] = field(default_factory=set)
    registry: str = ""


class GitlabUpstream(OciUpstream):
    """GitLab and its registry at one address; the registry's catalog is for administrators.

    Attributes:
        gitlab: change it at any time.
    """

    def __init__(self, world: World | None = None, gitlab: GitlabBehaviour | None = None) -> None:
        self.gitlab = gitlab or GitlabBehaviour()
        behaviour = OciBehaviour(
            auth="bearer",
            token_path="/jwt/auth",  # noqa: S106 - a path
            service="container_registry",
            username="reader",
            password=self.gitlab.token,
            denied_scopes={_CATALOG},
        )
        super().__init__(world, behaviour)

    def respond(self, asked: Asked) -> Answer:
        """The true answer to a request."""
        found = _ROUTE.fullmatch(asked.path)
        if found is None:
            return super().respond(asked)
        with self.world.lock:
            return self._repositories(asked, found[1], unquote(found[2]))

    def _repositories(self, asked: Asked, kind: str, path: str) -> Answer:
        given = asked.headers.get("private-token", "")
        if not hmac.compare_digest(given.encode(), self.gitlab.token.encode()):
            return json_answer({"message": "401 Unauthorized"}, status=401)
        if not self._is_there(kind, path):
            what = kind.removesuffix("s").capitalize()
            return json_answer({"message": f"404 {what} Not Found"}, status=404)
        if path in self.gitlab.switched_off:
            return json_answer({"message": "403 Forbidden"}, status=403)
        return self._paged(asked, [self._row(one) for one in self._below(path)])

    def _is_there(self, kind: str, path: str) -> bool:
        if kind == "projects":
            return path in self.gitlab.projects
        known = path in self.world.namespaces or any(True for _ in self._below(path))
        return known and path not in self.gitlab.projects

    def _below(self, path: str) -> Iterator[Repository]:
        """What lies at or below a path, the oldest first; paths of images are lower case."""
        place = f"{path.lower()}/"
        found = [r for r in self.world.owned() if f"{r.path}/".startswith(place)]
        yield from sorted(found, key=lambda repository: repository.id)

    def _row(self, repository: Repository) -> dict[str, object]:
        place = self.gitlab.registry or self.host
        return {
            "id": repository.id,
            "name": "",
            "path": repository.path,
            "project_id": 1,
            "location": f"{place}/{repository.path}",
            "created_at": "2026-01-10T13:38:57.391Z",
            "cleanup_policy_started_at": None,
            "status": None,
        }

    def _paged(self, asked: Asked, rows: list[dict[str, object]]) -> Answer:
        wishes = dict(parse_qsl(asked.query))
        number = int(wishes.get("page", "1"))
        size = min(int(wishes.get("per_page", "20")), self.gitlab.page_cap)
        page = rows[(number - 1) * size : number * size]
        answer = json_answer(page)
        if not self.gitlab.page_headers:
            return answer
        ahead = str(number + 1) if number * size < len(rows) else ""
        return answer.with_headers(
            X_Next_Page=ahead, X_Page=str(number), X_Per_Page=str(size), X_Total=str(len(rows))
        )
