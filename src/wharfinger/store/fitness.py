"""Whether a database is ready for an upgrade: what a look at it says, and nothing is changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from psycopg import sql

from wharfinger.domain.errors import SetupError
from wharfinger.store.archive import Connection, connected
from wharfinger.store.cluster import Layout, find_binaries
from wharfinger.store.database import SCHEMA
from wharfinger.store.migrate import OLDEST_VERSION, beyond, pending
from wharfinger.store.sealing import Sealer

Grade = Literal["ok", "warn", "fail"]

# A transaction that is older holds up migrations, and keeps deleted rows on the disk.
LONG_TRANSACTION_S = 300
# A worker that has been heard of lately.
LIVE_WORKER_S = 30
_SEALED = """
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r' AND a.atttypid = 'bytea'::regtype
  AND a.attname LIKE '%%sealed' AND NOT a.attisdropped
ORDER BY 1, 2
"""
_LONG = """
SELECT count(*), coalesce(max(extract(epoch FROM now() - xact_start))::integer, 0)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND xact_start < now() - make_interval(secs => %s)
"""
_WORKERS = """
SELECT count(*) FROM procrastinate_workers
WHERE last_heartbeat > now() - make_interval(secs => %s)
"""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at; ``advice`` says what to do where it is not ``ok``."""

    check: str
    grade: Grade
    message: str
    advice: str = ""


def check_binaries(data_dir: Path, pg_bin: str | None) -> Check:
    """Whether there are binaries that open the embedded data directory."""
    major = Layout.below(data_dir).major()
    if major is None:
        return _ok("binaries", "there is no embedded data directory yet")
    try:
        found = find_binaries(pg_bin, major=major)
    except SetupError as error:
        return _fail(
            "binaries",
            f"the data directory is of PostgreSQL {major}: {error}",
            "back up with the old binaries and restore with the new ones, see"
            " docs/operations.md; or put the old ones back",
        )
    return _ok("binaries", f"PostgreSQL {major} ({found.origin}) opens the data directory")


def check_keys(owner_dsn: str, key_file: Path) -> Check:
    """Whether the file of keys opens everything that is sealed."""
    if not key_file.exists():
        return _fail("keys", f"{key_file} is not there", "copy it from where it is kept")
    try:
        known = Sealer(key_file).ids
    except SetupError as error:
        return _fail("keys", str(error), "mend it, or copy it from where it is kept")
    with connected(owner_dsn) as connection:
        needed_ = _keys_in_use(connection)
    if lost := sorted(needed_ - known):
        return _fail(
            "keys",
            f"{key_file} lacks the key {lost[0]}, which seals stored secrets",
            "copy the file from where it is whole, or enter those secrets again",
        )
    return _ok("keys", f"{key_file} opens what is sealed")


def check_database(owner_dsn: str) -> Iterator[Check]:
    """What the database itself tells."""
    with connected(owner_dsn) as connection:
        yield _server(connection)
        yield _migrations(connection)
        yield _transactions(connection)
        yield _extensions(connection)
        yield _workers(connection)


def check_disk(owner_dsn: str, data_dir: Path) -> Check:
    """Whether the disk of the embedded database has room for migrations and a backup."""
    with connected(owner_dsn) as connection:
        (size,) = _row(connection, "SELECT pg_database_size(current_database())")
    free = shutil.disk_usage(data_dir).free
    told = f"{free / 1e9:.1f} GB are free, the database has {size / 1e9:.1f} GB"
    if free < size / 2:
        return _fail("disk", told, "make room: a migration may write a table anew")
    if free < 2 * size:
        return _warn("disk", told, "make room, or put the backup on another disk")
    return _ok("disk", told)


def _server(connection: Connection) -> Check:
    version = connection.info.parameter_status("server_version")
    if connection.info.server_version // 10000 < OLDEST_VERSION:
        return _fail(
            "server", f"PostgreSQL {version}", f"upgrade it to {OLDEST_VERSION} or newer first"
        )
    return _ok("server", f"PostgreSQL {version}")


def _migrations(connection: Connection) -> Check:
    (is_ours,) = _row(connection, "SELECT to_regclass('schema_migration') IS NOT NULL")
    rows = connection.execute("SELECT name FROM schema_migration").fetchall() if is_ours else []
    recorded = {row[0] for row in rows}
    if unknown := beyond(recorded):
        return _fail(
            "migrations",
            f"the database is newer than this version: {unknown[-1]}",
            "install the newer version",
        )
    missing = pending(recorded)
    if not missing:
        return _ok("migrations", "none is missing")
    late = [name for name in missing if "_post_" in name]
    return _warn(
        "migrations",
        f"{len(missing)} to apply, {len(late)} of them not before every process of the release"
        f" before has stopped: {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}",
        "wharfinger migrate --phase pre, then replace the processes, then wharfinger migrate",
    )


def _transactions(connection: Connection) -> Check:
    count, longest_s = _row(connection, _LONG, LONG_TRANSACTION_S)
    if count:
        return _warn(
            "transactions",
            f"{count} open for more than five minutes, the longest for {longest_s} s",
            "end them: a migration waits for them, and everybody else for the migration",
        )
    return _ok("transactions", "none is open for more than five minutes")


def _extensions(connection: Connection) -> Check:
    row = _row(connection, "SELECT extversion FROM pg_extension WHERE extname = 'pg_trgm'")
    if row is not None:
        return _ok("extensions", f"pg_trgm {row[0]}")
    (is_there,) = _row(
        connection, "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')"
    )
    if is_there:
        return _warn("extensions", "pg_trgm is not there yet", "the first migration makes it")
    return _fail("extensions", "the server has no pg_trgm", "install PostgreSQL's contrib package")


def _workers(connection: Connection) -> Check:
    (is_ours,) = _row(connection, "SELECT to_regclass('procrastinate_workers') IS NOT NULL")
    live = _row(connection, _WORKERS, LIVE_WORKER_S)[0] if is_ours else 0
    if live:
        return _warn(
            "workers",
            f"{live} queues are being worked on now; which version their workers are of is not"
            " known here",
            "stop them, or replace them between the two phases of migrating",
        )
    return _ok("workers", "none is at work")


def _keys_in_use(connection: Connection) -> set[str]:
    found: set[str] = set()
    for table, column in connection.execute(_SEALED, (SCHEMA,)).fetchall():
        # After a byte for the version come four for the key; see Sealer.
        query = sql.SQL(
            "SELECT DISTINCT encode(substring({column} FROM 2 FOR 4), 'hex') FROM {table}"
            " WHERE {column} IS NOT NULL"
        ).format(table=sql.Identifier(table), column=sql.Identifier(column))
        found |= {row[0] for row in connection.execute(query).fetchall()}
    return found


def _row(connection: Connection, query: Any, *values: object) -> Any:
    return connection.execute(query, values or None).fetchone()


def _ok(check: str, message: str) -> Check:
    return Check(check=check, grade="ok", message=message)


def _warn(check: str, message: str, advice: str) -> Check:
    return Check(check=check, grade="warn", message=message, advice=advice)


def _fail(check: str, message: str, advice: str) -> Check:
    return Check(check=check, grade="fail", message=message, advice=advice)
