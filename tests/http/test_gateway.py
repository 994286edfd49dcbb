"""What comes before any service: routes, credentials, limits, paths."""

import json
import socket
from ipaddress import ip_network

import pytest
from clients import call

from wharfinger.http.origin import known_request_id

UNKNOWN = "The API does not exist or has not been published in the environment"


def raw_call(house, request: bytes):
    """Send bytes as they are; return the status and the decoded body."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=20) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            status = int(answer.readline().split()[1])
            headers = {}
            while (line := answer.readline().strip()) != b"":
                name, _, value = line.decode().partition(": ")
                headers[name.lower()] = value
            body = answer.read(int(headers.get("content-length", 0)))
    return status, headers, body


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/v5/p1", "/v5/p1/image/registry/list", "/v5/p1/image/synchronize/x", "/v2"],
)
def test_an_unknown_route_is_said_to_be_so_before_credentials_are_asked_for(house, path):
    status, headers, body = call(house, path)

    assert status == 404
    assert body == {
        "error_code": "APIGW.0101",
        "error_msg": UNKNOWN,
        "request_id": headers["X-Request-Id"],
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v5/p1/image/synchronize"),
        ("DELETE", "/v5/p1/image/registries/images"),
        ("PUT", "/v3/projects"),
        ("BREW", "/healthz"),
    ],
)
def test_a_wrong_method_is_an_api_that_does_not_exist(house, method, path):
    status, _, body = call(house, path, method=method)

    assert (status, body["error_code"]) == (404, "APIGW.0101")
    assert body["error_msg"] == "The API does not exist."


@pytest.mark.parametrize("token", [None, "unknown", ""])
def test_without_good_credentials_nothing_is_told(house, tenant, token):
    headers = {} if token is None else {"X-Auth-Token": token}
    status, answered, body = call(house, f"/v5/{tenant.id}/image/registries", headers=headers)

    assert (status, body["error_code"]) == (401, "APIGW.0301")
    assert body["error_msg"].startswith("Incorrect IAM authentication information: ")
    assert body["request_id"] == answered["X-Request-Id"]


def test_an_expired_token_must_be_updated(house, tenant):
    house.sql.execute(
        "UPDATE token SET expires_at = now() - interval '1 s' WHERE project_id = %s", (tenant.id,)
    )

    status, _, body = call(house, f"/v5/{tenant.id}/image/registries", token=tenant.token)

    assert (status, body["error_code"]) == (401, "APIGW.0307")
    assert body["error_msg"] == "The token must be updated."


def test_credentials_come_before_the_body_is_looked_at(house, tenant):
    status, _, body = call(
        house, f"/v5/{tenant.id}/image/synchronize", method="POST", body=b"{not json"
    )

    assert (status, body["error_code"]) == (401, "APIGW.0301")


def test_every_answer_has_its_own_request_id_and_forbids_sniffing(house, tenant):
    ids = set()
    for path in ("/", "/nowhere", f"/v5/{tenant.id}/image/registries", "/v5//image"):
        _, headers, _ = call(house, path, headers={"X-Request-Id": "mine"})
        assert headers["X-Content-Type-Options"] == "nosniff"
        ids.add(headers["X-Request-Id"])

    assert len(ids) == 4
    assert all(len(one) == 32 for one in ids)


@pytest.mark.parametrize("ending", ["", "/"])
@pytest.mark.parametrize("slash", ["/", "%2F"])
def test_every_form_of_a_path_that_verifies_equal_is_answered_equal(house, tenant, slash, ending):
    path = f"/v5{slash}{tenant.id}/%69mage/registries{ending}"

    status, headers, body = call(house, path, token=tenant.token)

    assert (status, body) == (200, {"total_num": 0, "data_list": []})
    assert "Location" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "//v5/p1/image/registries",
        "/v5//image/registries",
        "/v5/p1/image/registries//",
        "/v5/p1/../image/registries",
        "/v5/p1/%2E%2E/image",
        "/v5/p1%00/image/registries",
        "/v5/p1%0A/image/registries",
        "/v5/%FF/image/registries",
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(house, path):
    status, headers, body = raw_call(house, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    assert (status, json.loads(body)["error_code"]) == (400, "APIGW.0201")
    assert "location" not in headers


def test_a_path_is_decoded_once(house, tenant):
    status, _, body = call(house, f"/v5/{tenant.id}/image%252Fregistries", token=tenant.token)

    assert (status, body["error_code"]) == (404, "APIGW.0101")


def test_a_uri_has_a_longest_length(house, tenant):
    path = f"/v5/{tenant.id}/image/registries?x="

    longest, _, _ = call(house, path + "x" * (32768 - len(path)), token=tenant.token)
    status, _, body = call(house, path + "x" * (32769 - len(path)), token=tenant.token)

    assert longest == 200
    assert (status, body["error_code"]) == (414, "APIGW.0201")


def test_a_body_has_a_longest_length(house, tenant):
    path = f"/v5/{tenant.id}/image/synchronize"
    body = b'{"image_type": "private_image"}'

    fits, _, _ = call(
        house, path, token=tenant.token, method="POST", body=body.ljust(12 * 1024 * 1024)
    )
    status, _, answer = call(
        house, path, token=tenant.token, method="POST", body=body.ljust(12 * 1024 * 1024 + 1)
    )

    assert fits == 200
    assert (status, answer["error_code"]) == (413, "APIGW.0201")


def test_a_body_that_does_not_tell_its_length_has_the_same_one(house, tenant):
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    request = (
        f"POST /v5/{tenant.id}/image/synchronize HTTP/1.1\r\nHost: x\r\n"
        f"X-Auth-Token: {tenant.token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()

    status, _, body = raw_call(house, request + chunk * 12 + b"1\r\n \r\n")

    assert (status, json.loads(body)["error_code"]) == (413, "APIGW.0201")


@pytest.mark.parametrize(
    "header",
    ["X-Auth-Token", "Authorization", "X-Project-Id", "Content-Type", "X-Sdk-Date", "region"],
)
def test_a_header_that_decides_something_is_sent_once(house, tenant, header):
    value = tenant.token if header == "X-Auth-Token" else tenant.id
    token = "" if header == "X-Auth-Token" else f"X-Auth-Token: {tenant.token}\r\n"
    request = (
        f"GET /v5/{tenant.id}/image/registries HTTP/1.1\r\nHost: x\r\n{token}"
        f"{header}: {value}\r\n{header.lower()}: {value}\r\n\r\n"
    )

    status, _, body = raw_call(house, request.encode())

    assert status == 401
    assert f"the header {header.lower()} was sent more than once" in json.loads(body)["error_msg"]


def test_two_hosts_are_refused(house, tenant):
    request = (
        f"GET /v5/{tenant.id}/image/registries HTTP/1.1\r\nHost: x\r\nHost: y\r\n"
        f"X-Auth-Token: {tenant.token}\r\n\r\n"
    )

    status, _, _ = raw_call(house, request.encode())

    assert status in {400, 401}


def test_a_head_is_a_get_without_its_body(house, tenant):
    request = (
        f"HEAD /v5/{tenant.id}/image/registries HTTP/1.1\r\nHost: x\r\n"
        f"X-Auth-Token: {tenant.token}\r\nConnection: close\r\n\r\n"
    )

    status, headers, body = raw_call(house, request.encode())

    assert (status, body) == (200, b"")
    assert headers["content-length"] == str(len(b'{"total_num":0,"data_list":[]}'))


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v5/p1/image/registries", 401), ("/nowhere", 404), ("/v5//image", 400), ("/" * 40000, 414)],
)
def test_a_refused_head_has_no_body_either(house, path, status, caplog):
    request = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()

    got, headers, body = raw_call(house, request)

    assert (got, headers["content-type"], body) == (status, "application/json", b"")
    assert int(headers["content-length"]) > 0
    assert caplog.text == ""


def test_options_tell_the_methods(house):
    status, headers, body = call(house, "/v5/p1/image/synchronize", method="OPTIONS")

    assert (status, body) == (204, None)
    assert headers["Allow"] == "OPTIONS, POST"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", 1),
        ("?name=cn-north-4", 1),
        ("?name=eu-west-101", 1),
        ("?name=Project%20One", 1),
        ("?name=somebody-elses", 0),
        ("?name=", 0),
    ],
)
def test_a_caller_finds_its_own_project(house, name, found):
    house.tenant("another")
    tenant = house.tenant("Project One")

    status, _, body = call(house, f"/v3/projects{name}", token=tenant.token)

    assert status == 200
    assert [one["id"] for one in body["projects"]] == [tenant.id] * found
    assert all(one["enabled"] and one["name"] == "Project One" for one in body["projects"])


def test_projects_need_credentials(house):
    status, _, body = call(house, "/v3/projects")

    assert (status, body["error_code"]) == (401, "APIGW.0301")


def test_health_and_version_need_no_credentials(house):
    assert call(house, "/healthz")[0] == 200
    assert call(house, "/readyz")[0] == 200
    assert call(house, "/")[2]["name"] == "wharfinger"

    house.ready = False

    assert call(house, "/readyz")[0] == 503
    assert call(house, "/healthz")[0] == 200


def test_a_database_that_is_gone_is_a_503_that_says_when_to_return(house_to_break, administrator):
    house = house_to_break
    tenant = house.tenant()
    name = house.sql.info.dbname
    house.sql.close()
    administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")

    status, headers, body = call(house, f"/v5/{tenant.id}/image/registries", token=tenant.token)

    assert (status, body["error_code"], headers["Retry-After"]) == (503, "HSS.0041", "5")
    assert set(body) == {"error_code", "error_description", "error_msg"}


def test_a_fault_of_ours_tells_no_details(house, tenant):
    house.synchroniser.failure = ValueError("secret detail")

    status, headers, body = call(
        house,
        f"/v5/{tenant.id}/image/synchronize",
        token=tenant.token,
        method="POST",
        body=b'{"image_type":"private_image"}',
    )

    assert (status, body["error_code"]) == (500, "HSS.0041")
    assert "secret detail" not in json.dumps(body)
    assert headers["X-Request-Id"] in body["error_msg"]


def test_the_id_that_a_proxy_of_ours_gave_a_request_is_kept(house):
    given = "0123456789abcdef0123456789abcdef"

    _, trusted, _ = call(house, "/", headers={"X-Request-Id": given})
    twice = [call(house, "/", headers={"X-Request-Id": i})[1] for i in (given.upper(), f"{given}0")]

    assert trusted["X-Request-Id"] == given
    assert all(len(headers["X-Request-Id"]) == 32 for headers in twice)
    assert not any(given in headers["X-Request-Id"].lower() for headers in twice)


def test_nobody_else_may_choose_the_id_of_a_request():
    scope = {"client": ("192.0.2.1", 1), "headers": [(b"x-request-id", b"a" * 32)]}
    loopback = [ip_network("127.0.0.0/8")]

    assert known_request_id(scope, loopback) is None
    assert known_request_id({**scope, "client": ("127.0.0.1", 1)}, loopback) == "a" * 32
