"""What one caller may cost: sizes, times, connections and rates, and who keeps count of them."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from wharfinger.domain.errors import OverRateError
from wharfinger.identity.locks import network_of

MAX_URI_BYTES = 32 * 1024
# A token alone may have 32 KB.
MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_BODY_BYTES = 12 * 1024 * 1024
# A body so small is never refused for lack of room: many large ones cannot keep the others out.
SMALL_BODY_BYTES = 64 * 1024
# A body has its time to begin with, and then may not come slower than this.
SLOWEST_BYTES_PER_S = 16 * 1024
# What an answer of 401 costs beside the request itself: whoever guesses is slowed down.
COST_OF_A_FAILURE = 20.0
_MOST_BUCKETS = 20_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an operator may set.

    Attributes:
        connections: connections at once; beyond them the answer is 503.
        receive_s: a request's head has this time, its body as much before it may be slow, and a
            reader as much to take something of its answer.
        keep_alive_s: how long a connection may wait for its next request.
        bodies_bytes: the bodies that are being received and worked on, all together.
    """

    connections: int = 500
    receive_s: float = 20.0
    keep_alive_s: float = 75.0
    bodies_bytes: int = 128 * 1024 * 1024


class Room:
    """How much memory request bodies take, all together."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, size: int) -> int:
        """Take room; returns how much is taken by now."""
        self._taken += size
        return self._taken

    def give_back(self, size: int) -> None:
        """Give room back."""
        self._taken -= size


class _Bucket(msgspec.Struct):
    tokens: float
    at: float


class Buckets:
    """A bucket of tokens for each name, as many as it may use in a minute, filled evenly.

    The least recently used bucket is forgotten when there are too many: its owner starts with a
    full one, which is the mistake that harms nobody.
    """

    def __init__(
        self,
        per_minute: int,
        *,
        most: int = _MOST_BUCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.per_minute = per_minute
        self._most = most
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str) -> int:
        """Take one token and return 0, or the seconds after which there will be one."""
        if not self.per_minute:
            return 0
        bucket = self._filled(name)
        if bucket.tokens < 1:
            return math.ceil((1 - bucket.tokens) * 60 / self.per_minute)
        bucket.tokens -= 1
        return 0

    def charge(self, name: str, cost: float) -> None:
        """Take tokens that may not be there; nobody comes to owe more than a minute's."""
        if self.per_minute:
            bucket = self._filled(name)
            bucket.tokens = max(bucket.tokens - cost, -float(self.per_minute))

    def _filled(self, name: str) -> _Bucket:
        now, full = self._clock(), float(self.per_minute)
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(full, now)
        bucket.tokens = min(full, bucket.tokens + (now - bucket.at) * full / 60)
        bucket.at = now
        self._buckets.move_to_end(name)
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return bucket


class Throttle:
    """Counts requests by credential and by address; each process for itself.

    The defaults let the longest reading through without a pause: HSS pages through 2,000,000 rows
    at most, which are 10,001 requests. An address may hold two such readers.
    """

    def __init__(self, *, per_credential: int = 12_000, per_address: int = 24_000) -> None:
        self.credentials = Buckets(per_credential)
        self.addresses = Buckets(per_address)

    def admit_address(self, source: str) -> None:
        """Count a request of an address.

        Raises:
            OverRateError: it has used up its share.
        """
        _admit(self.addresses, network_of(source), "ip")

    def admit_credential(self, name: str) -> None:
        """Count a request of a credential that was found good.

        Raises:
            OverRateError: it has used up its share.
        """
        _admit(self.credentials, name, "user")

    def failed(self, source: str) -> None:
        """Make a failed authentication cost its address more than a request."""
        self.addresses.charge(network_of(source), COST_OF_A_FAILURE)


def _admit(buckets: Buckets, name: str, policy: str) -> None:
    wait_s = buckets.take(name)
    if wait_s:
        raise OverRateError(policy, buckets.per_minute, wait_s)
