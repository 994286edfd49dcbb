"""Who has shown too many wrong secrets in a row."""

from __future__ import annotations

import functools
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

FAILURES = 5
LOCKED_S = 300.0
_MOST_ENTRIES = 20_000


class _Record(msgspec.Struct):
    failures: int
    since: float


class Locks:
    """Locks a name (an access key, a user) towards one source for a while.

    Counted per name and source: a stranger who fails on purpose locks only the stranger's own
    address, never the owner's. A success forgets the failures before it, and so does time.
    Kept in memory, by each process for itself.
    """

    def __init__(
        self, *, most_entries: int = _MOST_ENTRIES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()
        self._most = most_entries
        self._clock = clock

    def is_locked(self, name: str, source: str) -> bool:
        """Whether the last failures were too many, and too recent."""
        record = self._recent((name, network_of(source)))
        return record is not None and record.failures >= FAILURES

    def failed(self, name: str, source: str) -> None:
        """Count one failure."""
        key = (name, network_of(source))
        record = self._recent(key)
        if record is None:
            record = self._records[key] = _Record(0, self._clock())
        record.failures += 1
        record.since = self._clock()
        self._records.move_to_end(key)
        while len(self._records) > self._most:
            self._records.popitem(last=False)

    def succeeded(self, name: str, source: str) -> None:
        """Forget the failures."""
        self._records.pop((name, network_of(source)), None)

    def _recent(self, key: tuple[str, str]) -> _Record | None:
        record = self._records.get(key)
        if record is not None and self._clock() - record.since >= LOCKED_S:
            del self._records[key]
            return None
        return record


@functools.lru_cache(maxsize=1024)
def network_of(source: str) -> str:
    """What counts as one source: an IPv6 host has a whole /64 to change its address in."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv4Address):
        return source
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
