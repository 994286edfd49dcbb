"""The users of an account, its policies, and which user is granted which policy where."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from wharfinger.domain.errors import ConflictError, InvalidParameterError, NotFoundError
from wharfinger.domain.model import DEFAULT_ENTERPRISE_PROJECT, OURSELVES, Caller
from wharfinger.domain.policy import SYSTEM_POLICIES, Policy
from wharfinger.store import audit
from wharfinger.store.database import Connection, Database, all_rows, first_row
from wharfinger.store.named_sql import queries

_SQL = queries("identity")
_EPS = queries("enterprise_projects")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")

Kind = Literal["account", "user"]

# What is done to a user, as the audit calls it, and the query that does it.
_CHANGES = {"password": "set_password", "disable": "disable_user", "enable": "enable_user"}


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A user who wants to log in."""

    id: str
    account_id: str
    name: str
    kind: str
    password_hash: str | None
    disabled: bool

    def __repr__(self) -> str:
        return f"Principal(id={self.id!r}, account_id={self.account_id!r}, name={self.name!r})"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A policy by name; without a project it holds in all of the account's."""

    policy: str
    project: str | None


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user as people see it."""

    id: str
    name: str
    kind: str
    has_password: bool
    disabled: bool
    created_at: dt.datetime
    grants: Sequence[Grant]
    enterprise_projects: Sequence[str]  # by id; "*" for every one, later ones too


class NamedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy under its name; ``system`` ones are everybody's and nobody's to change."""

    name: str
    system: bool
    policy: Policy


class Principals:
    """The users and policies of every account.

    Each change is audited, in the account's own project, with whoever it is made ``by``.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, *, user_id: str | None = None, account_id: str | None = None, name: str | None = None
    ) -> Principal | None:
        """A user by id, or by name within an account."""
        values = {"id": user_id, "account": account_id, "name": name}
        async with self._database.system() as connection:
            row = await first_row(connection, _SQL["find_principal"], values)
        return None if row is None else Principal(**row)

    # --- users ----------------------------------------------------------------------------------

    async def create_user(
        self,
        account_id: str,
        name: str,
        *,
        kind: Kind,
        password_hash: str | None,
        grants: Sequence[Grant] = (),
        by: Caller = OURSELVES,
    ) -> str:
        """Make a user and return its id. Without a password it can only have access keys.

        Of the enterprise projects it is granted the default one.

        Raises:
            InvalidParameterError: the name is out of its range.
            ConflictError: the account has a user of that name.
            NotFoundError: a granted policy does not exist; then there is no user either.
        """
        _check_name("name", name)
        user_id = uuid.uuid4().hex
        values = {
            "id": user_id,
            "account": account_id,
            "name": name,
            "kind": kind,
            "password_hash": password_hash,
        }
        try:
            async with self._database.tenant(account_id) as connection:
                await connection.execute(_SQL["insert_user"], values)
                if kind == "user":
                    await connection.execute(
                        _EPS["grant"],
                        {
                            "account": account_id,
                            "principal": user_id,
                            "id": DEFAULT_ENTERPRISE_PROJECT,
                        },
                    )
                for one in grants:
                    await _grant(connection, account_id, user_id, one)
                await _record_user(
                    connection,
                    by,
                    "create",
                    user_id,
                    name,
                    kind=kind,
                    grants=[msgspec.structs.asdict(one) for one in grants],
                )
        except psycopg.errors.UniqueViolation as exc:
            raise ConflictError(f"the account has a user {name!r} already") from exc
        return user_id

    async def list_users(self, account_id: str) -> list[User]:
        """An account's users, oldest first."""
        async with self._database.tenant(account_id) as connection:
            rows = await all_rows(connection, _SQL["list_users"])
        return [msgspec.convert(row, User) for row in rows]

    async def set_password(
        self, account_id: str, name: str, password_hash: str, *, by: Caller = OURSELVES
    ) -> None:
        """Give a user another password; tokens issued before end with the old one.

        Raises:
            NotFoundError: the account has no such user.
        """
        await self._change("password", account_id, name, by, password_hash=password_hash)

    async def disable_user(self, account_id: str, name: str, *, by: Caller = OURSELVES) -> None:
        """Close a user: no login, and neither tokens nor access keys work.

        Raises:
            NotFoundError: the account has no such user.
        """
        await self._change("disable", account_id, name, by)

    async def enable_user(self, account_id: str, name: str, *, by: Caller = OURSELVES) -> None:
        """Open a user again; its tokens from before stay closed.

        Raises:
            NotFoundError: the account has no such user.
        """
        await self._change("enable", account_id, name, by)

    async def _change(
        self, what: str, account_id: str, name: str, by: Caller, **values: object
    ) -> None:
        async with self._database.tenant(account_id) as connection:
            row = await first_row(connection, _SQL[_CHANGES[what]], {"name": name, **values})
            if row is None:
                raise _no_user(name)
            await _record_user(connection, by, what, row["id"], name)

    # --- what they may do -------------------------------------------------------------------------

    async def grant(
        self,
        account_id: str,
        user_name: str,
        policy: str,
        project_id: str | None,
        *,
        by: Caller = OURSELVES,
    ) -> None:
        """Grant a policy in one project, or in every project of the account.

        Raises:
            NotFoundError: the account has no such user or policy.
        """
        async with self._database.tenant(account_id) as connection:
            user_id = await _user_id(connection, user_name)
            grant = Grant(policy=policy, project=project_id)
            await _grant(connection, account_id, user_id, grant)
            await _record_user(
                connection, by, "grant", user_id, user_name, policy=policy, project=project_id
            )

    async def revoke(
        self,
        account_id: str,
        user_name: str,
        policy: str,
        project_id: str | None,
        *,
        by: Caller = OURSELVES,
    ) -> None:
        """Take a grant back, exactly as it was given.

        Raises:
            NotFoundError: there is no such grant.
        """
        async with self._database.tenant(account_id) as connection:
            user_id = await _user_id(connection, user_name)
            values = {"user": user_id, "policy": policy, "project": project_id}
            if await first_row(connection, _SQL["delete_grant"], values) is None:
                where = f"in project {project_id!r}" if project_id else "in all projects"
                raise NotFoundError(f"{user_name!r} is not granted {policy!r} {where}")
            await _record_user(
                connection, by, "revoke", user_id, user_name, policy=policy, project=project_id
            )

    async def create_policy(
        self, account_id: str, name: str, policy: Policy, *, by: Caller = OURSELVES
    ) -> None:
        """Keep a policy under a name of the account's own.

        Raises:
            InvalidParameterError: the name is out of its range.
            ConflictError: the name is taken, or is a system policy's.
        """
        _check_name("name", name)
        if name in SYSTEM_POLICIES:
            raise ConflictError(f"{name!r} is a system policy")
        document = Jsonb(msgspec.to_builtins(policy))
        values = {"account": account_id, "name": name, "document": document}
        try:
            async with self._database.tenant(account_id) as connection:
                await connection.execute(_SQL["insert_policy"], values)
                await audit.record(
                    connection,
                    by,
                    "policy.create",
                    target=f"policy {name}",
                    details={"statements": msgspec.to_builtins(policy.statement)},
                )
        except psycopg.errors.UniqueViolation as exc:
            raise ConflictError(f"the account has a policy {name!r} already") from exc

    async def list_policies(self, account_id: str) -> list[NamedPolicy]:
        """The system's policies, then the account's own."""
        async with self._database.tenant(account_id) as connection:
            rows = await all_rows(connection, _SQL["list_policies"])
        system = [
            NamedPolicy(name=name, system=True, policy=policy)
            for name, policy in SYSTEM_POLICIES.items()
        ]
        return system + [_named(row) for row in rows]

    async def delete_policy(self, account_id: str, name: str, *, by: Caller = OURSELVES) -> None:
        """Delete a policy that nobody is granted.

        Raises:
            NotFoundError: the account has no such policy of its own.
            ConflictError: somebody is granted it; a Deny must not vanish unnoticed.
        """
        async with self._database.tenant(account_id) as connection:
            # Waits for grants under way, which hold the row.
            if await first_row(connection, _SQL["drop_policy"], {"name": name}) is None:
                raise NotFoundError(f"the account has no policy {name!r} of its own")
            granted = await first_row(connection, _SQL["is_granted"], {"name": name})
            if granted is not None and granted["exists"]:
                raise ConflictError(f"the policy {name!r} is granted; revoke it first")
            await audit.record(connection, by, "policy.delete", target=f"policy {name}")


async def _record_user(
    tx: Connection, by: Caller, what: str, user_id: str, name: str, **details: object
) -> None:
    target = f"user {user_id}"
    await audit.record(tx, by, f"user.{what}", target=target, name=name, details=details)


async def _user_id(connection: Connection, name: str) -> str:
    row = await first_row(connection, _SQL["find_user"], {"name": name})
    if row is None:
        raise _no_user(name)
    return str(row["id"])


async def _grant(connection: Connection, account_id: str, user_id: str, grant: Grant) -> None:
    if grant.policy not in SYSTEM_POLICIES:
        await _lock_policy(connection, grant.policy)
    values = msgspec.structs.asdict(grant)
    await connection.execute(
        _SQL["insert_grant"], {"account": account_id, "user": user_id, **values}
    )


async def _lock_policy(connection: Connection, name: str) -> None:
    if await first_row(connection, _SQL["lock_policy"], {"policy": name}) is None:
        raise NotFoundError(f"there is no policy {name!r}; see them with: wharfinger policy list")


def _named(row: Mapping[str, Any]) -> NamedPolicy:
    policy = msgspec.convert(row["document"], Policy)
    return NamedPolicy(name=row["name"], system=False, policy=policy)


def _no_user(name: str) -> NotFoundError:
    return NotFoundError(f"the account has no user {name!r}")


def _check_name(parameter: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidParameterError(
            parameter,
            "must be 1 to 64 letters, digits, blanks and . _ @ -, beginning with a letter or digit",
        )
