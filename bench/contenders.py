"""The others: the official SDK's loop, curl, and a bare reader, each a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.stage import RequestCount, Stage
from wharfinger.testing.rendered import Nginx

CONNECTIONS = 16

Images = set[tuple[str, str, str]]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One reading of the whole upstream."""

    seconds: float
    requests: int


def sdk_loop(stage: Stage, nginx: Nginx, folder: Path) -> tuple[Pass, Images]:
    """Read everything as users do today; also what was read, as (path, tag, digest)."""
    key = stage.world.access_key()
    rows_file = folder / "sdk-rows.json"
    count = RequestCount(nginx)
    seconds = _seconds_of(
        "bench.sdk_loop",
        nginx.url,
        key.access_key,
        key.secret_key,
        stage.world.home.project_id,
        str(rows_file),
    )
    rows = msgspec.json.decode(rows_file.read_bytes(), type=list[tuple[str, str, str, str]])
    images = {(f"{namespace}/{name}", tag, digest) for namespace, name, tag, digest in rows}
    return Pass(seconds=seconds, requests=count.take()), images


def bare_reader(stage: Stage, nginx: Nginx, folder: Path) -> Pass:
    """Fetch the same URLs with aiohttp and throw the answers away."""
    urls = folder / "urls.txt"
    urls.write_text("\n".join(stage.urls(nginx.url)), "utf-8")
    count = RequestCount(nginx)
    seconds = _seconds_of("bench.bare_reader", str(urls), str(CONNECTIONS))
    return Pass(seconds=seconds, requests=count.take())


def curl(stage: Stage, nginx: Nginx, folder: Path) -> Pass:
    """Fetch the same URLs with ``curl --parallel``: what the wire gives without any Python."""
    config = folder / "curl.conf"
    lines = [f'url = "{url}"\noutput = "/dev/null"' for url in stage.urls(nginx.url)]
    config.write_text("\n".join(lines) + "\n", "utf-8")
    command = ["curl", "--parallel", "--parallel-max", str(CONNECTIONS), "--fail", "-s"]
    count = RequestCount(nginx)
    began = time.perf_counter()
    # Its progress meter cannot be silenced in parallel mode, only led away.
    subprocess.run([*command, "--config", str(config)], check=True, stderr=subprocess.DEVNULL)
    return Pass(seconds=time.perf_counter() - began, requests=count.take())


def _seconds_of(module: str, *arguments: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], check=True, capture_output=True, text=True
    )
    return float(done.stdout)
