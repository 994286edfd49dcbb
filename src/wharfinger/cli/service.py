"""The running service: an HTTP server and the worker processes it looks after."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import structlog
import uvicorn

from wharfinger.cli.common import finishing, print_line
from wharfinger.cli.sample import Sample
from wharfinger.domain.errors import SetupError
from wharfinger.settings import Settings, worker_environment
from wharfinger.store.database import DatabaseAddress
from wharfinger.wiring import House, open_house

log = structlog.get_logger()

# A worker that dies at once must not be restarted in a tight loop; one that lived a while may.
RESTART_FIRST_S = 0.2
RESTART_LONGEST_S = 10.0
STOP_WITHIN_S = 10.0


async def run(settings: Settings, address: DatabaseAddress, *, with_sample: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with open_house(settings, address) as house:
        server = _server(settings, house)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with _sample(with_sample) as sample:
            async with _running(server) as url, _workers(settings):
                if sample is not None:
                    await sample.settle_in(house, url)
                print_line(f"listening on {url}")
                sys.stdout.flush()
                await stop.wait()


def _server(settings: Settings, house: House) -> uvicorn.Server:
    host, _, port = settings.listen.rpartition(":")
    config = uvicorn.Config(
        house.http_app(),
        host=host.strip("[]"),
        port=int(port),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        # Behind a proxy the signature is still over what the client sent: nothing is rewritten.
        proxy_headers=False,
        h11_max_incomplete_event_size=96 * 1024,
        timeout_graceful_shutdown=5,
        http="h11",
    )
    return _Server(config)


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
