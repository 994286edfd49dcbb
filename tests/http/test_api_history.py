"""Our own API over a real server: pages, the past, held images, errors of one shape."""

from __future__ import annotations

import json
import uuid
from urllib.parse import quote

import pytest
from clients import call

from rows import AT


@pytest.fixture
def listed(tenant):
    """Five images numbered one to five, of which the third moved (6) and the fifth went (7)."""
    tenant.registry_id = str(tenant.registry())
    repository = tenant.repository(tenant.registry_id)
    tenant.run_id = str(uuid.uuid4())
    tenant.images = [tenant.image(tenant.registry_id, repository, f"v{n}") for n in range(1, 6)]
    for seq, image in enumerate(tenant.images, 1):
        event(tenant, repository, seq, "added", image, None, f"d{seq}")
        version(tenant, image, seq, f"d{seq}")
    event(tenant, repository, 6, "moved", tenant.images[2], "d3", "d6")
    close(tenant, tenant.images[2], 6)
    version(tenant, tenant.images[2], 6, "d6")
    event(tenant, repository, 7, "retired", tenant.images[4], "d5", None)
    close(tenant, tenant.images[4], 7)
    tenant.sql.execute("UPDATE image SET retired_at = now() WHERE id = %s", (tenant.images[4],))
    tenant.sql.execute("UPDATE tenant_feed SET seq = 7 WHERE project_id = %s", (tenant.id,))
    return tenant


def event(tenant, repository, seq, kind, image, before, after):
    tenant.sql.execute(
        "INSERT INTO event (project_id, seq, kind, image_id, repository_id, registry_id, run_id,"
        " tag, digest_before, digest_after, at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, 't', %s, %s, %s + %s * interval '1 second')",
        (
            tenant.id,
            seq,
            kind,
            image,
            repository,
            tenant.registry_id,
            tenant.run_id,
            before,
            after,
            AT,
            seq - 100,
        ),
    )


def version(tenant, image, seq, digest):
    tenant.sql.execute(
        "INSERT INTO image_version (image_id, project_id, from_seq, digest, config_digest, size,"
        " updated_at, run_id) VALUES (%s, %s, %s, %s, 'c', 1, %s, %s)",
        (image, tenant.id, seq, digest, AT, tenant.run_id),
    )


def close(tenant, image, seq):
    tenant.sql.execute(
        "UPDATE image_version SET to_seq = %s WHERE image_id = %s AND to_seq IS NULL", (seq, image)
    )


def ask(house, tenant, path, **more):
    return call(house, f"/api/v1/projects/{tenant.id}{path}", token=tenant.token, **more)


def all_pages(house, tenant, path):
    found, after = [], ""
    while True:
        status, _, body = ask(house, tenant, f"{path}{after}")
        assert status == 200, body
        found += body["items"]
        if body["next"] is None:
            return found, body
        after = f"&after={quote(body['next'])}"


def test_changes_are_followed_page_by_page_to_the_newest_number(house, listed):
    found, last = all_pages(house, listed, "/changes?limit=3")

    assert [c["seq"] for c in found] == [1, 2, 3, 4, 5, 6, 7]
    assert (found[-1]["kind"], found[-1]["digest_after"]) == ("retired", None)
    assert found[5]["run_id"] == listed.run_id
    assert (last["as_of"], last["next"]) == (7, None)


def test_the_past_is_read_by_number_and_by_time(house, listed):
    by_number, body = all_pages(house, listed, "/images?limit=2&as_of=5")
    time = quote(body["at"])
    by_time, _ = all_pages(house, listed, f"/images?limit=2&at={time}")

    assert [i["digest"] for i in by_number] == ["d1", "d2", "d3", "d4", "d5"]
    assert by_time == by_number
    assert body["as_of"] == 5


def test_without_a_moment_the_list_is_the_current_one(house, listed):
    found, body = all_pages(house, listed, "/images?limit=3")

    assert [i["id"] for i in found] == listed.images[:4]
    assert (body["as_of"], body["verdict"]) == (7, "complete")
    assert found[0]["confirmed_at"].startswith("2026-11-24T01:02:03")


def test_the_life_of_an_image_names_its_digests_and_runs(house, listed):
    status, _, life = ask(house, listed, f"/images/{listed.images[2]}/history")

    assert status == 200
    assert [(v["digest"], v["how"], v["to_seq"]) for v in life["versions"]] == [
        ("d3", "added", 6),
        ("d6", "moved", None),
    ]
    assert {v["run_id"] for v in life["versions"]} == {listed.run_id}


def test_runs_are_shown_and_compared(house, listed):
    first, second = (run(listed, seq) for seq in (5, 7))

    runs, _ = all_pages(house, listed, "/runs?limit=1")
    status, _, one = ask(house, listed, f"/runs/{first}")
    changed, _ = all_pages(house, listed, f"/runs/{first}/diff/{second}?limit=1")

    assert (status, one["finished_seq"]) == (200, 5)
    assert {r["id"] for r in runs} == {first, second}
    assert [(c["change"], c["digest_before"], c["digest_after"]) for c in changed] == [
        ("moved", "d3", "d6"),
        ("retired", "d5", None),
    ]


def run(tenant, seq) -> str:
    row = tenant.sql.execute(
        "INSERT INTO run (project_id, registry_id, state, outcome, finished_seq, started_at,"
        " finished_at, requests) VALUES (%s, %s, 'finished', 'complete', %s, now(), now(), 12)"
        " RETURNING id",
        (tenant.id, tenant.registry_id, seq),
    ).fetchone()
    return str(row[0])


def test_a_registry_says_how_much_to_believe_and_what_to_do(house, listed):
    reasons = json.dumps([{"code": "forbidden", "message": "403", "repository": "team/app"}])
    listed.sql.execute(
        "UPDATE registry SET verdict = 'partial', verdict_reasons = %s WHERE id = %s",
        (reasons, listed.registry_id),
    )
    run(listed, 7)
    listed.registry("old", confirmed_at=AT.replace(year=2020), stale_after="1 day")

    _, _, body = ask(house, listed, "/registries")

    old, swr = body["items"]
    assert (old["verdict"], swr["verdict"], body["verdict"]) == ("stale", "partial", "partial")
    assert (swr["requests"], swr["seconds"]) == (12, 0)
    assert swr["reasons"][0]["repository"] == "team/app"
    assert "permission" in swr["reasons"][0]["advice"]


def test_repositories_have_a_verdict_each_with_advice_and_cost(house, listed):
    reason = json.dumps({"code": "forbidden", "message": "403", "repository": "team/two"})
    listed.repository(
        listed.registry_id,
        name="two",
        verdict="partial",
        verdict_reason=reason,
        requests=7,
        read_ms=1500,
    )
    path = f"/registries/{listed.registry_id}/repositories"

    every, _ = all_pages(house, listed, f"{path}?limit=1")
    _, _, partial = ask(house, listed, f"{path}?verdict=partial")

    assert [(r["name"], r["verdict"]) for r in every] == [("app", "complete"), ("two", "partial")]
    assert every[0]["confirmed_at"] == "2026-11-24T01:02:03.456789Z"
    (two,) = partial["items"]
    assert (two["requests"], two["seconds"]) == (7, 1.5)
    assert "permission" in two["reason"]["advice"]


def test_held_images_are_listed_and_accepted(house, listed):
    listed.sql.execute("UPDATE image SET held_at = now() WHERE id = ANY(%s)", (listed.images[:2],))
    path = f"/registries/{listed.registry_id}"

    held, _ = all_pages(house, listed, f"{path}/held?limit=1")
    one = {"images": [listed.images[0]]}
    status, _, answer = ask(
        house, listed, f"{path}/accept", method="POST", body=json.dumps(one).encode()
    )
    again, _, refusal = ask(
        house, listed, f"{path}/accept", method="POST", body=json.dumps(one).encode()
    )
    _, _, rest = ask(house, listed, f"{path}/accept", method="POST", body=b'{"all": true}')

    assert [h["id"] for h in held] == listed.images[:2]
    assert (status, answer) == (200, {"retired": 1})
    assert (again, refusal["error_code"]) == (404, "not_found")
    assert rest == {"retired": 1}
    found, _ = all_pages(house, listed, "/images?limit=9")
    assert [i["id"] for i in found] == listed.images[2:4]


@pytest.mark.parametrize(
    ("path", "status", "code", "word"),
    [
        ("/changes?after=8", 400, "invalid_parameter", "after"),
        ("/changes?after=-1", 400, "invalid_parameter", "after"),
        ("/changes?limit=0", 400, "invalid_parameter", "limit"),
        ("/changes?limit=1001", 400, "invalid_parameter", "1 to 1000"),
        ("/images?after=%21%21", 400, "invalid_parameter", "after"),
        ("/images?at=yesterday", 400, "invalid_parameter", "2026-11-01T00:00:00Z"),
        ("/images?at=2026-11-01T00:00:00", 400, "invalid_parameter", "offset"),
        ("/images?at=2999-01-01T00:00:00Z", 400, "invalid_parameter", "future"),
        ("/images?as_of=8", 400, "invalid_parameter", "as_of"),
        ("/images/0/history", 404, "not_found", "image_id"),
        ("/images/x/history", 404, "not_found", "image_id"),
        ("/runs/x", 404, "not_found", "run_id"),
        ("/runs/x/diff/y", 404, "not_found", "run_id"),
        ("/runs?registry_id=x", 400, "invalid_parameter", "registry_id"),
        ("/runs?after=MQ", 400, "invalid_parameter", "after"),
        ("/registries/x/held", 404, "not_found", "x"),
        ("/registries/x/repositories", 404, "not_found", "x"),
        ("/registries/x/repositories?verdict=good", 400, "invalid_parameter", "complete or"),
    ],
)
def test_bad_input_gets_an_error_that_names_it(house, listed, path, status, code, word):
    got, _, body = ask(house, listed, path)

    assert (got, body["error_code"]) == (status, code)
    assert word in body["error_msg"]
    assert body["request_id"]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"all": true, "images": [1]}',
        b"x",
        b'{"images": []}',
        b'{"images": [0]}',
        b'{"images": [9223372036854775808]}',
    ],
)
def test_an_acceptance_that_says_nothing_retires_nothing(house, listed, body):
    path = f"/registries/{listed.registry_id}/accept"

    status, _, refusal = ask(house, listed, path, method="POST", body=body)

    assert status == 400
    assert set(refusal) == {"error_code", "error_msg", "request_id"}


def test_what_is_forgotten_is_gone_and_not_empty(house, listed):
    listed.sql.execute(
        "UPDATE tenant_feed SET horizon_seq = 3, horizon_at = %s WHERE project_id = %s",
        (AT, listed.id),
    )

    for path in ("/changes?after=2", "/images?as_of=2", "/images?at=2020-01-01T00:00:00Z"):
        status, _, body = ask(house, listed, path)
        assert (status, body["error_code"]) == (410, "history_forgotten"), path


def test_another_tenant_learns_nothing(house, listed):
    stranger = house.tenant()

    status, _, body = call(house, f"/api/v1/projects/{listed.id}/changes", token=stranger.token)
    assert (status, body["error_code"]) == (403, "not_granted")
    assert call(house, f"/api/v1/projects/{listed.id}/changes")[0] == 401
    for path in (f"/images/{listed.images[0]}/history", f"/registries/{listed.registry_id}/held"):
        assert ask(house, stranger, path)[0] == 404
    assert all_pages(house, stranger, "/images?limit=9")[0] == []
