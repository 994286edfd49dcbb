"""Input that nobody sends by mistake: it is told what is wrong, and is never a fault of ours."""

from __future__ import annotations

import base64
import json

import pytest
from clients import call

BEYOND = 10**30


def cursor(position):
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


CURSORS = [
    BEYOND,
    2**63,
    -(2**63) - 1,
    None,
    "x",
    [BEYOND, "2026-11-01T00:00:00Z", 1],
    [1, "0001-01-01T00:00:00+12:00", 1],
    [1, "2026-11-01T00:00:00Z", BEYOND],
    {"seq": BEYOND, "at": "2026-11-01T00:00:00Z", "id": 1},
    {"seq": 1, "at": "2026-11-01T00:00:00", "id": 2**63},
    {"seq": -1, "at": "9999-12-31T23:59:59-12:00", "id": -1},
    ["2026-11-01T00:00:00Z", "a\0b"],
    ["2026-11-01T00:00:00Z", "\ud800"],
    ["2026-11-01T00:00:00Z", "not-an-id"],
    ["9999-12-31T23:59:59-12:00", "00000000-0000-0000-0000-000000000000"],
]


@pytest.mark.parametrize(
    "path",
    ["/images", "/images?as_of=0", "/runs", "/registries/{r}/held", "/registries/{r}/repositories"],
)
def test_a_cursor_that_was_made_up_is_refused_or_harmless(house, tenant, path):
    path = path.format(r=tenant.registry()) + ("&" if "?" in path else "?")

    for position in CURSORS:
        status, _, body = call(
            house,
            f"/api/v1/projects/{tenant.id}{path}after={cursor(position)}",
            token=tenant.token,
        )
        assert status in {200, 400, 410}, (position, body)


@pytest.mark.parametrize("token", ["\xff", "\xc3\xa9", "\ud800", "a\xa0b", "x" * 40000])
@pytest.mark.parametrize("header", ["X-Auth-Token", "X-Subject-Token", "X-Security-Token"])
def test_a_token_of_odd_bytes_is_an_unknown_one(house, tenant, header, token):
    from test_gateway import raw_call

    line = f"{header}: ".encode() + token.encode("utf-8", "surrogatepass")
    latin = f"{header}: ".encode() + token.encode("latin-1", "replace")
    own = b"" if header == "X-Auth-Token" else f"X-Auth-Token: {tenant.token}\r\n".encode()

    for sent in (line, latin):
        status, _, body = raw_call(
            house, b"GET /v3/auth/tokens HTTP/1.1\r\nHost: x\r\n" + own + sent + b"\r\n\r\n"
        )
        assert status in {400, 401, 404, 494}, body


def login(user, **scope):
    return {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}} | scope}


ODD = ["a\0b", "\ud800", "", "x" * 100_000]


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text[:3]))
@pytest.mark.parametrize(
    "body",
    [
        lambda text: login({"name": text, "password": "x", "domain": {"id": "x"}}),
        lambda text: login({"name": "x", "password": "x", "domain": {"id": text}}),
        lambda text: login({"name": "x", "password": "x", "domain": {"name": text}}),
        lambda text: login({"id": text, "password": "x"}),
        lambda text: login({"id": "x", "password": text}),
        lambda text: login({"id": "x", "password": "x"}, scope={"project": {"id": text}}),
    ],
)
def test_a_login_of_odd_text_is_refused(house, body, text):
    status, _, answer = call(
        house, "/v3/auth/tokens", method="POST", body=json.dumps(body(text)).encode()
    )

    assert status in {400, 401}, answer


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text[:3]))
def test_a_token_of_odd_text_makes_no_key(house, text):
    body = {"auth": {"identity": {"methods": ["token"], "token": {"id": text}}}}

    status, _, answer = call(
        house,
        "/v3.0/OS-CREDENTIAL/securitytokens",
        method="POST",
        body=json.dumps(body).encode(),
    )

    assert status in {400, 401}, answer


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text[:3]))
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("image/synchronize", lambda text: {"image_type": text}),
        ("image/image-sync/tasks", lambda text: {"registry_info": [{"registry_id": text}]}),
        ("image/image-sync/tasks", lambda text: {"registry_info": [{"registry_type": text}]}),
    ],
)
def test_a_synchronisation_of_odd_text_is_refused(house, tenant, path, body, text):
    status, _, answer = call(
        house,
        f"/v5/{tenant.id}/{path}",
        method="POST",
        token=tenant.token,
        body=json.dumps(body(text)).encode(),
    )

    assert status == 400
    assert answer["error_code"] in {"HSS.0001", "HSS.0002"}


NESTED = [
    b"[" * 100_000,
    b'{"auth":' * 50_000,
    b'{"auth":{"identity":{"methods":["token"],"policy":'
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}}}",
    b'{"auth":{"identity":{"methods":["token"],"policy":' + b'{"a":' * 50_000,
    b'{"events":' + b"[" * 100_000,
    b"\xff\xfe",
    b'"\xed\xa0\x80"',
    b"1" * 10_000,
    b"\xef\xbb\xbf{}",
]


@pytest.mark.parametrize(
    "path",
    [
        "/v3/auth/tokens",
        "/v3.0/OS-CREDENTIAL/securitytokens",
        "/v5/{p}/image/synchronize",
        "/v5/{p}/image/image-sync/tasks",
        "/api/v1/projects/{p}/registries/x/accept",
        "/api/v1/projects/{p}/registries/{r}/notifications",
    ],
)
def test_a_body_that_is_nested_without_end_or_no_text_is_refused(house, tenant, path):
    filled = path.format(p=tenant.id, r=tenant.registry())

    for body in NESTED:
        status, _, answer = call(house, filled, method="POST", token=tenant.token, body=body)
        assert status in {400, 401}, (body[:60], answer)


@pytest.mark.parametrize("odd", ["x", "a%E2%80%AEb", "%F0%9F%98%80", "9" * 30, "-1", "1" * 5000])
@pytest.mark.parametrize(
    "path",
    [
        "images/{}/history",
        "runs/{}",
        "runs/{}/diff/{}",
        "registries/{}/held",
        "registries/{}/repositories",
        "runs?registry_id={}",
    ],
)
def test_an_odd_id_is_of_nothing(house, tenant, path, odd):
    status, _, body = call(
        house, f"/api/v1/projects/{tenant.id}/{path.replace('{}', odd)}", token=tenant.token
    )

    assert status in {200, 400, 404}, body
