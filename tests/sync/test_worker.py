"""A worker's own life."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from wharfinger.settings import read_settings
from wharfinger.wiring import open_house


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 50])
async def test_a_worker_stopped_as_soon_as_it_starts_stops(database_address, tmp_path, steps):
    settings = read_settings(environment={"WHARFINGER_DATA_DIR": str(tmp_path)})
    async with open_house(settings, database_address) as house, house.worker() as worker:
        running = asyncio.create_task(worker.run())
        for _ in range(steps):
            await asyncio.sleep(0)

        worker.stop()
        running.cancel()

        async with asyncio.timeout(8):
            await asyncio.gather(running, return_exceptions=True)


async def test_a_worker_stopped_while_it_begins_stops(database_address, tmp_path):
    # A cancellation that met it in the middle of a question to the database was lost at times.
    settings = read_settings(environment={"WHARFINGER_DATA_DIR": str(tmp_path)})
    async with open_house(settings, database_address) as house:
        for number in range(30):
            async with house.worker() as worker:
                running = asyncio.create_task(worker.run())
                await asyncio.sleep(number * 0.003)

                worker.stop()

                async with asyncio.timeout(8):
                    await running


async def test_a_worker_ends_although_a_cancellation_was_lost_on_the_way(idle_yard, monkeypatch):
    monkeypatch.setattr("wharfinger.sync.together.LET_GO_S", 0.05)
    asked = asyncio.Event()

    async def due(tx, most):
        if not asked.is_set():
            asked.set()
            # As the pool does when a connection and a cancellation come at the same moment.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        return []

    async def work_a_little():
        async with idle_yard.house.worker():
            await asked.wait()

    monkeypatch.setattr("wharfinger.store.webhooks.due", due)
    working = asyncio.create_task(work_a_little())
    await asyncio.wait([working], timeout=20)

    has_ended = working.done()
    working.cancel()
    assert has_ended, "it goes on for ever"
