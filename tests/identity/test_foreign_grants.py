"""What a user of another identity service sees of an account's enterprise projects."""

import datetime as dt
import json

import pytest

from wharfinger.domain.ports import Reply
from wharfinger.identity.authentication import Authenticator, RawRequest
from wharfinger.identity.keystone import ExternalTokens, ServiceAccount
from wharfinger.store.callers import Callers
from wharfinger.store.sealing import Sealer

ACCOUNT = ServiceAccount(
    address="https://iam.example", user="us", domain="Default", password=lambda: "p"
)


class Keystone:
    """Takes every token for one of its own, with the role that the token is called by."""

    async def send(self, request):
        if request.method == "POST":
            return Reply(status=201, headers={"x-subject-token": "ours"}, body=b"", url="")
        role = request.headers["X-Subject-Token"]
        token = {
            "expires_at": f"{dt.datetime.now(dt.UTC) + dt.timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
            "user": {"id": "u", "name": "somebody"},
            "project": {"id": "p1", "name": "one"},
            "roles": [{"id": role, "name": role}],
        }
        return Reply(
            status=200, headers={}, body=json.dumps({"token": token}).encode(), url=request.url
        )


@pytest.fixture
async def caller_of(database, owner_connection, tmp_path):
    """Who a token of a role stands for."""
    callers = Callers(database, Sealer.from_file(tmp_path / "secret.key"))
    await callers.create_project("one", "p1")
    owner_connection.execute("INSERT INTO enterprise_project VALUES ('web', 'p1', 'web')")
    issuer = ExternalTokens(
        Keystone(),
        ACCOUNT,
        callers,
        roles={"admin": "administrator", "member": "full-access", "reader": "read-only"},
        cache_s=60,
        timeout_s=60,
    )
    authenticator = Authenticator(callers, issuers=[issuer])

    async def find(role):
        token = (b"x-auth-token", role.encode())
        request = RawRequest(method="GET", raw_path=b"/", raw_query=b"", headers=[token])
        return await authenticator.authenticate(request)

    return find


async def test_a_foreign_administrator_sees_all_and_everybody_else_the_default_one(caller_of):
    seen = {
        role: (await caller_of(role)).enterprise_projects for role in ("admin", "member", "reader")
    }

    assert seen == {"admin": ("0", "web"), "member": ("0",), "reader": ("0",)}
    assert (await caller_of("admin")).sees_every_enterprise_project
    assert not (await caller_of("member")).sees_every_enterprise_project
