"""Commands as a user runs them: a process each, on one data directory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import loaded

from leaks import LEAKS
from wharfinger.store.cluster import is_free

PROJECT = "acme"


@dataclass(frozen=True)
class Commands:
    """``wharfinger …`` on one data directory. A call returns what the process left.

    Its process has the program loaded already; one of ``line`` or ``serving`` begins from nothing.
    """

    data_dir: Path

    def __call__(self, *arguments, stdin="", code=0, **settings) -> subprocess.CompletedProcess:
        if any(str(one).endswith("-stdin") for one in arguments):
            LEAKS.learn(stdin.rstrip("\n"))
        done = subprocess.run(
            [*loaded.line(), *arguments],
            env=self.environment(**settings),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        LEAKS.look(f"{done.stdout}\n{done.stderr}", f"what {' '.join(arguments[:2])} printed")
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *arguments, **options):
        """The one JSON document on standard output."""
        return json.loads(self(*arguments, "--json", **options).stdout)

    @contextlib.contextmanager
    def serving(self, *arguments, **settings) -> Iterator[Serving]:
        """A ``serve`` that listens."""
        with tempfile.NamedTemporaryFile("w+") as log:
            process = subprocess.Popen(
                self.line("serve", "--listen=127.0.0.1:0", *arguments),
                env=self.environment(**settings),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            try:
                line = process.stdout.readline()
                log.seek(0)
                assert line.startswith("listening on http://"), log.read()
                yield Serving(process, line.split()[-1], Path(log.name))
            finally:
                process.terminate()
                LEAKS.look(process.communicate(timeout=30)[0], "what serve printed")
                log.seek(0)
                LEAKS.look(log.read(), "the log of serve")

    @staticmethod
    def line(*arguments) -> list[str]:
        return [sys.executable, "-m", "wharfinger", *arguments]

    def environment(self, **settings) -> dict[str, str]:
        """Nothing of ours from outside; a registry that does not answer is soon given up."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHARFINGER_", "PG"))}
        ours = {"data_dir": self.data_dir, "retry_deadline_s": 1} | settings
        return kept | {f"WHARFINGER_{name.upper()}": str(value) for name, value in ours.items()}


@dataclass(frozen=True)
class Serving:
    """A running service."""

    process: subprocess.Popen
    url: str
    log: Path

    def stop(self, within_s: float) -> int:
        """Ask it to stop; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)


def family(pid: int) -> set[int]:
    """A process and all its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal():
                # The fields after the command's name, which may itself hold anything.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def living(pids: set[int]) -> set[int]:
    """Those that still run; a zombie is dead."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                found.add(pid)
    return found


def until(holds, within_s=20.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it does not become true"
        time.sleep(0.05)


def await_end(data_dir: Path) -> None:
    """Wait until PostgreSQL and its keeper have left a data directory."""
    until(lambda: is_free(data_dir / "postgresql" / "keeper.lock"), within_s=30)
