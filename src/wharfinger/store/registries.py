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
    Reason,
    RegistryCredential,
    RegistryRef,
)
from wharfinger.store.database import Connection
from wharfinger.store.named_sql import queries
from wharfinger.store.writing import Tally, conclude, prepare_workspace

_SQL = queries("registries")
_RUNS = queries("runs")
_WRITING = queries("writing")


class Seals(Protocol):
    """Encrypts what must be readable again; bound to a context that must be given back."""

    def seal(self, plaintext: str, *, context: bytes) -> bytes:
        """Seal a secret for one place."""
        ...

    def unseal(self, sealed: bytes, *, context: bytes) -> str:
        """Give the secret back, in the same place only."""
        ...


class RegistryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A registry as people see it; never its secret."""

    id: str
    name: str
    kind: str
    address: str
    region: str
    enterprise_project_id: str
    options: Mapping[str, Any]
    credential_kind: str
    credential_identity: str
    verdict: str
    verdict_reasons: Sequence[Mapping[str, Any]]
    confirmed_at: dt.datetime | None
    read_at: dt.datetime | None
    fingerprint_lies: int
    repositories: int
    images: int
    held: int


class NewRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a registry that is to be added."""

    name: str
    kind: str
    address: str
    region: str = ""
    enterprise_project_id: str = DEFAULT_ENTERPRISE_PROJECT
    options: Mapping[str, Any] = {}
    ca_pem: str | None = None
    allow_private_networks: bool = False


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
    sealed = None
    if credential.secret:
        context = registry_context(project_id, registry_id)
        sealed = seals.seal(credential.secret, context=context)
    parameters = {
        **msgspec.structs.asdict(new),
        "id": registry_id,
        "project": project_id,
        "options": Jsonb(dict(new.options)),
        "credential_kind": credential.kind,
        "credential_identity": credential.identity,
        "sealed": sealed,
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
        kind=row.pop("credential_kind"), identity=row.pop("credential_identity"), secret=secret
    )
    return RegistryRef(**{**row, "id": str(row["id"])}), credential


async def list_registries(tx: Connection) -> list[RegistryStatus]:
    """Every registry of the transaction's tenant, by name."""
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["list"])
        return [RegistryStatus(**{**row, "id": str(row["id"])}) for row in await cursor.fetchall()]


async def select_registries(
    tx: Connection, *, kind: str | None = None, names: Sequence[str] = ()
) -> list[tuple[str, str, str, str]]:
    """(id, name, kind, enterprise project) of registries, by kind and by name."""
    cursor = await tx.execute(_SQL["select"], {"kind": kind, "names": list(names) or None})
    return [(str(i), n, k, e) for i, n, k, e in await cursor.fetchall()]


async def relocate(tx: Connection, registry_id: str, address: str) -> None:
    """Change the address; a new generation of the configuration begins."""
    await tx.execute(_SQL["relocate"], {"registry": registry_id, "address": address})


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


def registry_context(project_id: str, registry_id: str) -> bytes:
    """Where the secret of a registry is at home."""
    # A sealed secret copied into another tenant's row does not open there.
    return f"registry/{project_id}/{registry_id}".encode()
