"""Logging in with a password: which user, to which project, and the token that tells both."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from wharfinger.domain.errors import LoginRefusedError, ScopeRefusedError, UserLockedError
from wharfinger.domain.model import OURSELVES, Caller, Origin
from wharfinger.identity.locks import Locks
from wharfinger.identity.passwords import PasswordCheck
from wharfinger.store.callers import NewToken, ProjectRef
from wharfinger.store.principals import Principal

log = structlog.get_logger()

TOKEN_LIFE = dt.timedelta(hours=24)
# Wharfinger stands in for every region, so a region's name finds the caller's project.
REGION = re.compile(r"[a-z]{2}-[a-z]+-\d+")


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """Something by id, or by name within an account, which is itself given by id or name."""

    id: str | None = None
    name: str | None = None
    domain: Named | None = None


class LoginWish(msgspec.Struct, frozen=True, kw_only=True):
    """A user, a password, and what the token is to open: a project, an account, or nothing."""

    user: Named
    password: str
    project: Named | None = None
    account: Named | None = None
    unscoped: bool = False

    def __repr__(self) -> str:
        return f"LoginWish(user={self.user!r}, password=***)"


class LoggedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A new token and what it opens."""

    token: NewToken
    principal: Principal
    scope: str
    project: ProjectRef | None


class KnownPrincipals(Protocol):
    """Where users are looked up."""

    async def find(
        self, *, user_id: str | None = None, account_id: str | None = None, name: str | None = None
    ) -> Principal | None:
        """A user by id, or by name within an account."""
        ...


class Tokens(Protocol):
    """Where tokens are made, and which projects they may open."""

    async def projects_of(self, account_id: str, user_id: str | None) -> list[ProjectRef]:
        """The projects of an account that a user may enter."""
        ...

    async def issue_token(
        self,
        project_id: str,
        user_id: str | None,
        ttl: dt.timedelta,
        *,
        scope: str = "project",
        by: Caller = OURSELVES,
    ) -> NewToken:
        """Make a token."""
        ...


class Login:
    """Turns a user's password into a token. Wrong users and wrong passwords look the same."""

    def __init__(self, principals: KnownPrincipals, tokens: Tokens, *, locks: Locks) -> None:
        self._principals = principals
        self._tokens = tokens
        self._locks = locks
        self._passwords = PasswordCheck()

    async def log_in(self, wish: LoginWish, *, origin: Origin) -> LoggedIn:
        """Check the password, then the scope, and make a token for 24 hours.

        Raises:
            LoginRefusedError: no such user, or another password.
            UserLockedError: five of those in a row from one address, within five minutes.
            ScopeRefusedError: the project or account is not the user's.
        """
        principal = await self._authenticated(wish, origin.source)
        by = _caller(principal, origin)
        try:
            scope, project = await self._scope(wish, principal)
        except ScopeRefusedError as error:
            error.caller, error.proven = by, True
            raise
        home = principal.account_id if project is None else project.id
        token = await self._tokens.issue_token(home, principal.id, TOKEN_LIFE, scope=scope, by=by)
        return LoggedIn(token=token, principal=principal, scope=scope, project=project)

    async def enter(self, wish: LoginWish, *, origin: Origin) -> Caller:
        """Check the password, and make no token: whoever it is, in the project that is wished for.

        Without a project, it is the first one that the user may enter.

        Raises:
            NotAuthenticatedError: as ``log_in``.
        """
        principal = await self._authenticated(wish, origin.source)
        by = _caller(principal, origin)
        projects = await self._tokens.projects_of(principal.account_id, principal.id)
        try:
            entered = _entered(projects, wish.project, principal)
        except ScopeRefusedError as error:
            error.caller, error.proven = by, True
            raise
        return msgspec.structs.replace(by, project_id=entered.id, project_name=entered.name)

    async def prove(self, caller: Caller, password: str) -> None:
        """See that a user who is signed in already knows its password, too.

        Raises:
            LoginRefusedError: it is another, or the caller is no user of ours.
            UserLockedError: as ``log_in``.
        """
        wish = LoginWish(user=Named(id=caller.user_id), password=password)
        await self._authenticated(wish, caller.origin.source)

    async def _authenticated(self, wish: LoginWish, source: str) -> Principal:
        found = await self._find(wish.user)
        # A user that does not exist is locked like one that does; else the lock would tell.
        name = f"user {found.id}" if found else f"nobody {wish.user!r}"
        if self._locks.is_locked(name, source):
            raise UserLockedError("too many wrong passwords; try again in five minutes")
        usable = None if found is None or found.disabled else found.password_hash
        if not await self._passwords.matches(wish.password, usable) or found is None:
            self._locks.failed(name, source)
            log.info("login.refused", source=source, user_id=found.id if found else None)
            raise LoginRefusedError(
                "The username or password is wrong.",
                caller=_caller(found, Origin()) if found else None,
            )
        self._locks.succeeded(name, source)
        return found

    async def _find(self, user: Named) -> Principal | None:
        if user.id is not None:
            return await self._principals.find(user_id=user.id)
        account = _id_of(user.domain)
        if user.name is None or account is None:
            return None
        return await self._principals.find(account_id=account, name=user.name)

    async def _scope(self, wish: LoginWish, principal: Principal) -> tuple[str, ProjectRef | None]:
        if wish.project is not None:
            projects = await self._tokens.projects_of(principal.account_id, principal.id)
            return "project", _chosen(projects, wish.project, principal)
        if wish.account is not None and _id_of(wish.account) != principal.account_id:
            raise ScopeRefusedError("the domain of the scope is not the user's")
        return ("unscoped" if wish.unscoped else "domain"), None


def _caller(principal: Principal, origin: Origin) -> Caller:
    """A user who is logging in, as the audit tells of it: in the account's own project."""
    return Caller(
        project_id=principal.account_id,
        project_name="",
        principal=f"user {principal.name}, password",
        account_id=principal.account_id,
        user_id=principal.id,
        user_name=principal.name,
        policies=(),
        origin=origin,
    )


def chosen_by_name(projects: Sequence[ProjectRef], name: str) -> list[ProjectRef]:
    """The projects of that name; a region's name is also that of a project that stands alone."""
    found = [project for project in projects if project.name == name]
    if not found and len(projects) == 1 and REGION.fullmatch(name):
        return list(projects)
    return found


def _entered(
    projects: Sequence[ProjectRef], wanted: Named | None, principal: Principal
) -> ProjectRef:
    if wanted is not None:
        return _chosen(projects, wanted, principal)
    if not projects:
        raise ScopeRefusedError("no project is granted to the user")
    return projects[0]


def _chosen(projects: Sequence[ProjectRef], wanted: Named, principal: Principal) -> ProjectRef:
    account = _id_of(wanted.domain)
    if account is not None and account != principal.account_id:
        found = []
    elif wanted.id is not None:
        found = [project for project in projects if project.id == wanted.id]
    else:
        found = chosen_by_name(projects, wanted.name or "")
    if len(found) != 1:
        # Another tenant's project cannot be told from one that does not exist.
        raise ScopeRefusedError("the project of the scope is not one of the user's")
    return found[0]


def _id_of(account: Named | None) -> str | None:
    # An account's name is its id.
    return None if account is None else account.id or account.name
