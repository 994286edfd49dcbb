"""Signing in to the web console: by a password, a token or an access key; and out again."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac

import msgspec

from wharfinger.domain.errors import NotAuthenticatedError
from wharfinger.domain.model import Caller, Origin
from wharfinger.identity.authentication import Authenticator, caller_of
from wharfinger.identity.login import Login, LoginWish
from wharfinger.store.sessions import NewSession, OpenedBy, SessionRows

SESSION_LIFE = dt.timedelta(hours=12)
# The ids we make have 43 characters.
_LONGEST_ID = 64


class Sessions:
    """Opens sessions for whoever proves who they are, as the API's credentials are proven."""

    def __init__(self, rows: SessionRows, authenticator: Authenticator, login: Login) -> None:
        self._rows = rows
        self._authenticator = authenticator
        self._login = login

    async def by_password(self, wish: LoginWish, *, origin: Origin) -> NewSession:
        """Open a session for a user's password.

        Raises:
            NotAuthenticatedError: it is refused, or locked for a while.
        """
        caller = await self._login.enter(wish, origin=origin)
        return await self._open(caller, OpenedBy(), origin)

    async def by_token(self, token: str, *, origin: Origin) -> NewSession:
        """Open a session for a token, which it ends with.

        Raises:
            NotAuthenticatedError: the token does not hold, opens no project, or is not our own.
        """
        known, caller = await self._authenticator.holder_of_token(token)
        if known.issuer:
            # Whether it is taken back is known there only, and would have to be asked each time.
            raise NotAuthenticatedError(
                "the token is of another identity service", reason="foreign_token", caller=caller
            )
        if not caller.project_id:
            raise NotAuthenticatedError(
                "the token opens no project", reason="scope_refused", caller=caller, proven=True
            )
        opened_by = OpenedBy(token=token, ends_at=known.expires_at)
        return await self._open(caller, opened_by, origin)

    async def by_key(self, access_key: str, secret_key: str, *, origin: Origin) -> NewSession:
        """Open a session for an access key and its secret, which it ends with.

        Raises:
            NotAuthenticatedError: it does not hold, or is locked for a while.
        """
        known, caller = await self._authenticator.holder_of_key(
            access_key, secret_key, origin.source
        )
        opened_by = OpenedBy(access_key=known.access_key, ends_at=known.expires_at)
        return await self._open(caller, opened_by, origin)

    async def _open(self, caller: Caller, by: OpenedBy, origin: Origin) -> NewSession:
        caller = msgspec.structs.replace(caller, origin=origin)
        return await self._rows.open(caller, by, SESSION_LIFE)

    async def caller(self, session_id: str) -> Caller:
        """Tell who is signed in.

        Raises:
            NotAuthenticatedError: nobody: the session never was, or has ended.
        """
        known = await self._rows.find(session_id) if len(session_id) <= _LONGEST_ID else None
        if known is None:
            raise NotAuthenticatedError("the session has ended", reason="unknown_session")
        by = f"access key {known.access_key}" if known.access_key else "console"
        return msgspec.structs.replace(caller_of(known, by), access_key=known.access_key or "")

    async def sign_out(self, session_id: str, caller: Caller) -> None:
        """End a session; what opened it stays as it is."""
        await self._rows.end(session_id, caller)


def form_token(session_id: str) -> str:
    """What every form of a session carries, and nobody without the session can know."""
    return hmac.new(session_id.encode(), b"wharfinger console form", hashlib.sha256).hexdigest()
