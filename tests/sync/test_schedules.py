"""Syncs that nobody asks for: once when due, made up for once, never while paused."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import time

import pytest

from wharfinger.domain.errors import NotFoundError
from wharfinger.domain.model import TaskFilter
from wharfinger.domain.schedule import ScheduleChange


def make_due(yard, *, ago: str = "1 second", registry: str = "%") -> None:
    yard.owner.execute(
        "UPDATE schedule SET next_at = now() - %s::interval WHERE registry_id IN"
        " (SELECT id FROM registry WHERE name LIKE %s)",
        (ago, registry),
    )


async def tasks(yard):
    _, found = await yard.house.synchroniser.tasks(
        yard.caller, TaskFilter(sync_type="autoSync"), offset=0, limit=100
    )
    return found


async def test_a_registry_that_is_due_is_synchronised_and_due_again_the_next_day(yard, upstream):
    await yard.add_swr(upstream)
    assert await yard.house.schedules.tick() == 0  # planned by it, not yet due
    (planned,) = await yard.house.schedules.list(yard.caller)
    make_due(yard)

    assert await yard.house.schedules.tick() == 1
    await yard.quiet()

    assert yard.stored() == upstream.world.images()
    (task,) = await tasks(yard)
    assert task.sync_type == "autoSync"
    (after,) = await yard.house.schedules.list(yard.caller)
    assert after.last_task_id == task.id
    assert after.next_at == planned.next_at
    assert await yard.house.schedules.tick() == 0


async def test_a_week_that_was_missed_is_made_up_for_once(yard, upstream):
    await yard.add_swr(upstream)
    await yard.house.schedules.tick()
    make_due(yard, ago="7 days")

    ticks = [await yard.house.schedules.tick() for _ in range(3)]
    await yard.quiet()

    assert ticks == [1, 0, 0]
    assert len(await tasks(yard)) == 1


async def test_two_workers_that_tick_at_once_queue_one_sync(yard, upstream):
    await yard.add_swr(upstream)
    await yard.house.schedules.tick()
    make_due(yard)

    ticks = await asyncio.gather(*(yard.house.schedules.tick() for _ in range(6)))
    await yard.quiet()

    assert sum(ticks) == 1
    assert len(await tasks(yard)) == 1


async def test_a_paused_registry_is_left_alone_and_one_resumed_waits_for_its_time(yard, upstream):
    await yard.add_swr(upstream)
    pause, resume = ScheduleChange(paused=True), ScheduleChange(paused=False)
    paused = await yard.house.schedules.change(yard.caller, "swrprivate", pause)
    yard.owner.execute("UPDATE schedule SET paused_at = now() - interval '3 days'")

    while_paused = await yard.house.schedules.tick()
    resumed = await yard.house.schedules.change(yard.caller, "swrprivate", resume)

    assert (paused.next_at, while_paused) == (None, 0)
    assert resumed.paused_at is None
    assert resumed.next_at > dt.datetime.now(dt.UTC)
    assert await yard.house.schedules.tick() == 0
    assert await tasks(yard) == []


async def test_the_first_scheduled_sync_of_a_day_reads_everything_and_later_ones_do_not(
    yard, upstream
):
    await yard.add_swr(upstream)
    asked = []
    for read_ago in ("1 hour", "21 hours"):
        await yard.sync()
        yard.owner.execute("UPDATE registry SET read_at = now() - %s::interval", (read_ago,))
        await yard.house.schedules.tick()
        make_due(yard)
        await yard.house.schedules.tick()
        await yard.quiet()
        asked.append(yard.value("SELECT requests FROM run ORDER BY queued_at DESC LIMIT 1"))

    few, all_of_them = asked
    assert few < 12 < all_of_them


async def test_which_syncs_read_everything_can_be_said(yard, upstream):
    await yard.add_swr(upstream)
    await yard.house.schedules.tick()

    for wanted, full in (("never", False), ("always", True)):
        await yard.house.schedules.change(
            yard.caller, "swrprivate", ScheduleChange(full_syncs=wanted)
        )
        make_due(yard)
        await yard.house.schedules.tick()
        await yard.quiet()
        newest = "SELECT is_full FROM run ORDER BY queued_at DESC LIMIT 1"
        assert yard.value(newest) is full


async def test_a_broken_project_costs_the_others_nothing(yard, upstream):
    yard.owner.execute("INSERT INTO project VALUES ('aaa-broken', 'x', now())")
    yard.owner.execute("UPDATE project SET time_zone = 'Nowhere/At-all' WHERE id = 'aaa-broken'")
    yard.owner.execute(
        "INSERT INTO registry (project_id, name, kind, address)"
        " VALUES ('aaa-broken', 'x', 'Other', 'https://registry.example')"
    )
    await yard.add_swr(upstream)
    await yard.house.schedules.tick()
    make_due(yard, registry="swrprivate")

    assert await yard.house.schedules.tick() == 1
    await yard.quiet()

    assert yard.stored() == upstream.world.images()


async def test_a_removed_registry_is_not_due(yard, upstream):
    await yard.add_swr(upstream)
    await yard.house.schedules.tick()
    make_due(yard)
    await yard.house.registries.remove(yard.caller, "swrprivate")

    assert await yard.house.schedules.tick() == 0
    with pytest.raises(NotFoundError):
        await yard.house.schedules.change(yard.caller, "swrprivate", ScheduleChange(paused=True))


async def test_another_time_zone_moves_what_is_due(yard, upstream):
    await yard.add_swr(upstream)
    (before,) = await yard.house.schedules.list(yard.caller)

    await yard.house.schedules.set_time_zone(yard.caller, "Asia/Shanghai")

    (after,) = await yard.house.schedules.list(yard.caller)
    hours = {round((after.next_at - before.next_at) / dt.timedelta(hours=1)) % 24}
    assert hours == {16}
    assert yard.value("SELECT details ->> 'time_zone' FROM audit") == "Asia/Shanghai"


async def test_a_worker_begins_what_is_due_by_itself(yard, upstream, monkeypatch):
    monkeypatch.setattr("wharfinger.sync.queue.EVERY_MINUTE", "* * * * * *")  # every second
    settings = dataclasses.replace(yard.house.settings, schedules=True)
    house = dataclasses.replace(yard.house, settings=settings)
    await yard.add_swr(upstream)
    await house.schedules.tick()
    make_due(yard)

    async with house.worker(name="ticking") as worker:
        running = asyncio.create_task(worker.run())
        deadline = time.monotonic() + 30
        while yard.stored() != upstream.world.images() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        worker.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    assert yard.stored() == upstream.world.images()
    assert len(await tasks(yard)) == 1
