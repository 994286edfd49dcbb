"""The users of an account: listed, made, given roles, closed and opened again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import cast

import msgspec

from wharfinger.domain.errors import InvalidParameterError, NotGrantedError
from wharfinger.domain.model import DEFAULT_ENTERPRISE_PROJECT, Caller
from wharfinger.domain.policy import SYSTEM_POLICIES, Policy
from wharfinger.identity.passwords import PasswordCheck, check_new_password
from wharfinger.identity.reach import Reach
from wharfinger.store.callers import Callers
from wharfinger.store.principals import Check, Grant, Kind, Principals, Roster, User, no_user

KINDS = ("user", "account")


class KnownUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user as a caller sees it.

    ``in_reach`` says whether the caller may change it altogether, ``roles_in_reach`` whether what
    it may do in the caller's project. ``signed_in_at`` is ``None`` where that is not kept.
    """

    user: User
    is_oneself: bool
    in_reach: bool
    roles_in_reach: bool
    signed_in_at: dt.datetime | None

    @property
    def everywhere(self) -> list[str]:
        """The roles in every project of the account."""
        return [one.policy for one in self.user.grants if one.project is None]

    def roles(self, project_id: str) -> list[str]:
        """The roles in one project."""
        return [one.policy for one in self.user.grants if one.project == project_id]


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A policy under its name, and whether the caller may give it to anybody."""

    name: str
    system: bool
    policy: Policy
    may_be_given: bool


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user to be made; the roles are in the caller's project, ``*`` sees everything."""

    name: str
    kind: str = "user"
    roles: Sequence[str] = ()
    enterprise_projects: Sequence[str] = (DEFAULT_ENTERPRISE_PROJECT,)
    password: str | None = None

    def __repr__(self) -> str:
        return f"NewUser(name={self.name!r}, kind={self.kind!r}, roles={self.roles!r})"


class Users:
    """The users of a caller's account, as far as the caller reaches: see ``Reach``.

    Every change is audited. Whoever may call one of these is told by the route's action; whom it
    may be done to, and what may be given, is told here.
    """

    def __init__(self, principals: Principals, callers: Callers) -> None:
        self._principals = principals
        self._callers = callers
        self._passwords = PasswordCheck()

    async def reach(self, caller: Caller) -> Reach:
        """How far a caller reaches now."""
        return Reach(caller, await self._principals.roster(caller.account_id))

    async def list(self, caller: Caller) -> list[KnownUser]:
        """Those whom the caller may know of, the oldest first."""
        reach = await self.reach(caller)
        signed_in = await self._callers.last_sign_ins(caller.project_id)
        return [
            KnownUser(
                user=reach.shown(user),
                is_oneself=reach.is_me(user),
                in_reach=reach.covers(user),
                roles_in_reach=reach.covers(user, (caller.project_id,)),
                signed_in_at=signed_in.get(user.id),
            )
            for user in reach.seen()
        ]

    async def find(self, caller: Caller, name: str) -> KnownUser:
        """One of them.

        Raises:
            NotFoundError: there is none, or the caller may not know of it.
        """
        for one in await self.list(caller):
            if one.user.name == name:
                return one
        raise no_user(name)

    async def roles(self, caller: Caller) -> Sequence[Role]:
        """What may be granted: the system's policies, then the account's own."""
        roster = await self._principals.roster(caller.account_id)
        reach = Reach(caller, roster)
        return [
            Role(
                name=name,
                system=name in SYSTEM_POLICIES,
                policy=policy,
                may_be_given=reach.may_give(name),
            )
            for name, policy in roster.policies.items()
        ]

    async def create(self, caller: Caller, new: NewUser) -> str:
        """Make a user and return its id; without a password it can have access keys only.

        Raises:
            InvalidParameterError: the name or the password is out of its range, or there is no
                such role, or none is given by somebody who would not see the user then.
            ConflictError: the account has a user of that name.
            NotGrantedError: it would do or see more than the caller.
        """
        password_hash = None if new.password is None else await self._hashed(new.password)

        def check(roster: Roster) -> None:
            reach = Reach(caller, roster)
            if new.kind == "account" and not reach.is_account:
                raise NotGrantedError("kind: only the account makes users that may do everything")
            reach.check_roles(_nobody_yet(new), new.roles)
            if not new.roles and not reach.sees_all:
                raise InvalidParameterError("role", "must be chosen: else you would not see it")
            reach.check_sight(new.enterprise_projects)

        return await self._principals.create_user(
            caller.account_id,
            new.name,
            kind=cast("Kind", new.kind),
            password_hash=password_hash,
            grants=[Grant(policy=role, project=caller.project_id) for role in new.roles],
            enterprise_projects=new.enterprise_projects,
            by=caller,
            check=_unless_operator(caller, check),
        )

    async def set_roles(self, caller: Caller, name: str, roles: Collection[str]) -> None:
        """Give a user these roles in the caller's project, and no others there.

        Raises:
            NotFoundError: the caller may know of no such user.
            NotGrantedError: the user may do more than the caller, or would.
            InvalidParameterError: there is no such role; or the user is the caller, or the
                project's last administrator.
        """
        here = caller.project_id

        def check(roster: Roster) -> None:
            reach = Reach(caller, roster)
            user = reach.user(name)
            reach.check_other(user)
            reach.check_covers(user, (here,))
            reach.check_roles(user, roles)
            kept = [one for one in user.grants if one.project != here]
            given = [Grant(policy=role, project=here) for role in roles]
            reach.check_somebody_is_left(msgspec.structs.replace(user, grants=[*kept, *given]))

        await self._principals.set_grants(
            caller.account_id,
            name,
            here,
            roles,
            by=caller,
            check=_unless_operator(caller, check),
        )

    async def set_password(self, caller: Caller, name: str, password: str) -> None:
        """Give a user another password; what was opened with the old one ends.

        Raises:
            InvalidParameterError: it is too short or too long, or the user is the caller.
            NotFoundError: the caller may know of no such user.
            NotGrantedError: the user may do more than the caller.
        """
        password_hash = await self._hashed(password)
        await self._principals.set_password(
            caller.account_id, name, password_hash, by=caller, check=_touches(caller, name)
        )

    async def set_own_password(self, caller: Caller, password: str) -> None:
        """Give the caller, who is a user, another password.

        Raises:
            InvalidParameterError: it is too short or too long.
        """
        password_hash = await self._hashed(password)
        await self._principals.set_password(
            caller.account_id, caller.user_name, password_hash, by=caller
        )

    async def set_disabled(self, caller: Caller, name: str, *, disabled: bool) -> None:
        """Close a user, so that nothing of it opens anything any more; or open it again.

        Raises:
            NotFoundError: the caller may know of no such user.
            NotGrantedError: the user may do more than the caller.
            InvalidParameterError: the caller itself, or the last administrator of a project.
        """
        change = self._principals.disable_user if disabled else self._principals.enable_user
        check = _touches(caller, name, disabled=disabled)
        await change(caller.account_id, name, by=caller, check=check)

    async def _hashed(self, password: str) -> str:
        check_new_password(password)
        return await self._passwords.hashed(password)


def _touches(caller: Caller, name: str, *, disabled: bool | None = None) -> Check | None:
    """Check that a caller may change another user altogether."""

    def check(roster: Roster) -> None:
        reach = Reach(caller, roster)
        user = reach.user(name)
        reach.check_other(user)
        reach.check_covers(user)
        if disabled:
            reach.check_somebody_is_left(msgspec.structs.replace(user, disabled=True))

    return _unless_operator(caller, check)


def _unless_operator(caller: Caller, check: Check) -> Check | None:
    # Whoever works on this machine can undo everything, and has to be able to.
    return None if caller.is_operator else check


def _nobody_yet(new: NewUser) -> User:
    return User(
        id="",
        name=new.name,
        kind=new.kind,
        has_password=False,
        disabled=False,
        created_at=dt.datetime.min.replace(tzinfo=dt.UTC),
        grants=(),
        enterprise_projects=(),
    )
