"""``python -m bench.soak``: faults, kills and changes; then silence, a full sync, and verdicts."""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from bench.report import Line, machine, table
from bench.soak.house import Harbour, House, Killer
from bench.soak.watch import (
    UNFINISHED,
    Watch,
    circumstances,
    compare,
    verdicts,
)
from wharfinger.store.cluster import is_free

FIGURES = Path(__file__).parents[1] / "results" / "soak.json"
ASK_EVERY_S = 2.0
FULL_EVERY_S = 90.0
# After the last fault: what is running ends, and hosts that were given up are tried again.
SETTLE_S = 600.0
FULL_ATTEMPTS = 5
COMPLETE, HELD_OR_PARTIAL = 0, 3


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument(
        "--kill-every",
        type=float,
        nargs=2,
        default=(60.0, 120.0),
        metavar=("LEAST", "MOST"),
        help="seconds between two kills (60 120)",
    )
    parser.add_argument("--json", type=Path, default=FIGURES, help="where the figures go")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Soak; 0 when every verdict is met, else 1."""
    chosen = arguments(given)
    where = machine()
    print(f"seed {chosen.seed}, {chosen.minutes:g} minutes, load {where['load']}", flush=True)
    with _folder(keep=chosen.keep) as folder, House.running(folder) as house:
        harbour = Harbour(chosen.seed)
        try:
            lines, story = _soak(house, harbour, chosen)
        finally:
            harbour.close()
    where["load at the end"] = [round(load, 2) for load in os.getloadavg()]
    told = {
        "machine": where,
        "seed": chosen.seed,
        "minutes": chosen.minutes,
        "lines": [{**asdict(line), "met": line.met} for line in lines],
        **story,
    }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")
    missed = sum(line.met is False for line in lines)
    print(f"\n{table(lines, value='found')}\n")
    print(f"{missed or 'no'} verdict missed; figures in {chosen.json}")
    return 1 if missed else 0


def _soak(
    house: House, harbour: Harbour, chosen: argparse.Namespace
) -> tuple[list[Line], dict[str, Any]]:
    chance = random.Random(chosen.seed)
    asyncio.run(house.settle_in(harbour.registries))
    house.start()
    house.start_steady_worker()
    killer = Killer(house, chance, tuple(chosen.kill_every))
    asked: collections.Counter[str] = collections.Counter()
    watch = Watch(house, harbour, killer, asked)
    tasks = [
        lambda stop: _ask_for_ever(house, chance, asked, stop),
        lambda stop: _read_all_for_ever(house, chance, stop),
        killer.run,
        watch.run,
    ]
    with _side_by_side(tasks) as failures:
        _wait(chosen.minutes * 60, failures)
    harbour.ask("stop changing")
    harbour.ask("stop breaking")
    stuck = _settle(house)
    last = _read_everything(house)
    differences = compare(house, harbour)
    lines = [*circumstances(watch), last, *verdicts(watch, differences, stuck)]
    story = {
        "registries": [asdict(d) for d in differences],
        "upstream": harbour.ask("figures"),
        "samples": [asdict(s) for s in watch.samples],
    }
    return lines, story


# --- meanwhile -----------------------------------------------------------------------------------


def _ask_for_ever(
    house: House, chance: random.Random, asked: collections.Counter[str], stop: threading.Event
) -> None:
    """Ask for syncs as customers do, by every call there is."""
    while not stop.wait(chance.uniform(0, 2 * ASK_EVERY_S)):
        project = chance.choice(sorted(house.tokens))
        path, body = chance.choice(
            (
                ("synchronize", {"image_type": "private_image"}),
                ("synchronize", {"image_type": "shared_image"}),
                ("image-sync/tasks", {"registry_info": [{"registry_type": "Other"}]}),
                ("image-sync/tasks", {"sync_all_registries": True}),
            )
        )
        asked["answered" if house.call(project, path, body) else "refused"] += 1


def _read_all_for_ever(house: House, chance: random.Random, stop: threading.Event) -> None:
    """Read behind the fingerprints now and then, from the command line."""
    while not stop.wait(chance.uniform(0, 2 * FULL_EVERY_S)):
        # A command whose database is killed says so and fails, as it should.
        house.command("sync", "--project", chance.choice(sorted(house.tokens)), "--full")


@contextlib.contextmanager
def _side_by_side(
    tasks: Sequence[Callable[[threading.Event], None]],
) -> Iterator[list[BaseException]]:
    """Run them in threads until the context ends; their failures are collected."""
    stop, failures = threading.Event(), list[BaseException]()

    def guarded(task: Callable[[threading.Event], None]) -> None:
        try:
            task(stop)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _wait(seconds: float, failures: list[BaseException]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(min(1.0, max(0.0, until - time.monotonic())))
        if failures:
            raise RuntimeError("the soak itself is broken") from failures[0]


# --- afterwards ----------------------------------------------------------------------------------


def _settle(house: House) -> int:
    """Wait until nothing runs any more; how many runs are left that never end."""
    until = time.monotonic() + SETTLE_S
    while (left := house.rows(UNFINISHED)[0][0]) and time.monotonic() < until:
        time.sleep(0.5)
    return int(left)


def _read_everything(house: House) -> Line:
    """Read all that is there, accept what is held, and read again until it is complete."""
    accepted, rounds, codes = 0, 0, dict.fromkeys(sorted(house.tokens), HELD_OR_PARTIAL)
    while any(codes.values()) and rounds < FULL_ATTEMPTS:
        rounds += 1
        for project in [p for p, code in codes.items() if code != COMPLETE]:
            codes[project], _ = house.command("sync", "--project", project, "--full")
            print(f"full sync of {project}: exit {codes[project]}", flush=True)
            accepted += _accept_held(house, project)
    incomplete = [project for project, code in codes.items() if code]
    return Line(
        case="afterwards",
        what="final full sync",
        value=f"{rounds} rounds; {', '.join(incomplete) or 'all'}"
        f" {'incomplete' if incomplete else 'complete'}; {accepted} held images accepted",
        target=f"complete within {FULL_ATTEMPTS} rounds",
        met=not incomplete,
    )


def _accept_held(house: House, project: str) -> int:
    _, registries = house.command("registry", "list", "--project", project)
    accepted = 0
    for name in [r["name"] for r in registries if r["held"]]:
        which = ("--project", project, "--name", name)
        _, told = house.command("registry", "accept", *which, "--all")
        accepted += told["retired"]
    return accepted


@contextlib.contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """A folder that PostgreSQL's own account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="wharfinger-soak-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        if keep:
            print(f"kept {folder}")
        else:
            _await_end(folder / "data")
            shutil.rmtree(folder, ignore_errors=True)


def _await_end(data_dir: Path) -> None:
    lock = data_dir / "postgresql" / "keeper.lock"
    until = time.monotonic() + 30
    while lock.exists() and not is_free(lock) and time.monotonic() < until:
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
