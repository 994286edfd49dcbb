"""Registries as an operator sees them: add, list, test, remove."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from wharfinger.domain.errors import (
    ConflictError,
    CredentialsNeededError,
    InvalidParameterError,
    NotFoundError,
    NotGrantedError,
    SourceError,
)
from wharfinger.domain.model import (
    Caller,
    Page,
    RegistryCredential,
    RepositoryRef,
    TagRef,
    VerdictState,
)
from wharfinger.service.held import find_registry
from wharfinger.sources import check_certificates, check_registry, wanted_repositories
from wharfinger.store import audit, enterprise_projects, registries
from wharfinger.store.database import Connection, Database
from wharfinger.store.registries import (
    NewRegistry,
    RegistryChange,
    RegistrySettings,
    RegistryStatus,
    RepositoryStatus,
    Seals,
)
from wharfinger.sync.engine import OpenSource, Resolve, SourceOpener, as_stored

# Each is tried on each repository of a listing.
MOST_PATTERNS = 100
# As many as HSS's lists of registries hold; the operator may add more.
MOST_REGISTRIES = 100


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

    def __init__(
        self,
        database: Database,
        seals: Seals,
        opener: SourceOpener,
        *,
        resolve: Resolve = as_stored,
    ) -> None:
        self._database = database
        self._seals = seals
        self._opener = opener
        self._resolve = resolve

    async def add(self, caller: Caller, new: NewRegistry, credential: RegistryCredential) -> str:
        """Add a registry; returns its id.

        Raises:
            NotGrantedError: it may reach private networks, and the caller is not the operator.
            InvalidParameterError: naming the parameter and what would be accepted.
            ConflictError: the name is taken, there are as many as the caller may add, or the
                enterprise project is disabled.
            NotFoundError: there is no such project, or enterprise project.
        """
        if new.allow_private_networks and not caller.is_operator:
            raise NotGrantedError("only the operator may add a registry in a private network")
        _check_reference(caller, credential)
        if not 1 <= len(new.name) <= 128:
            raise InvalidParameterError("name", "must have 1 to 128 characters")
        check_registry(new.kind, new.address, new.options, credential)
        check_certificates(new.ca_pem)
        _check_patterns(new.include, new.exclude)
        _check_age(new.stale_after)
        _check_hss(new.hss)
        async with self._database.tenant(caller.project_id) as tx:
            await enterprise_projects.check_takes_registries(tx, caller, new.enterprise_project_id)
            await _check_number(tx, caller)
            registry_id = await registries.add_registry(
                tx, caller.project_id, new, credential, seals=self._seals
            )
            await audit.record(
                tx,
                caller,
                "registry.add",
                target=f"registry {registry_id}",
                outcome="done",
                details=_told(new.name, new, credential),
            )
        return registry_id

    async def list(self, caller: Caller) -> list[RegistryStatus]:
        """All registries, by name."""
        async with self._database.tenant(caller.project_id) as tx:
            return await registries.list_registries(tx, caller)

    async def change(
        self,
        caller: Caller,
        name: str | UUID,
        change: RegistryChange,
        credential: RegistryCredential | None = None,
    ) -> int:
        """Change a registry's configuration, all of it or nothing; returns the images now hidden.

        It is found by its name, or by its id.

        After a change of address, credential, options or filter the next complete listing holds
        all retirements. What a filter leaves out is hidden at once, and shown again with its
        history by the first sync that may read it. What the operator let into private networks
        stays there only as long as nobody else says where it is.

        Raises:
            NotFoundError: there is no such registry.
            InvalidParameterError: naming the parameter and what would be accepted.
        """
        async with self._database.tenant(caller.project_id) as tx:
            registry_id = await self._id_of(tx, caller, name)
            before = await registries.settings_of(tx, registry_id)
            after = _changed(before, change)
            if after == before and credential is None:
                return 0
            _check_reference(caller, credential)
            _keep_secrets_home(caller, before, after, credential)
            await self._check_change(tx, caller, registry_id, after, credential)
            if after.enterprise_project_id != before.enterprise_project_id:
                await enterprise_projects.check_takes_registries(
                    tx, caller, after.enterprise_project_id
                )
            hidden = await registries.change_registry(
                tx,
                caller.project_id,
                registry_id,
                after,
                generations=int(credential is not None or _lists_differently(before, after)),
                stays_private=caller.is_operator or not _reaches_elsewhere(before, after),
                wanted=wanted_repositories(
                    after.kind, after.options, include=after.include, exclude=after.exclude
                ),
            )
            if credential is not None:
                await registries.change_credential(
                    tx, caller.project_id, registry_id, credential, seals=self._seals
                )
            await audit.record(
                tx,
                caller,
                "registry.set",
                target=f"registry {registry_id}",
                outcome="done",
                details={
                    **_told(before.name, change, credential),
                    **_moved(before, after),
                    "hidden": hidden,
                },
            )
        return hidden

    async def _check_change(
        self,
        tx: Connection,
        caller: Caller,
        registry_id: str,
        after: RegistrySettings,
        credential: RegistryCredential | None,
    ) -> None:
        if credential is None:
            _, credential = await registries.open_registry(
                tx, caller.project_id, registry_id, seals=self._seals
            )
        check_registry(after.kind, after.address, after.options, credential)
        check_certificates(after.ca_pem)
        _check_patterns(after.include, after.exclude)
        _check_age(after.stale_after)
        _check_hss(after.hss)

    async def repositories(
        self,
        caller: Caller,
        registry: str,
        *,
        verdict: VerdictState | None = None,
        after: int = 0,
        limit: int = 200,
    ) -> Sequence[RepositoryStatus]:
        """Repositories of a registry, given by id or name, with the verdict of each.

        Raises:
            NotFoundError: there is no such registry.
        """
        async with self._database.tenant(caller.project_id) as tx:
            registry_id, _ = await find_registry(tx, caller, registry)
            return await registries.list_repositories(
                tx, registry_id, verdict=verdict, after=after, limit=limit
            )

    async def remove(self, caller: Caller, name: str) -> int:
        """Remove a registry: its images are retired, their history stays. Returns how many.

        Raises:
            NotFoundError: there is no registry of that name.
        """
        async with self._database.tenant(caller.project_id) as tx:
            registry_id = await self._id_of(tx, caller, name)
            return await _remove(tx, caller, registry_id, name)

    async def remove_all(self, caller: Caller, ids: Sequence[UUID]) -> int:
        """Remove registries by their ids, all of them or none; returns the images retired.

        Raises:
            NotFoundError: there is no registry of one of the ids.
        """
        async with self._database.tenant(caller.project_id) as tx:
            known = {r[0]: r[1] for r in await registries.select_registries(tx, caller)}
            if unknown := [one for one in ids if str(one) not in known]:
                raise NotFoundError(f"id: there is no registry {unknown[0]}")
            # In one order, so that two such calls wait for each other instead of for ever.
            wanted = sorted({str(one) for one in ids})
            return sum([await _remove(tx, caller, one, known[one]) for one in wanted])

    async def test(self, caller: Caller, name: str) -> TestReport:
        """Look at a registry without storing anything: list a page, and one repository's tags.

        Raises:
            NotFoundError: there is no registry of that name.
        """
        async with self._database.tenant(caller.project_id) as tx:
            registry_id = await self._id_of(tx, caller, name)
            ref, credential = await registries.open_registry(
                tx, caller.project_id, registry_id, seals=self._seals
            )
        try:
            opened = self._opener(ref, await self._resolve(credential))
        except CredentialsNeededError as error:
            return _failed(name, error)
        try:
            return await _look(name, opened)
        except SourceError as error:
            return _failed(name, error, requests=opened.take_requests())
        finally:
            await opened.aclose()

    async def _id_of(self, tx: Connection, caller: Caller, name: str | UUID) -> str:
        if isinstance(name, UUID):
            if str(name) not in {r[0] for r in await registries.select_registries(tx, caller)}:
                raise NotFoundError(f"id: there is no registry {name}")
            return str(name)
        found = await registries.select_registries(tx, caller, names=[name])
        if not found:
            raise NotFoundError(f"there is no registry named {name!r}")
        return found[0][0]


async def _remove(tx: Connection, caller: Caller, registry_id: str, name: str) -> int:
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


async def _check_number(tx: Connection, caller: Caller) -> None:
    if caller.is_operator:
        return
    # Those that the caller sees: of others not even the number is told.
    if len(await registries.select_registries(tx, caller)) >= MOST_REGISTRIES:
        raise ConflictError(f"there are {MOST_REGISTRIES} registries, as many as may be")


def _changed(before: RegistrySettings, change: RegistryChange) -> RegistrySettings:
    given = {k: v for k, v in msgspec.structs.asdict(change).items() if v is not None}
    given["hss"] = {**before.hss, **(change.hss or {})}
    return msgspec.structs.replace(before, **given)


def _lists_differently(before: RegistrySettings, after: RegistrySettings) -> bool:
    def listing(settings: RegistrySettings) -> tuple[object, ...]:
        patterns = (tuple(settings.include), tuple(settings.exclude))
        return (settings.address, dict(settings.options), *patterns)

    return listing(before) != listing(after)


def _reaches_elsewhere(before: RegistrySettings, after: RegistrySettings) -> bool:
    # Options name hosts, too: that of IAM, for one.
    return (before.address, dict(before.options)) != (after.address, dict(after.options))


def _check_reference(caller: Caller, credential: RegistryCredential | None) -> None:
    """Refuse that a tenant reads the operator's environment or files, or runs its programs."""
    if credential is not None and credential.reference and not caller.is_operator:
        raise NotGrantedError("only the operator may name a place where a secret is kept")


def _keep_secrets_home(
    caller: Caller,
    before: RegistrySettings,
    after: RegistrySettings,
    credential: RegistryCredential | None,
) -> None:
    """Do not let whoever can name a host have a secret sent there that somebody else entered."""
    if caller.is_operator or credential is not None or before.credential_kind == "none":
        return
    if _reaches_elsewhere(before, after):
        raise InvalidParameterError(
            "credential", "must be given again with another address, to which it will be sent"
        )


def _moved(before: RegistrySettings, after: RegistrySettings) -> dict[str, object]:
    if after.enterprise_project_id == before.enterprise_project_id:
        return {}
    return {"moved_from": before.enterprise_project_id}


def _told(
    name: str, given: NewRegistry | RegistryChange, credential: RegistryCredential | None
) -> dict[str, object]:
    """What the audit keeps of a registry's settings: everything but secrets and certificates."""
    told = {k: v for k, v in msgspec.to_builtins(given).items() if v is not None}
    for unwanted in ("ca_pem", "allow_private_networks", "hss"):
        told.pop(unwanted, None)
    if credential is not None:
        told["credential"] = {"kind": credential.kind, "identity": credential.identity}
    return {"name": name, **told}


def _check_patterns(include: Sequence[str], exclude: Sequence[str]) -> None:
    for parameter, patterns in (("include", include), ("exclude", exclude)):
        if len(patterns) > MOST_PATTERNS:
            raise InvalidParameterError(parameter, f"must be at most {MOST_PATTERNS} patterns")
        for pattern in patterns:
            if not 1 <= len(pattern) <= 512:
                raise InvalidParameterError(parameter, "each pattern must be 1 to 512 characters")


def _check_age(stale_after: dt.timedelta) -> None:
    if not dt.timedelta(minutes=1) <= stale_after <= dt.timedelta(days=366):
        raise InvalidParameterError("stale_after", "must be one minute to 366 days")


def _check_hss(told: Mapping[str, str]) -> None:
    if told.get("get_scan_image_channel") == "Other" and not told.get("namespace"):
        raise InvalidParameterError(
            "namespace", "is required where get_scan_image_channel is Other: 1 to 128 characters"
        )


def _failed(name: str, error: SourceError, *, requests: int = 0) -> TestReport:
    return TestReport(
        registry=name, ok=False, message=str(error), error_code=error.code, requests=requests
    )


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
