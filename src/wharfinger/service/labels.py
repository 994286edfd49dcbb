"""Labels: put, taken away, listed."""

from __future__ import annotations

from wharfinger.domain.errors import ConflictError, NotFoundError
from wharfinger.domain.labels import (
    MOST_LABELS,
    Label,
    Place,
    checked_key,
    checked_label,
    checked_place,
)
from wharfinger.domain.model import Caller
from wharfinger.service.held import find_registry
from wharfinger.store import audit, labels
from wharfinger.store.database import Database


class Labels:
    """The labels of all projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, caller: Caller) -> list[Label]:
        """Every label, where it was put."""
        async with self._database.tenant(caller.project_id) as tx:
            return await labels.list_labels(tx, caller)

    async def put(self, caller: Caller, place: Place, key: str, value: str) -> None:
        """Put a label on a registry (by name or id), a namespace, or a repository.

        Raises:
            NotFoundError: there is no such registry.
            InvalidParameterError: naming the parameter and what would be accepted.
            ConflictError: the project has as many labels as it may.
        """
        checked_label(key, value)
        checked_place(place)
        async with self._database.tenant(caller.project_id) as tx:
            registry_id, called = await find_registry(tx, caller, place.registry)
            await labels.put(tx, caller.project_id, registry_id, place, key=key, value=value)
            if await labels.count(tx, caller.project_id) > MOST_LABELS:
                raise ConflictError(f"a project has at most {MOST_LABELS} labels")
            await audit.record(
                tx,
                caller,
                "label.set",
                target=f"registry {registry_id}",
                outcome="done",
                name=called,
                details={**_told(place), "key": key, "value": value},
            )

    async def remove(self, caller: Caller, place: Place, key: str) -> None:
        """Take a label away from where it was put.

        Raises:
            NotFoundError: there is no such registry, or no such label there.
            InvalidParameterError: naming the parameter and what would be accepted.
        """
        checked_key(key)
        checked_place(place)
        async with self._database.tenant(caller.project_id) as tx:
            registry_id, called = await find_registry(tx, caller, place.registry)
            if not await labels.remove(tx, caller.project_id, registry_id, place, key=key):
                raise NotFoundError(f"key: there is no label {key!r} there")
            await audit.record(
                tx,
                caller,
                "label.remove",
                target=f"registry {registry_id}",
                outcome="done",
                name=called,
                details={**_told(place), "key": key},
            )


def _told(place: Place) -> dict[str, str]:
    parts = {"namespace": place.namespace, "repository": place.repository}
    return {name: text for name, text in parts.items() if text is not None}
