"""What users who are signed in do about themselves, once they have shown their password again."""

from __future__ import annotations

import datetime as dt

from wharfinger.domain.model import Caller
from wharfinger.identity.access_keys import AccessKeys
from wharfinger.identity.login import Login
from wharfinger.identity.users import Users
from wharfinger.store.callers import NewCredential


class Oneself:
    """One's own password and access keys.

    Whoever finds a session open, or has got hold of a token, can make nothing of it that lasts:
    that takes the password.
    """

    def __init__(self, login: Login, users: Users, access_keys: AccessKeys) -> None:
        self._login = login
        self._users = users
        self._access_keys = access_keys

    async def set_password(self, caller: Caller, current: str, new: str) -> None:
        """Change the password; what was opened with the old one ends, this session too.

        Raises:
            LoginRefusedError: the current one is another.
            UserLockedError: that happened too often.
            InvalidParameterError: the new one is too short or too long.
        """
        await self._login.prove(caller, current)
        await self._users.set_own_password(caller, new)

    async def create_key(
        self, caller: Caller, current: str, life: dt.timedelta | None
    ) -> NewCredential:
        """Make an access key, whose secret is told here only.

        Raises:
            LoginRefusedError: the password is another.
            UserLockedError: that happened too often.
            InvalidParameterError: ``life`` is not positive.
        """
        await self._login.prove(caller, current)
        return await self._access_keys.create_own(caller, life)
