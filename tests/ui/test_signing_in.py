"""Who gets in, who does not, and what a session is worth."""

from __future__ import annotations

import time

import pytest
from visitor import PASSWORD, Visitor

from wharfinger.identity.authentication import token_digest

EVERYTHING = {"Effect": "Allow", "Action": ["*:*:*"]}
SESSION = "wharfinger_session"


def sign_in(visitor, **fields):
    return visitor.post("/console/sign-in", fields)


def audited(tenant, action):
    query = "SELECT outcome, details FROM audit WHERE project_id = %s AND action = %s"
    return tenant.sql.execute(query, (tenant.id, action)).fetchall()


def awaited(tenant, action):
    """Refusals are written a moment after the answer."""
    deadline = time.monotonic() + 20
    while not (found := audited(tenant, action)):
        assert time.monotonic() < deadline, f"no {action} in the audit"
        time.sleep(0.02)
    return found


# --- the ways in ----------------------------------------------------------------------------------


def test_a_password_opens_the_project_of_the_user(stranger, tenant, add_user):
    add_user("alice", EVERYTHING)

    answer = sign_in(stranger, way="password", account=tenant.id, user="alice", password=PASSWORD)

    assert answer.status == 303
    assert "alice" in stranger.follow(answer).page.text
    assert len(audited(tenant, "session.create")) == 1


def test_an_access_key_with_its_secret_opens_its_project(stranger, tenant):
    key = tenant.credential

    answer = sign_in(stranger, way="key", access_key=key.access_key, secret_key=key.secret_key)

    assert answer.status == 303
    assert key.access_key in stranger.follow(answer).page.text


def test_a_token_opens_its_project(stranger, tenant):
    assert "Overview" in stranger.sign_in(tenant.token).page.text


@pytest.mark.parametrize("way", ["password", "key", "token"])
def test_a_wrong_secret_is_refused_and_says_no_more(stranger, tenant, add_user, way):
    add_user("alice", EVERYTHING)
    wrong = {
        "password": {"account": tenant.id, "user": "alice", "password": "a guess"},
        "key": {"access_key": tenant.credential.access_key, "secret_key": "a guess"},
        "token": {"token": "a guess"},
    }[way]

    answer = sign_in(stranger, way=way, **wrong)

    assert answer.status == 401
    assert stranger.cookies == {}
    assert "a guess" not in answer.text
    assert answer.page.form("/sign-in")


def test_a_refused_password_is_audited_with_the_user(stranger, house, tenant, add_user):
    add_user("alice", EVERYTHING)

    sign_in(stranger, way="password", account=tenant.id, user="alice", password="a guess")

    assert awaited(tenant, "call.refuse")[0][0] == "login_refused"


@pytest.mark.parametrize("way", ["password", "key"])
def test_five_wrong_secrets_lock_towards_the_address(house, tenant, add_user, way):
    add_user("alice", EVERYTHING)
    key = tenant.credential
    wrong, right = {
        "password": (
            {"account": tenant.id, "user": "alice", "password": "a guess"},
            {"account": tenant.id, "user": "alice", "password": PASSWORD},
        ),
        "key": (
            {"access_key": key.access_key, "secret_key": "a guess"},
            {"access_key": key.access_key, "secret_key": key.secret_key},
        ),
    }[way]
    guesser, owner = Visitor(house.port), Visitor(house.port)
    fields = {"way": way}
    for _ in range(5):
        guesser.post("/console/sign-in", fields | wrong, X_Forwarded_For="203.0.113.9")

    locked = guesser.post("/console/sign-in", fields | right, X_Forwarded_For="203.0.113.9")
    elsewhere = owner.post("/console/sign-in", fields | right, X_Forwarded_For="203.0.113.10")

    assert (locked.status, elsewhere.status) == (401, 303)
    assert "five minutes" in locked.page.text


def test_guessing_costs_an_address_more_than_asking(house, stranger):
    before = house.throttle.addresses.per_minute
    house.throttle.addresses.per_minute = 50
    try:
        statuses = [sign_in(stranger, way="token", token="a guess").status for _ in range(6)]
    finally:
        house.throttle.addresses.per_minute = before

    assert statuses[0] == 401
    assert 429 in statuses


# --- what a session is ----------------------------------------------------------------------------


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(visitor):
    (cookie,) = [text for text in visitor.set_cookies if text.startswith(SESSION)]

    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    assert "secure" not in attributes


def test_over_tls_the_cookie_is_bound_to_the_host(house, tenant, stranger):
    fields = {"way": "token", "token": tenant.token}
    origin = stranger.origin.replace("http:", "https:")

    stranger.post("/console/sign-in", fields, X_Forwarded_Proto="https", Origin=origin)

    (cookie,) = stranger.set_cookies
    assert cookie.startswith("__Host-wharfinger=")
    assert "; Secure" in cookie
    assert "domain" not in cookie.lower()


def test_the_database_holds_the_digest_and_not_the_cookie(visitor, tenant):
    rows = tenant.sql.execute(
        "SELECT digest FROM session WHERE project_id = %s", (tenant.id,)
    ).fetchall()

    assert [bytes(row[0]) for row in rows] == [token_digest(visitor.cookies[SESSION])]


def test_a_session_that_somebody_planted_is_not_taken_over(house, tenant, stranger):
    stranger.cookies[SESSION] = "planted" * 6

    stranger.sign_in(tenant.token)

    assert stranger.cookies[SESSION] != "planted" * 6
    mallory = Visitor(house.port)
    mallory.cookies[SESSION] = "planted" * 6
    assert mallory.get("/console").status == 303


def test_signing_out_ends_the_session_and_not_the_token(house, visitor, tenant):
    kept = dict(visitor.cookies)

    answer = visitor.submit(visitor.get("/console"), "/sign-out")

    assert answer.status == 303
    assert SESSION not in visitor.cookies
    thief = Visitor(house.port)
    thief.cookies = kept
    assert thief.get("/console").location.startswith("/console/sign-in")
    assert Visitor(house.port).sign_in(tenant.token).status == 200
    assert len(audited(tenant, "session.end")) == 1


def test_a_session_ends_with_the_token_that_opened_it(house, visitor, tenant):
    known = house.run(house.callers.find_token(tenant.token))
    assert visitor.get("/console").status == 200

    house.run(house.callers.revoke_token(tenant.token, known))

    assert visitor.get("/console").status == 303


def test_a_session_ends_with_the_key_that_opened_it(house, stranger, tenant):
    key = tenant.credential
    sign_in(stranger, way="key", access_key=key.access_key, secret_key=key.secret_key)
    assert stranger.get("/console").status == 200

    house.run(house.callers.revoke_credential(tenant.id, key.access_key))

    assert stranger.get("/console").status == 303


@pytest.mark.parametrize("change", ["disabled_at = now()", "password_changed_at = now()"])
def test_a_session_ends_with_its_user_and_with_the_users_password(
    stranger, tenant, add_user, change
):
    add_user("alice", EVERYTHING)
    sign_in(stranger, way="password", account=tenant.id, user="alice", password=PASSWORD)
    assert stranger.get("/console").status == 200

    tenant.sql.execute(f"UPDATE principal SET {change} WHERE project_id = %s", (tenant.id,))

    assert stranger.get("/console").status == 303


def test_a_session_ends_by_itself(visitor, tenant):
    tenant.sql.execute("UPDATE session SET expires_at = now() WHERE project_id = %s", (tenant.id,))

    assert visitor.get("/console").status == 303


def test_a_session_lasts_no_longer_than_its_token(visitor, tenant):
    row = tenant.sql.execute(
        "SELECT s.expires_at <= t.expires_at FROM session s"
        " JOIN token t ON t.digest = s.token_digest WHERE s.project_id = %s",
        (tenant.id,),
    ).fetchone()

    assert row == (True,)


def test_a_session_opens_no_api(house, visitor, tenant):
    from clients import call

    status, _, _ = call(house, f"/v5/{tenant.id}/image/registries", token=visitor.cookies[SESSION])

    assert status == 401


# --- where signing in leads -----------------------------------------------------------------------


def test_whoever_is_not_signed_in_is_asked_to_and_comes_back(stranger, tenant):
    asked = stranger.get("/console/registries?note=x")

    assert asked.location == "/console/sign-in?next=/console/registries%3Fnote%3Dx"
    form = stranger.get(asked.location).page.form("/sign-in")
    answer = stranger.post(form.action, {"way": "token", "token": tenant.token})
    assert answer.location == "/console/registries?note=x"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "/console//evil.example",
        "/\\evil",
        "/v3",
        "/console/../v3",
        "/consoleevil",
        "javascript:alert(1)",
        "/console/sign-in",
    ],
)
def test_signing_in_leads_to_no_other_place(stranger, tenant, elsewhere):
    from urllib.parse import quote

    path = f"/console/sign-in?next={quote(elsewhere, safe='')}"

    answer = stranger.post(path, {"way": "token", "token": tenant.token})

    assert answer.location == "/console"


# --- other sites ----------------------------------------------------------------------------------


def test_a_form_without_the_sessions_own_token_is_refused(visitor, tenant):
    tenant.registry("docker", "Other")

    answers = [
        visitor.post("/console/registries/sync", fields)
        for fields in ({}, {"form_token": ""}, {"form_token": "0" * 64})
    ]

    assert [answer.status for answer in answers] == [403, 403, 403]
    assert "load the page again" in answers[0].page.text


def test_the_form_token_of_another_session_is_refused(house, visitor, tenant):
    other = Visitor(house.port)
    form = other.sign_in(tenant.token).page.form("/sign-out")

    assert visitor.post("/console/sign-out", form.fields).status == 403
    assert visitor.get("/console").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
    ],
)
def test_a_form_from_another_site_is_refused_even_with_the_token(visitor, headers):
    form = visitor.get("/console").page.form("/sign-out")

    assert visitor.post(form.action, form.fields, **headers).status == 403
    assert visitor.get("/console").status == 200


def test_another_site_cannot_sign_somebody_in(stranger, tenant):
    fields = {"way": "token", "token": tenant.token}

    answer = stranger.post("/console/sign-in", fields, Origin="https://evil.example")

    assert answer.status == 403
    assert stranger.cookies == {}
