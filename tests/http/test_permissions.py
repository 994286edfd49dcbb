"""Who may do what, route by route: the table in the docs is the test's list."""

import datetime as dt
import json
import re
from pathlib import Path

import pytest
from clients import call
from house import TASK_ID

from wharfinger.domain.policy import SYSTEM_POLICIES, may, read_policy
from wharfinger.http.app import create_app
from wharfinger.http.hss.not_offered import NOT_OFFERED

PAGE = (Path(__file__).parents[2] / "docs" / "identity.md").read_text("utf-8")
ROW = re.compile(r"^\| `(GET|POST|DELETE|PUT) (/\S+)` \| `(\w+:\w+:\w+)` \|", re.MULTILINE)
# The docs' table of operations: method, path below its API's prefix, action.
DOCUMENTED = [match.groups() for match in ROW.finditer(PAGE)]
# No permission is asked for: of nobody, or to learn about oneself.
# A registry's notifications bring a token of the registry's own, which opens nothing else.
OPEN = {
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/openapi.json",
    "/api/v1/projects/{project_id}/registries/{registry_id}/notifications",
}
HOUR = dt.timedelta(hours=1)


def routes():
    """Every route below a project that does something, with the action it asks for."""
    for route in create_app(None)._app.routes:
        # What the console's pages ask for is told in docs/console.md, and tested in tests/ui.
        for handler in () if route.path.startswith("/console") else route.route_handlers:
            if NOT_OFFERED in handler.opt:
                continue
            for method in handler.http_methods - {"OPTIONS"}:
                yield method, re.sub(r":str", "", route.path), handler.opt.get("action")


def test_every_route_asks_for_an_action_that_the_docs_name():
    expected = {
        (method, path, action)
        for method, path, action in routes()
        if path not in OPEN and not path.startswith("/v3")
    }

    assert all(action for _, _, action in expected)
    assert set(DOCUMENTED) == expected


@pytest.fixture
def user_token(house, tenant):
    """Make a user with one policy of the given statements; returns its token."""

    def make(*statements, version="1.1", name="alice"):
        principals, callers = house.principals, house.callers
        house.run(principals.create_user(tenant.id, name, kind="user", password_hash=None))
        document = json.dumps({"Version": version, "Statement": list(statements)})
        house.run(principals.create_policy(tenant.id, f"of {name}", read_policy(document)))
        house.run(principals.grant(tenant.id, name, f"of {name}", tenant.id))
        found = house.run(principals.find(account_id=tenant.id, name=name))
        return house.run(callers.issue_token(tenant.id, found.id, HOUR)).token

    return make


def send(house, tenant, method, path, token):
    ids = {"project_id": tenant.id, "task_id": TASK_ID, "image_id": "1"}
    unknown = "00000000-0000-0000-0000-000000000000"
    filled = re.sub(r"\{(\w+)\}", lambda m: ids.get(m[1], unknown), path)
    query = "?type=image_sync&image_type=private_image" if method == "GET" else ""
    body = b'{"all": true}' if path.startswith("/api") else b'{"image_type": "private_image"}'
    return call(
        house, filled + query, method=method, token=token, body=body if method == "POST" else None
    )


def is_open(status, body):
    """Whatever is wrong with the call, it is not that the caller may not."""
    return status < 500 and body.get("error_code") not in {"not_allowed", "HSS.0013"}


@pytest.mark.parametrize(("method", "path", "action"), DOCUMENTED)
def test_a_route_is_closed_without_its_action_and_opened_by_it(
    house, tenant, user_token, method, path, action
):
    everything_else = user_token(
        {"Effect": "Allow", "Action": ["*:*:*"]}, {"Effect": "Deny", "Action": [action]}
    )
    only_this = user_token({"Effect": "Allow", "Action": [action]}, name="bob")

    status, _, body = send(house, tenant, method, path, everything_else)
    opened, _, answer = send(house, tenant, method, path, only_this)

    expected = (403, "not_allowed") if path.startswith("/api") else (400, "HSS.0013")
    assert (status, body["error_code"]) == expected
    assert action in body["error_msg"]
    assert is_open(opened, answer), answer


def test_a_user_without_a_grant_may_nothing(house, tenant):
    house.run(house.principals.create_user(tenant.id, "eve", kind="user", password_hash=None))
    found = house.run(house.principals.find(account_id=tenant.id, name="eve"))
    token = house.run(house.callers.issue_token(tenant.id, found.id, HOUR)).token

    refused = {send(house, tenant, m, p, token)[0] for m, p, _ in DOCUMENTED}

    assert refused == {400, 403}
    assert house.synchroniser.asked == []


def test_an_account_may_everything(house, tenant):
    for method, path, _ in DOCUMENTED:
        status, _, body = send(house, tenant, method, path, tenant.token)
        assert is_open(status, body), body


def test_a_grant_counts_from_the_next_call_on(house, tenant, user_token):
    token = user_token({"Effect": "Allow", "Action": ["hss:imageTasks:list"]})
    path = f"/v5/{tenant.id}/image/registries"

    assert call(house, path, token=token)[0] == 400
    house.run(house.principals.grant(tenant.id, "alice", "read-only", None))
    assert call(house, path, token=token)[0] == 200
    house.run(house.principals.revoke(tenant.id, "alice", "read-only", None))
    assert call(house, path, token=token)[0] == 400


def test_a_grant_holds_in_its_project_only(house, tenant):
    other = house.run(house.callers.create_project("second", account_id=tenant.id))
    create = house.principals.create_user
    user_id = house.run(create(tenant.id, "alice", kind="user", password_hash=None))
    house.run(house.principals.grant(tenant.id, "alice", "read-only", other.id))
    tokens = {
        project: house.run(house.callers.issue_token(project, user_id, HOUR)).token
        for project in (tenant.id, other.id)
    }

    statuses = {
        project: call(house, f"/v5/{project}/image/registries", token=token)[0]
        for project, token in tokens.items()
    }

    assert statuses == {tenant.id: 400, other.id: 200}


def test_an_identity_policy_opens_what_the_cloud_asks_no_permission_for(house, tenant, user_token):
    unrelated = {"Effect": "Allow", "Action": ["ecs:servers:list"]}
    token = user_token(unrelated, version="5.0")
    older = user_token(unrelated, name="bob")

    assert call(house, f"/v5/{tenant.id}/image/registries", token=token)[0] == 200
    assert call(house, f"/v5/{tenant.id}/image/registries", token=older)[0] == 400
    assert call(house, f"/api/v1/projects/{tenant.id}/changes", token=token)[0] == 403


def test_a_policy_of_another_account_grants_nothing(house, tenant, user_token):
    user_token({"Effect": "Allow", "Action": ["*:*:*"]})
    other = house.tenant()
    house.run(house.principals.create_user(other.id, "eve", kind="user", password_hash=None))

    from wharfinger.domain.errors import NotFoundError

    with pytest.raises(NotFoundError, match="no policy 'of alice'"):
        house.run(house.principals.grant(other.id, "eve", "of alice", None))


def test_read_only_reads_everything_and_changes_nothing():
    held = [SYSTEM_POLICIES["read-only"]]

    for method, path, action in DOCUMENTED:
        assert may(held, action) is (method == "GET"), path
