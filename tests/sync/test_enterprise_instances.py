"""An instance of SWR enterprise from end to end: good days, bad days, and its triggers."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from http_port import serving
from wharfinger.domain.model import RunOutcome
from wharfinger.testing.model import World
from wharfinger.testing.swr_enterprise import notification_of
from wharfinger.testing.upstream import Upstream

REPOSITORIES = r"/repositories\?"
ARTIFACTS = r"/artifacts\?"


@pytest.fixture
async def upstream():
    """An instance with six repositories of four tags, one of them with a slash in its name."""
    async with Upstream(World()) as running:
        content = running.world.instance("prod").content
        for path in (*(f"team/app-{number}" for number in range(5)), "team/deep/er"):
            for version in range(4):
                content.push(path, f"v{version}")
        yield running


@pytest.fixture
def content(upstream):
    return upstream.world.instance("prod").content


@pytest.fixture
async def registry(yard, upstream):
    """The instance as a registry, synchronised once."""
    added = await add(yard, upstream)
    assert (await yard.sync()).outcome is RunOutcome.COMPLETE
    return added


async def add(yard, upstream, name="prod", **options):
    own = {
        "instance_id": upstream.world.instance(name).id,
        "project_id": upstream.world.home.project_id,
    }
    return await yard.add_swr(upstream, "SwrEnterprise", name=name, **own, **options)


def stored(yard):
    return {(path, tag or "", digest) for path, tag, digest in yard.stored()}


@pytest.mark.usefixtures("registry")
async def test_the_stored_list_is_that_of_the_instance(yard, content):
    assert stored(yard) == content.artifacts()
    assert yard.registry_verdict() == "complete"


@pytest.mark.usefixtures("registry")
async def test_an_unchanged_instance_costs_one_request(yard, upstream):
    before = len(upstream.log)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert [line.path.rpartition("/")[2] for line in upstream.log[before:]] == ["repositories"]


async def test_the_doctor_foretells_what_a_first_sync_costs(yard, upstream):
    await add(yard, upstream)

    report = await yard.house.doctor.examine(yard.caller, "prod")
    run = await yard.sync()

    found = {finding.check: finding for finding in report.findings}
    assert report.ok
    assert found["size"].facts["images"] == run.images == 24
    assert found["first_sync"].facts["requests"] == run.requests


@pytest.mark.usefixtures("registry")
async def test_what_loses_its_tag_stays_by_its_digest_until_it_is_deleted(yard, content):
    old = content.tag("team/deep/er", "v0").content.digest
    content.move("team/deep/er", "v0")

    await yard.sync()

    assert ("team/deep/er", "", old) in stored(yard)
    assert stored(yard) == content.artifacts()

    content.delete_artifact("team/deep/er", old)
    run = await yard.sync()

    assert run.retired == 1
    assert stored(yard) == content.artifacts()
    assert [kind for kind, _ in yard.events()[24:]] == ["moved", "added", "retired"]


@pytest.mark.usefixtures("registry")
async def test_what_was_deleted_is_retired_and_what_failed_is_not(yard, upstream, content):
    content.delete_artifact("team/app-0", content.tag("team/app-0", "v1").content.digest)
    content.delete_artifact("team/app-1", content.tag("team/app-1", "v1").content.digest)
    kept = stored(yard)
    upstream.break_down(r"app-1/artifacts")

    run = await yard.sync()

    gone = kept - stored(yard)
    assert run.outcome is RunOutcome.PARTIAL
    assert {(path, tag) for path, tag, _ in gone} == {("team/app-0", "v1")}
    assert yard.verdicts()["team/app-1"] == ("partial", "upstream_failure")


@pytest.mark.parametrize("day", ["empty_list", "html", "cut_body", "reset"])
@pytest.mark.usefixtures("registry")
async def test_a_bad_day_costs_no_image(yard, upstream, content, day):
    content.push("team/app-0", "v9")
    kept = stored(yard)
    getattr(upstream.faults, day)(REPOSITORIES)
    getattr(upstream.faults, day)(ARTIFACTS)

    run = await yard.sync(full=True)

    assert stored(yard) == kept
    assert run.outcome is not RunOutcome.COMPLETE
    assert run.retired == 0


@pytest.mark.usefixtures("registry")
async def test_throttling_by_403_is_waited_out(yard, upstream, content):
    content.push("team/app-0", "v9")
    upstream.swr_throttle(ARTIFACTS, times=1)

    assert (await yard.sync()).outcome is RunOutcome.COMPLETE
    assert stored(yard) == content.artifacts()


@pytest.mark.hard_case("H2", guard="wharfinger.sources.swr_enterprise:SwrEnterprise._confirm")
async def test_a_tag_that_jumps_between_two_pages_is_lost_to_nobody(yard, upstream, content):
    for number in range(130):
        content.push("team/long", f"v{number:03}")
    await add(yard, upstream)
    await yard.sync()
    newest = content.tag("team/long", "v129").content
    upstream.faults.before(
        r"long/artifacts\?.*offset=[1-9]",
        lambda: content.push("team/long", "v000", content=newest),
        times=1,
    )

    run = await yard.sync(full=True)

    assert run.retired == 0
    assert stored(yard) == content.artifacts()


async def test_two_instances_are_two_registries(yard, upstream, content):
    test = upstream.world.instance("test").content
    test.push("team/app-0", "v0")
    await add(yard, upstream)
    await add(yard, upstream, "test")

    task = await yard.house.synchroniser.synchronise_names(yard.caller, (), full=False)
    await yard.ended(task)

    assert len(stored(yard)) == len(content.artifacts()) + 1
    counts = (
        "SELECT r.name, count(*) FROM image i JOIN registry r ON r.id = i.registry_id GROUP BY 1"
    )
    assert dict(yard.owner.execute(counts).fetchall()) == {"prod": 24, "test": 1}


@pytest.mark.filterwarnings("ignore:Method .* is deprecated:DeprecationWarning")
async def test_the_official_sdk_asks_for_instances_and_reads_them(yard, upstream, content):
    swr = await add(yard, upstream, instance_name="prod", instance_url="prod.swr-pro.example.com")
    await yard.add_swr(upstream, name="private")
    made = await yard.house.callers.create_credential(yard.caller.project_id)

    async with serving(yard.house) as url:
        runs, newer, older = await asyncio.to_thread(_as_a_customer, url, yard.caller, made)

    assert [(one.registry_id, one.registry_type, one.sync_status) for one in runs] == [
        (swr, "SwrEnterprise", "finished")
    ]
    found = {(f"{one.namespace}/{one.image_name}", one.image_version) for one in newer.data_list}
    assert found == {(path, tag) for path, tag, _ in content.artifacts()}
    assert newer.total_num == older.total_num == 24
    assert {one.instance_url for one in older.data_list} == {"prod.swr-pro.example.com"}


def _as_a_customer(url, caller, key):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkhss import v5

    credentials = BasicCredentials(key.access_key, key.secret_key, caller.project_id)
    client = v5.HssClient.new_builder().with_credentials(credentials).with_endpoint(url).build()
    body = v5.CreateImageSynchronizeTaskRequestInfo(
        registry_info=[
            v5.CreateImageSynchronizeTaskRequestInfoRegistryInfo(registry_type="SwrEnterprise")
        ]
    )
    client.create_image_synchronize_task(v5.CreateImageSynchronizeTaskRequest(body=body))
    asked = v5.ListImageScanTaskRequest(type="image_sync")
    deadline = time.monotonic() + 30
    while (task := client.list_image_scan_task(asked).data_list[0]).task_status != 100:
        assert time.monotonic() < deadline, f"not ended: {task}"
        time.sleep(0.05)
    runs = client.list_associate_registries(v5.ListAssociateRegistriesRequest(task_id=task.task_id))
    wish = {"image_type": "instance_image", "instance_name": "prod", "limit": 100}
    newer = client.list_registry_images(v5.ListRegistryImagesRequest(**wish))
    older = client.list_swr_image_repository(v5.ListSwrImageRepositoryRequest(**wish))
    return runs.data_list, newer, older


@pytest.mark.hard_case(
    "H30", guard="wharfinger.sources._harbor_notifications:read_harbor_notification"
)
@pytest.mark.usefixtures("registry")
async def test_a_trigger_brings_a_push_without_a_sync(yard, upstream, content):
    made = await yard.house.hints.make_token(yard.caller, "prod")
    content.push("team/deep/er", "fresh")
    before = len(upstream.log)
    told = notification_of(upstream.world.instance("prod"), "team/deep/er", "fresh")
    headers = {"Authorization": f"Bearer {made.token}"}

    async with serving(yard.house) as url, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.post(url + made.path, json=told, headers=headers) as answer:
                assert (answer.status, await answer.json()) == (
                    200,
                    {"repositories": 1, "ignored": 0},
                )
        await yard.quiet()

    assert stored(yard) == content.artifacts()
    assert {line.path for line in upstream.log[before:]} == {
        line.path for line in upstream.requests("deep%252Fer/artifacts")
    }
