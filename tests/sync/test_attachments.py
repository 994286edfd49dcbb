"""What belongs to images: by tags, by the registry's lists, kept right whatever happens."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from http_port import serving
from wharfinger.domain.inventory import ImageFilter, RegistryScope
from wharfinger.domain.model import RunOutcome
from wharfinger.store.registries import RegistryChange
from wharfinger.testing.content import OCI_INDEX, artifact, index_of
from wharfinger.testing.model import made_up_world
from wharfinger.testing.oci import OciBehaviour, OciUpstream

MADE = "2026-03-04T05:06:07Z"
NOTATION = "application/vnd.cncf.notary.signature"
COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json"
SPDX = "application/spdx+json"
LISTS = "/referrers/"


@pytest.fixture
async def upstream():
    """Three repositories of two tags, in a registry that has lists of referrers."""
    async with OciUpstream(made_up_world(3, 2)) as running:
        yield running


@pytest.fixture
async def bare():
    """The same without lists of referrers."""
    behaviour = OciBehaviour(referrers=False)
    async with OciUpstream(made_up_world(3, 2), behaviour=behaviour) as running:
        yield running


def an_image(upstream):
    repository = upstream.world.owned()[0]
    return repository, min(repository.tags)


def digest_at(upstream, tag):
    return upstream.world.owned()[0].tags[tag].content.digest


def attach(upstream, subject, artifact_type, *, tag=None, seed="s"):
    """Push an artifact that belongs to a digest, with a tag or without."""
    repository = upstream.world.owned()[0]
    content = artifact(seed, artifact_type, subject=subject, created=MADE)
    if tag is None:
        repository.untagged[content.digest] = content
    else:
        upstream.world.push(repository.path, tag, content=content)
    return content.digest


def tag_of(digest, suffix=""):
    return digest.replace(":", "-") + suffix


async def attached(yard):
    """What the list shows beside each image: kinds by tag, of those that have any."""
    scope = RegistryScope(enterprise_projects=("0",))
    found = await yard.house.inventory.images_after(
        yard.caller, ImageFilter(scope=scope), after_id=0, limit=100
    )
    having = [one for one in found if one.attachments]
    assert len({(one.namespace, one.name) for one in having}) <= 1
    return {one.tag: sorted(a.kind.value for a in one.attachments) for one in having}


# --- tags -----------------------------------------------------------------------------------------


async def test_cosigns_tags_say_what_an_image_has_and_cost_no_request(yard, bare):
    _, tag = an_image(bare)
    subject = digest_at(bare, tag)
    await yard.add_oci(bare)
    before = await yard.sync()
    for suffix, kind in ((".sig", COSIGN), (".att", "application/vnd.in-toto+json")):
        attach(bare, "", kind, tag=tag_of(subject, suffix), seed=suffix)

    run = await yard.sync()

    assert await attached(yard) == {tag: ["attestation", "signature"]}
    # A HEAD and a manifest for each of the new tags, and one question that has no answer here.
    assert run.requests <= before.requests + 2 * 3


async def test_a_retired_signature_is_none_and_a_restored_one_is_one_again(yard, bare):
    repository, tag = an_image(bare)
    signature = tag_of(digest_at(bare, tag), ".sig")
    attach(bare, "", COSIGN, tag=signature)
    await yard.add_oci(bare)
    await yard.sync()
    signed = await attached(yard)

    bare.world.delete_tag(repository.path, signature)
    await yard.sync()
    unsigned = await attached(yard)
    attach(bare, "", COSIGN, tag=signature)
    await yard.sync()

    assert (signed, unsigned) == ({tag: ["signature"]}, {})
    assert await attached(yard) == {tag: ["signature"]}


async def test_a_moved_tag_is_unsigned_until_its_new_digest_is_signed(yard, bare):
    repository, tag = an_image(bare)
    attach(bare, "", COSIGN, tag=tag_of(digest_at(bare, tag), ".sig"))
    await yard.add_oci(bare)
    await yard.sync()
    signed = await attached(yard)

    bare.world.push(repository.path, tag)
    await yard.sync()
    moved = await attached(yard)
    attach(bare, "", COSIGN, tag=tag_of(digest_at(bare, tag), ".sig"), seed="new")
    await yard.sync()

    assert (signed, moved) == ({tag: ["signature"]}, {})
    assert await attached(yard) == {tag: ["signature"]}


async def test_a_tag_that_lists_referrers_is_followed_as_it_moves_and_goes(yard, bare):
    repository, tag = an_image(bare)
    subject = digest_at(bare, tag)
    one, two = (artifact(t, t, subject=subject, created=MADE) for t in (NOTATION, SPDX))
    await yard.add_oci(bare)
    seen = []

    for children in ((one,), (one, two), ()):
        if children:
            content = index_of("list", children, created=MADE, media_type=OCI_INDEX)
            bare.world.push(repository.path, tag_of(subject), content=content)
        else:
            bare.world.delete_tag(repository.path, tag_of(subject))
        await yard.sync()
        seen.append(await attached(yard))

    assert seen == [{tag: ["signature"]}, {tag: ["sbom", "signature"]}, {}]


# --- lists ----------------------------------------------------------------------------------------


async def test_the_registrys_own_list_says_what_an_image_has(yard, upstream):
    _, tag = an_image(upstream)
    attach(upstream, digest_at(upstream, tag), NOTATION)
    attach(upstream, digest_at(upstream, tag), SPDX)
    await yard.add_oci(upstream)

    run = await yard.sync()

    assert (run.outcome, run.reasons) == (RunOutcome.COMPLETE, ())
    assert await attached(yard) == {tag: ["sbom", "signature"]}
    assert len(upstream.requests(LISTS)) == 6


async def test_an_unchanged_sync_asks_for_no_list_and_writes_nothing(yard, upstream):
    _, tag = an_image(upstream)
    attach(upstream, digest_at(upstream, tag), NOTATION)
    await yard.add_oci(upstream)
    await yard.sync()
    rows = [
        f"SELECT array_agg(xmin::text || ctid::text ORDER BY ctid) FROM {table}"
        for table in ("attachment", "repository", "image", "tenant_feed")
    ]
    asked, before = len(upstream.requests(LISTS)), [yard.value(query) for query in rows]

    await yard.sync()
    quick, after_quick = len(upstream.requests(LISTS)), [yard.value(query) for query in rows]
    await yard.sync(full=True)

    assert (quick - asked, after_quick == before) == (0, True)
    # A full one asks for what may have come meanwhile, and writes no more.
    assert len(upstream.requests(LISTS)) - quick == 6
    assert [yard.value(query) for query in rows] == before


async def test_only_a_new_image_is_asked_about_and_never_an_artifact(yard, upstream):
    repository, _ = an_image(upstream)
    await yard.add_oci(upstream)
    await yard.sync()
    before = len(upstream.requests(LISTS))

    upstream.world.push(repository.path, "fresh")
    attach(upstream, digest_at(upstream, "fresh"), NOTATION, tag="its-signature")
    await yard.sync()

    (asked,) = upstream.requests(LISTS)[before:]
    assert digest_at(upstream, "fresh") in asked.path
    assert await attached(yard) == {"fresh": ["signature"]}


@pytest.mark.parametrize("ask_again", ["full", "hint"])
async def test_what_was_attached_or_removed_later_shows_when_all_is_read_again(
    yard, upstream, ask_again
):
    repository, tag = an_image(upstream)
    old = attach(upstream, digest_at(upstream, tag), NOTATION)
    await yard.add_oci(upstream)
    await yard.sync()

    del repository.untagged[old]
    attach(upstream, digest_at(upstream, tag), SPDX)
    revision = yard.value("SELECT revision FROM tenant_feed")
    if ask_again == "full":
        await yard.sync(full=True)
    else:
        await ring(yard, repository.path)

    assert await attached(yard) == {tag: ["sbom"]}
    # Whoever has the page before knows that it is another.
    assert yard.value("SELECT revision FROM tenant_feed") > revision


async def ring(yard, path):
    made = await yard.house.hints.make_token(yard.caller, "other")
    target = {"repository": path, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    body = json.dumps({"events": [{"id": "1", "action": "push", "target": target}]})
    headers = {"Authorization": f"Bearer {made.token}"}
    async with (
        serving(yard.house) as url,
        aiohttp.ClientSession() as session,
        session.post(url + made.path, data=body, headers=headers) as answer,
    ):
        assert answer.status == 200
    await asyncio.sleep(0)
    await yard.quiet()


async def test_of_what_is_gone_nothing_is_remembered(yard, upstream):
    repository, tag = an_image(upstream)
    attach(upstream, digest_at(upstream, tag), NOTATION)
    await yard.add_oci(upstream)
    await yard.sync()

    upstream.world.delete_tag(repository.path, tag)
    await yard.sync()

    assert yard.value("SELECT count(*) FROM attachment") == 0


async def test_what_belonged_to_an_erased_registry_is_erased(yard, upstream):
    _, tag = an_image(upstream)
    subject = digest_at(upstream, tag)
    attach(upstream, subject, NOTATION)
    attach(upstream, "", COSIGN, tag=tag_of(subject, ".sig"))
    await yard.add_oci(upstream)
    await yard.sync()
    before = yard.value("SELECT count(*) FROM attachment")

    await yard.house.registries.remove(yard.caller, "other")
    await yard.house.held.purge(yard.caller, "other")

    assert (before, yard.value("SELECT count(*) FROM attachment")) == (2, 0)


async def test_a_registry_without_lists_is_asked_once_however_many_images_it_has(yard, bare):
    await yard.add_oci(bare)

    run = await yard.sync()
    await yard.sync(full=True)

    assert run.outcome is RunOutcome.COMPLETE
    assert len(bare.requests(LISTS)) == 1


async def test_nobody_is_asked_where_the_registry_is_set_so(yard, upstream):
    _, tag = an_image(upstream)
    attach(upstream, digest_at(upstream, tag), NOTATION)
    attach(upstream, "", COSIGN, tag=tag_of(digest_at(upstream, tag), ".sbom"))
    await yard.add_oci(upstream)
    await yard.sync()
    asked = len(upstream.requests(LISTS))

    await yard.house.registries.change(
        yard.caller, "other", RegistryChange(options={"referrers": False})
    )
    await yard.sync(full=True)

    assert len(upstream.requests(LISTS)) == asked
    # What nobody would take back is not kept; what a tag says still holds.
    assert await attached(yard) == {tag: ["sbom"]}


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 500])
async def test_a_list_that_fails_hides_nothing_and_is_asked_for_again(yard, upstream, status):
    repository, tag = an_image(upstream)
    attach(upstream, digest_at(upstream, tag), NOTATION)
    await yard.add_oci(upstream)
    await yard.sync()
    known = await attached(yard)

    upstream.faults.answer(LISTS, status)
    upstream.world.push(repository.path, "fresh")
    attach(upstream, digest_at(upstream, "fresh"), NOTATION, seed="fresh")
    failed = await yard.sync()
    meanwhile = await attached(yard)
    upstream.faults.clear()
    mended = await yard.sync()

    assert failed.outcome is RunOutcome.COMPLETE
    assert [(r.code, r.repository) for r in failed.reasons] == [
        ("referrers_unread", repository.path)
    ]
    assert meanwhile == known == {tag: ["signature"]}
    assert yard.stored() >= upstream.world.images()
    assert (mended.outcome, mended.reasons) == (RunOutcome.COMPLETE, ())
    assert await attached(yard) == {tag: ["signature"], "fresh": ["signature"]}


async def test_a_registry_in_trouble_is_not_asked_about_every_image(yard, upstream):
    upstream.faults.answer(LISTS, 503)
    await yard.add_oci(upstream)

    run = await yard.sync()

    assert [r.code for r in run.reasons] == ["referrers_unread"] * 3
    # One question, again and again; the others were not asked.
    assert len({request.path for request in upstream.requests(LISTS)}) == 1


async def test_a_repository_that_refuses_does_not_speak_for_the_others(yard, upstream):
    refused = upstream.world.owned()[2].path
    upstream.faults.answer(f"/v2/{refused}{LISTS}", 403)
    _, tag = an_image(upstream)
    attach(upstream, digest_at(upstream, tag), NOTATION)
    await yard.add_oci(upstream)

    run = await yard.sync()

    assert [(r.code, r.repository) for r in run.reasons] == [("referrers_unread", refused)]
    assert await attached(yard) == {tag: ["signature"]}
    assert len(upstream.requests(f"/v2/{refused}{LISTS}")) == 1
    assert len(upstream.requests(LISTS)) == 5
