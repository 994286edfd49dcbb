"""Who is believed over TLS: whoever holds a certificate for the name, from whom one trusts."""

import contextlib

import pytest
from reaching import Authority, Echo, client, fetch, raw_server

from wharfinger.domain.errors import NotTrustedError, SourceError, UnexpectedAnswerError

__all__ = ["client"]

pytestmark = pytest.mark.usefixtures("client")

OURS = Authority("ours")
THEIRS = Authority("theirs")
HERE = "127.0.0.1"


@contextlib.asynccontextmanager
async def speaking(context):
    server = Echo()
    server.tls = context
    async with server:
        yield server


async def test_a_registry_with_its_own_ca_is_believed():
    async with speaking(OURS.server(HERE)) as server:
        reply = await fetch(server.url, ca_pem=OURS.pem)

    assert (reply.status, reply.body) == (200, b"hello")


@pytest.mark.parametrize(
    ("server", "trusted", "words"),
    [
        (OURS.server(HERE), None, "unable to get local issuer certificate"),
        (OURS.server(HERE), THEIRS.pem, "unable to get local issuer certificate"),
        (OURS.server("other.example", "127.0.0.2"), OURS.pem, "IP address mismatch"),
        (OURS.server(HERE, ended=True), OURS.pem, "certificate has expired"),
    ],
    ids=["system", "another ca", "another name", "ended"],
)
async def test_a_certificate_that_proves_nothing_is_refused(server, trusted, words):
    async with speaking(server) as running:
        with pytest.raises(NotTrustedError, match=f"TLS: certificate not trusted .*{words}"):
            await fetch(f"{running.url}/?x", ca_pem=trusted, headers={"Authorization": "Bearer t"})

        assert running.log == []


async def test_what_one_registry_trusts_no_other_does():
    async with speaking(OURS.server(HERE)) as ours, speaking(THEIRS.server(HERE)) as theirs:
        await fetch(ours.url, ca_pem=OURS.pem)
        await fetch(theirs.url, ca_pem=THEIRS.pem)
        for server, trusted in ((ours, THEIRS.pem), (theirs, OURS.pem), (ours, None)):
            with pytest.raises(NotTrustedError):
                await fetch(server.url, ca_pem=trusted)

        assert [len(server.log) for server in (ours, theirs)] == [1, 1]


async def test_a_bundle_of_several_is_taken():
    async with speaking(OURS.server(HERE)) as server:
        assert (await fetch(server.url, ca_pem=THEIRS.pem + OURS.pem)).status == 200


@pytest.mark.parametrize("trusted", [None, OURS.pem], ids=["system", "own ca"])
async def test_nothing_older_than_tls_1_2_is_offered(trusted):
    heard = []

    async def listen(reader, writer):
        length = int.from_bytes((await reader.readexactly(5))[3:])
        heard.append(await reader.readexactly(length))

    async with raw_server(listen) as port:
        with pytest.raises(SourceError):
            await fetch(f"https://{HERE}:{port}/", ca_pem=trusted)

    assert versions_offered(heard[0]) == {0x0303, 0x0304}


def versions_offered(hello: bytes) -> set[int]:
    """What the extension supported_versions (43) of a ClientHello lists (RFC 8446, 4.2.1)."""
    at = 4 + 2 + 32
    at += 1 + hello[at]  # the session's id
    at += 2 + int.from_bytes(hello[at : at + 2])  # cipher suites
    at += 1 + hello[at] + 2  # compression, and the length of the extensions
    while at < len(hello):
        kind, length = (int.from_bytes(hello[at + i : at + i + 2]) for i in (0, 2))
        body = hello[at + 4 : at + 4 + length]
        if kind == 43:
            return {int.from_bytes(body[i : i + 2]) for i in range(1, len(body), 2)}
        at += 4 + length
    return set()


async def test_a_redirect_away_from_tls_is_not_followed():
    async with speaking(OURS.server(HERE)) as server, Echo() as plain:
        server.faults.answer("/", 302, headers={"Location": f"{plain.url}/x?token=t"})

        with pytest.raises(UnexpectedAnswerError, match="redirects to http://") as caught:
            await fetch(server.url, ca_pem=OURS.pem)

        assert plain.log == []
    assert "token" not in str(caught.value)


async def test_the_keys_of_connections_are_not_written_down(monkeypatch, tmp_path):
    written = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(written))
    async with speaking(OURS.server(HERE)) as server:
        await fetch(server.url, ca_pem=OURS.pem)

    assert not written.exists() or "CLIENT" not in written.read_text()


async def test_plain_http_behind_an_https_address_is_told():
    async with Echo() as server:
        with pytest.raises(SourceError, match="TLS"):
            await fetch(server.url.replace("http:", "https:"))
