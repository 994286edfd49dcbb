"""The service under the soak, its processes, and who kills them."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from bench.soak.registries import Access, Truth
from wharfinger.domain.model import Caller, RegistryCredential
from wharfinger.settings import read_settings
from wharfinger.store.embedded import hold
from wharfinger.store.registries import NewRegistry
from wharfinger.wiring import database_of, open_house

# Failures should be given up while the soak lasts.
SETTINGS = {"WHARFINGER_RETRY_DEADLINE_S": "8", "WHARFINGER_LOG_FORMAT": "json"}
START_S = 60.0


class Harbour:
    """The registries' process, and how to talk to it."""

    def __init__(self, seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.soak.registries", str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._turn = threading.Lock()
        self.registries = [Access(**one) for one in json.loads(self._line())]

    def ask(self, command: str) -> Any:
        with self._turn:
            assert self._process.stdin is not None
            self._process.stdin.write(command.encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._line())

    def truth(self) -> Truth:
        return {
            name: [(path, tag, digest) for path, tag, digest in rows]
            for name, rows in self.ask("truth").items()
        }

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the registries' process is gone")
        return line


class House:
    """``serve`` with its worker, a worker beside it, and their embedded PostgreSQL."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder = folder
        self.tokens: dict[str, str] = {}
        self._dsn = dsn
        self._log = (folder / "serve.log").open("ab")
        self._steady_log = (folder / "steady.log").open("ab")
        self._serve: subprocess.Popen[bytes] | None = None
        self._steady: subprocess.Popen[bytes] | None = None
        self._url = ""

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path) -> Iterator[House]:
        with hold(folder / "data") as lease:
            house = cls(folder, lease.superuser_dsn("wharfinger"))
            try:
                yield house
            finally:
                house.stop()

    async def settle_in(self, registries: Sequence[Access]) -> None:
        """Make the projects, their registries and a token of each."""
        settings = read_settings(environment=self._environment())
        with database_of(settings) as address:
            async with open_house(settings, address) as house:
                for name in sorted({r.project for r in registries}):
                    await house.callers.create_project(name, name)
                    self.tokens[name] = await house.callers.create_token(name, dt.timedelta(days=1))
                for one in registries:
                    await house.registries.add(
                        Caller(
                            project_id=one.project,
                            project_name=one.project,
                            principal="soak",
                            is_operator=True,
                        ),
                        NewRegistry(
                            name=one.name,
                            kind=one.kind,
                            address=one.url,
                            options=one.options,
                            allow_private_networks=True,
                        ),
                        RegistryCredential(
                            kind=one.credential_kind, identity=one.identity, secret=one.secret
                        ),
                    )

    # --- processes ---

    def start(self) -> None:
        self._serve = subprocess.Popen(
            [sys.executable, "-m", "wharfinger", "serve", "--listen", "127.0.0.1:0"],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._serve.stdout is not None
        line = self._serve.stdout.readline().decode()
        if not line.startswith("listening on "):
            raise RuntimeError(f"serve does not start; see {self._log.name}")
        self._url = line.removeprefix("listening on ").strip()

    def start_steady_worker(self) -> None:
        """Start a worker that nobody kills: its memory tells what a month would bring."""
        self._steady = subprocess.Popen(
            [sys.executable, "-m", "wharfinger", "worker"],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._steady_log,
        )

    @property
    def steady_worker(self) -> int:
        if self._steady is None or self._steady.poll() is not None:
            raise RuntimeError(f"the steady worker has ended; see {self._steady_log.name}")
        return self._steady.pid

    @property
    def service(self) -> int | None:
        return None if self._serve is None else self._serve.pid

    def killable_worker(self) -> int | None:
        """The worker that ``serve`` looks after, when there is one."""
        return next(iter(_children(self._serve.pid, b"worker")), None) if self._serve else None

    def kill_worker(self) -> None:
        if (worker := self.killable_worker()) is not None:
            os.kill(worker, signal.SIGKILL)

    def kill_service(self, pause_s: float) -> None:
        """Kill ``serve`` and start it again, as systemd would."""
        assert self._serve is not None
        self._serve.kill()
        self._serve.wait(20)
        if self._serve.stdout is not None:
            self._serve.stdout.close()
        time.sleep(pause_s)
        self.start()

    def kill_database(self) -> None:
        pid_file = next((self.folder / "data").rglob("postmaster.pid"), None)
        if pid_file is None:
            return
        postmaster = int(pid_file.read_text("utf-8").splitlines()[0])
        for pid in (postmaster, *_children(postmaster)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        for process in (self._serve, self._steady):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(30)
        self._log.close()
        self._steady_log.close()

    # --- what a user does ---

    def call(self, project: str, path: str, body: dict[str, Any]) -> bool:
        """Call the API; whether it answered."""
        request = urllib.request.Request(
            f"{self._url}/v5/{project}/image/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "X-Auth-Token": self.tokens[project]},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def command(self, *arguments: str) -> tuple[int, Any]:
        """Run a command with ``--json``: its exit code and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "wharfinger", *arguments, "--json"],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        options = "-c search_path=wharfinger,public"
        with psycopg.connect(
            self._dsn, autocommit=True, options=options, connect_timeout=10
        ) as connection:
            return connection.execute(query, parameters or None).fetchall()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **SETTINGS, "WHARFINGER_DATA_DIR": str(self.folder / "data")}


class Killer:
    """Kills somebody every now and then."""

    def __init__(self, house: House, chance: random.Random, every_s: tuple[float, float]) -> None:
        self.kills = {"worker": 0, "service": 0, "database": 0}
        self._house = house
        self._chance = chance
        self._every_s = every_s
        self._waiting: list[str] = []

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(self._chance.uniform(*self._every_s)):
            victim = self._next()
            if victim == "worker":
                self._house.kill_worker()
            elif victim == "service":
                self._house.kill_service(self._chance.uniform(0, 2))
            else:
                self._house.kill_database()
            self.kills[victim] += 1

    def _next(self) -> str:
        """Everybody in turn, in a new order each time."""
        if not self._waiting:
            self._waiting = self._chance.sample(sorted(self.kills), k=len(self.kills))
        return self._waiting.pop()


def resident_mb(pid: int | None) -> float | None:
    """Resident memory in MB (1,000,000 bytes); ``None`` when the process is gone."""
    if pid is None:
        return None
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((int(x.split()[1]) * 1024 / 1e6 for x in lines if x.startswith("VmRSS:")), None)


def _children(parent: int, word: bytes = b"") -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state = (entry / "stat").read_text("utf-8").rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(state[1]) == parent and state[0] != "Z" and (not word or word in words):
            found.append(int(entry.name))
    return found
