"""Logging in here, judged by the clients that people log in with."""

import re
import urllib.request

import pytest
from clients import call

from wharfinger.identity.passwords import hash_password
from wharfinger.store.principals import Grant
from wharfinger.testing.model import PLANTED

PASSWORD = f"correct-{PLANTED}-horse"
HASH = hash_password(PASSWORD)


@pytest.fixture
def people(house, tenant):
    return People(house, tenant.id)


class People:
    """Users of one account."""

    def __init__(self, house, account):
        self.house = house
        self.account = account

    def add(self, name="alice", kind="user", *, policies=(), project="", password_hash=HASH):
        where = {"": self.account, None: None}.get(project, project)
        grants = [Grant(policy=one, project=where) for one in policies]
        create = self.house.principals.create_user
        return self.house.run(
            create(self.account, name, kind=kind, password_hash=password_hash, grants=grants)
        )

    def user(self, name="alice", password=PASSWORD, **changes):
        return {"name": name, "password": password, "domain": {"name": self.account}} | changes


def log_in(house, user, scope=None, headers=None):
    auth = {"identity": {"methods": ["password"], "password": {"user": user}}}
    if scope is not None:
        auth["scope"] = scope
    return call(
        house, "/v3/auth/tokens", method="POST", body=encoded({"auth": auth}), headers=headers
    )


def encoded(value):
    import json

    return json.dumps(value).encode()


def token_of(house, user, scope):
    status, headers, body = log_in(house, user, scope)
    assert status == 201, body
    return headers["X-Subject-Token"]


# --- by hand -------------------------------------------------------------


def test_a_password_gives_a_token_of_a_project(house, tenant, people):
    user_id = people.add(policies=["read-only"])

    status, headers, body = log_in(house, people.user(), {"project": {"id": tenant.id}})

    token = body["token"]
    assert status == 201
    assert token["user"] == {
        "id": user_id,
        "name": "alice",
        "domain": {"id": tenant.id, "name": tenant.id},
        "password_expires_at": "",
    }
    assert token["project"]["id"] == tenant.id
    assert [role["name"] for role in token["roles"]] == ["read-only"]
    assert re.fullmatch(r"[-0-9]+T[:0-9]+\.\d{6}Z", token["expires_at"])
    listed, _, _ = call(
        house, f"/v5/{tenant.id}/image/registries", token=headers["X-Subject-Token"]
    )
    assert listed == 200


@pytest.mark.parametrize(
    ("scope", "shown"),
    [
        (None, "domain"),
        ("unscoped", None),
        ({"unscoped": {}}, None),
        ({"project": {"name": "cn-north-4"}}, "project"),
        # The only project of an account stands for every region.
        ({"project": {"name": "eu-west-101"}}, "project"),
    ],
)
def test_a_scope_may_be_a_project_an_account_or_nothing(house, people, scope, shown):
    people.add(kind="account")

    status, _, body = log_in(house, people.user(), scope)

    assert status == 201
    assert {"domain", "project"} & set(body["token"]) == ({shown} if shown else set())


def test_project_and_domain_together_mean_the_project(house, tenant, people):
    people.add(kind="account")
    scope = {"project": {"id": tenant.id}, "domain": {"name": tenant.id}}

    _, _, body = log_in(house, people.user(), scope)

    assert body["token"]["project"]["id"] == tenant.id


@pytest.mark.parametrize(
    "scope",
    [
        {"project": {"id": "another"}},
        {"project": {"id": "nowhere"}},
        {"project": {"name": "nowhere"}},
        {"project": {"name": "cn-north-4", "domain": {"name": "another"}}},
        {"domain": {"name": "another"}},
    ],
)
def test_what_is_anothers_cannot_be_told_from_what_is_not(house, people, scope):
    if house.run(house.callers.find_project("another")) is None:
        house.tenant("somewhere", "another")
    people.add(policies=["read-only"])

    status, headers, body = log_in(house, people.user(), scope)

    assert (status, body["error_code"]) == (401, "IAM.0001")
    assert "X-Subject-Token" not in headers
    assert "another" not in body["error_msg"]


def test_a_user_enters_only_the_projects_of_its_grants(house, tenant, people):
    other = house.run(house.callers.create_project("second", account_id=tenant.id))
    people.add(policies=["read-only"])

    status, _, _ = log_in(house, people.user(), {"project": {"id": other.id}})
    assert status == 401

    grant = house.principals.grant(tenant.id, "alice", "read-only", None)
    house.run(grant)
    status, _, _ = log_in(house, people.user(), {"project": {"id": other.id}})
    assert status == 201


def test_a_token_of_an_account_opens_no_project(house, tenant, people):
    people.add(kind="account")
    _, headers, _ = log_in(house, people.user())

    for path in (f"/v5/{tenant.id}/image/registries", f"/api/v1/projects/{tenant.id}/images"):
        status, _, body = call(house, path, token=headers["X-Subject-Token"])
        assert status in {400, 403}
        assert "scoped to no project" in body["error_msg"]


def test_a_user_can_be_named_by_its_id(house, people):
    user_id = people.add(kind="account")

    status, _, _ = log_in(house, {"id": user_id, "password": PASSWORD})

    assert status == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "wrong"},
        {"password": "x" * 1000},
        {"name": "nobody"},
        {"domain": {"name": "nowhere"}},
        {"name": "keys-only"},
        {"name": "disabled"},
        {"domain": None},
    ],
    ids=str,
)
def test_a_wrong_user_looks_like_a_wrong_password(house, tenant, people, changes):
    people.add()
    people.add("keys-only", password_hash=None)
    people.add("disabled")
    house.run(house.principals.disable_user(tenant.id, "disabled"))

    status, headers, body = log_in(house, people.user(**changes))

    assert status == 401
    assert body == {
        "error_code": "IAM.0062",
        "error_msg": "The username or password is wrong.",
        "error": {
            "code": 401,
            "message": "The username or password is wrong.",
            "title": "Unauthorized",
        },
        "request_id": headers["X-Request-Id"],
    }


def test_a_wrong_user_takes_as_long_as_a_wrong_password(house, people):
    import statistics
    import time

    people.add()

    def seconds(user, number):
        begun = time.perf_counter()
        # A proxy of ours tells another source each time, so that no lock answers instead.
        log_in(house, user, headers={"X-Forwarded-For": f"192.0.2.{number}"})
        return time.perf_counter() - begun

    wrong = statistics.median(seconds(people.user(password="wrong"), n) for n in range(7))
    nobody = statistics.median(seconds(people.user("nobody"), n) for n in range(7))

    # Without the hash for nobody it is a twentieth.
    assert nobody > wrong / 3


def test_five_wrong_passwords_lock_a_user_towards_their_source_alone(house, people):
    people.add(kind="account")
    stranger, owner = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}

    def codes(user, headers):
        return log_in(house, user, headers=headers)[2].get("error_code")

    wrong = [codes(people.user(password="wrong"), stranger) for _ in range(5)]
    nobody = [codes(people.user("nobody"), stranger) for _ in range(6)]

    assert wrong == ["IAM.0062"] * 5
    # Who does not exist is locked like who does: the lock tells nothing.
    assert nobody == ["IAM.0062"] * 5 + ["IAM.0061"]
    assert codes(people.user(), stranger) == "IAM.0061"
    assert log_in(house, people.user(), headers=owner)[0] == 201


def test_a_stranger_cannot_pretend_to_be_another_source(house, people):
    """What a client writes into X-Forwarded-For stands left of what our proxy adds."""
    people.add(kind="account")

    for _ in range(5):
        spoofed = {"X-Forwarded-For": "192.0.2.77, 192.0.2.99"}
        log_in(house, people.user(password="wrong"), headers=spoofed)

    victim = {"X-Forwarded-For": "192.0.2.77"}
    assert log_in(house, people.user(), headers=victim)[0] == 201
    other_lie = {"X-Forwarded-For": "192.0.2.78, 192.0.2.99"}
    assert log_in(house, people.user(), headers=other_lie)[0] == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"auth": {}}',
        b'{"auth": {"identity": {"methods": ["token"], "token": {"id": "x"}}}}',
        b'{"auth": {"identity": {"methods": ["password"]}}}',
        b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": 1}}}}}',
        (
            b'{"auth": {"identity": {"methods": ["password"], "password": {"user":'
            b' {"name": "x", "password": "y"}}}, "scope": "everything"}}'
        ),
    ],
)
def test_a_body_that_is_no_login_is_refused(house, body):
    status, _, answer = call(house, "/v3/auth/tokens", method="POST", body=body)

    assert (status, answer["error_code"]) == (400, "IAM.0011")
    assert answer["error"]["title"] == "Bad Request"


# --- looking at tokens, and taking them back ------------------------------------------


def test_one_looks_at_ones_own_token(house, tenant, people):
    people.add(policies=["read-only"])
    token = token_of(house, people.user(), {"project": {"id": tenant.id}})

    status, headers, body = call(
        house, "/v3/auth/tokens", token=token, headers={"X-Subject-Token": token}
    )

    assert (status, headers["X-Subject-Token"]) == (200, token)
    assert body["token"]["user"]["name"] == "alice"
    assert {entry["type"] for entry in body["token"]["catalog"]} == {
        "identity",
        "hss",
        "wharfinger",
    }
    status, _, bare = call(
        house, "/v3/auth/tokens?nocatalog=1", token=token, headers={"X-Subject-Token": token}
    )
    assert "catalog" not in bare["token"]


def test_another_users_token_needs_the_permission(house, tenant, people):
    people.add("alice", policies=["full-access"])
    people.add("boss", policies=["administrator"])
    scope = {"project": {"id": tenant.id}}
    alice = token_of(house, people.user("alice"), scope)
    boss = token_of(house, people.user("boss"), scope)

    def look(by, at):
        return call(house, "/v3/auth/tokens", token=by, headers={"X-Subject-Token": at})

    assert look(boss, alice)[0] == 200
    status, _, body = look(alice, boss)
    assert (status, body["error_code"]) == (403, "IAM.0003")
    assert "iam:tokens:get" in body["error_msg"]


def test_a_token_of_another_tenant_cannot_be_told_from_none(house, tenant):
    other = house.tenant()

    answers = []
    for subject in (other.token, "never"):
        status, _, body = call(
            house, "/v3/auth/tokens", token=tenant.token, headers={"X-Subject-Token": subject}
        )
        answers.append((status, body["error_code"], body["error_msg"]))

    assert answers == [(404, "IAM.0004", "Could not find token.")] * 2


def test_a_token_is_taken_back(house, tenant):
    headers = {"X-Subject-Token": tenant.token}

    status, _, body = call(
        house, "/v3/auth/tokens", method="DELETE", token=tenant.token, headers=headers
    )

    assert (status, body) == (204, None)
    status, _, body = call(house, f"/v5/{tenant.id}/image/registries", token=tenant.token)
    assert (status, body["error_code"]) == (401, "APIGW.0307")


def test_only_who_may_takes_anothers_token_back(house, tenant, people):
    people.add("alice", policies=["read-only"])
    alice = token_of(house, people.user(), {"project": {"id": tenant.id}})

    def take_back(by, token):
        return call(
            house,
            "/v3/auth/tokens",
            method="DELETE",
            token=by,
            headers={"X-Subject-Token": token},
        )[0]

    assert take_back(alice, tenant.token) == 403
    assert take_back(house.tenant().token, alice) == 404
    assert take_back(tenant.token, alice) == 204
    assert call(house, f"/v5/{tenant.id}/image/registries", token=alice)[0] == 401


def test_a_head_tells_whether_a_token_is_good(house, tenant):
    def head(subject):
        headers = {"X-Subject-Token": subject}
        return call(house, "/v3/auth/tokens", method="HEAD", token=tenant.token, headers=headers)[0]

    assert head(tenant.token) == 200
    assert head("never") == 404
    assert call(house, "/v3/auth/tokens", method="HEAD")[0] == 401


@pytest.mark.parametrize("what", ["password", "disable"])
def test_a_users_tokens_end_with_its_password_and_with_itself(house, tenant, people, what):
    people.add(policies=["read-only"])
    token = token_of(house, people.user(), {"project": {"id": tenant.id}})
    change = {
        "password": house.principals.set_password(tenant.id, "alice", HASH),
        "disable": house.principals.disable_user(tenant.id, "alice"),
    }
    house.run(change.pop(what))
    for unused in change.values():
        unused.close()

    status, _, body = call(house, f"/v5/{tenant.id}/image/registries", token=token)

    assert (status, body["error_code"]) == (401, "APIGW.0307")


def test_a_user_that_is_opened_again_needs_new_tokens(house, tenant, people):
    people.add(policies=["read-only"])
    token = token_of(house, people.user(), {"project": {"id": tenant.id}})
    house.run(house.principals.disable_user(tenant.id, "alice"))
    house.run(house.principals.enable_user(tenant.id, "alice"))

    assert call(house, f"/v5/{tenant.id}/image/registries", token=token)[0] == 401
    assert log_in(house, people.user())[0] == 201


# --- lists -------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v3/projects", "/v3/auth/projects"])
def test_a_user_sees_the_projects_it_may_enter(house, tenant, people, path):
    other = house.run(house.callers.create_project("second", account_id=tenant.id))
    people.add("alice", policies=["read-only"])
    people.add("boss", kind="account")

    def names(user):
        token = token_of(house, people.user(user), None)
        _, _, body = call(house, path, token=token)
        assert {one["domain_id"] for one in body["projects"]} == {tenant.id}
        return {one["id"] for one in body["projects"]}

    assert names("alice") == {tenant.id}
    assert names("boss") == {tenant.id, other.id}


def test_one_sees_ones_own_account(house, tenant):
    _, _, body = call(house, "/v3/auth/domains", token=tenant.token)

    assert [one["id"] for one in body["domains"]] == [tenant.id]


# --- temporary keys -------------------------------------------------------------


def temporary(house, token, in_body=False, **changes):
    wish = {"duration_seconds": 900} | changes | ({"id": token} if in_body else {})
    body = {"auth": {"identity": {"methods": ["token"], "token": wish}}}
    return call(
        house,
        "/v3.0/OS-CREDENTIAL/securitytokens",
        method="POST",
        token=None if in_body else token,
        body=encoded(body),
    )


@pytest.mark.parametrize("in_body", [False, True])
def test_a_token_gives_a_temporary_key(house, tenant, in_body):
    status, _, body = temporary(house, tenant.token, in_body)

    key = body["credential"]
    assert status == 201
    assert set(key) == {"access", "secret", "securitytoken", "expires_at"}
    stored = house.sql.execute(
        "SELECT project_id, expires_at - created_at, encode(security_digest, 'escape')"
        " FROM credential WHERE access_key = %s",
        (key["access"],),
    ).fetchone()
    assert (stored[0], stored[1].total_seconds()) == (tenant.id, 900)
    assert key["securitytoken"] not in stored[2]


@pytest.mark.parametrize("seconds", [0.5, 899, 86401, -1, "900"])
def test_a_temporary_key_lives_a_quarter_of_an_hour_to_a_day(house, tenant, seconds):
    status, _, body = temporary(house, tenant.token, duration_seconds=seconds)

    assert (status, body["error_code"]) == (400, "IAM.0011")
    assert "duration_seconds" in body["error_msg"]


def test_a_temporary_key_is_not_made_without_a_token(house, tenant):
    assert temporary(house, "never")[0] == 401
    assert temporary(house, None)[0] == 401


@pytest.mark.filterwarnings("ignore:Method .run_image_synchronize.:DeprecationWarning")
def test_a_temporary_key_may_what_its_user_may(house, tenant, people):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
    from huaweicloudsdkhss.v5 import (
        HssClient,
        ListRegistryRequest,
        RunImageSynchronizeRequest,
        RunImageSynchronizeRequestInfo,
    )

    people.add(policies=["read-only"])
    token = token_of(house, people.user(), {"project": {"id": tenant.id}})
    key = temporary(house, token)[2]["credential"]
    credentials = BasicCredentials(key["access"], key["secret"], tenant.id)
    credentials = credentials.with_security_token(key["securitytoken"])
    client = HssClient.new_builder().with_credentials(credentials).with_endpoint(house.url).build()

    assert client.list_registry(ListRegistryRequest()).total_num == 0
    body = RunImageSynchronizeRequestInfo(image_type="private_image")
    with pytest.raises(ClientRequestException) as refused:
        client.run_image_synchronize(RunImageSynchronizeRequest(body=body))
    assert refused.value.error_code == "HSS.0013"
    assert "hss:images:synchronize" in refused.value.error_msg


# --- real clients -------------------------------------------------------------


def test_keystoneauth_finds_its_way_and_logs_in(house, tenant, people):
    from keystoneauth1 import session
    from keystoneauth1.identity import generic, v3

    people.add(policies=["read-only"])
    logins = [
        v3.Password(
            auth_url=f"{house.url}/v3",
            username="alice",
            password=PASSWORD,
            user_domain_name=tenant.id,
            project_name="cn-north-4",
            project_domain_name=tenant.id,
        ),
        # Discovers the version from the root.
        generic.Password(
            auth_url=house.url,
            username="alice",
            password=PASSWORD,
            user_domain_id=tenant.id,
            project_id=tenant.id,
        ),
    ]
    for auth in logins:
        with session.Session(auth=auth).session as connection:
            client = session.Session(auth=auth, session=connection)

            assert client.get_project_id() == tenant.id
            answer = client.get("/image/registries", endpoint_filter={"service_type": "hss"})
            assert answer.json()["total_num"] == 0
            assert client.get_endpoint(service_type="identity") == f"{house.url}/v3"
            assert auth.get_access(client).role_names == ["read-only"]
            client.invalidate()


def test_keystoneauth_hears_of_a_wrong_password(house, tenant, people):
    from keystoneauth1 import exceptions, session
    from keystoneauth1.identity import v3

    people.add()
    auth = v3.Password(
        auth_url=f"{house.url}/v3",
        username="alice",
        password="wrong",
        user_domain_name=tenant.id,
    )
    with session.Session(auth=auth).session as connection:
        client = session.Session(auth=auth, session=connection)

        with pytest.raises(exceptions.Unauthorized, match="username or password is wrong"):
            client.get_token()


# It warns of what it does itself, whoever uses it.
@pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK60Warning")
@pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning")
def test_openstacksdk_connects_and_lists(house, tenant, people):
    import openstack

    people.add(policies=["read-only"])
    cloud = openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_url=f"{house.url}/v3",
        username="alice",
        password=PASSWORD,
        user_domain_name=tenant.id,
        project_name="cn-north-4",
        project_domain_name=tenant.id,
    )
    try:
        assert cloud.authorize()
        assert cloud.current_project_id == tenant.id
        assert [project.id for project in cloud.identity.projects()] == [tenant.id]
        images = cloud.session.get(
            "/image/registries/images", endpoint_filter={"service_type": "hss"}
        )
        assert images.json() == {"total_num": 0, "data_list": []}
    finally:
        cloud.session.session.close()
        cloud.close()


def iam_client(house, tenant):
    from huaweicloudsdkcore.auth.credentials import GlobalCredentials
    from huaweicloudsdkiam.v3 import IamClient

    credentials = GlobalCredentials(
        tenant.credential.access_key, tenant.credential.secret_key, tenant.id
    )
    return IamClient.new_builder().with_credentials(credentials).with_endpoint(house.url).build()


def test_the_clouds_sdk_logs_in_with_a_password(house, tenant, people):
    import huaweicloudsdkiam.v3 as iam

    people.add(policies=["read-only"])
    user = iam.PwdPasswordUser(
        domain=iam.PwdPasswordUserDomain(name=tenant.id), name="alice", password=PASSWORD
    )
    auth = iam.PwdAuth(
        identity=iam.PwdIdentity(methods=["password"], password=iam.PwdPassword(user=user)),
        scope=iam.AuthScope(project=iam.AuthScopeProject(name="cn-north-4")),
    )
    body = iam.KeystoneCreateUserTokenByPasswordRequestBody(auth=auth)
    client = iam_client(house, tenant)

    answer = client.keystone_create_user_token_by_password(
        iam.KeystoneCreateUserTokenByPasswordRequest(body=body)
    )

    assert answer.token.project.id == tenant.id
    status, _, _ = call(house, f"/v5/{tenant.id}/image/registries", token=answer.x_subject_token)
    assert status == 200

    user.password = "wrong"
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    with pytest.raises(ClientRequestException) as refused:
        client.keystone_create_user_token_by_password(
            iam.KeystoneCreateUserTokenByPasswordRequest(body=body)
        )
    assert (refused.value.status_code, refused.value.error_code) == (401, "IAM.0062")


def test_the_clouds_sdk_lists_projects_and_makes_temporary_keys(house, tenant):
    import huaweicloudsdkiam.v3 as iam

    client = iam_client(house, tenant)

    found = client.keystone_list_projects(iam.KeystoneListProjectsRequest(name="cn-north-4"))
    identity = iam.TokenAuthIdentity(
        methods=["token"], token=iam.IdentityToken(id=tenant.token, duration_seconds=900)
    )
    body = iam.CreateTemporaryAccessKeyByTokenRequestBody(auth=iam.TokenAuth(identity=identity))
    made = client.create_temporary_access_key_by_token(
        iam.CreateTemporaryAccessKeyByTokenRequest(body=body)
    )

    assert [project.id for project in found.projects] == [tenant.id]
    assert made.credential.access.startswith("AK")
    assert made.credential.securitytoken


def test_the_clouds_sdk_discovers_project_and_account(house, tenant):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials, GlobalCredentials
    from huaweicloudsdkcore.region.region import Region
    from huaweicloudsdkhss.v5 import HssClient, ListRegistryRequest
    from huaweicloudsdkiam.v3 import IamClient, KeystoneListAuthDomainsRequest

    key = (tenant.credential.access_key, tenant.credential.secret_key)
    region = Region("cn-north-4", house.url)
    basic = BasicCredentials(*key).with_iam_endpoint(house.url)
    world = GlobalCredentials(*key).with_iam_endpoint(house.url)

    hss = HssClient.new_builder().with_credentials(basic).with_region(region).build()
    iam = IamClient.new_builder().with_credentials(world).with_region(region).build()

    assert hss.list_registry(ListRegistryRequest()).total_num == 0
    domains = iam.keystone_list_auth_domains(KeystoneListAuthDomainsRequest()).domains
    assert [domain.id for domain in domains] == [tenant.id]


def test_the_catalog_names_the_address_one_came_by(house, tenant):
    def identity(**headers):
        _, _, body = call(
            house,
            "/v3/auth/tokens",
            token=tenant.token,
            headers={"X-Subject-Token": tenant.token, **headers},
        )
        (entry,) = (e for e in body["token"]["catalog"] if e["type"] == "identity")
        return entry["endpoints"][0]["url"]

    assert identity() == f"{house.url}/v3"
    through = {"Host": "hss.example", "X-Forwarded-Proto": "https"}
    assert identity(**through) == "https://hss.example/v3"
    assert identity(Host="a@b") == f"{house.url}/v3"


def test_the_version_is_told_without_credentials(house):
    _, _, body = call(house, "/v3")
    _, _, root = call(house, "/")

    assert body["version"]["links"] == [{"rel": "self", "href": f"{house.url}/v3/"}]
    assert root["versions"]["values"] == [body["version"]]


def test_unknown_paths_of_iam_are_said_to_be_so(house):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{house.url}/v3/users", timeout=5)

    assert refused.value.code == 404
    refused.value.close()
