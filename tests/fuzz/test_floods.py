"""Many clients at once who send too much, or never end: the service's memory stays bounded."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from prey import MOST_GROWTH

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

MB = 1024 * 1024
# The bodies of all requests together have 128 MB; each is copied once when it is put together.
MOST_AT_ONCE_MB = 2 * 128 + 64
HEAD = b"POST /nowhere HTTP/1.1\r\nHost: x\r\n"


class Peak:
    """The most memory that the service had while something went on."""

    def __init__(self, prey) -> None:
        self.prey, self.mb = prey, prey.resident_mb
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.mb = max(self.mb, self.prey.resident_mb)

    def __enter__(self):
        self._watch.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._watch.join()


def connections(prey, number):
    """Connected sockets that do not wait for a server that has had enough."""
    for _ in range(number):
        one = socket.create_connection(("127.0.0.1", prey.port), timeout=5)
        one.setblocking(False)
        yield one


def push(sockets, data: bytes, patience_s: float = 20.0) -> int:
    """Send to all of them as much as they take; returns how many bytes that were."""
    left = {one: memoryview(data) for one in sockets}
    deadline = time.monotonic() + patience_s
    while left and time.monotonic() < deadline:
        for one in list(left):
            try:
                left[one] = left[one][one.send(left[one][:65536]) :]
            except BlockingIOError:
                continue
            except OSError:
                del left[one]
                continue
            if not left[one]:
                del left[one]
    return len(data) * len(sockets) - sum(len(rest) for rest in left.values())


@pytest.mark.parametrize(
    ("what", "number", "sent"),
    [
        ("heads without an end", 400, HEAD + b"A: " + b"b" * 90_000),
        ("floods of header fields", 100, HEAD + b"A: b\r\n" * 300_000),
        ("large bodies", 60, HEAD + b"Content-Length: 12000000\r\n\r\n" + b" " * 11_999_999),
        (
            "bodies in pieces of a byte",
            20,
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 100_000,
        ),
        ("requests whose answers nobody reads", 100, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_flood_takes_no_more_memory_than_it_may(prey, record_property, what, number, sent):
    prey.warm_up()
    before, peaks, left = prey.resident_mb, [], []
    # What the first one leaves behind is kept for the next: it must not become more.
    for _ in range(2):
        with Peak(prey) as peak, contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(one) for one in connections(prey, number)]
            pushed = push(sockets, sent)
        settle(prey)
        peaks.append(peak.mb)
        left.append(prey.resident_mb)

    record_property(
        "figures",
        {
            f"MB sent, {what}": pushed // MB,
            f"MB of memory before, {what}": round(before),
            f"MB of memory at most, {what}": round(max(peaks)),
            f"MB of memory after, {what}": round(left[1]),
        },
    )
    assert max(peaks) - before < MOST_AT_ONCE_MB
    assert left[1] < left[0] * MOST_GROWTH
    assert not prey.complaints(), prey.complaints()


def settle(prey) -> None:
    """Wait until it answers at once again."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        began = time.monotonic()
        with contextlib.suppress(OSError, AssertionError):
            assert prey.answers("/healthz")
            if time.monotonic() - began < 0.5:
                return
        time.sleep(0.2)
    pytest.fail("the service does not answer any more")
