"""Labels as rows, and which of them a repository has or inherits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from wharfinger.domain.labels import Label, Place
from wharfinger.domain.model import Caller
from wharfinger.store.database import Ask, Connection, rows_of
from wharfinger.store.named_sql import queries

_SQL = queries("labels")
_WRITING = queries("writing")


async def put(
    tx: Connection, project_id: str, registry_id: str, place: Place, *, key: str, value: str
) -> None:
    """Put a label, in place of another of the same key."""
    await tx.execute(
        _SQL["set"], {**_where(project_id, registry_id, place), "key": key, "value": value}
    )
    # What is listed is no longer the same.
    await tx.execute(_WRITING["touch_feed"], {"project": project_id})


async def remove(
    tx: Connection, project_id: str, registry_id: str, place: Place, *, key: str
) -> bool:
    """Take a label away; whether it was there."""
    values = {**_where(project_id, registry_id, place), "key": key}
    cursor = await tx.execute(_SQL["remove"], values)
    found = await cursor.fetchone() is not None
    if found:
        await tx.execute(_WRITING["touch_feed"], {"project": project_id})
    return found


async def count(tx: Connection, project_id: str) -> int:
    """How many labels a project has."""
    cursor = await tx.execute(_SQL["count"], {"project": project_id})
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def list_labels(tx: Connection, caller: Caller) -> list[Label]:
    """Every label that the caller may see, where it was put."""
    values = {
        "project": caller.project_id,
        "enterprise_projects": list(caller.enterprise_projects),
    }
    cursor = await tx.execute(_SQL["list"], values)
    return [
        Label(
            registry_id=row[0],
            registry=row[1],
            namespace=row[2],
            repository=row[3],
            key=row[4],
            value=row[5],
        )
        for row in await cursor.fetchall()
    ]


async def of_repositories(
    ask: Ask, project_id: str, repositories: Collection[int]
) -> Mapping[int, dict[str, str]]:
    """What each repository is labelled with, inherited labels included."""
    if not repositories:
        return {}
    values = {"project": project_id, "repositories": list(repositories)}
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for repository, key, value in await rows_of(ask, _SQL["of_repositories"], values):
        found[repository][key] = value
    return found


def _where(project_id: str, registry_id: str, place: Place) -> dict[str, object]:
    return {
        "project": project_id,
        "registry": registry_id,
        "namespace": place.namespace,
        "repository": place.repository,
    }
