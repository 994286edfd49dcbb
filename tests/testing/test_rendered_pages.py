from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request

import pytest

from wharfinger.testing.model import World, made_up_world
from wharfinger.testing.rendered import Nginx, RenderedPages, move_tags, nginx_missing
from wharfinger.testing.upstream import Upstream

swr = pytest.importorskip("huaweicloudsdkswr.v2")

pytestmark = [
    pytest.mark.nginx,
    pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing())),
]


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read()), answer.headers.get("Content-Range")


def status_of(url):
    try:
        return urllib.request.urlopen(url, timeout=10).status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def sdk_rows(url, world, limit=1000):
    """What the official SDK's loop over offset pages reads: (path, tag, digest)."""
    from huaweicloudsdkcore.auth.credentials import BasicCredentials

    key = world.access_key()
    credentials = BasicCredentials(key.access_key, key.secret_key, world.home.project_id)
    client = swr.SwrClient.new_builder().with_credentials(credentials).with_endpoint(url).build()

    def pages(call, wish):
        offset = 0
        while True:
            page = call(wish(limit=str(limit), offset=str(offset))).body or []
            yield from page
            offset += limit
            if len(page) < limit:
                return

    rows = set()
    for repository in pages(client.list_repos_details, swr.ListReposDetailsRequest):

        def tags_of(row=repository, **paging):
            return swr.ListRepositoryTagsRequest(
                namespace=row.namespace, repository=row.name.replace("/", "$"), **paging
            )

        for tag in pages(client.list_repository_tags, tags_of):
            rows.add((f"{repository.namespace}/{repository.name}", tag.tag, tag.digest))
    return rows


@pytest.fixture
def world():
    world = World()
    for number in range(12):
        for tag in ("v1", "v2"):
            world.push(f"team/deep/app-{number:02}", tag)
    world.push("team/deep/app-03", "v3", platforms=("linux/amd64", "linux/arm64"))
    world.create_repository("team/empty")
    return world


def test_the_sdk_reads_the_same_from_nginx_as_from_the_upstream(tmp_path, world):
    RenderedPages(tmp_path, world).write()

    with Nginx(tmp_path) as nginx, Upstream(world).running_in_thread() as upstream:
        rendered = sdk_rows(nginx.url, world)
        served = sdk_rows(upstream.url, world)

    assert rendered == served == world.images()
    assert len(nginx.requests()) == len(upstream.log) == 14


def test_a_page_is_what_the_upstream_answers_to_the_byte(tmp_path, world):
    RenderedPages(tmp_path, world).write()
    target = "/v2/manage/namespaces/team/repos/deep%24app-03/tags?limit=1000&offset=0"
    token = {"X-Auth-Token": "", "Content-Type": "application/json"}

    with Nginx(tmp_path) as nginx, Upstream(world).running_in_thread() as upstream:
        token["X-Auth-Token"] = upstream.token()
        request = urllib.request.Request(f"{upstream.url}{target}&order_column=tag", headers=token)
        with urllib.request.urlopen(request, timeout=10) as answer:
            served, served_range = json.loads(answer.read()), answer.headers["Content-Range"]
        rendered, rendered_range = fetch(nginx.url + target)
        turned, _ = fetch(nginx.url + target.replace("limit=1000&offset=0", "offset=0&limit=1000"))

    assert rendered == served == turned
    assert rendered_range == served_range == "0-3/3"


@pytest.mark.parametrize("stride", [10, 9])
@pytest.mark.parametrize("total", [0, 1, 9, 10, 11, 19, 20, 28])
def test_every_stride_finds_its_pages_to_the_end(tmp_path, stride, total):
    world = made_up_world(total, 0)
    RenderedPages(tmp_path, world, strides=((10, 10), (10, 9))).write()
    place = tmp_path / "pages/v2/manage/repos"

    names, offset = [], 0
    while True:
        page = json.loads((place / f"10-{offset}.json").read_bytes())
        names += [row["name"] for row in page]
        if len(page) < 10:
            break
        offset += stride

    assert sorted(set(names)) == sorted(repository.name for repository in world.owned())


def test_the_total_stands_in_the_header_of_every_list(tmp_path, world):
    RenderedPages(tmp_path, world).write()

    with Nginx(tmp_path) as nginx:
        tags = nginx.url + "/v2/manage/namespaces/team/repos/{}/tags?limit=1000&offset=0"
        ranges = [
            fetch(f"{nginx.url}/v2/manage/repos?limit=1000&offset=0")[1],
            fetch(tags.format("deep%24app-00"))[1],
            fetch(tags.format("deep$app-03"))[1],
            fetch(tags.format("empty"))[1],
            fetch(f"{nginx.url}/v2/manage/namespaces")[1],
        ]
        wrong = status_of(f"{nginx.url}/v2/manage/repos?limit=1000&offset=500")

    assert ranges == ["0-13/13", "0-2/2", "0-3/3", "0-0/0", None]
    assert wrong == 404


def test_only_what_changed_is_written_again(tmp_path):
    world = made_up_world(200, 2)
    pages = RenderedPages(tmp_path, world)
    first = pages.write()

    unchanged = pages.rewrite(r.path for r in world.owned())
    moved = pages.rewrite(move_tags(world, every=100))

    assert (first, unchanged) == (202, 0)
    # Two repositories' tags, and the one page of repositories whose times have moved.
    assert moved == 3


def test_a_tag_moves_behind_a_standing_fingerprint(tmp_path):
    world = made_up_world(20, 2)
    pages = RenderedPages(tmp_path, world)
    pages.write()
    listing = tmp_path / "pages/v2/manage/repos/1000-0.json"
    before = listing.read_bytes()

    (path,) = move_tags(world, every=20, quiet=True)
    written = pages.rewrite([path])

    place = tmp_path / f"pages/v2/manage/namespaces/bench-00/repos/{path.split('/')[1]}/tags"
    digests = {row["digest"] for row in json.loads((place / "1000-0.json").read_bytes())}
    assert written == 1
    assert listing.read_bytes() == before
    assert world.tag(path, "v1.1").content.digest in digests


def test_a_deleted_repository_leaves_no_page(tmp_path, world):
    pages = RenderedPages(tmp_path, world)
    pages.write()
    world.delete_repository("team/deep/app-05")
    pages.rewrite(["team/deep/app-05"])

    with Nginx(tmp_path) as nginx:
        rows, total = fetch(f"{nginx.url}/v2/manage/repos?limit=1000&offset=0")
        gone = status_of(
            f"{nginx.url}/v2/manage/namespaces/team/repos/deep$app-05/tags?limit=1000&offset=0"
        )

    assert (len(rows), total, gone) == (12, "0-12/12", 404)


async def test_answers_can_be_late_without_waiting_for_each_other(tmp_path, world):
    RenderedPages(tmp_path, world).write()

    with Nginx(tmp_path, delay_s=0.2) as nginx:
        url = f"{nginx.url}/v2/manage/repos?limit=1000&offset=0"
        loop = asyncio.get_running_loop()
        begun = loop.time()
        answers = await asyncio.gather(*(asyncio.to_thread(fetch, url) for _ in range(5)))
        took = loop.time() - begun

    assert 0.2 <= took < 0.9
    assert {total for _, total in answers} == {"0-13/13"}


def test_the_log_can_begin_anew(tmp_path, world):
    RenderedPages(tmp_path, world).write()

    with Nginx(tmp_path) as nginx:
        fetch(f"{nginx.url}/v2/manage/repos?limit=1000&offset=0")
        seen = nginx.requests()
        nginx.forget_requests()
        fetch(f"{nginx.url}/v2/manage/namespaces")

        assert seen == ["GET /v2/manage/repos?limit=1000&offset=0 200"]
        assert nginx.requests() == ["GET /v2/manage/namespaces 200"]
