"""Sessions of the web console as rows: the digest of a cookie, and what opened it."""

from __future__ import annotations

import datetime as dt
import secrets

import msgspec

from wharfinger.domain.model import Caller
from wharfinger.store import audit, callers
from wharfinger.store.callers import Known
from wharfinger.store.database import Database, first_row, only_row
from wharfinger.store.named_sql import queries

_SQL = queries("sessions")


class KnownSession(Known, frozen=True, kw_only=True):
    """Whom an open session stands for. ``access_key`` is the one that opened it."""

    expires_at: dt.datetime
    access_key: str | None = None


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was just opened; its id is the cookie, and is kept nowhere."""

    id: str
    expires_at: dt.datetime

    def __repr__(self) -> str:
        return f"NewSession(id=***, expires_at={self.expires_at!r})"


class OpenedBy(msgspec.Struct, frozen=True, kw_only=True):
    """What a session was opened by, and closes with: a token, an access key, or a password."""

    token: str | None = None
    access_key: str | None = None
    ends_at: dt.datetime | None = None

    def __repr__(self) -> str:
        return f"OpenedBy(access_key={self.access_key!r}, token=***)"


class SessionRows:
    """Opens, finds and ends sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, caller: Caller, by: OpenedBy, life: dt.timedelta) -> NewSession:
        """Open a session of a new id; it ends no later than what opened it."""
        session_id = secrets.token_urlsafe(32)
        digest = callers.token_digest(session_id)
        values = {
            "digest": digest,
            "project": caller.project_id,
            "user": caller.user_id or None,
            "token_digest": None if by.token is None else callers.token_digest(by.token),
            "access_key": by.access_key,
            "life": life,
            "ends": by.ends_at,
        }
        async with self._database.tenant(caller.project_id) as tx:
            await tx.execute(_SQL["forget"])
            row = await only_row(tx, _SQL["insert"], values)
            await audit.record(
                tx,
                caller,
                "session.create",
                target=_target(digest),
                details={"expires_at": row["expires_at"]},
            )
        return NewSession(id=session_id, expires_at=row["expires_at"])

    async def find(self, session_id: str) -> KnownSession | None:
        """Look an open session up; ``None`` if it never was, or has ended."""
        digest = callers.token_digest(session_id)
        async with self._database.system() as tx:
            row = await first_row(tx, _SQL["find"], {"digest": digest})
        return None if row is None else KnownSession(**callers.with_grants(row))

    async def end(self, session_id: str, caller: Caller) -> None:
        """End a session now."""
        digest = callers.token_digest(session_id)
        async with self._database.tenant(caller.project_id) as tx:
            done = await tx.execute(_SQL["end"], {"digest": digest})
            if done.rowcount:
                await audit.record(tx, caller, "session.end", target=_target(digest))


def _target(digest: bytes) -> str:
    # The beginning of the digest tells sessions apart, and opens nothing.
    return f"session {digest.hex()[:12]}"
