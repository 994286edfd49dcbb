"""What a first sync costs in processor time, of the worker and of PostgreSQL, each by itself.

``python -m bench.cost [--world 5000x20] [--runs 2] [--spy FILE] [--statements]``

Seconds of a busy machine say nothing; those of a processor say nearly the same on any. PostgreSQL's
are those of the server with all its processes, from the call that asks for the sync until its run
can be read as finished. ``--spy FILE`` has py-spy, which must be on the path, sample the worker
into collapsed stacks. ``--statements`` prints what each statement took, as ``pg_stat_statements``
has it. Both cost time of their own: compare figures without them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.folders import own_folder
from bench.report import size_of
from bench.stage import Stage
from bench.wharf import Server, Wharf, WorkerProcess

TICKS = os.sysconf("SC_CLK_TCK")
# A tiny registry first, so that the worker has its modules, plans and connections.
WARM = "warm"
STATEMENTS = """
SELECT calls, round(total_exec_time::numeric) AS ms, rows, shared_blks_dirtied, wal_bytes,
    left(regexp_replace(query, '\\s+', ' ', 'g'), 90)
FROM public.pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database
    WHERE datname = current_database())
ORDER BY total_exec_time DESC LIMIT 25
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description=__doc__)
    parser.add_argument("--world", default="5000x20", metavar="REPOSITORIESxTAGS")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--spy", type=Path, metavar="FILE")
    parser.add_argument("--statements", action="store_true")
    given = parser.parse_args()
    preload = {"shared_preload_libraries": "pg_stat_statements"} if given.statements else {}
    with own_folder() as folder, Server.running(folder / "data", preload) as server:
        stages = [Stage(folder / name, size_of(size)) for name, size in _worlds(folder, given)]
        found = [asyncio.run(_once(server, stages, given)) for _ in range(given.runs)]
    for name in ("worker", "postgresql", "wall"):
        values = [one[name] for one in found]
        print(f"{name:>10}: median {statistics.median(values):.2f} s of {_told(values)}")


def _worlds(folder: Path, given: argparse.Namespace) -> Iterable[tuple[str, str]]:
    for name, size in ((WARM, "20x5"), ("world", given.world)):
        (folder / name).mkdir()
        (folder / name).chmod(0o711)
        yield name, size


def _told(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


async def _once(server: Server, stages: list[Stage], given: argparse.Namespace) -> dict[str, float]:
    async with Wharf.over_a_fresh_database(server) as wharf, wharf.worker() as worker:
        tiny, world = stages
        with tiny.upstream(delay_s=0) as nginx:
            await wharf.attach(WARM, nginx.url, tiny.world.access_key())
            await wharf.sync(WARM, nginx, worker)
        with world.upstream(delay_s=given.delay_ms / 1000) as nginx:
            await wharf.attach("world", nginx.url, world.world.access_key())
            if given.statements:
                _forget_statements(server, wharf)
            with _spied(worker, given.spy):
                before = _spent(server, worker)
                sync = await wharf.sync("world", nginx, worker)
                after = _spent(server, worker)
        if given.statements:
            _print_statements(server, wharf)
        spent = {name: after[name] - before[name] for name in before}
        told = {**spent, "wall": sync.seconds}
        print(
            ", ".join(f"{name} {value:.2f} s" for name, value in told.items()),
            f"; {sync.run.images} images, {sync.requests} requests, peak {sync.peak_mb:.0f} MB",
            flush=True,
        )
        return told


@contextlib.contextmanager
def _spied(worker: WorkerProcess, stacks: Path | None) -> Iterator[None]:
    """Sample the worker's stacks meanwhile, if there is a file for them."""
    if stacks is None:
        yield
        return
    command = ["py-spy", "record", f"--pid={worker.pid}", "--rate=500", "--format=raw"]
    spy = subprocess.Popen([*command, f"--output={stacks}"], stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)  # It reads the interpreter's symbols first.
        yield
    finally:
        spy.send_signal(signal.SIGINT)
        spy.wait()


def _spent(server: Server, worker: WorkerProcess) -> dict[str, float]:
    with server.superuser() as connection:
        postmaster = _Stat.of(connection.info.backend_pid).parent
    everyone = [_Stat.of(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()]
    # Of its children that have ended the postmaster knows the sum.
    own = [one for one in everyone if postmaster in (one.pid, one.parent)]
    return {
        "worker": _Stat.of(worker.pid).own / TICKS,
        "postgresql": sum(one.own + one.ended for one in own) / TICKS,
    }


@dataclass(frozen=True)
class _Stat:
    """The part of ``/proc/PID/stat`` that tells what a process took, in ticks."""

    pid: int
    parent: int = 0
    own: int = 0
    ended: int = 0

    @classmethod
    def of(cls, pid: int) -> _Stat:
        try:
            told = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            return cls(pid)
        fields = told.rpartition(") ")[2].split()
        user, system, user_of_ended, system_of_ended = map(int, fields[11:15])
        return cls(pid, int(fields[1]), user + system, user_of_ended + system_of_ended)


def _forget_statements(server: Server, wharf: Wharf) -> None:
    with server.superuser(wharf.database) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public")
        connection.execute("SELECT public.pg_stat_statements_reset()")


def _print_statements(server: Server, wharf: Wharf) -> None:
    with server.superuser(wharf.database) as connection:
        for row in connection.execute(STATEMENTS).fetchall():
            print(*row, sep="\t")


if __name__ == "__main__":
    main()
