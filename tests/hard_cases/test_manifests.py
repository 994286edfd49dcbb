"""What stands behind a tag, and what may become of it while it is read."""

from __future__ import annotations

import json

import pytest
from served import MADE, catalog, fill

from wharfinger.domain.model import RunOutcome
from wharfinger.testing.content import DOCKER_MANIFEST, digest_of, image, index_of
from wharfinger.testing.faults import Answer
from wharfinger.testing.scripted import Scripted

TAGS = "/tags/list"


# --- digests -------------------------------------------------------------------------------------


@pytest.mark.hard_case("H15", guard="wharfinger.sources._distribution:Distribution._digest_by_head")
@pytest.mark.parametrize("status", [400, 404, 405, 501, None])
async def test_where_head_does_not_tell_the_manifest_does(yard, registry, status):
    registry.behaviour.head_status = status
    registry.behaviour.digest_header = status is not None
    fill(registry, 2, tags=2)
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()


@pytest.mark.hard_case("H15", guard="wharfinger.sources._distribution:_held")
async def test_the_digest_is_that_of_the_bytes_however_they_are_set(yard):
    config = b'{"os": "linux",   "architecture": "amd64"}'
    blob = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config)}
    manifest = {"schemaVersion": 2, "config": {**blob, "digest": digest_of(config)}, "layers": []}
    raw = json.dumps(manifest, indent=5).encode() + b"\n"
    async with Scripted() as registry:
        registry.expect("GET /v2/_catalog?n=1000", catalog("app"))
        registry.expect("GET /v2/app/tags/list?n=1000", {"name": "app", "tags": ["v1"]})
        registry.expect("HEAD /v2/app/manifests/v1", Answer(status=405))
        answer = Answer(body=raw, headers={"Content-Type": DOCKER_MANIFEST})
        registry.expect("GET /v2/app/manifests/v1", answer)
        registry.expect(f"GET /v2/app/blobs/{digest_of(config)}", Answer(body=config))
        await yard.add_oci(registry, referrers=False)

        run = await yard.sync()

        assert run.outcome is RunOutcome.COMPLETE
        assert yard.stored() == {("app", "v1", digest_of(raw))}


@pytest.mark.hard_case(
    "H16", guard="wharfinger.sources._distribution:Distribution._manifest_request"
)
@pytest.mark.parametrize("accept", ["strict", "schema1"])
async def test_every_type_is_accepted_in_a_header_that_fits_through_proxies(yard, registry, accept):
    registry.behaviour.accept = accept
    registry.behaviour.accept_limit = 256
    fill(registry, 1, tags=2)
    registry.world.push("team/app-000", "multi", platforms=("linux/amd64", "linux/arm64"))
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()
    assert yard.value("SELECT count(*) FROM image WHERE is_index") == 1


# --- meanwhile -----------------------------------------------------------------------------------


@pytest.mark.hard_case("H17", guard="wharfinger.sources._distribution:Distribution._fetch_manifest")
async def test_a_tag_deleted_after_it_was_listed_is_not_stored_and_costs_nobody(yard, registry):
    fill(registry, 1, tags=3)
    registry.faults.after(TAGS, lambda: registry.world.delete_tag("team/app-000", "v1"), times=1)
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()
    assert len(yard.stored()) == 2


@pytest.mark.hard_case("H17", guard="wharfinger.sync.engine:_Reader._read_until_it_holds_still")
async def test_a_tag_that_moves_before_its_manifest_is_read_is_read_again(yard, registry):
    fill(registry, 1, tags=3)
    registry.faults.after(
        "/manifests/v1", lambda: registry.world.move("team/app-000", "v1"), times=1
    )
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()


@pytest.mark.hard_case("H17", guard="wharfinger.sources._distribution:Distribution._fetch_manifest")
async def test_a_tag_that_never_has_a_manifest_costs_its_repository_and_no_row(yard, registry):
    fill(registry, 2, tags=3)
    await yard.add_oci(registry)
    await yard.sync()
    before = yard.stored()
    registry.world.delete_tag("team/app-000", "v0")
    registry.world.push("team/app-001", "new")
    registry.faults.answer("/team/app-000/manifests/v1", 404)

    run = await yard.sync()

    assert [(r.code, r.repository) for r in run.reasons] == [("list_moved", "team/app-000")]
    assert run.retired == 0
    assert before < yard.stored()


# --- indexes -------------------------------------------------------------------------------------


@pytest.mark.hard_case("H18", guard="wharfinger.sources._distribution:Distribution._children")
@pytest.mark.hard_case("H18", guard="wharfinger.sources._distribution:Distribution._child")
async def test_an_index_has_the_children_it_names_whatever_became_of_them(yard, registry):
    amd = image("amd", created=MADE, platform="linux/amd64")
    arm = image("arm", created=MADE, platform="linux/arm64")
    proof = image("proof", created=MADE, platform="unknown/unknown")
    gone = image("gone", created=MADE, platform="linux/s390x")
    nested = index_of("nested", (arm,), created=MADE)
    one = index_of("one", (amd, nested, proof, gone), created=MADE)
    two = index_of("two", (amd,), created=MADE)
    registry.behaviour.missing = {gone.digest}
    registry.world.push("team/app", "one", content=one)
    registry.world.push("team/app", "two", content=two)
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    # Children are not images of their own, tagged or not.
    assert yard.stored() == registry.world.images()
    platforms = yard.owner.execute(
        "SELECT index_digest, os || '/' || architecture, digest, size > 0 FROM platform"
        " ORDER BY index_digest <> %s, position",
        (one.digest,),
    ).fetchall()
    assert platforms == [
        (one.digest, "linux/amd64", amd.digest, True),
        (one.digest, "linux/arm64", arm.digest, True),
        (one.digest, "unknown/unknown", proof.digest, True),
        (one.digest, "linux/s390x", gone.digest, False),
        (two.digest, "linux/amd64", amd.digest, True),
    ]


@pytest.mark.hard_case("H18", guard="wharfinger.store.writing:add_platforms")
async def test_a_child_of_two_indexes_stays_when_one_of_them_goes(yard, registry):
    amd = image("amd", created=MADE, platform="linux/amd64")
    two = index_of("two", (amd,), created=MADE)
    arm = image("arm", created=MADE, platform="linux/arm64")
    registry.world.push("team/app", "one", content=index_of("one", (amd, arm), created=MADE))
    registry.world.push("team/app", "two", content=two)
    await yard.add_oci(registry)
    await yard.sync()

    registry.world.delete_tag("team/app", "one")
    run = await yard.sync()

    assert (run.outcome, run.retired) == (RunOutcome.COMPLETE, 1)
    assert yard.stored() == {("team/app", "two", two.digest)}
    children = yard.owner.execute(
        "SELECT p.digest FROM image i JOIN platform p ON p.index_digest = i.digest"
        " WHERE i.retired_at IS NULL"
    ).fetchall()
    assert children == [(amd.digest,)]
