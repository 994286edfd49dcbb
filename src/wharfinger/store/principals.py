"""The users of an account, its policies, and which user is granted which policy where."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from wharfinger.domain.errors import ConflictError, InvalidParameterError, NotFoundError
from wharfinger.domain.model import DEFAULT_ENTERPRISE_PROJECT, OURSELVES, Caller
from wharfinger.domain.policy import ADMINISTRATOR, SYSTEM_POLICIES, Policy
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


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """The users of an account with the policies that may be granted to them, by name."""

    users: Sequence[User]
    policies: Mapping[str, Policy]

    def policies_of(self, user: User, project_id: str | None) -> tuple[Policy, ...]:
        """What a user holds in a project; for ``None``, in every project there may be."""
        if user.kind == "account":
            return (ADMINISTRATOR,)
        held = [one.policy for one in user.grants if one.project in (None, project_id)]
        # One that is gone was taken back from everybody before.
        return tuple(self.policies[name] for name in held if name in self.policies)


# What must hold of an account's users before one is changed; raises where it does not.
Check = Callable[[Roster], None]


class Principals:
    """The users and policies of every account.

    Each change is audited, in the account's own project, with whoever it is made ``by``. A
    ``check`` is made in the change's own transaction, and no other change comes in between.
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
        enterprise_projects: Sequence[str] = (DEFAULT_ENTERPRISE_PROJECT,),
        by: Caller = OURSELVES,
        check: Check | None = None,
    ) -> str:
        """Make a user and return its id. Without a password it can only have access keys.

        Of the enterprise projects it is granted the default one, unless others are named; ``*``
        stands for every one. An account's user sees all of them without that.

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
            async with self._changing(account_id, check) as connection:
                await connection.execute(_SQL["insert_user"], values)
                seen = enterprise_projects if kind == "user" else ()
                await _show(connection, account_id, user_id, seen)
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
                    eps=list(seen),
                )
        except psycopg.errors.UniqueViolation as exc:
            raise ConflictError(f"the account has a user {name!r} already") from exc
        return user_id

    async def list_users(self, account_id: str) -> list[User]:
        """An account's users, oldest first."""
        async with self._database.tenant(account_id) as connection:
            return await _users(connection, account_id)

    async def roster(self, account_id: str) -> Roster:
        """An account's users and policies, as they are at one moment."""
        async with self._database.snapshot(account_id) as connection:
            return await _roster(connection, account_id)

    async def set_password(
        self,
        account_id: str,
        name: str,
        password_hash: str,
        *,
        by: Caller = OURSELVES,
        check: Check | None = None,
    ) -> None:
        """Give a user another password; tokens issued before end with the old one.

        Raises:
            NotFoundError: the account has no such user.
        """
        await self._change("password", account_id, name, by, check, password_hash=password_hash)

    async def disable_user(
        self,
        account_id: str,
        name: str,
        *,
        by: Caller = OURSELVES,
        check: Check | None = None,
    ) -> None:
        """Close a user: no login, and neither tokens nor access keys work.

        Raises:
            NotFoundError: the account has no such user.
        """
        await self._change("disable", account_id, name, by, check)

    async def enable_user(
        self,
        account_id: str,
        name: str,
        *,
        by: Caller = OURSELVES,
        check: Check | None = None,
    ) -> None:
        """Open a user again; its tokens from before stay closed.

        Raises:
            NotFoundError: the account has no such user.
        """
        await self._change("enable", account_id, name, by, check)

    async def _change(
        self,
        what: str,
        account_id: str,
        name: str,
        by: Caller,
        check: Check | None,
        **values: object,
    ) -> None:
        given = {"account": account_id, "name": name, **values}
        async with self._changing(account_id, check) as connection:
            row = await first_row(connection, _SQL[_CHANGES[what]], given)
            if row is None:
                raise no_user(name)
            await _record_user(connection, by, what, row["id"], name)

    @contextlib.asynccontextmanager
    async def _changing(self, account_id: str, check: Check | None) -> AsyncIterator[Connection]:
        async with self._database.tenant(account_id) as connection:
            if check is not None:
                await connection.execute(_SQL["lock_users"], {"account": account_id})
                check(await _roster(connection, account_id))
            yield connection

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
            user_id = await _user_id(connection, account_id, user_name)
            grant = Grant(policy=policy, project=project_id)
            await _grant(connection, account_id, user_id, grant)
            await _record_grant(connection, by, "grant", user_id, user_name, grant)

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
            user_id = await _user_id(connection, account_id, user_name)
            grant = Grant(policy=policy, project=project_id)
            if not await _revoke(connection, account_id, user_id, grant):
                where = f"in project {project_id!r}" if project_id else "in all projects"
                raise NotFoundError(f"{user_name!r} is not granted {policy!r} {where}")
            await _record_grant(connection, by, "revoke", user_id, user_name, grant)

    async def set_grants(
        self,
        account_id: str,
        user_name: str,
        project_id: str,
        policies: Collection[str],
        *,
        by: Caller = OURSELVES,
        check: Check | None = None,
    ) -> None:
        """Grant these policies in one project, and take back all others granted there.

        Raises:
            NotFoundError: the account has no such user or policy; then nothing is changed.
        """
        async with self._changing(account_id, check) as connection:
            user_id = await _user_id(connection, account_id, user_name)
            values = {"account": account_id, "user": user_id, "project": project_id}
            rows = await all_rows(connection, _SQL["granted_in"], values)
            held = {row["policy"] for row in rows}
            for name in sorted(set(policies) - held):
                grant = Grant(policy=name, project=project_id)
                await _grant(connection, account_id, user_id, grant)
                await _record_grant(connection, by, "grant", user_id, user_name, grant)
            for name in sorted(held - set(policies)):
                grant = Grant(policy=name, project=project_id)
                await _revoke(connection, account_id, user_id, grant)
                await _record_grant(connection, by, "revoke", user_id, user_name, grant)

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
            rows = await _own_policies(connection, account_id)
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
        values = {"account": account_id, "name": name}
        async with self._database.tenant(account_id) as connection:
            # Waits for grants under way, which hold the row.
            if await first_row(connection, _SQL["drop_policy"], values) is None:
                raise NotFoundError(f"the account has no policy {name!r} of its own")
            granted = await first_row(connection, _SQL["is_granted"], values)
            if granted is not None and granted["exists"]:
                raise ConflictError(f"the policy {name!r} is granted; revoke it first")
            await audit.record(connection, by, "policy.delete", target=f"policy {name}")


async def _record_user(
    tx: Connection, by: Caller, what: str, user_id: str, name: str, **details: object
) -> None:
    target = f"user {user_id}"
    await audit.record(tx, by, f"user.{what}", target=target, name=name, details=details)


async def _record_grant(
    tx: Connection, by: Caller, what: str, user_id: str, name: str, grant: Grant
) -> None:
    await _record_user(tx, by, what, user_id, name, policy=grant.policy, project=grant.project)


async def _users(connection: Connection, account_id: str) -> list[User]:
    rows = await all_rows(connection, _SQL["list_users"], {"account": account_id})
    return [msgspec.convert(row, User) for row in rows]


async def _own_policies(connection: Connection, account_id: str) -> list[dict[str, Any]]:
    return await all_rows(connection, _SQL["list_policies"], {"account": account_id})


async def _roster(connection: Connection, account_id: str) -> Roster:
    # In this order: what somebody is granted by now was made before.
    users = await _users(connection, account_id)
    own = [_named(row) for row in await _own_policies(connection, account_id)]
    return Roster(
        users=users,
        policies={**SYSTEM_POLICIES, **{one.name: one.policy for one in own}},
    )


async def _show(
    connection: Connection, account_id: str, user_id: str, enterprise_projects: Sequence[str]
) -> None:
    for one in enterprise_projects:
        wanted = None if one == "*" else one
        values = {"account": account_id, "principal": user_id, "id": wanted}
        await connection.execute(_EPS["grant"], values)


async def _user_id(connection: Connection, account_id: str, name: str) -> str:
    row = await first_row(connection, _SQL["find_user"], {"account": account_id, "name": name})
    if row is None:
        raise no_user(name)
    return str(row["id"])


async def _grant(connection: Connection, account_id: str, user_id: str, grant: Grant) -> None:
    if grant.policy not in SYSTEM_POLICIES:
        await _lock_policy(connection, account_id, grant.policy)
    values = msgspec.structs.asdict(grant)
    await connection.execute(
        _SQL["insert_grant"], {"account": account_id, "user": user_id, **values}
    )


async def _revoke(connection: Connection, account_id: str, user_id: str, grant: Grant) -> bool:
    values = {"account": account_id, "user": user_id, **msgspec.structs.asdict(grant)}
    return await first_row(connection, _SQL["delete_grant"], values) is not None


async def _lock_policy(connection: Connection, account_id: str, name: str) -> None:
    values = {"account": account_id, "policy": name}
    if await first_row(connection, _SQL["lock_policy"], values) is None:
        raise NotFoundError(f"there is no policy {name!r}; see them with: wharfinger policy list")


def _named(row: Mapping[str, Any]) -> NamedPolicy:
    policy = msgspec.convert(row["document"], Policy)
    return NamedPolicy(name=row["name"], system=False, policy=policy)


def no_user(name: str) -> NotFoundError:
    """The one answer for a user who is not there and for one whom the caller may not see."""
    return NotFoundError(f"the account has no user {name!r}")


def _check_name(parameter: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidParameterError(
            parameter,
            "must be 1 to 64 letters, digits, blanks and . _ @ -, beginning with a letter or digit",
        )
