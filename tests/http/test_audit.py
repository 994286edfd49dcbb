"""What a call leaves in the audit, whoever makes it, and how it is read back."""

from __future__ import annotations

import datetime as dt
import json
import re
import time
import uuid

import pytest
from clients import call, sdk_client
from psycopg import sql

from wharfinger.domain.model import ALL_GRANTED_ENTERPRISE_PROJECTS as ALL
from wharfinger.domain.model import Caller
from wharfinger.domain.policy import read_policy
from wharfinger.http.app import create_app
from wharfinger.http.hss.not_offered import NOT_OFFERED
from wharfinger.identity.passwords import hash_password
from wharfinger.service.enterprise_projects import EnterpriseProjects

HOUR = dt.timedelta(hours=1)
PASSWORD = "planted-password"
HASH = hash_password(PASSWORD)
AGENT = "test-agent/1.0"


@pytest.fixture
def house(house_with_tasks):
    yield house_with_tasks
    # What one test has used up is another's share.
    house_with_tasks.throttle.__init__()


@pytest.fixture
def tenant(house):
    """A tenant with a registry of its own, and a user who may do everything."""
    tenant = house.tenant()
    tenant.registry_id = str(tenant.registry("docker", "Other", stale_after="1 day"))
    tenant.registry("swr", "SwrPrivate")
    tenant.alice = add_user(house, tenant, "alice", {"Effect": "Allow", "Action": ["*:*:*"]})
    house.run(EnterpriseProjects(house.database).grant(account_of(tenant), ALL, "alice"))
    return tenant


def account_of(tenant):
    return Caller(
        project_id=tenant.id,
        project_name="",
        principal="test",
        account_id=tenant.id,
        sees_every_enterprise_project=True,
    )


def add_user(house, tenant, name, *statements):
    create = house.principals.create_user
    user_id = house.run(create(tenant.id, name, kind="user", password_hash=HASH))
    document = json.dumps({"Version": "1.1", "Statement": list(statements)})
    house.run(house.principals.create_policy(tenant.id, f"of {name}", read_policy(document)))
    house.run(house.principals.grant(tenant.id, name, f"of {name}", tenant.id))
    return house.run(house.callers.issue_token(tenant.id, user_id, HOUR)).token


def entries(tenant, where="true"):
    """The tenant's entries by SQL, oldest first."""
    rows = tenant.sql.execute(
        sql.SQL("SELECT to_jsonb(a) FROM audit a WHERE project_id = %s AND {} ORDER BY id").format(
            sql.SQL(where)
        ),
        (tenant.id,),
    ).fetchall()
    return [row[0] for row in rows]


def awaited(tenant, where, number=1):
    """Entries that are written a moment after the answer."""
    deadline = time.monotonic() + 20
    while len(found := entries(tenant, where)) < number:
        assert time.monotonic() < deadline, (where, entries(tenant))
        time.sleep(0.02)
    return found


def count_of(house, reason):
    query = "SELECT coalesce(sum(calls), 0) FROM refusal_count WHERE reason = %s"
    return house.sql.execute(query, (reason,)).fetchone()[0]


def send(house, path, **options):
    return call(house, path, headers={"User-Agent": AGENT}, **options)


# --- changes --------------------------------------------------------------------------------------


def changing_routes():
    for route in create_app(None)._app.routes:
        # What the console's forms leave is tested in tests/ui.
        for handler in () if route.path.startswith("/console") else route.route_handlers:
            if NOT_OFFERED in handler.opt:
                continue
            for method in handler.http_methods - {"OPTIONS", "GET", "HEAD"}:
                yield method, re.sub(r":str", "", route.path)


def post(house, path, token, body):
    return send(house, path, method="POST", token=token, body=json.dumps(body).encode())


def take_back(house, tenant):
    other = house.run(house.callers.create_token(tenant.id, HOUR))
    headers = {"X-Subject-Token": other, "User-Agent": AGENT}
    return call(house, "/v3/auth/tokens", method="DELETE", token=tenant.alice, headers=headers)


def log_in(house, tenant, password=PASSWORD, name="alice", **headers):
    user = {"name": name, "password": password, "domain": {"name": tenant.id}}
    auth = {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"id": tenant.id}},
    }
    body = json.dumps({"auth": auth}).encode()
    given = {"User-Agent": AGENT, **headers}
    return call(house, "/v3/auth/tokens", method="POST", body=body, headers=given)


def lend_a_key(house, tenant):
    identity = {"methods": ["token"], "token": {"duration_seconds": 900}}
    path = "/v3.0/OS-CREDENTIAL/securitytokens"
    return post(house, path, tenant.alice, {"auth": {"identity": identity}})


def synchronize(house, tenant):
    path = f"/v5/{tenant.id}/image/synchronize"
    return post(house, path, tenant.alice, {"image_type": "private_image"})


def synchronize_all(house, tenant):
    path = f"/v5/{tenant.id}/image/image-sync/tasks"
    return post(house, path, tenant.alice, {"sync_all_registries": True})


def accept(house, tenant):
    path = f"/api/v1/projects/{tenant.id}/registries/{tenant.registry_id}/accept"
    return post(house, path, tenant.alice, {"all": True})


def set_schedule(house, tenant):
    path = f"/api/v1/projects/{tenant.id}/registries/{tenant.registry_id}/schedule"
    body = b'{"cron": "@hourly"}'
    return send(house, path, method="PUT", token=tenant.alice, body=body)


def set_policy(house, tenant):
    path = f"/v5/{tenant.id}/image/scanner-policies"
    chosen = [{"registry_id": tenant.registry_id}]
    body = json.dumps({"enabled": True, "scan_cycle": 7, "registry_info": chosen}).encode()
    return send(house, path, method="PUT", token=tenant.alice, body=body)


def label_path(tenant):
    return f"/api/v1/projects/{tenant.id}/registries/{tenant.registry_id}/labels/team"


def put_label(house, tenant):
    body = b'{"value": "payments"}'
    return send(house, label_path(tenant), method="PUT", token=tenant.alice, body=body)


def remove_label(house, tenant):
    call(house, label_path(tenant), method="PUT", token=tenant.token, body=b'{"value": "x"}')
    # Not this entry: the one that tells of the removal.
    tenant.sql.execute("DELETE FROM audit WHERE action = 'label.set'")
    return send(house, label_path(tenant), method="DELETE", token=tenant.alice)


def add_registry(house, tenant):
    body = {
        "registry_name": "added",
        "registry_type": "Harbor",
        "registry_addr": "harbor.example",
        "registry_username": "robot",
        "registry_password": "planted-registry-password",
    }
    return post(house, f"/v5/{tenant.id}/image/registries", tenant.alice, body)


def update_registry(house, tenant):
    path = f"/v5/{tenant.id}/image/registries/{tenant.registry_id}"
    body = {"registry_username": "robot", "registry_password": "planted-registry-password"}
    return send(house, path, method="PUT", token=tenant.alice, body=json.dumps(body).encode())


def delete_registry(house, tenant):
    path = f"/v5/{tenant.id}/image/registries/{tenant.registry_id}"
    return send(house, path, method="DELETE", token=tenant.alice)


def delete_registries(house, tenant):
    path = f"/v5/{tenant.id}/image/registries/batch-delete"
    return post(house, path, tenant.alice, {"ids": [tenant.registry_id]})


def new_enterprise_project(house, tenant):
    name = uuid.uuid4().hex
    made = house.run(EnterpriseProjects(house.database).create(account_of(tenant), name))
    return f"/api/v1/projects/{tenant.id}/enterprise-projects/{made.id}"


def create_enterprise_project(house, tenant):
    path = f"/api/v1/projects/{tenant.id}/enterprise-projects"
    return post(house, path, tenant.alice, {"name": "web"})


def change_enterprise_project(house, tenant):
    path = new_enterprise_project(house, tenant)
    return send(house, path, method="PUT", token=tenant.alice, body=b'{"name": "shop"}')


def grant_enterprise_project(house, tenant):
    path = new_enterprise_project(house, tenant)
    return post(house, f"{path}/grants", tenant.alice, {"user": "alice"})


def revoke_enterprise_project(house, tenant):
    path = f"/api/v1/projects/{tenant.id}/enterprise-projects/{ALL}/grants/alice"
    return send(house, path, method="DELETE", token=tenant.alice)


# What changes something: the call that does it, and the entry it leaves.
def hooks(tenant, suffix=""):
    return f"/api/v1/projects/{tenant.id}/webhooks{suffix}"


def add_hook(house, tenant):
    body = b'{"name": "ours", "url": "https://hooks.example/x?key=planted"}'
    return send(house, hooks(tenant), method="POST", body=body, token=tenant.alice)


def on_a_hook(method, suffix="", body=None):
    """A call about a webhook that was there before."""

    def make(house, tenant):
        _, _, made = call(
            house,
            hooks(tenant),
            method="POST",
            token=tenant.token,
            body=json.dumps({"name": str(uuid.uuid4()), "url": "https://hooks.example/"}).encode(),
        )
        tenant.sql.execute("DELETE FROM audit WHERE action = 'webhook.add'")
        path = hooks(tenant, f"/{made['webhook']['id']}{suffix}")
        return send(house, path, method=method, token=tenant.alice, body=body)

    return make


HOOK = "/api/v1/projects/{project_id}/webhooks/{webhook_id}"
CHANGES = {
    ("POST", "/api/v1/projects/{project_id}/webhooks"): (add_hook, "webhook.add"),
    ("PUT", HOOK): (on_a_hook("PUT", body=b'{"batch": 2}'), "webhook.set"),
    ("DELETE", HOOK): (on_a_hook("DELETE"), "webhook.remove"),
    ("POST", f"{HOOK}/secret"): (on_a_hook("POST", "/secret", b"{}"), "webhook.rotate_secret"),
    ("POST", f"{HOOK}/test"): (on_a_hook("POST", "/test"), "webhook.test"),
    ("POST", f"{HOOK}/replay"): (
        on_a_hook("POST", "/replay", b'{"from_number": 1}'),
        "webhook.replay",
    ),
    ("POST", "/v5/{project_id}/image/synchronize"): (synchronize, "image.synchronize"),
    ("POST", "/v5/{project_id}/image/image-sync/tasks"): (synchronize_all, "image.synchronize"),
    ("POST", "/v5/{project_id}/image/registries"): (add_registry, "registry.add"),
    ("PUT", "/v5/{project_id}/image/registries/{registry_id}"): (update_registry, "registry.set"),
    (
        "DELETE",
        "/v5/{project_id}/image/registries/{registry_id}",
    ): (delete_registry, "registry.remove"),
    (
        "POST",
        "/v5/{project_id}/image/registries/batch-delete",
    ): (delete_registries, "registry.remove"),
    ("PUT", "/v5/{project_id}/image/scanner-policies"): (set_policy, "schedule.set"),
    ("POST", "/v3/auth/tokens"): (log_in, "token.create"),
    ("DELETE", "/v3/auth/tokens"): (take_back, "token.revoke"),
    ("POST", "/v3.0/OS-CREDENTIAL/securitytokens"): (lend_a_key, "credential.create_temporary"),
    (
        "POST",
        "/api/v1/projects/{project_id}/registries/{registry_id}/accept",
    ): (accept, "registry.accept"),
    (
        "PUT",
        "/api/v1/projects/{project_id}/registries/{registry_id}/schedule",
    ): (set_schedule, "schedule.set"),
    (
        "PUT",
        "/api/v1/projects/{project_id}/registries/{registry_id}/labels/{key}",
    ): (put_label, "label.set"),
    (
        "DELETE",
        "/api/v1/projects/{project_id}/registries/{registry_id}/labels/{key}",
    ): (remove_label, "label.remove"),
    (
        "POST",
        "/api/v1/projects/{project_id}/enterprise-projects",
    ): (create_enterprise_project, "enterprise_project.create"),
    (
        "PUT",
        "/api/v1/projects/{project_id}/enterprise-projects/{enterprise_project_id}",
    ): (change_enterprise_project, "enterprise_project.change"),
    (
        "POST",
        "/api/v1/projects/{project_id}/enterprise-projects/{enterprise_project_id}/grants",
    ): (grant_enterprise_project, "enterprise_project.grant"),
    (
        "DELETE",
        "/api/v1/projects/{project_id}/enterprise-projects/{enterprise_project_id}/grants/{user_name}",
    ): (revoke_enterprise_project, "enterprise_project.revoke"),
}
# Stores nothing, though it takes a POST.
LOOKING = {("POST", "/api/v1/projects/{project_id}/registries/{registry_id}/examination")}
# Counted, a minute at a time; see the test below.
COUNTED = {("POST", "/api/v1/projects/{project_id}/registries/{registry_id}/notifications")}


@pytest.mark.parametrize(("method", "path"), sorted(changing_routes()))
def test_every_changing_route_leaves_an_entry(house, tenant, method, path):
    if (method, path) in COUNTED | LOOKING:
        return
    assert (method, path) in CHANGES, "say here how this route is called, and what it leaves"
    make, action = CHANGES[method, path]

    status, headers, body = make(house, tenant)

    assert status < 300, body
    found = entries(tenant, "request_id <> ''")
    assert len(found) == 1, (action, entries(tenant))
    entry = found[0]
    assert (entry["action"], entry["kind"]) == (action, "change")
    assert entry["request_id"] == headers["X-Request-Id"]
    assert (entry["source"], entry["user_agent"]) == ("127.0.0.1", AGENT)
    assert entry["user_name"] == "alice"
    assert entry["principal"].startswith("user alice, ")
    assert entry["target"].split(" ")[1]


def test_reading_leaves_none(house, tenant):
    before = entries(tenant)

    for path in ("registries", "images", "changes", "runs", "audit"):
        assert send(house, f"/api/v1/projects/{tenant.id}/{path}", token=tenant.alice)[0] == 200
    assert send(house, f"/v5/{tenant.id}/image/registries/images", token=tenant.alice)[0] == 200
    assert send(house, "/v3/projects", token=tenant.alice)[0] == 200

    assert entries(tenant) == before


def test_a_signed_change_tells_the_access_key(house, tenant):
    from huaweicloudsdkhss.v5 import RunImageSynchronizeRequest, RunImageSynchronizeRequestInfo

    body = RunImageSynchronizeRequestInfo(image_type="private_image")
    request = RunImageSynchronizeRequest(region="cn-north-4", body=body)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        sdk_client(house, tenant).run_image_synchronize(request)

    (entry,) = entries(tenant, "action = 'image.synchronize'")
    assert entry["access_key"] == tenant.credential.access_key
    assert entry["details"]["kind"] == "SwrPrivate"
    assert entry["user_agent"].startswith("huaweicloud-usdk-python")


def test_a_change_that_is_undone_leaves_no_entry(house, tenant):
    before = entries(tenant)
    create = house.principals.create_user

    with pytest.raises(Exception, match="no policy"):
        house.run(
            create(tenant.id, "bob", kind="user", password_hash=None, grants=[unknown_grant()])
        )
    with pytest.raises(Exception, match="already"):
        house.run(create(tenant.id, "alice", kind="user", password_hash=None))

    assert entries(tenant) == before


def unknown_grant():
    from wharfinger.store.principals import Grant

    return Grant(policy="unknown", project=None)


def test_notifications_are_counted_by_the_minute(house, tenant):
    caller = Caller(project_id=tenant.id, project_name="", principal="test")
    made = house.run(house.hints.make_token(caller, "docker"))
    headers = {"Authorization": f"Bearer {made.token}"}

    for _ in range(3):
        answer = call(house, made.path, method="POST", body=b'{"events": []}', headers=headers)
        assert answer[0] == 200
    house.run(house.ledger.aclose())

    found = awaited(tenant, "action = 'registry.notify'")
    assert sum(entry["details"]["count"] for entry in found) == 3
    assert {entry["target"] for entry in found} == {f"registry {tenant.registry_id}"}


# --- refusals -------------------------------------------------------------------------------------


def test_what_a_known_caller_may_not_is_recorded_with_the_missing_action(house, tenant):
    eve = add_user(house, tenant, "eve", {"Effect": "Allow", "Action": ["hss:images:list"]})

    status, headers, body = post(
        house, f"/v5/{tenant.id}/image/synchronize", eve, {"image_type": "private_image"}
    )

    assert (status, body["error_code"]) == (400, "HSS.0013")
    (entry,) = awaited(tenant, "kind = 'refusal'")
    assert entry["request_id"] == headers["X-Request-Id"]
    assert (entry["user_name"], entry["outcome"]) == ("eve", "not_allowed")
    assert entry["details"] == {"action": "hss:images:synchronize"}
    assert entry["target"] == "route POST /v5/{project_id}/image/synchronize"
    assert (entry["source"], entry["user_agent"]) == ("127.0.0.1", AGENT)


def test_a_refusal_lies_with_the_caller_and_not_with_the_project_that_was_asked_for(house, tenant):
    other = house.tenant()

    for path in (f"/v5/{other.id}/image/registries", f"/api/v1/projects/{other.id}/audit"):
        send(house, path, token=tenant.token)

    found = awaited(tenant, "kind = 'refusal'", 2)
    assert {entry["outcome"] for entry in found} == {"not_granted"}
    assert entries(other, "kind = 'refusal'") == []


def test_an_enterprise_project_that_is_not_granted_is_recorded(house, tenant):
    query = "?enterprise_project_id=6b2f4f5e-0000-0000-0000-000000000000"

    status, _, _ = send(house, f"/v5/{tenant.id}/image/registries{query}", token=tenant.alice)

    assert status == 400
    (entry,) = awaited(tenant, "kind = 'refusal'")
    assert (entry["outcome"], entry["user_name"]) == ("not_granted", "alice")


def test_a_wrong_signature_by_a_known_key_is_told_to_its_owner(house, tenant):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
    from huaweicloudsdkhss.v5 import ListRegistryRequest

    thief = sdk_client(house, tenant, secret_key="planted-wrong-secret")
    with pytest.raises(ClientRequestException):
        thief.list_registry(ListRegistryRequest())

    (entry,) = awaited(tenant, "kind = 'refusal'")
    assert entry["outcome"] == "wrong_signature"
    assert entry["access_key"] == tenant.credential.access_key
    assert "planted" not in json.dumps(entry)


def test_a_wrong_password_is_told_to_the_users_account(house, tenant):
    status, _, _ = log_in(house, tenant, password="planted-wrong-password")

    assert status == 401
    (entry,) = awaited(tenant, "kind = 'refusal'")
    assert (entry["outcome"], entry["user_name"]) == ("login_refused", "alice")
    assert "planted" not in json.dumps(entry)


def test_a_token_that_has_ended_is_told_to_its_project(house, tenant):
    known = house.run(house.callers.find_token(tenant.alice))
    house.run(house.callers.revoke_token(tenant.alice, known))

    assert send(house, f"/v5/{tenant.id}/image/registries", token=tenant.alice)[0] == 401

    (entry,) = awaited(tenant, "kind = 'refusal'")
    assert (entry["outcome"], entry["user_name"]) == ("token_expired", "alice")


def test_a_scope_that_is_not_the_users_is_recorded(house, tenant):
    other = house.tenant()
    user = {"name": "alice", "password": PASSWORD, "domain": {"name": tenant.id}}
    identity = {"methods": ["password"], "password": {"user": user}}
    auth = {"identity": identity, "scope": {"project": {"id": other.id}}}

    assert post(house, "/v3/auth/tokens", None, {"auth": auth})[0] == 401

    (entry,) = awaited(tenant, "kind = 'refusal'")
    assert (entry["outcome"], entry["user_name"]) == ("scope_refused", "alice")


def test_asking_too_often_is_recorded_for_a_while_and_of_an_address_counted(house, tenant):
    path = f"/v5/{tenant.id}/image/registries"
    house.throttle.credentials.per_minute = 1
    answers = [send(house, path, token=tenant.alice)[0] for _ in range(3)]
    house.throttle.__init__()
    house.throttle.addresses.per_minute = 1
    before = count_of(house, "over_rate")
    strangers = [send(house, path)[0] for _ in range(4)]
    house.run(house.ledger.aclose())

    assert answers == [200, 429, 429]
    assert strangers == [401, 429, 429, 429]
    found = entries(tenant, "kind = 'refusal'")
    assert [(e["outcome"], e["user_name"]) for e in found] == [("over_rate", "alice")] * 2
    assert count_of(house, "over_rate") - before == 3


def test_reaching_for_anothers_token_is_recorded_though_it_is_answered_like_none(house, tenant):
    other = house.tenant()

    answers = {}
    for subject in ("unknown", other.token):
        headers = {"X-Subject-Token": subject, "User-Agent": AGENT}
        answers[subject] = call(
            house, "/v3/auth/tokens", method="DELETE", token=tenant.alice, headers=headers
        )

    (entry,) = awaited(tenant, "kind = 'refusal'")
    assert entry["request_id"] == answers[other.token][1]["X-Request-Id"]
    assert [status for status, _, _ in answers.values()] == [404, 404]
    assert (entry["outcome"], entry["user_name"]) == ("not_found", "alice")
    assert entries(other, "kind = 'refusal'") == []


def test_calls_of_nobody_we_know_are_counted_and_sampled_without_what_they_sent(house, tenant):
    before = {r: count_of(house, r) for r in ("unknown_token", "no_credentials", "login_refused")}
    path = f"/v5/{tenant.id}/image/registries"

    for _ in range(3):
        assert send(house, path, token="planted-unknown-token")[0] == 401
    assert send(house, path)[0] == 401
    assert log_in(house, tenant, password="planted", name="planted-name")[0] == 401
    house.run(house.ledger.aclose())

    after = {reason: count_of(house, reason) - was for reason, was in before.items()}
    assert after == {"unknown_token": 3, "no_credentials": 1, "login_refused": 1}
    kept = house.sql.execute(
        "SELECT (SELECT jsonb_agg(s) FROM refusal_sample s)::text"
        " || (SELECT jsonb_agg(c) FROM refusal_count c)::text"
    ).fetchone()[0]
    assert "/v5/{project_id}/image/registries" in kept
    assert "127.0.0.0/24" in kept
    assert "planted" not in kept
    assert tenant.id not in kept
    assert entries(tenant, "kind = 'refusal'") == []


def test_a_refusal_is_answered_the_same_and_kept_while_it_cannot_be_written(house_to_break):
    house, tenant = house_to_break, house_to_break.tenant()
    eve = add_user(house, tenant, "eve", {"Effect": "Deny", "Action": ["*:*:*"]})
    path = f"/v5/{tenant.id}/image/registries"
    expected = send(house, path, token=eve)[2]
    awaited(tenant, "kind = 'refusal'")

    house.sql.execute("ALTER TABLE audit RENAME TO away")
    answers = [send(house, path, token=eve) for _ in range(3)]
    # Long enough for the house to have tried to write them.
    time.sleep(0.5)
    house.sql.execute("ALTER TABLE away RENAME TO audit")

    assert [(status, body) for status, _, body in answers] == [(400, expected)] * 3
    found = awaited(tenant, "kind = 'refusal'", 4)
    assert {entry["request_id"] for entry in found[1:]} == {
        headers["X-Request-Id"] for _, headers, _ in answers
    }


# --- reading --------------------------------------------------------------------------------------


@pytest.fixture
def recorded(house, tenant):
    """A tenant with a few changes by two people, and a refusal."""
    eve = add_user(house, tenant, "eve", {"Effect": "Allow", "Action": ["hss:images:list"]})
    synchronize(house, tenant)
    synchronize_all(house, tenant)
    accept(house, tenant)
    send(house, f"/v5/{tenant.id}/image/registries", token=eve)
    awaited(tenant, "kind = 'refusal'")
    return tenant


def events(house, tenant, **wanted):
    from huaweicloudsdkhss.v5 import ListContainerImageLogsRequest

    return sdk_client(house, tenant).list_container_image_logs(
        ListContainerImageLogsRequest(**wanted)
    )


def test_the_sdk_reads_every_field_of_an_event(house, recorded):
    (row,) = entries(recorded, "action = 'registry.accept'")

    answer = events(house, recorded, event_name="registry.accept")

    assert answer.total_num == 1
    event = answer.data_list[0]
    at = dt.datetime.fromisoformat(row["at"])
    assert (event.event_id, event.event_name, event.event_type) == (
        str(row["id"]),
        "registry.accept",
        "change",
    )
    assert (event.resource_type, event.resource_name) == ("registry", "docker")
    assert (event.source_ip, event.user_name) == ("127.0.0.1", "alice")
    assert event.time == int(at.timestamp() * 1000)
    content = json.loads(event.content)
    assert content["request_id"] == row["request_id"]
    assert content["outcome"] == "done"
    assert content["details"]["retired"] == 0


@pytest.mark.parametrize(
    ("parameter", "value", "column"),
    [
        ("event_name", "image.synchronize", "action"),
        ("event_type", "refusal", "kind"),
        ("source_ip", "127.0.0.1", "source"),
        ("user_name", "alice", "user_name"),
        ("resource_name", "docker", "target_name"),
    ],
)
def test_each_parameter_of_the_sdk_chooses(house, recorded, parameter, value, column):
    chosen = [row for row in entries(recorded) if row[column] == value]

    answer = events(house, recorded, limit=200, **{parameter: value})

    assert 0 < len(chosen) < len(entries(recorded))
    assert answer.total_num == len(chosen)
    assert [e.event_id for e in answer.data_list] == [str(row["id"]) for row in chosen[::-1]]
    assert events(house, recorded, **{parameter: "nothing like it"}).total_num == 0


def test_the_type_of_the_resource_and_the_time_choose(house, recorded):
    times = [dt.datetime.fromisoformat(row["at"]).timestamp() * 1000 for row in entries(recorded)]
    middle = int(times[len(times) // 2])

    tasks = events(house, recorded, resource_type="task")
    early = events(house, recorded, end_time=middle).total_num
    late = events(house, recorded, start_time=middle + 1).total_num
    exactly = events(house, recorded, start_time=middle, end_time=middle).total_num

    assert tasks.total_num == 2
    assert early + late == len(times)
    assert 0 < exactly <= early < len(times)


def test_the_sdk_reads_page_by_page(house, recorded):
    newest_first = [str(row["id"]) for row in entries(recorded)][::-1]

    pages = [events(house, recorded, offset=at, limit=2) for at in range(0, 100, 2)]

    assert {page.total_num for page in pages} == {len(newest_first)}
    assert [event.event_id for page in pages for event in page.data_list] == newest_first


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("offset=-1", "offset"),
        ("offset=2000001", "offset"),
        ("start_time=yesterday", "start_time"),
        ("end_time=4070880000001", "end_time"),
        ("start_time=2&end_time=1", "end_time"),
        ("user_name=", "user_name"),
        ("source_ip=" + "1" * 65, "source_ip"),
        ("resource_name=" + "n" * 257, "resource_name"),
        ("resource_type=" + "n" * 65, "resource_type"),
        ("event_name=" + "n" * 129, "event_name"),
        ("event_type=a&event_type=b", "event_type"),
    ],
)
def test_a_parameter_out_of_its_range_is_named(house, tenant, query, named):
    status, _, body = send(
        house, f"/v5/{tenant.id}/container/image/events?{query}", token=tenant.alice
    )

    assert (status, body["error_code"]) == (400, "HSS.0001")
    assert body["error_msg"].startswith(f"{named}: ")


def test_our_own_api_reads_page_by_page_and_by_filter(house, recorded):
    rows = entries(recorded)
    path = f"/api/v1/projects/{recorded.id}/audit"

    found, after = [], ""
    while after is not None:
        _, _, page = send(house, f"{path}?limit=3{after}", token=recorded.alice)
        found += page["items"]
        after = page["next"] and f"&after={page['next']}"
    refused = rows[-1]
    chosen = {
        query: [
            item["id"] for item in send(house, f"{path}?{query}", token=recorded.alice)[2]["items"]
        ]
        for query in (
            "kind=refusal",
            "outcome=not_allowed",
            f"request_id={refused['request_id']}",
            "user=eve",
            f"since={refused['at'].replace('+', '%2B')}",
        )
    }

    assert [item["id"] for item in found] == [row["id"] for row in rows[::-1]]
    assert set(found[0]) == set(rows[0]) - {"project_id"}
    assert all(ids == [refused["id"]] for ids in chosen.values()), chosen
    status, _, body = send(house, f"{path}?kind=both", token=recorded.alice)
    assert (status, body["error_code"]) == (400, "invalid_parameter")


def test_another_tenants_entries_are_not_seen(house, recorded):
    other = house.tenant()
    synchronised = str(uuid.uuid4())
    other.sql.execute(
        "INSERT INTO audit (project_id, principal, action, target, outcome)"
        " VALUES (%s, 'p', %s, 't', 'done')",
        (other.id, synchronised),
    )

    assert events(house, recorded, event_name=synchronised).total_num == 0
    assert events(house, other, event_name=synchronised).total_num == 1


# --- secrets --------------------------------------------------------------------------------------


def test_no_secret_of_any_call_is_in_the_audit(house, tenant):
    secrets = {PASSWORD, tenant.token, tenant.alice, tenant.credential.secret_key}

    for make, _ in CHANGES.values():
        _, headers, body = make(house, tenant)
        secrets.add(headers.get("X-Subject-Token"))
        secrets |= set(re.findall(r'"(?:secret|securitytoken)": "([^"]+)"', json.dumps(body)))
    for _ in range(2):
        log_in(house, tenant, password="planted-wrong-password")
        send(house, f"/v5/{tenant.id}/image/registries", token="planted-unknown-token")
    awaited(tenant, "kind = 'refusal'", 2)
    house.run(house.ledger.aclose())

    kept = house.sql.execute(
        "SELECT (SELECT jsonb_agg(a) FROM audit a)::text"
        " || (SELECT jsonb_agg(s) FROM refusal_sample s)::text"
    ).fetchone()[0]
    assert len(secrets - {None}) == 9
    assert {secret for secret in secrets - {None} if secret in kept} == set()
    assert "planted" not in kept
