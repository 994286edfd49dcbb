"""SWR enterprise edition over a world's instances: routes, parameters, pages and row shapes."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qsl, unquote

from wharfinger.testing.content import DOCKER_CONFIG, OCI_CONFIG, OCI_MANIFEST, wire_time
from wharfinger.testing.faults import Answer, Asked, json_answer
from wharfinger.testing.model import (
    Account,
    Artifact,
    Instance,
    Namespace,
    Repository,
    Tag,
    UnknownNameError,
    World,
)
from wharfinger.testing.swr_wire import (
    SwrRefusedError,
    bad_query,
    boolean,
    error_answer,
    number,
)

T = TypeVar("T")
Row = dict[str, object]

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
# The first version whose instances list all their artifacts in one go.
LISTS_ALL_ARTIFACTS = (25, 6, 0)

_NEVER = "0001-01-01T00:00:00.000Z"
_CHINA = dt.timezone(dt.timedelta(hours=8))
_INSTANCE = r"/v2/([^/]+)/instances/([^/]+)"
_REPOSITORY = _INSTANCE + r"/namespaces/([^/]+)/repositories/([^/]+)"
# Where the path does not name the project, the group for it is empty.
_REPOSITORY_ALONE = _REPOSITORY.replace("/v2/([^/]+)/", "/v2()/")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One request: who asks, what the path names, and the parameters."""

    account: Account
    parts: Sequence[str]
    wishes: Mapping[str, str]


class SwrEnterprise:
    """Answers the enterprise edition's management API.

    Attributes:
        strict_paging: refuse ``limit`` without ``offset`` (or ``marker``) and the reverse, as
            the documentation words it; otherwise the missing one takes its default.
        largest_page: what a page holds at most, whatever ``limit`` asks for.
        error_generation: which of the three error shapes is sent.
    """

    def __init__(self, world: World, *, error_generation: int = 3) -> None:
        self.strict_paging = True
        self.largest_page = MAX_LIMIT
        self.error_generation = error_generation
        self._world = world
        self._routes: list[tuple[str, re.Pattern[str], Callable[[_Call], Answer]]] = [
            (method, re.compile(pattern), route)
            for method, pattern, route in (
                ("GET", r"/v2/([^/]+)/instances", self._list_instances),
                ("GET", _INSTANCE, self._show_instance),
                ("GET", _INSTANCE + "/statistics", self._statistics),
                ("GET", _INSTANCE + "/namespaces", self._list_namespaces),
                ("GET", _INSTANCE + "/namespaces/([^/]+)", self._show_namespace),
                ("GET", _INSTANCE + "/repositories", self._list_repositories),
                (
                    "GET",
                    _INSTANCE + "/namespaces/([^/]+)/repositories",
                    self._list_repositories_of_namespace,
                ),
                ("GET", _INSTANCE + "/artifacts", self._list_all_artifacts),
                ("GET", _REPOSITORY, self._show_repository),
                ("GET", _REPOSITORY + "/artifacts", self._list_artifacts),
                ("GET", _REPOSITORY + "/artifacts/([^/]+)", self._show_artifact),
                ("DELETE", _REPOSITORY + "/artifacts/([^/]+)", self._delete_artifact),
                ("GET", _REPOSITORY + "/artifacts/([^/]+)/accessories", self._list_accessories),
                ("GET", r"/v2/([^/]+)/repositories", self._list_all_repositories),
                ("GET", _REPOSITORY_ALONE + "/tags", self._list_tags),
                ("DELETE", _REPOSITORY_ALONE + "/tags/([^/]+)", self._delete_tag),
            )
        ]

    def respond(self, asked: Asked, account: Account) -> Answer | None:
        """The answer to a request of this account; ``None`` for a path that is not here."""
        # The gateway decodes a path once. A slash in a repository's name is there all the same
        # if it was encoded twice.
        path = unquote(asked.path).rstrip("/")
        for method, pattern, route in self._routes:
            found = pattern.fullmatch(path)
            if method == asked.method and found is not None:
                return self._answer(route, account, found.groups(), asked.query)
        return None

    def error(self, status: int, code: str, message: str) -> Answer:
        """An error in the generation this server speaks."""
        return error_answer(status, code, message, generation=self.error_generation)

    def _answer(
        self, route: Callable[[_Call], Answer], account: Account, parts: Sequence[str], query: str
    ) -> Answer:
        wishes = dict(parse_qsl(query, keep_blank_values=True))
        try:
            _check_project(parts[0], account)
            return route(_Call(account=account, parts=parts, wishes=wishes))
        except SwrRefusedError as refused:
            return self.error(refused.status, refused.code, refused.message)

    # --- instances --------------------------------------------------------------------------

    def _list_instances(self, call: _Call) -> Answer:
        status = call.wishes.get("status")
        project = call.wishes.get("enterprise_project_id")
        found = [
            instance
            for instance in self._instances(call)
            if status in {None, instance.status} and project in {None, "0"}
        ]
        page = self._offset_page(found, call.wishes, default=MAX_LIMIT)
        return json_answer(
            {"total": len(found), "instances": [_instance_row(self._world, one) for one in page]}
        )

    def _show_instance(self, call: _Call) -> Answer:
        return json_answer(_instance_row(self._world, self._instance(call)))

    def _statistics(self, call: _Call) -> Answer:
        content = self._instance(call).content
        quotas = dict.fromkeys(_QUOTAS, 100) | dict.fromkeys(_COUNTS, 0)
        artifacts = [a for r in content.owned() for a in r.artifacts.values()]
        return json_answer(
            quotas
            | {
                "storage_used": sum(a.content.size for a in artifacts),
                "total_namespace_count": len(content.namespaces),
                "total_image_count": len(content.repositories),
            }
        )

    # --- namespaces and repositories --------------------------------------------------------

    def _list_namespaces(self, call: _Call) -> Answer:
        content = self._instance(call).content
        name = call.wishes.get("name", "")
        found = [one for one in content.namespaces.values() if name in one.name]
        page = self._offset_page(found, call.wishes)
        rows = [_namespace_row(content, one) for one in page]
        return json_answer({"total": len(found), "namespaces": rows})

    def _show_namespace(self, call: _Call) -> Answer:
        content = self._instance(call).content
        return json_answer(_namespace_row(content, _namespace(content, call.parts[2])))

    def _list_repositories(self, call: _Call) -> Answer:
        content = self._instance(call).content
        namespace = call.wishes.get("namespace_id")
        found = [
            one
            for one in content.owned()
            if namespace is None or str(content.namespaces[one.namespace].id) == namespace
        ]
        return self._repositories(found, call, content)

    def _list_repositories_of_namespace(self, call: _Call) -> Answer:
        content = self._instance(call).content
        name = _namespace(content, call.parts[2]).name
        found = [one for one in content.owned() if one.namespace == name]
        return self._repositories(found, call, content)

    def _repositories(self, found: list[Repository], call: _Call, content: World) -> Answer:
        page = self._offset_page(_ordered(found, call.wishes), call.wishes)
        rows = [_repository_row(content, one) for one in page]
        return json_answer({"total": len(found), "repositories": rows})

    def _show_repository(self, call: _Call) -> Answer:
        content, repository = self._repository(call)
        return json_answer(_repository_row(content, repository))

    def _list_all_repositories(self, call: _Call) -> Answer:
        limit = self._limit(call.wishes, MAX_LIMIT)
        name, marker = call.wishes.get("name", ""), call.wishes.get("marker", "")
        found = sorted(
            (f"{instance.id} {one.id:012}", instance, one)
            for instance in self._instances(call)
            for one in instance.content.owned()
            if name in one.name
        )
        rest = [one for one in found if one[0] > marker]
        body: Row = {
            "repositories": [
                _repository_row(instance.content, one) | _belonging(self._world, instance, one)
                for _, instance, one in rest[:limit]
            ],
            "page_info": {"next_marker": rest[limit - 1][0]} if len(rest) > limit else {},
        }
        return json_answer(body)

    # --- artifacts --------------------------------------------------------------------------

    def _list_artifacts(self, call: _Call) -> Answer:
        content, repository = self._repository(call)
        kind, part = call.wishes.get("type"), call.wishes.get("tags", "")
        newest_first = sorted(
            repository.artifacts.values(), key=lambda one: (str(one.pushed), one.id), reverse=True
        )
        found = [
            one
            for one in newest_first
            if kind in {None, one.type}
            and (not part or any(part in tag.name for tag in _tags_of(repository, one)))
        ]
        rows = [
            _artifact_row(content, repository, one) for one in self._offset_page(found, call.wishes)
        ]
        return json_answer({"total": len(found), "artifacts": rows})

    def _show_artifact(self, call: _Call) -> Answer:
        content, repository = self._repository(call)
        return json_answer(_artifact_row(content, repository, _artifact(repository, call.parts[4])))

    def _delete_artifact(self, call: _Call) -> Answer:
        content, repository = self._repository(call)
        content.delete_artifact(
            repository.path, _artifact(repository, call.parts[4]).content.digest
        )
        return Answer(status=200)

    def _list_accessories(self, call: _Call) -> Answer:
        _, repository = self._repository(call)
        subject = _artifact(repository, call.parts[4])
        kind = call.wishes.get("type")
        found = [one for one in subject.accessories if kind in {None, one.type}]
        rows = [
            {
                "id": one.id,
                "artifact_id": one.id,
                "subject_artifact_id": subject.id,
                "size": one.size,
                "digest": one.digest,
                "type": one.type,
                "created_at": _milliseconds(one.created),
            }
            for one in self._offset_page(found, call.wishes)
        ]
        return json_answer({"total": len(found), "accessories": rows})

    def _list_all_artifacts(self, call: _Call) -> Answer:
        instance = self._instance(call)
        if tuple(map(int, instance.version.split("."))) < LISTS_ALL_ARTIFACTS:
            raise SwrRefusedError(404, "4040001", "The instance version does not support this API")
        self._check_pair(call.wishes, "marker")
        limit = self._limit(call.wishes, DEFAULT_LIMIT)
        marker = number(call.wishes, "marker", 1, lambda: bad_query("marker must be a number"))
        found = _by_id(instance.content, marker)
        body: Row = {
            "artifacts": [
                _artifact_row(instance.content, repository, artifact)
                for repository, artifact in found[:limit]
            ]
        }
        if len(found) > limit:
            body["next_marker"] = found[limit][1].id
        return json_answer(body)

    def _list_tags(self, call: _Call) -> Answer:
        content, repository = self._repository(call)
        boolean("is_accessory", call.wishes.get("is_accessory", "true"))
        found = list(repository.tags.values())
        rows = [_tag_row(content, repository, tag) for tag in self._offset_page(found, call.wishes)]
        return json_answer({"total": len(found), "tags": rows})

    def _delete_tag(self, call: _Call) -> Answer:
        content, repository = self._repository(call)
        if call.parts[4] not in repository.tags:
            raise SwrRefusedError(404, "4041056", "The image tag does not exist")
        content.delete_tag(repository.path, call.parts[4])
        return Answer(status=200)

    # --- parts ------------------------------------------------------------------------------

    def _instances(self, call: _Call) -> list[Instance]:
        return [one for one in self._world.instances.values() if one.account == call.account.name]

    def _instance(self, call: _Call) -> Instance:
        found = self._world.instances.get(call.parts[1])
        if found is None or found.account != call.account.name:
            raise SwrRefusedError(404, "4040401", "The instance does not exist")
        return found

    def _repository(self, call: _Call) -> tuple[World, Repository]:
        content = self._instance(call).content
        namespace = _namespace(content, call.parts[2])
        try:
            return content, content.repository(f"{namespace.name}/{unquote(call.parts[3])}")
        except UnknownNameError:
            raise SwrRefusedError(404, "4040113", "The image does not exist") from None

    def _offset_page(
        self, found: Sequence[T], wishes: Mapping[str, str], *, default: int = DEFAULT_LIMIT
    ) -> Sequence[T]:
        self._check_pair(wishes, "offset")
        limit = self._limit(wishes, default)
        offset = number(wishes, "offset", 0, lambda: bad_query("offset must be a number"))
        if offset < 0 or offset % limit:
            raise bad_query("offset must be 0 or a multiple of limit")
        return found[offset : offset + min(limit, self.largest_page)]

    def _check_pair(self, wishes: Mapping[str, str], other: str) -> None:
        if self.strict_paging and ("limit" in wishes) != (other in wishes):
            raise bad_query(f"{other} and limit must be used together")

    def _limit(self, wishes: Mapping[str, str], default: int) -> int:
        limit = number(wishes, "limit", default, _bad_page_size)
        if not 1 <= limit <= MAX_LIMIT:
            raise _bad_page_size()
        return limit


_QUOTAS = (
    "namespace_quota",
    "image_repo_quota",
    "replica_policy_quota",
    "retention_policy_quota",
    "notify_policy_quota",
    "replica_registry_quota",
    "sign_policy_quota",
    "intranet_endpoint_quota",
    "long_term_quota",
)
_COUNTS = (
    "replica_policy_count",
    "retention_policy_count",
    "notify_policy_count",
    "replica_registry_count",
    "intranet_endpoint_count",
    "sign_policy_count",
)


def notification_of(instance: Instance, path: str, tag: str, *, kind: str = "PUSH_ARTIFACT") -> Row:
    """What a trigger of an instance sends, in the shape that Harbor gives its webhooks."""
    repository = instance.content.repository(path)
    digest = repository.tags[tag].content.digest if tag in repository.tags else ""
    host = instance.content.registry_host
    return {
        "type": kind,
        "occur_at": 1_700_000_000,
        "operator": "robot",
        "event_data": {
            "resources": [{"digest": digest, "tag": tag, "resource_url": f"{host}/{path}:{tag}"}],
            "repository": {
                "date_created": 1_700_000_000,
                "name": repository.name,
                "namespace": repository.namespace,
                "repo_full_name": repository.path,
                "repo_type": "private",
            },
        },
    }


def _check_project(project_id: str, account: Account) -> None:
    if project_id not in {"", account.project_id}:
        raise SwrRefusedError(403, "4030170", "Insufficient permissions")


def _bad_page_size() -> SwrRefusedError:
    return SwrRefusedError(400, "4000056", "Invalid page size: limit must be 1 to 100")


def _namespace(content: World, name: str) -> Namespace:
    if name not in content.namespaces:
        raise SwrRefusedError(404, "4041061", "The namespace does not exist")
    return content.namespaces[name]


def _artifact(repository: Repository, reference: str) -> Artifact:
    found = repository.artifacts.get(reference)
    if found is None:
        raise SwrRefusedError(404, "4041056", "The artifact does not exist")
    return found


def _ordered(found: list[Repository], wishes: Mapping[str, str]) -> list[Repository]:
    column = wishes.get("order_column", "created_at")
    direction = wishes.get("order_type", "desc")
    if column not in {"created_at", "updated_at"} or direction not in {"asc", "desc"}:
        raise bad_query("order_column or order_type is not supported")

    def key(one: Repository) -> tuple[str, int]:
        return str(one.created if column == "created_at" else one.updated), one.id

    return sorted(found, key=key, reverse=direction == "desc")


def _by_id(content: World, marker: int) -> list[tuple[Repository, Artifact]]:
    found = [
        (repository, artifact)
        for repository in content.owned()
        for artifact in repository.artifacts.values()
        if artifact.id >= marker
    ]
    return sorted(found, key=lambda one: one[1].id)


def _tags_of(repository: Repository, artifact: Artifact) -> Iterable[Tag]:
    named = (t for t in repository.tags.values() if t.content.digest == artifact.content.digest)
    return sorted(named, key=lambda tag: tag.id)


# --- rows -----------------------------------------------------------------------------------


def _milliseconds(moment: dt.datetime | str) -> str:
    if isinstance(moment, str):
        return moment
    text = moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return text + "Z"


def _instance_row(world: World, instance: Instance) -> Row:
    """An instance; its times are of the cloud's own zone, but for the year 1."""
    return {
        "id": instance.id,
        "name": instance.name,
        "description": "",
        "vpc_id": "vpc-1",
        "vpc_name": "vpc",
        "vpc_cidr": "192.168.0.0/16",
        "subnet_id": "subnet-1",
        "subnet_name": "subnet",
        "subnet_cidr": "192.168.1.0/24",
        "spec": "swr.ee.professional",
        "version": instance.version,
        "charge_mode": "postPaid",
        "access_address": instance.content.registry_host,
        "mirror_address": "",
        "created_at": instance.created.astimezone(_CHINA).isoformat(),
        "updated_at": instance.created.astimezone(_CHINA).isoformat(),
        "expires_at": wire_time(instance.expires),
        "status": instance.status,
        "obs_bucket_name": f"swr-{instance.name}",
        "project_id": world.account(instance.account).project_id,
        "project_name": world.region,
        "enterprise_project_id": "0",
        "user_def_obs": False,
        "product_id": "",
        "order_id": "",
        "vpcep_service_id": "vpcep-1",
    }


def _namespace_row(content: World, namespace: Namespace) -> Row:
    own = [one for one in content.owned() if one.namespace == namespace.name]
    return {
        "name": namespace.name,
        # Truth as text, as the cloud has it.
        "metadata": {"public": "false"},
        "namespace_id": namespace.id,
        "repo_count": len(own),
        "created_at": _milliseconds(namespace.created),
        "updated_at": _milliseconds(namespace.created),
    }


def _repository_row(content: World, repository: Repository) -> Row:
    return {
        "id": repository.id,
        "name": repository.name,
        "namespace_name": repository.namespace,
        "namespace_id": content.namespaces[repository.namespace].id,
        "tag_count": repository.num_images,
        "pull_count": repository.num_download,
        "artifact_count": len(repository.artifacts),
        "description": repository.description,
        "created_at": _milliseconds(repository.created),
        "updated_at": _milliseconds(repository.updated),
    }


def _belonging(world: World, instance: Instance, repository: Repository) -> Row:
    account = world.account(instance.account)
    urn = f"swr:{world.region}:{account.domain_id}:repository:{instance.name}/{repository.path}"
    return {"instance_id": instance.id, "instance_name": instance.name, "resource_urn": urn}


def _artifact_row(content: World, repository: Repository, artifact: Artifact) -> Row:
    return _kept_row(content, repository, artifact) | {
        "repository_name": repository.name,
        "tags": [
            {
                "id": tag.id,
                "repository_id": repository.id,
                "artifact_id": artifact.id,
                "name": tag.name,
                "push_time": _milliseconds(tag.updated),
                "pull_time": _NEVER,
            }
            for tag in _tags_of(repository, artifact)
        ]
        or None,
    }


def _tag_row(content: World, repository: Repository, tag: Tag) -> Row:
    artifact = repository.artifacts[tag.content.digest]
    return _kept_row(content, repository, artifact) | {
        "id": tag.id,
        "name": tag.name,
        "artifact_id": artifact.id,
        "push_time": _milliseconds(tag.updated),
    }


def _kept_row(content: World, repository: Repository, artifact: Artifact) -> Row:
    return {
        "id": artifact.id,
        "digest": artifact.content.digest,
        "repository_id": repository.id,
        "type": artifact.type,
        "namespace_id": content.namespaces[repository.namespace].id,
        "media_type": _media_type(artifact),
        "manifest_media_type": artifact.content.media_type,
        "pull_time": _NEVER,
        "push_time": _milliseconds(artifact.pushed),
        "size": artifact.content.size,
    }


def _media_type(artifact: Artifact) -> str:
    """That of the config; an index has none, and stands with its own."""
    if artifact.media_type:
        return artifact.media_type
    if artifact.content.is_index:
        return artifact.content.media_type
    return OCI_CONFIG if artifact.content.media_type == OCI_MANIFEST else DOCKER_CONFIG
