"""What a host says of its limits: quotas in the headers of any answer, rates in a refusal."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import NamedTuple

from wharfinger.domain.ports import Reply

# A limit over a longer time than this says nothing useful about the rate of a sync: an hourly
# quota of 5,000 may be spent in a minute.
LONGEST_WINDOW_S = 60.0

_ITEM = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|[^,;"]*)((?:;[^,;]*)*)\s*(?:,|$)""")
_PARAMETER = re.compile(r";\s*([A-Za-z*][\w.*-]*)\s*=\s*\"?(-?\d+)")
_UNITS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
# The gateway in front of SWR names its limit: "policy user over ratelimit,limit:200,time:5 minute".
_STATED = re.compile(r"limit:(\d{1,9}),time:(\d{1,6})\s*(second|minute|hour|day)", re.IGNORECASE)
# A reset larger than this is a time of the clock, not a number of seconds.
_EPOCH = 1_000_000_000


class Quota(NamedTuple):
    """How many more requests a host takes, and in how many seconds it will take more."""

    remaining: int
    reset_s: float


def quota(headers: Mapping[str, str], *, now: float | None = None) -> Quota | None:
    """Read the tightest quota from the headers of an answer, or ``None`` if there is none.

    Understood are ``RateLimit: "name";r=5;t=30`` (draft-ietf-httpapi-ratelimit-headers), its older
    spelling ``limit=10, remaining=5, reset=30``, ``RateLimit-Remaining`` with ``RateLimit-Reset``
    and the same with ``X-``. A reset may be seconds or a time of the clock.

    Args:
        headers: of the answer, names in lower case.
        now: seconds since the epoch, for resets that are times; by default the clock's.
    """
    found = [*_of_structured(headers.get("ratelimit", "")), *_of_pairs(headers)]
    at = time.time() if now is None else now
    waits = [Quota(q.remaining, _wait_s(q.reset_s, at)) for q in found]
    return min(waits, key=lambda q: (q.remaining, -q.reset_s), default=None)


def stated_rate(reply: Reply) -> float | None:
    """Return the requests per second a refusal names, in its headers or its text, if it does.

    ``RateLimit-Policy: "name";q=100;w=10`` counts, and the policy in the message of the gateway
    before SWR. Of several the slowest; limits over more than a minute only from a message, which
    names the one that was hit.
    """
    header = reply.headers.get("ratelimit-policy", "")
    rates = [
        quantity / window
        for _, given in _items(header)
        if (quantity := given.get("q", 0)) > 0
        and 0 < (window := given.get("w", 0)) <= LONGEST_WINDOW_S
    ]
    for count, number, unit in _STATED.findall(reply.body[:2000].decode("utf-8", "replace")):
        seconds = int(number) * _UNITS_S[unit.lower()]
        if int(count) and seconds:
            rates.append(int(count) / seconds)
    return min(rates, default=None)


def _of_structured(header: str) -> list[Quota]:
    quotas = [
        Quota(given["r"], float(given["t"]))
        for _, given in _items(header)
        if given.get("r", -1) >= 0 and given.get("t", 0) > 0
    ]
    older = dict(re.findall(r"\b(remaining|reset)\s*=\s*(\d{1,12})\b", header.lower()))
    if len(older) == 2:
        quotas.append(Quota(int(older["remaining"]), float(older["reset"])))
    return quotas


def _of_pairs(headers: Mapping[str, str]) -> list[Quota]:
    quotas = []
    for prefix in ("ratelimit", "x-ratelimit"):
        remaining = _leading_number(headers.get(f"{prefix}-remaining", ""))
        reset = _leading_number(headers.get(f"{prefix}-reset", ""))
        if remaining is not None and reset:
            quotas.append(Quota(remaining, float(reset)))
    return quotas


def _items(header: str) -> list[tuple[str, dict[str, int]]]:
    return [
        (match[1].strip().strip('"'), {k.lower(): int(v) for k, v in _PARAMETER.findall(match[2])})
        for match in _ITEM.finditer(header)
        if match[0].strip(" ,")
    ]


def _leading_number(text: str) -> int | None:
    # Docker Hub sends "76;w=21600", others "100, 100;w=60": the first number is the answer.
    match = re.match(r"\s*(\d{1,15})(?!\d)", text)
    return int(match[1]) if match else None


def _wait_s(reset: float, now: float) -> float:
    if reset < _EPOCH:
        return reset
    # Some send milliseconds.
    at = reset / 1000 if reset > 100 * _EPOCH else reset
    return max(at - now, 0.0)
