"""Enterprise projects over both APIs: made, granted, seen, refused."""

import datetime as dt
import json

import pytest
from clients import call

HOUR = dt.timedelta(hours=1)
UNKNOWN = "6f9d6c1e-0000-4000-8000-000000000000"


@pytest.fixture
def api(house, tenant):
    """Call our own API's enterprise projects as somebody; the account by default."""

    def send(method, path="", body=None, token=None):
        answer = call(
            house,
            f"/api/v1/projects/{tenant.id}/enterprise-projects{path}",
            method=method,
            token=token or tenant.token,
            body=None if body is None else json.dumps(body).encode(),
        )
        return answer[0], answer[2]

    return send


@pytest.fixture
def web(api):
    """One called web; its id."""
    return api("POST", body={"name": "web"})[1]["id"]


@pytest.fixture
def user(house, tenant):
    """Make a user with a policy in the project; its token."""

    def make(name="alice", policy="full-access"):
        principals = house.principals
        house.run(principals.create_user(tenant.id, name, kind="user", password_hash=None))
        house.run(principals.grant(tenant.id, name, policy, None))
        found = house.run(principals.find(account_id=tenant.id, name=name))
        return house.run(house.callers.issue_token(tenant.id, found.id, HOUR)).token

    return make


@pytest.fixture
def seen(house, tenant):
    """The names of the registries that a token sees on HSS, or the error."""

    def ask(token, asked_for=None):
        query = "" if asked_for is None else f"?enterprise_project_id={asked_for}"
        _, _, body = call(house, f"/v5/{tenant.id}/image/registries{query}", token=token)
        if "error_code" in body:
            return body["error_code"]
        return [registry["registry_name"] for registry in body["data_list"]]

    return ask


def names(body):
    return [item["name"] for item in body["items"]]


def test_one_is_made_listed_renamed_and_disabled(api, web):
    assert api("GET")[1]["items"][0] == {
        "id": "0",
        "name": "default",
        "disabled": False,
        "created_at": None,
    }
    assert api("PUT", f"/{web}", {"name": "shop", "disabled": True})[0] == 200

    items = api("GET")[1]["items"]

    assert [(one["id"], one["name"], one["disabled"]) for one in items[1:]] == [(web, "shop", True)]
    assert api("PUT", f"/{web}", {"disabled": False})[1]["disabled"] is False


def test_a_name_belongs_to_one_of_an_account(house, api, web):
    assert api("POST", body={"name": "web"})[0] == 409
    other = api("POST", body={"name": "other"})[1]["id"]
    assert api("PUT", f"/{other}", {"name": "web"})[0] == 409

    another = house.tenant()
    path = f"/api/v1/projects/{another.id}/enterprise-projects"
    made = call(house, path, method="POST", token=another.token, body=b'{"name": "web"}')
    assert made[0] == 201


@pytest.mark.parametrize("name", ["", "x" * 65, " web", "we\x00b", "we\nb"])
def test_a_name_has_a_range(api, name):
    status, body = api("POST", body={"name": name})

    assert (status, body["error_code"]) == (400, "invalid_parameter")
    assert body["error_msg"].startswith("name: must be 1 to 64")


def test_the_default_one_stays_as_it_is(api):
    assert api("PUT", "/0", {"name": "mine"})[0] == 404


def test_a_user_sees_what_is_granted_and_nothing_else(tenant, api, web, user, seen):
    tenant.registry("plain")
    tenant.registry("shop", enterprise_project_id=web)
    alice = user()

    assert seen(alice) == ["plain"]
    assert seen(alice, web) == "HSS.0013"
    assert seen(alice, "all_granted_eps") == ["plain"]

    assert api("POST", f"/{web}/grants", {"user": "alice"})[0] == 204
    assert seen(alice, web) == ["shop"]
    assert seen(alice, "all_granted_eps") == ["plain", "shop"]

    assert api("DELETE", "/0/grants/alice")[0] == 204
    assert seen(alice) == "HSS.0013"
    assert seen(alice, "all_granted_eps") == ["shop"]


def test_whoever_is_granted_none_is_refused_and_not_told_of_an_empty_list(
    house, tenant, api, user, seen
):
    alice = user()
    api("DELETE", "/0/grants/alice")

    assert seen(alice, "all_granted_eps") == "HSS.0013"
    status, _, body = call(house, f"/api/v1/projects/{tenant.id}/images", token=alice)
    assert (status, body["error_code"]) == (403, "not_granted")


def test_accounts_and_who_is_granted_every_one_see_what_is_made_later(tenant, api, user, seen):
    alice = user()
    api("POST", "/all_granted_eps/grants", {"user": "alice"})
    later = api("POST", body={"name": "later"})[1]["id"]
    tenant.registry("new", enterprise_project_id=later)

    assert seen(alice, later) == seen(tenant.token, later) == ["new"]

    api("DELETE", "/all_granted_eps/grants/alice")
    assert seen(alice, later) == "HSS.0013"
    assert seen(alice, "0") == []


def test_our_own_api_covers_all_that_is_granted_unless_asked_for_one(house, tenant, api, web, user):
    for name, where in (("plain", "0"), ("shop", web)):
        registry = tenant.registry(name, enterprise_project_id=where)
        repository = tenant.repository(registry, name=name)
        tenant.image(registry, repository)
    alice = user()

    def images(token, query=""):
        status, _, body = call(house, f"/api/v1/projects/{tenant.id}/images{query}", token=token)
        return names(body) if status == 200 else (status, body["error_code"])

    assert images(tenant.token) == ["plain", "shop"]
    assert images(tenant.token, f"?enterprise_project_id={web}") == ["shop"]
    assert images(alice) == ["plain"]
    assert images(alice, f"?enterprise_project_id={web}") == (403, "not_granted")
    assert images(alice, f"?enterprise_project_id={UNKNOWN}") == (403, "not_granted")


@pytest.mark.parametrize("path", ["/v5/{}/image/registries", "/api/v1/projects/{}/registries"])
def test_one_that_is_not_granted_is_answered_like_one_that_does_not_exist(
    house, tenant, web, user, path
):
    alice = user()

    def answer(asked_for):
        query = f"?enterprise_project_id={asked_for}"
        status, _, body = call(house, path.format(tenant.id) + query, token=alice)
        body.pop("request_id", None)
        return status, json.dumps(body).replace(asked_for, "ID")

    assert answer(web) == answer(UNKNOWN)


def test_who_is_granted_one_is_told(api, web, user):
    user("alice")
    user("bob")
    api("POST", f"/{web}/grants", {"user": "alice"})
    api("POST", f"/{web}/grants", {"user": "alice"})
    api("POST", "/all_granted_eps/grants", {"user": "bob"})

    assert api("GET", f"/{web}/grants")[1]["items"] == [
        {"user": "alice", "every": False},
        {"user": "bob", "every": True},
    ]


def test_a_grant_of_nobody_and_of_nothing_is_refused(api, web, user):
    user("alice")

    assert api("POST", f"/{web}/grants", {"user": "nobody"})[0] == 404
    assert api("POST", f"/{UNKNOWN}/grants", {"user": "alice"})[0] == 404
    assert api("DELETE", f"/{web}/grants/alice")[0] == 404


def test_full_access_to_images_gives_nobody_access(api, web, user):
    alice = user(policy="full-access")

    refused = api("POST", f"/{web}/grants", {"user": "alice"}, token=alice)

    assert (refused[0], refused[1]["error_code"]) == (403, "not_allowed")
    assert "eps:enterpriseProjects:grant" in refused[1]["error_msg"]
    assert api("POST", body={"name": "own"}, token=alice)[0] == 403
    assert names(api("GET", token=alice)[1]) == ["default"]


def test_nobody_passes_on_more_than_is_granted(api, web, user, seen):
    alice = user(policy="administrator")
    user("bob")

    assert api("POST", "/0/grants", {"user": "bob"}, token=alice)[0] == 204
    hidden = api("POST", f"/{web}/grants", {"user": "alice"}, token=alice)
    unknown = api("POST", f"/{UNKNOWN}/grants", {"user": "alice"}, token=alice)
    every = api("POST", "/all_granted_eps/grants", {"user": "alice"}, token=alice)
    made = api("POST", body={"name": "web"}, token=alice)

    assert [answer[0] for answer in (hidden, unknown, every, made)] == [404, 404, 403, 403]
    assert seen(alice, web) == "HSS.0013"


def test_every_change_is_audited(house, tenant, api, web, user):
    user("alice")
    api("PUT", f"/{web}", {"name": "shop"})
    api("POST", f"/{web}/grants", {"user": "alice"})
    api("DELETE", f"/{web}/grants/alice")

    entries = house.sql.execute(
        "SELECT action, target, outcome, details FROM audit"
        " WHERE project_id = %s AND action LIKE 'enterprise%%' ORDER BY id",
        (tenant.id,),
    ).fetchall()

    which = f"enterprise_project {web}"
    assert entries == [
        ("enterprise_project.create", which, "done", {"name": "web"}),
        ("enterprise_project.change", which, "done", {"name": "shop"}),
        ("enterprise_project.grant", which, "done", {"user": "alice"}),
        ("enterprise_project.revoke", which, "done", {"user": "alice"}),
    ]


def test_another_project_of_the_account_shares_its_enterprise_projects(house, tenant, web):
    second = house.run(house.callers.create_project("eu-west-101", account_id=tenant.id))
    token = house.run(house.callers.create_token(second.id, HOUR))
    path = f"/api/v1/projects/{second.id}/enterprise-projects"

    assert names(call(house, path, token=token)[2]) == ["default", "web"]
    made = call(house, path, token=token, method="POST", body=b'{"name": "shop"}')
    assert made[0] == 201
    first = call(house, f"/api/v1/projects/{tenant.id}/enterprise-projects", token=tenant.token)
    assert names(first[2]) == ["default", "web", "shop"]


def test_the_audit_tells_everybody_of_what_they_see(house, tenant, api, web, user):
    plain = tenant.registry("plain")
    shop = tenant.registry("shop", enterprise_project_id=web)
    alice = user(policy="administrator")
    path = f"/api/v1/projects/{tenant.id}/registries"
    for registry, token in ((plain, tenant.token), (shop, tenant.token), (plain, alice)):
        call(house, f"{path}/{registry}/accept", method="POST", token=token, body=b'{"all": true}')

    def told(token):
        own = call(house, f"/api/v1/projects/{tenant.id}/audit?kind=change", token=token)[2]
        hss = call(
            house,
            f"/v5/{tenant.id}/container/image/events?event_name=registry.accept",
            token=token,
        )[2]
        accepted = [e["target_name"] for e in own["items"] if e["action"] == "registry.accept"]
        assert [e["resource_name"] for e in hss["data_list"]] == accepted
        assert hss["total_num"] == len(accepted)
        return accepted, {e["action"] for e in own["items"]}

    assert told(alice) == (["plain", "plain"], {"registry.accept"})
    everything, actions = told(tenant.token)
    assert everything == ["plain", "shop", "plain"]
    assert {"enterprise_project.create", "user.create"} <= actions
