"""The pages of schedules: when registries are read, and who may say so."""

from __future__ import annotations

import uuid

import pytest
from visitor import Visitor

from wharfinger.domain.schedule import FULL_SYNCS
from wharfinger.http.ui.words import catalog

PLACE = "/console/settings/schedules"
EVERYTHING = {"Effect": "Allow", "Action": ["*:*:*"]}


@pytest.fixture
def scheduled(tenant):
    """A registry with a schedule of its own, and one without."""
    tenant.docker = str(tenant.registry("docker", "Other"))
    tenant.swr = str(tenant.registry("swr"))
    _set(tenant, next_at="2100-01-01T00:00:00Z")
    return tenant


def _set(tenant, cron="0 4 * * *", next_at=None):
    tenant.sql.execute(
        "INSERT INTO schedule (registry_id, project_id, cron, next_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (registry_id) DO UPDATE SET next_at = excluded.next_at",
        (tenant.docker, tenant.id, cron, next_at),
    )


def stored(tenant):
    return tenant.sql.execute(
        "SELECT cron, full_syncs, paused_at IS NOT NULL FROM schedule WHERE registry_id = %s",
        (tenant.docker,),
    ).fetchone()


def test_every_registry_has_its_time_and_the_rest_the_usual_one(visitor, scheduled):
    text = visitor.get(PLACE).page.text

    assert "docker 0 4 * * * 2100-01-01 00:00:00" in text
    assert "swr 0 1 * * *" in text
    assert "without a schedule of their own are read by: 0 1 * * *" in text
    assert "by the clock of UTC" in text
    assert "up to 10 minutes" in text
    assert "00:00:00 missed" not in text


def test_a_time_that_was_missed_is_marked(visitor, scheduled):
    _set(scheduled, next_at="2026-01-01T00:00:00Z")

    assert "2026-01-01 00:00:00 missed" in visitor.get(PLACE).page.text


def test_a_schedule_is_changed(visitor, scheduled):
    path = f"{PLACE}/{scheduled.docker}"
    form = visitor.get(path).page.form(path).fields
    assert (form["cron"], form["full_syncs"]) == ("0 4 * * *", "daily")

    answer = visitor.submit(visitor.get(path), path, cron="*/15  * * * *", full_syncs="never")

    assert stored(scheduled) == ("*/15 * * * *", "never", False)
    assert "docker */15 * * * *" in visitor.follow(answer).page.text
    assert scheduled.sql.execute(
        "SELECT target_name, source <> '', details ->> 'cron' FROM audit"
        " WHERE project_id = %s AND action = 'schedule.set'",
        (scheduled.id,),
    ).fetchall() == [("docker", True, "*/15  * * * *")]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "every day"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"cron": "0 1 30 2 *"}, "cron"),
        ({"cron": "0 1 * * *" + " *" * 600}, "cron"),
        ({"full_syncs": "sometimes"}, "full_syncs"),
    ],
)
def test_a_schedule_that_is_none_comes_back_with_its_field_and_what_would_be_one(
    visitor, scheduled, fields, field
):
    path = f"{PLACE}/{scheduled.docker}"

    answer = visitor.submit(visitor.get(path), path, **fields)

    assert answer.status == 400
    assert f"{field}-wrong" in answer.page.ids
    assert ("0 1 * * *" if field == "cron" else "daily or always or never") in answer.page.text
    typed = answer.page.form(path).fields
    assert fields.get("cron", typed["cron"]) == typed["cron"]
    assert stored(scheduled) == ("0 4 * * *", "daily", False)


def test_a_schedule_is_paused_and_resumed_where_its_button_is(visitor, scheduled):
    form = f"/{scheduled.docker}/schedule"

    for place, back in (
        (PLACE, PLACE),
        (f"/console/registries/{scheduled.docker}", f"/console/registries/{scheduled.docker}"),
    ):
        paused = visitor.submit(visitor.get(place), form)
        assert stored(scheduled)[2] is True
        assert paused.location == f"{back}?note=schedule_paused"
        assert "paused since" in visitor.follow(paused).page.text
        resumed = visitor.submit(visitor.get(place), form)
        assert stored(scheduled)[2] is False
        assert resumed.location == f"{back}?note=schedule_resumed"


def test_all_schedules_go_by_another_clock(visitor, scheduled):
    refused = visitor.submit(visitor.get(PLACE), "/time-zone", time_zone="Mars/Olympus")
    assert refused.status == 400
    assert "time_zone-wrong" in refused.page.ids
    assert refused.page.form("/time-zone").fields["time_zone"] == "Mars/Olympus"

    answer = visitor.submit(visitor.get(PLACE), "/time-zone", time_zone="Asia/Shanghai")

    assert "by the clock of Asia/Shanghai" in visitor.follow(answer).page.text
    query = "SELECT time_zone FROM project WHERE id = %s"
    assert scheduled.sql.execute(query, (scheduled.id,)).fetchone() == ("Asia/Shanghai",)
    query = "SELECT details FROM audit WHERE project_id = %s AND action = 'project.set'"
    (told,) = scheduled.sql.execute(query, (scheduled.id,)).fetchone()
    assert told["time_zone"] == "Asia/Shanghai"


def test_the_clock_of_all_registries_is_not_for_those_who_see_some(house, scheduled, add_user):
    narrow = Visitor(house.port)
    narrow.sign_in(add_user("bob", EVERYTHING, every=False))
    page = narrow.get(PLACE)
    token = page.page.form("/sign-out").fields

    answer = narrow.post(f"{PLACE}/time-zone", token | {"time_zone": "Asia/Shanghai"})

    assert answer.status == 403
    assert not any(form.action.endswith("/time-zone") for form in page.page.forms)
    query = "SELECT time_zone FROM project WHERE id = %s"
    assert scheduled.sql.execute(query, (scheduled.id,)).fetchone() == ("UTC",)


def test_whoever_may_only_look_is_offered_nothing_to_do(house, scheduled, add_user):
    reader = Visitor(house.port)
    reader.sign_in(add_user("reader", {"Effect": "Allow", "Action": ["wharfinger:*:list"]}))

    page = reader.get(PLACE).page

    assert [form.action for form in page.forms] == ["/console/sign-out"]
    assert not any("/schedules/" in link or "/registries" in link for link in page.links)
    assert "docker 0 4 * * *" in page.text


def test_a_registry_that_is_not_ones_own_has_no_schedule(house, scheduled, add_user):
    scheduled.sql.execute(
        "INSERT INTO enterprise_project (id, project_id, name) VALUES (%s, %s, 'm')",
        (enterprise_project := str(uuid.uuid4()), scheduled.id),
    )
    scheduled.sql.execute(
        "UPDATE registry SET enterprise_project_id = %s WHERE id = %s",
        (enterprise_project, scheduled.docker),
    )
    stranger, narrow = Visitor(house.port), Visitor(house.port)
    stranger.sign_in(house.tenant().token)
    narrow.sign_in(add_user("bob", EVERYTHING, every=False))

    for visitor in (stranger, narrow):
        token = visitor.get("/console").page.form("/sign-out").fields
        assert "docker" not in visitor.get(PLACE).text
        path = f"{PLACE}/{scheduled.docker}"
        assert visitor.get(path).status == 404
        assert visitor.post(path, token | {"cron": "@hourly"}).status == 404
    assert stored(scheduled)[0] == "0 4 * * *"


def test_every_way_of_reading_has_words():
    assert {f"schedules.full_{one}" for one in FULL_SYNCS} <= set(catalog("en"))
