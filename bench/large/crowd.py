"""Thirty-two clients: how many answers a second, beside the same bytes from memory."""

from __future__ import annotations

import functools
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.large.reading import API
from bench.large.service import Service, serving_from_memory
from bench.large.town import Say
from bench.report import Line
from wharfinger.http.api.call import cursor

CLIENTS, SECONDS, ROUNDS = 32, 5, 3
PART_OF_MEMORY, PART_IF_KNOWN = 0.2, 0.5
TARGET = f"{API}?limit=100"
# Of so many requests, one has not got the list yet; the others have its tag, and are answered with
# "not modified". A list of cursors makes each request ask for another page.
_SCRIPT = """
local n, cursors = 0, {%(cursors)s}
request = function()
  n = n + 1
  local headers, target = {["X-Auth-Token"] = "%(token)s"}, "%(target)s"
  if n %% %(every)d ~= 0 then headers["If-None-Match"] = '%(etag)s' end
  if #cursors > 0 then target = target .. "&after=" .. cursors[n %% #cursors + 1] end
  return wrk.format("GET", target, headers)
end
"""
# More pages than a server remembers.
_PAGES = 5_000
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_P99 = re.compile(r"99%\s+([\d.]+)(us|ms|s)\b")
_IN_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What all of them together got for some seconds."""

    rate: float
    p99_ms: float
    errors: int


@dataclass(frozen=True, kw_only=True)
class Habit:
    """What a crowd asks for."""

    name: str
    every: int = 1
    pages: int = 0
    part: float | None = None


HABITS = (
    Habit(name="half of them have it already", every=2, part=PART_OF_MEMORY),
    Habit(name="all but one in a million have it already", every=1_000_000, part=PART_IF_KNOWN),
    Habit(name="each request for another page", pages=_PAGES),
)


@dataclass(kw_only=True)
class Crowd:
    """Bursts at the service and at the same bytes in memory, in turns."""

    habit: Habit
    service: list[Burst] = field(default_factory=list)
    memory: list[Burst] = field(default_factory=list)


def missing() -> str | None:
    """Why there can be no crowd here."""
    if shutil.which("wrk"):
        return None
    return "32 clients are not measured: wrk is missing (Debian: apt-get install wrk)"


def gather(service: Service, images: int, say: Say) -> dict[str, Crowd]:
    """Each habit: both, in turns."""
    client = service.client()
    answer = client.get(TARGET)
    client.close()
    crowds = {habit.name: Crowd(habit=habit) for habit in HABITS}
    with tempfile.NamedTemporaryFile() as body:
        body.write(answer.body)
        body.flush()
        with serving_from_memory(body.name) as memory:
            for crowd in crowds.values():
                script = functools.partial(script_for, crowd.habit, images=images)
                for _ in range(ROUNDS):
                    crowd.memory.append(burst(memory, script(memory.token, '"in-memory"')))
                    etag = answer.headers["etag"]
                    crowd.service.append(burst(service, script(service.token, etag)))
                    say(
                        f"{CLIENTS} clients, {crowd.habit.name}: {crowd.service[-1].rate:.0f}"
                        f" answers a second, from memory {crowd.memory[-1].rate:.0f};"
                        f" p99 {crowd.service[-1].p99_ms:.1f} ms"
                    )
    return crowds


def script_for(habit: Habit, token: str, etag: str, *, images: int = 0) -> str:
    """What wrk is told to ask for."""
    cursors = [cursor(images * n // habit.pages) for n in range(habit.pages)]
    return _SCRIPT % {
        "token": token,
        "etag": etag,
        "target": TARGET,
        "every": habit.every,
        "cursors": ", ".join(f'"{one}"' for one in cursors),
    }


def burst(service: Service, script: str, seconds: int = SECONDS) -> Burst:
    """Let them ask for some seconds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ask.lua"
        file.write_text(script, "utf-8")
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--latency"),
                *("-s", str(file), service.url),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    return _burst(done.stdout)


def _burst(told: str) -> Burst:
    rate, p99 = _RATE.search(told), _P99.search(told)
    if rate is None or p99 is None:
        raise RuntimeError(f"wrk tells no rate: {told}")
    return Burst(
        rate=float(rate[1]),
        p99_ms=float(p99[1]) * _IN_MS[p99[2]],
        errors=told.count("Non-2xx") + told.count("Socket errors"),
    )


def lines(images: int, crowds: Mapping[str, Crowd]) -> list[Line]:
    """The verdicts of many clients' reading."""
    return [line for crowd in crowds.values() for line in _lines(images, crowd)]


def _lines(images: int, crowd: Crowd) -> list[Line]:
    case = f"{images:,} images, {CLIENTS} clients, {crowd.habit.name}"
    ratios = [
        ours.rate / theirs.rate for ours, theirs in zip(crowd.service, crowd.memory, strict=True)
    ]
    found, part = statistics.median(ratios), crowd.habit.part
    return [
        Line(
            case=case,
            what="answers a second",
            value=f"{_rate(crowd.service):.0f}, from memory {_rate(crowd.memory):.0f}",
        ),
        Line(
            case=case,
            what="part of the same server's rate from memory",
            value=f"{found:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            target="" if part is None else f"at least {part:g}",
            met=None if part is None else found >= part,
        ),
        Line(
            case=case,
            what="99th percentile",
            value=f"{statistics.median(one.p99_ms for one in crowd.service):.1f} ms",
        ),
        Line(
            case=case,
            what="errors",
            value=str(sum(one.errors for one in crowd.service)),
            target="none",
            met=not any(one.errors for one in crowd.service),
        ),
    ]


def _rate(bursts: Sequence[Burst]) -> float:
    return statistics.median(one.rate for one in bursts)


def plain(crowds: Mapping[str, Crowd]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """For other programs."""
    return {name: _plain(crowd) for name, crowd in crowds.items()}


def _plain(crowd: Crowd) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [{"rate": b.rate, "p99_ms": b.p99_ms, "errors": b.errors} for b in bursts]
        for name, bursts in (("service", crowd.service), ("memory", crowd.memory))
    }
