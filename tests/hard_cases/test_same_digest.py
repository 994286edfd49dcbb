"""One digest under many names, and one name in many places."""

from __future__ import annotations

import pytest

from wharfinger.domain.model import RunOutcome

MANY = 5000


def tag_it(world, path, content):
    for number in range(MANY):
        world.push(path, f"t{number}", content=content)


@pytest.mark.hard_case("H19", guard="wharfinger.sync.engine:_Reader._describe")
@pytest.mark.parametrize("platforms", [(), ("linux/amd64", "linux/arm64")])
async def test_five_thousand_tags_may_name_one_digest(yard, registry, platforms):
    first = registry.world.push("team/app", "t0", platforms=platforms).content
    tag_it(registry.world, "team/app", first)
    await yard.add_oci(registry)

    run = await yard.sync()

    assert (run.outcome, run.added) == (RunOutcome.COMPLETE, MANY)
    assert yard.stored() == registry.world.images()
    assert len(registry.requests("/manifests/sha256")) == 1 + len(platforms)
    # Once a page of tags, for what is staged is not known yet.
    assert len(registry.requests("/blobs/")) == MANY / 1000


@pytest.mark.hard_case("H19", guard="wharfinger.store.runs:_stage_platforms")
@pytest.mark.parametrize("platforms", [(), ("linux/amd64", "linux/arm64")])
async def test_they_may_all_move_at_once(yard, upstream, platforms):
    world = upstream.world
    tag_it(world, "team/app", world.push("team/app", "t0", platforms=platforms).content)
    await yard.add_swr(upstream)
    await yard.sync()
    tag_it(world, "team/app", world.push("team/app", "t0", platforms=platforms).content)

    run = await yard.sync()

    assert (run.outcome, run.moved) == (RunOutcome.COMPLETE, MANY)
    assert yard.stored() == world.images()
    assert yard.value("SELECT count(*) FROM platform") == 2 * len(platforms)


@pytest.mark.hard_case("H19", guard="wharfinger.store.writing:_retire_or_hold")
async def test_a_digest_in_many_repositories_and_a_tag_name_in_two_stay_apart(yard, registry):
    shared = registry.world.push("team/one", "v1").content
    for number in range(50):
        registry.world.push(f"team/copy-{number}", "v1", content=shared)
    registry.world.push("team/one", "v2")
    registry.world.push("team/two", "v1")
    await yard.add_oci(registry)
    await yard.sync()

    registry.world.delete_tag("team/one", "v1")
    registry.world.move("team/two", "v1")
    run = await yard.sync()

    assert (run.retired, run.moved) == (1, 1)
    assert yard.stored() == registry.world.images()
