"""A service as it runs, with real data in it, and what must not change while it is fuzzed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from commands import Commands
from psycopg import sql

from wharfinger.store.database import connection_options
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream

# `make fuzz` asks for 20,000; the short form is a matter of three minutes.
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "3000"))
# By how much the service's memory may grow from one end of a test to the other.
MOST_GROWTH = 1.25
KEPT, THROWN, SPOILT = "kept", "thrown-away", "spoilt"
# Who did what is written down, refusals included.
COMPLAINT = re.compile(r"Traceback|\[error|\[critical|Exception|ERROR")
AUDIT = re.compile(r"audit|refusal|metric_total")


@dataclass
class Prey:
    """The running service: where it is, what opens it, and what it has been asked."""

    url: str
    pid: int
    log: Path
    database: str
    token: str
    other_token: str
    spoilt_token: str
    key: dict[str, str]
    ids: dict[str, dict[str, str]]
    statuses: Counter[int] = field(default_factory=Counter)
    is_warm: bool = False

    def count(self, status: int) -> None:
        """Note an answer."""
        self.statuses[status] += 1

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def resident_mb(self) -> float:
        """The service's own memory now."""
        text = Path(f"/proc/{self.pid}/status").read_text("utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    @contextlib.contextmanager
    def watched(
        self, record_property, project: str | None = None, what: str = ""
    ) -> Iterator[None]:
        """See that what happens inside changes no row (of a project), and leaves no trace.

        The figures are printed when all tests have ended.
        """
        self.warm_up()
        before, resident, asked = self.tables(project), self.resident_mb, self.statuses.copy()
        yield
        new = self.statuses - asked
        grown = self.resident_mb / resident
        record_property(
            "figures",
            {
                "requests": new.total(),
                **{f"answers of {status}": new[status] for status in sorted(new) if status},
                "without an answer": new[0],
                f"MB of memory before{what}": round(resident),
                f"MB of memory after{what}": round(self.resident_mb),
                f"rows that might have changed{what}": sum(rows for rows, _ in before.values()),
            },
        )
        after = self.tables(project)
        changed = [name for name in before if before[name] != after[name]]
        assert not changed, f"rows changed: {changed}"
        assert not self.complaints(), f"the log complains:\n{self.complaints()}"
        assert grown < MOST_GROWTH, f"{resident:.0f} MB became {self.resident_mb:.0f} MB"

    def answers(self, path: str) -> bool:
        """Whether a plain call is answered well."""
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return answer.status == 200

    def warm_up(self) -> None:
        """Have loaded what is loaded once, so that what grows later grows for ever."""
        if self.is_warm:
            return
        self.is_warm = True
        for path in ("/", "/v5/{}/image/registries/images", "/api/v1/projects/{}/images") * 100:
            request = urllib.request.Request(
                self.url + path.format(KEPT), headers={"X-Auth-Token": self.token}
            )
            urllib.request.urlopen(request, timeout=20).close()

    def tables(self, project: str | None = None) -> dict[str, tuple]:
        """The number of rows of each table and a sum of what is in them, audit and counts aside."""
        with connected(self.database) as connection:
            names = connection.execute(
                "SELECT c.relname, bool_or(a.attname = 'project_id')"
                " FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
                " WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace"
                " GROUP BY c.relname"
            ).fetchall()
            return {
                name: self._sum(connection, name, project)
                for name, has_project in names
                if not AUDIT.search(name) and (project is None or has_project)
            }

    @staticmethod
    def _sum(connection, name, project) -> tuple:
        query = sql.SQL(
            "SELECT count(*), md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), ''))"
            " FROM {} AS t"
        ).format(sql.Identifier(name))
        if project is not None:
            query += sql.SQL(" WHERE project_id = {}").format(sql.Literal(project))
        return connection.execute(query).fetchone()

    def complaints(self) -> str:
        """What the log holds that nobody should have caused: the lines, and a little after each."""
        text = self.log.read_text("utf-8", "replace")
        lines = text.splitlines()
        found = [n for n, line in enumerate(lines) if COMPLAINT.search(line)]
        shown = {m for n in found[:5] for m in range(n, n + 40) if m < len(lines)}
        return "\n".join(lines[n] for n in sorted(shown))

    def document(self) -> dict:
        """The OpenAPI document it serves."""
        with urllib.request.urlopen(f"{self.url}/api/openapi.json", timeout=20) as answer:
            return json.load(answer)


def connected(database: str) -> psycopg.Connection:
    """A connection that sees every tenant's rows."""
    return psycopg.connect(database, autocommit=True, options=connection_options(database))


def furnish(commands: Commands) -> dict:
    """Projects with a registry each, read to the end: to be read, written, and spoilt."""
    with Upstream(made_up_world(5, 4)).running_in_thread() as upstream:
        for project in (KEPT, THROWN, SPOILT):
            commands("project", "create", project, "--id", project)
            commands(
                *("registry", "add", "--project", project, "--name", "swr"),
                *("--kind", "SwrPrivate", "--address", upstream.url),
                *("--access-key", upstream.key.access_key, "--secret-key-stdin"),
                stdin=upstream.key.secret_key,
            )
            commands("sync", "--project", project)
        commands("sync", "--project", KEPT, "--full")
    return {
        "token": commands.json("token", "create", "--project", KEPT)["token"],
        "other_token": commands.json("token", "create", "--project", THROWN)["token"],
        "spoilt_token": commands.json("token", "create", "--project", SPOILT)["token"],
        "key": commands.json("credential", "create", "--project", KEPT),
    }


def known_ids(database: str, project: str) -> dict[str, str]:
    """Ids by which things of a project are asked for."""
    with connected(database) as connection:

        def one(query):
            return str(connection.execute(query, (project,)).fetchone()[0])

        return {
            "project_id": project,
            "registry_id": one("SELECT id FROM registry WHERE project_id = %s"),
            "image_id": one("SELECT min(id) FROM image WHERE project_id = %s"),
            "run_id": one("SELECT id FROM run WHERE project_id = %s ORDER BY queued_at"),
            "other_id": one("SELECT id FROM run WHERE project_id = %s ORDER BY queued_at DESC"),
            "task_id": one("SELECT id FROM task WHERE project_id = %s"),
        }


class serving:  # noqa: N801 - it reads as a verb
    """``serve`` without workers, so that nothing changes but by what it is asked."""

    def __init__(self, commands: Commands, log: Path) -> None:
        self._commands, self._log = commands, log

    def __enter__(self):
        # No rates: they would answer in the stead of what is looked for.
        environment = self._commands.environment(
            rate_per_credential=0, rate_per_address=0, receive_timeout_s=2, remembered_mb=2
        )
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._commands.line("serve", "--listen=127.0.0.1:0", "--workers=0"),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self._process.stdout.readline()
        assert line.startswith("listening on http://"), self._log.read_text()
        return line.split()[-1], self._process.pid

    def __exit__(self, *_):
        self._process.terminate()
        self._process.communicate(timeout=30)
