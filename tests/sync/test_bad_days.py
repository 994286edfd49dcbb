"""Nothing is lost to a bad day: failures change the report and nothing else."""

from __future__ import annotations

import pytest

from wharfinger.domain.model import RunOutcome
from wharfinger.store.registries import RegistryChange
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream

BROKEN = "bench-03/service-00003"
ITS_TAGS = r"/namespaces/bench-03/repos/service-00003/tags"
LIST = r"^/v2/manage/repos\?"


def push_everywhere(upstream) -> None:
    for repository in upstream.world.owned():
        upstream.world.push(repository.path, "v9.9")


@pytest.mark.hard_case("H1", guard="wharfinger.sync.engine:_Reader.read")
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "unauthorised"),
        (403, "forbidden"),
        (404, "missing"),
        (429, "throttled"),
        (500, "upstream_failure"),
    ],
)
async def test_one_broken_repository_loses_nothing_and_is_reported(yard, upstream, status, code):
    await yard.add_swr(upstream)
    await yard.sync()
    before = {row for row in yard.stored() if row[0] == BROKEN}
    push_everywhere(upstream)
    body = {"error_code": "SVCSTG.SWR.4000000", "error_msg": "bad day"}
    upstream.faults.answer(ITS_TAGS, status, body=body)

    run = await yard.sync()

    assert run.outcome is RunOutcome.PARTIAL
    assert (run.repositories_done, run.repositories_failed) == (11, 1)
    assert [(r.code, r.repository) for r in run.reasons] == [(code, BROKEN)]
    others = {row for row in upstream.world.images() if row[0] != BROKEN}
    assert yard.stored() == others | before
    assert yard.value("SELECT verdict FROM registry") == "partial"
    assert yard.value("SELECT count(*) FROM event WHERE kind = 'retired'") == 0


@pytest.mark.hard_case("H1", guard="wharfinger.store.runs:_sort_out")
async def test_a_broken_repository_is_read_again_once_it_answers(yard, upstream):
    await yard.add_swr(upstream)
    fault = upstream.faults.answer(ITS_TAGS, 403, body={"error_code": "X", "error_msg": "no"})
    await yard.sync()
    upstream.faults.remove(fault)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == upstream.world.images()
    assert yard.value("SELECT verdict FROM registry") == "complete"


async def test_a_passing_failure_is_tried_again_and_costs_nothing(yard, upstream):
    await yard.add_swr(upstream)
    upstream.faults.reset(ITS_TAGS, times=1)
    upstream.faults.throttle(LIST, times=1)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == upstream.world.images()


@pytest.mark.hard_case("H9", guard="wharfinger.sources._reading:decode")
@pytest.mark.parametrize("break_it", ["html", "truncate", "cut_body", "reset"])
async def test_a_listing_that_cannot_be_read_changes_nothing(yard, upstream, break_it):
    await yard.add_swr(upstream)
    await yard.sync()
    before = yard.stored()
    upstream.world.delete_repository(BROKEN)
    getattr(upstream.faults, break_it)(LIST)

    run = await yard.sync()

    assert run.outcome is RunOutcome.FAILED
    assert run.reasons
    assert yard.stored() == before
    assert yard.value("SELECT verdict FROM registry") == "partial"


async def test_a_listing_cut_in_half_retires_nothing_and_keeps_what_was_read(yard, upstream):
    await yard.add_swr(upstream, page_size=5)
    await yard.sync()
    before = yard.stored()
    push_everywhere(upstream)
    upstream.world.delete_repository(BROKEN)
    upstream.break_down(LIST, skip=1)

    run = await yard.sync()

    assert run.outcome is RunOutcome.PARTIAL
    assert (run.retired, run.held) == (0, 0)
    assert before <= yard.stored()
    assert run.added == 5


@pytest.mark.hard_case("H3", guard="wharfinger.store.runs:_retire_repositories")
async def test_a_registry_that_comes_up_empty_retires_nothing(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    before = yard.stored()
    upstream.faults.empty_list(LIST)

    run = await yard.sync()
    again = await yard.sync()

    assert (run.outcome, run.retired, run.held) == (RunOutcome.HELD, 0, 60)
    assert run.reasons[-1].code == "suspiciously_empty"
    assert "listed nothing where 60 images were" in run.reasons[-1].message
    assert again.outcome is RunOutcome.HELD
    assert yard.stored() == before
    assert yard.value("SELECT held_images FROM registry") == 60


async def test_a_new_repository_shown_as_empty_is_read_again_whatever_its_fingerprint(
    yard, upstream
):
    await yard.add_swr(upstream)
    upstream.faults.empty_list(ITS_TAGS, times=1)
    await yard.sync()

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert run.added == 5
    assert yard.stored() == upstream.world.images()


async def test_what_was_held_and_comes_back_is_held_no_more(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    fault = upstream.faults.empty_list(LIST)
    await yard.sync()
    upstream.faults.remove(fault)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.value("SELECT count(*) FROM image WHERE held_at IS NOT NULL") == 0
    assert yard.value("SELECT held_images FROM registry") == 0
    assert yard.events()[-1][0] == "added"


@pytest.mark.hard_case("H3", guard="wharfinger.store.writing:_retire_or_hold")
async def test_a_repository_that_comes_up_empty_is_held_unless_its_own_row_agrees(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    upstream.world.push(BROKEN, "v9.9")
    upstream.faults.empty_list(ITS_TAGS)

    doubtful = await yard.sync()
    assert (doubtful.outcome, doubtful.retired, doubtful.held) == (RunOutcome.HELD, 0, 5)

    upstream.faults.clear()
    for tag in [t.name for t in upstream.world.tags(BROKEN)]:
        upstream.world.delete_tag(BROKEN, tag)
    agreed = await yard.sync()
    assert (agreed.outcome, agreed.retired) == (RunOutcome.COMPLETE, 5)
    assert yard.stored() == upstream.world.images()


async def test_a_run_that_would_retire_more_than_its_budget_stops_and_asks(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    doomed = [r.path for r in upstream.world.owned()][:3]
    for path in doomed:
        upstream.world.delete_repository(path)
    upstream.world.push(BROKEN if BROKEN not in doomed else "bench-07/service-00007", "v9.9")
    before = yard.stored()

    run = await yard.sync()

    assert (run.outcome, run.retired, run.held, run.added) == (RunOutcome.HELD, 0, 15, 1)
    assert before < yard.stored()
    assert yard.value("SELECT count(*) FROM image WHERE held_at IS NOT NULL") == 15


async def test_the_budget_follows_what_is_live_when_the_run_starts(yard, upstream):
    # 60 images allow 12, so eleven may go; of the 49 left only 10 may, and eleven are held.
    await yard.add_swr(upstream)
    await yard.sync()
    for repository in upstream.world.owned()[:11]:
        upstream.world.delete_tag(repository.path, "v1.0")
    first = await yard.sync()
    assert (first.outcome, first.retired) == (RunOutcome.COMPLETE, 11)

    for repository in upstream.world.owned()[:10]:
        upstream.world.delete_tag(repository.path, "v1.1")
    upstream.world.delete_tag(upstream.world.owned()[11].path, "v1.1")
    second = await yard.sync()
    assert (second.outcome, second.retired, second.held) == (RunOutcome.HELD, 0, 11)


async def test_the_first_complete_listing_after_a_change_of_address_holds_retirements(
    yard, upstream
):
    await yard.add_swr(upstream)
    await yard.sync()
    before = yard.stored()
    async with Upstream(made_up_world(11, 5)) as elsewhere:
        elsewhere.world.clock.follow_real_time()
        assert elsewhere.key == upstream.key
        await yard.house.registries.change(
            yard.caller, "swrprivate", RegistryChange(address=elsewhere.url)
        )

        run = await yard.sync()

        assert (run.outcome, run.retired) == (RunOutcome.HELD, 0)
        assert {path for path, _, _ in before} == {path for path, _, _ in yard.stored()}


async def test_pages_that_end_exactly_on_the_limit_are_complete(yard):
    async with Upstream(made_up_world(9, 5)) as upstream:
        upstream.world.clock.follow_real_time()
        await yard.add_swr(upstream, page_size=5)

        run = await yard.sync()

        # Offsets 0, 4: one row of overlap, and the ninth row ends the second page exactly.
        assert run.outcome is RunOutcome.COMPLETE
        assert len(upstream.requests(LIST)) == 2
        assert yard.stored() == upstream.world.images()


@pytest.mark.hard_case("H35", guard="wharfinger.store.runs:finish_run")
async def test_a_tag_list_of_many_pages_is_published_as_one(yard):
    async with Upstream(made_up_world(2, 23)) as upstream:
        upstream.world.clock.follow_real_time()
        await yard.add_swr(upstream, page_size=5)

        run = await yard.sync()

        assert (run.outcome, run.images) == (RunOutcome.COMPLETE, 46)
        assert yard.stored() == upstream.world.images()
        assert yard.value("SELECT count(*) FROM listing_row") == 0


async def test_a_long_tag_list_that_breaks_in_the_middle_changes_nothing(yard):
    async with Upstream(made_up_world(2, 23)) as upstream:
        upstream.world.clock.follow_real_time()
        await yard.add_swr(upstream, page_size=5)
        await yard.sync()
        before = yard.stored()
        path = upstream.world.owned()[0].path
        upstream.world.push(path, "v9.9")
        upstream.world.delete_tag(path, "v1.0")
        upstream.break_down(r"/tags\?", skip=3)

        run = await yard.sync()

        assert run.outcome is RunOutcome.PARTIAL
        assert yard.stored() == before


@pytest.mark.hard_case("H2", guard="wharfinger.sync.engine:Engine._list")
async def test_a_list_that_moves_between_two_pages_is_read_again(yard):
    async with Upstream(made_up_world(12, 2)) as upstream:
        upstream.world.clock.follow_real_time()
        await yard.add_swr(upstream, page_size=5)
        await yard.sync()
        # The newest comes first. Just before the second page everything moves up by one.
        first = upstream.world.owned()[-1].path
        upstream.faults.before(
            r"offset=4", lambda: upstream.world.delete_repository(first), times=1
        )

        run = await yard.sync()

        assert run.outcome is RunOutcome.COMPLETE
        assert run.retired == 2
        assert run.repositories_total == 11
        assert yard.stored() == upstream.world.images()


@pytest.mark.hard_case("H2", guard="wharfinger.sync.engine:Engine._list")
async def test_a_list_that_never_holds_still_proves_no_absence(yard):
    async with Upstream(made_up_world(12, 2)) as upstream:
        upstream.world.clock.follow_real_time()
        await yard.add_swr(upstream, page_size=5)
        await yard.sync()
        upstream.faults.before(
            r"offset=4",
            lambda: upstream.world.delete_repository(upstream.world.owned()[0].path),
        )

        run = await yard.sync()

        assert run.outcome is RunOutcome.PARTIAL
        assert "list_moved" in {r.code for r in run.reasons}
        assert (run.retired, run.held) == (0, 0)
        assert len(yard.stored()) == 24


async def test_repository_names_with_slashes_are_read(yard, upstream):
    upstream.world.push("team/deep/er/app", "v1")
    await yard.add_swr(upstream)

    await yard.sync()

    assert yard.stored() == upstream.world.images()
    assert upstream.requests(r"/repos/deep%24er%24app/tags")


@pytest.mark.hard_case("H25", guard="wharfinger.store.runs:take_unit")
async def test_a_change_of_address_in_the_middle_of_a_run_holds_its_retirements(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    async with Upstream(made_up_world(12, 4)) as elsewhere:
        elsewhere.world.clock.follow_real_time()
        assert elsewhere.key == upstream.key
        upstream.world.push(BROKEN, "v9.9")
        address = elsewhere.url

        def move_house() -> None:
            with yard.owner.transaction():
                yard.owner.execute(
                    "UPDATE registry SET address = %s, config_generation = 2", (address,)
                )

        upstream.faults.after(LIST, move_house, times=1)

        run = await yard.sync()

        assert (run.outcome, run.retired) == (RunOutcome.HELD, 0)
        assert run.held >= 1


async def test_what_was_held_stays_until_it_is_accepted_whatever_the_next_budget(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    async with Upstream(made_up_world(12, 4)) as elsewhere:
        elsewhere.world.clock.follow_real_time()
        assert elsewhere.key == upstream.key
        await yard.house.registries.change(
            yard.caller, "swrprivate", RegistryChange(address=elsewhere.url)
        )
        first = await yard.sync()

        # Twelve of sixty would be within the budget now.
        second = await yard.sync()
        accepted = await yard.house.held.accept(yard.caller, "swrprivate", images=None)
        third = await yard.sync()

        assert (first.outcome, first.held) == (RunOutcome.HELD, 12)
        assert (second.outcome, second.retired, second.held) == (RunOutcome.HELD, 0, 12)
        assert accepted == 12
        assert (third.outcome, third.held) == (RunOutcome.COMPLETE, 0)
        assert yard.stored() == elsewhere.world.images()


async def test_an_absent_repository_with_held_images_goes_once_they_are_accepted(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    for repository in upstream.world.owned()[:3]:
        upstream.world.delete_repository(repository.path)
    await yard.sync()
    assert yard.value("SELECT count(*) FROM repository WHERE retired_at IS NOT NULL") == 0

    await yard.house.held.accept(yard.caller, "swrprivate", images=None)
    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == upstream.world.images()
    assert yard.value("SELECT count(*) FROM repository WHERE retired_at IS NOT NULL") == 3
