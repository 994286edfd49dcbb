"""How far a sync has come, told as it goes: server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Response, get
from litestar.params import FromPath
from litestar.response import Stream

from wharfinger.domain.overview import Progress, Standing
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.visit import TheVisit, Visit
from wharfinger.http.ui.words import Words

NOTHING = "\N{EM DASH}"
_PAUSE_S = 1.0
# Then the browser asks again by itself, and whoever has been signed out is noticed.
_LASTS_S = 20
_RETRY = b"retry: 1000\n\n"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the page is told: texts by the names of its elements, and figures for the bar."""

    run: str
    state: str
    done: int
    total: int
    texts: dict[str, str]


@get("/registries/{registry_id:str}/progress", action="hss:imageRegistries:list")
async def watch_progress(
    visit: TheVisit, services: TheServices, registry_id: FromPath[str]
) -> Response[Any]:
    """Tell how the registry's sync goes, again and again, until it has ended."""
    lasts_s = visit.query.integer("seconds", smallest=0, largest=_LASTS_S)
    standing = await services.overview.standing(visit.caller, registry_id)
    stream = _events(visit, services, standing, _LASTS_S if lasts_s is None else lasts_s)
    return Stream(
        stream,
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            # Of a proxy before us: do not wait for more.
            "X-Accel-Buffering": "no",
        },
    )


async def _events(
    visit: Visit, services: Services, standing: Standing, lasts_s: float
) -> AsyncIterator[bytes]:
    yield _RETRY
    last = None
    end = asyncio.get_running_loop().time() + lasts_s
    while True:
        progress = await services.overview.progress(visit.caller, standing)
        if progress is not None and progress != last:
            yield _event(told(progress, visit.words))
        last = progress
        if asyncio.get_running_loop().time() >= end:
            return
        await asyncio.sleep(_PAUSE_S)


def _event(what: Told) -> bytes:
    return b"event: progress\ndata: " + msgspec.json.encode(what) + b"\n\n"


def told(progress: Progress, words: Words) -> Told:
    """A run's progress in the viewer's words."""
    return Told(
        run=progress.run_id,
        state=progress.state,
        done=progress.repositories_done,
        total=progress.repositories_total,
        texts={
            "state": state_in_words(progress, words),
            "repositories": _repositories(progress, words),
            "failed": f"{progress.repositories_failed:,}",
            "images": f"{progress.images:,}",
            "requests": f"{progress.requests:,}",
            "per_second": NOTHING if progress.per_second is None else f"{progress.per_second:.1f}",
            "budget": _budget(progress, words),
            "left": _left(progress, words),
        },
    )


def state_in_words(progress: Progress, words: Words) -> str:
    """Whether a run waits, goes on, or how it ended."""
    return words(f"registries.run_{progress.outcome or progress.state}")


def _repositories(progress: Progress, words: Words) -> str:
    key = "of_at_least" if progress.listing and progress.state != "finished" else "of"
    return words(
        f"registries.{key}",
        done=f"{progress.repositories_done:,}",
        total=f"{progress.repositories_total:,}",
    )


def _budget(progress: Progress, words: Words) -> str:
    if progress.concurrency is None:
        return words("registries.budget_unknown")
    if progress.paused_s:
        return words("registries.budget_paused", seconds=f"{progress.paused_s:.0f}")
    if progress.rate is not None:
        return words(
            "registries.budget_rate",
            concurrency=f"{progress.concurrency:.0f}",
            rate=f"{progress.rate:.1f}",
        )
    return words("registries.budget", concurrency=f"{progress.concurrency:.0f}")


def _left(progress: Progress, words: Words) -> str:
    if progress.state == "finished":
        return NOTHING
    if progress.left_s is None:
        return words("registries.left_unknown")
    if progress.left_s < 90:
        return words("registries.left_seconds", count=f"{progress.left_s:.0f}")
    return words("registries.left_minutes", count=f"{progress.left_s / 60:.0f}")
