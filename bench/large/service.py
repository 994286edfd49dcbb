"""The service as a process of its own, a client that costs little, and the SQL that it asks."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from bench.large.town import Town
from wharfinger.store import database as store

# The limits on rates are not what is measured.
NO_LIMITS = {"WHARFINGER_RATE_PER_CREDENTIAL": "0", "WHARFINGER_RATE_PER_ADDRESS": "0"}


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service, and a token for it."""

    url: str
    pid: int
    token: str

    def client(self) -> Client:
        return Client(self.url, self.token)


@contextlib.contextmanager
def serving(town: Town, token: str, *, remembering: bool = False) -> Iterator[Service]:
    """``wharfinger serve`` over a town, without workers; without pages of before, or with them."""
    environment = {
        **os.environ,
        **NO_LIMITS,
        "WHARFINGER_DATA_DIR": str(town.settings.data_dir),
        "WHARFINGER_DATABASE_URL": town.owner,
        "WHARFINGER_DATABASE_APP_URL": town.app,
        "WHARFINGER_LOG_LEVEL": "warning",
        **({} if remembering else {"WHARFINGER_REMEMBERED_MB": "0"}),
    }
    command = [sys.executable, "-m", "wharfinger", "serve", "--listen=127.0.0.1:0", "--workers=0"]
    with _running(command, environment) as (url, pid):
        yield Service(url=url, pid=pid, token=token)


@contextlib.contextmanager
def serving_from_memory(path: str) -> Iterator[Service]:
    """The same HTTP server with one answer, which it has in memory."""
    with _running([sys.executable, "-m", "bench.large.memory", path], dict(os.environ)) as (
        url,
        pid,
    ):
        yield Service(url=url, pid=pid, token="-")


@contextlib.contextmanager
def _running(command: Sequence[str], environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                if line.startswith("listening on "):
                    yield line.split()[-1], process.pid
                    return
            raise RuntimeError(f"{command} does not start")
        finally:
            process.terminate()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, and after how many seconds."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


class Client:
    """One connection that asks one thing after the other; a socket, so that it costs little."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fixed = f"Host: {parts.netloc}\r\nX-Auth-Token: {token}\r\n"

    def close(self) -> None:
        self._socket.close()

    def get(self, target: str, *, etag: str = "") -> Answer:
        """Ask for a path with its query.

        Raises:
            RuntimeError: the connection ended, or the answer is neither 200 nor 304.
        """
        known = f"If-None-Match: {etag}\r\n" if etag else ""
        request = f"GET {target} HTTP/1.1\r\n{self._fixed}{known}\r\n".encode()
        began = time.perf_counter()
        self._socket.sendall(request)
        head, body = self._head()
        lines = head.decode("latin-1").split("\r\n")
        headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", "0"))
        while len(body) < length:
            body += self._more()
        seconds = time.perf_counter() - began
        status = int(lines[0].split(" ")[1])
        if status not in {200, 304}:
            raise RuntimeError(f"{target} was answered with {status}: {bytes(body[:300])!r}")
        return Answer(status=status, headers=headers, body=bytes(body), seconds=seconds)

    def _head(self) -> tuple[bytes, bytearray]:
        got = bytearray()
        while b"\r\n\r\n" not in got:
            got += self._more()
        head, _, rest = bytes(got).partition(b"\r\n\r\n")
        return head, bytearray(rest)

    def _more(self) -> bytes:
        chunk = self._socket.recv(262_144)
        if not chunk:
            raise RuntimeError("the service closed the connection")
        return chunk


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A statement that the service asked; with ``tenant``, in one message with that."""

    tenant: str | None
    query: Any
    values: Any

    def text(self, connection: psycopg.Connection[Any]) -> sql.SQL:
        """As it goes over the wire, its values in it."""
        query = self.query
        if self.tenant is not None:
            # The same words are the point.
            query = sql.SQL("; ").join((store._AS_TENANT, *query))  # noqa: SLF001
        values = {**self.values, "tenant": self.tenant} if self.tenant else self.values
        return sql.SQL(psycopg.ClientCursor(connection).mogrify(query, values))  # type: ignore[arg-type]


async def asked_by(app: Any, target: str, token: str) -> list[Asked]:
    """The statements by which an application answers, without those that tell who asks."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost"), (b"x-auth-token", token.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with _recording() as found:
        await app(scope, receive, send)
    if sent[0]["status"] != 200:
        raise RuntimeError(f"{target} was answered with {sent}")
    return [asked for asked in found if "find_token" not in str(asked.query)]


@contextlib.contextmanager
def _recording() -> Iterator[list[Asked]]:
    found: list[Asked] = []
    ask_all, execute = store.Database.ask_all, psycopg.AsyncConnection.execute

    async def asking(self: Any, project_id: str, query: Any, values: Any) -> Any:
        found.append(Asked(tenant=project_id, query=query, values=values))
        return await ask_all(self, project_id, query, values)

    async def executing(self: Any, query: Any, params: Any = None, **how: Any) -> Any:
        if query:
            found.append(Asked(tenant=None, query=query, values=params))
        return await execute(self, query, params, **how)

    store.Database.ask_all = asking  # type: ignore[method-assign]
    psycopg.AsyncConnection.execute = executing  # type: ignore[assignment, method-assign]
    try:
        yield found
    finally:
        store.Database.ask_all = ask_all  # type: ignore[method-assign]
        psycopg.AsyncConnection.execute = execute  # type: ignore[method-assign]


class Libpq:
    """The same SQL over libpq by the same role, all values in place before the clock starts."""

    def __init__(self, town: Town, statements: Sequence[Asked]) -> None:
        self._connection = town.connect()
        self._connection.autocommit = True
        messages = itertools.groupby(statements, key=lambda one: one.tenant is not None)
        self._messages = [
            (alone, [one.text(self._connection) for one in group]) for alone, group in messages
        ]

    def seconds(self) -> float:
        """How long they take now."""
        began = time.perf_counter()
        for alone, texts in self._messages:
            with contextlib.nullcontext() if alone else self._connection.transaction():
                for text in texts:
                    cursor = self._connection.execute(text)
                    while cursor.nextset():
                        pass
                    cursor.fetchall()
        return time.perf_counter() - began

    def close(self) -> None:
        self._connection.close()
