from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import ssl

import aiohttp
import pytest
from yarl import URL

from wharfinger.testing.model import World
from wharfinger.testing.upstream import Upstream


@pytest.fixture
async def upstream():
    world = World()
    for number in range(5):
        world.push(f"team/app-{number}", "v1")
    async with Upstream(world) as upstream:
        yield upstream


@pytest.fixture
async def get(upstream):
    headers = {"X-Auth-Token": upstream.token()}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def get(path, method="GET"):
            async with session.request(method, URL(upstream.url + path, encoded=True)) as answer:
                return answer.status, answer.headers, await answer.read()

        yield get


REPOS = "/v2/manage/repos?offset=0&limit=100"


async def test_the_log_tells_what_came_raw_and_what_it_got(upstream, get):
    await get("/v2/manage/repos?filter=name%3A%3Aapp")
    await get("/v2/manage/nothing")

    first, second = upstream.log
    assert (first.method, first.path, first.query, first.status) == (
        "GET",
        "/v2/manage/repos",
        "filter=name%3A%3Aapp",
        200,
    )
    assert first.headers["x-auth-token"] == upstream.log[0].headers["x-auth-token"]
    assert (second.path, second.status) == ("/v2/manage/nothing", 404)


async def test_a_fault_strikes_as_often_as_it_was_told(upstream, get):
    fault = upstream.faults.answer("/repos", 503, times=2, skip=1)

    statuses = [(await get(REPOS))[0] for _ in range(5)]

    assert statuses == [200, 503, 503, 200, 200]
    assert fault.struck == 2


async def test_faults_of_one_path_take_turns(upstream, get):
    upstream.faults.answer("/repos", 500, times=1)
    upstream.faults.answer("/repos", 502, times=1)

    assert [(await get(REPOS))[0] for _ in range(3)] == [500, 502, 200]


async def test_a_stuck_page_comes_again_however_the_next_one_is_asked_for(upstream, get):
    fault = upstream.faults.repeat("/repos", times=1, skip=1)
    pages = [f"/v2/manage/repos?offset={offset}&limit=2" for offset in (0, 2, 4)]

    first, second, third = [(await get(page))[2] for page in pages]

    assert second == first
    assert third not in (first, b"[]")
    assert fault.struck == 1


@pytest.mark.parametrize("change", ["empty_list", "no_total"])
async def test_what_another_fault_has_made_no_list_is_left_alone(upstream, get, change):
    upstream.faults.html("/repos", times=1)
    upstream.faults.cut_body("/repos", times=1, skip=1)
    getattr(upstream.faults, change)("/repos")

    answers = [await get(REPOS) for _ in range(2)]

    assert [(status, body[:9]) for status, _, body in answers] == [
        (200, b"<!DOCTYPE"),
        (200, b'[{"name":'),
    ]


async def test_a_witness_sees_what_was_sent_and_not_what_is_true(upstream, get):
    seen = []
    upstream.witness = lambda asked, answer: seen.append((asked.path, answer.status, answer.body))
    upstream.faults.empty_list("/repos")

    await get(REPOS)

    assert seen == [("/v2/manage/repos", 200, b"[]")]


async def test_a_fault_of_one_method_leaves_others_alone(upstream, get):
    upstream.faults.answer("/tags/v1", 500, method="DELETE")
    path = "/v2/manage/namespaces/team/repos/app-0/tags/v1"

    assert (await get(path))[0] == 200
    assert (await get(path, "DELETE"))[0] == 500


async def test_chance_is_the_same_every_time(upstream, get):
    upstream.faults.answer("/repos", 500, probability=0.5)

    statuses = [(await get(REPOS))[0] for _ in range(12)]

    assert statuses.count(500) == 9


async def test_a_held_request_is_answered_when_it_is_released(upstream, get):
    held = upstream.faults.hold("/repos", times=1)
    waiting = asyncio.create_task(get(REPOS))
    while not held.struck:
        await asyncio.sleep(0.01)

    assert (await get(REPOS))[0] == 200
    assert not waiting.done()
    held.release()

    assert (await waiting)[0] == 200


async def test_a_reset_is_a_reset(upstream, get):
    # A client of aiohttp silently repeats a GET once; hence not times=1.
    upstream.faults.reset("/repos")

    with pytest.raises(aiohttp.ClientOSError, match="reset"):
        await get(REPOS)
    assert upstream.log[-1].status == 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_truncated_body_ends_the_connection_early(upstream, get, chunked):
    upstream.faults.truncate("/repos", keep=0.5, chunked=chunked)

    with pytest.raises(aiohttp.ClientPayloadError):
        await get(REPOS)


async def test_a_cut_body_looks_whole_to_http(upstream, get):
    upstream.faults.cut_body("/repos", keep=0.5)

    status, _, body = await get(REPOS)

    assert status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


async def test_a_length_that_promises_more_is_noticed(upstream, get):
    upstream.faults.wrong_length("/repos", by=10)

    with pytest.raises(aiohttp.ClientPayloadError):
        await get(REPOS)


async def test_a_length_that_promises_less_leaves_bytes_over(upstream, get):
    upstream.faults.wrong_length("/repos", by=-10)

    with pytest.raises(aiohttp.ClientResponseError):
        await get(REPOS)


async def test_html_comes_with_status_200(upstream, get):
    upstream.faults.html("/repos")

    status, headers, body = await get(REPOS)

    assert (status, headers["Content-Type"]) == (200, "text/html")
    assert b"<html>" in body


async def test_a_wrong_total_stands_in_header_and_rows(upstream, get):
    upstream.faults.wrong_total("/repos", 7)

    _, headers, body = await get(REPOS)

    assert headers["Content-Range"] == "0-5/7"
    assert {row["total_range"] for row in json.loads(body)} == {7}


async def test_an_empty_list_has_the_shape_of_a_full_one(upstream, get):
    upstream.faults.empty_list("/manage/repos")

    _, headers, body = await get(REPOS)
    _, _, v3 = await get("/v3/manage/repos?limit=2")

    assert (json.loads(body), headers["Content-Range"]) == ([], "0-0/0")
    assert json.loads(v3) == {"repos": []}


async def test_rows_can_be_anything(upstream, get):
    upstream.faults.rows("/manage/repos", lambda rows: rows[:1] * 2)

    names = [row["name"] for row in json.loads((await get(REPOS))[2])]

    assert names == ["app-4", "app-4"]


@pytest.mark.parametrize(
    ("wish", "header"),
    [
        (3, "3"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "Fri, 02 Jan 2026 03:04:05 GMT"),
        ("soon", "soon"),
        (None, None),
    ],
)
async def test_throttling_may_say_when_to_come_back(upstream, get, wish, header):
    upstream.faults.throttle("/repos", retry_after=wish)

    status, headers, body = await get(REPOS)

    assert (status, json.loads(body)["error_code"]) == (429, "APIGW.0308")
    assert headers.get("Retry-After") == header


@pytest.mark.parametrize(
    ("declare", "status", "code"),
    [
        ("swr_throttle", 403, "SVCSTG.SWR.4031032"),
        ("token_expired", 401, "SVCSTG.SWR.4010000"),
        ("forbid", 403, "SVCSTG.SWR.4030170"),
        ("break_down", 500, "SVCSTG.SWR.5001001"),
    ],
)
async def test_swr_refuses_in_its_own_words(upstream, get, declare, status, code):
    getattr(upstream, declare)("/repos", times=1)

    answer = await get(REPOS)

    assert (answer[0], json.loads(answer[2])["error_code"]) == (status, code)
    assert (await get(REPOS))[0] == 200


async def test_the_world_may_change_between_two_pages(upstream, get):
    change = lambda: upstream.world.push("team/app-0", "v2")  # noqa: E731
    upstream.faults.before(r"offset=2", change, times=1)

    pages = [
        json.loads((await get(f"/v2/manage/repos?offset={offset}&limit=2"))[2])
        for offset in (0, 2, 4)
    ]

    # app-0 jumps to the front of a list sorted by time, and another is seen twice.
    names = [row["name"] for page in pages for row in page]
    assert names == ["app-4", "app-3", "app-3", "app-2", "app-1"]


async def test_a_quiet_change_leaves_the_row_as_it_was(upstream, get):
    before = (await get(REPOS))[2]

    upstream.world.move("team/app-0", "v1", quiet=True)

    tags = json.loads((await get("/v2/manage/namespaces/team/repos/app-0/tags"))[2])
    assert (await get(REPOS))[2] == before
    assert tags[0]["digest"] == upstream.world.tag("team/app-0", "v1").content.digest


async def test_the_server_may_show_the_worlds_clock(upstream, get):
    upstream.world_date = True
    upstream.world.clock.set(dt.datetime(2026, 5, 3, 12, 0, 0, tzinfo=dt.UTC))

    assert (await get(REPOS))[1]["Date"] == "Sun, 03 May 2026 12:00:00 GMT"


async def test_a_late_answer_comes_late(upstream, get):
    upstream.faults.delay("/repos", 0.2)
    begun = dt.datetime.now(dt.UTC)

    await get(REPOS)

    assert dt.datetime.now(dt.UTC) - begun >= dt.timedelta(seconds=0.2)


async def test_missing_and_foreign_credentials_are_refused(upstream):
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"X-Auth-Token": "MIIforeign"}, {"Authorization": "Basic eA=="}):
            async with session.get(upstream.url + REPOS, headers=headers) as answer:
                body = await answer.json()
            assert (answer.status, body["error_code"]) == (401, "APIGW.0301")
            assert answer.headers["X-Request-Id"] == body["request_id"]


async def test_revoked_tokens_must_be_updated(upstream, get):
    upstream.iam.revoke_all()

    status, _, body = await get(REPOS)

    assert (status, json.loads(body)["error_code"]) == (401, "APIGW.0307")


async def test_a_stalled_body_hangs(upstream, get):
    upstream.faults.stall("/repos", 5, keep=0.5)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await get(REPOS)


async def test_a_server_can_throttle_only_when_it_is_pressed(upstream, get):
    upstream.faults.delay("/repos", 0.1)
    upstream.faults.throttle("/repos", above=3)

    pressed = await asyncio.gather(*(get(REPOS) for _ in range(8)))
    alone = await get(REPOS)

    statuses = [status for status, _, _ in pressed]
    assert (statuses.count(200), statuses.count(429)) == (3, 5)
    assert alone[0] == 200
    assert upstream.peak == 8


async def test_a_server_that_was_down_comes_back_where_it_was(upstream, get):
    url = upstream.url
    await upstream.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession() as session:
            await session.get(url)

    await upstream.start()

    assert upstream.url == url
    assert (await get(REPOS))[0] == 200


async def test_it_can_speak_tls(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    self_signed(certificate, key)
    upstream = Upstream()
    upstream.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    upstream.tls.load_cert_chain(certificate, key)
    trust = ssl.create_default_context(cafile=str(certificate))

    async with (
        upstream,
        aiohttp.ClientSession() as session,
        session.get(f"{upstream.url}/v3", ssl=trust) as answer,
    ):
        assert (upstream.url[:8], answer.status) == ("https://", 200)


def self_signed(certificate, key):
    """Write a certificate for 127.0.0.1 that is its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
