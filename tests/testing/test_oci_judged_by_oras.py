"""The oras client reads the bundled registry as it reads any other."""

from __future__ import annotations

import json

import pytest

from wharfinger.testing.content import digest_of
from wharfinger.testing.oci import OciBehaviour, OciUpstream

client_of_oras = pytest.importorskip("oras.client")


@pytest.fixture(params=["none", "bearer"])
def registry(request):
    behaviour = OciBehaviour(auth=request.param, default_page=2)
    with OciUpstream(behaviour=behaviour).running_in_thread() as running:
        for number in range(5):
            running.world.push("team/deep/app", f"v{number}")
        running.world.push("team/multi", "v1", platforms=("linux/amd64", "linux/arm64/v8"))
        yield running


@pytest.fixture
def oras(registry):
    client = client_of_oras.OrasClient(hostname=registry.host, insecure=True)
    if registry.behaviour.auth == "bearer":
        client.auth.set_basic_auth(registry.behaviour.username, registry.behaviour.password)
    yield client
    client.session.close()


@pytest.mark.parametrize("style", ["relative", "absolute"])
def test_it_lists_tags_over_pages(registry, oras, style):
    registry.behaviour.link = style

    assert oras.get_tags(f"{registry.host}/team/deep/app") == [f"v{n}" for n in range(5)]
    assert len(registry.requests("/tags/list")) >= 3


def test_it_pulls_a_manifest_and_its_config(registry, oras):
    content = registry.world.tag("team/deep/app", "v1").content
    target = f"{registry.host}/team/deep/app:v1"

    manifest = oras.get_manifest(target, allowed_media_type=[content.media_type])
    config = oras.get_blob(f"{registry.host}/team/deep/app", manifest["config"]["digest"])

    assert manifest == json.loads(content.manifest)
    assert digest_of(config.content) == content.image_id


def test_it_pulls_an_index(registry, oras):
    content = registry.world.tag("team/multi", "v1").content

    found = oras.get_manifest(
        f"{registry.host}/team/multi:v1", allowed_media_type=[content.media_type]
    )

    assert [one["digest"] for one in found["manifests"]] == [c.digest for c in content.children]
