"""A change of a million images in one registry, and whether whoever reads meanwhile notices."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from bench.large.reading import ALL, API, HSS
from bench.large.service import Client, Service, serving
from bench.large.town import EVERYONE, PROJECT, Say, Town, town_of
from bench.report import Line
from bench.wharf import Server
from wharfinger.store.cluster import OWNER
from wharfinger.wiring import open_house

MOST_DELAY_MS = 50.0
QUIET_S = 5.0
REGISTRY = "one-for-all"
TARGETS = (f"{API}?limit=100", f"{HSS}?limit=100&{ALL}", f"{API}?limit=100&tag_contains=release")


@dataclass(kw_only=True)
class Readers:
    """How long answers took, in seconds, and how often one was seen to wait for a lock."""

    seconds: list[float] = field(default_factory=list)
    waits_for_locks: int = 0


@dataclass(frozen=True, kw_only=True)
class Written:
    """One change, and its readers before and meanwhile."""

    images: int
    seconds: float
    before: Readers
    meanwhile: Readers


def write(server: Server, source: Town, token: str, say: Say) -> Written:
    """Accept that every image of a registry that has all is gone, in a copy of a town."""
    with copy_of(server, source) as copy:
        _put_all_in_one(server, copy)
        with serving(copy, token) as service:
            before = Readers()
            _read_while(lambda: time.sleep(QUIET_S), service, server, copy, before)
            meanwhile, began = Readers(), time.perf_counter()
            images = _read_while(lambda: _accept(server, copy), service, server, copy, meanwhile)
            seconds = time.perf_counter() - began
    say(f"accepted {images:,} images in {seconds:.1f} s beside {len(meanwhile.seconds)} answers")
    return Written(images=images, seconds=seconds, before=before, meanwhile=meanwhile)


@contextlib.contextmanager
def copy_of(server: Server, source: Town) -> Iterator[Town]:
    """A town that may be changed."""
    name = f"{source.database}_written"
    parts = [sql.Identifier(n) for n in (name, source.database, OWNER)]
    with server.superuser() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(parts[0]))
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY FILE_COPY").format(*parts)
        )
    try:
        yield town_of(server, name, source.images)
    finally:
        with server.superuser() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(parts[0]))


def _put_all_in_one(server: Server, copy: Town) -> None:
    with server.superuser(copy.database) as connection:
        (registry,) = connection.execute(
            "UPDATE registry SET name = %s WHERE id = ("
            " SELECT id FROM registry WHERE project_id = %s AND enterprise_project_id = '0'"
            " ORDER BY id LIMIT 1) RETURNING id",
            (REGISTRY, PROJECT),
        ).fetchone() or ("",)
        for change in (
            "UPDATE repository SET registry_id = %s, held_images = live_images",
            "UPDATE image SET registry_id = %s, held_at = now()",
            "UPDATE live_count SET registry_id = %s",
        ):
            query = sql.SQL("{} WHERE project_id = %s").format(sql.SQL(change))
            connection.execute(query, (registry, PROJECT))
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def _accept(server: Server, copy: Town) -> int:
    async def accept() -> int:
        async with open_house(copy.settings, server.address(copy.database)) as house:
            return await house.held.accept(EVERYONE, REGISTRY, images=None)

    return asyncio.run(accept())


def _read_while(
    work: Callable[[], Any], service: Service, server: Server, copy: Town, readers: Readers
) -> Any:
    ended = threading.Event()
    threads = [
        threading.Thread(target=_read, args=(service.client(), ended, readers)),
        threading.Thread(target=_watch, args=(server, copy, ended, readers)),
    ]
    for thread in threads:
        thread.start()
    try:
        return work()
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _read(client: Client, ended: threading.Event, readers: Readers) -> None:
    while not ended.is_set():
        for target in TARGETS:
            readers.seconds.append(client.get(target).seconds)
    client.close()


def _watch(server: Server, copy: Town, ended: threading.Event, readers: Readers) -> None:
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        " AND query LIKE '%%wharfinger.tenant%%WITH%%'"
    )
    with server.superuser() as connection:
        while not ended.wait(0.01):
            row = connection.execute(query, (copy.database,)).fetchone()
            readers.waits_for_locks += row[0] if row else 0


def lines(written: Written) -> list[Line]:
    """The verdicts."""
    case = f"{written.images:,} images of one registry retired in {written.seconds:.0f} s"
    usual = statistics.median(written.before.seconds) * 1000
    longest = max(written.meanwhile.seconds) * 1000
    return [
        Line(
            case=case,
            what="a reader's longest answer beside the usual one",
            value=f"{longest:.1f} ms beside {usual:.1f} ms"
            f" (without a writer up to {max(written.before.seconds) * 1000:.1f} ms)",
            target=f"at most {MOST_DELAY_MS:g} ms more",
            met=longest - usual <= MOST_DELAY_MS,
        ),
        Line(
            case=case,
            what="readers seen waiting for a lock",
            value=str(written.meanwhile.waits_for_locks),
            target="none",
            met=not written.meanwhile.waits_for_locks,
        ),
    ]


def plain(written: Written) -> dict[str, Any]:
    """For other programs."""
    return {
        "images": written.images,
        "seconds": written.seconds,
        **{
            f"{name}_ms": sorted(round(s * 1000, 2) for s in readers.seconds)[-100:]
            for name, readers in (("before", written.before), ("meanwhile", written.meanwhile))
        },
        "waits_for_locks": written.meanwhile.waits_for_locks,
    }
