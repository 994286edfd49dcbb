"""Harbor as the bundled upstream plays it, judged by clients that others wrote for the real one."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import shutil
import subprocess

import pytest

from wharfinger.testing.content import OCI_INDEX, OCI_MANIFEST, image, index
from wharfinger.testing.harbor import HarborUpstream
from wharfinger.testing.model import World, made_up_world

harborapi = pytest.importorskip("harborapi")

MADE = dt.datetime(2025, 6, 7, 8, 9, 10, 123_000, tzinfo=dt.UTC)
API = "team/api"


@pytest.fixture
def harbor():
    with HarborUpstream(World()).running_in_thread() as harbor:
        yield harbor


@pytest.fixture
async def client(harbor):
    async with client_of(harbor) as client:
        yield client


@contextlib.asynccontextmanager
async def client_of(harbor, account=None, secret=None):
    account = account or harbor.accounts["admin"]
    client = harborapi.HarborAsyncClient(
        url=f"{harbor.url}/api/v2.0",
        username=account.name,
        secret=secret or account.password,
        retry=None,
    )
    async with client.client:
        yield client


def empty_fields(model, *, but=()):
    told = model.model_dump()
    return {name for name, value in told.items() if value is None} - set(but)


# --- projects and repositories -------------------------------------------------------------------


async def test_projects_come_out_with_their_metadata(harbor, client):
    harbor.push(API, "v1")
    harbor.push("hub/library/nginx", "v1")
    harbor.harbor.public.add("hub")
    harbor.harbor.proxy_caches["hub"] = 7

    team, hub = sorted(await client.get_projects(), key=lambda p: p.name, reverse=True)

    assert empty_fields(hub, but={"name"}) == set()
    assert (team.name, team.repo_count, team.metadata.public) == ("team", 1, "false")
    assert (hub.registry_id, team.registry_id, hub.metadata.public) == (7, None, "true")
    assert (await client.get_project("team")).project_id == team.project_id
    assert (await client.get_project(hub.project_id)).name == "hub"


async def test_a_repository_comes_out_with_every_field(harbor, client):
    harbor.push("team/deep/er/app", "v1")

    (listed,) = await client.get_repositories()
    shown = await client.get_repository("team", "deep/er/app")

    assert empty_fields(listed) == set()
    assert listed == shown
    assert (listed.project_name, listed.base_name) == ("team", "deep/er/app")
    assert listed.artifact_count == 1


async def test_a_hundred_repositories_a_page_are_followed_to_the_end(client, harbor):
    harbor.world = made_up_world(230, 0)

    found = await client.get_repositories(page_size=100)

    assert {r.name for r in found} == {r.path for r in harbor.world.owned()}
    assert len(found) == 230
    assert [line.query for line in harbor.log] == [
        f"page={page}&page_size=100" for page in (1, 2, 3)
    ]


async def test_the_newest_come_first(harbor, client):
    for name in ("b", "c", "a"):
        harbor.push(f"team/{name}", "v1")

    found = await client.get_repositories("team")

    assert [r.name for r in found] == ["team/a", "team/c", "team/b"]


# --- artifacts -----------------------------------------------------------------------------------


async def test_an_artifact_comes_out_with_its_tags_and_attributes(harbor, client):
    content = image("api", created=MADE, platform="linux/arm64", media_type=OCI_MANIFEST)
    harbor.push(API, "v1", content=content)
    harbor.push(API, "latest", content=content)

    (found,) = await client.get_artifacts("team", "api", with_tag=True, with_accessory=True)

    unknown = {"annotations", "references", "labels", "scan_overview", "sbom_overview"}
    assert empty_fields(found, but=unknown) == set()
    assert (found.type, found.digest, found.manifest_media_type) == (
        "IMAGE",
        content.digest,
        OCI_MANIFEST,
    )
    assert {tag.name for tag in found.tags} == {"v1", "latest"}
    assert empty_fields(found.tags[0]) == set()
    assert found.extra_attrs.root["architecture"] == "arm64"
    assert found.extra_attrs.root["created"] == "2025-06-07T08:09:10.123Z"
    # Nobody has pulled it, which Harbor says with the first day of the first year.
    assert found.pull_time.year == 1
    assert found.push_time.utcoffset() == dt.timedelta(0)


async def test_an_index_has_references_and_its_children_are_no_rows(harbor, client):
    content = index(
        "api", created=MADE, platforms=("linux/amd64", "linux/arm64/v8"), media_type=OCI_INDEX
    )
    harbor.push(API, "v1", content=content)

    (found,) = await client.get_artifacts("team", "api")

    assert found.manifest_media_type == OCI_INDEX
    assert [r.child_digest for r in found.references] == [c.digest for c in content.children]
    assert [(r.platform.os, r.platform.architecture) for r in found.references] == [
        ("linux", "amd64"),
        ("linux", "arm64"),
    ]


async def test_a_tag_that_moves_or_is_deleted_leaves_its_artifact_without_a_tag(harbor, client):
    first = harbor.push(API, "v1")
    second = harbor.push(API, "v1")
    before = await client.get_repository("team", "api")

    await client.delete_artifact_tag("team", "api", second.digest, "v1")

    after = await client.get_repository("team", "api")
    found = await client.get_artifacts("team", "api", with_tag=True)
    assert {(a.digest, a.tags and a.tags[0].name) for a in found} == {
        (first.digest, None),
        (second.digest, None),
    }
    assert (after.update_time, after.artifact_count) == (before.update_time, 2)


async def test_a_deleted_artifact_is_gone_with_its_tags(harbor, client):
    gone = harbor.push(API, "v1")
    harbor.push(API, "v2")

    await client.delete_artifact("team", "api", gone.digest)

    (left,) = await client.get_artifacts("team", "api")
    assert [tag.name for tag in left.tags] == ["v2"]
    with pytest.raises(harborapi.exceptions.NotFound):
        await client.get_artifact("team", "api", gone.digest)


async def test_what_is_attached_is_found_with_its_artifact_and_is_no_row(harbor, client):
    content = harbor.push(API, "v1")
    harbor.attach(content.digest, "signature.cosign")
    harbor.attach(content.digest, "sbom.harbor")

    (row,) = await client.get_artifacts("team", "api", with_accessory=True)
    (bare,) = await client.get_artifacts("team", "api")
    listed = await client.get_artifact_accessories("team", "api", content.digest)

    assert [a.type for a in row.accessories] == ["signature.cosign", "sbom.harbor"]
    assert bare.accessories is None
    assert listed == row.accessories
    assert empty_fields(listed[0], but={"icon"}) == set()
    assert listed[0].subject_artifact_digest == content.digest


async def test_one_artifact_is_found_by_tag_and_by_digest(harbor, client):
    content = harbor.push("team/a/b", "v1")

    by_tag = await client.get_artifact("team", "a/b", "v1", with_tag=True)
    by_digest = await client.get_artifact("team", "a/b", content.digest, with_tag=True)

    assert by_tag == by_digest
    assert harbor.requests("/repositories/a%252Fb/artifacts/v1")
    assert [tag.name for tag in await client.get_artifact_tags("team", "a/b", "v1")] == ["v1"]


# --- who ------------------------------------------------------------------------------------------


async def test_a_robot_account_sees_its_own_projects(harbor):
    harbor.push(API, "v1")
    harbor.push("other/x", "v1")
    robot = harbor.robot("ci", "team")

    async with client_of(harbor, robot) as client:
        repositories = await client.get_repositories()
        projects = await client.get_projects()
        with pytest.raises(harborapi.exceptions.Forbidden) as caught:
            await client.get_repositories("other")

    assert robot.name == "robot$team+ci"
    assert [r.name for r in repositories] == [API]
    assert [p.name for p in projects] == ["team"]
    assert caught.value.errors[0].code == "FORBIDDEN"


async def test_a_wrong_secret_is_refused_even_where_everything_is_public(harbor):
    harbor.push(API, "v1")
    harbor.harbor.public.add("team")

    async with client_of(harbor, secret="wrong") as client:
        with pytest.raises(harborapi.exceptions.Unauthorized) as caught:
            await client.get_repositories()

    assert caught.value.errors[0].code == "UNAUTHORIZED"


async def test_read_only_refuses_what_changes_and_nothing_else(harbor, client):
    content = harbor.push(API, "v1")
    harbor.harbor.read_only = True

    with pytest.raises(harborapi.exceptions.Forbidden) as caught:
        await client.delete_artifact("team", "api", content.digest)

    assert "read only" in caught.value.errors[0].message
    assert len(await client.get_artifacts("team", "api")) == 1
    assert (await client.get_system_info()).read_only is True


async def test_more_than_a_hundred_rows_at_a_time_are_refused(client):
    with pytest.raises(harborapi.exceptions.UnprocessableEntity, match="less than or equal to 100"):
        await client.get_repositories(page_size=101)


async def test_what_is_not_there_is_404_in_harbors_words(harbor, client):
    harbor.push(API, "v1")

    for call in (
        client.get_repository("team", "nothing"),
        client.get_artifacts("team", "nothing"),
        client.get_artifact("team", "api", "v9"),
        client.get_project("nothing"),
    ):
        with pytest.raises(harborapi.exceptions.NotFound) as caught:
            await call
        assert caught.value.errors[0].code == "NOT_FOUND"


async def test_it_says_that_it_is_well(client):
    assert await client.ping() == "Pong"
    health = await client.health_check()
    assert (health.status, {c.status for c in health.components}) == ("healthy", {"healthy"})
    assert (await client.get_system_info()).harbor_version.startswith("v2.")


# --- the registry behind it -----------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo: apt-get install skopeo")
async def test_skopeo_reads_an_image_as_a_robot_account(harbor):
    content = harbor.push("team/deep/er/app", "v1")
    robot = harbor.robot("ci", "team")

    done = await skopeo("inspect", harbor, robot, "team/deep/er/app:v1")
    denied = await skopeo("inspect", harbor, harbor.robot("no", "other"), "team/deep/er/app:v1")

    told = json.loads(done.stdout)
    assert (told["Digest"], told["Architecture"]) == (content.digest, "amd64")
    assert told["RepoTags"] == ["v1"]
    assert denied.returncode != 0
    assert harbor.requests(r"/service/token\?account=robot%24team%2Bci")


async def skopeo(command, harbor, account, name):
    flags = ["--tls-verify=false", "--creds", f"{account.name}:{account.password}"]
    words = ["skopeo", command, *flags, f"docker://{harbor.host}/{name}"]
    return await asyncio.to_thread(
        subprocess.run, words, capture_output=True, text=True, check=False, timeout=60
    )
