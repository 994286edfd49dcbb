"""Absent images that wait for a person's word, and the erasure of a removed registry."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from wharfinger.domain.errors import InvalidParameterError, NotFoundError
from wharfinger.domain.model import Caller, HeldImage
from wharfinger.store import audit, held
from wharfinger.store.database import Connection, Database

# What one transaction accepts: under a second, in which no sync of the project can publish.
BATCH = 10_000


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

    async def accept(
        self,
        caller: Caller,
        registry: str,
        *,
        images: Sequence[int] | None,
        tell: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Accept that held images are gone: those named, or all (``None``). Returns how many.

        Only what is still held is retired: an image that a newer listing contained is not. All of
        them go by thousands, each an entry of the audit, so that nobody who writes waits long;
        ``tell`` hears how many there were so far. Where that ends early, what was accepted is.

        Raises:
            InvalidParameterError: no image is named.
            NotFoundError: no such registry, or an image that is not held; nothing is done then.
        """
        if images is None:
            return await self._accept_all(caller, registry, tell)
        if not images:
            raise InvalidParameterError("images", "must name an image, or be left out for all")
        async with self._database.tenant(caller.project_id) as tx:
            registry_id, name = await find_registry(tx, caller, registry)
            retired = await held.accept(tx, caller.project_id, registry_id, images)
            await _record(tx, caller, registry_id, name=name, images=list(images), retired=retired)
        return retired

    async def _accept_all(self, caller: Caller, registry: str, tell: Callable[[int], None]) -> int:
        retired, until, last = 0, None, 0
        while True:
            async with self._database.tenant(caller.project_id) as tx:
                registry, name = await find_registry(tx, caller, registry)
                until = until or await held.time_of(tx)
                some = await held.accept_some(
                    tx, caller.project_id, registry, after=last, until=until, most=BATCH
                )
                await _record(tx, caller, registry, name=name, images=None, retired=some.retired)
            retired += some.retired
            if some.last is None:
                return retired
            last = some.last
            tell(retired)

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


async def _record(tx: Connection, caller: Caller, registry_id: str, **details: object) -> None:
    await audit.record(
        tx,
        caller,
        "registry.accept",
        target=f"registry {registry_id}",
        outcome="done",
        details=details,
    )


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
