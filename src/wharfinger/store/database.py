"""Connections to the one PostgreSQL, each transaction bound to one tenant."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from wharfinger.domain import tracing
from wharfinger.domain.errors import SetupError, StoreBusyError, StoreUnavailableError
from wharfinger.store.spans import TellingClientCursor, TellingCursor

# What a server says that will let us in a little later.
_PASSING = re.compile("starting up|shutting down|recovery|too many|reserved")

Connection = psycopg.AsyncConnection[TupleRow]

# Asks some queries with the same values; the rows of each.
Ask = Callable[[Sequence[sql.Composable], Mapping[str, Any]], Awaitable[list[list[TupleRow]]]]

# A connection that keeps silent is believed to be there for so long.
_BELIEVED_S = 10.0
_AS_TENANT = sql.SQL("SELECT set_config('wharfinger.tenant', %(tenant)s, true)")

APP_ROLE = "wharfinger_app"
SCHEMA = "wharfinger"
LONGEST_SNAPSHOT: LiteralString = "60min"


@dataclass(frozen=True, kw_only=True)
class DatabaseAddress:
    """Where the database is, for the role that migrates and for the role that works.

    Both are libpq connection strings. ``app`` must end up working as ``wharfinger_app``: by
    logging in as it, or through ``options=-c role=wharfinger_app``. ``owner`` is empty where a
    process only works.
    """

    owner: str
    app: str


class _Pooled(psycopg.AsyncConnection[TupleRow]):
    """A connection of the pool, which remembers when it was last seen to work."""

    checked_at = 0.0


class Database:
    """The application role's connections.

    Raises:
        StoreUnavailableError: from every method that needs a connection, when there is none.
    """

    def __init__(self, address: DatabaseAddress, *, max_connections: int = 8) -> None:
        self._address = address.app
        self._options = connection_options(address.app)
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            address.app,
            open=False,
            min_size=1,
            max_size=max_connections,
            timeout=5,
            connection_class=_Pooled,
            check=_check,
            configure=_configure_telling if tracing.is_on() else _configure,
            kwargs={"options": self._options},
        )

    @property
    def pool(self) -> AsyncConnectionPool[Connection]:
        """The pool itself, for the job engine."""
        return self._pool

    async def open(self) -> None:
        """Connect, and refuse to work as a role that row-level security does not bind.

        Raises:
            SetupError: the role is a superuser, bypasses row-level security or owns the tables.
        """
        await self._try_to_log_in()
        try:
            await self._pool.open(wait=True, timeout=15)
        except PoolTimeout as exc:
            raise StoreUnavailableError("the database does not answer") from exc
        async with self.system() as connection:
            await _refuse_a_role_above_the_law(connection)

    async def _try_to_log_in(self) -> None:
        """Learn why there is no connection: the pool only knows that there is none."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._address, connect_timeout=10, options=self._options
            )
        except psycopg.OperationalError as exc:
            why = str(exc).strip().splitlines()[-1]
            if "FATAL" in why and not _PASSING.search(why):
                raise SetupError(f"the working role cannot use the database: {why}") from exc
            raise StoreUnavailableError(f"the database does not answer: {why}") from exc
        await connection.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def recorded_migrations(self) -> set[str] | None:
        """The names of the migrations applied; ``None`` when the database does not answer now."""
        try:
            async with asyncio.timeout(2), self.system() as connection:
                rows = await connection.execute("SELECT name FROM schema_migration")
                return {name for (name,) in await rows.fetchall()}
        except psycopg.errors.UndefinedTable:
            return set()
        except (StoreUnavailableError, TimeoutError):
            return None

    @contextlib.asynccontextmanager
    async def tenant(self, project_id: str) -> AsyncIterator[Connection]:
        """One transaction that sees the rows of one project and no others."""
        async with self._transaction() as connection:
            await connection.execute(
                "SELECT set_config('wharfinger.tenant', %s, true)", (project_id,)
            )
            yield connection

    @contextlib.asynccontextmanager
    async def snapshot(self, project_id: str) -> AsyncIterator[Connection]:
        """One read-only transaction in which a project stays as it was at the first reading."""
        async with self._transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # Rows that others delete stay on the disk for as long as this can see them.
            await connection.execute(f"SET LOCAL transaction_timeout = '{LONGEST_SNAPSHOT}'")
            await connection.execute(
                "SELECT set_config('wharfinger.tenant', %s, true)", (project_id,)
            )
            yield connection

    @contextlib.asynccontextmanager
    async def system(self) -> AsyncIterator[Connection]:
        """One transaction without a tenant: it sees no tenant's rows at all."""
        async with self._transaction() as connection:
            yield connection

    async def ask_all(
        self, project_id: str, wanted: Sequence[sql.Composable], values: Mapping[str, Any]
    ) -> list[list[TupleRow]]:
        """The rows of each of some queries that see the rows of one project and no others.

        As ``tenant``, in a third of the time: the tenant and the queries go to the server together,
        which takes statements that arrive in one message for one transaction. Such a message has
        no parameters, so the values are quoted here, by libpq. Queries that change something
        belong in ``tenant``.
        """
        message = sql.SQL("; ").join((_AS_TENANT, *wanted))
        async with self._connection() as connection:
            if not connection.autocommit:
                await connection.set_autocommit(True)
            cursor = _quoting_cursor(connection)
            await cursor.execute(message, {**values, "tenant": project_id})
            found = []
            while cursor.nextset():
                found.append(await cursor.fetchall())
            return found

    def asking(self, project_id: str) -> Ask:
        """How one project is asked, each time in a transaction of its own."""
        return functools.partial(self.ask_all, project_id)

    async def look_up(
        self, query: LiteralString, values: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The first row of a query that needs no tenant, if there is one."""
        async with self._connection() as connection:
            if not connection.autocommit:
                await connection.set_autocommit(True)
            return await first_row(connection, query, values)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._connection() as connection:
            if connection.autocommit:
                await connection.set_autocommit(False)
            yield connection
            _refuse_a_lost_connection(connection)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.connection() as connection:
                yield connection
        except PoolTimeout as exc:
            raise StoreUnavailableError("the database does not answer") from exc
        except (
            psycopg.errors.DeadlockDetected,
            psycopg.errors.SerializationFailure,
            psycopg.errors.LockNotAvailable,
        ) as exc:
            raise StoreBusyError(f"the database was busy: {type(exc).__name__}") from exc
        except psycopg.OperationalError as exc:
            raise StoreUnavailableError(f"the database failed: {type(exc).__name__}") from exc


async def all_rows(
    connection: Connection, query: LiteralString, values: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Every row of a query, by column name."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchall()


async def first_row(
    connection: Connection, query: LiteralString, values: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The first row of a query, if there is one."""
    rows = await all_rows(connection, query, values)
    return rows[0] if rows else None


async def only_row(
    connection: Connection, query: LiteralString, values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The row of a query that always has one, such as an INSERT … RETURNING."""
    row = await first_row(connection, query, values)
    if row is None:
        raise AssertionError("the database returned no row")
    return row


def connection_options(conninfo: str) -> str:
    """The ``options`` of a connection: ours on top of those its address already carries."""
    given = psycopg.conninfo.conninfo_to_dict(conninfo).get("options", "")
    ours = (
        f"-c search_path={SCHEMA},public -c timezone=UTC -c idle_in_transaction_session_timeout=60s"
    )
    return f"{given} {ours}".strip()


def within(connection: Connection) -> Ask:
    """How the transaction that a connection is in is asked."""

    async def ask(
        wanted: Sequence[sql.Composable], values: Mapping[str, Any]
    ) -> list[list[TupleRow]]:
        # Never prepared: the best plan depends on the values.
        return [
            await (
                await connection.execute(sql.Composed([query]), values, prepare=False)
            ).fetchall()
            for query in wanted
        ]

    return ask


async def rows_of(
    ask: Ask, query: sql.Composable | LiteralString, values: Mapping[str, Any]
) -> list[TupleRow]:
    """The rows of one query."""
    wanted = query if isinstance(query, sql.Composable) else sql.SQL(query)
    (rows,) = await ask((wanted,), values)
    return rows


def _quoting_cursor(connection: Connection) -> psycopg.AsyncClientCursor[TupleRow]:
    if issubclass(connection.cursor_factory, TellingCursor):
        return TellingClientCursor(connection)
    return psycopg.AsyncClientCursor(connection)


async def _check(connection: Connection) -> None:
    """Refuse a connection that has ended.

    A server that ends a connection says so, and whatever dies with its machine is noticed soon
    enough by asking now and then: asking each time would cost as much as many a query.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    now = time.monotonic()
    checked_at = getattr(connection, "checked_at", 0.0)
    if poll.poll(0) or now - checked_at > _BELIEVED_S:
        await AsyncConnectionPool.check_connection(connection)
        connection.checked_at = now  # type: ignore[attr-defined]


def _refuse_a_lost_connection(connection: Connection) -> None:
    # psycopg commits nothing over a connection that was closed, and says nothing either.
    if connection.closed:
        raise psycopg.OperationalError("the connection was lost before the commit")


async def _configure(connection: Connection) -> None:
    # Plans of prepared statements outlive a change of statistics badly; five uses are enough to
    # know that a statement is hot.
    connection.prepare_threshold = 5


async def _configure_telling(connection: Connection) -> None:
    await _configure(connection)
    connection.cursor_factory = TellingCursor


async def _refuse_a_role_above_the_law(connection: Connection) -> None:
    cursor = await connection.execute(
        """
        SELECT r.rolname, r.rolsuper OR r.rolbypassrls,
               EXISTS (SELECT FROM pg_tables
                       WHERE schemaname = 'wharfinger' AND tableowner = current_user)
        FROM pg_roles r WHERE r.rolname = current_user
        """
    )
    row: Any = await cursor.fetchone()
    name, above, owns = row
    if above or owns:
        raise SetupError(
            f"the database role {name!r} is a superuser, bypasses row-level security or owns the"
            " tables; give WHARFINGER_DATABASE_APP_URL a role that does not"
        )
