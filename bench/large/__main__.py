"""``python -m bench.large``: a million images read, and changed at once, in one table."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from bench.large import crowd, reading, syncing, writing
from bench.large.service import Service, serving
from bench.large.town import PROJECT, Town, town, usual_folder
from bench.report import Line, machine, table
from bench.wharf import Server
from wharfinger.wiring import open_house

LARGE = Path(__file__).parents[1] / "results" / "large.json"
SIZES = (10_000, 1_000_000)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.large", description=__doc__)
    parser.add_argument(
        "--images", type=int, action="append", help="sizes of the list (10,000 and 1,000,000)"
    )
    parser.add_argument("--rounds", type=int, default=reading.ROUNDS, help="of each question")
    parser.add_argument("--only-reading", action="store_true", help="change nothing beside it")
    parser.add_argument("--json", type=Path, default=LARGE, help="where the figures go")
    parser.add_argument("--folder", type=Path, help="where the lists are kept between runs")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Run it; 0 when every target is met, 1 when one is not."""
    chosen, began, where = arguments(given), time.monotonic(), machine()
    folder = chosen.folder or usual_folder()
    with Server.running(folder / "data") as server:
        settings = server.settings()
        for name, value in settings.items():
            print(value if name == "version" else f"{name} = {value}")
        lines, plain = _measure(server, chosen)
    where["took_s"] = round(time.monotonic() - began)
    told = {
        "machine": where,
        "postgresql": settings,
        "lines": [msgspec.to_builtins(line) for line in lines],
        **plain,
    }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")
    print(f"\n{table(lines)}\n")
    print(crowd.missing() or "", end="\n" if crowd.missing() else "")
    missed = sum(line.met is False for line in lines)
    print(f"{missed or 'no'} target missed; {where['took_s']} s in all; figures in {chosen.json}")
    return 1 if missed else 0


def _measure(server: Server, chosen: argparse.Namespace) -> tuple[list[Line], dict[str, Any]]:
    by_size, sizes = {}, sorted(chosen.images or SIZES)
    gathered: dict[str, crowd.Crowd] = {}
    written: writing.Written | None = None
    beside: syncing.Beside | None = None
    for images in sizes:
        here = town(server, images, _say)
        token = asyncio.run(_token(server, here))
        with serving(here, token) as service:
            by_size[images] = asyncio.run(_read(server, here, service, rounds=chosen.rounds))
        if images == sizes[-1] and not crowd.missing():
            with serving(here, token, remembering=True) as service:
                gathered = crowd.gather(service, images, _say)
        if images == sizes[-1] and not chosen.only_reading:
            written = writing.write(server, here, token, _say)
            if not crowd.missing() and not syncing.missing():
                beside = syncing.read_beside_a_sync(server, here, token, _say)
    largest = sizes[-1]
    lines = [*reading.lines(largest, by_size[largest]), *reading.growth(by_size)]
    plain: dict[str, Any] = {
        "reading": {str(images): reading.plain(found) for images, found in by_size.items()}
    }
    if gathered:
        lines += crowd.lines(largest, gathered)
        plain["crowd"] = crowd.plain(gathered)
    if beside is not None:
        lines += syncing.lines(largest, beside)
        plain["syncing"] = syncing.plain(beside)
    if written is not None:
        lines += writing.lines(written)
        plain["writing"] = writing.plain(written)
    return lines, plain


async def _token(server: Server, here: Town) -> str:
    async with open_house(here.settings, server.address(here.database)) as house:
        return await house.callers.create_token(PROJECT, ttl=dt.timedelta(hours=12))


async def _read(
    server: Server, here: Town, service: Service, *, rounds: int
) -> list[reading.Measured]:
    async with open_house(here.settings, server.address(here.database)) as house:
        return await reading.measure(here, house.http_app(), service, _say, rounds=rounds)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
