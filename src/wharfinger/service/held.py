"""Absent images that wait for a person's word, and the erasure of a removed registry."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from wharfinger.domain.errors import InvalidParameterError, NotFoundError
from wharfinger.domain.model import Caller, HeldImage
from wharfinger.store import audit, held
from wharfinger.store.database import Connection, Database


class HeldImages:
    """What the retirement rules held back. A registry is given by its id or by its name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, caller: Caller, registry: str, *, after: int = 0, limit: int = 200
    ) -> list[HeldImage]:
        """The held images of a registry whose ids follow ``after``.

        Raises:
            NotFoundError: there is no such registry.
        """
        async with self._database.tenant(caller.project_id) as tx:
            registry_id, _ = await find_registry(tx, caller, registry)
            return await held.list_held(tx, registry_id, after=after, limit=limit)

    async def accept(self, caller: Caller, registry: str, *, images: Sequence[int] | None) -> int:
        """Accept that held images are gone: those named, or all (``None``). Returns how many.

        Only what is still held is retired: an image that a newer listing contained is not.

        Raises:
            InvalidParameterError: no image is named.
            NotFoundError: no such registry, or an image that is not held; nothing is done then.
        """
        if images is not None and not images:
            raise InvalidParameterError("images", "must name an image, or be left out for all")
        async with self._database.tenant(caller.project_id) as tx:
            registry_id, name = await find_registry(tx, caller, registry)
            retired = await held.accept(tx, caller.project_id, registry_id, images)
            await audit.record(
                tx,
                caller,
                "registry.accept",
                target=f"registry {registry_id}",
                outcome="done",
                details={"name": name, "images": images and list(images), "retired": retired},
            )
        return retired

    async def purge(self, caller: Caller, name: str) -> int:
        """Erase removed registries of a name with their history. Returns how many images.

        Raises:
            NotFoundError: no registry of that name was removed.
        """
        async with self._database.tenant(caller.project_id) as tx:
            registries, images = await held.purge(tx, caller, name)
            for registry_id in registries:
                await audit.record(
                    tx,
                    caller,
                    "registry.purge",
                    target=f"registry {registry_id}",
                    outcome="done",
                    details={"images": images},
                )
        return images


async def find_registry(tx: Connection, caller: Caller, registry: str) -> tuple[str, str]:
    """The id and the name of a registry given by either.

    Raises:
        NotFoundError: there is no such registry.
    """
    try:
        as_id = str(uuid.UUID(registry))
    except ValueError:
        return await held.find_registry(tx, caller, name=registry)
    try:
        return await held.find_registry(tx, caller, registry_id=as_id)
    except NotFoundError:
        # A name may look like an id.
        return await held.find_registry(tx, caller, name=registry)
