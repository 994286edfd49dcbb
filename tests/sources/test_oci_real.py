"""Kind Other against a real registry."""

import pytest
from real_registry import (
    MISSING,
    OCI_INDEX,
    OCI_MANIFEST,
    PASSWORD,
    USER,
    running_registry,
)

from wharfinger.domain.errors import UnauthorisedError
from wharfinger.domain.model import RegistryCredential, RegistryRef
from wharfinger.testing.source_suite import inventory_of, opened, path_of, repositories_of, tags_of

pytestmark = [
    pytest.mark.docker_registry,
    pytest.mark.skipif(MISSING is not None, reason=MISSING or ""),
]

NOBODY = RegistryCredential(kind="none")


@pytest.fixture
def registry(tmp_path):
    with running_registry(tmp_path) as registry:
        yield registry


def reading(registry, credential=NOBODY, **options):
    ref = RegistryRef(
        id="r1",
        project_id="p1",
        name="real",
        kind="Other",
        address=registry.url,
        options=options,
        allow_private_networks=True,
    )
    return opened(ref, credential)


async def described(source, path):
    repositories = {path_of(row): row for row in await repositories_of(source)}
    tags = await tags_of(source, repositories[path])
    images = {image.digest: image async for image in source.describe(repositories[path], tags)}
    return {tag.tag: images[tag.digest] for tag in tags}


async def test_a_real_registry_is_read_completely(registry):
    pushed = {
        (name, tag, registry.push_image(name, tag, seed=f"{name}{tag}"))
        for name in ("single", "team/app", "team/deep/er/app", "zoo/x", "a/b")
        for tag in ("v1", "v2.0_x-y", "latest")
    }

    for page_size in (1, 2, 5, 1000):
        async with reading(registry, page_size=page_size) as source:
            assert await inventory_of(source) == pushed


async def test_h08_a_page_size_that_the_registry_refuses_is_left_out(registry):
    pushed = {("team/app", "v1", registry.push_image("team/app", "v1"))}

    async with reading(registry, page_size=10000) as source:
        assert await inventory_of(source) == pushed


async def test_named_repositories_are_read_without_the_catalog(registry):
    registry.push_image("team/app", "v1")
    registry.push_image("team/other", "v1")

    async with reading(registry, repositories=["team/app"]) as source:
        found = await inventory_of(source)

    assert {path for path, _, _ in found} == {"team/app"}


async def test_h10_a_repository_without_tags_has_none(registry):
    registry.delete("team/app", registry.push_image("team/app", "v1"))

    async with reading(registry) as source:
        (repository,) = await repositories_of(source)
        assert await tags_of(source, repository) == []


async def test_an_image_is_its_config_its_layers_and_its_time(registry):
    registry.push_image("team/app", "v1", created="2024-05-06T07:08:09.123456789Z")
    registry.push_image("team/app", "v2", created="0001-01-01T00:00:00Z", seed="y")

    async with reading(registry) as source:
        images = await described(source, "team/app")

    v1 = images["v1"]
    status, _, manifest = registry.send(
        "GET", f"/v2/team/app/manifests/{v1.digest}", headers={"Accept": OCI_MANIFEST}
    )
    assert status == 200
    assert v1.image_id.encode() in manifest
    assert v1.created_at.isoformat() == "2024-05-06T07:08:09.123456+00:00"
    assert v1.size > 60
    assert (v1.media_type, v1.artifact_type, v1.is_index) == (OCI_MANIFEST, "", False)
    assert images["v2"].created_at is None


async def test_h18_an_index_tells_its_platforms_and_their_sizes(registry):
    amd = registry.push_image("team/app", seed="amd")
    arm = registry.push_image("team/app", seed="arm", platform={"architecture": "arm64"})
    proof = registry.push_image("team/app", seed="proof")
    registry.push_index(
        "team/app",
        "v1",
        [
            (amd, OCI_MANIFEST, {"os": "linux", "architecture": "amd64"}),
            (arm, OCI_MANIFEST, None),
            (proof, OCI_MANIFEST, {"os": "unknown", "architecture": "unknown"}),
        ],
    )

    async with reading(registry) as source:
        image = (await described(source, "team/app"))["v1"]

    assert image.is_index
    assert image.image_id == image.digest
    assert [(p.digest, p.os, p.architecture) for p in image.platforms] == [
        (amd, "linux", "amd64"),
        (arm, "linux", "arm64"),
        (proof, "unknown", "unknown"),
    ]
    assert all(p.size > 0 and p.image_id for p in image.platforms)
    assert image.size == sum(p.size for p in image.platforms)
    assert image.created_at.year == 2026


async def test_h18_a_nested_index_is_flattened(registry):
    amd = registry.push_image("team/app", seed="amd")
    inner = registry.push_index(
        "team/app", None, [(amd, OCI_MANIFEST, {"os": "linux", "architecture": "amd64"})]
    )
    registry.push_index("team/app", "v1", [(inner, OCI_INDEX, None)])

    async with reading(registry) as source:
        image = (await described(source, "team/app"))["v1"]

    assert [p.digest for p in image.platforms] == [amd]
    assert image.size > 0


@pytest.mark.parametrize(
    ("config_type", "layer_type", "artifact_type"),
    [
        (
            "application/vnd.cncf.helm.config.v1+json",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            "application/vnd.cncf.helm.config.v1+json",
        ),
        (
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.dev.cosign.simplesigning.v1+json",
            "application/vnd.dev.cosign.simplesigning.v1+json",
        ),
        (
            "application/vnd.oci.empty.v1+json",
            "application/spdx+json",
            "application/spdx+json",
        ),
    ],
    ids=["chart", "signature", "sbom"],
)
async def test_what_is_no_image_says_what_it_is(registry, config_type, layer_type, artifact_type):
    registry.push_artifact("team/x", "v1", config_type=config_type, layer_type=layer_type)

    async with reading(registry) as source:
        image = (await described(source, "team/x"))["v1"]

    assert image.artifact_type == artifact_type


async def test_a_registry_with_passwords_wants_the_right_one(tmp_path):
    with running_registry(tmp_path, htpasswd=True) as registry:
        pushed = {("team/app", "v1", registry.push_image("team/app", "v1"))}
        right = RegistryCredential(kind="basic", identity=USER, secret=PASSWORD)
        wrong = RegistryCredential(kind="basic", identity=USER, secret="wrong-password")

        async with reading(registry, right) as source:
            assert await inventory_of(source) == pushed
        for credential in (wrong, NOBODY):
            async with reading(registry, credential) as source:
                with pytest.raises(UnauthorisedError, match="--repository"):
                    await inventory_of(source)
