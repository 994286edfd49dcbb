"""Artifactory, synchronised into the store."""

from __future__ import annotations

import json

import pytest

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.model import RegistryCredential, RunOutcome
from wharfinger.sources import read_notification
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.content import OCI_INDEX, artifact, index_of
from wharfinger.testing.jfrog import JfrogUpstream
from wharfinger.testing.model import made_up_world
from yard import PROJECT

AQL = r"/search/aql"


@pytest.fixture
async def artifactory():
    async with JfrogUpstream(made_up_world(6, 4)) as running:
        running.add("hub", "remote")
        running.world.push("hub-cache/library/nginx", "1.27", platforms=("linux/amd64",))
        yield running


async def add(yard, upstream, **options):
    new = NewRegistry(
        name="artifactory",
        kind="Jfrog",
        address=upstream.url,
        options=options,
        allow_private_networks=True,
    )
    own = upstream.behaviour
    reader = RegistryCredential(kind="basic", identity=own.username, secret=own.password)
    return await yard.add(new, reader)


async def test_what_is_stored_is_what_is_there_and_goes_when_it_goes(yard, artifactory):
    await add(yard, artifactory)
    world = artifactory.world

    first = await yard.sync()
    assert (first.outcome, first.added) == (RunOutcome.COMPLETE, 25)
    assert yard.stored() == world.images()
    assert yard.value("SELECT count(*) FROM image WHERE updated_at IS NULL OR size <= 0") == 0

    world.delete_tag("bench-01/service-00001", "v1.2")
    world.delete_repository("bench-02/service-00002")
    world.move("bench-03/service-00003", "v1.0")
    world.push("hub-cache/library/redis", "7")
    second = await yard.sync()

    assert second.outcome is RunOutcome.COMPLETE
    assert (second.added, second.moved, second.retired) == (1, 1, 5)
    assert yard.stored() == world.images()


async def test_an_unchanged_artifactory_costs_no_request_an_image(yard, artifactory):
    await add(yard, artifactory)
    await yard.sync()
    before = yard.owner.execute("SELECT xmin, ctid, id FROM image ORDER BY id").fetchall()

    run = await yard.sync()

    # The repositories' list, and of each of the seven a page and the proof that it was the last.
    assert (run.outcome, run.requests) == (RunOutcome.COMPLETE, 1 + 7 * 2)
    assert yard.owner.execute("SELECT xmin, ctid, id FROM image ORDER BY id").fetchall() == before


@pytest.mark.parametrize("bad", ["break", "empty", "html", "refuse"])
async def test_a_bad_day_retires_nothing(yard, artifactory, bad):
    await add(yard, artifactory, listing="aql")
    await yard.sync()
    before = yard.stored()
    artifactory.world.delete_repository("bench-02/service-00002")
    faults = {
        "break": lambda: artifactory.faults.answer(AQL, 500, skip=3),
        "empty": lambda: artifactory.faults.empty_list("/api/repositories"),
        "html": lambda: artifactory.faults.html(AQL, skip=5),
        "refuse": lambda: artifactory.faults.answer(AQL, 403, skip=1),
    }
    faults[bad]()

    run = await yard.sync()

    assert run.outcome is not RunOutcome.COMPLETE
    assert run.reasons
    assert run.retired == 0
    assert yard.stored() == before


async def test_a_webhook_is_a_hint_and_brings_what_is_there(yard, artifactory):
    registry_id = await add(yard, artifactory)
    await yard.sync()
    token = (await yard.house.hints.make_token(yard.caller, "artifactory")).token
    artifactory.world.push("bench-00/brand/new", "v1")
    artifactory.world.delete_tag("bench-01/service-00001", "v1.0")

    for event_type, path in (
        ("pushed", "bench-00/brand/new"),
        ("deleted", "bench-01/service-00001"),
        ("pushed", "forged/name"),
    ):
        body = event(event_type, path)
        await yard.house.hints.receive(token, PROJECT, registry_id, body)
    await yard.quiet()

    assert yard.stored() == artifactory.world.images()
    gone = "SELECT retired_at IS NOT NULL FROM repository WHERE namespace = 'forged'"
    assert yard.value(gone)


def event(event_type, path, domain="docker"):
    key, _, image = path.partition("/")
    data = {"repo_key": key, "image_name": image, "tag": "v1", "name": "manifest.json"}
    return json.dumps({"domain": domain, "event_type": event_type, "data": data}).encode()


@pytest.mark.parametrize(
    ("body", "ignored"),
    [
        (event("pushed", "docker-local/team/app"), 0),
        (event("pushed", "docker-local/team/app", domain="artifact"), 1),
        (event("scanned", "docker-local/team/app"), 1),
        (event("pushed", "docker-local/../../etc"), 1),
        (event("pushed", "docker-local/" + "a" * 600), 1),
        (b"{}", 1),
    ],
)
def test_only_events_of_images_are_hints(body, ignored):
    told = read_notification("Jfrog", body)

    named = [(one.namespace, one.name) for one in told.repositories]
    assert (told.ignored, named) == (ignored, [] if ignored else [("docker-local", "team/app")])


def test_what_is_no_event_is_refused():
    with pytest.raises(InvalidParameterError):
        read_notification("Jfrog", b"[]")


async def test_losing_aql_changes_no_image(yard, artifactory):
    await add(yard, artifactory)
    await yard.sync()
    events = yard.events()
    artifactory.behaviour.aql_status = 403

    run = await yard.sync()

    assert (run.outcome, run.added, run.moved, run.retired) == (RunOutcome.COMPLETE, 0, 0, 0)
    assert yard.stored() == artifactory.world.images()
    assert yard.events() == events


async def test_one_image_that_cannot_be_read_costs_no_other(yard, artifactory):
    await add(yard, artifactory, listing="docker")
    broken = "service-00004"
    artifactory.faults.answer(rf"/v2/{broken}/tags", 500)

    run = await yard.sync()

    assert run.outcome is RunOutcome.PARTIAL
    assert [r.repository for r in run.reasons] == [f"bench-04/{broken}"]
    assert yard.stored() == {i for i in artifactory.world.images() if not i[0].endswith(broken)}


async def test_a_tag_that_lists_what_belongs_to_an_image_is_read(yard, artifactory):
    path, tag = "bench-01/service-00001", "v1.0"
    subject = artifactory.world.tag(path, tag).content.digest
    signature = artifact("s", "application/vnd.cncf.notary.signature", subject=subject, created="")
    listed = index_of("l", (signature,), created="", media_type=OCI_INDEX)
    artifactory.world.push(path, subject.replace(":", "-"), content=listed)
    await add(yard, artifactory)

    run = await yard.sync()

    assert (run.outcome, run.reasons) == (RunOutcome.COMPLETE, ())
    rows = yard.owner.execute("SELECT subject, digest, kind FROM attachment").fetchall()
    assert rows == [(subject, signature.digest, "signature")]
