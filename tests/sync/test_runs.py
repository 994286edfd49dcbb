"""Tasks, runs and units: durable, joined, fenced, never for ever."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from wharfinger.domain.errors import FencedError, NotConfiguredError, NotFoundError
from wharfinger.domain.model import Reason, RunOutcome
from wharfinger.store import runs, writing
from wharfinger.store.writing import FailedRepository, UnitResult
from wharfinger.sync.queue import Worker
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream

PROJECT = "acme-project"
KNOWN_ROWS = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'image'::regclass"


@pytest.mark.hard_case("H25", guard="wharfinger.store.runs:_queue_run")
async def test_ten_calls_in_a_row_cost_at_most_two_runs(yard, upstream):
    await yard.add_swr(upstream)
    upstream.faults.delay(r"/tags\?", 0.2)

    tasks = [
        await yard.house.synchroniser.synchronise_kind(yard.caller, "SwrPrivate", "0")
        for _ in range(10)
    ]
    ends = [(await yard.ended(task))[0] for task in tasks]

    assert len(set(tasks)) == 10
    assert len({run.id for run in ends}) <= 2
    assert {run.outcome for run in ends} == {RunOutcome.COMPLETE}
    assert yard.value("SELECT count(*) FROM task") == 10


async def test_a_push_during_a_run_is_found_by_the_call_that_follows_it(yard, upstream):
    await yard.add_swr(upstream)
    path = upstream.world.owned()[0].path
    first = await yard.house.synchroniser.synchronise_kind(yard.caller, "SwrPrivate", "0")
    upstream.faults.delay(r"/tags\?", 0.3)
    # The repository listing and the pushed repository's tags have been read: too late for run one.
    async with asyncio.timeout(20):
        while not upstream.requests(r"/tags\?"):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.6)
    upstream.world.push(path, "pushed-meanwhile")

    second = await yard.house.synchroniser.synchronise_kind(yard.caller, "SwrPrivate", "0")
    await yard.ended(first)
    await yard.ended(second)

    assert (path, "pushed-meanwhile") in {(p, t) for p, t, _ in yard.stored()}


async def test_what_was_rolled_back_was_never_asked_for(yard, upstream):
    registry = await yard.add_swr(upstream)

    with pytest.raises(RuntimeError, match="on purpose"):
        async with yard.house.database.tenant(PROJECT) as tx:
            _, (run,) = await runs.queue_task(
                tx, PROJECT, [registry], name="n", requested={}, requested_by="t", full=False
            )
            await yard.house.queue.plan(tx, project_id=PROJECT, run_id=run.id, registry_id=registry)
            raise RuntimeError("on purpose")

    assert yard.value("SELECT count(*) FROM run") == 0
    assert yard.value("SELECT count(*) FROM procrastinate_jobs") == 0


@pytest.mark.hard_case("H24", guard="wharfinger.store.writing:_fence")
async def test_an_attempt_that_was_given_up_for_dead_writes_nothing(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    unit_id = an_open_unit(yard)
    async with yard.house.database.tenant(PROJECT) as tx:
        late = await runs.take_unit(tx, unit_id)
    async with yard.house.database.tenant(PROJECT) as tx:
        await runs.take_unit(tx, unit_id)
    reason = Reason(code="x", message="x")
    result = UnitResult(
        unit=late.id,
        attempt=late.attempt,
        began=dt.datetime.now(dt.UTC),
        failed=[FailedRepository(wanted=w, reason=reason) for w in late.repositories],
    )

    with pytest.raises(FencedError):
        async with yard.house.database.tenant(PROJECT) as tx:
            await writing.publish_unit(tx, PROJECT, result)

    assert yard.value("SELECT count(*) FROM repository WHERE verdict <> 'complete'") == 0
    assert yard.value("SELECT done FROM unit WHERE id = %s", unit_id) is False


@pytest.mark.hard_case("H24", guard="wharfinger.sync.queue:Worker._take_care")
async def test_a_run_whose_jobs_were_lost_is_taken_up_again(yard, upstream):
    registry = await yard.add_swr(upstream)
    async with yard.house.database.tenant(PROJECT) as tx:
        task_id, _ = await runs.queue_task(
            tx, PROJECT, [registry], name="n", requested={}, requested_by="t", full=False
        )

    (run,) = await yard.ended(task_id, within_s=30)

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == upstream.world.images()


async def test_a_fault_of_the_reaper_does_not_end_it(yard, upstream, monkeypatch):
    faults = []

    async def fail_once(worker):
        if not faults:
            faults.append(1)
            raise RuntimeError("a fault of our own")

    monkeypatch.setattr(Worker, "_reap", fail_once)
    async with asyncio.timeout(10):
        while not faults:
            await asyncio.sleep(0.05)
    registry = await yard.add_swr(upstream)
    async with yard.house.database.tenant(PROJECT) as tx:
        task_id, _ = await runs.queue_task(
            tx, PROJECT, [registry], name="n", requested={}, requested_by="t", full=False
        )

    (run,) = await yard.ended(task_id, within_s=30)

    assert run.outcome is RunOutcome.COMPLETE


@pytest.mark.hard_case("H26", guard="wharfinger.sync.engine:_Sources.use")
async def test_two_registries_at_once_do_not_mix(yard, upstream):
    async with Upstream(made_up_world(7, 3, account="other")) as elsewhere:
        await yard.add_swr(upstream)
        await yard.add_swr(elsewhere, name="elsewhere")

        task = await yard.house.synchroniser.synchronise_names(yard.caller, [])
        ends = await yard.ended(task)

        assert {run.outcome for run in ends} == {RunOutcome.COMPLETE}
        rows = yard.owner.execute(
            "SELECT g.name, count(*) FROM image i JOIN registry g ON g.id = i.registry_id"
            " GROUP BY g.name"
        ).fetchall()
        assert dict(rows) == {"swrprivate": 60, "elsewhere": 21}


async def test_a_removed_registry_retires_its_images_and_keeps_their_history(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()

    retired = await yard.house.registries.remove(yard.caller, "swrprivate")

    assert retired == 60
    assert yard.stored() == set()
    assert yard.value("SELECT count(*) FROM event WHERE kind = 'retired'") == 60
    assert yard.value("SELECT max(seq) FROM event") == 120
    with pytest.raises(NotConfiguredError, match="wharfinger swr configure"):
        await yard.house.synchroniser.synchronise_kind(yard.caller, "SwrPrivate", "0")


@pytest.mark.hard_case("H25", guard="wharfinger.store.registries:remove_registry")
async def test_a_registry_removed_in_the_middle_of_a_run_stays_removed(yard, upstream):
    await yard.add_swr(upstream)
    upstream.faults.delay(r"/tags\?", 0.5)
    task = await yard.house.synchroniser.synchronise_kind(yard.caller, "SwrPrivate", "0")
    async with asyncio.timeout(20):
        while not upstream.requests(r"/tags\?"):
            await asyncio.sleep(0.01)

    await yard.house.registries.remove(yard.caller, "swrprivate")
    (run,) = await yard.ended(task)
    await asyncio.sleep(2)

    assert run.outcome is RunOutcome.FAILED
    assert run.reasons[-1].code == "removed"
    assert yard.stored() == set()


async def test_a_task_of_another_project_cannot_be_told_from_none(yard, upstream):
    await yard.add_swr(upstream)
    task = await yard.house.synchroniser.synchronise_kind(yard.caller, "SwrPrivate", "0")
    await yard.ended(task)
    stranger = type(yard.caller)(project_id="stranger", project_name="s", principal="test")

    with pytest.raises(NotFoundError) as theirs:
        await yard.house.synchroniser.task(stranger, task)
    with pytest.raises(NotFoundError) as nobodys:
        await yard.house.synchroniser.task(stranger, "00000000-0000-0000-0000-000000000000")

    assert str(theirs.value).replace(task, "ID") == str(nobodys.value).replace(
        "00000000-0000-0000-0000-000000000000", "ID"
    )


async def test_a_sync_without_a_registry_names_the_command_that_adds_one(yard):
    with pytest.raises(NotConfiguredError, match="wharfinger swr configure --project acme-project"):
        await yard.house.synchroniser.synchronise_kind(yard.caller, "SwrShared", "0")


async def test_the_planner_is_told_of_a_run_that_changed_much_and_of_no_other(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    await jobs_ended(yard)
    assert yard.value(KNOWN_ROWS) == -1
    async with Upstream(made_up_world(60, 20)) as large:
        await yard.add_swr(large, name="large")

        await yard.sync(names=("large",))
        await jobs_ended(yard)

    assert yard.value(KNOWN_ROWS) == 60 + 1200


async def jobs_ended(yard) -> None:
    """Until nothing is left to do: a run is over before the job is that ended it."""
    left = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
    async with asyncio.timeout(20):
        while yard.value(left):
            await asyncio.sleep(0.02)


def an_open_unit(yard) -> int:
    """A unit of a running run that no job is about to take."""
    registry = yard.value("SELECT id FROM registry")
    run = yard.value(
        "INSERT INTO run (project_id, registry_id, state) VALUES (%s, %s, 'running') RETURNING id",
        PROJECT,
        registry,
    )
    # A job that waits for ever keeps the caretaker from reviving the run.
    yard.owner.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
        " VALUES ('nowhere', 'none', jsonb_build_object('run_id', %s::text))",
        (run,),
    )
    return yard.value(
        """
        INSERT INTO unit (project_id, run_id, registry_id, repository_ids, repositories)
        SELECT %s, %s, %s, array_agg(id),
            jsonb_agg(jsonb_build_object('id', id, 'namespace', namespace, 'name', name))
        FROM repository RETURNING id
        """,
        PROJECT,
        run,
        registry,
    )
