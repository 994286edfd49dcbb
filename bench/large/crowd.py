"""Thirty-two clients: how many answers a second, beside the same bytes from memory."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.large.reading import API
from bench.large.service import Service, serving_from_memory
from bench.large.town import Say
from bench.report import Line

CLIENTS, SECONDS, ROUNDS = 32, 5, 3
PART_OF_MEMORY = 0.2
TARGET = f"{API}?limit=100"
# Every second request has the list's tag, and is answered with "not modified".
_SCRIPT = """
local n = 0
request = function()
  n = n + 1
  local headers = {["X-Auth-Token"] = "%(token)s"}
  if n %% 2 == 0 then headers["If-None-Match"] = '%(etag)s' end
  return wrk.format("GET", "%(target)s", headers)
end
"""
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_P99 = re.compile(r"99%\s+([\d.]+)(us|ms|s)\b")
_IN_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What all of them together got for some seconds."""

    rate: float
    p99_ms: float
    errors: int


@dataclass(kw_only=True)
class Crowd:
    """Bursts at the service and at the same bytes in memory, in turns."""

    service: list[Burst] = field(default_factory=list)
    memory: list[Burst] = field(default_factory=list)


def missing() -> str | None:
    """Why there can be no crowd here."""
    if shutil.which("wrk"):
        return None
    return "32 clients are not measured: wrk is missing (Debian: apt-get install wrk)"


def gather(service: Service, say: Say) -> Crowd:
    """Both, in turns."""
    client = service.client()
    answer = client.get(TARGET)
    client.close()
    crowd = Crowd()
    with tempfile.NamedTemporaryFile() as body:
        body.write(answer.body)
        body.flush()
        with serving_from_memory(body.name) as memory:
            for _ in range(ROUNDS):
                crowd.memory.append(burst(memory, '"in-memory"'))
                crowd.service.append(burst(service, answer.headers["etag"]))
                say(
                    f"{CLIENTS} clients: {crowd.service[-1].rate:.0f} answers a second, from memory"
                    f" {crowd.memory[-1].rate:.0f}; p99 {crowd.service[-1].p99_ms:.1f} ms"
                )
    return crowd


def burst(service: Service, etag: str, seconds: int = SECONDS) -> Burst:
    """Let them ask for some seconds."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "ask.lua"
        values = {"token": service.token, "etag": etag, "target": TARGET}
        script.write_text(_SCRIPT % values, "utf-8")
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--latency"),
                *("-s", str(script), service.url),
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


def lines(images: int, crowd: Crowd) -> list[Line]:
    """The verdicts of many clients' reading."""
    case = f"{images:,} images, {CLIENTS} clients, half of them have it already"
    ratios = [
        ours.rate / theirs.rate for ours, theirs in zip(crowd.service, crowd.memory, strict=True)
    ]
    found = statistics.median(ratios)
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
            target=f"at least {PART_OF_MEMORY:g}",
            met=found >= PART_OF_MEMORY,
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


def plain(crowd: Crowd) -> dict[str, list[dict[str, Any]]]:
    """For other programs."""
    return {
        name: [{"rate": b.rate, "p99_ms": b.p99_ms, "errors": b.errors} for b in bursts]
        for name, bursts in (("service", crowd.service), ("memory", crowd.memory))
    }
