"""Labels over our own API: put, inherited, filtered by."""

from __future__ import annotations

import json
import uuid
from urllib.parse import urlencode

import pytest
from clients import call


def ask(house, tenant, path, **more):
    return call(house, f"/api/v1/projects/{tenant.id}{path}", token=tenant.token, **more)


def put(house, tenant, registry, key, **body):
    return ask(
        house,
        tenant,
        f"/registries/{registry}/labels/{key}",
        method="PUT",
        body=json.dumps(body).encode(),
    )


def listed(house, tenant, *labels):
    query = urlencode([("label", label) for label in labels])
    _, _, body = ask(house, tenant, f"/images?{query}")
    return {image["tag"]: image["labels"] for image in body["items"]}


@pytest.fixture
def filled(tenant):
    """One registry: team/app with "a", team/tool with "t", base/app with "b"."""
    tenant.swr = tenant.registry()
    for namespace, name, tag in (("team", "app", "a"), ("team", "tool", "t"), ("base", "app", "b")):
        repository = tenant.repository(tenant.swr, namespace, name)
        tenant.image(tenant.swr, repository, tag)
    return tenant


def test_a_label_is_inherited_and_the_nearest_one_counts(house, filled):
    put(house, filled, filled.swr, "owner", value="platform")
    put(house, filled, filled.swr, "owner", value="payments", namespace="team")
    put(house, filled, filled.swr, "owner", value="tooling", namespace="team", repository="tool")
    put(house, filled, filled.swr, "environment", value="prod", namespace="team")

    assert listed(house, filled) == {
        "a": {"owner": "payments", "environment": "prod"},
        "t": {"owner": "tooling", "environment": "prod"},
        "b": {"owner": "platform"},
    }


def facets(house, tenant, query=""):
    _, _, body = ask(house, tenant, f"/images/facets{query}")
    return body["facets"]["labels"]


def test_facets_count_by_the_label_that_counts_and_what_has_none(house, filled):
    put(house, filled, filled.swr, "owner", value="platform")
    put(house, filled, filled.swr, "owner", value="payments", namespace="team")
    put(house, filled, filled.swr, "owner", value="payments", namespace="base")
    put(house, filled, filled.swr, "owner", value="tooling", namespace="team", repository="tool")
    put(house, filled, filled.swr, "environment", value="prod", namespace="team")
    put(house, filled, filled.swr, "purpose", value="tests")

    assert facets(house, filled) == {
        "owner": {"payments": 2, "tooling": 1},
        "environment": {"prod": 2, "": 1},
    }
    assert facets(house, filled, "?namespace=team") == {
        "owner": {"payments": 1, "tooling": 1},
        "environment": {"prod": 2},
    }
    assert facets(house, filled, "?tag=b&label=owner%3Dpayments") == {
        "owner": {"payments": 1},
        "environment": {"": 1},
    }


def test_a_filter_means_the_label_that_counts(house, filled):
    put(house, filled, filled.swr, "owner", value="platform")
    put(house, filled, filled.swr, "owner", value="payments", namespace="team")
    put(house, filled, filled.swr, "environment", value="prod", namespace="team", repository="app")

    assert set(listed(house, filled, "owner=platform")) == {"b"}
    assert set(listed(house, filled, "owner=payments")) == {"a", "t"}
    assert set(listed(house, filled, "owner=payments", "environment=prod")) == {"a"}
    assert listed(house, filled, "owner=nobody") == {}
    _, _, counted = ask(house, filled, "/images/facets?label=owner%3Dpayments")
    assert counted["facets"]["total"] == 2


def test_a_label_is_replaced_taken_away_and_audited(house, filled):
    first = put(house, filled, filled.swr, "owner", value="one")[0]
    put(house, filled, filled.swr, "owner", value="two")
    _, _, body = ask(house, filled, "/labels")
    path = f"/registries/{filled.swr}/labels/owner"
    taken = ask(house, filled, path, method="DELETE")[0]
    again, _, refused = ask(house, filled, path, method="DELETE")

    assert (first, taken, again) == (204, 204, 404)
    assert [(one["key"], one["value"], one["namespace"]) for one in body["items"]] == [
        ("owner", "two", None)
    ]
    assert refused["error_code"] == "not_found"
    assert listed(house, filled)["a"] == {}
    query = "SELECT action FROM audit WHERE project_id = %s AND action LIKE 'label.%%' ORDER BY id"
    acts = [row[0] for row in filled.sql.execute(query, (filled.id,))]
    assert acts == ["label.set", "label.set", "label.remove"]


def test_a_page_with_other_labels_is_another_page(house, filled):
    _, headers, _ = ask(house, filled, "/images")
    put(house, filled, filled.swr, "owner", value="someone")

    status, _, _ = ask(house, filled, "/images", headers={"If-None-Match": headers["ETag"]})

    assert status == 200


@pytest.mark.parametrize(
    ("key", "body", "words"),
    [
        ("Owner", {"value": "x"}, "key: must be 1 to 63"),
        ("owner", {"value": ""}, "value: must be 1 to 255"),
        ("owner", {"value": "x" * 256}, "value: must be 1 to 255"),
        ("owner", {"value": "x", "repository": "app"}, "namespace: is needed beside repository"),
        ("owner", {"value": "x", "namespace": "n" * 256}, "namespace: must be at most 255"),
        ("owner", {}, "value"),
        ("owner", {"value": "x", "team": "y"}, "team"),
    ],
)
def test_what_is_no_label_is_refused_by_name(house, filled, key, body, words):
    status, _, refused = put(house, filled, filled.swr, key, **body)

    assert (status, refused["error_code"]) == (400, "invalid_parameter")
    assert words in refused["error_msg"]
    assert ask(house, filled, "/labels")[2]["items"] == []


def test_labels_of_another_tenant_are_out_of_sight_and_reach(house, filled):
    other = house.tenant()
    theirs = other.registry()
    put(house, other, theirs, "owner", value="them")

    assert ask(house, filled, "/labels")[2]["items"] == []
    assert put(house, filled, theirs, "owner", value="us")[0] == 404
    assert put(house, filled, uuid.uuid4(), "owner", value="us")[0] == 404
