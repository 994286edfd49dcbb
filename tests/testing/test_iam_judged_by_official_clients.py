from __future__ import annotations

import re

import pytest

from wharfinger.testing.model import World
from wharfinger.testing.upstream import Upstream

iam = pytest.importorskip("huaweicloudsdkiam.v3")


@pytest.fixture
def upstream():
    world = World()
    world.push("team/api", "v1")
    with Upstream(world).running_in_thread() as upstream:
        yield upstream


@pytest.fixture
def client(upstream):
    from huaweicloudsdkcore.auth.credentials import GlobalCredentials

    key, home = upstream.key, upstream.world.home
    credentials = GlobalCredentials(key.access_key, key.secret_key, home.domain_id)
    builder = iam.IamClient.new_builder().with_credentials(credentials)
    return builder.with_endpoint(upstream.url).build()


def password_request(upstream, *, password=None, scope=None):
    home = upstream.world.home
    user = iam.PwdPasswordUser(
        domain=iam.PwdPasswordUserDomain(name=home.name),
        name=home.name,
        password=password or home.password,
    )
    auth = iam.PwdAuth(
        identity=iam.PwdIdentity(methods=["password"], password=iam.PwdPassword(user=user)),
        scope=scope,
    )
    body = iam.KeystoneCreateUserTokenByPasswordRequestBody(auth=auth)
    return iam.KeystoneCreateUserTokenByPasswordRequest(body=body)


def test_a_password_gives_a_token_that_the_rest_accepts(upstream, client):
    scope = iam.AuthScope(project=iam.AuthScopeProject(name="cn-north-4"))

    answer = client.keystone_create_user_token_by_password(password_request(upstream, scope=scope))

    assert answer.x_subject_token.startswith("MII")
    assert answer.token.project.id == upstream.world.home.project_id
    assert re.fullmatch(r"[-0-9]+T[:0-9]+\.[0-9]+Z", answer.token.expires_at)
    assert upstream.log[-1].status == 201


def test_a_wrong_password_is_told_as_iam_tells_it(upstream, client):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    with pytest.raises(ClientRequestException) as caught:
        client.keystone_create_user_token_by_password(password_request(upstream, password="no"))

    assert (caught.value.status_code, caught.value.error_code) == (401, "IAM.0062")


def test_projects_are_found_by_name(upstream, client):
    found = client.keystone_list_projects(iam.KeystoneListProjectsRequest(name="cn-north-4"))
    other = client.keystone_list_projects(iam.KeystoneListProjectsRequest(name="eu-west-0"))

    assert [project.id for project in found.projects] == [upstream.world.home.project_id]
    assert not other.projects


def test_the_sdk_discovers_its_project_through_this_server(upstream):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.region.region import Region

    swr = pytest.importorskip("huaweicloudsdkswr.v2")
    key = upstream.key
    credentials = BasicCredentials(key.access_key, key.secret_key).with_iam_endpoint(upstream.url)
    region = Region("cn-north-4", upstream.url)
    client = swr.SwrClient.new_builder().with_credentials(credentials).with_region(region).build()

    client.list_namespaces(swr.ListNamespacesRequest())

    discovery, listing = upstream.log
    assert discovery.target == "/v3/projects?name=cn-north-4"
    assert listing.headers["x-project-id"] == upstream.world.home.project_id


def test_keystoneauth_logs_in_and_lists(upstream):
    from keystoneauth1 import session
    from keystoneauth1.identity import v3

    home = upstream.world.home
    auth = v3.Password(
        auth_url=f"{upstream.url}/v3",
        username=home.name,
        password=home.password,
        user_domain_name=home.name,
        project_name="cn-north-4",
        project_domain_name=home.name,
    )
    with session.Session(auth=auth).session as connection:
        client = session.Session(auth=auth, session=connection)
        rows = client.get(f"{upstream.url}/v2/manage/repos").json()

    assert [row["name"] for row in rows] == ["api"]


def test_a_token_can_be_looked_up(upstream):
    import urllib.request

    token = upstream.token()
    request = urllib.request.Request(
        f"{upstream.url}/v3/auth/tokens",
        headers={"X-Auth-Token": token, "X-Subject-Token": token},
    )

    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.headers["X-Subject-Token"] == token
        assert answer.status == 200
