"""Repositories that the catalog lists and whose tags nobody knows."""

from __future__ import annotations

import json

import pytest

from wharfinger.domain.model import RunOutcome
from yard import PROJECT

GHOST = "team/ghost"
ITS_TAGS = "/v2/team/ghost/tags/list"
UNKNOWN = {"errors": [{"code": "NAME_UNKNOWN", "message": "no such repository"}]}


@pytest.fixture
def registry(registry):
    for number in range(3):
        registry.world.push(f"team/app-{number}", "v1")
    return registry


@pytest.mark.hard_case("H11", guard="wharfinger.sync.engine:Engine._settle_unknown")
async def test_a_listed_repository_of_unknown_name_is_complete_and_empty(yard, registry):
    registry.behaviour.ghosts = {GHOST}
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()
    assert yard.verdicts()[GHOST] == ("complete", None)
    assert yard.registry_verdict() == "complete"


@pytest.mark.hard_case("H11", guard="wharfinger.sync.engine:Engine._settle_unknown")
async def test_where_every_name_is_unknown_the_credentials_are_in_doubt(yard, registry):
    await yard.add_oci(registry)
    await yard.sync()
    before = yard.stored()
    registry.behaviour.ghosts = {r.path for r in registry.world.owned()} | {GHOST}

    run = await yard.sync()

    assert run.outcome is RunOutcome.FAILED
    assert yard.stored() == before
    assert set(yard.verdicts().values()) == {("partial", "missing"), ("never", "missing")}
    assert (run.retired, run.held) == (0, 0)


@pytest.mark.hard_case("H11", guard="wharfinger.store.writing:_agreed")
async def test_known_images_of_a_name_now_unknown_are_held_whatever_the_time(yard, registry):
    registry.world.push(GHOST, "v1")
    await yard.add_oci(registry)
    await yard.sync()
    before = yard.stored()
    registry.behaviour.ghosts = {GHOST}

    first = await yard.sync()
    yard.owner.execute("UPDATE repository SET empty_seen_at = now() - interval '1 day'")
    second = await yard.sync()

    assert (first.outcome, first.held) == (RunOutcome.HELD, 1)
    assert (second.outcome, second.retired, second.held) == (RunOutcome.HELD, 0, 1)
    assert yard.stored() == before


@pytest.mark.hard_case("H11", guard="wharfinger.store.writing:_agreed")
async def test_once_somebody_accepts_that_they_are_gone_they_are(yard, registry):
    registry.world.push(GHOST, "v1")
    await yard.add_oci(registry)
    await yard.sync()
    registry.behaviour.ghosts = {GHOST}
    await yard.sync()

    await yard.house.held.accept(yard.caller, "other", images=None)
    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert {path for path, _, _ in yard.stored()} == {f"team/app-{n}" for n in range(3)}


@pytest.mark.hard_case("H11", guard="wharfinger.sources._distribution:_check_tags")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not found</html>",
        {"errors": [{"code": "NOT_FOUND", "message": "not found"}]},
        {"errors": [{"code": "DENIED", "message": "not yours"}]},
    ],
)
async def test_any_other_404_is_a_failure(yard, registry, body):
    registry.behaviour.ghosts = {GHOST}
    registry.faults.answer(ITS_TAGS, 404, body=body)
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.PARTIAL
    assert [(r.code, r.repository) for r in run.reasons] == [("missing", GHOST)]
    assert yard.verdicts()[GHOST] == ("never", "missing")


async def test_of_a_repository_that_somebody_named_404_says_that_the_name_is_wrong(yard, registry):
    await yard.add_oci(registry, repositories=["team/app-0", GHOST])

    run = await yard.sync()

    assert [(r.code, r.repository) for r in run.reasons] == [("missing", GHOST)]


@pytest.mark.hard_case("H30", guard="wharfinger.sync.engine:Engine._settle_unknown")
async def test_a_name_that_only_a_hint_brought_is_no_repository(yard, registry):
    registry_id = await yard.add_oci(registry)
    await yard.sync()
    made = await yard.house.hints.make_token(yard.caller, "other")
    registry.world.push("team/app-0", "v2")
    # The other one has been read by then, so that the credentials are beyond doubt.
    registry.faults.delay("/v2/forged/name/tags", 0.5)
    targets = [{"repository": path, "tag": "v2"} for path in ("team/app-0", "forged/name")]
    body = json.dumps({"events": [{"action": "push", "target": target} for target in targets]})

    await yard.house.hints.receive(made.token, PROJECT, registry_id, body.encode())
    await yard.quiet()

    assert yard.stored() == registry.world.images()
    assert "forged/name" not in yard.verdicts()


async def test_a_repository_that_goes_while_it_is_read_is_read_again(yard, registry):
    for number in range(5):
        registry.world.push(GHOST, f"v{number}")
    registry.faults.answer(ITS_TAGS + ".*last", 404, body=UNKNOWN, times=1)
    await yard.add_oci(registry, page_size=2)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()
