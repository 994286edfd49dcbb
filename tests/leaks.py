"""Fails the test during which a secret is found where none belongs: logs, answers, tables, files.

What counts as a secret is not left to memory: whatever is sealed or kept as a digest in this
process is learnt on its way in, and the registries that tests bring along have ``PLANTED`` in
each of theirs.
"""

from __future__ import annotations

import base64
import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import psycopg
import pytest
import structlog

from wharfinger.store import callers
from wharfinger.store.sealing import Sealer
from wharfinger.testing.model import PLANTED

# Older ones are those of tests that have long been looked at; "x" is in every text.
_MOST_KNOWN, _SHORTEST = 200, 12
# Where an answer holds a secret because it was just made; nowhere else does it.
_ISSUING = ("/v3/auth/tokens", "/v3.0/OS-CREDENTIAL/", "/console/sign-in")
# The same of forms of the console: the answer to the form, and no page at the same address.
_ISSUING_FORMS = {
    "/console/me/keys",
    "/console/settings/credentials",
    "/console/settings/credentials/replace",
}
_LARGEST_FILE = 256 * 1024 * 1024


class Leaks:
    """What is secret, and what was found. One for each process of a session."""

    def __init__(self, word: str = PLANTED) -> None:
        self.word = word
        self.found: list[str] = []
        self._known: deque[str] = deque(maxlen=_MOST_KNOWN)

    def learn(self, secret: str) -> None:
        if len(secret) >= _SHORTEST and secret not in self._known:
            self._known.append(secret)

    def look(self, text: str | bytes, where: str) -> None:
        """Note what should not be in a text."""
        data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
        for form in _forms(self.word):
            if (at := data.find(form)) >= 0:
                self.found.append(f"{where}: …{data[max(0, at - 80) : at + 40]!r}…")
                return
        for secret in tuple(self._known):
            if (at := data.find(secret.encode(errors="surrogateescape"))) >= 0:
                self.found.append(f"{where}: {data[max(0, at - 80) : at]!r} and then a secret")
                return

    def look_at_tables(self, dsn: str) -> None:
        """Read every row of every table of a database, jobs and audit included."""
        with psycopg.connect(dsn) as connection:
            tables = connection.execute(
                "SELECT format('%I.%I', n.nspname, c.relname)"
                " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema)'"
                "   AND pg_relation_size(c.oid) > 0"
            ).fetchall()
            for (table,) in tables:
                # What is binary comes in hexadecimal.
                with connection.cursor().copy(f"COPY {table} TO STDOUT") as rows:
                    self.look(b"".join(rows), f"the table {table}")

    def look_at_files(self, paths: Iterable[Path]) -> None:
        for path in paths:
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_size <= _LARGEST_FILE:
                    self.look(path.read_bytes(), f"the file {path}")

    def take(self) -> str:
        """What was found since the last time, as one text."""
        found, self.found = self.found, []
        return "\n".join(dict.fromkeys(found))

    @contextlib.contextmanager
    def planting(self, word: str) -> Iterator[list[str]]:
        """Look for another word inside, and collect what is found: for tests of this watch."""
        before = self.word, self.found, self._known
        self.word, self.found, self._known = word, [], deque(maxlen=_MOST_KNOWN)
        try:
            yield self.found
        finally:
            self.word, self.found, self._known = before


LEAKS = Leaks()


def _forms(word: str) -> list[bytes]:
    """A word as it is, in hexadecimal, and in base64 at each of the three places it may begin."""
    plain = word.encode()
    # Without the characters at either end that what stands beside the word has a part in.
    coded = [
        base64.b64encode(b"\0" * n + plain)[-(-n * 4 // 3) : (n + len(plain)) * 4 // 3]
        for n in range(3)
    ]
    return [plain, plain.hex().encode(), *coded]


# --- where secrets come in -----------------------------------------------------------------------


def _learn_what_is_kept() -> None:
    seal, digest = Sealer.seal, callers.token_digest

    def learning_seal(self, plaintext, *, context):
        LEAKS.learn(plaintext)
        return seal(self, plaintext, context=context)

    def learning_digest(token):
        LEAKS.learn(token)
        return digest(token)

    Sealer.seal = learning_seal
    callers.token_digest = learning_digest


# --- where they must not come out ----------------------------------------------------------------


class _Handler(logging.Handler):
    """Looks at records whole: at what is formatted, and at what is attached."""

    def emit(self, record: logging.LogRecord) -> None:
        told = {k: v for k, v in vars(record).items() if k not in ("exc_info", "args")}
        text = logging.Formatter().format(record)
        LEAKS.look(f"{text}\n{told!r}", f"the log {record.name}")


def _look_at_event(_logger, _method, event):
    LEAKS.look(repr(event), "the log")
    return event


def _look_at_logs() -> None:
    handler = _Handler(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    # The job engine tells every job with its arguments, but only to those who listen closely.
    jobs = logging.getLogger("procrastinate")
    jobs.setLevel(logging.DEBUG)
    jobs.propagate = False
    jobs.addHandler(handler)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _look_at_event,
            structlog.dev.ConsoleRenderer(colors=False),
        ]
    )


def watched(app):
    """An ASGI application whose answers are looked at."""

    async def watching(scope, receive, send):
        path = scope.get("path", "")
        is_form = scope.get("method") == "POST" and path in _ISSUING_FORMS
        issuing = is_form or path.startswith(_ISSUING)

        async def looking_send(message):
            if not issuing:
                parts = (message.get("body", b""), *(v for _, v in message.get("headers", ())))
                LEAKS.look(b"\n".join(parts), f"the answer to {scope.get('path')}")
            await send(message)

        await app(scope, receive, looking_send)

    return watching


# --- the session ---------------------------------------------------------------------------------


class LeakWatch:
    """The plugin: each test answers for what was found until its end, the session for files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._late = ""
        _learn_what_is_kept()
        _look_at_logs()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        for name, text in report.sections:
            LEAKS.look(text, name)
        if found := LEAKS.take():
            report.outcome = "failed"
            told = f"a secret was found where none belongs\n{found}"
            report.longrepr = (
                f"{report.longrepr}\n{told}" if report.failed and report.longrepr else told
            )
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        """Look at what is left on disk, in the one process that all workers report to."""
        if hasattr(session.config, "workerinput"):
            return
        LEAKS.look_at_files(self._folder.rglob("*"))
        with contextlib.suppress(AttributeError):
            basetemp = session.config._tmp_path_factory._basetemp
            LEAKS.look_at_files(basetemp.rglob("*.log") if basetemp else ())
        self._late = LEAKS.take()
        if self._late:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if self._late:
            terminalreporter.section("secrets where none belong", red=True)
            terminalreporter.line(self._late)
