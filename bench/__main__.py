"""``python -m bench``: runs the course, prints one table, writes one JSON file."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path

import msgspec
import structlog

from bench.bell import ring
from bench.course import Course
from bench.depot import REPOSITORIES, visit
from bench.folders import own_folder
from bench.report import as_json, lines, machine, size_of, table
from bench.wharf import Server
from wharfinger.testing.rendered import nginx_missing

LATEST = Path(__file__).parent / "results" / "latest.json"


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--world",
        action="append",
        metavar="REPOSITORIESxTAGS",
        help="a world to run over; may be repeated (500x20 and 5000x20)",
    )
    parser.add_argument(
        "--delay-ms",
        action="append",
        type=float,
        help="how late every answer is; may be repeated (0 and 30)",
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds of each (3)")
    parser.add_argument(
        "--depot",
        type=int,
        default=REPOSITORIES,
        metavar="REPOSITORIES",
        help=f"how many a real docker-registry holds ({REPOSITORIES}); 0 leaves it out",
    )
    parser.add_argument("--json", type=Path, default=LATEST, help="where the figures go")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Run the bench; 0 when every target is met, 1 when one is not, 2 without nginx."""
    chosen = arguments(given)
    missing = nginx_missing()
    if missing:
        print(missing, file=sys.stderr)
        return 2
    # What runs in this process would otherwise tell of every answer.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    sizes = [size_of(text) for text in chosen.world or ("500x20", "5000x20")]
    delays_s = [ms / 1000 for ms in chosen.delay_ms or (0, 30)]
    began = time.monotonic()
    where = machine()
    with own_folder() as folder, Server.running(folder / "data") as server:
        settings = server.settings()
        for name, value in settings.items():
            print(value if name == "version" else f"{name} = {value}")
        course = Course(folder, server, runs=chosen.runs, say=_say)
        hints = asyncio.run(ring(server, _say))
        depot = None
        if chosen.depot:
            depot = asyncio.run(
                visit(server, folder, repositories=chosen.depot, runs=chosen.runs, say=_say)
            )
        cells = asyncio.run(course.run(sizes, delays_s))
    found = lines(cells, hints, depot)
    where["took_s"] = round(time.monotonic() - began)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    told = msgspec.json.format(msgspec.json.encode(as_json(cells, hints, depot, settings, where)))
    chosen.json.write_bytes(told + b"\n")
    print(f"\n{table(found)}\n")
    missed = sum(line.met is False for line in found)
    print(f"{missed or 'no'} target missed; {where['took_s']} s in all; figures in {chosen.json}")
    return 1 if missed else 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
