"""A real docker-registry, synchronised into the store."""

from __future__ import annotations

import asyncio

import pytest
from real_registry import MISSING, OCI_MANIFEST, PASSWORD, USER, running_registry

from wharfinger.domain.model import RegistryCredential, RunOutcome
from wharfinger.store.registries import NewRegistry, RegistryChange

pytestmark = [
    pytest.mark.docker_registry,
    pytest.mark.skipif(MISSING is not None, reason=MISSING or ""),
]

NOBODY = RegistryCredential(kind="none")


@pytest.fixture
def registry(tmp_path):
    with running_registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "registry").mkdir()


def other(registry, **options) -> NewRegistry:
    return NewRegistry(
        name="real",
        kind="Other",
        address=registry.url,
        options=options,
        allow_private_networks=True,
    )


def fill(registry) -> set[tuple[str, str, str]]:
    return {
        (name, tag, registry.push_image(name, tag, seed=f"{name}{tag}"))
        for name in ("single", "team/app", "team/deep/er/app")
        for tag in ("v1", "v2.0_x-y", "latest")
    }


async def test_a_real_registry_is_stored_as_it_is(yard, registry):
    pushed = fill(registry)
    await yard.add(other(registry, page_size=2), NOBODY)

    run = await yard.sync()

    assert (run.outcome, run.added) == (RunOutcome.COMPLETE, 9)
    assert yard.stored() == pushed
    assert yard.value("SELECT bool_and(starts_with(image_id, 'sha256:') AND size > 0) FROM image")
    assert yard.value("SELECT DISTINCT updated_at::text FROM image") == "2026-01-02 03:04:05+00"


async def test_an_unchanged_registry_asks_for_no_manifest_and_writes_no_row(yard, registry):
    fill(registry)
    await yard.add(other(registry), NOBODY)
    await yard.sync()
    before = yard.owner.execute("SELECT xmin, ctid, id FROM image ORDER BY id").fetchall()

    run = await yard.sync()

    # One catalog page, one tag list a repository, one HEAD a tag.
    assert (run.outcome, run.requests) == (RunOutcome.COMPLETE, 1 + 3 + 9)
    assert yard.owner.execute("SELECT xmin, ctid, id FROM image ORDER BY id").fetchall() == before


async def test_moved_and_deleted_tags_are_told_apart(yard, registry):
    pushed = fill(registry)
    await yard.add(other(registry), NOBODY)
    await yard.sync()

    moved = registry.push_image("team/app", "latest", seed="newer")
    (gone,) = [d for n, t, d in pushed if (n, t) == ("single", "v1")]
    registry.delete("single", gone)
    run = await yard.sync()

    assert (run.outcome, run.moved, run.retired) == (RunOutcome.COMPLETE, 1, 1)
    expected = {
        (n, t, moved if (n, t) == ("team/app", "latest") else d)
        for n, t, d in pushed
        if (n, t) != ("single", "v1")
    }
    assert yard.stored() == expected


async def test_an_index_is_stored_with_its_platforms(yard, registry):
    amd = registry.push_image("multi", None, seed="amd")
    arm = registry.push_image("multi", None, seed="arm", platform={"architecture": "arm64"})
    index = registry.push_index(
        "multi",
        "v1",
        [
            (amd, OCI_MANIFEST, {"os": "linux", "architecture": "amd64"}),
            (arm, OCI_MANIFEST, {"os": "linux", "architecture": "arm64", "variant": "v8"}),
        ],
    )
    await yard.add(other(registry), NOBODY)

    await yard.sync()

    assert yard.stored() == {("multi", "v1", index)}
    assert yard.owner.execute("SELECT is_index, image_id FROM image").fetchall() == [(True, index)]
    platforms = yard.owner.execute(
        "SELECT digest, architecture, variant FROM platform WHERE index_digest = %s"
        " ORDER BY position",
        (index,),
    ).fetchall()
    assert platforms == [(amd, "amd64", ""), (arm, "arm64", "v8")]
    total = yard.value("SELECT sum(size)::bigint FROM platform")
    assert yard.value("SELECT size FROM image") == total > 0


async def test_a_given_list_of_repositories_needs_no_catalog(yard, registry):
    pushed = fill(registry)
    await yard.add(other(registry, repositories=["team/app", "single"]), NOBODY)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == {row for row in pushed if row[0] in ("team/app", "single")}


async def test_a_signature_is_stored_and_kept_out_of_the_list(yard, registry):
    registry.push_image("single", "v1")
    registry.push_artifact(
        "single",
        "sha256-abc.sig",
        config_type="application/vnd.oci.image.config.v1+json",
        layer_type="application/vnd.dev.cosign.simplesigning.v1+json",
    )
    await yard.add(other(registry), NOBODY)

    await yard.sync()

    assert len(yard.stored()) == 2
    assert yard.value("SELECT live_images FROM repository") == 1
    assert yard.value("SELECT count(*) FROM image WHERE artifact_type <> ''") == 1


async def test_a_registry_with_a_password_is_read_with_it_and_not_without(yard, tmp_path):
    (tmp_path / "locked").mkdir()
    with running_registry(tmp_path / "locked", htpasswd=True) as registry:
        digest = registry.push_image("single", "v1")
        await yard.add(other(registry), NOBODY)
        refused = await yard.sync()
        await yard.house.registries.remove(yard.caller, "real")
        await yard.add(
            other(registry), RegistryCredential(kind="basic", identity=USER, secret=PASSWORD)
        )
        read = await yard.sync(names=("real",))

    assert (refused.outcome, refused.reasons[0].code) == (RunOutcome.FAILED, "unauthorised")
    assert read.outcome is RunOutcome.COMPLETE
    assert yard.stored() == {("single", "v1", digest)}


def shown(yard) -> dict[tuple[str, str], list[str]]:
    """What the store shows beside each image: kinds by repository and tag."""
    rows = yard.owner.execute(
        """
        SELECT r.namespace || '/' || r.name, i.tag, array_agg(a.kind ORDER BY a.kind)
        FROM image i JOIN repository r ON r.id = i.repository_id
        JOIN attachment a ON a.repository_id = i.repository_id AND a.subject = i.digest
        WHERE i.retired_at IS NULL GROUP BY 1, 2
        """
    ).fetchall()
    return {(path, tag): kinds for path, tag, kinds in rows}


async def test_what_other_clients_push_beside_an_image_and_copy_with_it_belongs_to_it(
    yard, registry, tmp_path
):
    """Oras pushes as cosign names it; skopeo copies image and signature, as mirrors do."""
    client_of_oras = pytest.importorskip("oras.client")
    digest = registry.push_image("team/app", "v1")
    registry.push_image("team/app", "v2", seed="other")
    host = registry.url.removeprefix("http://")
    beside = digest.replace(":", "-")
    payload = tmp_path / "payload.json"
    payload.write_text("{}")
    oras = client_of_oras.OrasClient(hostname=host, insecure=True)
    for suffix, media_type in (
        ("sig", "application/vnd.dev.cosign.simplesigning.v1+json"),
        ("sbom", "text/spdx+json"),
    ):
        oras.push(
            target=f"{host}/team/app:{beside}.{suffix}",
            files=[f"{payload}:{media_type}"],
            disable_path_validation=True,
        )
    oras.session.close()
    await yard.add(other(registry), NOBODY)
    first = await yard.sync()
    before = shown(yard)

    for tag in ("v1", f"{beside}.sig"):
        await copied(f"docker://{host}/team/app:{tag}", f"docker://{host}/mirror/app:{tag}")
    second = await yard.sync()

    assert before == {("team/app", "v1"): ["sbom", "signature"]}
    assert shown(yard) == before | {("mirror/app", "v1"): ["signature"]}
    assert [run.outcome for run in (first, second)] == [RunOutcome.COMPLETE] * 2
    # The pushed artifacts are no images.
    assert yard.value("SELECT sum(live_images) FROM repository") == 3


async def copied(source, target) -> None:
    process = await asyncio.create_subprocess_exec(
        *("skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests"),
        *("--src-tls-verify=false", "--dest-tls-verify=false", source, target),
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()


async def test_a_registry_without_lists_of_referrers_costs_one_request_more(yard, registry):
    fill(registry)
    await yard.add(other(registry), NOBODY)
    run = await yard.sync()
    await yard.house.registries.change(
        yard.caller, "real", RegistryChange(options={"referrers": False})
    )
    without = await yard.sync(full=True)

    # Of nine images the first sync read manifests and configs as well.
    assert run.requests == without.requests + 9 * 2 + 1
