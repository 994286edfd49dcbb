"""The commands that stay: the service, and workers on their own."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from contextlib import AbstractAsyncContextManager
from typing import Annotated

import structlog
import typer

from wharfinger.cli.common import settings_of
from wharfinger.settings import Settings
from wharfinger.store.database import DatabaseAddress
from wharfinger.sync.queue import Worker
from wharfinger.wiring import House, database_of, open_house

log = structlog.get_logger()

_PR_SET_PDEATHSIG = 1
READY_LOOK_S = 0.5


def serve(
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Default 127.0.0.1:8080.")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(metavar="N", help="Worker processes, default 1; 0 for none.")
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve metrics there besides, without a token."),
    ] = None,
    sample: Annotated[
        bool,
        typer.Option("--sample", help="Bring a made-up SWR along, and a project that reads it."),
    ] = False,
) -> None:
    """Serve the HSS API and synchronise; stops on SIGTERM or Ctrl-C."""
    # The web framework costs a second that no other command should wait for.
    from wharfinger.cli import service  # noqa: PLC0415 - see above

    settings = settings_of(listen=listen, workers=workers, metrics_listen=metrics_listen)
    with database_of(settings) as address:
        asyncio.run(service.run(settings, address, with_sample=sample))


def worker(
    parent: Annotated[
        int | None, typer.Option(hidden=True, help="Stop when this process is gone.")
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve metrics there, without a token."),
    ] = None,
) -> None:
    """Carry out syncs; any number of workers may share one database."""
    if parent is not None:
        _die_with(parent)
    settings = settings_of(metrics_listen=metrics_listen)
    with database_of(settings) as address:
        # What a child of serve counts is in the metrics of its parent, whose port is taken.
        asyncio.run(_work(settings, address, with_metrics=parent is None))


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)


async def _work(settings: Settings, address: DatabaseAddress, *, with_metrics: bool) -> None:
    async with (
        open_house(settings, address) as house,
        house.worker(name=f"worker {os.getpid()}") as running,
        _metrics(settings, house) if with_metrics else contextlib.nullcontext(),
    ):
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.stop)
        await _until_ready(house, running)
        log.info("worker.started", pid=os.getpid())
        await running.run()


def _metrics(settings: Settings, house: House) -> AbstractAsyncContextManager[None]:
    if settings.metrics_listen is None:
        return contextlib.nullcontext()
    # The web server costs time that no other worker should wait for.
    from wharfinger.cli.service import serving_metrics  # noqa: PLC0415 - see above

    return serving_metrics(settings, house)


async def _until_ready(house: House, running: Worker) -> None:
    """Wait for whoever migrates; a worker that begins too early would fail its jobs."""
    while not running.stopping and (reason := await house.unready()):
        log.warning("worker.waits", reason=reason)
        await asyncio.sleep(READY_LOOK_S)
