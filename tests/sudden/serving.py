"""``wharfinger serve`` in processes of its own, and its database seen from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import loaded
import psycopg

from leaks import LEAKS
from wharfinger.testing.upstream import Upstream

PROJECT = "acme"


class Service:
    """``wharfinger serve`` on a data directory of its own."""

    def __init__(self, data_dir: Path, log: Path, *, concurrency: int = 8) -> None:
        self.data_dir = data_dir
        self._concurrency = concurrency
        self._log = log
        self._process: subprocess.Popen | None = None
        self._url = ""
        self.token = ""

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "wharfinger", "serve", "--listen", "127.0.0.1:0"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        assert line.startswith("listening on "), self._log.read_text()
        self._url = line.removeprefix("listening on ").strip()

    def synchronise(self) -> None:
        """The founding call."""
        request = urllib.request.Request(
            f"{self._url}/v5/{PROJECT}/image/synchronize",
            data=b'{"image_type": "private_image"}',
            headers={"Content-Type": "application/json", "X-Auth-Token": self.token},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def settle_in(self, upstream: Upstream, **options: str | int) -> None:
        """Make a project, a registry and a token."""
        self.run("project", "create", "acme", "--id", PROJECT)
        self.run(
            *("registry", "add", "--project", PROJECT, "--name", "swr", "--kind", "SwrPrivate"),
            *("--address", upstream.url, "--access-key", upstream.key.access_key),
            "--secret-key-stdin",
            *(f"--option={name}={value}" for name, value in options.items()),
            stdin=upstream.key.secret_key + "\n",
        )
        self.token = self.run("token", "create", "--project", PROJECT).splitlines()[-1]

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(20)
        self._forget()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)
        self._forget()

    def _forget(self) -> None:
        LEAKS.look(self.log(), "the log of serve")
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def another_worker(self) -> subprocess.Popen:
        """A worker that no service looks after."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "wharfinger", "worker"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def run(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [*loaded.line(), *arguments],
            env=self._environment(),
            input=stdin,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )
        LEAKS.look(f"{done.stdout}\n{done.stderr}", f"what {' '.join(arguments[:2])} printed")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def worker(self) -> int:
        """The process id of the one worker."""
        assert self._process is not None
        found = children_of(self._process.pid, b"worker")
        assert len(found) == 1
        return found[0]

    def kill_database(self) -> None:
        """Kill the postmaster and every process of its."""
        pid_file = next(self.data_dir.rglob("postmaster.pid"))
        postmaster = int(pid_file.read_text().splitlines()[0])
        for pid in (postmaster, *children_of(postmaster)):
            # A backend may end by itself meanwhile.
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)

    def log(self) -> str:
        return self._log.read_text()

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "WHARFINGER_DATA_DIR": str(self.data_dir),
            "WHARFINGER_HOST_CONCURRENCY": str(self._concurrency),
        }


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie is dead, whatever kill -0 says."""
    try:
        return _status(pid)[0] != "Z"
    except OSError:
        return False


def children_of(parent: int, word: bytes = b"") -> list[int]:
    """The living children of a process, or those with this word on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = _status(int(entry.name))
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(status[1]) == parent and status[0] != "Z" and (not word or word in words):
            found.append(int(entry.name))
    return found


def _status(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Database:
    """Looks at the service's tables from outside, through any restart."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def connect(self) -> psycopg.Connection:
        options = "-c search_path=wharfinger,public"
        return psycopg.connect(self._dsn, autocommit=True, options=options)

    def rows(self, query: str, *parameters) -> list[tuple]:
        with self.connect() as connection:
            return connection.execute(query, parameters or None).fetchall()

    def stored(self) -> set[tuple[str, str, str]]:
        return set(
            self.rows(
                "SELECT r.namespace || '/' || r.name, i.tag, i.digest FROM image i"
                " JOIN repository r ON r.id = i.repository_id WHERE i.retired_at IS NULL"
            )
        )

    def await_(self, query: str, *parameters, within_s: float) -> float:
        """Wait until the query says true; how long that took, in seconds."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            try:
                if self.rows(query, *parameters)[0][0]:
                    return time.monotonic() - began
            except psycopg.OperationalError:
                pass  # The database is just being killed, or recovers.
            time.sleep(0.05)
        raise AssertionError(f"not within {within_s} s: {query}; {self.rows('TABLE run')}")
