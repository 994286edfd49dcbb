"""Tokens of another identity service: a real Keystone, and what lies between it and us."""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn
from clients import call
from commands import until

import real_keystone
from real_keystone import PASSWORD
from wharfinger.settings import read_settings
from wharfinger.testing.faults import Answer
from wharfinger.testing.server import LoopbackServer
from wharfinger.wiring import open_house

pytestmark = [
    pytest.mark.keystone,
    pytest.mark.skipif(
        real_keystone.MISSING is not None, reason=real_keystone.MISSING or "Keystone is there"
    ),
]


@pytest.fixture(scope="session")
def keystone(tmp_path_factory):
    with real_keystone.running_keystone(tmp_path_factory.mktemp("keystone")) as running:
        yield running


class Relay(LoopbackServer):
    """Stands between us and Keystone, and can be in a bad mood. Its log is what we asked."""

    def __init__(self, keystone):
        super().__init__()
        self.keystone = keystone
        self.mood = "good"

    def respond(self, asked):
        if self.mood == "down":
            return Answer(status=503, body=b"")
        if self.mood == "silent":
            time.sleep(1.5)
        if self.mood == "garbage":
            return Answer(status=200, body=b"<html>log in here</html>")
        answer = self._pass_on(asked)
        if self.mood == "strict" and answer.status == 404:
            # Some services answer 401 for a bad subject, as for a bad caller.
            return Answer(status=401, body=b"{}")
        return answer

    def _pass_on(self, asked):
        request = urllib.request.Request(
            f"{self.keystone.url}{asked.target}", asked.body or None, method=asked.method
        )
        for name in ("x-auth-token", "x-subject-token", "content-type"):
            if name in asked.headers:
                request.add_header(name, asked.headers[name])
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                token = {"X-Subject-Token": answer.headers.get("X-Subject-Token", "")}
                return Answer(status=answer.status, body=answer.read(), headers=token)
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(status=refused.code, body=refused.read())

    def validations(self):
        return len(self.requests("/v3/auth/tokens", method="GET"))

    def logins(self):
        return len(self.requests("/v3/auth/tokens", method="POST"))


@pytest.fixture
def relay(keystone):
    with Relay(keystone).running_in_thread() as running:
        yield running


class Wired:
    """The whole house over its settings, serving from a thread."""

    def __init__(self, address, environment):
        self._address = address
        self._settings = read_settings(environment=environment)
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.failure = None

    async def _serve(self):
        self.loop = asyncio.get_running_loop()
        try:
            async with open_house(self._settings, self._address) as self.house:
                config = uvicorn.Config(
                    self.house.http_app(), host="127.0.0.1", port=0, log_config=None
                )
                self._server = uvicorn.Server(config)
                task = asyncio.create_task(self._server.serve())
                while not self._server.started:
                    await asyncio.sleep(0.01)
                port = self._server.servers[0].sockets[0].getsockname()[1]
                self.url = f"http://127.0.0.1:{port}"
                self._up.set()
                await task
        except BaseException as failure:  # noqa: BLE001 - shown by the thread that waits for us
            self.failure = failure
        finally:
            self._up.set()

    def __enter__(self):
        self._thread.start()
        assert self._up.wait(20)
        if self.failure is not None:
            raise self.failure
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join(20)

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def later(self, seconds):
        """Let time pass for what was learnt from Keystone."""
        (issuer,) = self.house.issuers
        issuer._clock = lambda: time.monotonic() + seconds

    def projects(self):
        return {project.id for project in self.run(self.house.callers.list_projects())}

    def lists(self, project_id, token):
        """Ask for a list; returns status and error code."""
        status, _, body = call(self, f"/v5/{project_id}/image/registries", token=token)
        return status, body.get("error_code")


@pytest.fixture(scope="session")
def service(keystone):
    """The service account: an administrator of a project of its own."""
    project_id, name = keystone.project()
    return {"user": keystone.user(project_id, "admin"), "project": name}


@pytest.fixture
def serve(database_address, tmp_path, relay, service):
    """Start the house; settings are given without their prefix."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    running = []

    def start(**changes):
        settings = {
            "data_dir": tmp_path,
            "iam_url": relay.url,
            "iam_user": service["user"],
            "iam_password_file": tmp_path / "password",
            "iam_project": service["project"],
            "iam_cache_s": 0,
            "iam_timeout_s": 60,
        } | changes
        environment = {f"WHARFINGER_{k.upper()}": str(v) for k, v in settings.items()}
        wired = Wired(database_address, environment)
        running.append(wired.__enter__())
        return wired

    yield start
    for wired in running:
        wired.__exit__()


class Member:
    """A user of a project in Keystone."""

    def __init__(self, keystone, role="reader"):
        self.keystone = keystone
        self.project_id, self.project = keystone.project()
        self.name = keystone.user(self.project_id, role)

    def token(self):
        return self.keystone.log_in(self.name, PASSWORD, self.project)


@pytest.fixture
def member(keystone):
    return Member(keystone)


@pytest.fixture
def house(serve, member):
    """A house that keeps the member's project."""
    return with_project(serve(), member)


def with_project(wired, member):
    wired.run(wired.house.callers.create_project(member.project, member.project_id))
    return wired


def test_keystoneauth_works_here_with_a_token_of_keystone(house, keystone, member):
    from keystoneauth1 import session
    from keystoneauth1.identity import v3

    auth = v3.Password(
        auth_url=f"{keystone.url}/v3",
        username=member.name,
        password=PASSWORD,
        user_domain_name="Default",
        project_name=member.project,
        project_domain_name="Default",
    )
    with session.Session(auth=auth).session as connection:
        client = session.Session(auth=auth, session=connection)

        answer = client.get(f"{house.url}/v5/{client.get_project_id()}/image/registries/images")

    assert answer.json() == {"total_num": 0, "data_list": []}


def test_a_token_that_never_was_is_told_from_one_that_was_taken_back(house, keystone, member):
    token = member.token()

    assert house.lists(member.project_id, token) == (200, None)
    keystone.revoke(token)
    assert house.lists(member.project_id, token) == (401, "APIGW.0307")
    assert house.lists(member.project_id, token[:-8] + "AAAAAAA=") == (401, "APIGW.0301")
    assert house.lists(member.project_id, "never") == (401, "APIGW.0301")


def test_a_revocation_is_noticed_within_the_configured_time(serve, keystone, member, relay):
    house = with_project(serve(iam_cache_s=3600), member)
    token = member.token()
    assert house.lists(member.project_id, token) == (200, None)
    asked = relay.validations()

    keystone.revoke(token)

    # Believed for an hour, without asking again, and then no longer.
    assert house.lists(member.project_id, token) == (200, None)
    assert relay.validations() == asked
    house.later(3600)
    assert house.lists(member.project_id, token) == (401, "APIGW.0307")


def test_a_token_is_of_its_own_project(house, keystone, member):
    other = Member(keystone)
    house.run(house.house.callers.create_project(other.project, other.project_id))

    assert house.lists(other.project_id, member.token()) == (400, "HSS.0013")


def test_a_project_that_is_not_kept_here_is_said_to_be_so(house, keystone):
    stranger = Member(keystone)

    status, _, body = call(
        house, f"/v5/{stranger.project_id}/image/registries", token=stranger.token()
    )

    assert (status, body["error_code"]) == (403, "APIGW.0310")
    assert f"wharfinger project create NAME --id {stranger.project_id}" in body["error_msg"]
    assert stranger.project_id not in house.projects()


def test_a_project_may_be_made_when_it_is_first_seen(serve, member):
    house = serve(iam_create_projects="true")
    token = member.token()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: house.lists(member.project_id, token), range(8)))

    assert found == [(200, None)] * 8
    assert house.projects() == {member.project_id}


def test_a_bad_token_makes_no_project(serve, member):
    house = serve(iam_create_projects="true")

    assert house.lists(member.project_id, "never") == (401, "APIGW.0301")
    assert house.projects() == set()


def test_a_token_without_a_project_opens_none(house, keystone, member):
    token = keystone.log_in(member.name, PASSWORD, None)

    assert house.lists(member.project_id, token) == (403, "APIGW.0310")


@pytest.mark.parametrize(
    ("role", "reads", "writes"),
    [("reader", True, False), ("member", True, True), ("admin", True, True)],
)
def test_roles_stand_for_policies(serve, keystone, role, reads, writes):
    member = Member(keystone, role)
    house = with_project(serve(), member)
    token = member.token()

    def may(method, path):
        body = b'{"image_type": "shared_image"}' if method == "POST" else None
        url = f"/v5/{member.project_id}/{path}"
        _, _, answer = call(house, url, method=method, token=token, body=body)
        return answer.get("error_code") != "HSS.0013"

    assert may("GET", "image/registries") is reads
    # Nothing is configured to be synchronised, which is a complaint of another kind.
    assert may("POST", "image/synchronize") is writes


def test_a_role_that_stands_for_nothing_allows_nothing(serve, member):
    house = with_project(serve(iam_roles="member=full-access"), member)

    status, _, body = call(house, f"/v5/{member.project_id}/image/registries", token=member.token())

    assert (status, body["error_code"]) == (400, "HSS.0013")
    assert "hss:imageRegistries:list" in body["error_msg"]


def test_a_foreign_token_makes_no_key_that_would_outlive_it(house, member):
    body = {"auth": {"identity": {"methods": ["token"], "token": {"duration_seconds": 900}}}}

    status, _, answer = call(
        house,
        "/v3.0/OS-CREDENTIAL/securitytokens",
        method="POST",
        token=member.token(),
        body=json.dumps(body).encode(),
    )

    assert (status, answer["error_code"]) == (400, "IAM.0011")


# --- many callers at once --------------------------------------------------------------------


def test_many_calls_with_one_token_ask_once(house, member, relay):
    token = member.token()
    house.lists(member.project_id, "never")  # Our own login is done.
    asked = relay.validations()

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: house.lists(member.project_id, token), range(20)))

    assert found == [(200, None)] * 20
    # Without a cache a call that comes after the answer asks anew; a stampede does not.
    assert relay.validations() - asked < 10


def test_a_refused_token_of_our_own_is_renewed_once_for_all_who_wait(house, keystone, relay):
    members = [Member(keystone) for _ in range(4)]
    for one in members:
        house.run(house.house.callers.create_project(one.project, one.project_id))
    tokens = [(one.project_id, one.token()) for one in members]
    assert house.lists(*tokens[0]) == (200, None)
    assert relay.logins() == 1
    keystone.revoke(relay.requests("tokens", method="GET")[0].headers["x-auth-token"])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: house.lists(*one), tokens))

    assert found == [(200, None)] * 4
    assert relay.logins() == 2


# --- bad days --------------------------------------------------------------------------------


@pytest.mark.parametrize("mood", ["down", "silent", "garbage"])
def test_an_outage_is_told_from_a_bad_token(serve, member, relay, mood, capfd):
    house = with_project(serve(iam_timeout_s=1), member)
    token = member.token()
    house.lists(member.project_id, token)
    relay.mood = mood

    status, headers, body = call(house, f"/v5/{member.project_id}/image/registries", token=token)
    never = house.lists(member.project_id, "never")

    assert (status, body["error_code"]) == (503, "APIGW.0613")
    assert headers["Retry-After"]
    assert never == (503, "APIGW.0613")
    logged = "".join(capfd.readouterr())
    assert "iam.unavailable" in logged
    assert token not in logged
    assert PASSWORD not in logged

    relay.mood = "good"
    until(lambda: house.lists(member.project_id, token) == (200, None))


def test_a_service_that_is_gone_is_an_outage(serve, member):
    house = with_project(serve(iam_url="http://127.0.0.1:9"), member)

    assert house.lists(member.project_id, member.token()) == (503, "APIGW.0613")


def test_an_outage_leaves_our_own_credentials_alone(serve, member, relay):
    import datetime as dt

    from clients import sdk_client
    from house import Tenant
    from huaweicloudsdkhss.v5 import ListRegistryRequest

    house = with_project(serve(), member)
    relay.mood = "down"
    token = house.run(house.house.callers.create_token(member.project_id, dt.timedelta(hours=1)))
    credential = house.run(house.house.callers.create_credential(member.project_id))
    tenant = Tenant(member.project_id, None, credential, token)

    assert house.lists(member.project_id, token) == (200, None)
    assert sdk_client(house, tenant).list_registry(ListRegistryRequest()).total_num == 0


def test_what_was_believed_goes_on_for_its_time_through_an_outage(serve, member, relay):
    house = with_project(serve(iam_cache_s=60), member)
    token = member.token()
    house.lists(member.project_id, token)
    relay.mood = "down"

    assert house.lists(member.project_id, token) == (200, None)


def test_a_service_that_blames_the_caller_for_a_bad_subject_is_understood(house, member, relay):
    relay.mood = "strict"

    assert house.lists(member.project_id, member.token()) == (200, None)
    assert house.lists(member.project_id, "never") == (401, "APIGW.0301")
    assert relay.logins() == 1


def test_a_wrong_service_password_is_tried_once(serve, member, relay, tmp_path):
    house = with_project(serve(), member)
    (tmp_path / "password").write_text("wrong")

    found = {house.lists(member.project_id, member.token()) for _ in range(4)}

    assert found == {(503, "APIGW.0613")}
    assert relay.logins() == 1


def test_a_service_account_that_may_not_validate_is_an_outage(serve, keystone, member):
    powerless = Member(keystone)
    house = with_project(serve(iam_user=powerless.name, iam_project=powerless.project), member)

    assert house.lists(member.project_id, member.token()) == (503, "APIGW.0613")
