"""The whole list in other tools' formats, each read back by a tool of its own."""

from __future__ import annotations

import csv
import io
import json
import sys
import tracemalloc
import urllib.request
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clients import call
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from wharfinger.domain.errors import StoreBusyError
from wharfinger.domain.inventory import ImageFilter, RegistryScope
from wharfinger.domain.model import Caller
from wharfinger.http import exports
from wharfinger.http.exports import FORMATS, encoded
from wharfinger.service import exports as reading

INDEX = "sha256:" + "f" * 64


@pytest.fixture
def filled(tenant):
    """A registry of SWR with a tag, an index and an untagged image; one with a hostile name."""
    swr = tenant.registry("swr", address="https://swr-api.cn-north-4.myhuaweicloud.com")
    odd = tenant.registry("=HYPERLINK(1)", kind="Other", address="https://r.example:5000")
    app = tenant.repository(swr, "team", "deep/app")
    tenant.image(swr, app, "v1", latest=True)
    tenant.image(swr, app, "multi", is_index=True, digest=INDEX)
    tenant.sql.execute(
        "INSERT INTO platform (project_id, registry_id, index_digest, position, digest, os,"
        " architecture, variant, size, image_id) VALUES (%s, %s, %s, 0, 'sha256:c', 'linux',"
        " 'arm64', 'v8', 1, '')",
        (tenant.id, swr, INDEX),
    )
    tenant.image(swr, app, None, digest="sha512:" + "a" * 128)
    tenant.image(odd, tenant.repository(odd, "", "tool"), "-1")
    tenant.sql.execute(
        "INSERT INTO label (project_id, registry_id, key, value) VALUES (%s, %s, 'owner', 'a,b')",
        (tenant.id, swr),
    )
    return tenant


def listed(house, tenant, **query):
    _, _, body = call(
        house, f"/api/v1/projects/{tenant.id}/images?{urlencode(query)}", token=tenant.token
    )
    return body["items"]


def exported(house, tenant, *, accept="*/*", **query):
    request = urllib.request.Request(
        f"{house.url}/api/v1/projects/{tenant.id}/images?{urlencode(query)}",
        headers={"X-Auth-Token": tenant.token, "Accept": accept},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers, answer.read()


def records(body):
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


def is_valid(document):
    failure = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document)
    assert failure is None, failure
    return json.loads(document)


def test_csv_holds_what_the_list_holds(house, filled):
    headers, body = exported(house, filled, format="csv")

    assert headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert body.startswith(
        b"id,registry,kind,namespace,name,tag,digest,image_id,size,updated_at,confirmed_at,latest,"
        b"multi_arch,labels,signed,has_sbom,has_attestation,attachments\r\n"
    )
    rows, images = records(body), listed(house, filled)
    for name in ("id", "kind", "namespace", "name", "digest", "size", "updated_at"):
        assert [row[name] for row in rows] == [str(image[name]) for image in images], name
    assert [row["latest"] for row in rows] == ["true", "false", "false", "false"]
    assert [row["labels"] for row in rows] == ["owner=a,b"] * 3 + [""]


def test_no_cell_of_csv_is_a_formula(house, filled):
    _, body = exported(house, filled, format="csv", registry="=HYPERLINK(1)")

    [row] = records(body)

    assert (row["registry"], row["tag"]) == ("'=HYPERLINK(1)", "'-1")


def test_pyarrow_reads_back_what_the_list_holds(house, filled):
    headers, body = exported(house, filled, accept="application/vnd.apache.parquet")

    table = pq.read_table(pa.BufferReader(body))

    rows = table.to_pylist()
    for row in rows:
        row["labels"] = dict(row["labels"])
        for name in ("updated_at", "confirmed_at"):
            row[name] = row[name].isoformat().replace("+00:00", "Z")
    assert rows == listed(house, filled)
    assert headers["Content-Disposition"] == 'attachment; filename="images-0.parquet"'
    assert table.schema.metadata[b"wharfinger.verdict"] == b"complete"


def test_the_bill_of_materials_is_valid_and_names_every_image(house, filled):
    headers, body = exported(house, filled, format="cyclonedx")

    bom = is_valid(body.decode())

    assert headers["Content-Type"] == "application/vnd.cyclonedx+json; version=1.6"
    images = listed(house, filled)
    found = bom["components"]
    assert {one["type"] for one in found} == {"container"}
    assert [one["bom-ref"] for one in found] == [f"image:{image['id']}" for image in images]
    assert [one["hashes"][0]["alg"] for one in found] == [
        "SHA-256",
        "SHA-256",
        "SHA-512",
        "SHA-256",
    ]
    assert [one["version"] for one in found] == ["v1", "multi", images[2]["digest"], "-1"]
    urls = [PackageURL.from_string(one["purl"]) for one in found]
    assert [url.to_string() for url in urls] == [one["purl"] for one in found]
    assert [(url.type, url.name, url.version) for url in urls] == [
        ("oci", image["name"].rpartition("/")[2], image["digest"]) for image in images
    ]
    assert urls[0].qualifiers == {
        "repository_url": "swr.cn-north-4.myhuaweicloud.com/team/deep/app",
        "tag": "v1",
    }
    assert urls[3].qualifiers["repository_url"] == "r.example:5000/tool"
    said = {(p["name"], p["value"]) for p in found[1]["properties"]}
    assert {
        ("wharfinger:registry", "swr"),
        ("wharfinger:repository", "team/deep/app"),
        ("wharfinger:tag", "multi"),
        ("wharfinger:label:owner", "a,b"),
        ("wharfinger:platform", "linux/arm64/v8@sha256:c"),
    } <= said
    assert bom["compositions"] == [{"aggregate": "complete", "assemblies": ["inventory"]}]


def test_a_list_that_is_not_whole_is_an_incomplete_bill(house, filled):
    filled.sql.execute(
        "UPDATE registry SET verdict = 'partial' WHERE project_id = %s", (filled.id,)
    )

    _, body = exported(house, filled, format="cyclonedx", tag="v1")
    _, none = exported(house, filled, format="cyclonedx", tag="none")

    assert is_valid(body.decode())["compositions"][0]["aggregate"] == "incomplete"
    assert is_valid(none.decode())["components"] == []


@pytest.mark.parametrize("name", FORMATS)
def test_filters_hold_for_every_format(house, filled, name):
    _, body = exported(house, filled, format=name, tag_contains="MULT", label="owner=a,b")

    assert b"v1" not in body
    assert b"f" * 64 in body or name == "parquet"
    if name == "parquet":
        assert pq.read_table(pa.BufferReader(body)).num_rows == 1


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("format=pdf", "format: must be json or csv or ndjson or parquet or cyclonedx"),
        ("format=csv&limit=5", "limit: is for pages"),
        ("format=csv&as_of=0&after=MQ", "after: is for pages"),
        ("format=csv&as_of=0&text=x", "text: is known of the current list only"),
        ("format=csv&as_of=7", "as_of: must be at most 0"),
        ("format=csv&at=2999-01-01T00:00:00Z", "at: must not lie in the future"),
    ],
)
def test_what_cannot_be_exported_is_told_before_anything_is_sent(house, filled, query, words):
    status, _, body = call(
        house, f"/api/v1/projects/{filled.id}/images?{query}", token=filled.token
    )

    assert (status, body["error_code"]) == (400, "invalid_parameter")
    assert words in body["error_msg"]


def test_without_pyarrow_parquet_names_the_extra(house, filled, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    status, _, body = call(
        house, f"/api/v1/projects/{filled.id}/images?format=parquet", token=filled.token
    )

    assert (status, body["error_code"]) == (400, "extra_missing")
    assert "pip install 'wharfinger[parquet]'" in body["error_msg"]


# --- one state, flat memory -----------------------------------------------------------------------


def many(tenant, images):
    registry = tenant.registry()
    repository = tenant.repository(registry)
    tenant.sql.execute(
        "INSERT INTO image (project_id, registry_id, repository_id, tag, digest, image_id, size,"
        " updated_at) SELECT %s, %s, %s, 'v' || n, 'sha256:' || repeat('d', 64), 'c', 1, now()"
        " FROM generate_series(1, %s) n",
        (tenant.id, registry, repository, images),
    )


def everything(house, tenant):
    caller = Caller(project_id=tenant.id, project_name="", principal="test")
    return house.exports.current(
        caller, ImageFilter(scope=RegistryScope(enterprise_projects=("0",)))
    )


def test_what_changes_meanwhile_is_not_in_it(house, tenant):
    many(tenant, 2 * reading.PART + 1)

    async def tags_while_it_changes():
        async with everything(house, tenant) as export:
            tags = [image.tag for image in await anext(export.parts)]
            tenant.sql.execute(
                "UPDATE image SET retired_at = now() WHERE project_id = %s", (tenant.id,)
            )
            return tags + [image.tag async for part in export.parts for image in part]

    tags = house.run(tags_while_it_changes())

    assert len(tags) == 2 * reading.PART + 1, "retired while it was read, and yet of that state"


@pytest.mark.parametrize("name", FORMATS)
def test_memory_does_not_grow_with_the_list(house, monkeypatch, name):
    monkeypatch.setattr(exports, "ROW_GROUP", reading.PART)

    def peak(images):
        tenant = house.tenant()
        many(tenant, images)

        async def write():
            tracemalloc.start()
            async with everything(house, tenant) as export:
                size = 0
                async for piece in encoded(export, FORMATS[name].encoder()):
                    size += len(piece)
            top = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return top, size

        return house.run(write())

    small, little = peak(2 * reading.PART)
    large, much = peak(8 * reading.PART)

    assert large < 1.5 * small, f"{small} bytes for a quarter of the list, {large} for all of it"
    assert much > 2 * little or name == "parquet"


def test_whole_lists_that_are_too_many_at_once_are_told_to_come_again(house, tenant, monkeypatch):
    monkeypatch.setattr(reading, "WAIT_S", 0.01)

    async def three():
        async with everything(house, tenant), everything(house, tenant), everything(house, tenant):
            pass

    with pytest.raises(StoreBusyError):
        house.run(three())
