"""The rows of SWR basic, v2 and v3, as the world has them; shared by server and renderer."""

from __future__ import annotations

from wharfinger.testing.content import wire_time
from wharfinger.testing.model import Namespace, Repository, Tag, World

INTERNAL_HOST = "10.125.0.198:20202"

Row = dict[str, object]


def repository_row(world: World, repository: Repository, total: int | None) -> Row:
    """A row of ``GET /v2/manage/repos``; ``total`` becomes ``total_range``, ``None`` omits it."""
    claimed = repository.row_tags
    row: Row = {
        "name": repository.name,
        "category": repository.category,
        "description": repository.description,
        "size": repository.size,
        "is_public": repository.is_public,
        "num_images": repository.num_images,
        "num_download": repository.num_download,
        "created_at": wire_time(repository.created, repository.id % 1000),
        "updated_at": wire_time(repository.updated, repository.id % 1000),
        "url": "",
        "path": f"{world.registry_host}/{repository.path}",
        "internal_path": f"{INTERNAL_HOST}/{repository.path}",
        "domain_name": repository.account,
        "namespace": repository.namespace,
        "tags": sorted(repository.tags) if claimed is None else list(claimed),
        "status": False,
    }
    if total is not None:
        row["total_range"] = total
    return row


def shared_row(world: World, repository: Repository, receiver: str | None) -> Row:
    """A row of ``GET /v2/manage/shared-repositories``; ``receiver`` is ``None`` for one's own."""
    row = repository_row(world, repository, None)
    row["status"] = receiver is not None and world.share_is_valid(repository, receiver)
    return row


def repository_row_v3(world: World, repository: Repository, receiver: str | None = None) -> Row:
    """A row of ``GET /v3/manage/repos`` and ``…/shared-repositories``: without tag names."""
    return {
        "id": repository.id,
        "name": repository.name,
        "category": repository.category,
        "description": repository.description,
        "size": repository.size,
        "is_public": repository.is_public,
        "num_images": repository.num_images,
        "num_download": repository.num_download,
        "created_at": wire_time(repository.created, repository.id % 1000),
        "updated_at": wire_time(repository.updated, repository.id % 1000),
        "domain_name": repository.account,
        "namespace_name": repository.namespace,
        "status": receiver is not None and world.share_is_valid(repository, receiver),
    }


def repository_summary(world: World, repository: Repository) -> Row:
    """The answer of ``GET /v2/manage/namespaces/{namespace}/repos/{repository}``."""
    account = world.account(repository.account)
    return {
        "id": repository.id,
        "ns_id": world.namespace(repository.namespace).id,
        "name": repository.name,
        "category": repository.category,
        "description": repository.description,
        "creator_id": account.user_id,
        "creator_name": account.name,
        "size": repository.size,
        "is_public": repository.is_public,
        "num_images": repository.num_images,
        "num_download": repository.num_download,
        "url": "",
        "path": f"{world.registry_host}/{repository.path}",
        "internal_path": f"{INTERNAL_HOST}/{repository.path}",
        "created": wire_time(repository.created, repository.id % 1000),
        "updated": wire_time(repository.updated, repository.id % 1000),
        "domain_id": account.domain_id,
        "priority": 0,
    }


def tag_row(world: World, repository: Repository, tag: Tag) -> Row:
    """A row of ``GET /v2/…/tags``: ``Tag`` with a capital, the manifest as text."""
    content = tag.content
    return {
        "id": tag.id,
        "repo_id": repository.id,
        "Tag": tag.name,
        "image_id": content.image_id.removeprefix("sha256:"),
        "manifest": content.manifest.decode(),
        "digest": content.digest,
        "schema": 2,
        "path": f"{world.registry_host}/{repository.path}:{tag.name}",
        "internal_path": f"{INTERNAL_HOST}/{repository.path}:{tag.name}",
        "size": content.size,
        "is_trusted": False,
        "created": wire_time(tag.created, tag.id % 1000),
        "updated": wire_time(tag.updated, tag.id % 1000),
        "deleted": None,
        "domain_id": world.account(repository.account).domain_id,
        "scanned": False,
        "tag_type": 1 if content.is_index else 0,
    }


def tag_row_v3(world: World, repository: Repository, tag: Tag, *, manifest: bool) -> Row:
    """A row of ``GET /v3/…/tags``: ``tag`` in lower case, the manifest only when asked for."""
    row = tag_row(world, repository, tag)
    for name in ("deleted", "scanned"):
        del row[name]
    row["tag"] = row.pop("Tag")
    if not manifest:
        row["manifest"] = ""
    return row


def namespace_row(namespace: Namespace, repositories: int, creator: str) -> Row:
    """A row of ``GET /v2/manage/namespaces``, with the keys that newer answers add."""
    return {
        "id": namespace.id,
        "name": namespace.name,
        "creator_name": creator,
        "auth": 7,
        "access_user_count": 1,
        "repo_count": repositories,
    }
