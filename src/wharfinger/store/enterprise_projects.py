"""Enterprise projects of an account: which there are, and who is granted which."""

from __future__ import annotations

import datetime as dt
import uuid

import msgspec
import psycopg

from wharfinger.domain.errors import ConflictError, NotFoundError
from wharfinger.domain.model import DEFAULT_ENTERPRISE_PROJECT, Caller
from wharfinger.store.database import Connection, all_rows, first_row, only_row
from wharfinger.store.named_sql import queries

_SQL = queries("enterprise_projects")


class EnterpriseProject(msgspec.Struct, frozen=True, kw_only=True):
    """An enterprise project. A disabled one takes no registry in; what it holds stays."""

    id: str
    name: str
    disabled: bool
    created_at: dt.datetime | None  # of the default one it is not known: it always was


class EnterpriseGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A user who is granted an enterprise project, or ``every`` one."""

    user: str
    every: bool


DEFAULT = EnterpriseProject(
    id=DEFAULT_ENTERPRISE_PROJECT, name="default", disabled=False, created_at=None
)


async def list_all(tx: Connection, account_id: str) -> list[EnterpriseProject]:
    """Every enterprise project of the account, the default one first."""
    rows = await all_rows(tx, _SQL["list"], {"account": account_id})
    return [DEFAULT, *(EnterpriseProject(**row) for row in rows)]


async def insert(tx: Connection, account_id: str, name: str) -> EnterpriseProject:
    """Make one under an id of its own.

    Raises:
        ConflictError: the account has one of that name.
    """
    values = {"account": account_id, "id": str(uuid.uuid4()), "name": name}
    try:
        return EnterpriseProject(**await only_row(tx, _SQL["insert"], values))
    except psycopg.errors.UniqueViolation as exc:
        raise _name_taken(name) from exc


async def change(
    tx: Connection, account_id: str, wanted: str, *, name: str | None, disabled: bool | None
) -> EnterpriseProject:
    """Change what is given.

    Raises:
        NotFoundError: the account has no such enterprise project of its own making.
        ConflictError: the account has another one of that name.
    """
    values = {"account": account_id, "id": wanted, "name": name, "disabled": disabled}
    try:
        row = await first_row(tx, _SQL["change"], values)
    except psycopg.errors.UniqueViolation as exc:
        raise _name_taken(str(name)) from exc
    if row is None:
        raise not_found(wanted)
    return EnterpriseProject(**row)


async def grants(tx: Connection, account_id: str, wanted: str) -> list[EnterpriseGrant]:
    """Who is granted an enterprise project, by that one's id or with every one."""
    rows = await all_rows(tx, _SQL["grants"], {"account": account_id, "id": wanted})
    return [EnterpriseGrant(**row) for row in rows]


async def grant(tx: Connection, account_id: str, wanted: str | None, user: str) -> None:
    """Grant a user an enterprise project; ``None`` stands for every one, later ones too.

    Raises:
        NotFoundError: the account has no such user.
    """
    principal = await _user(tx, account_id, user)
    await tx.execute(_SQL["grant"], {"account": account_id, "id": wanted, "principal": principal})


async def revoke(tx: Connection, account_id: str, wanted: str | None, user: str) -> None:
    """Take a grant back, exactly as it was given.

    Raises:
        NotFoundError: the account has no such user, or the user no such grant.
    """
    principal = await _user(tx, account_id, user)
    values = {"account": account_id, "id": wanted, "principal": principal}
    if await first_row(tx, _SQL["revoke"], values) is None:
        which = "every enterprise project" if wanted is None else f"enterprise project {wanted!r}"
        raise NotFoundError(f"{user!r} is not granted {which}")


async def check_takes_registries(tx: Connection, caller: Caller, wanted: str) -> None:
    """See that a registry of the transaction's project may be put into an enterprise project.

    Raises:
        NotFoundError: the caller may see no such enterprise project.
        ConflictError: it is disabled.
    """
    if wanted not in caller.enterprise_projects:
        raise not_found(wanted)
    if wanted == DEFAULT_ENTERPRISE_PROJECT:
        return
    row = await first_row(tx, _SQL["find"], {"id": wanted})
    if row is None:
        raise not_found(wanted)
    if row["disabled"]:
        raise ConflictError(f"the enterprise project {wanted!r} is disabled")


def not_found(wanted: str) -> NotFoundError:
    """The one answer for what is not there and for what the caller may not see."""
    return NotFoundError(f"enterprise_project_id: there is no enterprise project {wanted!r}")


def _name_taken(name: str) -> ConflictError:
    return ConflictError(f"the account has an enterprise project {name!r} already")


async def _user(tx: Connection, account_id: str, user: str) -> str:
    row = await first_row(tx, _SQL["find_user"], {"account": account_id, "user": user})
    if row is None:
        raise NotFoundError(f"the account has no user {user!r}")
    return str(row["id"])
