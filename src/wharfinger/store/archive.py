"""A whole database as one file: every row of ours out of one snapshot, and back into an empty one.

The file is a ZIP archive of COPY's text form, so that neither the server's version nor its roles
have to be the same again. The queue's jobs are not in it: runs that were under way are taken up
anew by the first worker.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, BinaryIO

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from wharfinger import __version__
from wharfinger.domain.errors import SetupError, StoreUnavailableError
from wharfinger.store.database import SCHEMA, connection_options
from wharfinger.store.migrate import fingerprints, migrate

FORMAT = 1
MANIFEST = "manifest.json"
KEY = "secret.key"
_CHUNK = 1 << 20
_WAIT_FOR_TABLE = "10s"

Connection = psycopg.Connection[TupleRow]

# Those of the job engine are left out, and the record of migrations, which migrating writes.
_TABLES = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r' AND c.relpersistence = 'p'
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  AND c.relname NOT LIKE 'procrastinate\\_%%' AND c.relname <> 'schema_migration'
GROUP BY c.relname ORDER BY c.relname
"""
_SEQUENCES = """
SELECT pg_get_serial_sequence(format('%%I.%%I', %s::text, c.relname), a.attname)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r' AND c.relname = ANY(%s)
  AND (a.attidentity <> '' OR a.atthasdef)
  AND pg_get_serial_sequence(format('%%I.%%I', %s::text, c.relname), a.attname) IS NOT NULL
ORDER BY 1
"""
_FOREIGN_KEYS = """
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'f' AND c.relnamespace = %s::regnamespace AND c.relname = ANY(%s)
"""
_GUARDED = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = %s::regnamespace AND c.relname = ANY(%s) AND c.relforcerowsecurity
"""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table in an archive: its columns, and what its rows are recognised by."""

    name: str
    columns: list[str]
    rows: int
    bytes: int
    sha256: str


class Sequence_(msgspec.Struct, frozen=True, kw_only=True):  # noqa: N801 - not the abstract one
    """Where a sequence stands."""

    name: str
    value: int
    is_called: bool


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds, and what wrote it."""

    format: int
    version: str
    created_at: dt.datetime
    server: str
    migrations: dict[str, str]
    tables: list[Table]
    sequences: list[Sequence_]
    key_sha256: str | None = None

    @property
    def rows(self) -> int:
        """How many rows it holds in all."""
        return sum(table.rows for table in self.tables)


def back_up(owner_dsn: str, file: BinaryIO, *, key: bytes | None = None) -> Manifest:
    """Write a database into a file, as it is at one moment, while everything else goes on.

    Raises:
        SetupError: the database was not made by this version.
        StoreUnavailableError: it does not answer.
    """
    with connected(owner_dsn) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        recorded = _recorded(connection)
        if missing := sorted(set(fingerprints()) - set(recorded)):
            raise SetupError(
                f"the database lacks {missing[-1]}: back it up with the version that wrote it, or"
                " run wharfinger migrate first"
            )
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            tables = [
                _write_table(connection, archive, name, columns)
                for name, columns in _tables(connection)
            ]
            if key is not None:
                archive.writestr(KEY, key)
            manifest = Manifest(
                format=FORMAT,
                version=__version__,
                created_at=dt.datetime.now(dt.UTC),
                server=str(connection.info.parameter_status("server_version")),
                migrations=recorded,
                tables=tables,
                sequences=_sequences(connection, [table.name for table in tables]),
                key_sha256=None if key is None else hashlib.sha256(key).hexdigest(),
            )
            archive.writestr(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def read_manifest(file: BinaryIO) -> tuple[Manifest, bytes | None]:
    """What an archive says of itself, and its key; every checksum in it is right.

    Raises:
        SetupError: it is no archive, is damaged, or was written by a newer version.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = msgspec.json.decode(archive.read(MANIFEST), type=Manifest)
            _refuse_unknown(manifest)
            for table in manifest.tables:
                with archive.open(_entry(table.name)) as rows:
                    _check(table.name, rows, table.sha256)
            if manifest.key_sha256 is None:
                return manifest, None
            with archive.open(KEY) as key:
                _check(KEY, key, manifest.key_sha256)
            return manifest, archive.read(KEY)
    except (zipfile.BadZipFile, KeyError, EOFError, msgspec.MsgspecError, OSError) as exc:
        raise SetupError(f"the file is no whole backup: {exc}") from exc


def restore(owner_dsn: str, file: BinaryIO) -> Manifest:
    """Bring a database back out of a file, all of it or nothing, and up to this version.

    Raises:
        SetupError: the database is not empty, or the file is not one that can be brought back.
        StoreUnavailableError: the database does not answer.
    """
    manifest, _ = read_manifest(file)
    # As it was when the rows were written; what came later then runs over the rows.
    migrate(owner_dsn, only=manifest.migrations)
    with connected(owner_dsn) as connection:
        if later := sorted(set(_recorded(connection)) - set(manifest.migrations)):
            raise SetupError(
                f"the database has {later[-1]} already, which the backup has not; restore into a"
                " database that no newer version has used"
            )
        with connection.transaction(), zipfile.ZipFile(file) as archive:
            _refuse_used(connection)
            _fill(connection, archive, manifest)
    migrate(owner_dsn)
    return manifest


# --- out ------------------------------------------------------------------------------------------


def _write_table(
    connection: Connection, archive: zipfile.ZipFile, name: str, columns: Sequence[str]
) -> Table:
    digest, size = hashlib.sha256(), 0
    # A query, because a table with row-level security cannot be copied as it stands.
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
        _names(columns), sql.Identifier(name)
    )
    with archive.open(_entry(name), "w", force_zip64=True) as out, connection.cursor() as cursor:
        with cursor.copy(query) as rows:
            for chunk in rows:
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        count = cursor.rowcount
    return Table(
        name=name, columns=list(columns), rows=count, bytes=size, sha256=digest.hexdigest()
    )


def _tables(connection: Connection) -> list[tuple[str, list[str]]]:
    return [(row[0], row[1]) for row in connection.execute(_TABLES, (SCHEMA,)).fetchall()]


def _sequences(connection: Connection, tables: list[str]) -> list[Sequence_]:
    found = connection.execute(_SEQUENCES, (SCHEMA, SCHEMA, tables, SCHEMA)).fetchall()
    states = []
    for (name,) in found:
        query = sql.SQL("SELECT last_value, is_called FROM {}").format(
            sql.Identifier(*name.split("."))
        )
        value, is_called = _row(connection, query)
        states.append(Sequence_(name=name, value=value, is_called=is_called))
    return states


# --- in -------------------------------------------------------------------------------------------


def _fill(connection: Connection, archive: zipfile.ZipFile, manifest: Manifest) -> None:
    names = [table.name for table in manifest.tables]
    with _unguarded(connection, names):
        connection.execute(
            sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, names)))
        )
        for table in manifest.tables:
            _read_table(connection, archive, table)
    for one in manifest.sequences:
        connection.execute(
            "SELECT setval(%s::regclass, %s, %s)", (one.name, one.value, one.is_called)
        )


def _read_table(connection: Connection, archive: zipfile.ZipFile, table: Table) -> None:
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.name), _names(table.columns)
    )
    digest = hashlib.sha256()
    with (
        archive.open(_entry(table.name)) as rows,
        connection.cursor() as cursor,
        cursor.copy(query) as out,
    ):
        while chunk := rows.read(_CHUNK):
            out.write(chunk)
            digest.update(chunk)
    (count,) = _row(
        connection, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))
    )
    if count != table.rows or digest.hexdigest() != table.sha256:
        raise SetupError(f"{table.name}: {count} rows came back of {table.rows}; nothing was kept")


@contextlib.contextmanager
def _unguarded(connection: Connection, names: list[str]) -> Iterator[None]:
    """Let rows in in any order: without foreign keys, triggers, and walls between tenants.

    Adding the foreign keys again checks them.
    """
    keys = connection.execute(_FOREIGN_KEYS, (SCHEMA, names)).fetchall()
    guarded = [row[0] for row in connection.execute(_GUARDED, (SCHEMA, names)).fetchall()]
    for table, key, _ in keys:
        _alter(connection, table, sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(key)))
    for table in names:
        _alter(connection, table, sql.SQL("DISABLE TRIGGER USER"))
    for table in guarded:
        _alter(connection, table, sql.SQL("NO FORCE ROW LEVEL SECURITY"))
    yield
    for table in guarded:
        _alter(connection, table, sql.SQL("FORCE ROW LEVEL SECURITY"))
    for table in names:
        _alter(connection, table, sql.SQL("ENABLE TRIGGER USER"))
    for table, key, definition in keys:
        # The server's own words for what it had.
        again = sql.SQL("ADD CONSTRAINT {} {}").format(sql.Identifier(key), sql.SQL(definition))
        _alter(connection, table, again)


def _alter(connection: Connection, table: str, what: sql.Composable) -> None:
    connection.execute(sql.SQL("ALTER TABLE {} {}").format(sql.Identifier(table), what))


def _refuse_used(connection: Connection) -> None:
    (is_used,) = _row(connection, sql.SQL("SELECT EXISTS (SELECT FROM project)"))
    if is_used:
        raise SetupError("the database has projects already; restore into an empty one")


def _refuse_unknown(manifest: Manifest) -> None:
    known = fingerprints()
    newer = [name for name in manifest.migrations if name not in known]
    if manifest.format != FORMAT or newer:
        raise SetupError(
            f"the backup was written by version {manifest.version}, which is newer than this"
            f" one, {__version__}; upgrade Wharfinger"
        )
    if any(known[name] != digest for name, digest in manifest.migrations.items()):
        raise SetupError("the backup was written by a version with other migrations")


def _check(name: str, content: IO[bytes], expected: str) -> None:
    digest = hashlib.sha256()
    while chunk := content.read(_CHUNK):
        digest.update(chunk)
    if digest.hexdigest() != expected:
        raise SetupError(f"the backup is damaged: {name} is not what it was")


# --- both -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(dsn: str) -> Iterator[Connection]:
    """A connection as the owner, for work on the database as a whole.

    Raises:
        SetupError: the database refuses something.
        StoreUnavailableError: it does not answer.
    """
    try:
        with psycopg.connect(
            dsn, autocommit=True, connect_timeout=15, options=connection_options(dsn)
        ) as connection:
            connection.execute(sql.SQL("SET lock_timeout = {}").format(_WAIT_FOR_TABLE))
            yield connection
    except psycopg.OperationalError as exc:
        raise StoreUnavailableError(f"the database failed: {type(exc).__name__}") from exc
    except psycopg.Error as exc:
        raise SetupError(f"the database refuses: {str(exc).splitlines()[0]}") from exc


def _recorded(connection: Connection) -> dict[str, str]:
    """Our own migrations that a database has had."""
    (is_ours,) = _row(connection, sql.SQL("SELECT to_regclass('schema_migration') IS NOT NULL"))
    if not is_ours:
        raise SetupError("the database holds nothing of Wharfinger's")
    rows = connection.execute("SELECT name, sha256 FROM schema_migration").fetchall()
    return {name: digest for name, digest in rows if not name.startswith("procrastinate/")}


def _row(connection: Connection, query: sql.SQL | sql.Composed) -> Any:
    return connection.execute(query).fetchone()


def _names(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _entry(table: str) -> str:
    return f"tables/{table}.copy"
