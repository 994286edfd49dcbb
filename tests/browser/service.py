"""The whole service in a thread: database, a worker, HTTP, and an SWR to be read."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
from pathlib import Path
from typing import Any, Self

import uvicorn

from wharfinger.http.connections import ServerConfig
from wharfinger.settings import read_settings
from wharfinger.store.database import DatabaseAddress
from wharfinger.testing.model import World
from wharfinger.testing.upstream import Upstream
from wharfinger.wiring import House, limits_of, open_house

PROJECT = "acme-project"


class Service:
    """Starts when entered, stops when left. ``run`` does something inside and waits for it."""

    house: House
    upstream: Upstream
    url: str

    def __init__(self, address: DatabaseAddress, folder: Path, world: World) -> None:
        self.address = address
        self._folder = folder
        self._world = world
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(60)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        # A stream of a browser that is still open is not waited for.
        self._server.force_exit = True
        self._thread.join(30)

    def run(self, coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def token(self, project_id: str = PROJECT, user_id: str | None = None) -> str:
        issued = self.house.callers.issue_token(project_id, user_id, dt.timedelta(hours=1))
        return self.run(issued).token

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - shown by the thread that waits for us
            self._failure = failure
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        settings = read_settings(
            environment={
                "WHARFINGER_DATA_DIR": str(self._folder),
                "WHARFINGER_RETRY_DEADLINE_S": "1",
                "WHARFINGER_SCHEDULES": "false",
                # Whoever adds a registry over HTTP may not reach the loopback otherwise.
                "WHARFINGER_ALLOW_NETWORKS": "127.0.0.0/8",
            }
        )
        async with (
            Upstream(self._world) as self.upstream,
            open_house(settings, self.address) as self.house,
            self.house.worker() as worker,
        ):
            self._world.clock.follow_real_time()
            await self.house.callers.create_project("cn-north-4", PROJECT)
            config = ServerConfig(
                self.house.http_app(), host="127.0.0.1", port=0, limits=limits_of(settings)
            )
            self._server = _Announcing(config)
            self._server.announce = self._announce
            running = asyncio.create_task(worker.run())
            try:
                await self._server.serve()
            finally:
                worker.stop()
                with contextlib.suppress(asyncio.CancelledError):
                    await running

    def _announce(self) -> None:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._started.set()


class _Announcing(uvicorn.Server):
    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        self.announce()
