"""GitLab, synchronised into the store, examined, and shown by HSS, which has no word for it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import urllib.request

import pytest

from http_port import serving
from wharfinger.domain.examination import Grade
from wharfinger.domain.model import RegistryCredential, RunOutcome
from wharfinger.service.registries import Registries
from wharfinger.store.registries import NewRegistry, RegistryChange
from wharfinger.testing.gitlab import GitlabUpstream
from wharfinger.testing.model import made_up_world
from yard import PROJECT


@pytest.fixture
async def gitlab():
    async with GitlabUpstream(made_up_world(6, 4)) as running:
        running.world.push("team/sub/app", "v1", platforms=("linux/amd64", "linux/arm64"))
        yield running


async def add(yard, upstream, *groups):
    new = NewRegistry(
        name="gitlab",
        kind="Gitlab",
        address=upstream.url,
        options={"groups": groups},
        allow_private_networks=True,
    )
    token = RegistryCredential(kind="basic", identity="reader", secret=upstream.gitlab.token)
    return await yard.add(new, token)


def groups_of(upstream):
    return tuple(sorted({repository.namespace for repository in upstream.world.owned()}))


async def test_what_is_stored_is_what_is_there_and_goes_when_it_goes(yard, gitlab):
    await add(yard, gitlab, *groups_of(gitlab))

    first = await yard.sync()
    assert (first.outcome, first.added) == (RunOutcome.COMPLETE, 25)
    assert yard.stored() == gitlab.world.images()

    gitlab.world.delete_tag("bench-01/service-00001", "v1.2")
    gitlab.world.delete_repository("bench-02/service-00002")
    second = await yard.sync()

    assert (second.outcome, second.retired) == (RunOutcome.COMPLETE, 5)
    assert yard.stored() == gitlab.world.images()


async def test_a_group_that_is_left_out_is_hidden_and_nothing_is_retired(yard, gitlab):
    await add(yard, gitlab, "bench-01", "team")
    await yard.sync()
    registries = Registries(yard.house.database, yard.house.keys, opener=yard.house.opener)

    change = RegistryChange(options={"groups": ("team/sub",)})
    await registries.change(yard.caller, "gitlab", change, None)
    run = await yard.sync()

    assert (run.outcome, run.retired) == (RunOutcome.COMPLETE, 0)
    assert {path for path, _, _ in yard.stored()} == {"team/sub/app"}
    assert [kind for kind, _ in yard.events()].count("hidden") == 4


async def test_the_doctor_passes_it_and_nothing_is_stored(yard, gitlab):
    await add(yard, gitlab, "team")

    report = await yard.house.doctor.examine(yard.caller, "gitlab")

    found = {finding.check: finding for finding in report.findings}
    assert report.ok, report.findings
    assert {finding.grade for finding in report.findings} <= {Grade.OK, Grade.NOTE}
    assert found["size"].facts["images"] == 1
    assert yard.stored() == set()


async def test_hss_shows_it_as_other_and_finds_it_as_such(yard, gitlab):
    registry_id = str(await add(yard, gitlab, "team"))
    token = await yard.house.callers.create_token(PROJECT, dt.timedelta(hours=1))

    def ask(url, path, body=None):
        request = urllib.request.Request(f"{url}/v5/{PROJECT}/{path}", body)
        request.add_header("X-Auth-Token", token)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    async with serving(yard.house) as url:
        chosen = [{"registry_id": registry_id, "registry_type": "Other"}]
        body = json.dumps({"registry_info": chosen}).encode()
        task = await asyncio.to_thread(ask, url, "image/image-sync/tasks", body)
        await yard.ended(task["task_id"])
        listed, images, runs, none = [
            await asyncio.to_thread(ask, url, path)
            for path in (
                "image/registries?registry_type=Other",
                "image/registries/images?image_type=other",
                f"image/image-sync/tasks/{task['task_id']}/registries?registry_type=Other",
                "image/registries?registry_type=Harbor,Jfrog",
            )
        ]

    assert [row["registry_type"] for row in listed["data_list"]] == ["Other"]
    assert [(row["image_type"], row["registry_type"]) for row in images["data_list"]] == [
        ("other", "Other")
    ]
    assert [row["registry_type"] for row in runs["data_list"]] == ["Other"]
    assert none["total_num"] == 0
