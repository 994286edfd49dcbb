"""How many requests some work sends, whoever sends them for it."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator


class RequestCount:
    """How many requests were sent."""

    def __init__(self) -> None:
        self.requests = 0


_count: contextvars.ContextVar[RequestCount | None] = contextvars.ContextVar("count", default=None)


@contextlib.contextmanager
def counting_requests() -> Iterator[RequestCount]:
    """Count the requests sent inside, by this task and by those it starts."""
    count = RequestCount()
    before = _count.set(count)
    try:
        yield count
    finally:
        _count.reset(before)


def count_request() -> None:
    """Count a request for whoever is counting."""
    if (count := _count.get()) is not None:
        count.requests += 1
