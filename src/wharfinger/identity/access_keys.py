"""Access keys of a project: whose they are, made, replaced and revoked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from wharfinger.domain.errors import (
    InvalidParameterError,
    NotFoundError,
    NotGrantedError,
)
from wharfinger.domain.model import Caller
from wharfinger.identity.reach import Reach
from wharfinger.store.callers import Callers, ListedCredential, NewCredential
from wharfinger.store.principals import Principals, User


class KnownKey(msgspec.Struct, frozen=True, kw_only=True):
    """An access key as a caller sees it; ``in_reach`` says whether the caller may end it."""

    key: ListedCredential
    in_reach: bool

    @property
    def works(self) -> bool:
        """Whether it opens anything now; its user may be closed all the same."""
        return is_live(self.key)


class AccessKeys:
    """The lasting access keys of a caller's project, as far as the caller reaches.

    A key lets its holder act as its user: it is made, replaced and revoked by whoever may do all
    that the user may do in the project, and by the user. Every change is audited.
    """

    def __init__(self, principals: Principals, callers: Callers) -> None:
        self._principals = principals
        self._callers = callers

    async def list(self, caller: Caller) -> list[KnownKey]:
        """The keys of users whom the caller may know of, and the account's own for the account."""
        keys = await self._keys(caller)
        return [KnownKey(key=key, in_reach=keys.reaches(user)) for key, user in keys.seen.values()]

    async def create(
        self, caller: Caller, user_name: str | None, life: dt.timedelta | None
    ) -> NewCredential:
        """Make a key; without a user it acts as the account. The secret is told here only.

        Raises:
            NotFoundError: the caller may know of no such user.
            NotGrantedError: whoever has the key could do more than the caller.
            InvalidParameterError: ``life`` is not positive, or a user must be named.
        """
        if not caller.is_operator:
            keys = await self._keys(caller)
            keys.check_reaches(None if user_name is None else keys.reach.user(user_name))
        return await self._callers.create_credential(
            caller.project_id, user_name=user_name, life=life, by=caller
        )

    async def rotate(self, caller: Caller, access_key: str, keep: dt.timedelta) -> NewCredential:
        """Make a key in place of another, which goes on for a while.

        Raises:
            NotFoundError: the caller may know of no such key, or it does not work.
            NotGrantedError: whoever has the key can do more than the caller.
            InvalidParameterError: ``keep`` is negative.
        """
        if not caller.is_operator:
            keys = await self._keys(caller)
            keys.check_reaches(keys.owner(access_key))
        return await self._callers.rotate_credential(caller.project_id, access_key, keep, by=caller)

    async def revoke(self, caller: Caller, access_key: str) -> None:
        """End a key now.

        Raises:
            NotFoundError: the caller may know of no such key, or it is revoked already.
            NotGrantedError: whoever has the key can do more than the caller.
            InvalidParameterError: nobody else administers the project, and this is the only way in.
        """
        if not caller.is_operator:
            keys = await self._keys(caller)
            keys.check_reaches(keys.owner(access_key))
            keys.check_way_in(access_key)
        await self._callers.revoke_credential(caller.project_id, access_key, by=caller)

    # --- one's own ------------------------------------------------------------------------------

    async def list_own(self, caller: Caller) -> Sequence[ListedCredential]:
        """The keys of the user that the caller is."""
        found = await self._callers.list_credentials(caller.project_id)
        return [key for key in found if caller.user_id and key.user_name == caller.user_name]

    async def create_own(self, caller: Caller, life: dt.timedelta | None) -> NewCredential:
        """Make a key for the user that the caller is.

        Raises:
            NotGrantedError: the caller is no user.
            InvalidParameterError: ``life`` is not positive.
        """
        if not caller.user_id:
            raise NotGrantedError("user: only a user has keys of its own")
        return await self._callers.create_credential(
            caller.project_id, user_name=caller.user_name, life=life, by=caller
        )

    async def revoke_own(self, caller: Caller, access_key: str) -> None:
        """End a key of the user that the caller is.

        Raises:
            NotFoundError: the user has no such key, or it is revoked already.
            InvalidParameterError: nobody else administers the project, and this is the only way in.
        """
        keys = await self._keys(caller)
        owner = keys.owner(access_key)
        if owner is None or owner.id != caller.user_id:
            raise _no_key(access_key)
        keys.check_way_in(access_key)
        await self._callers.revoke_credential(caller.project_id, access_key, by=caller)

    async def _keys(self, caller: Caller) -> _Keys:
        reach = Reach(caller, await self._principals.roster(caller.account_id))
        return _Keys(caller, reach, await self._callers.list_credentials(caller.project_id))


class _Keys:
    """The keys that a caller may know of, each with its user, or with ``None`` for the account."""

    def __init__(self, caller: Caller, reach: Reach, found: Sequence[ListedCredential]) -> None:
        self.reach = reach
        self._here = (caller.project_id,)
        users: dict[str | None, User | None] = {user.name: user for user in reach.seen()}
        if reach.is_account:
            users[None] = None
        self.seen = {
            key.access_key: (key, users[key.user_name]) for key in found if key.user_name in users
        }

    def owner(self, access_key: str) -> User | None:
        """Whose a key is; the account's own is nobody's.

        Raises:
            NotFoundError: the caller may know of no such key.
        """
        if access_key not in self.seen:
            raise _no_key(access_key)
        return self.seen[access_key][1]

    def reaches(self, owner: User | None) -> bool:
        """Whether whoever holds a key of that user can do no more than the caller."""
        return self.reach.is_account if owner is None else self.reach.covers(owner, self._here)

    def check_reaches(self, owner: User | None) -> None:
        """Refuse to make, replace or end a key of somebody who may do more than the caller.

        Raises:
            NotGrantedError: the owner may.
            InvalidParameterError: it would be the account's own, and the caller is a user.
        """
        if owner is not None:
            self.reach.check_covers(owner, self._here)
        elif not self.reach.is_account:
            raise InvalidParameterError(
                "user", "must be named: only the account makes keys that are no user's"
            )

    def check_way_in(self, access_key: str) -> None:
        """Refuse to end the only way in of the only user who administers a project.

        Raises:
            InvalidParameterError: it is that.
        """
        user = self.owner(access_key)
        if user is None or user.has_password:
            return
        others = [key for key, owner in self.seen.values() if owner == user and is_live(key)]
        if {key.access_key for key in others} <= {access_key}:
            self.reach.check_somebody_is_left(msgspec.structs.replace(user, disabled=True))


def is_live(key: ListedCredential) -> bool:
    """Whether a key opens anything now, if its user does."""
    ended = key.expires_at is not None and key.expires_at <= dt.datetime.now(dt.UTC)
    return key.revoked_at is None and not ended


def _no_key(access_key: str) -> NotFoundError:
    return NotFoundError(f"the project has no access key {access_key!r}")
