"""Schedules over our own API."""

from __future__ import annotations

import json
import uuid

import pytest
from clients import call


def ask(house, tenant, path, **more):
    return call(house, f"/api/v1/projects/{tenant.id}{path}", token=tenant.token, **more)


def put(house, tenant, registry, **change):
    body = json.dumps(change).encode()
    return ask(house, tenant, f"/registries/{registry}/schedule", method="PUT", body=body)


def test_every_registry_has_a_schedule_from_the_beginning(house, tenant):
    registry = str(tenant.registry())

    _, _, body = ask(house, tenant, "/schedules")

    (found,) = body["items"]
    assert (found["registry_id"], found["cron"], found["full_syncs"]) == (
        registry,
        "0 1 * * *",
        "daily",
    )
    assert found["next_at"][11:15] in ("01:0", "01:1")
    assert body["next"] is None


def test_a_schedule_is_changed_paused_and_resumed_and_the_rest_stays(house, tenant):
    registry = tenant.registry()

    status, _, changed = put(house, tenant, registry, cron="30 4 * * sun", full_syncs="always")
    _, _, paused = put(house, tenant, registry, paused=True)
    _, _, resumed = put(house, tenant, registry, paused=False)

    assert status == 200
    assert changed["next_at"] is not None
    assert (paused["cron"], paused["full_syncs"], paused["next_at"]) == (
        "30 4 * * sun",
        "always",
        None,
    )
    assert resumed["next_at"] == changed["next_at"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cron": "0 1 * *"}, "cron: must be five fields"),
        ({"cron": "0 0 30 2 *"}, "cron: must be five fields"),
        ({"full_syncs": "weekly"}, "full_syncs: must be daily or always or never"),
        ({"paused": "yes"}, "paused: Expected `bool | null`, got `str`"),
        ({"corn": "0 1 * * *"}, "corn"),
    ],
)
def test_what_is_out_of_range_is_named_and_nothing_changes(house, tenant, change, words):
    registry = tenant.registry()

    status, _, refused = put(house, tenant, registry, **change)

    _, _, body = ask(house, tenant, "/schedules")
    assert (status, refused["error_code"]) == (400, "invalid_parameter")
    assert words in refused["error_msg"]
    assert body["items"][0]["cron"] == "0 1 * * *"


def test_a_registry_of_another_project_is_none(house, tenant):
    stranger = house.tenant().registry()

    theirs, _, _ = put(house, tenant, stranger, paused=True)
    nobodys, _, _ = put(house, tenant, uuid.uuid4(), paused=True)

    assert (theirs, nobodys) == (404, 404)
