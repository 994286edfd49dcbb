"""The ways around the policy: names that change their minds, proxies, spellings, floods."""

import asyncio
import contextlib
import gzip
import ipaddress
import tracemalloc

import pytest
from reaching import PRIVATE, PUBLIC, Echo, Names, echo, fetch, raw_server, reaching

from wharfinger.domain.errors import (
    AddressRefusedError,
    InvalidParameterError,
    MalformedAnswerError,
    SourceError,
    TooLargeError,
    UnexpectedAnswerError,
    UnreachableError,
)
from wharfinger.domain.model import RegistryCredential
from wharfinger.domain.ports import Reply, Request
from wharfinger.sources import check_registry
from wharfinger.sources._addresses import AddressPolicy

__all__ = ["echo"]


# --- addresses in disguise -----------------------------------------------------------------------

WRAPPED = {
    "mapped": "::ffff:{0}",
    "compatible": "::{0}",
    "translated": "::ffff:0:{0}",
    "NAT64": "64:ff9b::{0}",
    "local NAT64": "64:ff9b:1::{0}",
    "ISATAP": "2001:db8::5efe:{0}",
    "ISATAP, global": "2a00:1450::200:5efe:{0}",
}


@pytest.mark.parametrize("form", WRAPPED.values(), ids=WRAPPED)
def test_an_ipv4_address_counts_in_whatever_wrapping(form):
    for inside, policies in (("169.254.169.254", (PUBLIC, PRIVATE)), ("127.0.0.1", (PUBLIC,))):
        for policy in policies:
            with pytest.raises(AddressRefusedError):
                policy.check(form.format(inside), host="r.example")
    PRIVATE.check(form.format("10.1.2.3"), host="r.example")


@pytest.mark.parametrize(
    "address",
    [
        # Teredo: the server 169.254.169.254, and a client 169.254.169.254 with its bits turned.
        "2001:0:a9fe:a9fe::1",
        "2001:0:808:808:0:0:5601:5601",
        "2002:a9fe:a9fe::1",
        # RFC 6052's other place in the local NAT64 prefix.
        "64:ff9b:1:a9fe:a9:fe00::",
    ],
)
def test_a_tunnel_to_the_metadata_service_is_none(address):
    with pytest.raises(AddressRefusedError, match="a cloud metadata address"):
        PRIVATE.check(address, host="r.example")


@pytest.mark.parametrize(
    "address",
    ["fec0::1", "5f00::1", "100::1", "2001:db8::1", "192.0.2.1", "240.0.0.1", "::1:0:0:1"],
)
def test_what_is_not_public_is_private(address):
    with pytest.raises(AddressRefusedError, match="a private address"):
        PUBLIC.check(address, host="r.example")


@pytest.mark.parametrize("address", ["0.0.0.0", "0.1.2.3", "fd00:42::42", "fd00:c1::a9fe:a9fe"])
def test_no_registry_is_at_an_address_of_this_machine_or_its_cloud(address):
    with pytest.raises(AddressRefusedError):
        PRIVATE.check(address, host="r.example")


def test_naming_a_translator_names_nothing_behind_it_that_must_be_named():
    policy = AddressPolicy(allow_networks=(ipaddress.ip_network("64:ff9b::/96"),))

    policy.check("64:ff9b::8.8.8.8", host="r.example")
    with pytest.raises(AddressRefusedError, match="a cloud metadata address"):
        policy.check("64:ff9b::169.254.169.254", host="r.example")


# --- rebinding -----------------------------------------------------------------------------------


@pytest.fixture
async def two_faces(echo):
    """Two servers on one port, at an address that is allowed (IPv6) and at one that is not."""
    port = int(echo.url.rpartition(":")[2])
    async with Echo(host="::1", port=port) as allowed:
        yield allowed, echo, port


ONLY_IPV6 = AddressPolicy(allow_networks=(ipaddress.ip_network("::1"),))


async def test_the_address_that_was_checked_is_connected_to(two_faces):
    allowed, forbidden, port = two_faces
    names = Names(changing=["::1", "127.0.0.1"])
    url = f"http://rebinding.example:{port}/"

    async with reaching(ONLY_IPV6, resolver=names) as transport:
        first = await transport.send(Request(method="GET", url=url))
    async with reaching(ONLY_IPV6, resolver=names) as transport:
        with pytest.raises(AddressRefusedError, match=r"rebinding.example \(127.0.0.1\)"):
            await transport.send(Request(method="GET", url=url))

    assert first.status == 200
    assert len(allowed.log) == 1
    assert forbidden.log == []


async def test_a_new_connection_is_checked_again_or_goes_where_the_last_one_went(two_faces):
    allowed, forbidden, port = two_faces
    names = Names(changing=["::1", "127.0.0.1"])
    closing = {"Connection": "close"}
    allowed.faults.answer("/", 200, headers=closing)

    async with reaching(ONLY_IPV6, resolver=names) as transport:
        for _ in range(3):
            with contextlib.suppress(AddressRefusedError):
                await transport.send(Request(method="GET", url=f"http://rebinding.example:{port}/"))

    assert allowed.log
    assert forbidden.log == []


# --- spellings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::1%25lo]",
        "[0:0:0:0:0:0:0:1]",
        "127.0.0.1.",
        "localhost.",
        "0x7f.1",
        "127.0.1",
        "017700000001",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "\u24dbocalhost",
        "%31%32%37.0.0.1",
        "localhost%00.example",
        "user@127.0.0.1",
        "public.example@127.0.0.1",
        "127.0.0.1#@public.example",
        "127.0.0.1\\@public.example",
        " 127.0.0.1",
        "127.0.0.1\t",
    ],
)
async def test_no_spelling_of_a_host_gets_inside(host):
    async with Echo(host="::1") as six, Echo(port=int(six.url.rpartition(":")[2])) as four:
        port = four.url.rpartition(":")[2]
        with pytest.raises(SourceError):
            await fetch(f"http://{host}:{port}/", policy=PUBLIC)
        if "#" in host or "\\" in host:
            with pytest.raises(SourceError):
                await fetch(f"http://{host}/", policy=PUBLIC)

        assert six.log == four.log == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "unix:///run/x.sock",
        "ws://127.0.0.1/",
        "http:///x",
        "//127.0.0.1/",
        "http://u:p@127.0.0.1/",
        "http://:p@127.0.0.1/",
    ],
)
async def test_only_http_without_credentials_in_its_url_is_spoken(url):
    with pytest.raises(UnexpectedAnswerError) as caught:
        await fetch(url)

    assert "p@" not in str(caught.value)


async def test_a_blank_in_a_url_writes_no_line_of_its_own(echo):
    for path in ("/a b", "/a HTTP/1.1\r\nX-Injected: 1\r\n", "/a\tb", "/\x00", "/ü"):
        with pytest.raises(UnexpectedAnswerError):
            await fetch(f"{echo.url}{path}")

    assert echo.log == []


@pytest.mark.parametrize(
    "address",
    ["https://bücher.example", "https://\uff11\uff12\uff17.0.0.1", "https://a\\@b", "https://r/ü"],
)
def test_an_address_that_two_readers_could_read_differently_is_not_kept(address):
    with pytest.raises(InvalidParameterError, match="address"):
        check_registry("Other", address, {}, RegistryCredential(kind="none"))


# --- proxies and passwords of the environment ----------------------------------------------------


async def test_the_environment_names_no_proxy_and_no_password(echo, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password of-the-machine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with Echo() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)

        reply = await fetch(f"{echo.url}/here")

        assert proxy.log == []
    assert reply.body == b"hello"
    assert "authorization" not in echo.log[0].headers


# --- redirects -----------------------------------------------------------------------------------


async def test_no_header_but_accept_goes_to_another_host_nor_comes_back(echo):
    sent = {"Accept": "a/b", "Authorization": "Bearer t", "X-Whatever-Key": "k", "X-Sdk-Date": "d"}
    async with Echo() as other:
        echo.faults.answer("/start", 307, headers={"Location": f"{other.url}/there"})
        other.faults.answer("/there", 307, headers={"Location": f"{echo.url}/back"})

        await fetch(f"{echo.url}/start", headers=sent)

        for line in (other.log[0], echo.log[1]):
            assert line.headers["accept"] == "a/b"
            assert not {"authorization", "x-whatever-key", "x-sdk-date"} & set(line.headers)
    assert echo.log[0].headers["x-whatever-key"] == "k"


@pytest.mark.parametrize(
    "location",
    ["http://[::1", "http://127.0.0.1:x/", "http://[x]/", "http://u@127.0.0.1/"],
)
async def test_a_redirect_to_what_is_no_url_is_an_error_like_others(echo, location):
    echo.faults.answer("/", 302, headers={"Location": location})

    with pytest.raises(SourceError):
        await fetch(f"{echo.url}/start")

    assert len(echo.log) == 1


async def test_a_redirect_is_sent_percent_encoded(echo):
    echo.faults.answer("/start", 302, headers={"Location": "/a b/%C3%BC?c=\\"})

    await fetch(f"{echo.url}/start")

    assert echo.log[1].target == "/a%20b/%C3%BC?c=%5C"


async def test_redirects_between_two_hosts_end(echo):
    async with Echo() as other:
        echo.faults.answer("/", 302, headers={"Location": f"{other.url}/"})
        other.faults.answer("/", 302, headers={"Location": f"{echo.url}/"})

        with pytest.raises(UnexpectedAnswerError, match="more than 5 redirects"):
            await fetch(f"{echo.url}/")

        assert len(echo.log) + len(other.log) == 6


# --- floods --------------------------------------------------------------------------------------


def endlessly(beginning, piece, *, pause_s=0.0):
    async def write(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(beginning)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return write


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 60_000),
        (b"HTTP/1.1 200 OK\r\n", b"X: x\r\n" * 1000),
        (b"HTTP/1.1 200 ", b"x" * 60_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 60_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: x\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 60_000),
    ],
    ids=["a header", "many headers", "a reason", "a chunk's extension", "trailers", "a body"],
)
async def test_what_never_ends_is_given_up_and_takes_no_room(beginning, piece):
    async with raw_server(endlessly(beginning, piece)) as port:
        tracemalloc.start()
        try:
            with pytest.raises(SourceError):
                await fetch(f"http://127.0.0.1:{port}/", max_bytes=100_000, answer_timeout_s=2)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 5_000_000


async def test_as_many_headers_as_an_honest_server_sends_are_read(echo):
    echo.faults.answer("/", 200, headers={f"X-{n}": "x" * 100 for n in range(60)})

    assert len((await fetch(f"{echo.url}/")).headers) > 60


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
    ids=["a body", "a header", "never more than promises"],
)
async def test_an_answer_in_drops_is_not_waited_for(beginning, piece):
    async with raw_server(endlessly(beginning, piece, pause_s=0.02)) as port:
        try:
            async with asyncio.timeout(5):
                await fetch(f"http://127.0.0.1:{port}/", answer_timeout_s=0.3)
        except (UnreachableError, TimeoutError) as error:
            told = str(error)

    assert told.endswith("timed out"), "it is still waited for"


async def test_layers_of_compression_are_not_peeled(echo):
    body = gzip.compress(gzip.compress(b"0" * 1000))
    echo.faults.answer("/", 200, body=body, headers={"Content-Encoding": "gzip, gzip"})

    with pytest.raises(MalformedAnswerError, match="Content-Encoding"):
        await fetch(f"{echo.url}/")


async def test_a_bomb_in_an_error_does_not_go_off_either(echo):
    bomb = gzip.compress(b"0" * 5_000_000)
    echo.faults.answer("/", 500, body=bomb, headers={"Content-Encoding": "gzip"})

    with pytest.raises(TooLargeError):
        await fetch(f"{echo.url}/", max_bytes=1000)


# --- what is shown -------------------------------------------------------------------------------


def test_a_request_and_its_answer_show_nothing_that_opens_a_door():
    request = Request(
        method="POST", url="http://h/p?t=hidden", headers={"a": "hidden"}, body=b"hidden"
    )
    reply = Reply(status=201, headers={"x": "hidden"}, body=b"hidden", url="http://h/p?t=hidden")

    assert repr(request) == "Request(POST http://h/p)"
    assert repr(reply) == "Reply(201 to http://h/p)"
