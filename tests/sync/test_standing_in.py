"""A command that waits for a sync works itself whenever nobody else does."""

from __future__ import annotations

from wharfinger.cli.sync import somebody_works
from wharfinger.domain.model import RunOutcome


async def test_a_worker_that_has_just_died_is_not_waited_for_for_ever(idle_yard, upstream):
    await idle_yard.add_swr(upstream)
    # It beat a moment ago, and never will again.
    idle_yard.owner.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")

    async with somebody_works(idle_yard.house):
        run = await idle_yard.sync(within_s=40)

    assert run.outcome is RunOutcome.COMPLETE


async def test_a_command_does_not_begin_what_is_due_by_schedule(idle_yard, upstream):
    await idle_yard.add_swr(upstream)
    await idle_yard.add_swr(upstream, kind="SwrShared")
    await idle_yard.house.schedules.tick()
    idle_yard.owner.execute("UPDATE schedule SET next_at = now() - interval '1 hour'")

    async with somebody_works(idle_yard.house):
        await idle_yard.sync(names=("swrprivate",))

    assert idle_yard.value("SELECT count(*) FROM task WHERE sync_type = 'autoSync'") == 0
