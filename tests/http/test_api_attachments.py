"""What belongs to images over our own API: shown, filtered by, counted and streamed."""

from __future__ import annotations

import json
import urllib.request

import pytest
from clients import call

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def ask(house, tenant, path, **more):
    return call(house, f"/api/v1/projects/{tenant.id}{path}", token=tenant.token, **more)


def listed(house, tenant, query=""):
    status, _, body = ask(house, tenant, f"/images?{query}")
    assert status == 200, body
    return [image["tag"] for image in body["items"]]


def attach(tenant, repository, subject, kind, digest=OTHER, *, artifact_type="application/x"):
    tenant.sql.execute(
        "INSERT INTO attachment (project_id, registry_id, repository_id, subject, digest, kind,"
        " artifact_type) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (tenant.id, tenant.oci, repository, subject, digest, kind, artifact_type),
    )


@pytest.fixture
def filled(tenant):
    """team/app with two tags of one digest, signed and with an SBOM, and one of another digest;
    team/tool with the digest of the first, to which nothing belongs there."""
    tenant.oci = tenant.registry("oci", kind="Other")
    tenant.app = tenant.repository(tenant.oci, "team", "app")
    tenant.tool = tenant.repository(tenant.oci, "team", "tool")
    tenant.image(tenant.oci, tenant.app, "v1", digest=DIGEST)
    tenant.image(tenant.oci, tenant.app, "latest", digest=DIGEST)
    tenant.image(tenant.oci, tenant.app, "v2")
    tenant.image(tenant.oci, tenant.tool, "copy", digest=DIGEST)
    attach(tenant, tenant.app, DIGEST, "signature", artifact_type="application/signature")
    attach(tenant, tenant.app, DIGEST, "sbom")
    return tenant


def test_an_image_says_what_belongs_to_it(house, filled):
    _, _, body = ask(house, filled, "/images")
    signed, again, plain, copy = body["items"]

    assert [signed[name] for name in ("signed", "has_sbom", "has_attestation")] == [
        True,
        True,
        False,
    ]
    assert signed["attachments"] == [
        {"kind": "sbom", "digest": OTHER, "artifact_type": "application/x"},
        {"kind": "signature", "digest": OTHER, "artifact_type": "application/signature"},
    ]
    assert again["attachments"] == signed["attachments"]
    for image in (plain, copy):
        assert (image["signed"], image["has_sbom"], image["attachments"]) == (False, False, [])


def test_of_a_past_moment_it_is_not_known(house, filled):
    filled.sql.execute("UPDATE tenant_feed SET seq = 1 WHERE project_id = %s", (filled.id,))
    filled.sql.execute(
        "INSERT INTO image_version (image_id, project_id, from_seq, digest, config_digest, size,"
        " updated_at, run_id) SELECT id, project_id, 1, digest, image_id, size, updated_at,"
        " gen_random_uuid() FROM image WHERE project_id = %s AND tag = 'v1'",
        (filled.id,),
    )

    _, _, body = ask(house, filled, "/images?as_of=1")
    status, _, refused = ask(house, filled, "/images?as_of=1&signed=true")

    (image,) = body["items"]
    assert (image["signed"], image["attachments"]) == (None, None)
    assert (status, refused["error_msg"]) == (400, "signed: is known of the current list only")


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        ("signed=true", ["v1", "latest"]),
        ("signed=false", ["v2", "copy"]),
        ("has_sbom=true&tag=v1", ["v1"]),
        ("signed=true&has_sbom=false", []),
        ("has_attestation=false&name=tool", ["copy"]),
        ("has_attestation=true", []),
    ],
)
def test_a_filter_keeps_what_has_it_or_has_it_not(house, filled, query, tags):
    assert listed(house, filled, query) == tags
    _, _, counted = ask(house, filled, f"/images/facets?{query}")
    assert counted["facets"]["total"] == len(tags)


def test_a_stream_says_and_filters_the_same(house, filled):
    url = f"{house.url}/api/v1/projects/{filled.id}/images?signed=true"
    headers = {"X-Auth-Token": filled.token, "Accept": "application/x-ndjson"}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        *images, end = map(json.loads, answer)

    assert [(one["tag"], one["signed"]) for one in images] == [("v1", True), ("latest", True)]
    assert end["images"] == 2


def test_a_row_of_a_tag_brings_and_takes_what_it_says(house, filled):
    tag = f"sha256-{'b' * 64}.sig"
    filled.image(filled.oci, filled.tool, "signed", digest=OTHER)
    before = listed(house, filled, "signed=true&name=tool")
    filled.image(filled.oci, filled.tool, tag, artifact_type="application/signature")
    filled.published()
    between = listed(house, filled, "signed=true&name=tool")
    filled.sql.execute("UPDATE image SET retired_at = now() WHERE tag = %s", (tag,))
    filled.published()

    assert (before, between) == ([], ["signed"])
    assert listed(house, filled, "signed=true&name=tool") == []


def test_what_belongs_to_another_tenants_image_belongs_to_none_of_ours(house, filled):
    other = house.tenant()
    other.oci = other.registry("theirs", kind="Other")
    theirs = other.repository(other.oci, "team", "app")
    other.image(other.oci, theirs, "v1", digest=DIGEST)
    attach(other, theirs, DIGEST, "attestation")

    assert listed(house, filled, "has_attestation=true") == []
    assert listed(house, other, "has_attestation=true") == ["v1"]
    assert listed(house, other, "signed=true") == []
