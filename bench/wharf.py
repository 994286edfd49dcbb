"""Wharfinger as a contender: a worker process of its own over a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bench.contenders import Images
from bench.stage import RequestCount
from wharfinger.domain.model import Caller, RegistryCredential, RunOutcome, RunProgress
from wharfinger.settings import read_settings
from wharfinger.store.cluster import DATABASE, OWNER
from wharfinger.store.database import DatabaseAddress, connection_options
from wharfinger.store.embedded import Lease, hold
from wharfinger.store.migrate import migrate
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.model import AccessKey
from wharfinger.testing.rendered import Nginx
from wharfinger.wiring import House, open_house

PROJECT = "bench-project"
CALLER = Caller(project_id=PROJECT, project_name="bench", principal="bench", is_operator=True)
# What an unchanged sync may not write.
TABLES = ("repository", "image", "platform", "image_version", "event")
# Settings that decide what a figure is worth, and those that shape it.
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")
SHAPE = (
    "wal_level",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "work_mem",
    "jit",
    "autovacuum",
)
POLL_S = 0.005
WORKER_STARTS_S = 30.0
WORKER_STOPS_S = 30.0
RUN_ENDS_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Sync:
    """One sync, from the call to the run's end."""

    seconds: float
    requests: int
    peak_mb: float
    run: RunProgress


RowsWritten = dict[str, dict[str, int]]


class Server:
    """The embedded PostgreSQL with its default settings, in a folder of the bench's own."""

    def __init__(self, lease: Lease, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._lease = lease

    @classmethod
    @contextlib.contextmanager
    def running(cls, data_dir: Path, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
        with hold(data_dir, settings=settings) as lease:
            server = cls(lease, data_dir)
            migrate(lease.address.owner)
            yield server

    def settings(self) -> dict[str, str]:
        """Version and settings, as the server itself tells them.

        Raises:
            RuntimeError: what is committed would not survive a crash.
        """
        with self.superuser() as connection:
            told = {"version": str(_value(connection, "SELECT version()"))}
            for name in (*DURABILITY, *SHAPE):
                told[name] = str(_value(connection, f"SHOW {name}"))
        off = [name for name in DURABILITY if told[name] != "on"]
        if off:
            raise RuntimeError(f"{', '.join(off)} must be on")
        return told

    def cpu_s(self) -> float:
        """Processor seconds of the server and all its processes so far, the ended ones too."""
        (file,) = self.data_dir.rglob("postmaster.pid")
        postmaster = int(file.read_text("utf-8").splitlines()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text("utf-8")
        total = cpu_seconds(postmaster, with_children=True)
        for child in children.split():
            # One that ends just now is among those that were waited for next time.
            with contextlib.suppress(OSError):
                total += cpu_seconds(int(child))
        return total

    @contextlib.contextmanager
    def superuser(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        dsn = self._lease.superuser_dsn(database)
        options = connection_options(dsn)
        with psycopg.connect(dsn, autocommit=True, options=options) as connection:
            yield connection

    @contextlib.contextmanager
    def fresh_database(self) -> Iterator[str]:
        """A migrated, empty database; a copy of the one nobody ever used."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        parts = [sql.Identifier(n) for n in (name, DATABASE, OWNER)]
        with self.superuser() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(*parts))
            # The copy's dirty pages are not the first sync's to write.
            connection.execute("CHECKPOINT")
        try:
            yield name
        finally:
            with self.superuser() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(parts[0]))

    def address(self, database: str) -> DatabaseAddress:
        address = self._lease.address
        return DatabaseAddress(
            owner=make_conninfo(address.owner, dbname=database),
            app=make_conninfo(address.app, dbname=database),
        )


class Wharf:
    """A house over one database, whose syncs are done by worker processes one starts."""

    def __init__(self, server: Server, database: str, house: House) -> None:
        self.database = database
        self.house = house
        self._server = server
        self._watch = psycopg.connect(
            server.address(database).owner,
            autocommit=True,
            options=connection_options(server.address(database).owner),
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def over_a_fresh_database(cls, server: Server) -> AsyncIterator[Wharf]:
        with server.fresh_database() as database:
            settings = read_settings(environment={"WHARFINGER_DATA_DIR": str(server.data_dir)})
            async with open_house(settings, server.address(database)) as house:
                await house.callers.create_project("bench", PROJECT)
                wharf = cls(server, database, house)
                try:
                    yield wharf
                finally:
                    wharf.close()

    def close(self) -> None:
        """Close the connection by which it watches."""
        self._watch.close()

    async def attach(self, name: str, url: str, key: AccessKey) -> None:
        """Attach an SWR under a name."""
        new = NewRegistry(name=name, kind="SwrPrivate", address=url, allow_private_networks=True)
        credential = RegistryCredential(
            kind="access_key", identity=key.access_key, secret=key.secret_key
        )
        await self.house.registries.add(CALLER, new, credential)

    @contextlib.asynccontextmanager
    async def worker(self, **settings: str) -> AsyncIterator[WorkerProcess]:
        """A worker process that is ready to work, with these variables in its environment.

        When the context ends it has ended too, and with its connections whatever they still owed
        to the table statistics is there.
        """
        address = self._server.address(self.database)
        environment = {
            **os.environ,
            "WHARFINGER_DATA_DIR": str(self._server.data_dir),
            "WHARFINGER_DATABASE_URL": address.owner,
            "WHARFINGER_DATABASE_APP_URL": address.app,
            "WHARFINGER_LOG_LEVEL": "warning",
            **settings,
        }
        others = self._listeners()
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "wharfinger", "worker", f"--parent={os.getpid()}"],
            env=environment,
        )
        try:
            await self._await_worker(process, others)
            yield WorkerProcess(process.pid)
        finally:
            # It may have been killed meanwhile.
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait_for(process.wait(), WORKER_STOPS_S)

    async def _await_worker(self, process: asyncio.subprocess.Process, others: int) -> None:
        deadline = time.monotonic() + WORKER_STARTS_S
        while process.returncode is None and time.monotonic() < deadline:
            if self._listeners() > others:
                return
            await asyncio.sleep(0.05)
        raise RuntimeError("the worker does not start")

    def _listeners(self) -> int:
        """Connections that listen for jobs: two of each worker."""
        query = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query ILIKE 'LISTEN%%procrastinate%%'"
        )
        with self._server.superuser(self.database) as connection:
            return int(_value(connection, query))

    async def sync(
        self, name: str, nginx: Nginx, worker: WorkerProcess, *, full: bool = False
    ) -> Sync:
        """Synchronise one registry behind nginx, whose log counts the requests.

        Raises:
            RuntimeError: the outcome is not "complete", or the run does not end.
        """
        count = RequestCount(nginx)
        sync = await self.timed(name, worker, full=full)
        return replace(sync, requests=count.take())

    async def timed(self, name: str, worker: WorkerProcess, *, full: bool = False) -> Sync:
        """Synchronise one registry and wait for the run's end to be visible; counts no requests.

        Raises:
            RuntimeError: the outcome is not "complete", or the run does not end.
        """
        worker.forget_peak()
        seconds, run = await self.synchronised(name, full=full)
        return Sync(seconds=seconds, requests=0, peak_mb=worker.peak_mb(), run=run)

    async def synchronised(self, name: str, *, full: bool = False) -> tuple[float, RunProgress]:
        """Synchronise one registry by whichever workers there are; the seconds, and the run.

        Raises:
            RuntimeError: the outcome is not "complete", or the run does not end.
        """
        began = time.perf_counter()
        task_id = await self.house.synchroniser.synchronise_names(CALLER, (name,), full=full)
        await self._run_ended(task_id, began + RUN_ENDS_S)
        seconds = time.perf_counter() - began
        task = await self.house.synchroniser.task(CALLER, task_id)
        (run,) = task.runs
        if run.outcome is not RunOutcome.COMPLETE:
            raise RuntimeError(f"the sync ended {run.outcome}: {run.reasons}")
        return seconds, run

    async def _run_ended(self, task_id: str, deadline: float) -> None:
        query = "SELECT bool_and(state = 'finished') FROM run JOIN task_run t ON t.run_id = run.id"
        while not _value(self._watch, f"{query} WHERE t.task_id = %s", task_id):
            left_s = deadline - time.perf_counter()
            if left_s < 0:
                raise RuntimeError("the run does not end")
            # At most a hundredth too long, and little work beside the one that is measured.
            await asyncio.sleep(max(POLL_S, (RUN_ENDS_S - left_s) / 100))

    def stored(self, name: str) -> Images:
        """(path, tag, digest) of every live image of a registry.

        Raises:
            RuntimeError: an image is there twice.
        """
        rows = self._watch.execute(
            """
            SELECT r.namespace || '/' || r.name, i.tag, i.digest
            FROM image i JOIN repository r ON r.id = i.repository_id
            JOIN registry g ON g.id = i.registry_id
            WHERE g.name = %s AND i.retired_at IS NULL
            """,
            (name,),
        ).fetchall()
        if len(set(rows)) != len(rows):
            raise RuntimeError("an image is stored twice")
        return set(rows)

    def copy_seconds(self) -> float:
        """Seconds that PostgreSQL needs to take in the very rows that are stored, by plain COPY.

        Into a fresh database with the same tables and indexes, by a superuser whom neither
        row-level security nor foreign keys keep busy, in one transaction, from memory.
        """
        with self._server.superuser(self.database) as source:
            rows = {table: _copied_out(source, table) for table in TABLES}
        with self._server.fresh_database() as other, self._server.superuser(other) as target:
            target.execute("SET session_replication_role = replica")
            began = time.perf_counter()
            with target.transaction():
                for table, (columns, data) in rows.items():
                    _copy_in(target, data, columns, table)
            return time.perf_counter() - began

    def has(self, tag: str, digest: str) -> bool:
        """Whether an image of this tag and digest is listed."""
        query = (
            "SELECT EXISTS (SELECT FROM image"
            " WHERE tag = %s AND digest = %s AND retired_at IS NULL)"
        )
        return bool(_value(self._watch, query, tag, digest))

    def lies(self, name: str) -> int:
        """How many changes behind a standing fingerprint a registry is known for."""
        return int(
            _value(self._watch, "SELECT fingerprint_lies FROM registry WHERE name = %s", name)
        )

    def table_writes(self) -> RowsWritten:
        """Rows inserted, updated and deleted per table since the database was made.

        Complete only while no worker runs: a busy connection reports later.
        """
        with self._server.superuser(self.database) as connection:
            rows = connection.execute(
                "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables"
                " WHERE schemaname = 'wharfinger' AND relname = ANY(%s)",
                (list(TABLES),),
            ).fetchall()
        return {t: {"ins": i, "upd": u, "del": d} for t, i, u, d in rows}


class WorkerProcess:
    """A running worker, and the most memory it held."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        """End it without a word."""
        os.kill(self.pid, signal.SIGKILL)

    def cpu_s(self) -> float:
        """Processor seconds it has taken so far, user's and system's."""
        return cpu_seconds(self.pid)

    def forget_peak(self) -> None:
        """Begin the peak anew (``clear_refs`` of proc(5))."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", "utf-8")

    def peak_mb(self) -> float:
        """The peak resident memory in MB (1,000,000 bytes)."""
        for line in Path(f"/proc/{self.pid}/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError("the worker has no peak memory")


def cpu_seconds(pid: int, *, with_children: bool = False) -> float:
    """Processor seconds of a process, and of the children it has waited for (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    ticks = [int(field) for field in fields[11 : 15 if with_children else 13]]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def difference(before: RowsWritten, after: RowsWritten) -> RowsWritten:
    """What was written in between, without the tables and operations where nothing was."""
    found: RowsWritten = {}
    for table, counts in after.items():
        grown = {k: n - before.get(table, {}).get(k, 0) for k, n in counts.items()}
        if any(grown.values()):
            found[table] = {k: n for k, n in grown.items() if n}
    return found


def _copied_out(connection: psycopg.Connection[Any], table: str) -> tuple[sql.Composed, bytes]:
    """The columns of a table that are not made of others, and its rows in binary form."""
    names = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass"
        " AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        (f"wharfinger.{table}",),
    ).fetchall()
    columns = sql.SQL(", ").join(sql.Identifier(name) for (name,) in names)
    query = sql.SQL("COPY (SELECT {} FROM wharfinger.{}) TO STDOUT (FORMAT binary)")
    with connection.cursor().copy(query.format(columns, sql.Identifier(table))) as copy:
        return columns, b"".join(copy)


def _copy_in(
    connection: psycopg.Connection[Any], data: bytes, columns: sql.Composed, table: str
) -> None:
    query = sql.SQL("COPY wharfinger.{} ({}) FROM STDIN (FORMAT binary)")
    with connection.cursor().copy(query.format(sql.Identifier(table), columns)) as copy:
        copy.write(data)


def _value(connection: psycopg.Connection[Any], query: str, *parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()  # type: ignore[arg-type]
    return row[0] if row else None
