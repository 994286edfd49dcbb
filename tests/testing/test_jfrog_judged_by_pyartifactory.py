"""Clients that others wrote find in the bundled Artifactory what they find in a real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from pydantic import SecretStr

from wharfinger.testing.content import digest_of
from wharfinger.testing.jfrog import JfrogUpstream

pyartifactory = pytest.importorskip("pyartifactory")

APP = "docker-local/team/deep/app"


@pytest.fixture
def artifactory():
    with JfrogUpstream().running_in_thread() as running:
        running.world.push(APP, "v1", size=1_000_003)
        running.world.push(APP, "v2", platforms=("linux/amd64", "linux/arm64/v8"))
        running.add("hub", "remote", url="https://registry-1.docker.io/")
        running.add("mates", "federated")
        running.add("all", "virtual", members=("docker-local", "hub"))
        running.world.push("hub-cache/library/nginx", "1.27")
        yield running


@pytest.fixture
def client(artifactory):
    own = artifactory.behaviour
    opened = pyartifactory.Artifactory(
        url=f"{artifactory.url}/artifactory", auth=(own.username, SecretStr(own.password))
    )
    yield opened
    close(opened)


def close(client):
    for part in (client.repositories, client.artifacts):
        part.session.close()


def test_it_lists_every_repository_with_its_class(client):
    listed = {one.key: (one.type, one.packageType) for one in client.repositories.list()}

    assert listed == {
        "all": ("VIRTUAL", "Docker"),
        "docker-local": ("LOCAL", "Docker"),
        "hub": ("REMOTE", "Docker"),
        "mates": ("FEDERATED", "Docker"),
    }


@pytest.mark.parametrize(
    ("key", "model"),
    [
        ("docker-local", "LocalRepositoryResponse"),
        ("hub", "RemoteRepositoryResponse"),
        ("all", "VirtualRepositoryResponse"),
        ("mates", "FederatedRepositoryResponse"),
    ],
)
def test_it_reads_a_repository_of_every_class(client, key, model):
    found = client.repositories.get_repo(key)

    assert type(found).__name__ == model
    assert (found.key, found.packageType.value) == (key, "docker")
    if key == "all":
        assert found.repositories == ["docker-local", "hub"]


def test_a_repository_that_is_not_there_is_said_not_to_be(client):
    with pytest.raises(pyartifactory.exception.RepositoryNotFoundError):
        client.repositories.get_repo("nowhere")


def test_a_manifests_hash_is_the_digest_of_its_image(artifactory, client):
    content = artifactory.world.tag(APP, "v1").content

    found = client.artifacts.info(f"{APP}/v1/manifest.json")
    properties = client.artifacts.properties(f"{APP}/v1/manifest.json").properties

    assert f"sha256:{found.checksums.sha256}" == content.digest
    assert (found.repo, found.size) == ("docker-local", len(content.manifest))
    assert found.created.tzinfo is not None
    assert properties["docker.manifest.digest"] == [content.digest]
    assert properties["docker.repoName"] == ["team/deep/app"]


def test_an_index_is_a_list_and_its_children_lie_beside_the_tags(artifactory, client):
    content = artifactory.world.tag(APP, "v2").content
    folder = client.artifacts.info(APP)

    assert {child.uri for child in folder.children} == {
        "/v1",
        "/v2",
        *(f"/{child.digest}" for child in content.children),
    }
    (file,) = client.artifacts.info(f"{APP}/v2").children
    assert (file.uri, file.folder) == ("/list.manifest.json", False)


def test_it_walks_and_downloads_the_raw_bytes(artifactory, client, tmp_path):
    content = artifactory.world.tag(APP, "v1").content

    files = client.artifacts.list(f"{APP}/v1").files
    client.artifacts.download(f"{APP}/v1", str(tmp_path))

    assert {file.uri for file in files} == {
        "/manifest.json",
        f"/{content.image_id.replace(':', '__')}",
    }
    assert digest_of((tmp_path / "v1" / "manifest.json").read_bytes()) == content.digest


def test_what_is_not_there_is_not_found(client):
    with pytest.raises(pyartifactory.exception.ArtifactNotFoundError):
        client.artifacts.info(f"{APP}/v9/manifest.json")


def test_a_token_opens_it_and_a_wrong_password_does_not(artifactory):
    root = f"{artifactory.url}/artifactory"
    by_token = pyartifactory.Artifactory(url=root, access_token=artifactory.behaviour.access_token)
    wrong = pyartifactory.Artifactory(url=root, auth=("reader", SecretStr("wrong")))

    assert len(by_token.repositories.list()) == 4
    with pytest.raises(Exception, match="401"):
        wrong.repositories.list()
    close(by_token)
    close(wrong)


# --- docker's API, by repository path ------------------------------------------------------------


@pytest.fixture
def skopeo(artifactory, tmp_path):
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("needs skopeo: apt-get install skopeo")
    own = artifactory.behaviour
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}

    def run(command, path, *options):
        access = ["--tls-verify=false", f"--creds={own.username}:{own.password}"]
        done = subprocess.run(
            [program, command, *access, *options, f"docker://{artifactory.host}/{path}"],
            env={**kept, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


def test_skopeo_lists_tags_over_pages(artifactory, skopeo):
    artifactory.behaviour.link_lost = False
    artifactory.behaviour.default_page = 1

    listed = json.loads(skopeo("list-tags", APP))

    assert listed["Tags"] == ["v1", "v2"]


@pytest.mark.parametrize("tag", ["v1", "v2"])
def test_skopeo_reads_manifest_and_config(artifactory, skopeo, tag):
    content = artifactory.world.tag(APP, tag).content

    raw = skopeo("inspect", f"{APP}:{tag}", "--raw")
    told = json.loads(skopeo("inspect", f"{APP}:{tag}", "--override-arch=amd64"))

    assert digest_of(raw) == content.digest
    assert told["Digest"] == content.digest
    assert told["Architecture"] == "amd64"
