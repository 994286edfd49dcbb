"""Clients that send too much, too slowly or too often, on raw sockets to the server as it runs."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import pytest
from house import standing_house

from wharfinger.http.limits import MAX_HEADER_BYTES, MAX_HEADERS, Limits

PATIENCE_S = 1.0
CONNECTIONS = 20
ANSWER_S = 15.0
ROOM = 1024 * 1024
LIMITS = Limits(connections=CONNECTIONS, receive_s=PATIENCE_S, keep_alive_s=2.0, bodies_bytes=ROOM)


@pytest.fixture(scope="module")
def strict_house(cluster, administrator, tmp_path_factory):
    """A server with little patience and few connections."""
    folder = tmp_path_factory.mktemp("keys")
    with standing_house(cluster, administrator, folder, limits=LIMITS) as running:
        yield running


@pytest.fixture
def strict(strict_house):
    strict_house.forget()
    until(lambda: not strict_house.connections, "the connections of another test do not end")
    return strict_house


class Wire:
    """One connection, byte by byte."""

    def __init__(self, house, *, receive_buffer=None):
        self.socket = socket.socket()
        self.socket.settimeout(ANSWER_S)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", house.port))
        self._file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self.socket.close()

    def send(self, data: bytes):
        """Send; a server that has hung up already has said what it had to say."""
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def answer(self):
        """Status, headers and body; None where the server closed without a word."""
        try:
            line = self._file.readline()
        except TimeoutError:
            pytest.fail("there is no answer")
        if not line:
            return None
        headers = {}
        while (field := self._file.readline().strip()) != b"":
            name, _, value = field.decode().partition(": ")
            headers[name.lower()] = value
        body = self._file.read(int(headers.get("content-length", 0)))
        return int(line.split()[1]), headers, json.loads(body) if body else None

    def refusal(self):
        """Status and message, of a body and headers as the gateway sends them."""
        status, headers, body = self.answer()
        assert (body or {}).get("error_code") == "APIGW.0201", (status, body)
        assert body["request_id"] == headers["x-request-id"]
        assert headers["x-content-type-options"] == "nosniff"
        return status, body["error_msg"]

    def is_closed(self):
        """Whether the server has hung up, after whatever it still says."""
        with contextlib.suppress(ConnectionResetError):
            while self.socket.recv(65536):
                pass
        return True


def until(holds, complaint, within_s=20.0):
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


def drip(wire, data: bytes, pause_s=0.1):
    """Send one byte at a time until the server has had enough."""
    began = time.monotonic()
    wire.socket.settimeout(pause_s)
    for byte in data:
        wire.send(bytes([byte]))
        with contextlib.suppress(TimeoutError):
            if wire.socket.recv(1, socket.MSG_PEEK) is not None:
                break
    wire.socket.settimeout(ANSWER_S)
    return time.monotonic() - began


def is_well(house):
    with Wire(house) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        return wire.answer()[0] == 200


# --- sizes ---------------------------------------------------------------------------------------


def fields(number, size):
    return b"".join(
        b"X-%d: %s\r\n" % (n, b"v" * (size - len(b"X-%d: \r\n" % n))) for n in range(number)
    )


def test_header_fields_may_be_so_large_and_no_larger(strict):
    # The line of Host and the blank one are 12 bytes.
    fits, over = fields(32, MAX_HEADER_BYTES // 32 - 1), fields(32, MAX_HEADER_BYTES // 32 + 1)

    with Wire(strict) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + fits + b"\r\n")
        assert wire.answer()[0] == 200
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + over + b"\r\n")
        assert wire.refusal() == (494, "Request headers are larger than 64 KB")
        # The connection lives on: the request was read to its end.
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.answer()[0] == 200


def test_there_may_be_so_many_header_fields_and_no_more(strict):
    few = b"A: b\r\n" * (MAX_HEADERS - 1)

    with Wire(strict) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + few + b"\r\n")
        assert wire.answer()[0] == 200
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + few + b"A: b\r\n\r\n")
        assert wire.refusal() == (494, "Request headers are more than 200")


def test_a_flood_of_header_fields_is_cut_off(strict):
    with Wire(strict) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 500_000)

        assert wire.refusal() == (494, "Request headers are larger than 64 KB")
        assert wire.is_closed()


def test_a_request_line_without_an_end_is_cut_off(strict):
    with Wire(strict) as wire:
        wire.send(b"GET /" + b"a" * 2_000_000)

        assert wire.refusal() == (414, "Request URI is longer than 32 KB")
        assert wire.is_closed()


def test_trailers_without_an_end_are_cut_off(strict):
    head = b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    with Wire(strict) as wire:
        wire.send(head + b"0\r\n" + b"A: b\r\n" * 500_000)

        assert wire.refusal()[0] == 494
        assert wire.is_closed()


def test_a_body_in_tiny_pieces_is_cut_off(strict):
    head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    with Wire(strict) as wire:
        wire.send(head + b"1\r\n \r\n" * 900 + b"0\r\n\r\n")
        assert wire.answer()[0] == 404
        wire.send(head + b"1\r\n \r\n" * 100_000)
        status, message = wire.refusal()
        assert wire.is_closed()

    assert status == 400
    assert "pieces that are too small" in message


def test_who_asks_before_sending_a_body_too_large_need_not_send_it(strict):
    with Wire(strict) as wire:
        wire.send(
            b"POST /healthz HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: 20000000\r\n\r\n"
        )

        assert wire.refusal() == (413, "Request body is larger than 12 MB")
        assert wire.is_closed()


def test_two_ways_to_tell_a_length_are_one_too_many(strict):
    with Wire(strict) as wire:
        wire.send(
            b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )

        status, message = wire.refusal()

    assert status == 400
    assert "Content-Length must not stand beside Transfer-Encoding" in message


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"G\xc3\x89T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_request_is_told_so_in_the_shape_of_the_gateway(strict, sent):
    with Wire(strict) as wire:
        wire.send(sent + b"\r\n" * 2)

        assert wire.refusal()[0] == 400
        assert wire.is_closed()


# --- time ----------------------------------------------------------------------------------------


def test_headers_that_come_byte_by_byte_are_not_waited_for(strict):
    with Wire(strict) as wire:
        took_s = drip(wire, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100)

        assert wire.refusal() == (408, "Request headers did not arrive in time")
        assert wire.is_closed()

    assert took_s < 6 * PATIENCE_S


def test_a_body_that_comes_byte_by_byte_is_not_waited_for(strict):
    with Wire(strict) as wire:
        wire.send(b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        took_s = drip(wire, b" " * 1000)

        assert wire.refusal() == (408, "Request body did not arrive in time")
        assert wire.is_closed()

    assert took_s < 6 * PATIENCE_S


def test_a_body_that_is_large_has_more_time(strict):
    with Wire(strict) as wire:
        wire.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 196608\r\n\r\n")
        for _ in range(12):
            wire.send(b" " * 16384)
            time.sleep(PATIENCE_S / 8)

        assert wire.answer()[0] == 404


def test_a_connection_on_which_nothing_is_asked_ends(strict):
    with Wire(strict) as wire:
        assert wire.is_closed()


def test_a_connection_waits_a_while_for_the_next_request(strict):
    with Wire(strict) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.answer()[0] == 200
        # Longer than a head may take: nothing of one has been sent.
        time.sleep(1.3 * PATIENCE_S)
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.answer()[0] == 200
        assert wire.is_closed()


def test_a_client_that_goes_in_the_middle_of_its_body_leaves_no_trace(strict, caplog):
    for _ in range(5):
        with Wire(strict) as wire:
            wire.send(
                b"POST /v5/p/image/synchronize HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
            )

    until(lambda: not strict.connections, "a connection stays")
    assert is_well(strict)
    assert caplog.text == ""


def test_who_does_not_read_the_answers_is_not_waited_for(strict):
    tenant = strict.tenant()
    registry = tenant.registry()
    repository = tenant.repository(registry)
    for number in range(200):
        tenant.image(registry, repository, tag=f"v{number}")
    ask = (
        f"GET /v5/{tenant.id}/image/registries/images?limit=200 HTTP/1.1\r\nHost: x\r\n"
        f"X-Auth-Token: {tenant.token}\r\n\r\n"
    ).encode()

    with Wire(strict, receive_buffer=4096) as wire:
        # More than the kernel keeps for a reader who is late.
        wire.send(ask * 100)
        until(lambda: strict.connections, "it is not connected")
        until(lambda: not strict.connections, "it is waited for")

    assert is_well(strict)


# --- memory --------------------------------------------------------------------------------------


def test_large_bodies_have_room_for_so_much_at_once_and_small_ones_always(strict):
    half = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n" + b" " * 590_000

    with Wire(strict) as first, Wire(strict) as second, Wire(strict) as small:
        first.send(half)
        until(lambda: strict.room_taken >= 590_000, "the first is not received")
        second.send(half)
        status, headers, body = second.answer()
        small.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")

        assert (status, headers["retry-after"]) == (503, "5")
        assert body["error_msg"] == "Too many large requests at once. Try again."
        assert small.answer()[0] == 404
        first.send(b" " * 10_000)
        assert first.answer()[0] == 404

    until(lambda: strict.room_taken == 0, "room is not given back")


# --- connections ---------------------------------------------------------------------------------


def test_connections_beyond_the_limit_are_told_to_come_back(strict):
    with contextlib.ExitStack() as stack:
        # Each asks at once, and so is busy: there is no idle one to make room.
        for _ in range(CONNECTIONS):
            wire = stack.enter_context(Wire(strict))
            wire.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        until(lambda: len(strict.connections) == CONNECTIONS, "they are not connected")

        with Wire(strict) as late:
            late.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            status, headers, body = late.answer()
            assert late.is_closed()

    assert (status, headers["retry-after"]) == (503, "5")
    assert body["error_msg"] == "Too many connections at once. Try again."
    until(lambda: is_well(strict), "the limit does not end")


def test_idle_connections_make_room_for_those_that_ask(strict):
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            wire = stack.enter_context(Wire(strict))
            wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wire.answer()[0] == 200
        time.sleep(1.2)

        assert [is_well(strict) for _ in range(5)] == [True] * 5


@pytest.mark.parametrize(
    ("rest", "half_closed"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n", False),
        (b"Content-Length: 0\r\n\r\nGARBAGE\r\n\r\n", True),
    ],
)
def test_nonsense_beside_an_expect_leaves_no_fault_of_ours(strict, caplog, rest, half_closed):
    with Wire(strict) as wire:
        wire.send(
            b"POST /v5/p/image/synchronize HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + rest
        )
        if half_closed:
            wire.socket.shutdown(socket.SHUT_WR)
        assert wire.is_closed()

    until(lambda: not strict.connections, "the connection does not end")
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []
