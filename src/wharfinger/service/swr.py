"""Access to SWR: one step makes the registries that it opens, and another time changes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.model import Caller, FoundRegistry, RegistryCredential, RegistryRef
from wharfinger.service.registries import Registries
from wharfinger.store import registries
from wharfinger.store.database import Database
from wharfinger.store.registries import NewRegistry, RegistryChange, RegistryStatus, Seals

Finder = Callable[[RegistryRef, RegistryCredential], Awaitable[Sequence[FoundRegistry]]]

# The two that every account has, and how their names begin here.
_BASIC = {"SwrPrivate": "swr-private", "SwrShared": "swr-shared"}


class SwrAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Where an account's SWR is, and how it is known there.

    ``address`` is the management endpoint, by default that of the region. ``swr_project_id`` is
    the project in Huawei Cloud, which only the enterprise edition insists on.
    """

    region: str
    credential: RegistryCredential
    address: str = ""
    iam_address: str = ""
    swr_project_id: str = ""

    @property
    def url(self) -> str:
        """The management endpoint."""
        return self.address or f"https://swr-api.{self.region}.myhuaweicloud.com"

    @property
    def options(self) -> dict[str, Any]:
        """What all the kinds' options have in common."""
        given = {"iam_address": self.iam_address, "project_id": self.swr_project_id}
        return {name: value for name, value in given.items() if value}


class ConfiguredRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """A registry that SWR access opens; ``outcome`` is "added", "changed" or "unchanged"."""

    name: str
    kind: str
    outcome: str


class SwrAccounts:
    """The registries of a project that come with access to SWR."""

    def __init__(
        self, database: Database, seals: Seals, existing: Registries, finder: Finder
    ) -> None:
        self._database = database
        self._seals = seals
        self._registries = existing
        self._finder = finder

    async def instances(self, caller: Caller, access: SwrAccess) -> Sequence[FoundRegistry]:
        """List the account's instances of the enterprise edition.

        Raises:
            InvalidParameterError: the access cannot be, or names no project of Huawei Cloud.
            SourceError: SWR could not be asked.
        """
        if not access.swr_project_id:
            raise InvalidParameterError(
                "swr_project_id", "is needed for instances: the project's id in Huawei Cloud"
            )
        service = RegistryRef(
            id="",
            project_id=caller.project_id,
            name="",
            kind="SwrEnterprise",
            address=access.url,
            region=access.region,
            options=access.options,
            allow_private_networks=caller.is_operator,
        )
        return await self._finder(service, access.credential)

    async def configure(
        self, caller: Caller, access: SwrAccess, *, instances: bool = False
    ) -> list[ConfiguredRegistry]:
        """Have a registry for an account's own repositories and one for those shared with it.

        With ``instances`` there is one for each instance of the enterprise edition, too. What is
        there already, under whatever name, gets this credential and these options, if they are
        others; a second time nothing changes.

        Raises:
            InvalidParameterError: naming the parameter and what would be accepted.
            ConflictError: a name that a new registry would have is taken by another.
            SourceError: the instances could not be asked for; then nothing was changed.
        """
        found = await self.instances(caller, access) if instances else ()
        suffix = f"-{access.region}" if access.region else ""
        wanted = [_new(access, kind, f"{start}{suffix}") for kind, start in _BASIC.items()]
        wanted += [_of_instance(access, one) for one in found]
        known = await self._registries.list(caller)
        return [await self._have(caller, access.credential, one, known) for one in wanted]

    async def _have(
        self,
        caller: Caller,
        credential: RegistryCredential,
        wanted: NewRegistry,
        known: Sequence[RegistryStatus],
    ) -> ConfiguredRegistry:
        there = next((one for one in known if _is_same(one, wanted)), None)
        if there is None:
            await self._registries.add(caller, wanted, credential)
            return ConfiguredRegistry(name=wanted.name, kind=wanted.kind, outcome="added")
        changed = await self._change(caller, credential, wanted, there)
        outcome = "changed" if changed else "unchanged"
        return ConfiguredRegistry(name=there.name, kind=there.kind, outcome=outcome)

    async def _change(
        self,
        caller: Caller,
        credential: RegistryCredential,
        wanted: NewRegistry,
        there: RegistryStatus,
    ) -> bool:
        """Change what differs, and nothing else: every change holds the next retirements."""
        options = {**there.options, **wanted.options}
        async with self._database.tenant(caller.project_id) as tx:
            _, before = await registries.open_registry(
                tx, caller.project_id, there.id, seals=self._seals
            )
        if options == dict(there.options) and credential == before:
            return False
        await self._registries.change(
            caller,
            there.name,
            RegistryChange(options=options),
            credential if credential != before else None,
        )
        return True


def _new(access: SwrAccess, kind: str, name: str, **options: str) -> NewRegistry:
    return NewRegistry(
        name=name,
        kind=kind,
        address=access.url,
        region=access.region,
        options={**access.options, **options},
        allow_private_networks=True,
    )


def _of_instance(access: SwrAccess, found: FoundRegistry) -> NewRegistry:
    return _new(
        access,
        "SwrEnterprise",
        f"swr-{found.name}",
        instance_id=found.id,
        instance_name=found.name,
        instance_url=found.url,
    )


def _is_same(one: RegistryStatus, wanted: NewRegistry) -> bool:
    instances = {str(options.get("instance_id", "")) for options in (one.options, wanted.options)}
    return (one.kind, one.address) == (wanted.kind, wanted.address) and len(instances) == 1
