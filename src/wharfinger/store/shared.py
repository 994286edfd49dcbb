"""One answer of the database for all who ask the same before it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from wharfinger.domain import tracing

T = TypeVar("T")


class Shared:
    """Gathers equal questions while an earlier one is under way, and asks them once.

    Nobody gets an answer to a question that was put before its own: what was committed before
    somebody asked is in what that somebody is told. The questions and answers must be immutable.
    """

    def __init__(self) -> None:
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}
        self._to_be_asked: dict[Hashable, asyncio.Task[Any]] = {}

    async def ask(self, question: Hashable, how: Callable[[], Awaitable[T]]) -> T:
        """Put a question, with all who put it meanwhile; a failure is everyone's."""
        if tracing.is_on():
            # Each trace goes down to its own statements.
            return await how()
        task: asyncio.Task[T] | None = self._to_be_asked.get(question)
        if task is None:
            task = asyncio.create_task(self._put(question, how, self._asked.get(question)))
            task.add_done_callback(_see)
            self._to_be_asked[question] = task
        # Whoever goes away does not take the answer from the others.
        return await asyncio.shield(task)

    async def _put(
        self,
        question: Hashable,
        how: Callable[[], Awaitable[T]],
        before: asyncio.Task[Any] | None,
    ) -> T:
        if before is not None:
            await asyncio.wait([before])
        # Whoever comes from now on is too late for this one.
        task = self._asked[question] = self._to_be_asked.pop(question)
        try:
            return await how()
        finally:
            if self._asked.get(question) is task:
                del self._asked[question]


def _see(task: asyncio.Task[Any]) -> None:
    # If all who asked have gone, nobody else hears how it ended.
    if not task.cancelled():
        task.exception()
