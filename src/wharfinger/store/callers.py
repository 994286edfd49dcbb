"""Projects, and the credentials and tokens that may call for them."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import re
import secrets
import string
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import psycopg

from wharfinger.domain.errors import ConflictError, InvalidParameterError, NotFoundError
from wharfinger.domain.model import DEFAULT_ENTERPRISE_PROJECT, OURSELVES, Caller
from wharfinger.domain.policy import ADMINISTRATOR, SYSTEM_POLICIES, Policy
from wharfinger.store import audit
from wharfinger.store.database import Connection, Database, all_rows, first_row, only_row
from wharfinger.store.named_sql import queries
from wharfinger.store.sealing import Sealer
from wharfinger.store.shared import Shared

_SQL = queries("identity")
_EPS = queries("enterprise_projects")
# What the cloud calls the role of an account, which may do everything.
ACCOUNT_ROLES = ("te_admin",)
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


class ProjectRef(msgspec.Struct, frozen=True, kw_only=True):
    """A project and the account it belongs to."""

    id: str
    name: str
    account_id: str


class NewCredential(msgspec.Struct, frozen=True, kw_only=True):
    """An access key and its secret, which is shown once and never again."""

    access_key: str
    secret_key: str
    security_token: str | None = None  # of a temporary one
    expires_at: dt.datetime | None = None

    def __repr__(self) -> str:
        return f"NewCredential(access_key={self.access_key!r}, secret_key=***)"


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token, which is shown once and never again."""

    token: str
    issued_at: dt.datetime
    expires_at: dt.datetime

    def __repr__(self) -> str:
        return f"NewToken(token=***, expires_at={self.expires_at!r})"


class ListedCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A credential as people see it; never its secret. Without a user it is the account's."""

    access_key: str
    user_name: str | None
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a credential or a token stands for; without a user, for the project's account."""

    project_id: str
    project_name: str
    account_id: str = ""
    user_id: str | None = None
    user_name: str | None = None
    policies: tuple[Policy, ...] = (ADMINISTRATOR,)
    roles: tuple[str, ...] = ACCOUNT_ROLES  # the policies' names, for Keystone's clients
    enterprise_projects: tuple[str, ...] = (DEFAULT_ENTERPRISE_PROJECT,)
    sees_every_enterprise_project: bool = False


class KnownCredential(Known, frozen=True, kw_only=True):
    """What an access key stands for. ``security_digest`` is of a temporary one's token."""

    access_key: str
    secret_key: str
    expires_at: dt.datetime | None = None
    security_digest: bytes | None = None

    def __repr__(self) -> str:
        return f"KnownCredential(access_key={self.access_key!r}, project_id={self.project_id!r})"


class KnownToken(Known, frozen=True, kw_only=True):
    """What a token stands for.

    A token whose ``scope`` is ``domain`` or ``unscoped`` lies with the account's first project
    and opens none. ``revoked``: it was good, and was taken back.
    """

    expires_at: dt.datetime
    issued_at: dt.datetime | None = None
    scope: str = "project"
    revoked: bool = False
    # Who vouches for it, where that is not our own list.
    issuer: str = ""


async def any_project(database: Database) -> bool:
    """Whether the database is in use: whether there is a project in it."""
    async with database.system() as connection:
        try:
            return bool(await all_rows(connection, _SQL["list_projects"], {}))
        except psycopg.errors.UndefinedFunction:
            # Nobody has migrated it yet.
            return False


class Callers:
    """Who may call, as the database keeps it: secrets sealed, tokens as digests.

    Each change is audited with whoever it is made ``by``.
    """

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._shared = Shared()

    # --- projects -------------------------------------------------------------------------------

    async def create_project(
        self,
        name: str,
        project_id: str | None = None,
        *,
        account_id: str | None = None,
        by: Caller = OURSELVES,
    ) -> Project:
        """Make a project; without an id it gets 32 hexadecimal digits.

        It is an account of its own, or one more project of the account that ``account_id`` names.

        Raises:
            InvalidParameterError: the name or the id is out of its range.
            ConflictError: the id is taken, or the account has a project of that name.
            NotFoundError: there is no such account.
        """
        wanted = uuid.uuid4().hex if project_id is None else project_id
        _check_project(name, wanted)
        if account_id is not None:
            await self._check_account(account_id)
        values = {"id": wanted, "name": name, "account": account_id}
        try:
            async with self._database.tenant(wanted) as connection:
                row = await only_row(connection, _SQL["insert_project"], values)
                await connection.execute(_SQL["insert_feed"], values)
                await audit.record(
                    connection,
                    by,
                    "project.create",
                    target=f"project {wanted}",
                    name=name,
                    details={"account": account_id or wanted},
                )
        except psycopg.errors.UniqueViolation as exc:
            if exc.diag.constraint_name == "project_name_key":
                raise ConflictError(f"the account has a project {name!r} already") from exc
            raise ConflictError(f"the project {wanted!r} exists already") from exc
        return Project(id=wanted, name=name, created_at=row["created_at"])

    async def list_projects(self) -> list[Project]:
        """List every project of the installation, oldest first; for the operator only."""
        async with self._database.system() as connection:
            return [Project(**row) for row in await all_rows(connection, _SQL["list_projects"], {})]

    async def find_project(self, project_id: str) -> ProjectRef | None:
        """One project with its account."""
        async with self._database.system() as connection:
            row = await first_row(connection, _SQL["find_project"], {"project": project_id})
        return None if row is None else ProjectRef(**row)

    async def projects_of(self, account_id: str, user_id: str | None) -> list[ProjectRef]:
        """The projects of an account that a user may enter; without a user, all of them."""
        values = {"account": account_id, "user": user_id}
        async with self._database.system() as connection:
            rows = await all_rows(connection, _SQL["projects_of"], values)
        return [ProjectRef(**row, account_id=account_id) for row in rows]

    async def every_enterprise_project(self, account_id: str) -> tuple[str, ...]:
        """The ids of an account's enterprise projects, the default one among them."""
        async with self._database.system() as connection:
            row = await only_row(connection, _EPS["every"], {"account": account_id})
        return _granted(row["enterprise_projects_of"])[0]

    async def _check_account(self, account_id: str) -> None:
        found = await self.find_project(account_id)
        if found is None or found.account_id != account_id:
            raise NotFoundError(f"there is no account {account_id!r}: no project that is its own")

    # --- credentials ----------------------------------------------------------------------------

    async def create_credential(
        self,
        project_id: str,
        *,
        user_name: str | None = None,
        life: dt.timedelta | None = None,
        by: Caller = OURSELVES,
    ) -> NewCredential:
        """Make an access key for a project; the secret is told here and nowhere else.

        Args:
            project_id: the one project that the key opens.
            user_name: whose it is; by default it acts as the project's account.
            life: after how long it ends; by default never.
            by: who asked for it.

        Raises:
            NotFoundError: there is no such project, or its account has no such user.
            InvalidParameterError: ``life`` is not positive.
        """
        _check_life("expires", life)
        user_id = None
        if user_name is not None:
            project = await self.find_project(project_id)
            user_id = await self._user_id(project, project_id, user_name)
        async with self._writing(project_id) as connection:
            made = await self._insert_credential(connection, project_id, user_id, life)
            await _record_key(
                connection,
                by,
                "create",
                made.access_key,
                user=user_name,
                expires_at=made.expires_at,
            )
        return made

    async def create_temporary_credential(
        self,
        project_id: str,
        user_id: str | None,
        life: dt.timedelta,
        *,
        by: Caller = OURSELVES,
    ) -> NewCredential:
        """Make an access key that works beside its security token only, and not for long."""
        async with self._writing(project_id) as connection:
            await connection.execute(_SQL["forget_temporary_credentials"])
            made = await self._insert_credential(
                connection, project_id, user_id, life, temporary=True
            )
            await _record_key(
                connection, by, "create_temporary", made.access_key, expires_at=made.expires_at
            )
        return made

    async def list_credentials(self, project_id: str) -> list[ListedCredential]:
        """A project's lasting keys, the ended and revoked ones too."""
        async with self._database.tenant(project_id) as connection:
            rows = await all_rows(connection, _SQL["list_credentials"], {"project": project_id})
        return [ListedCredential(**row) for row in rows]

    async def rotate_credential(
        self, project_id: str, access_key: str, keep: dt.timedelta, *, by: Caller = OURSELVES
    ) -> NewCredential:
        """Make a key to replace another of the same user; the old one goes on for a while.

        Raises:
            NotFoundError: the project has no such key that still works.
            InvalidParameterError: ``keep`` is negative.
        """
        if keep < dt.timedelta(0):
            raise InvalidParameterError("keep", "must not be negative")
        values = {"project": project_id, "access_key": access_key, "keep": keep}
        async with self._writing(project_id) as connection:
            row = await first_row(connection, _SQL["lock_credential"], values)
            if row is None:
                raise NotFoundError(f"the project has no access key {access_key!r} that works")
            ended = await only_row(connection, _SQL["end_credential"], values)
            made = await self._insert_credential(connection, project_id, row["principal_id"], None)
            await _record_key(
                connection,
                by,
                "rotate",
                access_key,
                replaced_by=made.access_key,
                expires_at=ended["expires_at"],
            )
        return made

    async def revoke_credential(
        self, project_id: str, access_key: str, *, by: Caller = OURSELVES
    ) -> None:
        """End a key now.

        Raises:
            NotFoundError: the project has no such key, or it is revoked already.
        """
        async with self._database.tenant(project_id) as connection:
            values = {"project": project_id, "access_key": access_key}
            if await first_row(connection, _SQL["revoke_credential"], values) is None:
                raise NotFoundError(f"the project has no access key {access_key!r}")
            await _record_key(connection, by, "revoke", access_key)

    async def last_sign_ins(self, project_id: str) -> dict[str, dt.datetime]:
        """When each user, by id, last opened a session or took a token, as far as is kept."""
        async with self._database.tenant(project_id) as connection:
            rows = await all_rows(connection, _SQL["last_sign_ins"], {"project": project_id})
        return {row["user_id"]: row["at"] for row in rows}

    async def find_credential(self, access_key: str) -> KnownCredential | None:
        """Look an access key up; ``None`` if it is unknown, revoked, or its user is disabled."""
        return await self._shared.ask(
            ("credential", access_key), lambda: self._find_credential(access_key)
        )

    async def _find_credential(self, access_key: str) -> KnownCredential | None:
        row = await self._database.look_up(_SQL["find_credential"], {"access_key": access_key})
        if row is None:
            return None
        context = credential_context(row["project_id"], row["access_key"])
        secret = self._sealer.unseal(bytes(row.pop("secret_sealed")), context=context)
        digest = row.pop("security_digest")
        return KnownCredential(
            **with_grants(row),
            secret_key=secret,
            security_digest=None if digest is None else bytes(digest),
        )

    async def _insert_credential(
        self,
        connection: Connection,
        project_id: str,
        user_id: str | None,
        life: dt.timedelta | None,
        *,
        temporary: bool = False,
    ) -> NewCredential:
        access_key = "AK" + _pick(_ACCESS_KEY_ALPHABET, 18)
        secret_key = _pick(_SECRET_KEY_ALPHABET, 40)
        security_token = secrets.token_urlsafe(64) if temporary else None
        values = {
            "access_key": access_key,
            "project": project_id,
            "sealed": self._sealer.seal(
                secret_key, context=credential_context(project_id, access_key)
            ),
            "user": user_id,
            "life": life,
            "security_digest": None if security_token is None else token_digest(security_token),
        }
        row = await only_row(connection, _SQL["insert_credential"], values)
        return NewCredential(
            access_key=access_key,
            secret_key=secret_key,
            security_token=security_token,
            expires_at=row["expires_at"],
        )

    async def _user_id(self, project: ProjectRef | None, project_id: str, user_name: str) -> str:
        if project is None:
            raise NotFoundError(f"there is no project {project_id!r}")
        async with self._database.tenant(project.account_id) as connection:
            values = {"account": project.account_id, "name": user_name}
            row = await first_row(connection, _SQL["find_user"], values)
        if row is None:
            raise NotFoundError(f"the account has no user {user_name!r}")
        return str(row["id"])

    # --- tokens ---------------------------------------------------------------------------------

    async def create_token(
        self, project_id: str, ttl: dt.timedelta, *, by: Caller = OURSELVES
    ) -> str:
        """Make a token of a project's account and return it; only its digest is kept.

        Raises:
            InvalidParameterError: ``ttl`` is not positive.
            NotFoundError: there is no such project.
        """
        _check_life("ttl", ttl)
        return (await self.issue_token(project_id, None, ttl, by=by)).token

    async def issue_token(
        self,
        project_id: str,
        user_id: str | None,
        ttl: dt.timedelta,
        *,
        scope: str = "project",
        by: Caller = OURSELVES,
    ) -> NewToken:
        """Make a token; ``project_id`` is the account's for a scope that opens no project.

        Raises:
            NotFoundError: there is no such project.
        """
        token = secrets.token_urlsafe(32)
        values = {
            "project": project_id,
            "digest": token_digest(token),
            "life": ttl,
            "user": user_id,
            "scope": scope,
        }
        async with self._writing(project_id) as connection:
            await connection.execute(_SQL["forget_tokens"])
            row = await only_row(connection, _SQL["insert_token"], values)
            await _record_token(
                connection, by, "create", token, scope=scope, expires_at=row["expires_at"]
            )
        return NewToken(token=token, issued_at=row["created_at"], expires_at=row["expires_at"])

    async def find_token(self, token: str) -> KnownToken | None:
        """Look a token up, expired and revoked or not; ``None`` if it never was."""
        digest = token_digest(token)
        return await self._shared.ask(("token", digest), lambda: self._find_token(digest))

    async def _find_token(self, digest: bytes) -> KnownToken | None:
        row = await self._database.look_up(_SQL["find_token"], {"digest": digest})
        if row is None:
            return None
        return KnownToken(issued_at=row.pop("created_at"), **with_grants(row))

    async def revoke_token(self, token: str, known: KnownToken, *, by: Caller = OURSELVES) -> None:
        """Take a token back."""
        async with self._database.tenant(known.project_id) as connection:
            done = await connection.execute(_SQL["revoke_token"], {"digest": token_digest(token)})
            if done.rowcount:
                await _record_token(connection, by, "revoke", token, user=known.user_name)

    @contextlib.asynccontextmanager
    async def _writing(self, project_id: str) -> AsyncIterator[Connection]:
        try:
            async with self._database.tenant(project_id) as connection:
                yield connection
        except psycopg.errors.ForeignKeyViolation as exc:
            raise NotFoundError(f"there is no project {project_id!r}") from exc


def token_digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


async def _record_key(
    tx: Connection, by: Caller, what: str, access_key: str, **details: object
) -> None:
    target = f"credential {access_key}"
    await audit.record(tx, by, f"credential.{what}", target=target, details=details)


async def _record_token(
    tx: Connection, by: Caller, what: str, token: str, **details: object
) -> None:
    # The beginning of the digest tells tokens apart, and opens nothing.
    target = f"token {token_digest(token).hex()[:12]}"
    await audit.record(tx, by, f"token.{what}", target=target, details=details)


def _granted(ids: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """The ids, and whether they are all there are and will be."""
    return tuple(one for one in ids if one != "*"), "*" in ids


def with_grants(found: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a row tells of policies and enterprise projects, for a kind of ``Known``."""
    ids, every = _granted(found["enterprise_projects"])
    row = {**found, "enterprise_projects": ids, "sees_every_enterprise_project": every}
    granted = row["policies"]
    if granted is None:
        return {**row, "policies": (ADMINISTRATOR,)}
    return {
        **row,
        "policies": tuple(_policy(one) for one in granted),
        "roles": tuple(one["name"] for one in granted),
    }


def _policy(granted: Mapping[str, Any]) -> Policy:
    if granted["document"] is None:
        return SYSTEM_POLICIES[granted["name"]]
    return msgspec.convert(granted["document"], Policy)


def _check_project(name: str, project_id: str) -> None:
    if not 1 <= len(name) <= 64:
        raise InvalidParameterError("name", "must be 1 to 64 characters")
    if not _PROJECT_ID.fullmatch(project_id):
        raise InvalidParameterError(
            "id",
            "must be 1 to 256 letters, digits and . _ ~ -, beginning with a letter or a digit",
        )


def _check_life(name: str, life: dt.timedelta | None) -> None:
    if life is not None and life <= dt.timedelta(0):
        raise InvalidParameterError(name, "must be longer than nothing")


def credential_context(project_id: str, access_key: str) -> bytes:
    """Where the secret of an access key is at home."""
    return f"credential:{project_id}:{access_key}".encode()


def _pick(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
