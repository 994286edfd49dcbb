"""Hints: how long from a registry's notification until the image it tells of can be read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import aiohttp
import uvicorn

from bench.wharf import CALLER, Server, Wharf
from wharfinger.domain.model import RegistryCredential
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.model import made_up_world
from wharfinger.testing.oci import OciUpstream

REPOSITORIES, TAGS = 200, 10
# Pushes while nothing else happens, and pushes in the middle of syncs of the same registry.
QUIET, BUSY = 150, 50
VISIBLE_WITHIN_S = 30.0
POLL_S = 0.002


@dataclass(frozen=True, kw_only=True)
class Hints:
    """Seconds from the notification to the visible image, in order."""

    quiet: list[float]
    busy: list[float]

    @staticmethod
    def p95(seconds: list[float]) -> float:
        """The 95th percentile."""
        return statistics.quantiles(seconds, n=20, method="inclusive")[-1]


async def ring(server: Server, say: Callable[[str], None]) -> Hints:
    """Push, notify and wait until the image is visible, over and over."""
    world = made_up_world(REPOSITORIES, TAGS)
    async with (
        OciUpstream(world) as upstream,
        Wharf.over_a_fresh_database(server) as wharf,
        wharf.worker(),
        _serving(wharf) as url,
        aiohttp.ClientSession() as session,
    ):
        new = NewRegistry(
            name="bell", kind="Other", address=upstream.url, allow_private_networks=True
        )
        await wharf.house.registries.add(CALLER, new, RegistryCredential(kind="none"))
        await _synced(wharf)
        made = await wharf.house.hints.make_token(CALLER, "bell")
        bell = _Bell(wharf, upstream, session, url + made.path, made.token)
        quiet = [await bell.once(number) for number in range(QUIET)]
        syncs = asyncio.create_task(_sync_for_ever(wharf))
        try:
            busy = [await bell.once(QUIET + number) for number in range(BUSY)]
        finally:
            syncs.cancel()
            await asyncio.gather(syncs, return_exceptions=True)
    found = Hints(quiet=quiet, busy=busy)
    say(f"hints: p95 {found.p95(quiet):.3f} s alone, {found.p95(busy):.3f} s during syncs")
    return found


class _Bell:
    def __init__(
        self,
        wharf: Wharf,
        upstream: OciUpstream,
        session: aiohttp.ClientSession,
        url: str,
        token: str,
    ) -> None:
        self._wharf = wharf
        self._upstream = upstream
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._chance = random.Random(11)

    async def once(self, number: int) -> float:
        """One push and its notification; returns how long it took to be visible.

        Raises:
            RuntimeError: it was refused, or the image does not come.
        """
        path = self._chance.choice(self._upstream.world.owned()).path
        tag = f"pushed-{number}"
        digest = self._upstream.world.push(path, tag).content.digest
        target = {
            "repository": path,
            "tag": tag,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
        }
        body = json.dumps({"events": [{"action": "push", "target": target}]})
        began = time.perf_counter()
        async with self._session.post(self._url, data=body, headers=self._headers) as answer:
            if answer.status != 200:
                raise RuntimeError(f"the notification was refused: {answer.status}")
        while not self._wharf.has(tag, digest):
            if time.perf_counter() - began > VISIBLE_WITHIN_S:
                raise RuntimeError(f"{path}:{tag} does not become visible")
            await asyncio.sleep(POLL_S)
        took = time.perf_counter() - began
        await asyncio.sleep(self._chance.uniform(0.0, 0.1))
        return took


async def _synced(wharf: Wharf) -> None:
    task_id = await wharf.house.synchroniser.synchronise_names(CALLER, ("bell",))
    while (await wharf.house.synchroniser.task(CALLER, task_id)).finished_at is None:  # noqa: ASYNC110 - a row in the database
        await asyncio.sleep(0.05)


async def _sync_for_ever(wharf: Wharf) -> None:
    while True:
        await _synced(wharf)


@contextlib.asynccontextmanager
async def _serving(wharf: Wharf) -> AsyncIterator[str]:
    """The service over HTTP, in this process."""
    config = uvicorn.Config(wharf.house.http_app(), host="127.0.0.1", port=0, log_config=None)
    server = _Quiet(config)
    running = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn tells in no other way
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


class _Quiet(uvicorn.Server):
    """Leaves the signals to whoever owns the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
