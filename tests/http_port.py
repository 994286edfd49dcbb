"""A house's HTTP application on a port of its own, inside the test's loop."""

from __future__ import annotations

import asyncio
import contextlib

import uvicorn


@contextlib.asynccontextmanager
async def serving(house):
    config = uvicorn.Config(house.http_app(), host="127.0.0.1", port=0, log_config=None)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    running = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
