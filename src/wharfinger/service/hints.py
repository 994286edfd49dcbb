"""Hints: a registry says that something happened in a repository, and it is read at once."""

from __future__ import annotations

import secrets
import uuid

import msgspec

from wharfinger.domain.errors import InvalidParameterError, NotAuthenticatedError, NotFoundError
from wharfinger.domain.model import Caller
from wharfinger.sources import read_notification, sends_notifications, wanted_repositories
from wharfinger.store import audit, hints, registries
from wharfinger.store.database import Database
from wharfinger.sync.engine import Jobs


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a notification: how many repositories it named, and how much was ignored."""

    repositories: int
    ignored: int


class NewHintToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token for a registry's notifications, shown once, and the path to send them to."""

    token: str
    path: str

    def __repr__(self) -> str:
        return f"NewHintToken(path={self.path!r}, token=***)"


class Hints:
    """Notifications of registries, and who may send them."""

    def __init__(self, database: Database, jobs: Jobs) -> None:
        self._database = database
        self._jobs = jobs

    async def make_token(self, caller: Caller, name: str) -> NewHintToken:
        """Make the token of a registry's notifications; an earlier one holds no longer.

        Raises:
            NotFoundError: there is no registry of that name.
            InvalidParameterError: registries of its kind send no notifications we can read.
        """
        token = secrets.token_urlsafe(32)
        registry_id = await self._set_token(caller, name, token)
        path = f"/api/v1/projects/{caller.project_id}/registries/{registry_id}/notifications"
        return NewHintToken(token=token, path=path)

    async def revoke_token(self, caller: Caller, name: str) -> None:
        """Let no notification of a registry in any more.

        Raises:
            NotFoundError: there is no registry of that name.
        """
        await self._set_token(caller, name, None)

    async def _set_token(self, caller: Caller, name: str, token: str | None) -> str:
        async with self._database.tenant(caller.project_id) as tx:
            found = await registries.select_registries(tx, caller, names=[name])
            if not found:
                raise NotFoundError(f"there is no registry named {name!r}")
            registry_id, _, kind, _ = found[0]
            if token is not None and not sends_notifications(kind):
                raise InvalidParameterError("name", f"{kind} registries send no notifications")
            await hints.set_token(tx, registry_id, token)
            await audit.record(
                tx,
                caller,
                "registry.hint_token",
                target=f"registry {registry_id}",
                outcome="made" if token else "revoked",
                details={"name": name},
            )
        return registry_id

    async def receive(
        self, token: str | None, project_id: str, registry_id: str, body: bytes
    ) -> Receipt:
        """Have read what a notification names.

        Raises:
            NotAuthenticatedError: the token is not this registry's.
            InvalidParameterError: the body is no notification of the registry's kind.
        """
        registry = await self._sender(token, project_id, registry_id)
        told = read_notification(registry.kind, body)
        wanted = wanted_repositories(
            registry.kind, registry.options, include=registry.include, exclude=registry.exclude
        )
        named = sorted(r for r in told.repositories if wanted.covers(r.namespace, r.name))
        async with self._database.tenant(registry.project_id) as tx:
            run = await hints.receive(tx, registry.project_id, registry.registry_id, named)
            if run is not None and run.start:
                await self._jobs.plan(
                    tx,
                    project_id=registry.project_id,
                    run_id=run.id,
                    registry_id=registry.registry_id,
                    hinted=True,
                )
            if run is not None and run.units:
                await self._jobs.read(
                    tx,
                    project_id=registry.project_id,
                    run_id=run.id,
                    units=run.units,
                    hinted=True,
                )
        unwanted = len(told.repositories) - len(named)
        return Receipt(repositories=len(named), ignored=told.ignored + unwanted)

    async def _sender(
        self, token: str | None, project_id: str, registry_id: str
    ) -> hints.HintedRegistry:
        if not token:
            raise NotAuthenticatedError(
                "notifications need Authorization: Bearer TOKEN", reason="no_credentials"
            )
        async with self._database.system() as tx:
            found = await hints.find_token(tx, token)
        # One answer for every mismatch: nobody learns which registries there are.
        if (
            found is None
            or found.project_id != project_id
            or found.registry_id != _canonical(registry_id)
        ):
            raise NotAuthenticatedError(
                "the token is not that of this registry's notifications", reason="unknown_token"
            )
        return found


def _canonical(registry_id: str) -> str | None:
    try:
        return str(uuid.UUID(registry_id))
    except ValueError:
        return None
