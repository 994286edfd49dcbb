"""Work that runs side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# Nobody needs longer to let go of what it holds, unless it has not heard.
LET_GO_S = 10.0


async def together(work: Sequence[Awaitable[T]]) -> list[T]:
    """Run side by side; the first unexpected error cancels the rest and is raised as itself."""
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await end(*tasks)


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks, and wait until they have ended, however they end.

    A cancellation that meets a task just as the pool hands it a connection is lost there: before
    Python 3.12 ``asyncio.wait_for`` drops one that comes together with the result. So whoever is
    still there long after that is cancelled again.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=LET_GO_S)
    # What went wrong meanwhile counts as seen.
    await asyncio.gather(*tasks, return_exceptions=True)
