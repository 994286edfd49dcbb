"""A real registry: Debian's docker-registry, first and unchanged syncs beside curl, and a push."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import socket
import statistics
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from bench.contenders import CONNECTIONS
from bench.stage import LOG_SETTLES_S
from bench.wharf import CALLER, Server, Wharf, WorkerProcess
from wharfinger.domain.model import RegistryCredential
from wharfinger.store.registries import NewRegistry

REGISTRY = "depot"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# Ten tags a repository: eight images, two of which have a second name.
REPOSITORIES = 100
IMAGES, ALIASES = 8, 2
VISIBLE_WITHIN_S = 60.0
PROGRAM = "docker-registry"


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One reading, as the registry's own access log has it."""

    seconds: float
    requests: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.requests.values())


@dataclass(frozen=True, kw_only=True)
class DepotRound:
    """A first sync on a fresh database, curl over the same requests, and a sync without news."""

    first: Visit
    curl: Visit
    unchanged: Visit
    images: int


@dataclass(kw_only=True)
class Depot:
    """Everything measured at the real registry."""

    repositories: int
    rounds: list[DepotRound] = field(default_factory=list)
    pushed: Visit | None = None

    @property
    def tags(self) -> int:
        return self.repositories * (IMAGES + ALIASES)

    @property
    def images(self) -> int:
        return self.repositories * IMAGES

    def median(self, figure: Callable[[DepotRound], float]) -> float:
        return statistics.median(map(figure, self.rounds))


async def visit(
    server: Server, folder: Path, *, repositories: int, runs: int, say: Callable[[str], None]
) -> Depot:
    """Fill a registry and let Wharfinger and curl read it in turn."""
    found = Depot(repositories=repositories)
    with _Running.over(folder / "depot") as registry:
        await registry.fill(repositories)
        for number in range(runs):
            found.rounds.append(await _round(server, registry, folder))
            done = found.rounds[-1]
            say(
                f"docker-registry, round {number + 1} of {runs}: first {done.first.seconds:.2f} s,"
                f" curl {done.curl.seconds:.2f} s, unchanged {done.unchanged.seconds:.2f} s"
            )
        found.pushed = await _push(server, registry)
    return found


async def _round(server: Server, registry: _Running, folder: Path) -> DepotRound:
    async with _attached(server, registry) as (wharf, worker):
        first = await _sync(wharf, worker, registry)
        asked = registry.asked()
        curl = _curl(registry, asked, folder)
        unchanged = await _sync(wharf, worker, registry)
        images = len(wharf.stored(REGISTRY))
    return DepotRound(first=first, curl=curl, unchanged=unchanged, images=images)


@contextlib.asynccontextmanager
async def _attached(
    server: Server, registry: _Running
) -> AsyncIterator[tuple[Wharf, WorkerProcess]]:
    async with Wharf.over_a_fresh_database(server) as wharf:
        new = NewRegistry(
            name=REGISTRY, kind="Other", address=registry.url, allow_private_networks=True
        )
        await wharf.house.registries.add(CALLER, new, RegistryCredential(kind="none"))
        async with wharf.worker() as worker:
            yield wharf, worker


async def _sync(wharf: Wharf, worker: WorkerProcess, registry: _Running) -> Visit:
    registry.forget()
    sync = await wharf.timed(REGISTRY, worker)
    return Visit(seconds=sync.seconds, requests=registry.counted())


async def _push(server: Server, registry: _Running) -> Visit:
    """One push whose notification is sent: what is asked of the registry because of it."""
    async with _attached(server, registry) as (wharf, worker):
        await _sync(wharf, worker, registry)
        async with aiohttp.ClientSession() as session:
            digest = await registry.push(session, "team/app-000", "fresh", seed="fresh")
        target = {"repository": "team/app-000", "tag": "fresh", "mediaType": MANIFEST}
        body = {"events": [{"action": "push", "target": target}]}
        made = await wharf.house.hints.make_token(CALLER, REGISTRY)
        registry.forget()
        began = time.perf_counter()
        registry_id = made.path.split("/")[-2]
        raw = json.dumps(body).encode()
        await wharf.house.hints.receive(made.token, CALLER.project_id, registry_id, raw)
        while not wharf.has("fresh", digest):
            if time.perf_counter() - began > VISIBLE_WITHIN_S:
                raise RuntimeError("what was pushed does not become visible")
            await asyncio.sleep(0.002)
        return Visit(seconds=time.perf_counter() - began, requests=registry.counted())


def _curl(registry: _Running, asked: list[tuple[str, str]], folder: Path) -> Visit:
    """The very requests of the first sync, by ``curl --parallel``: what the wire gives."""
    config = folder / "depot-curl.conf"
    accept = f'header = "Accept: {MANIFEST}"'
    entries = [
        "\n".join(
            [
                f'url = "{registry.url}{path}"',
                accept,
                "head" if method == "HEAD" else 'output = "/dev/null"',
                *(['output = "/dev/null"'] if method == "HEAD" else []),
                "fail",
            ]
        )
        for method, path in asked
    ]
    config.write_text("\nnext\n".join(entries) + "\n", "utf-8")
    registry.forget()
    began = time.perf_counter()
    subprocess.run(
        ["curl", "--parallel", "--parallel-max", str(CONNECTIONS), "-s", "--config", str(config)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return Visit(seconds=time.perf_counter() - began, requests=registry.counted())


class _Running:
    """A running docker-registry with an access log of its own."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log
        self._from = 0

    @classmethod
    @contextlib.contextmanager
    def over(cls, folder: Path) -> Iterator[_Running]:
        """Start one over an empty folder.

        Raises:
            RuntimeError: it is not installed, or does not start.
        """
        program = shutil.which(PROGRAM)
        if program is None:
            raise RuntimeError(f"the bench needs {PROGRAM} (Debian: apt-get install {PROGRAM})")
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": f"127.0.0.1:{port}", "secret": "made-up"},
        }
        (folder / "config.json").write_text(json.dumps(settings), "utf-8")  # JSON is YAML.
        log = folder / "access.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [program, "serve", str(folder / "config.json")],
                stdout=out,
                stderr=subprocess.DEVNULL,
            )
        try:
            registry = cls(f"http://127.0.0.1:{port}", log)
            registry._await_up()
            yield registry
        finally:
            process.terminate()
            process.wait(10)

    def _await_up(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/v2/"):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{PROGRAM} does not start")

    # --- what it was asked ---

    def forget(self) -> None:
        """Begin the count anew."""
        time.sleep(LOG_SETTLES_S)
        self._from = self._log.stat().st_size

    def asked(self) -> list[tuple[str, str]]:
        """Method and path of every request since the count began."""
        time.sleep(LOG_SETTLES_S)
        with self._log.open("rb") as log:
            log.seek(self._from)
            told = log.read().decode()
        return re.findall(r'"(GET|HEAD) (/v2/\S*) HTTP/1\.1" 200', told)

    def counted(self) -> dict[str, int]:
        """How often each sort of thing was asked for, since the count began."""
        return dict(Counter(map(_sort, self.asked())))

    # --- what is in it ---

    async def fill(self, repositories: int) -> None:
        """Push all of it."""
        async with aiohttp.ClientSession() as session:
            waiting = asyncio.Semaphore(CONNECTIONS)

            async def one(repository: int) -> None:
                async with waiting:
                    name = f"team/app-{repository:03}"
                    for image in range(IMAGES):
                        await self.push(session, name, f"1.{image}", seed=f"{name} {image}")
                    for alias in range(ALIASES):
                        await self.push(session, name, f"v{alias}", seed=f"{name} {alias}")

            await asyncio.gather(*map(one, range(repositories)))

    async def push(self, session: aiohttp.ClientSession, name: str, tag: str, *, seed: str) -> str:
        """Push one small image; returns its digest."""
        config = {"os": "linux", "architecture": "amd64", "created": "2026-01-02T03:04:05Z"}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": await self._blob(
                session,
                name,
                json.dumps({**config, "seed": seed}).encode(),
                "application/vnd.oci.image.config.v1+json",
            ),
            "layers": [
                await self._blob(session, name, b"layer", "application/vnd.oci.image.layer.v1.tar")
            ],
        }
        raw = json.dumps(manifest).encode()
        url = f"{self.url}/v2/{name}/manifests/{tag}"
        async with session.put(url, data=raw, headers={"Content-Type": MANIFEST}) as answer:
            answer.raise_for_status()
            return str(answer.headers["Docker-Content-Digest"])

    async def _blob(
        self, session: aiohttp.ClientSession, name: str, raw: bytes, media_type: str
    ) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        async with session.post(f"{self.url}/v2/{name}/blobs/uploads/") as answer:
            answer.raise_for_status()
            place = answer.headers["Location"]
        mark = "&" if "?" in place else "?"
        async with session.put(f"{place}{mark}digest={digest}", data=raw) as answer:
            answer.raise_for_status()
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}


def _sort(request: tuple[str, str]) -> str:
    method, path = request
    for mark, word in (
        ("/v2/_catalog", "catalog"),
        ("/tags/list", "tags"),
        ("/manifests/", "manifest"),
        ("/blobs/", "config"),
    ):
        if mark in path:
            return f"{method} {word}"
    return "other"
