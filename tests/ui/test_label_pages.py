"""The pages of labels: where they were put, what inherits them, and how they are changed."""

from __future__ import annotations

import re
import uuid

import pytest
from visitor import Visitor

from wharfinger.http.ui.labels import LEVELS
from wharfinger.http.ui.words import catalog

EVIL = "<script>alert(1)</script>"
PLACE = "/console/settings/labels"
EVERYTHING = {"Effect": "Allow", "Action": ["*:*:*"]}
UNKNOWN = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def labelled(tenant):
    """A registry of three repositories: labels on it, on a namespace, on one repository."""
    tenant.docker = str(tenant.registry("docker", "Other"))
    for namespace, name in (("team", "app"), ("team", "tool"), ("", "alone")):
        tenant.repository(tenant.docker, namespace, name)
    tenant.swr = str(tenant.registry("swr"))
    _label(tenant, None, None, "owner", "platform")
    _label(tenant, None, None, "environment", "live")
    _label(tenant, "team", None, "owner", "payments")
    _label(tenant, "team", "app", "owner", "shop")
    return tenant


def _label(tenant, namespace, repository, key, value):
    tenant.sql.execute(
        "INSERT INTO label (project_id, registry_id, namespace, repository, key, value)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (tenant.id, tenant.docker, namespace, repository, key, value),
    )


def stored(tenant):
    return tenant.sql.execute(
        "SELECT namespace, repository, key, value FROM label WHERE project_id = %s"
        " ORDER BY namespace NULLS FIRST, repository NULLS FIRST, key",
        (tenant.id,),
    ).fetchall()


def rows(answer) -> list[str]:
    """The rows of a page's table, as text without what can be done."""
    assert answer.status == 200, answer.page.text
    found = re.findall(r"<tr>(<th scope=\"row\">.*?)(?:<td><a class|</tr>)", answer.text, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in found]


ALL = [
    "docker a whole registry environment live",
    "docker a whole registry owner platform",
    "docker / team a namespace owner payments",
    "docker / team / app one repository owner shop",
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ALL),
        ("?text=OWNER", ALL[1:]),
        ("?text=owner%3Dpay", [ALL[2]]),
        ("?text=docker/team", ALL[2:]),
        ("?text=docker/team/app", [ALL[3]]),
        ("?text=nowhere", []),
        ("?registry_id={docker}&text=live", [ALL[0]]),
        ("?registry_id={swr}", []),
        (f"?registry_id={UNKNOWN}", []),
    ],
)
def test_labels_are_listed_where_they_were_put(visitor, labelled, query, expected):
    asked = query.format(docker=labelled.docker, swr=labelled.swr)

    assert rows(visitor.get(PLACE + asked)) == expected


def test_labels_are_turned_over_without_leaving_one_out(visitor, labelled, monkeypatch):
    monkeypatch.setattr("wharfinger.http.ui.labels._LABELS", 2)
    _label(labelled, "", None, "owner", "nobody")

    first = visitor.get(f"{PLACE}?text=docker")
    (further,) = [link for link in first.page.links if "after=" in link]
    second = visitor.get(further)
    (further,) = [link for link in second.page.links if "after=" in link]

    found = [*rows(first), *rows(second), *rows(visitor.get(further))]
    assert found == [*ALL[:2], "docker / (no namespace) a namespace owner nobody", *ALL[2:]]


def test_a_repository_shows_what_it_has_and_where_that_comes_from(visitor, labelled):
    answer = visitor.get(f"{PLACE}/repositories?registry_id={labelled.docker}")

    inherited = "environment=live inherited from the registry"
    assert rows(answer) == [
        f"team/app {inherited} owner=shop",
        f"team/tool {inherited} owner=payments inherited from the namespace",
        f"alone {inherited} owner=platform inherited from the registry",
    ]


def test_repositories_are_turned_over_and_without_a_registry_it_is_the_first(
    visitor, labelled, monkeypatch
):
    monkeypatch.setattr("wharfinger.http.ui.labels._REPOSITORIES", 2)

    first = visitor.get(f"{PLACE}/repositories")
    (further,) = [link for link in first.page.links if "after=" in link]

    found = [row.split()[0] for row in (*rows(first), *rows(visitor.get(further)))]
    assert found == ["team/app", "team/tool", "alone"]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"level": "registry"}, (None, None)),
        ({"level": "namespace", "namespace": "team"}, ("team", None)),
        ({"level": "namespace", "namespace": ""}, ("", None)),
        ({"level": "repository", "namespace": "team", "repository": "app"}, ("team", "app")),
        ({"level": "repository", "namespace": "", "repository": "alone"}, ("", "alone")),
        # What is filled in for another choice does not count.
        ({"level": "registry", "namespace": "team", "repository": "app"}, (None, None)),
    ],
)
def test_a_label_is_put_where_the_form_says(visitor, labelled, fields, place):
    labelled.sql.execute("DELETE FROM label WHERE project_id = %s", (labelled.id,))
    given = {"registry_id": labelled.docker, "key": "owner", "value": "we", **fields}

    answer = visitor.submit(visitor.get(f"{PLACE}/put"), "/put", **given)

    assert answer.status == 303, answer.page.text
    assert stored(labelled) == [(*place, "owner", "we")]
    assert "The label was put" in visitor.follow(answer).page.text


def test_a_label_is_changed_from_its_row(visitor, labelled):
    page = visitor.get(f"{PLACE}?text=docker/team/app").page
    (change,) = [link for link in page.links if "/labels/put?" in link]

    form = visitor.get(change)
    answer = visitor.submit(form, "/put", value="kitchen")

    assert form.page.form("/put").fields["value"] == "shop"
    assert answer.status == 303
    assert stored(labelled)[-1] == ("team", "app", "owner", "kitchen")
    assert len(stored(labelled)) == 4


def test_a_label_that_is_taken_away_lets_the_one_around_it_through(visitor, labelled):
    answer = visitor.submit(visitor.get(f"{PLACE}?text=docker/team/app"), "/remove")

    assert "The label was removed" in visitor.follow(answer).page.text
    assert len(stored(labelled)) == 3
    shown = rows(visitor.get(f"{PLACE}/repositories?registry_id={labelled.docker}"))
    assert shown[0].endswith("owner=payments inherited from the namespace")
    again = visitor.submit(visitor.get(f"{PLACE}?text=docker/team"), "/remove", key="purpose")
    assert again.status == 404
    assert len(stored(labelled)) == 3


def test_everything_that_is_done_is_in_the_audit(visitor, labelled):
    given = {"registry_id": labelled.docker, "level": "registry", "key": "team", "value": "we"}
    visitor.submit(visitor.get(f"{PLACE}/put"), "/put", **given)
    visitor.submit(visitor.get(f"{PLACE}?text=team%3Dwe"), "/remove")

    found = labelled.sql.execute(
        "SELECT action, target_name, source <> '', details ->> 'key' FROM audit"
        " WHERE project_id = %s AND action LIKE 'label.%%' ORDER BY id",
        (labelled.id,),
    ).fetchall()
    assert found == [(f"label.{one}", "docker", True, "team") for one in ("set", "remove")]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"key": "Owner"}, "key"),
        ({"key": ""}, "key"),
        ({"value": ""}, "value"),
        ({"value": "x" * 256}, "value"),
        ({"level": "galaxy"}, "level"),
        ({"level": "repository", "repository": ""}, "repository"),
        ({"level": "namespace", "namespace": "x" * 256}, "namespace"),
        ({"registry_id": ""}, "registry_id"),
        ({"registry_id": UNKNOWN}, "registry_id"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field_and_the_rest_stays_filled_in(
    visitor, labelled, fields, field
):
    before = stored(labelled)
    given = {"registry_id": labelled.docker, "level": "registry", "key": "team", "value": "we"}

    answer = visitor.submit(visitor.get(f"{PLACE}/put"), "/put", **(given | fields))

    assert answer.status == 400, answer.page.text
    assert f"{field}-wrong" in answer.page.ids
    form = answer.page.form("/put").fields
    assert form["key"] == (given | fields)["key"]
    assert form["value"] == (given | fields)["value"]
    assert stored(labelled) == before


def test_what_others_have_written_is_text(visitor, labelled):
    labelled.repository(labelled.docker, EVIL, EVIL)
    _label(labelled, EVIL, EVIL, "team", EVIL)

    pages = [
        visitor.get(f"{PLACE}?text=%3Cscript"),
        visitor.get(f"{PLACE}/repositories?registry_id={labelled.docker}"),
    ]
    (change,) = [link for link in pages[0].page.links if "/labels/put?" in link]

    assert visitor.get(change).page.form("/put").fields["value"] == EVIL
    for answer in (*pages, visitor.get(change)):
        assert answer.status == 200
        assert answer.page.inline == []
        assert EVIL not in answer.text
    assert all(EVIL in page.page.text for page in pages)


def test_whoever_may_only_look_is_offered_nothing_to_do(house, labelled, add_user):
    reader = Visitor(house.port)
    reader.sign_in(add_user("reader", {"Effect": "Allow", "Action": ["wharfinger:*:list"]}))

    page = reader.get(PLACE)

    found = [form.action for form in page.page.forms]
    assert found == ["/console/sign-out", PLACE]
    assert not any("/put" in link for link in page.page.links)
    assert rows(page) == ALL
    # Whoever may not list registries is told of no repository that has no label of its own.
    assert rows(reader.get(f"{PLACE}/repositories")) == []


def test_a_registry_that_is_not_ones_own_has_no_labels(house, labelled, add_user):
    labelled.sql.execute(
        "INSERT INTO enterprise_project (id, project_id, name) VALUES (%s, %s, 'm')",
        (enterprise_project := str(uuid.uuid4()), labelled.id),
    )
    labelled.sql.execute(
        "UPDATE registry SET enterprise_project_id = %s WHERE id = %s",
        (enterprise_project, labelled.docker),
    )
    before = stored(labelled)
    stranger, narrow = Visitor(house.port), Visitor(house.port)
    stranger.sign_in(house.tenant().token)
    narrow.sign_in(add_user("bob", EVERYTHING, every=False))
    given = {"registry_id": labelled.docker, "level": "registry", "key": "owner", "value": "we"}

    for visitor in (stranger, narrow):
        token = visitor.get("/console").page.form("/sign-out").fields
        assert rows(visitor.get(PLACE)) == []
        found = visitor.get(f"{PLACE}/repositories?registry_id={labelled.docker}")
        assert found.status == 404
        assert visitor.post(f"{PLACE}/put", token | given).status == 400
        assert visitor.post(f"{PLACE}/remove", token | given).status == 404
    assert stored(labelled) == before


def test_every_level_has_words():
    known = set(catalog("en"))

    assert {f"labels.level_{one}" for one in LEVELS} <= known
    assert {f"labels.inherited_{one}" for one in LEVELS if one != "repository"} <= known
