"""Enterprise projects: parts of an account that registries belong to and users are granted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from wharfinger.domain.errors import InvalidParameterError, NotGrantedError
from wharfinger.domain.model import ALL_GRANTED_ENTERPRISE_PROJECTS, Caller
from wharfinger.store import audit
from wharfinger.store import enterprise_projects as stored
from wharfinger.store.database import Connection, Database
from wharfinger.store.enterprise_projects import EnterpriseGrant, EnterpriseProject

LONGEST_NAME = 64


class EnterpriseProjects:
    """The enterprise projects of a caller's account, and who is granted which.

    ``all_granted_eps`` in place of an id stands for every one, later ones too. Every change is
    audited. Callers who are granted some see those and may pass them on, where their policies
    allow it; whoever sees every one may make and change them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, caller: Caller) -> list[EnterpriseProject]:
        """Those that the caller may see, the default one first."""
        async with self._database.tenant(caller.account_id) as tx:
            found = await stored.list_all(tx, caller.account_id)
        return [one for one in found if one.id in caller.enterprise_projects]

    async def create(self, caller: Caller, name: str) -> EnterpriseProject:
        """Make one.

        Raises:
            NotGrantedError: the caller does not see every one.
            InvalidParameterError: the name is out of its range.
            ConflictError: the account has one of that name.
        """
        _check_sees_every_one(caller)
        _check_name(name)
        async with self._database.tenant(caller.account_id) as tx:
            made = await stored.insert(tx, caller.account_id, name)
            await _record(tx, caller, "create", made.id, {"name": name})
        return made

    async def change(
        self, caller: Caller, wanted: str, *, name: str | None = None, disabled: bool | None = None
    ) -> EnterpriseProject:
        """Rename one, disable or enable it. A disabled one takes no further registry in.

        Raises:
            NotGrantedError: the caller does not see every one.
            InvalidParameterError: the name is out of its range.
            NotFoundError: there is no such one, or it is the default one, which stays as it is.
            ConflictError: the account has another one of that name.
        """
        _check_sees_every_one(caller)
        if name is not None:
            _check_name(name)
        async with self._database.tenant(caller.account_id) as tx:
            changed = await stored.change(
                tx, caller.account_id, wanted, name=name, disabled=disabled
            )
            given = {"name": name, "disabled": disabled}
            told = {k: v for k, v in given.items() if v is not None}
            await _record(tx, caller, "change", wanted, told)
        return changed

    async def grants(self, caller: Caller, wanted: str) -> Sequence[EnterpriseGrant]:
        """Who is granted one: by itself, or with every one.

        Raises:
            NotFoundError: the caller may see no such one.
        """
        if wanted not in caller.enterprise_projects:
            raise stored.not_found(wanted)
        async with self._database.tenant(caller.account_id) as tx:
            return await stored.grants(tx, caller.account_id, wanted)

    async def grant(self, caller: Caller, wanted: str, user: str) -> None:
        """Grant one to a user of the account, in all of its projects.

        Raises:
            NotFoundError: the caller may see no such one, or the account has no such user.
            NotGrantedError: every one, and the caller does not see that.
        """
        which = _grantable(caller, wanted)
        async with self._database.tenant(caller.account_id) as tx:
            await stored.grant(tx, caller.account_id, which, user)
            await _record(tx, caller, "grant", wanted, {"user": user})

    async def revoke(self, caller: Caller, wanted: str, user: str) -> None:
        """Take a grant back, exactly as it was given.

        Raises:
            NotFoundError: the caller may see no such one, or the user is not granted it.
            NotGrantedError: every one, and the caller does not see that.
        """
        which = _grantable(caller, wanted)
        async with self._database.tenant(caller.account_id) as tx:
            await stored.revoke(tx, caller.account_id, which, user)
            await _record(tx, caller, "revoke", wanted, {"user": user})


def _grantable(caller: Caller, wanted: str) -> str | None:
    if wanted == ALL_GRANTED_ENTERPRISE_PROJECTS:
        _check_sees_every_one(caller)
        return None
    if wanted not in caller.enterprise_projects:
        raise stored.not_found(wanted)
    return wanted


def _check_sees_every_one(caller: Caller) -> None:
    # Else a conflict of names would tell of those that the caller may not see, and a grant of
    # every one would give more than the caller has.
    if not caller.sees_every_enterprise_project:
        raise NotGrantedError(
            "enterprise_project_id: only who is granted every enterprise project may do this"
        )


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise InvalidParameterError(
            "name", f"must be 1 to {LONGEST_NAME} printable characters, no blank at either end"
        )


async def _record(
    tx: Connection, caller: Caller, what: str, target: str, details: Mapping[str, object]
) -> None:
    # Enterprise projects are the account's, whichever of its projects the caller came by.
    account = msgspec.structs.replace(caller, project_id=caller.account_id)
    await audit.record(
        tx,
        account,
        f"enterprise_project.{what}",
        target=f"enterprise_project {target}",
        outcome="done",
        details=details,
    )
