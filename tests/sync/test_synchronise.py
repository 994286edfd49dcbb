"""What is stored after a sync, an unchanged one, and each kind of change."""

from __future__ import annotations

from wharfinger.domain.model import RunOutcome
from wharfinger.testing.model import made_up_world


async def test_a_first_sync_stores_exactly_what_the_registry_has(yard, upstream):
    upstream.world = made_up_world(12, 5)
    await yard.add_swr(upstream)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert (run.repositories_total, run.repositories_done, run.images) == (12, 12, 60)
    assert yard.stored() == upstream.world.images()
