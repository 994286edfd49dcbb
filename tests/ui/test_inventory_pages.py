"""The pages of images, runs and changes: what they show, to whom, and what their addresses say."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
import uuid
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pyarrow.parquet as pq
import pytest
from visitor import Visitor

from rows import AT
from wharfinger.http.ui.changes import KINDS
from wharfinger.http.ui.images import FILTERS
from wharfinger.http.ui.runs import OUTCOMES
from wharfinger.http.ui.words import catalog
from wharfinger.service import history

EVIL = "<script>alert(1)</script>"
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def listed(tenant):
    """Three images, of which the second moved (4) and the third went (5), seen by two runs."""
    tenant.registry_id = str(tenant.registry("docker", "Other"))
    tenant.repository_id = tenant.repository(tenant.registry_id, "team", "app")
    tenant.runs = [_run(tenant, seq, hours=seq) for seq in (3, 5)]
    tenant.images = [
        tenant.image(tenant.registry_id, tenant.repository_id, tag, latest=tag == "v3")
        for tag in ("v1", "v2", "v3")
    ]
    one, two, three = tenant.images
    for seq, image in enumerate(tenant.images, 1):
        _event(tenant, seq, "added", image, None, f"d{seq}")
    _event(tenant, 4, "moved", two, "d2", "d4")
    _event(tenant, 5, "retired", three, "d3", None)
    _version(tenant, one, "d1", 1)
    _version(tenant, two, "d2", 2, 4)
    _version(tenant, two, "d4", 4)
    _version(tenant, three, "d3", 3, 5)
    tenant.sql.execute("UPDATE image SET retired_at = now() WHERE id = %s", (three,))
    tenant.sql.execute("UPDATE tenant_feed SET seq = 5 WHERE project_id = %s", (tenant.id,))
    return tenant


def _run(tenant, seq, *, hours, **columns) -> str:
    at = AT + dt.timedelta(hours=hours)
    given = {
        "id": str(uuid.uuid4()),
        "project_id": tenant.id,
        "registry_id": tenant.registry_id,
        "state": "finished",
        "outcome": "complete",
        "finished_seq": seq,
        "queued_at": at,
        "started_at": at + dt.timedelta(seconds=7),
        "finished_at": at + dt.timedelta(seconds=19),
    }
    return str(tenant._insert("run", given | columns))


def _event(tenant, seq, kind, image, before, after):
    tenant.sql.execute(
        "INSERT INTO event (project_id, seq, kind, image_id, repository_id, registry_id, run_id,"
        " tag, digest_before, digest_after, at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            tenant.id,
            seq,
            kind,
            image,
            tenant.repository_id,
            tenant.registry_id,
            tenant.runs[0 if seq < 4 else 1],
            f"v{tenant.images.index(image) + 1}",
            before,
            after,
            AT + dt.timedelta(days=seq - 100),
        ),
    )


def _version(tenant, image, digest, since, until=None):
    tenant.sql.execute(
        "INSERT INTO image_version (image_id, project_id, from_seq, to_seq, digest, config_digest,"
        " size, updated_at, run_id) VALUES (%s, %s, %s, %s, %s, 'c', 1, %s, %s)",
        (image, tenant.id, since, until, digest, AT, tenant.runs[0 if since < 4 else 1]),
    )


def shown(answer) -> list[str]:
    """The images of a page, by name."""
    assert answer.status == 200, answer.page.text
    return re.findall(r'href="/console/images/\d+"><code>([^<]*)</code>', answer.text)


# --- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        ("", ["v1", "v2"]),
        ("text=V2", ["v2"]),
        ("text=&registry=&kind=&latest=&at=", ["v1", "v2"]),
        ("registry=docker&kind=Other&namespace=team&name=ap&tag=v1", ["v1"]),
        ("tag=v9", []),
        ("signed=true", ["v1"]),
        ("signed=false", ["v2"]),
        ("has_sbom=true", []),
        ("label=owner%3Dpayments&label=", ["v1", "v2"]),
        ("label=owner%3Dothers", []),
        ("multi_arch=true", []),
    ],
)
def test_images_are_those_that_the_address_asks_for(visitor, listed, query, tags):
    _sign(listed)
    _label(listed, "owner", "payments")

    assert shown(visitor.get(f"/console/images?{query}")) == [f"team/app:{tag}" for tag in tags]


def _sign(tenant):
    tenant.sql.execute(
        "INSERT INTO attachment (project_id, registry_id, repository_id, subject, digest, kind,"
        " artifact_type) SELECT project_id, registry_id, repository_id, digest, %s, 'signature',"
        " 'application/x-signature' FROM image WHERE id = %s",
        (DIGEST, tenant.images[0]),
    )


def _label(tenant, key, value):
    tenant.sql.execute(
        "INSERT INTO label (project_id, registry_id, key, value) VALUES (%s, %s, %s, %s)",
        (tenant.id, tenant.registry_id, key, value),
    )


def _evil(tenant):
    registry_id = tenant.registry(EVIL, "Other")
    repository = tenant.repository(registry_id, EVIL, EVIL)
    return tenant.image(registry_id, repository, EVIL, digest=f"sha256:{EVIL}")


def test_filters_stand_in_the_form_and_go_on_to_the_next_page_and_into_exports(
    visitor, listed, monkeypatch
):
    monkeypatch.setattr("wharfinger.http.ui.images._IMAGES", 1)
    given = {"text": "v", "registry": "docker", "kind": "Other", "namespace": "team", "name": "a"}

    page = visitor.get(f"/console/images?{urlencode(given)}").page
    form = page.form("/console/images").fields
    following = [link for link in page.links if "after=" in link]
    exports = [link for link in page.links if "format=" in link]

    assert {name: form[name] for name in given} == given
    assert [shown(visitor.get(link)) for link in following] == [["team/app:v2"]]
    assert len(exports) == 4
    for link in [*following, *exports]:
        assert given.items() <= {n: v[0] for n, v in parse_qs(urlsplit(link).query).items()}.items()


def test_every_filter_that_is_handed_on_is_in_the_form(visitor, listed):
    page = visitor.get("/console/images?latest=true").page

    assert set(page.form("/console/images").fields) == set(FILTERS)


def test_the_list_as_of_a_time_goes_by_the_viewers_clock(visitor, listed):
    visitor.cookies["wharfinger_zone"] = "Asia/Shanghai"
    # Number 3 had just come to be, or 4 was just about to: no other clock shows 3 both times.
    first, last = AT + dt.timedelta(days=-97), AT + dt.timedelta(days=-96, seconds=-1)

    for moment in (first, last):
        then = moment + dt.timedelta(hours=8)
        local = visitor.get(f"/console/images?at={then:%Y-%m-%dT%H:%M:%S.%f}")
        exact = visitor.get("/console/images?at=" + quote(moment.isoformat()))

        assert shown(local) == shown(exact) == [f"team/app:v{n}" for n in (1, 2, 3)]
        assert "as of event 3" in local.page.text


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("at=2026-01-01T00:00&text=v1", "text is known of the current list only"),
        ("at=yesterday", "at must be a time"),
        ("at=2999-01-01T00:00", "at must not lie in the future"),
        ("latest=perhaps", "latest must be true or false"),
        ("label=nonsense", "label must be KEY=VALUE"),
        ("after=x", "after must be an integer"),
    ],
)
def test_what_cannot_be_asked_is_told_beside_the_form(visitor, listed, query, complaint):
    answer = visitor.get(f"/console/images?{query}")

    assert answer.status == 400
    assert complaint in answer.page.text.replace(":", "")
    assert answer.page.form("/console/images")


def test_matches_are_counted_when_asked_and_each_count_leads_to_its_images(visitor, listed):
    _label(listed, "owner", "payments")
    plain = visitor.get("/console/images")

    counted = visitor.get("/console/images?text=v&facets=true")

    assert "By namespace" not in plain.page.text
    assert "2 match" in counted.page.text
    narrowing = [link for link in counted.page.links if "facets=true" in link]
    assert {"namespace=team", "kind=Other", "label=owner%3Dpayments"} <= {
        part for link in narrowing for part in link.partition("?")[2].split("&")
    }
    assert all(len(shown(visitor.get(link))) == 2 for link in narrowing)


@pytest.mark.parametrize("form", ["csv", "ndjson", "cyclonedx", "parquet"])
@pytest.mark.parametrize("query", ["tag=v2", f"at={quote('2026-09-01T00:00:00+00:00')}"])
def test_an_export_is_the_one_of_the_api(house, visitor, listed, form, query):
    asked = f"{query}&format={form}"
    answer = visitor.get(f"/console/images/export?{asked}&text=")
    api = Visitor(house.port).get(
        f"/api/v1/projects/{listed.id}/images?{asked}", X_Auth_Token=listed.token
    )

    assert (answer.status, api.status) == (200, 200)
    assert answer.headers["Content-Type"] == api.headers["Content-Type"]
    assert answer.headers["Content-Disposition"] == api.headers["Content-Disposition"]
    assert _lasting(answer.body) == _lasting(api.body)


def test_an_export_of_the_past_does_not_ignore_what_it_cannot_ask(visitor, listed):
    answer = visitor.get("/console/images/export?at=2026-09-01T00:00&digest=d1")

    assert answer.status == 400
    assert "digest" in answer.page.text


def _lasting(body):
    """What is told of the images, without the time at which it was written."""
    if body.startswith(b"PAR1"):
        return pq.read_table(io.BytesIO(body)).to_pylist()
    return re.sub(rb'"(serialNumber|timestamp)": ?"[^"]*"', b"", body)


def test_an_image_shows_its_life_with_the_runs_that_saw_it(visitor, listed):
    answer = visitor.get(f"/console/images/{listed.images[1]}")

    life = re.findall(r"<strong>(\w+)</strong>", answer.text)
    assert life == ["moved", "added"]
    assert 'data-copy="d4"' in answer.text
    assert [f"/console/runs/{run}" in answer.page.links for run in listed.runs] == [True, True]
    gone = visitor.get(f"/console/images/{listed.images[2]}")
    assert re.findall(r"<strong>(\w+)</strong>", gone.text) == ["retired", "added"]


def test_an_image_shows_what_belongs_to_it(visitor, listed):
    _sign(listed)
    _label(listed, "owner", "payments")
    listed.sql.execute("UPDATE image SET is_index = true WHERE id = %s", (listed.images[0],))
    listed.sql.execute(
        "INSERT INTO platform (project_id, registry_id, index_digest, position, digest, os,"
        " architecture, variant, size, image_id) SELECT project_id, registry_id, digest, 0,"
        " 'sha256:c', 'linux', 'arm64', 'v8', 1, '' FROM image WHERE id = %s",
        (listed.images[0],),
    )

    page = visitor.get(f"/console/images/{listed.images[0]}").page.text
    row = visitor.get("/console/images?signed=true").page.text

    assert "signature" in page
    assert DIGEST in page
    assert "owner=payments" in page
    assert "linux/arm64/v8" in page
    assert "linux/arm64/v8" in row


# --- runs -----------------------------------------------------------------------------------------


def _run_links(answer):
    return [
        link for link in answer.page.links if re.fullmatch(r"/console/runs/[0-9a-f-]{36}", link)
    ]


def test_runs_are_filtered_by_registry_and_outcome_and_paged(visitor, listed, monkeypatch):
    monkeypatch.setattr("wharfinger.http.ui.runs._RUNS", 2)
    failed = _run(listed, 5, hours=9, outcome="failed")
    waiting = _run(listed, None, hours=10, state="queued", outcome=None, finished_at=None)
    newest_first = [f"/console/runs/{one}" for one in (waiting, failed, *reversed(listed.runs))]

    first = visitor.get(f"/console/runs?registry_id={listed.registry_id}&outcome=")
    following = next(link for link in first.page.links if "before=" in link)

    assert _run_links(first) == newest_first[:2]
    assert _run_links(visitor.get(following)) == newest_first[2:]
    assert _run_links(visitor.get("/console/runs?outcome=failed")) == newest_first[1:2]
    assert _run_links(visitor.get("/console/runs?outcome=queued")) == newest_first[:1]
    assert _run_links(visitor.get(f"/console/runs?registry_id={uuid.uuid4()}")) == []


def test_a_run_tells_its_course_and_what_to_do_about_what_failed(visitor, listed):
    reasons = [{"code": "forbidden", "message": f"403 {EVIL}", "repository": "team/secret"}]
    run = _run(listed, 5, hours=9, outcome="partial", reasons=json.dumps(reasons))

    answer = visitor.get(f"/console/runs/{run}")

    text = answer.page.text
    assert "after waiting 7.0 s" in text
    assert "read for 12.0 s" in text
    assert "team/secret" in text
    assert catalog("en")["reasons.forbidden_advice"] in text
    assert EVIL not in answer.text


def test_two_runs_are_compared_with_the_one_before_unless_another_is_named(visitor, listed):
    first, second = listed.runs
    third = _run(listed, 5, hours=9)

    unnamed = visitor.get(f"/console/runs/{third}/differences")
    form = unnamed.page.form("/differences")
    named = visitor.get(f"{form.action}?since={first}")

    assert "Nothing changed" in unnamed.page.text
    assert form.fields["since"] == second
    assert re.findall(r"<tr><td>(\w+)</td>", named.text) == ["moved", "retired"]
    assert "No run of this registry ended before it" in (
        visitor.get(f"/console/runs/{first}/differences").page.text
    )


def test_every_outcome_of_a_run_has_words(visitor):
    known = catalog("en")

    for outcome in (*OUTCOMES, "finished"):
        assert {f"registries.run_{outcome}", f"runs.meaning_{outcome}"} <= set(known)
    for kind in (*KINDS, "listed"):
        assert f"images.what_{kind}" in known


# --- changes --------------------------------------------------------------------------------------


def _numbers(answer):
    assert answer.status == 200, answer.page.text
    return [int(n) for n in re.findall(r'<tr><td class="number">(\d+)</td>', answer.text)]


def test_changes_are_numbered_newest_first_and_filtered(visitor, listed):
    assert _numbers(visitor.get("/console/changes")) == [5, 4, 3, 2, 1]
    assert _numbers(visitor.get("/console/changes?what=moved&registry_id=")) == [4]
    registry = f"registry_id={listed.registry_id}"
    assert _numbers(visitor.get(f"/console/changes?what=added&{registry}")) == [3, 2, 1]
    assert _numbers(visitor.get(f"/console/changes?registry_id={uuid.uuid4()}")) == []


def test_pages_of_changes_leave_no_number_out(visitor, listed, monkeypatch):
    monkeypatch.setattr("wharfinger.http.ui.changes._CHANGES", 2)

    assert _follow(visitor, "/console/changes") == [5, 4, 3, 2, 1]


def test_a_rare_kind_of_change_is_looked_for_part_by_part(visitor, listed, monkeypatch):
    monkeypatch.setattr(history, "LOOKED_THROUGH", 2)

    assert _numbers(visitor.get("/console/changes?what=added")) == []
    assert _follow(visitor, "/console/changes?what=added") == [3, 2, 1]


def _follow(visitor, path):
    found = []
    while path:
        answer = visitor.get(path)
        found += _numbers(answer)
        path = next((link for link in answer.page.links if "before=" in link), None)
    return found


def test_only_the_newest_page_of_changes_is_looked_at_again(visitor, listed):
    assert 'data-again="3"' in visitor.get("/console/changes").text
    assert "data-again" not in visitor.get("/console/changes?before=3").text


# --- all of them ----------------------------------------------------------------------------------


def test_names_that_a_registry_made_up_are_text(visitor, listed):
    image = _evil(listed)
    asked = urlencode({"text": "<script>", "name": '"><b>', "label": "owner='\"><b>"})

    answers = [
        visitor.get(path)
        for path in (
            "/console/images?facets=true",
            f"/console/images?{asked}",
            f"/console/images/{image}",
            "/console/runs",
            "/console/changes",
        )
    ]

    assert EVIL in answers[0].page.text
    assert EVIL in answers[2].page.text
    for answer in answers:
        assert answer.status == 200
        assert answer.page.inline == []
        assert EVIL not in answer.text
        assert "<b>" not in answer.text


def test_another_tenants_images_runs_and_changes_are_not_there(house, visitor, listed):
    stranger = Visitor(house.port)
    other = house.tenant()
    stranger.sign_in(other.token)

    for path in (f"images/{listed.images[0]}", *(f"runs/{run}" for run in listed.runs)):
        assert stranger.get(f"/console/{path}").status == 404
        assert visitor.get(f"/console/{path}").status == 200
    for path in ("images", "images/export?format=csv", "runs", "changes"):
        assert "team" not in stranger.get(f"/console/{path}").text
    assert stranger.get(f"/console/runs/{listed.runs[1]}/differences").status == 404


def test_an_enterprise_project_that_is_not_granted_has_no_images_runs_or_changes(
    house, listed, add_user
):
    listed.sql.execute(
        "INSERT INTO enterprise_project (id, project_id, name) VALUES ('marshes', %s, 'm')",
        (listed.id,),
    )
    listed.sql.execute(
        "UPDATE registry SET enterprise_project_id = 'marshes' WHERE id = %s",
        (listed.registry_id,),
    )
    token = add_user("bob", {"Effect": "Allow", "Action": ["*:*:*"]}, every=False)
    visitor = Visitor(house.port)
    visitor.sign_in(token)

    assert shown(visitor.get("/console/images")) == []
    assert "app" not in visitor.get("/console/images/export?format=csv").text
    assert _run_links(visitor.get("/console/runs")) == []
    assert _numbers(visitor.get("/console/changes")) == []
    assert visitor.get(f"/console/images/{listed.images[0]}").status == 404
    assert visitor.get(f"/console/runs/{listed.runs[0]}").status == 404
