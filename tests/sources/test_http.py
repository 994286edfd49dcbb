"""The transport: which addresses it reaches, what it takes in, how it tells what went wrong."""

import asyncio
import contextlib
import gzip
import ipaddress
import socket
import tracemalloc
import zlib

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from reaching import PRIVATE, PUBLIC, Echo, Names, client, echo, fetch, raw_server, reaching

from wharfinger.domain.errors import (
    AddressRefusedError,
    InvalidParameterError,
    MalformedAnswerError,
    SourceError,
    TooLargeError,
    UnexpectedAnswerError,
    UnreachableError,
)
from wharfinger.domain.ports import Request
from wharfinger.sources._addresses import AddressPolicy
from wharfinger.sources._http import AioTransport, redacted
from wharfinger.testing.faults import Answer

__all__ = ["client", "echo"]

pytestmark = pytest.mark.usefixtures("client")


# --- addresses -----------------------------------------------------------------------------------

LOCAL = ["127.0.0.1", "127.8.9.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "fd12::1"]
SHARED = ["100.64.0.1", "198.18.0.1"]
DISGUISED = ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1"]
NEVER = [
    "169.254.169.254",
    "169.254.1.1",
    "fe80::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "::ffff:0.0.0.0",
]


@pytest.mark.parametrize("address", LOCAL + SHARED + DISGUISED)
def test_h32_a_private_address_is_for_those_that_may(address):
    with pytest.raises(AddressRefusedError, match="may not reach"):
        PUBLIC.check(address, host="r.example")
    PRIVATE.check(address, host="r.example")


@pytest.mark.parametrize("address", NEVER)
def test_h32_some_addresses_are_reached_only_when_named(address):
    named = AddressPolicy(
        allow_networks=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    )
    for policy in (PUBLIC, PRIVATE):
        with pytest.raises(AddressRefusedError):
            policy.check(address, host="r.example")
    named.check(address, host="r.example")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "fe80::1%eth0"])
def test_public_addresses_are_reached(address):
    if "%" in address:
        with pytest.raises(AddressRefusedError):
            PUBLIC.check(address, host="r.example")
    else:
        PUBLIC.check(address, host="r.example")


def test_a_named_network_opens_itself_only():
    policy = AddressPolicy(allow_networks=(ipaddress.ip_network("10.1.0.0/16"),))

    policy.check("10.1.2.3", host="r.example")
    with pytest.raises(AddressRefusedError):
        policy.check("10.2.0.1", host="r.example")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "localhost"]
)
async def test_h32_however_a_host_is_spelt_its_address_is_checked(echo, host):
    port = echo.url.rpartition(":")[2]

    with pytest.raises(AddressRefusedError):
        await fetch(f"http://{host}:{port}/", policy=PUBLIC)

    assert not echo.log


async def test_h32_a_name_is_connected_to_at_the_address_that_was_checked(echo):
    names = Names(good=["127.0.0.1"], mixed=["8.8.8.8", "127.0.0.1"], bad=["169.254.169.254"])
    port = echo.url.rpartition(":")[2]

    reply = await fetch(f"http://good.example:{port}/", resolver=names)
    for name, policy in (("mixed", PUBLIC), ("bad", PRIVATE), ("good", PUBLIC)):
        with pytest.raises(AddressRefusedError, match=name):
            await fetch(f"http://{name}.example:{port}/", policy=policy, resolver=names)

    assert reply.body == b"hello"
    assert len(echo.log) == 1
    assert names.asked == 4


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://bad.example/"])
async def test_h32_a_redirect_is_checked_like_any_address(echo, target):
    echo.faults.answer("/start", 302, headers={"Location": target})

    with pytest.raises(AddressRefusedError):
        await fetch(f"{echo.url}/start", resolver=Names(bad=["169.254.169.254"]))


# --- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_read_is_redirected_with_its_credentials_on_the_same_host(echo, status, method):
    echo.faults.answer("/start", status, headers={"Location": "/end?x=%2F"})
    headers = {"Authorization": "Bearer t"}

    reply = await fetch(f"{echo.url}/start", method=method, headers=headers)

    assert reply.status == 200
    assert reply.url == f"{echo.url}/end?x=%2F"
    assert [line.headers.get("authorization") for line in echo.log] == ["Bearer t", "Bearer t"]


async def test_credentials_stay_on_their_host(echo):
    secret = {
        "Authorization": "Bearer t",
        "X-Auth-Token": "t",
        "X-Subject-Token": "s",
        "X-Sdk-Date": "d",
        "Cookie": "c",
        "Host": "other.example",
        "Accept": "application/json",
    }
    async with Echo() as other:
        echo.faults.answer("/start", 307, headers={"Location": f"{other.url}/end"})

        await fetch(f"{echo.url}/start", headers=secret)

        sent, host = other.log[0].headers, other.host
    assert sent["accept"] == "application/json"
    assert sent["host"] == host
    assert not {"authorization", "x-auth-token", "x-subject-token", "x-sdk-date", "cookie"} & set(
        sent
    )


async def test_redirects_end(echo):
    echo.faults.answer("/", 302, headers={"Location": "/again"})

    with pytest.raises(UnexpectedAnswerError, match="redirects"):
        await fetch(f"{echo.url}/start?secret=1")

    assert len(echo.log) == 6


@pytest.mark.parametrize("location", ["https://127.0.0.1:1/x", "ftp://x/", "http://u:p@127.0.0.1/"])
async def test_a_redirect_to_another_scheme_is_not_followed(echo, location):
    echo.faults.answer("/", 302, headers={"Location": location})

    with pytest.raises(UnexpectedAnswerError) as caught:
        await fetch(f"{echo.url}/start")

    assert "u:p" not in str(caught.value)


async def test_a_write_is_not_redirected(echo):
    echo.faults.answer("/", 307, headers={"Location": "/end"})

    assert (await fetch(f"{echo.url}/start", method="POST")).status == 307


# --- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [True, False])
async def test_h34_an_answer_that_is_too_large_is_not_taken_in(echo, chunked):
    body = b"x" * 1001
    echo.faults.change(
        "/", lambda _, answer: Answer(status=200, body=body, chunked=chunked, headers={})
    )

    with pytest.raises(TooLargeError, match="1000 bytes"):
        await fetch(f"{echo.url}/")


async def test_an_answer_that_just_fits_is_taken_in(echo):
    echo.faults.answer("/", 200, body=b"x" * 1000)

    assert len((await fetch(f"{echo.url}/")).body) == 1000


async def test_h34_a_gzip_bomb_does_not_go_off(echo):
    bomb = gzip.compress(b"0" * 50_000_000)
    echo.faults.answer("/", 200, body=bomb, headers={"Content-Encoding": "gzip"})

    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            await fetch(f"{echo.url}/", max_bytes=100_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 5_000_000


async def test_compressed_answers_are_read(echo):
    body = bytes(range(256)) * 500
    several = gzip.compress(body[:1000]) + gzip.compress(body[1000:])
    echo.faults.answer("/one", 200, body=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    echo.faults.answer("/two", 200, body=several, headers={"Content-Encoding": "x-gzip"})

    for path in ("/one", "/two"):
        assert (await fetch(f"{echo.url}{path}", max_bytes=10**6)).body == body
    assert echo.log[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("body", "coding", "error"),
    [
        (gzip.compress(b"x" * 500)[:-9], "gzip", UnreachableError),
        (b"not gzip at all", "gzip", MalformedAnswerError),
        (zlib.compress(b"x"), "br", MalformedAnswerError),
    ],
    ids=["cut short", "not gzip", "unknown"],
)
async def test_h09_a_broken_compression_is_an_error(echo, body, coding, error):
    echo.faults.answer("/", 200, body=body, headers={"Content-Encoding": coding})

    with pytest.raises(error):
        await fetch(f"{echo.url}/")


async def test_repeated_headers_are_joined(echo):
    async def twice(_request):
        answer = web.Response()
        answer.headers.add("Link", "<a>")
        answer.headers.add("Link", "<b>")
        return answer

    runner = web.ServerRunner(web.Server(twice))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        reply = await fetch(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    finally:
        await runner.cleanup()

    assert reply.headers["link"] == "<a>, <b>"


async def test_a_url_is_sent_as_it_is_and_nothing_is_remembered(echo):
    echo.faults.answer("/first", 200, headers={"Set-Cookie": "a=b"})
    async with reaching() as transport:
        await transport.send(Request(method="GET", url=f"{echo.url}/first"))
        await transport.send(Request(method="GET", url=f"{echo.url}/a%24b%2Fc?x=%7e&y=a+b"))

        assert transport.requests == 2
    assert echo.log[1].target == "/a%24b%2Fc?x=%7e&y=a+b"
    assert "cookie" not in echo.log[1].headers
    assert echo.log[1].headers["user-agent"].startswith("wharfinger/")


# --- what went wrong -----------------------------------------------------------------------------


async def test_h29_failures_to_connect_are_told_apart(echo):
    closed = _closed_port()

    with pytest.raises(UnreachableError, match="connection refused"):
        await fetch(f"http://127.0.0.1:{closed}/")
    with pytest.raises(UnreachableError, match="no such name"):
        await fetch("http://does-not-exist.invalid/", resolver=Nameless())


async def test_silence_is_a_timeout(echo):
    echo.faults.delay("/", 5)

    with pytest.raises(UnreachableError, match="timed out"):
        await fetch(f"{echo.url}/", idle_timeout_s=0.05)


async def test_a_reset_is_told(echo):
    echo.faults.reset("/")

    with pytest.raises(UnreachableError, match="connection"):
        await fetch(f"{echo.url}/")


async def test_what_is_not_http_is_malformed():
    async def babble(_reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(SourceError):
            await fetch(f"http://127.0.0.1:{port}/")
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("url", ["http://[::1/", "nonsense", "http://a:b:c/", "file:///etc/passwd"])
async def test_what_is_no_url_cannot_be_requested(url):
    with pytest.raises(SourceError):
        await fetch(url)


async def test_h33_an_error_never_shows_user_or_query(echo):
    with pytest.raises(UnreachableError) as caught:
        await fetch(f"http://127.0.0.1:{_closed_port()}/path?token=hidden")

    assert "/path" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert redacted("https://u:p@h:1/a?b#c") == "https://h:1/a"


# --- TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pem", ["nonsense", "企业", "-----BEGIN CERTIFICATE-----\nx\n"])
def test_a_ca_that_is_none_is_refused(pem):
    with pytest.raises(InvalidParameterError, match="ca_pem"):
        AioTransport(PRIVATE, ca_pem=pem)


class Nameless(AbstractResolver):
    async def resolve(self, host, port=0, family=socket.AF_INET):
        raise OSError(None, "Name or service not known")

    async def close(self):
        pass


def _closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- what each client takes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "taken"),
    [
        ("GET", "/v2/tags?limit=1000&offset=0", True),
        ("HEAD", "/v2/a%24b/tags", True),
        ("POST", "/v2/", False),
        # The one would send these as they are, the other would not.
        ("GET", "/v2/a/../b", False),
        ("GET", "/v2/?name='x'", False),
    ],
)
async def test_every_url_is_sent_as_it_was_signed_whoever_sends_it(method, path, taken, client):
    heard = []

    async def listen(reader, writer):
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with raw_server(listen) as port:
        await fetch(f"http://127.0.0.1:{port}{path}", method=method)

    assert heard[0].startswith(f"{method} {path} HTTP/1.1\r\n".encode())
    # The first client begins with the host, the second ends with it.
    ends_with_host = heard[0].rstrip().rpartition(b"\r\n")[2].startswith(b"Host: ")
    assert ends_with_host is (taken and client == "pyreqwest")


@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
async def test_h32_what_the_system_says_of_a_name_does_not_count():
    """The name is the machine's own, so that whoever looks it up anew finds another server."""
    names = Names(localhost=["127.0.0.2"])
    async with contextlib.AsyncExitStack() as servers:
        port = await servers.enter_async_context(answering("127.0.0.2", b"checked"))
        await servers.enter_async_context(answering("127.0.0.1", b"looked up", port))
        reply = await fetch(f"http://localhost:{port}/", resolver=names)

    assert reply.body == b"checked"


@contextlib.asynccontextmanager
async def answering(address, body, port=0):
    """A server on one of the machine's own addresses; gives its port."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, address, port) as server:
        yield server.sockets[0].getsockname()[1]
