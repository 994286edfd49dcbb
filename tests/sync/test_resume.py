"""A batch that was interrupted goes on from its stored cursors."""

from __future__ import annotations

import pytest

from wharfinger.domain.errors import FencedError
from wharfinger.domain.model import RunOutcome
from wharfinger.store import runs
from wharfinger.sync.engine import Engine
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream

PROJECT = "acme-project"


class Interruption(BaseException):
    """A worker's sudden end."""


class InHand:
    """Jobs kept in hand, so that a test decides what runs and what breaks off."""

    def __init__(self) -> None:
        self.units: list[int] = []

    async def plan(self, tx, *, project_id, run_id, registry_id, hinted=False) -> None:
        pass

    async def read(self, tx, *, project_id, run_id, units, hinted=False) -> None:
        self.units += units

    async def finish(self, tx, *, project_id, run_id, registry_id) -> None:
        pass


@pytest.fixture
async def marked():
    """One repository of 23 tags, read by marker in pages of five."""
    async with Upstream(made_up_world(1, 23)) as running:
        running.world.clock.follow_real_time()
        yield running


@pytest.mark.hard_case("H24", guard="wharfinger.store.runs:take_over_listings")
async def test_a_long_tag_listing_goes_on_behind_its_last_stored_page(yard, marked, monkeypatch):
    jobs = InHand()
    engine = Engine(yard.house.database, yard.house.keys, yard.house.opener, jobs)
    registry = await yard.add_swr(marked, api="v3", page_size=5)
    run = await a_run(yard, registry)
    await engine.plan(PROJECT, run, registry)
    (unit,) = jobs.units
    stage, staged = runs.stage_page, []

    async def break_off_after_two_pages(*arguments):
        if len(staged) == 2:
            raise Interruption
        staged.append(1)
        return await stage(*arguments)

    monkeypatch.setattr(runs, "stage_page", break_off_after_two_pages)
    with pytest.raises(Interruption):
        await engine.read(PROJECT, unit)
    monkeypatch.setattr(runs, "stage_page", stage)
    marked.log.clear()

    await engine.read(PROJECT, unit)
    outcome = await engine.finish(PROJECT, run, registry)
    await engine.aclose()

    assert outcome is RunOutcome.COMPLETE
    assert yard.stored() == marked.world.images()
    # 23 tags are five pages; two of them stood in the store.
    assert len(marked.requests(r"/tags\?")) == 3


@pytest.mark.hard_case("H24", guard="wharfinger.store.runs:open_listing")
async def test_a_worker_given_up_for_dead_stages_nothing_more(yard, marked):
    registry = await yard.add_swr(marked, api="v3", page_size=5)
    jobs = InHand()
    engine = Engine(yard.house.database, yard.house.keys, yard.house.opener, jobs)
    run = await a_run(yard, registry)
    await engine.plan(PROJECT, run, registry)
    await engine.aclose()
    async with yard.house.database.tenant(PROJECT) as tx:
        late = await runs.take_unit(tx, jobs.units[0])
    async with yard.house.database.tenant(PROJECT) as tx:
        current = await runs.take_unit(tx, jobs.units[0])
        await runs.open_listing(tx, PROJECT, current, current.repositories[0].id)

    with pytest.raises(FencedError):
        async with yard.house.database.tenant(PROJECT) as tx:
            await runs.open_listing(tx, PROJECT, late, late.repositories[0].id)

    assert yard.value("SELECT unit_attempt FROM listing") == current.attempt


async def a_run(yard, registry: str) -> str:
    """A queued run whose jobs are the test's own affair."""
    run = yard.value(
        "INSERT INTO run (project_id, registry_id) VALUES (%s, %s) RETURNING id::text",
        PROJECT,
        registry,
    )
    yard.owner.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
        " VALUES ('nowhere', 'none', jsonb_build_object('run_id', %s::text))",
        (run,),
    )
    return run
