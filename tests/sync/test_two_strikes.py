"""Sources that contradict themselves: an absence must be seen twice."""

from __future__ import annotations

import pytest

from wharfinger.domain.model import RunOutcome, TwoStrikes
from wharfinger.store.registries import RegistryChange
from wharfinger.store.writing import FLICKERS

STRUCK = "SELECT count(*) FROM image WHERE missing_since IS NOT NULL"


async def set_strikes(yard, when) -> None:
    await yard.house.registries.change(yard.caller, "swrprivate", RegistryChange(two_strikes=when))


def drop(upstream, count=1, repository=0) -> list[str]:
    """Let the source leave tags out, and return them."""
    found = upstream.world.owned()[repository]
    dropped = sorted(found.tags)[:count]
    for tag in dropped:
        upstream.world.delete_tag(found.path, tag)
    return dropped


@pytest.mark.hard_case("H21", guard="wharfinger.store.writing:strike")
async def test_an_image_absent_once_stays_and_absent_twice_is_retired(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    await set_strikes(yard, TwoStrikes.ON)
    before = yard.stored()
    drop(upstream)

    first = await yard.sync()
    after_one = yard.stored()
    second = await yard.sync()

    assert (first.outcome, first.retired, after_one) == (RunOutcome.COMPLETE, 0, before)
    assert [r.code for r in first.reasons] == ["second_look"]
    assert (second.outcome, second.retired) == (RunOutcome.COMPLETE, 1)
    assert yard.stored() == upstream.world.images()
    assert yard.value(STRUCK + " AND retired_at IS NULL") == 0


@pytest.mark.hard_case("H21", guard="wharfinger.store.writing:strike")
async def test_an_image_that_is_back_at_the_second_look_has_lived_on(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    await set_strikes(yard, TwoStrikes.ON)
    path = upstream.world.owned()[0].path
    tag = min(upstream.world.owned()[0].tags)
    content = upstream.world.tag(path, tag).content
    events = yard.events()

    upstream.world.delete_tag(path, tag)
    await yard.sync()
    upstream.world.push(path, tag, content=content)
    await yard.sync()

    assert yard.stored() == upstream.world.images()
    assert yard.events() == events
    assert yard.value(STRUCK) == 0


async def test_a_whole_repository_needs_two_strikes_too(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    await set_strikes(yard, TwoStrikes.ON)
    before = yard.stored()
    upstream.world.delete_repository(upstream.world.owned()[0].path)

    await yard.sync()
    after_one = yard.stored()
    await yard.sync()

    assert after_one == before
    assert yard.stored() == upstream.world.images()


@pytest.mark.hard_case("H21", guard="wharfinger.store.writing:conclude")
async def test_a_registry_that_contradicts_itself_gets_two_strikes_by_itself(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    path = upstream.world.owned()[0].path
    kept = {tag: upstream.world.tag(path, tag).content for tag in upstream.world.owned()[0].tags}
    dropped = drop(upstream, FLICKERS)
    oscillating = await yard.sync()
    for tag in dropped:
        upstream.world.push(path, tag, content=kept[tag])
    await yard.sync()
    before = yard.stored()

    drop(upstream, FLICKERS)
    run = await yard.sync()

    assert oscillating.retired == FLICKERS
    (registry,) = await yard.house.registries.list(yard.caller)
    assert (registry.two_strikes, registry.flickers) == ("auto", FLICKERS)
    assert (run.retired, yard.stored()) == (0, before)


async def test_a_new_push_under_an_old_tag_is_no_contradiction(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    path = upstream.world.owned()[0].path
    dropped = drop(upstream, FLICKERS)
    await yard.sync()
    for tag in dropped:
        upstream.world.push(path, tag)
    await yard.sync()

    assert yard.value("SELECT flickers FROM registry") == 0


async def test_what_is_held_was_absent_before_and_stays_held(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    # The first complete listing after a change holds what it lacks.
    await yard.house.registries.change(yard.caller, "swrprivate", RegistryChange(exclude=("x/*",)))
    drop(upstream, count=5)
    held = await yard.sync()
    await set_strikes(yard, TwoStrikes.ON)

    run = await yard.sync()

    assert (held.outcome, held.held) == (RunOutcome.HELD, 5)
    assert yard.value(STRUCK) == 0
    assert (run.outcome, run.retired) == (RunOutcome.COMPLETE, 5)
    assert yard.stored() == upstream.world.images()


async def test_off_means_off(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    yard.owner.execute("UPDATE registry SET flickers = 100")
    await set_strikes(yard, TwoStrikes.OFF)
    drop(upstream)

    run = await yard.sync()

    assert run.retired == 1
