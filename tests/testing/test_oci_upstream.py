from __future__ import annotations

import base64
import json
import re

import aiohttp
import pytest
from yarl import URL

from wharfinger.testing.content import DOCKER_MANIFEST, OCI_INDEX, digest_of, image, index
from wharfinger.testing.model import World
from wharfinger.testing.oci import OciBehaviour, OciUpstream

NAMES = ["a/one", "a/three", "a/two/deep", "b/five", "b/four"]


@pytest.fixture
async def registry():
    world = World()
    for name in NAMES:
        world.push(name, "v1")
    world.push("a/one", "multi", platforms=("linux/amd64", "linux/arm64/v8"))
    async with OciUpstream(world) as registry:
        yield registry


@pytest.fixture
async def get(registry):
    async with aiohttp.ClientSession() as session:

        async def get(target, method="GET", **headers):
            url = URL(target if target.startswith("http") else registry.url + target, encoded=True)
            async with session.request(method, url, headers=headers) as answer:
                return answer.status, answer.headers, await answer.read()

        yield get


async def follow(get, target):
    pages = []
    while target and len(pages) < 10:
        _, headers, body = await get(target)
        pages.append(json.loads(body)["repositories"])
        found = re.search(r'<([^>]+)>; rel="?next', headers.get("Link", ""))
        target = found and str(URL("/v2/_catalog").join(URL(found[1], encoded=True)))
    return pages


@pytest.mark.parametrize(
    "style", ["relative", "absolute", "unquoted", "several", "cursor", "query-only"]
)
async def test_every_honest_link_leads_to_the_end(registry, get, style):
    registry.behaviour.link = style

    assert await follow(get, "/v2/_catalog?n=2") == [NAMES[:2], NAMES[2:4], NAMES[4:]]


@pytest.mark.parametrize("style", ["loop", "cycle"])
async def test_links_can_run_in_circles(registry, get, style):
    registry.behaviour.link = style

    pages = await follow(get, "/v2/_catalog?n=3")

    assert len(pages) == 10
    assert pages[0] == pages[2]


async def test_a_link_can_be_absent_or_point_elsewhere(registry, get):
    registry.behaviour.link = "absent"
    _, absent, body = await get("/v2/_catalog?n=2")
    registry.behaviour.link = "other-host"
    _, elsewhere, _ = await get("/v2/_catalog?n=2")

    assert "Link" not in absent
    assert json.loads(body)["repositories"] == NAMES[:2]
    assert elsewhere["Link"].startswith("<http://registry.invalid/v2/_catalog?")


async def test_a_cursor_refuses_a_rebuilt_last(registry, get):
    registry.behaviour.link = "cursor"

    assert (await get("/v2/_catalog?n=2&last=a/one"))[0] == 400


async def test_pages_can_be_capped_refused_or_ignored(registry, get):
    registry.behaviour.page_cap = 3
    capped = json.loads((await get("/v2/_catalog?n=1000"))[2])["repositories"]
    registry.behaviour.refuse_n_above = 100
    refused = await get("/v2/_catalog?n=1000")
    registry.behaviour.ignore_n = True
    everything = json.loads((await get("/v2/_catalog?n=1"))[2])["repositories"]

    assert capped == NAMES[:3]
    assert refused[0] == 400
    assert json.loads(refused[2])["errors"][0]["code"] == "PAGINATION_NUMBER_INVALID"
    assert everything == NAMES


@pytest.mark.parametrize(
    ("behaviour", "body"),
    [
        ({"null_lists": True}, {"name": "a/empty", "tags": None}),
        ({"missing_lists": True}, {"name": "a/empty"}),
        ({}, {"name": "a/empty", "tags": []}),
    ],
)
async def test_an_empty_list_comes_in_three_ways(registry, get, behaviour, body):
    registry.world.create_repository("a/empty")
    registry.behaviour = OciBehaviour(**behaviour)

    assert json.loads((await get("/v2/a/empty/tags/list"))[2]) == body


async def test_the_catalog_can_list_ghosts_or_be_forbidden(registry, get):
    registry.behaviour.ghosts = {"a/ghost"}
    listed = json.loads((await get("/v2/_catalog"))[2])["repositories"]
    ghost = await get("/v2/a/ghost/tags/list")
    registry.behaviour.catalog_status = 405

    assert "a/ghost" in listed
    assert (ghost[0], json.loads(ghost[2])["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
    assert (await get("/v2/_catalog"))[0] == 405


async def test_manifests_hash_to_their_digests_by_tag_and_by_digest(registry, get):
    _, headers, by_tag = await get("/v2/a/one/manifests/multi")
    (first, _) = json.loads(by_tag)["manifests"]
    _, child_headers, child = await get(f"/v2/a/one/manifests/{first['digest']}")
    config = json.loads(child)["config"]
    _, _, blob = await get(f"/v2/a/one/blobs/{config['digest']}")

    assert headers["Docker-Content-Digest"] == digest_of(by_tag)
    assert (digest_of(child), len(child)) == (first["digest"], first["size"])
    assert child_headers["Content-Type"] == DOCKER_MANIFEST
    assert (digest_of(blob), len(blob)) == (config["digest"], config["size"])
    assert json.loads(blob)["architecture"] == "amd64"


async def test_a_head_tells_digest_and_length_without_a_body(registry, get):
    _, headers, whole = await get("/v2/a/one/manifests/v1")

    status, by_head, body = await get("/v2/a/one/manifests/v1", "HEAD")

    assert (status, body) == (200, b"")
    assert by_head["Content-Length"] == str(len(whole))
    assert by_head["Docker-Content-Digest"] == headers["Docker-Content-Digest"]


async def test_heads_and_digests_can_be_withheld(registry, get):
    registry.behaviour = OciBehaviour(head_status=405, digest_header=False)

    assert (await get("/v2/a/one/manifests/v1", "HEAD"))[0] == 405
    assert "Docker-Content-Digest" not in (await get("/v2/a/one/manifests/v1"))[1]


async def test_types_not_accepted_are_hidden_or_converted(registry, get):
    path = "/v2/a/one/manifests/multi"
    true_digest = (await get(path))[1]["Docker-Content-Digest"]
    registry.behaviour.accept = "strict"
    hidden = await get(path, Accept=DOCKER_MANIFEST)
    registry.behaviour.accept = "schema1"
    converted = await get(path, Accept=DOCKER_MANIFEST)
    registry.behaviour.accept_limit = 20

    assert hidden[0] == 404
    assert converted[1]["Docker-Content-Digest"] not in {true_digest, None}
    assert (await get(path, Accept=DOCKER_MANIFEST))[0] == 400


async def test_children_can_be_missing_and_untagged_content_is_served(registry, get):
    child = registry.world.tag("a/one", "multi").content.children[1]
    loose = image("loose", created="0001-01-01T00:00:00Z")
    registry.world.repository("a/one").untagged[loose.digest] = loose
    registry.behaviour.missing = {child.digest}

    assert (await get(f"/v2/a/one/manifests/{child.digest}"))[0] == 404
    assert (await get(f"/v2/a/one/manifests/{loose.digest}"))[0] == 200


async def test_an_oci_index_has_its_own_media_types(registry, get):
    nested = index("n", created="2024-01-01T00:00:00Z", platforms=("a/b",), media_type=OCI_INDEX)
    registry.world.push("a/one", "oci", content=nested)

    _, headers, raw = await get("/v2/a/one/manifests/oci")

    assert headers["Content-Type"] == OCI_INDEX
    assert "vnd.oci.image.manifest" in json.loads(raw)["manifests"][0]["mediaType"]


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_basic_asks_for_a_password(registry, get):
    registry.behaviour = OciBehaviour(auth="basic", username="u", password="p")

    refused = await get("/v2/")

    assert (refused[0], refused[1]["WWW-Authenticate"]) == (401, 'Basic realm="Registry"')
    assert (await get("/v2/", Authorization=basic("u", "wrong")))[0] == 401
    assert (await get("/v2/", Authorization=basic("u", "p")))[0] == 200


async def test_bearer_tokens_open_the_scope_they_were_issued_for(registry, get):
    registry.behaviour = OciBehaviour(auth="bearer", realm_query="tenant=7")
    login = basic(registry.behaviour.username, registry.behaviour.password)
    challenge = (await get("/v2/a/one/tags/list"))[1]["WWW-Authenticate"]
    parts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))

    issued = await get(f"{parts['realm']}&scope={parts['scope']}", Authorization=login)
    bearer = "Bearer " + json.loads(issued[2])["token"]
    other = await get("/v2/b/five/tags/list", Authorization=bearer)

    assert parts["realm"] == f"{registry.url}/token?tenant=7"
    assert parts["scope"] == "repository:a/one:pull"
    assert (await get("/v2/a/one/tags/list", Authorization=bearer))[0] == 200
    assert other[0] == 401
    assert 'error="insufficient_scope"' in other[1]["WWW-Authenticate"]
    assert registry.tokens_issued == 1


async def test_tokens_end_in_the_middle(registry, get):
    registry.behaviour = OciBehaviour(
        auth="bearer", anonymous_tokens=True, expires_in=None, token_field="access_token"
    )
    issued = json.loads((await get("/token?scope=registry:catalog:*"))[2])
    bearer = "Bearer " + issued["access_token"]
    before = await get("/v2/_catalog", Authorization=bearer)

    registry.expire_tokens()

    assert set(issued) == {"access_token"}
    assert before[0] == 200
    assert (await get("/v2/_catalog", Authorization=bearer))[0] == 401
    assert (await get("/token", Authorization=basic("reader", "wrong")))[0] == 401
