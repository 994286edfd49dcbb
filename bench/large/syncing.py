"""Many clients read a large list while a registry is synchronised into it for the first time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from bench.folders import own_folder
from bench.large.crowd import CLIENTS, HABITS, TARGET, Burst, burst, script_for
from bench.large.service import Service, serving
from bench.large.town import EVERYONE, Say, Town
from bench.large.writing import copy_of
from bench.report import Line
from bench.stage import Size, Stage
from bench.wharf import Server, Wharf
from wharfinger.domain.model import RegistryCredential, RunOutcome
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.rendered import nginx_missing
from wharfinger.wiring import House, open_house

MOST_P99_MS = 50.0
WORLD, DELAY_S = Size(repositories=5_000, tags=20), 0.03
REGISTRY = "measured"
SECONDS = 6
HABIT = HABITS[0]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What the clients got before the sync and while it ran, and what the sync did."""

    before: Burst
    meanwhile: Burst
    sync_s: float
    added: int


def missing() -> str | None:
    """Why it cannot be measured here."""
    return nginx_missing()


def read_beside_a_sync(
    server: Server, source: Town, token: str, say: Say, *, world: Size | None = None
) -> Beside:
    """A copy of a town, a worker, a sync of a new registry, and the crowd meanwhile.

    Raises:
        RuntimeError: the sync is not complete, or ended before the crowd had what it asked for.
    """
    with copy_of(server, source) as copy, serving(copy, token, remembering=True) as service:
        found = asyncio.run(_read(server, copy, service, world or WORLD))
    say(
        f"{CLIENTS} clients during a sync of {found.added:,} images ({found.sync_s:.1f} s):"
        f" {found.meanwhile.rate:.0f} answers a second, p99 {found.meanwhile.p99_ms:.1f} ms"
    )
    return found


async def _read(server: Server, copy: Town, service: Service, world: Size) -> Beside:
    with own_folder() as folder:
        stage = Stage(folder, world)
        with stage.upstream(delay_s=DELAY_S) as nginx:
            async with _house(server, copy) as (house, wharf), wharf.worker():
                key = stage.world.access_key()
                new = NewRegistry(
                    name=REGISTRY, kind="SwrPrivate", address=nginx.url, allow_private_networks=True
                )
                credential = RegistryCredential(
                    kind="access_key", identity=key.access_key, secret=key.secret_key
                )
                await house.registries.add(EVERYONE, new, credential)
                before = await _burst(service)
                began = time.perf_counter()
                task = await house.synchroniser.synchronise_names(EVERYONE, (REGISTRY,))
                meanwhile = await _burst(service)
                if await _run(house, task) is not None:
                    raise RuntimeError("the sync ended before the crowd")
                while (run := await _run(house, task)) is None:  # noqa: ASYNC110 - a worker's
                    await asyncio.sleep(0.05)
                if run.outcome is not RunOutcome.COMPLETE:
                    raise RuntimeError(f"the sync ended {run.outcome}: {run.reasons}")
                return Beside(
                    before=before,
                    meanwhile=meanwhile,
                    sync_s=time.perf_counter() - began,
                    added=run.added,
                )


@contextlib.asynccontextmanager
async def _house(server: Server, copy: Town) -> AsyncIterator[tuple[House, Wharf]]:
    async with open_house(copy.settings, server.address(copy.database)) as house:
        with contextlib.closing(Wharf(server, copy.database, house)) as wharf:
            yield house, wharf


async def _burst(service: Service) -> Burst:
    client = service.client()
    etag = client.get(TARGET).headers["etag"]
    client.close()
    return await asyncio.to_thread(burst, service, script_for(HABIT, service.token, etag), SECONDS)


async def _run(house: House, task_id: str) -> Any:
    """The run of a task, once it has ended."""
    (run,) = (await house.synchroniser.task(EVERYONE, task_id)).runs
    return None if run.outcome is None else run


def lines(images: int, beside: Beside) -> list[Line]:
    """The verdicts."""
    case = f"{images:,} images, {CLIENTS} clients during a sync of {beside.added:,} more, 30 ms"
    return [
        Line(
            case=case,
            what="answers a second",
            value=f"{beside.meanwhile.rate:.0f}, before it {beside.before.rate:.0f};"
            f" the sync took {beside.sync_s:.1f} s",
        ),
        Line(
            case=case,
            what="99th percentile",
            value=f"{beside.meanwhile.p99_ms:.1f} ms, before it {beside.before.p99_ms:.1f} ms",
            target=f"under {MOST_P99_MS:g} ms",
            met=beside.meanwhile.p99_ms < MOST_P99_MS,
        ),
    ]


def plain(beside: Beside) -> dict[str, Any]:
    """For other programs."""
    return {
        "sync_s": beside.sync_s,
        "added": beside.added,
        **{
            name: {"rate": one.rate, "p99_ms": one.p99_ms, "errors": one.errors}
            for name, one in (("before", beside.before), ("meanwhile", beside.meanwhile))
        },
    }
