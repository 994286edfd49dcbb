"""The running service: an HTTP server and the worker processes it looks after."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import structlog
import uvicorn

from wharfinger.cli.common import finishing, print_line
from wharfinger.cli.sample import Sample
from wharfinger.domain.errors import SetupError
from wharfinger.http.connections import ServerConfig
from wharfinger.http.exposition import metrics_alone
from wharfinger.http.limits import Limits
from wharfinger.settings import Settings, worker_environment
from wharfinger.store.database import DatabaseAddress
from wharfinger.wiring import House, limits_of, open_house

log = structlog.get_logger()

# A worker that dies at once must not be restarted in a tight loop; one that lived a while may.
RESTART_FIRST_S = 0.2
RESTART_LONGEST_S = 10.0
STOP_WITHIN_S = 10.0
# Files and sockets beside the connections: the database, the log, those that are told of no room.
_OTHER_FILES = 200


async def run(settings: Settings, address: DatabaseAddress, *, with_sample: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with open_house(settings, address) as house:
        server = _server(settings, house)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with _sample(with_sample) as sample:
            async with (
                house.metering.reporting("serve"),
                serving_metrics(settings, house),
                _running(server) as url,
                _workers(settings),
            ):
                if sample is not None:
                    await sample.settle_in(house, url)
                print_line(f"listening on {url}")
                sys.stdout.flush()
                await stop.wait()
                await _drain(house, settings, stop)


async def _drain(house: House, settings: Settings, stop: asyncio.Event) -> None:
    """Tell by /readyz that this is the end, and answer until everybody has heard.

    A second signal cuts it short.
    """
    stop.clear()
    house.draining.set()
    log.info("serve.draining", seconds=settings.drain_s)
    if settings.drain_s:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), settings.drain_s)


def _server(settings: Settings, house: House) -> uvicorn.Server:
    limits = limits_of(settings)
    _allow_open_files(limits.connections)
    return _listening(house.http_app(), settings.listen, limits)


def _listening(app: Any, where: str, limits: Limits) -> uvicorn.Server:
    host, _, port = where.rpartition(":")
    return _Server(ServerConfig(app, host=host.strip("[]"), port=int(port), limits=limits))


@contextlib.asynccontextmanager
async def serving_metrics(settings: Settings, house: House) -> AsyncIterator[None]:
    """Serve the metrics on a port of their own, if one is set."""
    if settings.metrics_listen is None:
        yield
        return
    app = metrics_alone(house.exposition)
    async with _running(_listening(app, settings.metrics_listen, limits_of(settings))) as url:
        log.info("metrics.listening", url=f"{url}/metrics")
        yield


def _allow_open_files(connections: int) -> None:
    """Raise the soft limit on open files as far as it may be, where the connections need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < needed:
        log.warning("serve.few_open_files", connections=connections, needed=needed, allowed=hard)


class _Server(uvicorn.Server):
    """A server that leaves the signals to us: others must be stopped with it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _running(server: uvicorn.Server) -> AsyncIterator[str]:
    task = asyncio.create_task(_run(server))
    try:
        while not server.started:
            if task.done():
                await task
                raise SetupError("the HTTP server did not start")
            await asyncio.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


async def _run(server: uvicorn.Server) -> None:
    try:
        await server.serve()
    except SystemExit as exc:
        # What uvicorn does when it cannot bind.
        where = f"{server.config.host}:{server.config.port}"
        raise SetupError(f"cannot listen on {where}: is another service there?") from exc


@contextlib.contextmanager
def _sample(wanted: bool) -> Iterator[Sample | None]:
    if not wanted:
        yield None
        return
    with Sample.running() as sample:
        yield sample


@contextlib.asynccontextmanager
async def _workers(settings: Settings) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(settings.workers):
            await stack.enter_async_context(
                finishing(asyncio.create_task(_keep_worker(settings, number)))
            )
        yield


async def _keep_worker(settings: Settings, number: int) -> None:
    """Run one worker process, and another in its place whenever it ends."""
    pause_s = RESTART_FIRST_S
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "wharfinger",
            "worker",
            f"--parent={os.getpid()}",
            env=worker_environment(settings),
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        lived_s = loop.time() - began
        pause_s = RESTART_FIRST_S if lived_s > 30 else min(pause_s * 2, RESTART_LONGEST_S)
        log.warning("worker.ended", number=number, code=code, restart_in_s=pause_s)
        await asyncio.sleep(pause_s)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
