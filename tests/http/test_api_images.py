"""The whole list over our own API: filters, counts, streams, and pages that are still right."""

from __future__ import annotations

import http.client
import json
import urllib.request
from urllib.parse import quote, urlencode

import pytest
from clients import call

from rows import AT


def ask(house, tenant, path, **more):
    return call(house, f"/api/v1/projects/{tenant.id}{path}", token=tenant.token, **more)


def listed(house, tenant, **query):
    status, _, body = ask(house, tenant, f"/images?{urlencode(query)}")
    assert status == 200, body
    return [image["tag"] for image in body["items"]]


@pytest.fixture
def filled(tenant):
    """Two registries: team/app with v1, v2 and an index, team/tool with v1; and base/app with 7."""
    tenant.swr, tenant.oci = tenant.registry("swr"), tenant.registry("oci", kind="Other")
    app = tenant.repository(tenant.swr, "team", "app")
    tool = tenant.repository(tenant.swr, "team", "tool")
    base = tenant.repository(tenant.oci, "base", "app")
    tenant.images = [
        tenant.image(tenant.swr, app, "v1", size=10),
        tenant.image(tenant.swr, app, "v2"),
        tenant.image(tenant.swr, app, "multi", is_index=True, digest="sha256:feed"),
        tenant.image(tenant.swr, tool, "V1-debug", updated_at=AT.replace(year=2020)),
        tenant.image(tenant.oci, base, "7", image_id="d" * 64),
    ]
    return tenant


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        ({}, ["v1", "v2", "multi", "V1-debug", "7"]),
        ({"tag": "v1"}, ["v1"]),
        ({"tag_contains": "v1"}, ["v1", "V1-debug"]),
        ({"text": "TOOL"}, ["V1-debug"]),
        ({"text": "7"}, ["7"]),
        ({"text": "debug", "name": "tool"}, ["V1-debug"]),
        ({"text": "%"}, []),
        ({"digest": "sha256:feed"}, ["multi"]),
        ({"image_id": "d" * 64}, ["7"]),
        ({"size": 10}, ["v1"]),
        ({"multi_arch": "true"}, ["multi"]),
        ({"updated_to": "2021-01-01T00:00:00Z"}, ["V1-debug"]),
        ({"updated_from": "2021-01-01T00:00:00+02:00", "kind": "Other"}, ["7"]),
        ({"confirmed_from": "2027-01-01T00:00:00Z"}, []),
        ({"registry": "oci"}, ["7"]),
    ],
    ids=str,
)
def test_every_filter_keeps_what_it_names(house, filled, query, tags):
    assert listed(house, filled, **query) == tags


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=10001", "limit: must be an integer from 1 to 10000"),
        ("limit=0", "limit: must be an integer from 1 to 10000"),
        ("size=-1", "size: must be an integer from 0"),
        ("multi_arch=yes", "multi_arch: must be true or false"),
        ("updated_from=yesterday", "updated_from: must be a time with an offset"),
        (
            "updated_from=2026-01-02T00:00:00Z&updated_to=2026-01-01T00:00:00Z",
            "updated_from: must not be later than updated_to",
        ),
        ("text=", "text: must be 1 to 255 characters"),
        ("as_of=0&digest=x", "digest: is known of the current list only"),
    ],
)
def test_what_is_out_of_range_is_named(house, filled, query, words):
    status, _, body = ask(house, filled, f"/images?{query}")

    assert (status, body["error_code"]) == (400, "invalid_parameter")
    assert words in body["error_msg"]


def test_facets_count_what_the_same_filters_list(house, filled):
    _, _, everything = ask(house, filled, "/images/facets")
    _, _, counted = ask(house, filled, "/images/facets?tag_contains=v")
    _, _, nothing = ask(house, filled, "/images/facets?tag=none")

    assert everything["facets"] == {
        "total": 5,
        "registries": {"swr": 4, "oci": 1},
        "kinds": {"SwrPrivate": 4, "Other": 1},
        "enterprise_projects": {"0": 5},
        "namespaces": {"team": 4, "base": 1},
        "more_namespaces": False,
        "labels": {},
        "more_labels": [],
    }
    assert counted["facets"]["total"] == len(listed(house, filled, tag_contains="v")) == 3
    assert counted["facets"]["namespaces"] == {"team": 3}
    assert (nothing["facets"]["total"], nothing["facets"]["kinds"]) == (0, {})


def test_facets_name_the_greatest_namespaces_and_say_that_there_are_more(house, tenant):
    registry = tenant.registry()
    tenant.sql.execute(
        "INSERT INTO repository (project_id, registry_id, namespace, name, live_images)"
        " SELECT %s, %s, 'n' || n, 'app', n FROM generate_series(1, 210) n",
        (tenant.id, registry),
    )

    _, _, body = ask(house, tenant, "/images/facets")

    namespaces = body["facets"]["namespaces"]
    assert (len(namespaces), body["facets"]["more_namespaces"]) == (200, True)
    assert list(namespaces)[:2] == ["n210", "n209"]
    assert body["facets"]["total"] == sum(range(1, 211))


# --- is what I have still right? ------------------------------------------------------------------


def fresh(house, tenant, etag, path="/images"):
    status, headers, _ = ask(house, tenant, path, headers={"If-None-Match": etag})
    return status == 304, headers["ETag"]


def test_a_page_that_is_still_right_is_not_sent_again(house, filled):
    _, headers, body = ask(house, filled, "/images?limit=2&kind=SwrPrivate")
    etag = headers["ETag"]

    assert len(body["items"]) == 2
    assert headers["Cache-Control"] == "private, no-cache"
    assert fresh(house, filled, etag, "/images?limit=2&kind=SwrPrivate") == (True, etag)
    assert fresh(house, filled, f'"x", W/{etag}', "/images?kind=SwrPrivate&limit=2")[0]
    assert not fresh(house, filled, etag, "/images?limit=3&kind=SwrPrivate")[0]
    assert not fresh(house, filled, etag, "/images?limit=2&kind=Other")[0]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tenant_feed SET seq = seq + 1 WHERE project_id = %s",
        "UPDATE tenant_feed SET revision = revision + 1 WHERE project_id = %s",
        "UPDATE registry SET confirmed_at = now() WHERE project_id = %s AND name = 'swr'",
        "UPDATE registry SET verdict = 'partial' WHERE project_id = %s AND name = 'swr'",
        "UPDATE registry SET name = 'renamed' WHERE project_id = %s AND name = 'swr'",
        "UPDATE registry SET removed_at = now() WHERE project_id = %s AND name = 'swr'",
        "UPDATE registry SET stale_after = '1 second' WHERE project_id = %s AND name = 'swr'",
    ],
)
def test_a_list_that_changed_is_sent_again(house, filled, change):
    _, headers, _ = ask(house, filled, "/images")
    still = fresh(house, filled, headers["ETag"])

    filled.sql.execute(change, (filled.id,))

    assert still == (True, headers["ETag"])
    assert not fresh(house, filled, headers["ETag"])[0]


def test_a_page_is_said_again_from_memory_until_somebody_publishes(house, filled):
    _, _, first = ask(house, filled, "/images?limit=50")
    repository = filled.repository(filled.swr, "team", "late")
    filled.image(filled.swr, repository, "behind-our-back")
    _, _, again = ask(house, filled, "/images?limit=50")

    filled.published()
    _, _, after = ask(house, filled, "/images?limit=50")

    assert again == first
    assert [i["tag"] for i in after["items"] if i not in first["items"]] == ["behind-our-back"]


def test_tenants_do_not_share_what_they_have(house, filled):
    _, headers, _ = ask(house, filled, "/images")
    other = house.tenant()

    assert not fresh(house, other, headers["ETag"])[0]


# --- the whole list as a stream -------------------------------------------------------------------


def stream(house, tenant, query=""):
    request = urllib.request.Request(
        f"{house.url}/api/v1/projects/{tenant.id}/images{query}",
        headers={"X-Auth-Token": tenant.token, "Accept": "application/x-ndjson"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers["Content-Type"], answer.read().splitlines()


def many(tenant, images):
    registry = tenant.registry()
    repository = tenant.repository(registry)
    tenant.sql.execute(
        "INSERT INTO image (project_id, registry_id, repository_id, tag, digest, image_id, size,"
        " updated_at) SELECT %s, %s, %s, 'v' || n, 'd' || n, 'c', 1, now()"
        " FROM generate_series(1, %s) n",
        (tenant.id, registry, repository, images),
    )


def test_the_whole_list_comes_line_by_line_and_says_that_it_is_whole(house, tenant):
    many(tenant, 4100)

    kind, lines = stream(house, tenant)

    assert kind == "application/x-ndjson"
    assert [json.loads(line)["tag"] for line in lines[:-1]] == [f"v{n}" for n in range(1, 4101)]
    end = {"end": True, "images": 4100, "as_of": 0, "verdict": "complete"}
    assert json.loads(lines[-1]) == end


def test_a_stream_can_be_filtered_and_be_empty(house, filled):
    _, some = stream(house, filled, "?registry=oci")
    _, none = stream(house, filled, f"?digest={quote('sha256:none')}")

    assert [json.loads(line).get("tag") for line in some] == ["7", None]
    assert [json.loads(line)["images"] for line in none] == [0]


def test_a_stream_that_breaks_has_no_end(house_to_break):
    tenant = house_to_break.tenant()
    many(tenant, 6000)
    # The third part of the stream meets a row that no reading can make sense of.
    tenant.sql.execute("ALTER TABLE image ALTER size DROP NOT NULL")
    tenant.sql.execute("UPDATE image SET updated_at = 'infinity' WHERE tag = 'v5000'")

    connection = http.client.HTTPConnection(house_to_break.url.removeprefix("http://"), timeout=30)
    connection.request(
        "GET",
        f"/api/v1/projects/{tenant.id}/images",
        headers={"X-Auth-Token": tenant.token, "Accept": "application/x-ndjson"},
    )
    answer = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead) as broken:
        answer.read()
    connection.close()

    assert b'"end"' not in broken.value.partial
    assert broken.value.partial.count(b"\n") == 4000


def test_a_stream_takes_no_limit(house, filled):
    status, _, body = ask(
        house, filled, "/images?limit=5", headers={"Accept": "application/x-ndjson"}
    )

    assert (status, body["error_code"]) == (400, "invalid_parameter")


def test_a_page_may_be_as_long_as_ten_thousand_rows(house, tenant):
    many(tenant, 10_050)

    _, _, first = ask(house, tenant, "/images?limit=10000")
    _, _, last = ask(house, tenant, f"/images?limit=10000&after={first['next']}")

    assert (len(first["items"]), len(last["items"]), last["next"]) == (10_000, 50, None)


@pytest.mark.parametrize("path", ["/images?nmae=app", "/images/facets?limit=10", "/labels?x=1"])
def test_a_parameter_that_a_route_does_not_know_is_refused_by_name(house, filled, path):
    status, _, body = ask(house, filled, path)

    name = path.partition("?")[2].partition("=")[0]
    assert (status, body["error_code"]) == (400, "invalid_parameter")
    assert body["error_msg"].startswith(f"{name}: is unknown here; known are ")
    assert "enterprise_project_id" in body["error_msg"]
