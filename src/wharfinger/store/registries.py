"""Registries of a project: their configuration, sealed credentials, and what is known of each."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from wharfinger.domain.errors import ConflictError, NotFoundError
from wharfinger.domain.model import (
    DEFAULT_ENTERPRISE_PROJECT,
    Caller,
    Reason,
    RegistryCredential,
    RegistryRef,
    RepositoryFilter,
    TwoStrikes,
    VerdictState,
)
from wharfinger.store.database import Connection
from wharfinger.store.named_sql import queries
from wharfinger.store.writing import Tally, conclude, hide, prepare_workspace

_SQL = queries("registries")
_RUNS = queries("runs")
_WRITING = queries("writing")
_HELD = queries("held")


class Seals(Protocol):
    """Encrypts what must be readable again; bound to a context that must be given back."""

    def seal(self, plaintext: str, *, context: bytes) -> bytes:
        """Seal a secret for one place."""
        ...

    def unseal(self, sealed: bytes, *, context: bytes) -> str:
        """Give the secret back, in the same place only."""
        ...


class RegistryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A registry as people see it; never its secret.

    ``requests`` and ``seconds`` are the last sync's cost. ``flickers`` counts images that were
    retired and came back unchanged within a day; ``hinted_at`` is when it last sent a notification.
    """

    id: str
    name: str
    kind: str
    address: str
    region: str
    enterprise_project_id: str
    options: Mapping[str, Any]
    include: Sequence[str]
    exclude: Sequence[str]
    stale_after_s: int
    two_strikes: str
    flickers: int
    credential_kind: str
    credential_identity: str
    credential_reference: str | None
    takes_hints: bool
    hinted_at: dt.datetime | None
    verdict: str
    verdict_reasons: Sequence[Mapping[str, Any]]
    confirmed_at: dt.datetime | None
    read_at: dt.datetime | None
    fingerprint_lies: int
    repositories: int
    images: int
    held: int
    requests: int | None
    seconds: float | None


class RepositoryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A repository with how much its stored list can be believed.

    ``confirmed_at``: right as of then, by reading or by fingerprint; ``read_at``: read as of then.
    ``requests`` and ``seconds`` are the cost of the last reading that changed something here.
    """

    id: int
    namespace: str
    name: str
    verdict: VerdictState
    reason: Reason | None
    confirmed_at: dt.datetime | None
    read_at: dt.datetime | None
    images: int
    held: int
    requests: int | None
    seconds: float | None


class RegistryChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be different about a registry; ``None`` leaves it as it is."""

    address: str | None = None
    enterprise_project_id: str | None = None
    options: Mapping[str, Any] | None = None
    include: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    stale_after: dt.timedelta | None = None
    two_strikes: TwoStrikes | None = None
    ca_pem: str | None = None
    hss: Mapping[str, str] | None = None  # is laid over what stands there


class RegistrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """A registry's configuration without its secret."""

    name: str
    kind: str
    address: str
    enterprise_project_id: str
    options: Mapping[str, Any]
    include: Sequence[str]
    exclude: Sequence[str]
    stale_after: dt.timedelta
    two_strikes: str
    ca_pem: str | None
    hss: Mapping[str, str]
    credential_kind: str
    credential_identity: str


class NewRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a registry that is to be added."""

    name: str
    kind: str
    address: str
    region: str = ""
    enterprise_project_id: str = DEFAULT_ENTERPRISE_PROJECT
    options: Mapping[str, Any] = {}
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    # A complete list older than this is stale.
    stale_after: dt.timedelta = dt.timedelta(hours=26)
    ca_pem: str | None = None
    allow_private_networks: bool = False
    # What HSS's API tells of a registry and wants to hear again, though nothing here needs it.
    hss: Mapping[str, str] = {}


async def add_registry(
    tx: Connection,
    project_id: str,
    new: NewRegistry,
    credential: RegistryCredential,
    *,
    seals: Seals,
) -> str:
    """Store a registry and its credential; returns its id.

    Raises:
        ConflictError: the project has a registry of that name.
        NotFoundError: there is no such project.
    """
    registry_id = str(uuid.uuid4())
    sealed = _sealed(project_id, registry_id, credential, seals)
    parameters = {
        **msgspec.structs.asdict(new),
        "include": list(new.include),
        "exclude": list(new.exclude),
        "id": registry_id,
        "project": project_id,
        "options": Jsonb(dict(new.options)),
        "hss": Jsonb(dict(new.hss)),
        "credential_kind": credential.kind,
        "credential_identity": credential.identity,
        "sealed": sealed,
        "reference": credential.reference or None,
    }
    try:
        await tx.execute(_SQL["insert"], parameters)
    except psycopg.errors.UniqueViolation as exc:
        raise ConflictError(f"the project has a registry named {new.name!r} already") from exc
    except psycopg.errors.ForeignKeyViolation as exc:
        raise NotFoundError(f"there is no project {project_id!r}") from exc
    return registry_id


async def open_registry(
    tx: Connection, project_id: str, registry_id: str, *, seals: Seals
) -> tuple[RegistryRef, RegistryCredential]:
    """A registry with its credential in the clear, for the worker about to read it.

    Raises:
        NotFoundError: the registry does not exist or has been removed.
    """
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["open"], {"registry": registry_id})
        row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"there is no registry {registry_id}")
    sealed = row.pop("credential_sealed")
    secret = ""
    if sealed is not None:
        context = registry_context(project_id, registry_id)
        secret = seals.unseal(bytes(sealed), context=context)
    credential = RegistryCredential(
        kind=row.pop("credential_kind"),
        identity=row.pop("credential_identity"),
        secret=secret,
        reference=row.pop("credential_reference") or "",
    )
    return RegistryRef(**{**row, "id": str(row["id"])}), credential


async def list_registries(tx: Connection, caller: Caller) -> list[RegistryStatus]:
    """Every registry that the caller may see, by name."""
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["list"], seen_by(caller))
        return [RegistryStatus(**{**row, "id": str(row["id"])}) for row in await cursor.fetchall()]


async def select_registries(
    tx: Connection, caller: Caller, *, kind: str | None = None, names: Sequence[str] = ()
) -> list[tuple[str, str, str, str]]:
    """(id, name, kind, enterprise project) of registries the caller may see, by kind and name."""
    values = {**seen_by(caller), "kind": kind, "names": list(names) or None}
    cursor = await tx.execute(_SQL["select"], values)
    return [(str(i), n, k, e) for i, n, k, e in await cursor.fetchall()]


async def settings_of(tx: Connection, registry_id: str) -> RegistrySettings:
    """A registry's configuration, locked for the change that is to come.

    Raises:
        NotFoundError: the registry does not exist or has been removed.
    """
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["configuration"], {"registry": registry_id})
        row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"there is no registry {registry_id}")
    return RegistrySettings(**row)


async def change_registry(
    tx: Connection,
    project_id: str,
    registry_id: str,
    after: RegistrySettings,
    *,
    generations: int,
    wanted: RepositoryFilter,
    stays_private: bool = True,
) -> int:
    """Store a changed configuration, and hide what its filter leaves out; returns the images.

    ``generations`` is 1 where the change decides what a listing contains, else 0. Unless it
    ``stays_private``, the registry may reach public addresses only from now on.
    """
    await tx.execute(
        _SQL["change"],
        {
            **msgspec.structs.asdict(after),
            "registry": registry_id,
            "options": Jsonb(dict(after.options)),
            "hss": Jsonb(dict(after.hss)),
            "include": list(after.include),
            "exclude": list(after.exclude),
            "generations": generations,
            "stays_private": stays_private,
        },
    )
    cursor = await tx.execute(_SQL["named_repositories"], {"registry": registry_id})
    outside = [row[0] for row in await cursor.fetchall() if not wanted.covers(row[1], row[2])]
    if not outside:
        return 0
    scope = {"project": project_id, "registry": registry_id, "run": None}
    hidden = await hide(tx, scope, outside)
    await tx.execute(_HELD["count_registry"], scope)
    return hidden


async def change_credential(
    tx: Connection,
    project_id: str,
    registry_id: str,
    credential: RegistryCredential,
    *,
    seals: Seals,
) -> None:
    """Store another credential for a registry."""
    await tx.execute(
        _SQL["change_credential"],
        {
            "registry": registry_id,
            "kind": credential.kind,
            "identity": credential.identity,
            "sealed": _sealed(project_id, registry_id, credential, seals),
            "reference": credential.reference or None,
        },
    )


async def list_repositories(
    tx: Connection, registry_id: str, *, verdict: str | None, after: int, limit: int
) -> list[RepositoryStatus]:
    """Repositories of a registry whose ids follow ``after``, with their verdicts."""
    cursor = await tx.execute(
        _SQL["repositories"],
        {"registry": registry_id, "verdict": verdict, "after": after, "limit": limit},
    )
    return [_repository_status(row) for row in await cursor.fetchall()]


async def remove_registry(tx: Connection, project_id: str, registry_id: str) -> int:
    """Retire a registry's images and close it, all at once; returns how many were retired.

    Its history stays, its secret goes, and whatever still reads it can write nothing more.
    """
    scope = {"project": project_id, "registry": registry_id, "run": None}
    await tx.execute(_RUNS["lock_registry"], scope)
    # Batches under way take repositories before their run; so must this.
    cursor = await tx.execute(_SQL["lock_all_repositories"], scope)
    repositories = [row[0] for row in await cursor.fetchall()]
    reason = Reason(code="removed", message="the registry was removed")
    stop = {**scope, "reasons": Jsonb(msgspec.to_builtins([reason]))}
    await tx.execute(_SQL["stop_runs"], stop)
    parameters = {**scope, "repositories": repositories}
    await prepare_workspace(tx)
    await tx.execute(_RUNS["absent_images"], parameters)
    await tx.execute(_WRITING["retire"], parameters)
    await tx.execute(_RUNS["retire_repositories"], parameters)
    tally = Tally()
    await conclude(tx, scope, tally)
    await tx.execute(_SQL["remove"], scope)
    return tally.retired


def seen_by(caller: Caller) -> dict[str, Any]:
    """The values of a query's first wall: whose registries, and of which enterprise projects."""
    return {
        "project": caller.project_id,
        "enterprise_projects": list(caller.enterprise_projects),
    }


def _repository_status(row: Sequence[Any]) -> RepositoryStatus:
    return RepositoryStatus(
        id=row[0],
        namespace=row[1],
        name=row[2],
        verdict=VerdictState(row[3]),
        reason=msgspec.convert(row[4], Reason) if row[4] is not None else None,
        confirmed_at=row[5],
        read_at=row[6],
        images=row[7],
        held=row[8],
        requests=row[9],
        seconds=row[10],
    )


def _sealed(
    project_id: str, registry_id: str, credential: RegistryCredential, seals: Seals
) -> bytes | None:
    if not credential.secret or credential.reference:
        return None
    return seals.seal(credential.secret, context=registry_context(project_id, registry_id))


def registry_context(project_id: str, registry_id: str) -> bytes:
    """Where the secret of a registry is at home."""
    # A sealed secret copied into another tenant's row does not open there.
    return f"registry/{project_id}/{registry_id}".encode()
