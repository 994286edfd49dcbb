"""What the tests of the transport share: servers on loopback, names, certificates."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import tempfile
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wharfinger.domain.ports import Request
from wharfinger.sources._addresses import AddressPolicy
from wharfinger.sources._fast import FastTransport
from wharfinger.sources._http import AioTransport
from wharfinger.testing.faults import Answer
from wharfinger.testing.server import LoopbackServer

CLIENTS = {"aiohttp": AioTransport, "pyreqwest": FastTransport}
_chosen = "aiohttp"


@pytest.fixture(params=CLIENTS)
def client(request, monkeypatch):
    """Each of the clients in turn; ``fetch`` and ``reaching`` use it."""
    monkeypatch.setattr("reaching._chosen", request.param)
    return request.param


PRIVATE = AddressPolicy(allow_private=True)
PUBLIC = AddressPolicy()


class Echo(LoopbackServer):
    """Answers "hello", or what its faults say."""

    def respond(self, asked):
        return Answer(status=200, body=b"hello", headers={"X-Twice": "a"})


class Names(AbstractResolver):
    """A name service that says what the test says: each time the same, or something else."""

    def __init__(self, *, changing=(), **addresses):
        self.addresses = addresses
        self.changing = list(changing)
        self.asked = 0

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked += 1
        found = self.addresses.get(host.partition(".")[0]) or [self.changing.pop(0)]
        return [
            {
                "hostname": host,
                "host": one,
                "port": port,
                "family": socket.AF_INET6 if ":" in one else socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
            for one in found
        ]

    async def close(self):
        pass


@pytest.fixture
async def echo():
    async with Echo() as server:
        yield server


@contextlib.asynccontextmanager
async def raw_server(talk):
    """A server that says what it likes, without any HTTP; gives its port."""
    talks = []

    async def serve(reader, writer):
        talks.append(asyncio.current_task())
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await talk(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in talks:
            one.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await server.wait_closed()


@contextlib.asynccontextmanager
async def reaching(policy=PRIVATE, **settings):
    transport = CLIENTS[_chosen](policy, **settings)
    try:
        yield transport
    finally:
        await transport.aclose()


async def fetch(url, *, policy=PRIVATE, method="GET", headers=None, max_bytes=1000, **settings):
    async with reaching(policy, **settings) as transport:
        request = Request(method=method, url=url, headers=headers or {}, max_bytes=max_bytes)
        return await transport.send(request)


class Authority:
    """A certificate authority that is thrown away after the test."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        basic = x509.BasicConstraints(ca=True, path_length=None)
        built = self._builder(self._name, self._key.public_key()).add_extension(basic, True)
        self.pem = _pem(built.sign(self._key, hashes.SHA256()))

    def server(self, *names: str, ended: bool = False) -> ssl.SSLContext:
        """What a server of these names and addresses needs; ``ended`` yesterday."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        made = self._builder(_named("server"), key.public_key(), ended=ended).add_extension(
            alternatives, critical=False
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_text(
                private.decode() + _pem(made.sign(self._key, hashes.SHA256()))
            )
            context.load_cert_chain(file.name)
        return context

    def _builder(self, subject, public_key, *, ended=False):
        end = dt.datetime.now(dt.UTC) + dt.timedelta(days=-1 if ended else 1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - dt.timedelta(days=2))
            .not_valid_after(end)
        )


def _named(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(name):
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
