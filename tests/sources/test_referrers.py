"""What belongs to an image, by the registry's own list and by tags that are named after it."""

import pytest

from wharfinger.domain.artifacts import ArtifactKind, Referrers, kind_of_artifact, subject_of_tag
from wharfinger.domain.model import RegistryCredential, RegistryRef, RepositoryRef, TagRef
from wharfinger.testing.content import OCI_INDEX, artifact, digest_of, index_of
from wharfinger.testing.oci import OciBehaviour, OciUpstream
from wharfinger.testing.source_suite import opened

MADE = "2026-03-04T05:06:07Z"
APP = RepositoryRef(namespace="team", name="app")
NOTATION = "application/vnd.cncf.notary.signature"
SPDX = "application/spdx+json"


@pytest.fixture(params=["none", "bearer"])
async def registry(request):
    async with OciUpstream(behaviour=OciBehaviour(auth=request.param)) as running:
        yield running


@pytest.fixture
async def source(registry):
    own = registry.behaviour
    credential = RegistryCredential(kind="none")
    if own.auth != "none":
        credential = RegistryCredential(kind="basic", identity=own.username, secret=own.password)
    about = RegistryRef(
        id="r1",
        project_id="p1",
        name="other",
        kind="Other",
        address=registry.url,
        allow_private_networks=True,
    )
    async with opened(about, credential) as source:
        yield source


def attach(registry, artifact_type, subject, *, tag=None):
    content = artifact(f"{artifact_type} {tag}", artifact_type, subject=subject, created=MADE)
    if tag is None:
        registry.world.repository("team/app").untagged[content.digest] = content
    else:
        registry.world.push("team/app", tag, content=content)
    return content


def named_after(digest, suffix=""):
    return digest.replace(":", "-") + suffix


def told(referrers):
    return {(one.digest, one.kind.value) for one in referrers}


async def test_what_the_registry_lists_belongs_to_the_image(registry, source):
    image = registry.world.push("team/app", "v1").content.digest
    other = registry.world.push("team/app", "v2").content.digest
    signature = attach(registry, NOTATION, image)
    sbom = attach(registry, SPDX, image)
    attach(registry, NOTATION, other)

    found = (await source.referrers(APP, image)).found

    assert told(found) == {(signature.digest, "signature"), (sbom.digest, "sbom")}
    assert {one.subject for one in found} == {image}
    assert {one.artifact_type for one in found} == {NOTATION, SPDX}


async def test_where_there_is_no_list_a_tag_holds_it(registry, source):
    registry.behaviour.referrers = False
    image = registry.world.push("team/app", "v1").content.digest
    signature = artifact("s", NOTATION, subject=image, created=MADE)
    listed = index_of("list", (signature,), created=MADE, media_type=OCI_INDEX)
    tag = named_after(image)
    registry.world.push("team/app", tag, content=listed)

    found = (await source.referrers(APP, image, ["v1", tag])).found

    assert told(found) == {(signature.digest, "signature")}


async def test_cosigns_tags_are_told_by_their_names(registry, source):
    image = registry.world.push("team/app", "v1").content.digest
    tags = [named_after(image, suffix) for suffix in (".sig", ".att", ".sbom")]
    contents = [attach(registry, "application/x", "", tag=tag) for tag in tags]
    strange = named_after(digest_of(b"another"), ".sig")
    attach(registry, "application/x", "", tag=strange)

    found = (await source.referrers(APP, image, ["v1", strange, *tags])).found

    kinds = ("signature", "attestation", "sbom")
    assert told(found) == {(c.digest, kind) for c, kind in zip(contents, kinds, strict=True)}


async def test_an_image_that_nothing_belongs_to_costs_one_request(registry, source):
    image = registry.world.push("team/app", "v1").content.digest
    await source.referrers(APP, image)
    before = len(registry.log)

    assert await source.referrers(APP, image, ["v1", "latest"]) == Referrers(listed=True)
    assert len(registry.log) - before == 1


async def test_a_tag_that_holds_referrers_is_no_image(registry, source):
    image = registry.world.push("team/app", "v1").content
    signature = artifact("s", NOTATION, subject=image.digest, created=MADE)
    sbom = artifact("b", SPDX, subject=image.digest, created=MADE)
    alone = index_of("one", (signature,), created=MADE, media_type=OCI_INDEX)
    both = index_of("two", (signature, sbom), created=MADE, media_type=OCI_INDEX)
    for tag, content in (("a", alone), ("b", both)):
        registry.world.push("team/app", tag, content=content)

    tags = [TagRef(tag="", digest=one.digest) for one in (image, alone, both)]
    types = [image.artifact_type async for image in source.describe(APP, tags)]

    assert types == ["", NOTATION, OCI_INDEX]


@pytest.mark.parametrize(
    ("artifact_type", "annotations", "kind"),
    [
        ("application/vnd.cncf.notary.signature", {}, "signature"),
        ("application/vnd.dev.cosign.simplesigning.v1+json", {}, "signature"),
        ("application/vnd.dev.cosign.artifact.sig.v1+json", {}, "signature"),
        ("application/vnd.dev.cosign.artifact.sbom.v1+json", {}, "sbom"),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", {}, "signature"),
        (
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            {"dev.sigstore.bundle.content": "dsse-envelope"},
            "attestation",
        ),
        ("application/vnd.in-toto+json", {}, "attestation"),
        (
            "application/vnd.in-toto+json",
            {"in-toto.io/predicate-type": "https://spdx.dev/Document"},
            "sbom",
        ),
        ("application/vnd.cyclonedx+json", {}, "sbom"),
        ("text/spdx+json", {}, "sbom"),
        ("application/vnd.cncf.helm.config.v1+json", {}, "chart"),
        ("application/vnd.wasm.config.v0+json", {}, "other"),
        ("", {}, "other"),
    ],
)
def test_types_are_told_apart(artifact_type, annotations, kind):
    assert kind_of_artifact(artifact_type, annotations) is ArtifactKind(kind)


@pytest.mark.parametrize("tag", ["v1", "sha256-abc.sig", "sha256-" + "g" * 64, "latest.sig"])
def test_other_tags_belong_to_nothing(tag):
    assert subject_of_tag(tag) is None
