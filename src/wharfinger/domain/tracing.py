"""Spans, if somebody wants them: until ``install`` is called, everything here does nothing.

OpenTelemetry's own library is imported by whoever installs a tracer, so that a process without
traces neither waits for it nor pays for spans that nobody gets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

Kind = Literal["internal", "server", "client", "consumer"]
Value = str | int | float | bool


class Span:
    """What a piece of work is told of: nothing, unless traces are on."""

    def tell(self, **attributes: Value) -> None:
        """Add attributes; ``http_route`` is ``http.route``."""

    def rename(self, name: str) -> None:
        """Give the span a better name than it began with."""

    def fail(self, what: str) -> None:
        """Mark the work as failed, for this reason: a word, never a message that quotes data."""


@dataclass(frozen=True, kw_only=True)
class Tracing:
    """How spans are begun, and how they are carried to other processes."""

    begin: Callable[
        [str, Kind, Mapping[str, Value], Mapping[str, str]], AbstractContextManager[Span]
    ]
    inject: Callable[[MutableMapping[str, str]], None]


_NOTHING = contextlib.nullcontext(Span())
_installed: Tracing | None = None


@contextlib.contextmanager
def installed(tracing: Tracing) -> Iterator[None]:
    """Have spans made, in this process, for as long as the context lasts."""
    global _installed  # noqa: PLW0603 - one of a process, like its log
    before, _installed = _installed, tracing
    try:
        yield
    finally:
        _installed = before


def is_on() -> bool:
    """Whether spans are made."""
    return _installed is not None


def span(
    name: str,
    kind: Kind = "internal",
    *,
    carried: Mapping[str, str] | None = None,
    **attributes: Value,
) -> AbstractContextManager[Span]:
    """Make a span of what happens inside.

    Args:
        name: what is done, of few values.
        kind: as OpenTelemetry has them.
        carried: headers that ``inject`` filled elsewhere; the span then belongs to that trace.
        attributes: ``http_route`` is ``http.route``.
    """
    if _installed is None:
        return _NOTHING
    return _installed.begin(name, kind, attributes, carried or {})


def inject(carrier: MutableMapping[str, str]) -> None:
    """Write the trace that this is part of, if there is one, so that it can be gone on with."""
    if _installed is not None:
        _installed.inject(carrier)
