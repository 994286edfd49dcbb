"""Bring a database to this version's schema: numbered SQL files, applied once, by the owner."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal, LiteralString

import psycopg
from procrastinate.schema import SchemaManager
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from wharfinger.domain.errors import SetupError, StoreUnavailableError
from wharfinger.store.database import APP_ROLE, SCHEMA

OLDEST_VERSION = 17

# Any number will do, as long as nobody else in the database uses it: "wharfing" in ASCII.
_LOCK_KEY = 0x7768617266696E67
# Longer than any migration should take, shorter than an operator's patience with a hung start.
_WAIT_FOR_OTHERS = "15min"
# A migration that waits for a busy table makes everybody else wait behind it.
_WAIT_FOR_TABLE = "10s"
_ROLE_RACE_ATTEMPTS = 5

_Connection = psycopg.Connection[TupleRow]

# Which migrations may run now: those that the release before can live with, or all.
Phase = Literal["pre", "all"]


@dataclass(frozen=True)
class Migration:
    """One SQL file: its name, which orders it, and its text."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The fingerprint by which an edited file is recognised."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def is_post(self) -> bool:
        """Whether the release before cannot live with it; all others only add."""
        return _is_post(self.name)


def _is_post(name: str) -> bool:
    return "_post_" in name


def migrate(
    owner_dsn: str, phase: Phase = "all", *, only: Collection[str] | None = None
) -> list[str]:
    """Apply what the database lacks; returns the names applied, in order.

    Safe to call from many processes at once: one migrates, the others wait and find nothing to
    do. Each file is one transaction, so a failure leaves the files before it applied.

    Args:
        owner_dsn: a libpq connection string for the role that owns the schema. The role need not
            be a superuser; it needs CREATE on the database, and CREATEROLE unless the role
            ``wharfinger_app`` exists.
        phase: ``pre`` leaves out what the release before could not live with. An empty database
            has no release before, and gets everything.
        only: the names that may be applied, for a database that is to be as it was in an older
            version; ``None`` for all.

    Raises:
        SetupError: PostgreSQL is too old, the role may not do what is needed, an applied file was
            edited, a newer Wharfinger has migrated the database, or several releases lie between
            the database and this one, so that there is no first phase for them all.
        StoreUnavailableError: no connection, or other sessions hold the tables.
    """
    with _explained(), _connect(owner_dsn) as connection:
        _refuse_old_servers(connection)
        with _alone(connection):
            _prepare(connection)
            return _apply_missing(connection, phase, only)


@functools.cache
def migrations() -> list[Migration]:
    """The package's own files, in order."""
    folder = resources.files("wharfinger.store") / "migrations"
    return _files(folder, prefix="")


def fingerprints() -> dict[str, str]:
    """The package's own files by name, each with what an edited one is recognised by."""
    return {step.name: step.sha256 for step in migrations()}


def needed() -> list[str]:
    """What this version cannot work without: the names of all that only adds."""
    return [s.name for s in (*_job_engine_migrations(), *migrations()) if not s.is_post]


def pending(recorded: Collection[str]) -> list[str]:
    """Of all that this version knows: the names that a database has not recorded, in order."""
    steps = (*_job_engine_migrations(), *migrations())
    return [step.name for step in steps if step.name not in recorded]


def beyond(recorded: Collection[str]) -> list[str]:
    """Of the names a database recorded: what this version does not know and cannot live with."""
    known = {step.name for step in (*_job_engine_migrations(), *migrations())}
    return sorted(name for name in recorded if name not in known and _is_post(name))


@functools.cache
def _job_engine_migrations() -> list[Migration]:
    return _files(resources.files("procrastinate.sql") / "migrations", prefix="procrastinate/")


def _files(folder: Traversable, *, prefix: str) -> list[Migration]:
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [
        Migration(
            prefix + file.name.removesuffix(".sql"),
            file.read_text("utf-8"),
        )
        for file in files
    ]


# --- connection and lock -------------------------------------------------------------------------


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except errors.InsufficientPrivilege as exc:
        raise SetupError(f"the database owner's role lacks a permission: {_said(exc)}") from exc
    except errors.LockNotAvailable as exc:
        raise StoreUnavailableError(
            "the migration gave up waiting for other sessions; try again when they are done"
        ) from exc
    except errors.FeatureNotSupported as exc:
        raise SetupError(f"the database server lacks something: {_said(exc)}") from exc
    except psycopg.OperationalError as exc:
        raise StoreUnavailableError(f"the database does not answer: {_said(exc)}") from exc


def _said(exc: psycopg.Error) -> str:
    # The server's words without statement and context; libpq's own never hold the password.
    return exc.diag.message_primary or str(exc).strip()


def _connect(dsn: str) -> _Connection:
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # Not chained: libpq quotes the part that it could not read, which may be the password.
        raise SetupError("the database's address is not a libpq connection string") from None
    return psycopg.connect(dsn, autocommit=True, connect_timeout=15)


def _refuse_old_servers(connection: _Connection) -> None:
    if connection.info.server_version // 10000 < OLDEST_VERSION:
        found = connection.info.parameter_status("server_version")
        raise SetupError(
            f"PostgreSQL {OLDEST_VERSION} or newer is needed, the database runs {found}"
        )


@contextlib.contextmanager
def _alone(connection: _Connection) -> Iterator[None]:
    _set(connection, "lock_timeout", _WAIT_FOR_OTHERS)
    connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
    _set(connection, "lock_timeout", _WAIT_FOR_TABLE)
    try:
        yield
    finally:
        # A dead connection has given up its lock already.
        with contextlib.suppress(psycopg.OperationalError):
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK_KEY,))


# --- schema, role, bookkeeping -------------------------------------------------------------------


def _prepare(connection: _Connection) -> None:
    _despite_races(lambda: _make_role(connection))
    _despite_races(lambda: _let_owner_work_as_app(connection))
    if not _one(connection, "SELECT to_regnamespace(%s) IS NOT NULL", SCHEMA):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    _let_app_in(connection)
    _set(connection, "search_path", _search_path(connection))
    _set(connection, "timezone", "UTC")
    if not _one(connection, "SELECT to_regclass(%s) IS NOT NULL", f"{SCHEMA}.schema_migration"):
        connection.execute(
            "CREATE TABLE schema_migration (name text PRIMARY KEY, sha256 text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute(
            sql.SQL("GRANT SELECT ON schema_migration TO {}").format(sql.Identifier(APP_ROLE))
        )


def _search_path(connection: _Connection) -> str:
    """Our schema, then that of a pg_trgm installed before us, and temporary tables last.

    The functions that look across tenants keep this path. Were pg_temp not named last it would be
    first, and a caller's temporary table would stand in for ours.
    """
    elsewhere = _one(
        connection,
        "SELECT min(quote_ident(nspname)) FROM pg_extension e JOIN pg_namespace n"
        " ON n.oid = e.extnamespace WHERE extname = 'pg_trgm' AND nspname <> %s",
        SCHEMA,
    )
    return ", ".join(schema for schema in (SCHEMA, elsewhere, "pg_temp") if schema)


def _make_role(connection: _Connection) -> None:
    if _one(connection, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", APP_ROLE):
        return
    try:
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(APP_ROLE)))
    except errors.InsufficientPrivilege as exc:
        raise SetupError(
            f"the role {APP_ROLE} does not exist and the owner may not create it; run as an"
            f' administrator: CREATE ROLE {APP_ROLE} NOLOGIN; GRANT {APP_ROLE} TO "<owner>" WITH'
            " SET TRUE, INHERIT FALSE;"
        ) from exc


def _let_owner_work_as_app(connection: _Connection) -> None:
    """Let one login do both jobs, by ``options=-c role=wharfinger_app``.

    Since PostgreSQL 16 whoever creates a role may administer it but not become it. The owner does
    not inherit: it would come under the policies meant for the application.
    """
    may, administers = _row(
        connection,
        "SELECT pg_has_role(current_user, %s::name, 'SET'),"
        " pg_has_role(current_user, %s::name, 'MEMBER WITH ADMIN OPTION')",
        APP_ROLE,
        APP_ROLE,
    )
    if administers and not may:
        connection.execute(
            sql.SQL("GRANT {} TO CURRENT_USER WITH SET TRUE, INHERIT FALSE").format(
                sql.Identifier(APP_ROLE)
            )
        )


def _let_app_in(connection: _Connection) -> None:
    database = connection.info.dbname
    wanted: tuple[tuple[str, str, LiteralString, LiteralString], ...] = (
        ("has_database_privilege", database, "CONNECT", "DATABASE"),
        ("has_database_privilege", database, "TEMPORARY", "DATABASE"),
        ("has_schema_privilege", SCHEMA, "USAGE", "SCHEMA"),
    )
    for function, name, privilege, kind in wanted:
        check = sql.SQL("SELECT {}(%s::name, %s, %s)").format(sql.Identifier(function))
        if not _one(connection, check, APP_ROLE, name, privilege):
            connection.execute(
                sql.SQL("GRANT {} ON {} {} TO {}").format(
                    sql.SQL(privilege),
                    sql.SQL(kind),
                    sql.Identifier(name),
                    sql.Identifier(APP_ROLE),
                )
            )


def _despite_races(step: Callable[[], None]) -> None:
    """Repeat a step on cluster-wide catalogs, which our lock (one database's) does not cover."""
    for attempt in range(1, _ROLE_RACE_ATTEMPTS + 1):
        try:
            return step()
        except (errors.DuplicateObject, errors.UniqueViolation, errors.InternalError_):
            # InternalError_ is "tuple concurrently updated".
            if attempt == _ROLE_RACE_ATTEMPTS:
                raise
            time.sleep(0.05 * attempt)
    return None


# --- applying ------------------------------------------------------------------------------------


def _apply_missing(
    connection: _Connection, phase: Phase, only: Collection[str] | None
) -> list[str]:
    rows = connection.execute("SELECT name, sha256 FROM schema_migration").fetchall()
    recorded: dict[str, str] = dict(rows)
    engine, ours = _job_engine_migrations(), migrations()
    _refuse_newer_databases(recorded)
    _refuse_edited_files(recorded, ours)
    chosen = [step for step in _chosen(ours, recorded, phase) if only is None or step.name in only]
    if not any(name.startswith("procrastinate/") for name in recorded):
        applied = [_install_job_engine(connection, engine)]
    else:
        applied = [_apply(connection, step) for step in _chosen(engine, recorded, phase)]
    _grant_job_engine(connection, changed=bool(applied))
    applied += [_apply(connection, step) for step in chosen]
    return applied


def _chosen(steps: list[Migration], recorded: Collection[str], phase: Phase) -> list[Migration]:
    """The missing steps of a phase.

    A post migration ends a release: what has a higher number belongs to a later one. One that
    stands before everything else that is missing was left over by the release before, whose own
    predecessor has long gone; it is made up for. In the middle it means that several releases are
    missing, and what comes after it may build on it.
    """
    missing = [step for step in steps if step.name not in recorded]
    if phase == "all" or len(missing) == len(steps):
        return missing
    overdue = list(itertools.takewhile(lambda step: step.is_post, missing))
    overdue = overdue if len(overdue) < len(missing) else []
    first = list(itertools.takewhile(lambda step: not step.is_post, missing[len(overdue) :]))
    late = [s.name for s in missing[len(overdue) + len(first) :] if not s.is_post]
    if late:
        raise SetupError(
            f"{late[0]} belongs to a later release than {first[0]}; upgrade one release at a"
            " time, or stop every process and run: wharfinger migrate"
        )
    return overdue + first


def _refuse_newer_databases(recorded: Collection[str]) -> None:
    unknown = beyond(recorded)
    if unknown:
        raise SetupError(
            f"the database is newer than this version of Wharfinger, which does not know its"
            f" migration {unknown[-1]}; upgrade Wharfinger"
        )


def _refuse_edited_files(recorded: dict[str, str], ours: list[Migration]) -> None:
    for step in ours:
        if recorded.get(step.name, step.sha256) != step.sha256:
            raise SetupError(
                f"migration {step.name} was edited after it had been applied; restore the file"
                " and put the change into a new one"
            )


def _apply(connection: _Connection, step: Migration) -> str:
    with connection.transaction():
        # The files ship with their packages: their text is as trustworthy as a literal.
        connection.execute(step.text.encode())
        _record(connection, step)
    return step.name


def _install_job_engine(connection: _Connection, engine: list[Migration]) -> str:
    """Procrastinate's schema, which is the sum of its migrations; they are recorded as applied."""
    with connection.transaction():
        connection.execute(SchemaManager.get_schema())
        for step in engine:
            _record(connection, step)
    return "procrastinate"


def _record(connection: _Connection, step: Migration) -> None:
    connection.execute(
        "INSERT INTO schema_migration (name, sha256) VALUES (%s, %s)", (step.name, step.sha256)
    )


def _grant_job_engine(connection: _Connection, *, changed: bool) -> None:
    if not changed:
        return
    relations = connection.execute(
        r"SELECT relname, relkind FROM pg_class WHERE relnamespace = %s::regnamespace"
        r" AND relname LIKE 'procrastinate\_%%' AND relkind IN ('r', 'S') ORDER BY relname",
        (SCHEMA,),
    ).fetchall()
    for name, kind in relations:
        grant: LiteralString = (
            "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {} TO {}"
            if kind in ("r", b"r")
            else "GRANT USAGE ON SEQUENCE {} TO {}"
        )
        connection.execute(
            sql.SQL(grant).format(sql.Identifier(SCHEMA, name), sql.Identifier(APP_ROLE))
        )


# --- small queries -------------------------------------------------------------------------------


def _row(connection: _Connection, query: LiteralString | sql.Composed, *values: str) -> Any:
    return connection.execute(query, values).fetchone()


def _one(connection: _Connection, query: LiteralString | sql.Composed, *values: str) -> Any:
    return _row(connection, query, *values)[0]


def _set(connection: _Connection, setting: str, value: str) -> None:
    connection.execute("SELECT set_config(%s, %s, false)", (setting, value))
