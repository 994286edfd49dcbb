"""A cursor whose statements are spans: their text, and never their values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncClientCursor, AsyncCursor
from psycopg.sql import Composable

from wharfinger.domain import tracing

# A statement of ours is at most two pages long.
_LONGEST = 4000


class TellingCursor(AsyncCursor[Any]):
    """Makes a span of each statement."""

    async def execute(self, query: Any, params: Any = None, **named: Any) -> Any:
        """Execute a statement; see psycopg."""
        with self._span(query):
            return await super().execute(query, params, **named)

    async def executemany(self, query: Any, params_seq: Iterable[Any], **named: Any) -> None:
        """Execute a statement for many values; see psycopg."""
        with self._span(query):
            await super().executemany(query, params_seq, **named)

    @asynccontextmanager
    async def _copy(self, statement: Any, params: Any, named: Any) -> Any:
        with self._span(statement):
            async with super().copy(statement, params, **named) as copy:
                yield copy

    def copy(self, statement: Any, params: Any = None, **named: Any) -> Any:
        """Copy rows in or out; see psycopg."""
        return self._copy(statement, params, named)

    def _span(self, query: Any) -> Any:
        text = query.as_string(self) if isinstance(query, Composable) else _text(query)
        words = text.split(None, 1)
        if not words:
            # How the pool asks whether a connection still holds.
            return contextlib.nullcontext()
        return tracing.span(
            words[0].upper(),
            "client",
            db_system_name="postgresql",
            db_query_text=text[:_LONGEST],
        )


class TellingClientCursor(TellingCursor, AsyncClientCursor[Any]):
    """The same for a message that has its values in it: its text is told without them."""


def _text(query: Any) -> str:
    return query.decode() if isinstance(query, bytes) else str(query)
