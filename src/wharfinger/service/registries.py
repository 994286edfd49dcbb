"""Registries as an operator sees them: add, list, test, remove."""

from __future__ import annotations

import msgspec

from wharfinger.domain.errors import InvalidParameterError, NotFoundError, SourceError
from wharfinger.domain.model import Caller, Page, RegistryCredential, RepositoryRef, TagRef
from wharfinger.sources import check_registry
from wharfinger.store import audit, registries
from wharfinger.store.database import Connection, Database
from wharfinger.store.registries import NewRegistry, RegistryStatus, Seals
from wharfinger.sync.engine import OpenSource, SourceOpener


class TestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at a registry told. ``error_code`` and ``message`` are set when it failed."""

    registry: str
    ok: bool
    message: str
    error_code: str | None = None
    repositories: int | None = None  # as the registry counts them; at least the first page
    sample_repository: str | None = None
    sample_tags: int | None = None
    requests: int = 0


class Registries:
    """The registries of a project."""

    def __init__(self, database: Database, seals: Seals, opener: SourceOpener) -> None:
        self._database = database
        self._seals = seals
        self._opener = opener

    async def add(self, caller: Caller, new: NewRegistry, credential: RegistryCredential) -> str:
        """Add a registry; returns its id.

        Raises:
            InvalidParameterError: naming the parameter and what would be accepted.
            ConflictError: the name is taken.
            NotFoundError: there is no such project.
        """
        if not 1 <= len(new.name) <= 128:
            raise InvalidParameterError("name", "must have 1 to 128 characters")
        check_registry(new.kind, new.address, new.options, credential)
        async with self._database.tenant(caller.project_id) as tx:
            return await registries.add_registry(
                tx, caller.project_id, new, credential, seals=self._seals
            )

    async def list(self, caller: Caller) -> list[RegistryStatus]:
        """All registries, by name."""
        async with self._database.tenant(caller.project_id) as tx:
            return await registries.list_registries(tx)

    async def relocate(self, caller: Caller, name: str, address: str) -> None:
        """Give a registry another address. Its next complete listing holds all retirements.

        Raises:
            NotFoundError: there is no registry of that name.
        """
        async with self._database.tenant(caller.project_id) as tx:
            await registries.relocate(tx, await self._id_of(tx, name), address)

    async def remove(self, caller: Caller, name: str) -> int:
        """Remove a registry: its images are retired, their history stays. Returns how many.

        Raises:
            NotFoundError: there is no registry of that name.
        """
        async with self._database.tenant(caller.project_id) as tx:
            registry_id = await self._id_of(tx, name)
            retired = await registries.remove_registry(tx, caller.project_id, registry_id)
            await audit.record(
                tx,
                caller,
                "registry.remove",
                target=f"registry {registry_id}",
                outcome="done",
                details={"name": name, "retired": retired},
            )
        return retired

    async def test(self, caller: Caller, name: str) -> TestReport:
        """Look at a registry without storing anything: list a page, and one repository's tags.

        Raises:
            NotFoundError: there is no registry of that name.
        """
        async with self._database.tenant(caller.project_id) as tx:
            registry_id = await self._id_of(tx, name)
            ref, credential = await registries.open_registry(
                tx, caller.project_id, registry_id, seals=self._seals
            )
        opened = self._opener(ref, credential)
        try:
            return await _look(name, opened)
        except SourceError as error:
            return TestReport(
                registry=name,
                ok=False,
                message=str(error),
                error_code=error.code,
                requests=opened.take_requests(),
            )
        finally:
            await opened.aclose()

    async def _id_of(self, tx: Connection, name: str) -> str:
        found = await registries.select_registries(tx, names=[name])
        if not found:
            raise NotFoundError(f"there is no registry named {name!r}")
        return found[0][0]


async def _look(name: str, opened: OpenSource) -> TestReport:
    page = await _first_page(opened)
    known = page.total if page.total is not None else len(page.items)
    if not page.items:
        return TestReport(
            registry=name,
            ok=True,
            message="the registry answers and lists no repository",
            repositories=known,
            requests=opened.take_requests(),
        )
    sample = page.items[0]
    tags: Page[TagRef] = await anext(aiter(opened.source.tags(sample, None)))
    path = f"{sample.namespace}/{sample.name}" if sample.namespace else sample.name
    more = "" if page.next is None or page.total is not None else " or more"
    return TestReport(
        registry=name,
        ok=True,
        message=f"the registry lists {known}{more} repositories, and {path} can be read",
        repositories=known,
        sample_repository=path,
        sample_tags=tags.total if tags.total is not None else len(tags.items),
        requests=opened.take_requests(),
    )


async def _first_page(opened: OpenSource) -> Page[RepositoryRef]:
    async for page in opened.source.repositories(None):
        return page
    return Page(items=(), next=None)
