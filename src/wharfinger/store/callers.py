"""Projects, and the credentials and tokens that may call for them."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets
import string
import uuid
from typing import Any

import msgspec
import psycopg

from wharfinger.domain.errors import ConflictError, InvalidParameterError, NotFoundError
from wharfinger.store.database import Database
from wharfinger.store.sealing import Sealer

_ACCESS_KEY_ALPHABET = string.ascii_uppercase + string.digits
_SECRET_KEY_ALPHABET = string.ascii_letters + string.digits
# A project id is one segment of every path, so it holds nothing that a path reads otherwise.
_PROJECT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,255}")


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project with what it holds."""

    id: str
    name: str
    created_at: dt.datetime
    registries: int = 0
    images: int = 0


class NewCredential(msgspec.Struct, frozen=True, kw_only=True):
    """An access key and its secret, which is shown once and never again."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"NewCredential(access_key={self.access_key!r}, secret_key=***)"


class KnownCredential(msgspec.Struct, frozen=True, kw_only=True):
    """What an access key stands for."""

    access_key: str
    project_id: str
    project_name: str
    secret_key: str

    def __repr__(self) -> str:
        return f"KnownCredential(access_key={self.access_key!r}, project_id={self.project_id!r})"


class KnownToken(msgspec.Struct, frozen=True, kw_only=True):
    """What a token stands for."""

    project_id: str
    project_name: str
    expires_at: dt.datetime


class Callers:
    """Who may call, as the database keeps it: secrets sealed, tokens as digests."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def create_project(self, name: str, project_id: str | None = None) -> Project:
        """Make a project; without an id it gets 32 hexadecimal digits.

        Raises:
            InvalidParameterError: the name or the id is out of its range.
            ConflictError: the id is taken.
        """
        wanted = uuid.uuid4().hex if project_id is None else project_id
        _check_project(name, wanted)
        try:
            async with self._database.tenant(wanted) as connection:
                cursor = await connection.execute(
                    "INSERT INTO project (id, name) VALUES (%s, %s) RETURNING created_at",
                    (wanted, name),
                )
                row = await cursor.fetchone()
                await connection.execute(
                    "INSERT INTO tenant_feed (project_id) VALUES (%s)", (wanted,)
                )
        except psycopg.errors.UniqueViolation as exc:
            raise ConflictError(f"the project {wanted!r} exists already") from exc
        return Project(id=wanted, name=name, created_at=_only(row)[0])

    async def list_projects(self) -> list[Project]:
        """List every project of the installation, oldest first; for the operator only."""
        async with self._database.system() as connection:
            cursor = await connection.execute(
                "SELECT id, name, created_at, registries, images FROM list_projects()"
            )
            rows = await cursor.fetchall()
        return [
            Project(id=row[0], name=row[1], created_at=row[2], registries=row[3], images=row[4])
            for row in rows
        ]

    async def create_credential(self, project_id: str) -> NewCredential:
        """Make an access key for a project; the secret is told here and nowhere else.

        Raises:
            NotFoundError: there is no such project.
        """
        made = NewCredential(
            access_key="AK" + _pick(_ACCESS_KEY_ALPHABET, 18),
            secret_key=_pick(_SECRET_KEY_ALPHABET, 40),
        )
        sealed = self._sealer.seal(made.secret_key, context=_context(project_id, made.access_key))
        await self._insert(
            project_id,
            "INSERT INTO credential (access_key, project_id, secret_sealed) VALUES (%s, %s, %s)",
            (made.access_key, project_id, sealed),
        )
        return made

    async def create_token(self, project_id: str, ttl: dt.timedelta) -> str:
        """Make a token for a project and return it; only its digest is kept.

        Raises:
            InvalidParameterError: ``ttl`` is not positive.
            NotFoundError: there is no such project.
        """
        if ttl <= dt.timedelta(0):
            raise InvalidParameterError("ttl", "must be longer than nothing")
        token = secrets.token_urlsafe(32)
        await self._insert(
            project_id,
            "INSERT INTO token (project_id, digest, expires_at) VALUES (%s, %s, now() + %s)",
            (project_id, token_digest(token), ttl),
        )
        return token

    async def find_credential(self, access_key: str) -> KnownCredential | None:
        """Look an access key up; ``None`` if it is unknown or revoked."""
        async with self._database.system() as connection:
            cursor = await connection.execute(
                "SELECT access_key, project_id, project_name, secret_sealed"
                " FROM find_credential(%s)",
                (access_key,),
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        secret = self._sealer.unseal(bytes(row[3]), context=_context(row[1], row[0]))
        return KnownCredential(
            access_key=row[0], project_id=row[1], project_name=row[2], secret_key=secret
        )

    async def find_token(self, token: str) -> KnownToken | None:
        """Look a token up, expired or not; ``None`` if it is unknown or revoked."""
        async with self._database.system() as connection:
            cursor = await connection.execute(
                "SELECT project_id, project_name, expires_at FROM find_token(%s)",
                (token_digest(token),),
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        return KnownToken(project_id=row[0], project_name=row[1], expires_at=row[2])

    async def _insert(
        self, project_id: str, query: psycopg.abc.QueryNoTemplate, values: tuple[object, ...]
    ) -> None:
        try:
            async with self._database.tenant(project_id) as connection:
                await connection.execute(query, values)
        except psycopg.errors.ForeignKeyViolation as exc:
            raise NotFoundError(f"there is no project {project_id!r}") from exc


def token_digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _check_project(name: str, project_id: str) -> None:
    if not 1 <= len(name) <= 64:
        raise InvalidParameterError("name", "must be 1 to 64 characters")
    if not _PROJECT_ID.fullmatch(project_id):
        raise InvalidParameterError(
            "id",
            "must be 1 to 256 letters, digits and . _ ~ -, beginning with a letter or a digit",
        )


def _context(project_id: str, access_key: str) -> bytes:
    return f"credential:{project_id}:{access_key}".encode()


def _pick(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _only(row: tuple[Any, ...] | None) -> tuple[Any, ...]:
    if row is None:  # An INSERT … RETURNING of one row returns one row.
        raise AssertionError("the database returned no row")
    return row
