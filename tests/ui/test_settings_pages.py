"""The pages of settings: users, keys, roles, enterprise projects, the audit, and oneself."""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
import pytest
from visitor import PASSWORD, Visitor

from wharfinger.domain.policy import SYSTEM_POLICIES, may
from wharfinger.http.app import create_app
from wharfinger.http.ui.audit import FILTERS
from wharfinger.http.ui.navigation import SETTINGS
from wharfinger.http.ui.roles import actions
from wharfinger.http.ui.words import catalog
from wharfinger.identity.passwords import hash_password

HOUR = dt.timedelta(hours=1)
HASH = hash_password(PASSWORD)
EVERYTHING = {"Effect": "Allow", "Action": ["*:*:*"]}
EVIL = "<script>alert(1)</script>"
ROOT = Path(__file__).parents[2]
USERS, KEYS = "/console/settings/users", "/console/settings/credentials"
PARTS = "/console/settings/enterprise-projects"


@pytest.fixture
def person(house, tenant):
    """Make a user with some system roles in a project, and sign it in there; returns a visitor."""

    def make(name, *roles, project=None, every=True, kind="user", password=HASH):
        here = project or tenant.id
        user_id = house.run(
            house.principals.create_user(tenant.id, name, kind=kind, password_hash=password)
        )
        for role in roles:
            house.run(house.principals.grant(tenant.id, name, role, here))
        if every:
            tenant.sql.execute(
                "INSERT INTO enterprise_project_grant VALUES (%s, %s, NULL)", (tenant.id, user_id)
            )
        visitor = Visitor(house.port)
        visitor.sign_in(house.run(house.callers.issue_token(here, user_id, HOUR)).token)
        return visitor

    return make


@pytest.fixture
def second(house, tenant) -> str:
    """Another project of the tenant's account."""
    return house.run(house.callers.create_project("second", account_id=tenant.id)).id


def send(visitor, path, fields=()) -> object:
    """Send a form that no page offers."""
    token = visitor.get("/console/look").page.form("/sign-out").fields
    return visitor.post(path, [*token.items(), *fields])


def roles_of(tenant, name) -> set[tuple]:
    rows = tenant.sql.execute(
        "SELECT g.policy, g.on_project_id FROM policy_grant g"
        " JOIN principal p ON p.id = g.principal_id WHERE p.project_id = %s AND p.name = %s",
        (tenant.id, name),
    )
    return set(rows.fetchall())


def principal(tenant, name) -> dict:
    row = tenant.sql.execute(
        "SELECT to_jsonb(p) FROM principal p WHERE project_id = %s AND name = %s",
        (tenant.id, name),
    ).fetchone()
    return row[0] if row else {}


def audited(tenant) -> list[dict]:
    rows = tenant.sql.execute(
        "SELECT to_jsonb(a) FROM audit a WHERE project_id = %s ORDER BY id", (tenant.id,)
    ).fetchall()
    return [row[0] for row in rows]


def entries(tenant, action) -> list[dict]:
    return [entry for entry in audited(tenant) if entry["action"] == action]


def awaited_refusals(tenant, count=1) -> list[dict]:
    """Refusals are written a moment after the answer."""
    deadline = time.monotonic() + 20
    while len(found := [e for e in audited(tenant) if e["kind"] == "refusal"]) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def secret_of(answer) -> str:
    """The one secret key that stands in an answer."""
    (found,) = set(re.findall(r"<code>([A-Za-z0-9]{40})</code>", answer.text))
    return found


def await_waiting(tenant, count) -> None:
    """Wait until so many transactions wait for a lock."""
    deadline = time.monotonic() + 20
    query = (
        "SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE a.datname = current_database() AND NOT l.granted"
    )
    while tenant.sql.execute(query).fetchone()[0] < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def signs_in(house, **fields) -> bool:
    return Visitor(house.port).post("/console/sign-in", fields).status == 303


# --- the way there --------------------------------------------------------------------------------


def test_settings_lead_to_what_the_viewer_may_open_and_to_nothing_else(visitor, person):
    reader = person("reader", "read-only")
    nobody = person("nobody")

    all_of_it = visitor.get("/console/settings").page
    some = reader.get("/console/settings").page
    none = nobody.get("/console/settings").page

    places = [place.path for place in SETTINGS]
    assert [link for link in all_of_it.links if link in places] == places
    assert [visitor.get(path).status for path in places] == [200] * len(places)
    assert f"{PARTS}" in some.links
    assert not {USERS, KEYS, "/console/settings/roles"} & set(some.links)
    assert [link for link in none.links if link in places] == []
    assert "nothing here that you may" in none.text
    assert "/console/settings" not in none.links
    assert "/console/settings" in some.links


# --- users ----------------------------------------------------------------------------------------


def test_a_user_is_added_and_signs_in(house, tenant, visitor):
    form = visitor.get(f"{USERS}/add").page.form("/users/add")
    fields = {**form.fields, "name": "alice", "role": "read-only", "password": PASSWORD}

    answer = visitor.post(f"{USERS}/add", fields)

    assert answer.location.startswith(f"{USERS}/alice")
    assert "The user was made" in visitor.follow(answer).page.text
    assert roles_of(tenant, "alice") == {("read-only", tenant.id)}
    (entry,) = entries(tenant, "user.create")
    assert entry["details"]["eps"] == ["0"]
    assert entry["target_name"] == "alice"
    assert PASSWORD not in json.dumps(audited(tenant))
    assert signs_in(house, way="password", account=tenant.id, user="alice", password=PASSWORD)
    assert "read-only" in visitor.get(USERS).page.text


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"name": ""}, "name: must be 1 to 64 characters"),
        ({"name": "-alice"}, "name: must be 1 to 64 letters"),
        ({"name": "taken"}, "name: the account has a user 'taken' already"),
        ({"name": "bob", "password": "short"}, "password: must be 8 to 128 characters"),
        ({"name": "bob", "role": "king"}, "role: there is no policy 'king'"),
        ({"name": "bob", "kind": "king"}, "kind: must be user or account"),
    ],
)
def test_what_is_wrong_with_a_user_is_said_beside_the_field(
    tenant, visitor, person, given, complaint
):
    person("taken")
    form = visitor.get(f"{USERS}/add").page.form("/users/add")

    answer = visitor.post(f"{USERS}/add", form.fields | {"role": "read-only"} | given)

    assert answer.status == 400
    assert complaint in answer.page.text
    assert answer.page.form("/users/add").fields["name"] == given["name"]
    assert "short" not in answer.text.replace("shorter", "")
    assert principal(tenant, "bob") == {}


def test_roles_are_given_and_taken_at_once_and_each_is_audited(tenant, visitor, person):
    person("alice", "read-only", "full-access")

    answer = send(visitor, f"{USERS}/alice/roles", [("role", "administrator")])

    assert answer.location == f"{USERS}/alice?note=user_roles"
    assert roles_of(tenant, "alice") == {("administrator", tenant.id)}
    told = [
        (e["action"], e["details"]["policy"])
        for e in audited(tenant)
        if e["action"] in ("user.grant", "user.revoke") and e["source"] == "127.0.0.1"
    ]
    assert told == [
        ("user.grant", "administrator"),
        ("user.revoke", "full-access"),
        ("user.revoke", "read-only"),
    ]


def test_a_closed_user_is_out_at_once_and_opened_again_may_sign_in(house, tenant, visitor, person):
    alice = person("alice", "read-only")
    door = {"way": "password", "account": tenant.id, "user": "alice", "password": PASSWORD}

    send(visitor, f"{USERS}/alice/disabled", [("disabled", "true")])
    shut = signs_in(house, **door), alice.get("/console").status
    page = visitor.get(f"{USERS}/alice").page
    send(visitor, f"{USERS}/alice/disabled", [("disabled", "false")])

    assert shut == (False, 303)
    assert "closed" in page.text
    assert page.form("/disabled").fields["disabled"] == "false"
    assert signs_in(house, **door)
    assert [len(entries(tenant, f"user.{what}")) for what in ("disable", "enable")] == [1, 1]


def test_another_password_ends_what_was_opened_with_the_old_one(house, tenant, visitor, person):
    alice = person("alice", "read-only")
    new = "another good password"

    answer = visitor.submit(visitor.get(f"{USERS}/alice"), "/password", password=new)
    short = visitor.submit(visitor.get(f"{USERS}/alice"), "/password", password="short")

    assert answer.location == f"{USERS}/alice?note=user_password"
    assert alice.get("/console").status == 303
    door = {"way": "password", "account": tenant.id, "user": "alice"}
    assert [signs_in(house, **door, password=one) for one in (PASSWORD, new)] == [False, True]
    assert (short.status, "8 to 128" in short.page.text) == (400, True)
    assert new not in json.dumps(audited(tenant))


def test_when_somebody_last_signed_in_is_shown(tenant, visitor, person):
    person("alice", "read-only")
    person("bob", "read-only")
    tenant.sql.execute(
        "DELETE FROM token t USING principal p WHERE p.id = t.principal_id AND p.name = 'bob'"
    )

    rows = re.findall(r"<tr>.*?</tr>", visitor.get(USERS).text, re.DOTALL)

    seen = {
        name: bool(re.search(r"<td>\d{4}-\d\d-\d\d [\d:]{8}</td></tr>", row))
        for row in rows
        for name in re.findall(r"users/(\w+)", row)
    }
    assert seen == {"alice": True, "bob": False}


# --- how far somebody reaches ---------------------------------------------------------------------

# What can be done about a user, and how each is asked.
TOUCHES = {
    "roles": (f"{USERS}/NAME/roles", [("role", "read-only")]),
    "password": (f"{USERS}/NAME/password", [("password", "stolen-password")]),
    "close": (f"{USERS}/NAME/disabled", [("disabled", "true")]),
    "open": (f"{USERS}/NAME/disabled", [("disabled", "false")]),
    "key": (KEYS, [("user", "NAME")]),
    "revoke": (f"{KEYS}/revoke", [("access_key", "KEY")]),
    "replace": (f"{KEYS}/replace", [("access_key", "KEY")]),
}


def touch(house, tenant, visitor, what, name, project):
    key = house.run(house.callers.create_credential(project, user_name=name)).access_key
    path, fields = TOUCHES[what]
    before = principal(tenant, name), roles_of(tenant, name), keys_of(tenant)
    filled = [(n, v.replace("NAME", name).replace("KEY", key)) for n, v in fields]
    answer = send(visitor, path.replace("NAME", quote(name)), filled)
    return answer, before == (principal(tenant, name), roles_of(tenant, name), keys_of(tenant))


def keys_of(tenant) -> list:
    return tenant.sql.execute(
        "SELECT c.access_key, c.revoked_at, c.expires_at FROM credential c ORDER BY 1"
    ).fetchall()


def test_an_administrator_of_one_project_sees_its_own_users_alone(person, second):
    here = person("here-admin", "administrator")
    person("here-reader", "read-only")
    person("there-reader", "read-only", project=second)

    listed = here.get(USERS)
    one = here.get(f"{USERS}/there-reader")
    none = here.get(f"{USERS}/nobody-at-all")
    offered = [here.get(path) for path in (KEYS, f"{PARTS}/0", "/console/me", f"{USERS}/add")]

    assert {"here-admin", "here-reader"} <= set(re.findall(r"[\w-]+", listed.page.text))
    assert not any("there-reader" in page.text for page in (listed, *offered))
    assert (one.status, none.status) == (404, 404)
    mask = re.compile(r"there-reader|nobody-at-all|[0-9a-f]{32}")
    assert mask.sub("", one.text) == mask.sub("", none.text)


@pytest.mark.parametrize("what", TOUCHES)
def test_an_administrator_of_one_project_touches_nobody_of_another(
    house, tenant, person, second, what
):
    here = person("here-admin", "administrator")
    person("there-reader", "read-only", project=second)

    answer, unchanged = touch(house, tenant, here, what, "there-reader", tenant.id)

    assert answer.status == 404
    assert unchanged


def test_a_grant_of_an_enterprise_project_reaches_nobody_of_another_project(person, tenant, second):
    here = person("here-admin", "administrator")
    person("there-reader", "read-only", project=second, every=False)

    given = send(here, f"{PARTS}/0/grants", [("user", "there-reader")])
    taken = send(here, f"{PARTS}/0/grants/revoke", [("user", "there-reader")])

    assert (given.status, taken.status) == (400, 404)
    assert entries(tenant, "enterprise_project.revoke") == []


@pytest.mark.parametrize("what", ["password", "close", "open"])
def test_who_is_of_two_projects_is_touched_by_neithers_administrator(
    house, tenant, person, second, what
):
    here = person("here-admin", "administrator")
    person("both", "read-only")
    house.run(house.principals.grant(tenant.id, "both", "read-only", second))

    answer, unchanged = touch(house, tenant, here, what, "both", tenant.id)
    page = here.get(f"{USERS}/both")

    assert answer.status == 403
    assert unchanged
    assert second not in page.text
    assert [form.action for form in page.page.forms if "both" in form.action] == [
        f"{USERS}/both/roles"
    ]


@pytest.mark.parametrize("what", TOUCHES)
@pytest.mark.parametrize(
    ("name", "kind", "roles"),
    [("boss", "account", ()), ("admin", "user", ("administrator",))],
)
def test_nobody_touches_whoever_may_do_more(
    house, tenant, person, add_user, what, name, kind, roles
):
    person(name, *roles, kind=kind)
    clerk = Visitor(house.port)
    clerk.sign_in(add_user("clerk", {"Effect": "Allow", "Action": ["iam:*:*", "hss:*:*"]}))

    answer, unchanged = touch(house, tenant, clerk, what, name, tenant.id)

    assert answer.status == 403
    assert unchanged
    (refusal,) = awaited_refusals(tenant)
    assert (refusal["outcome"], refusal["user_name"]) == ("not_granted", "clerk")


@pytest.mark.parametrize("role", ["administrator", "full-access", "read-only"])
def test_nobody_gives_a_role_that_allows_more_than_their_own(house, tenant, person, add_user, role):
    person("bob")
    clerk = Visitor(house.port)
    clerk.sign_in(
        add_user(
            "clerk",
            {"Effect": "Allow", "Action": ["*:*:*"]},
            {"Effect": "Deny", "Action": ["hss:images:synchronize"]},
        )
    )
    house.run(house.principals.grant(tenant.id, "bob", "of clerk", tenant.id))
    fields = [("role", role)]

    given = send(clerk, f"{USERS}/bob/roles", [*fields])
    made = send(clerk, f"{USERS}/add", [("name", "new"), *fields])
    offered = re.findall(r'name="role" value="([^"]+)"', clerk.get(f"{USERS}/add").text)

    # What reads alone speaks of nothing that the clerk is denied.
    allowed = role == "read-only"
    assert (given.status, made.status) == ((303, 303) if allowed else (403, 403))
    assert roles_of(tenant, "bob") == {(role if allowed else "of clerk", tenant.id)}
    assert bool(principal(tenant, "new")) is allowed
    assert sorted(offered) == ["of clerk", "read-only"]


def test_nobody_raises_themselves(tenant, person):
    admin = person("admin", "administrator")

    answers = [
        send(admin, f"{USERS}/admin/roles", [("role", "full-access")]),
        send(admin, f"{USERS}/admin/disabled", [("disabled", "true")]),
        send(admin, f"{USERS}/admin/password", [("password", "another-password")]),
        send(admin, f"{USERS}/add", [("name", "king"), ("kind", "account")]),
    ]

    assert [answer.status for answer in answers] == [400, 400, 400, 403]
    assert all("must not be yourself" in answer.page.text for answer in answers[:3])
    assert roles_of(tenant, "admin") == {("administrator", tenant.id)}
    assert principal(tenant, "king") == {}


def test_nobody_passes_on_an_enterprise_project_that_they_do_not_see(tenant, person, house):
    admin = person("admin", "administrator", every=False)

    for wanted in ("*", "6b2f4f5e-0000-0000-0000-000000000000"):
        fields = [("name", "new"), ("role", "read-only"), ("enterprise_project", wanted)]
        assert send(admin, f"{USERS}/add", fields).status == 403
    seen_by_more = person("wide", "read-only")
    answer, unchanged = touch(house, tenant, admin, "key", "wide", tenant.id)

    assert principal(tenant, "new") == {}
    assert (answer.status, unchanged) == (403, True)
    assert seen_by_more


def test_an_administrator_makes_no_user_that_they_would_not_see(tenant, person):
    admin = person("admin", "administrator")

    answer = send(admin, f"{USERS}/add", [("name", "lost")])

    assert answer.status == 400
    assert "role: must be chosen" in answer.page.text
    assert principal(tenant, "lost") == {}


# --- somebody is left -----------------------------------------------------------------------------


def test_the_last_administrator_is_neither_closed_nor_lowered(tenant, visitor, person):
    person("admin", "administrator")
    person("reader", "read-only")

    closed = send(visitor, f"{USERS}/admin/disabled", [("disabled", "true")])
    lowered = send(visitor, f"{USERS}/admin/roles", [("role", "read-only")])
    fewer = send(visitor, f"{USERS}/admin/roles", [("role", "read-only"), ("role", "full-access")])

    assert [answer.status for answer in (closed, lowered, fewer)] == [400, 400, 400]
    assert all("is the last administrator" in a.page.text for a in (closed, lowered, fewer))
    assert roles_of(tenant, "admin") == {("administrator", tenant.id)}
    assert principal(tenant, "admin")["disabled_at"] is None
    person("second", "administrator")
    assert send(visitor, f"{USERS}/admin/disabled", [("disabled", "true")]).status == 303


def test_two_administrators_who_close_each_other_at_once_leave_one(house, tenant, person):
    names = ["one", "two"]
    people = dict(zip(names, [person(name, "administrator") for name in names], strict=True))
    ready = {
        name: visitor.get("/console/look").page.form("/sign-out").fields
        for name, visitor in people.items()
    }

    def close(name):
        other = names[1 - names.index(name)]
        fields = ready[name] | {"disabled": "true"}
        return people[name].post(f"{USERS}/{other}/disabled", fields).status

    with ThreadPoolExecutor(2) as pool, psycopg.connect(house._address.owner) as other:
        # Neither can end before both have begun.
        other.execute("SELECT FROM wharfinger.principal FOR UPDATE")
        closing = [pool.submit(close, name) for name in names]
        await_waiting(tenant, 2)
        other.commit()
        statuses = [one.result(30) for one in closing]

    shut = [name for name in names if principal(tenant, name)["disabled_at"]]
    assert len(shut) == 1, statuses
    assert statuses.count(303) == 1


def test_the_only_way_in_of_the_last_administrator_stays(house, tenant, visitor, person):
    admin = person("admin", "administrator", password=None)
    key = house.run(house.callers.create_credential(tenant.id, user_name="admin")).access_key

    own = send(admin, "/console/me/keys/revoke", [("access_key", key)])
    by_account = send(visitor, f"{KEYS}/revoke", [("access_key", key)])
    house.run(house.callers.create_credential(tenant.id, user_name="admin"))
    with_another = send(admin, "/console/me/keys/revoke", [("access_key", key)])

    assert (own.status, by_account.status, with_another.status) == (400, 400, 303)
    assert "is the last administrator" in own.page.text


# --- access keys ----------------------------------------------------------------------------------


def test_a_secret_key_is_shown_in_the_answer_that_makes_it_and_nowhere_else(
    house, tenant, visitor, person, capsys
):
    person("alice", "read-only")
    form = visitor.get(f"{KEYS}?user=alice").page.form("/credentials").fields

    made = visitor.post(KEYS, form | {"days": "30"})

    secret = secret_of(made)
    (key,) = set(re.findall(r"AK[A-Z0-9]{18}", made.text))
    assert form["user"] == "alice"
    assert (made.status, made.headers["Cache-Control"]) == (200, "no-store")
    later = [visitor.get(path).text for path in (KEYS, f"{USERS}/alice", USERS, "/console")]
    assert key in later[0]
    assert key in later[1]
    assert not any(secret in page for page in later)
    assert secret not in json.dumps(audited(tenant))
    assert secret not in "".join(capsys.readouterr())
    (entry,) = [e for e in entries(tenant, "credential.create") if e["source"] == "127.0.0.1"]
    assert entry["target"] == f"credential {key}"
    assert entry["details"]["user"] == "alice"
    ends = dt.datetime.fromisoformat(entry["details"]["expires_at"])
    assert dt.timedelta(days=29) < ends - dt.datetime.now(dt.UTC) < dt.timedelta(days=31)
    assert signs_in(house, way="key", access_key=key, secret_key=secret)


def test_a_key_is_replaced_and_goes_on_for_a_day_beside_the_new_one(house, tenant, visitor, person):
    person("alice", "read-only")
    old = house.run(house.callers.create_credential(tenant.id, user_name="alice"))

    made = send(visitor, f"{KEYS}/replace", [("access_key", old.access_key)])

    (key,) = set(re.findall(r"AK[A-Z0-9]{18}", made.text))
    assert made.headers["Cache-Control"] == "no-store"
    assert signs_in(house, way="key", access_key=key, secret_key=secret_of(made))
    assert signs_in(house, way="key", access_key=old.access_key, secret_key=old.secret_key)
    (entry,) = entries(tenant, "credential.rotate")
    assert entry["details"]["replaced_by"] == key


def test_a_revoked_key_opens_nothing(house, tenant, visitor, person):
    person("alice", "read-only")
    old = house.run(house.callers.create_credential(tenant.id, user_name="alice"))

    answer = send(visitor, f"{KEYS}/revoke", [("access_key", old.access_key)])
    again = send(visitor, f"{KEYS}/revoke", [("access_key", old.access_key)])

    assert answer.location == f"{KEYS}?note=key_revoked"
    assert again.status == 404
    assert not signs_in(house, way="key", access_key=old.access_key, secret_key=old.secret_key)
    assert "revoked" in visitor.get(KEYS).page.text


def test_the_accounts_own_keys_are_the_accounts_alone(house, tenant, visitor, person):
    admin = person("admin", "administrator")
    own = tenant.credential.access_key

    assert own in visitor.get(KEYS).text
    assert own not in admin.get(KEYS).text
    assert send(admin, f"{KEYS}/revoke", [("access_key", own)]).status == 404
    assert send(admin, KEYS, [("user", "")]).status == 400
    made = send(visitor, KEYS, [("user", "")])
    (key,) = set(re.findall(r"AK[A-Z0-9]{18}", made.text))
    assert signs_in(house, way="key", access_key=key, secret_key=secret_of(made))


def test_anothers_key_cannot_be_told_from_none(house, visitor):
    other = house.tenant()

    theirs, none = (
        send(visitor, f"{KEYS}/{what}", [("access_key", key)])
        for what in ("revoke", "replace")
        for key in [other.credential.access_key]
    )

    assert (theirs.status, none.status) == (404, 404)
    assert house.run(house.callers.find_credential(other.credential.access_key)) is not None
    assert other.credential.access_key not in visitor.get(KEYS).text


@pytest.mark.parametrize(
    "days", ["0", "3651", "-1", "soon", "1.5", "9" * 30, "000000001" + "9" * 20]
)
def test_a_life_that_makes_no_sense_is_refused_by_name(tenant, visitor, days):
    before = keys_of(tenant)

    answer = send(visitor, KEYS, [("user", ""), ("days", days)])

    assert answer.status == 400
    assert "days: must be a whole number from 1 to 3650" in answer.page.text
    assert answer.page.form("/credentials").fields["days"] == days
    assert keys_of(tenant) == before


# --- roles ----------------------------------------------------------------------------------------


def test_roles_are_shown_as_they_are_weighed(visitor, add_user):
    add_user(
        "alice",
        {"Effect": "Allow", "Action": ["hss:*:*"]},
        {"Effect": "Deny", "Action": ["hss:*:list"]},
    )

    text = visitor.get("/console/settings/roles").text

    heads = re.findall(r'<th scope="col">([\w -]+)', text)[1:]
    assert heads == [*SYSTEM_POLICIES, "of alice "]
    rows = re.findall(r'<code class="quiet">([\w:]+)</code></th>(.*?)</tr>', text)
    known = actions(create_app(None)._app.routes)
    assert [action for action, _ in rows] == known
    for action, cells in rows:
        shown = re.findall(r">(yes|no)<", cells)
        expected = [may([policy], action) for policy in SYSTEM_POLICIES.values()]
        expected.append(action.startswith("hss:") and not action.endswith(":list"))
        assert shown == ["yes" if one else "no" for one in expected], action
    assert len(known) > 40


def test_every_action_is_said_in_words():
    known = {action.replace(":", "_") for action in actions(create_app(None)._app.routes)}

    said = {key.removeprefix("actions.") for key in catalog("en") if key.startswith("actions.")}
    assert said == known


# --- enterprise projects --------------------------------------------------------------------------


def test_an_enterprise_project_is_made_renamed_closed_and_granted(tenant, visitor, person):
    person("alice", "read-only", every=False)
    name = f"web {EVIL}"

    made = visitor.submit(visitor.get(PARTS), "/enterprise-projects", name=name)
    path = made.location.partition("?")[0]
    shown = visitor.get(path)
    renamed = visitor.post(path, shown.page.form(path).fields | {"name": "shop"})
    closed = send(visitor, path, [("disabled", "true")])
    granted = visitor.submit(visitor.get(path), "/grants", user="alice")
    after = visitor.get(path)
    taken = visitor.submit(after, "/grants/revoke")

    assert {a.status for a in (made, renamed, closed, granted, taken)} == {303}
    assert EVIL not in shown.text
    assert "shop" in after.page.text
    assert "disabled" in after.page.text
    assert "alice" in after.page.text
    assert "alice" in visitor.get(path).page.form("/grants").fields["user"]
    kinds = [entry["action"] for entry in audited(tenant) if "enterprise" in entry["action"]]
    assert [kind.partition(".")[2] for kind in kinds] == [
        "create",
        "change",
        "change",
        "grant",
        "revoke",
    ]


def test_a_taken_or_impossible_name_is_said_beside_the_field(visitor):
    page = visitor.get(PARTS)
    visitor.submit(page, "/enterprise-projects", name="web")

    taken = visitor.submit(page, "/enterprise-projects", name="web")
    blank = visitor.submit(page, "/enterprise-projects", name="  ")

    assert (taken.status, blank.status) == (400, 400)
    assert "has an enterprise project 'web' already" in taken.page.text
    assert "must be 1 to 64 printable characters" in blank.page.text


def test_what_is_not_granted_is_not_there_and_nothing_can_be_done_about_it(visitor, person):
    made = visitor.submit(visitor.get(PARTS), "/enterprise-projects", name="marshes")
    path = made.location.partition("?")[0]
    clerk = person("clerk", "administrator", every=False)
    unknown = f"{PARTS}/6b2f4f5e-0000-0000-0000-000000000000"

    for suffix in ("", "/grants", "/grants/revoke"):
        fields = [("name", "mine"), ("user", "clerk")]
        answers = [send(clerk, f"{one}{suffix}", fields).status for one in (path, unknown)]
        assert answers == [404, 404], suffix
    assert [clerk.get(one).status for one in (path, unknown)] == [404, 404]
    assert "marshes" not in clerk.get(PARTS).text


# --- the audit ------------------------------------------------------------------------------------


@pytest.fixture
def told(tenant):
    """Seven entries of known times, users and targets."""
    start = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    for n in range(7):
        tenant.sql.execute(
            "INSERT INTO audit (project_id, at, kind, principal, user_name, source, request_id,"
            " action, target, target_name, outcome, details)"
            " VALUES (%s, %s, %s, %s, %s, '10.0.0.9', %s, %s, %s, %s, 'done', %s)",
            (
                tenant.id,
                start + dt.timedelta(hours=n),
                "refusal" if n == 6 else "change",
                f"user {'eve' if n % 2 else 'ada'}, token",
                "eve" if n % 2 else "ada",
                f"request-{n}",
                "registry.set" if n < 3 else "label.set",
                f"registry {n}",
                f"name-{n}",
                json.dumps({"key": EVIL, "images": [n]}),
            ),
        )
    return tenant


def names(answer) -> list[int]:
    assert answer.status == 200, answer.page.text
    return [int(n) for n in re.findall(r"<strong>name-(\d)</strong>", answer.text)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("source=10.0.0.9", [6, 5, 4, 3, 2, 1, 0]),
        ("user=eve", [5, 3, 1]),
        ("action=registry.set&source=10.0.0.9", [2, 1, 0]),
        ("kind=refusal&source=10.0.0.9", [6]),
        ("target_name=name-4&user=", [4]),
        ("target_type=registry&since=2026-05-01T05:00&until=2026-05-01T06:00", [6, 5]),
        ("request_id=request-3", [3]),
        ("outcome=other", []),
    ],
)
def test_entries_are_those_that_the_address_asks_for(told, visitor, query, expected):
    answer = visitor.get(f"/console/settings/audit?{query}")

    assert names(answer) == expected
    assert EVIL not in answer.text


def test_the_audit_is_read_page_by_page_with_its_filters(told, visitor, monkeypatch):
    monkeypatch.setattr("wharfinger.http.ui.audit._ENTRIES", 3)
    path = "/console/settings/audit?" + urlencode({"source": "10.0.0.9", "since": "2026-05-01"})

    seen, following = [], path
    while following:
        answer = visitor.get(following)
        seen += names(answer)
        form = answer.page.form("/audit").fields
        assert form["source"] == "10.0.0.9"
        assert form["since"] == "2026-05-01T00:00:00"
        following = next((link for link in answer.page.links if "before=" in link), None)

    assert seen == [6, 5, 4, 3, 2, 1, 0]
    assert set(form) == set(FILTERS)


def test_times_in_the_audit_go_by_the_viewers_clock(told, visitor):
    visitor.cookies["wharfinger_zone"] = "Asia/Shanghai"

    answer = visitor.get("/console/settings/audit?source=10.0.0.9&until=2026-05-01T09:30")

    assert names(answer) == [1, 0]
    assert "2026-05-01 09:00:00" in answer.page.text


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("kind=both", "kind: must be change or refusal"),
        ("since=yesterday", "since: must be a time"),
        ("since=2026-05-02&until=2026-05-01", "until: must not lie before since"),
        ("before=x", "before: must be an integer"),
    ],
)
def test_what_cannot_be_asked_of_the_audit_is_told(visitor, query, complaint):
    answer = visitor.get(f"/console/settings/audit?{query}")

    assert answer.status == 400
    assert complaint in answer.page.text


def test_every_action_of_the_audit_is_said_in_words():
    page = (ROOT / "docs" / "audit.md").read_text("utf-8")
    table = page.partition("## What is recorded")[2].partition("## Reading it")[0]
    # What is logged, and no entry.
    documented = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", table)) - {"audit.waits", "audit.lost"}

    said = {
        key.removeprefix("audit.action_").replace("__", ".")
        for key in catalog("en")
        if key.startswith("audit.action_")
    }
    assert documented | {"session.create", "session.end"} == said, documented ^ said


# --- oneself --------------------------------------------------------------------------------------


def test_whoever_is_signed_in_sees_what_they_may_do(visitor, person):
    nobody = person("nobody", every=False)
    reader = person("reader", "read-only")

    pages = [one.get("/console/me") for one in (visitor, nobody, reader)]

    assert [page.status for page in pages] == [200, 200, 200]
    assert "the account itself" in pages[0].page.text
    assert "none" in pages[1].page.text
    assert "read-only" in pages[2].page.text
    assert all("/console/me" in page.page.links for page in pages)


def test_a_key_of_ones_own_takes_the_password_again(house, tenant, person):
    alice = person("alice", "read-only")
    page = alice.get("/console/me")

    wrong = alice.submit(page, "/me/keys", current="not-my-password", days="9")
    before = keys_of(tenant)
    made = alice.submit(page, "/me/keys", current=PASSWORD, days="9")

    (key,) = set(re.findall(r"AK[A-Z0-9]{18}", made.text))
    assert (wrong.status, "The username or password is wrong" in wrong.page.text) == (400, True)
    assert wrong.page.form("/me/keys").fields["days"] == "9"
    assert "not-my-password" not in wrong.text
    assert len(keys_of(tenant)) == len(before) + 1
    assert signs_in(house, way="key", access_key=key, secret_key=secret_of(made))
    assert made.headers["Cache-Control"] == "no-store"
    (refusal,) = awaited_refusals(tenant)
    assert (refusal["outcome"], refusal["user_name"]) == ("login_refused", "alice")
    assert key in alice.get("/console/me").text
    assert alice.submit(alice.get("/console/me"), "/me/keys/revoke").status == 303
    assert not signs_in(house, way="key", access_key=key, secret_key=secret_of(made))


def test_ones_own_password_is_changed_and_every_session_ends(house, tenant, person):
    alice = person("alice", "read-only")
    page = alice.get("/console/me")
    new = "another good password"

    refused = [
        alice.submit(page, "/me/password", current=current, password=one, password_again=two)
        for current, one, two in [
            ("not-my-password", new, new),
            (PASSWORD, new, "something else"),
            (PASSWORD, "short", "short"),
        ]
    ]
    changed = alice.submit(page, "/me/password", current=PASSWORD, password=new, password_again=new)

    assert [answer.status for answer in refused] == [400, 400, 400]
    assert "must be the same as the new password" in refused[1].page.text
    assert "8 to 128" in refused[2].page.text
    assert changed.location == "/console/sign-in"
    assert alice.get("/console/me").status == 303
    door = {"way": "password", "account": tenant.id, "user": "alice"}
    assert [signs_in(house, **door, password=one) for one in (PASSWORD, new)] == [False, True]
    assert not {PASSWORD, new} & set(re.findall(r'"([^"]*)"', json.dumps(audited(tenant))))


def test_guessing_ones_own_password_locks_as_at_the_door(tenant, person):
    alice = person("alice", "read-only")
    page = alice.get("/console/me")

    answers = [alice.submit(page, "/me/keys", current=f"guess-number-{n}") for n in range(5)]
    right = alice.submit(page, "/me/keys", current=PASSWORD)

    assert [answer.status for answer in answers] == [400] * 5
    assert right.status == 400
    assert "too many wrong passwords" in right.page.text


def test_anothers_key_is_not_ones_own_to_end(house, tenant, person):
    alice = person("alice", "administrator")
    person("bob", "read-only")
    key = house.run(house.callers.create_credential(tenant.id, user_name="bob")).access_key

    for theirs in (key, tenant.credential.access_key, "AKNONE"):
        assert send(alice, "/console/me/keys/revoke", [("access_key", theirs)]).status == 404
    assert house.run(house.callers.find_credential(key)) is not None


def test_an_account_has_no_key_or_password_of_its_own(visitor, tenant):
    before = keys_of(tenant)

    answers = [
        send(visitor, "/console/me/keys", [("current", PASSWORD)]),
        send(
            visitor,
            "/console/me/password",
            [("current", ""), ("password", PASSWORD), ("password_again", PASSWORD)],
        ),
    ]

    assert [answer.status for answer in answers] == [400, 400]
    assert keys_of(tenant) == before
