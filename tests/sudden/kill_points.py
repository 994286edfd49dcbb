"""The points at which a run is killed, and how a process is made to stand there.

Where the run waits for the registry, the upstream holds the one request that it needs next; where
it waits for nothing but the database, the test holds the row that it needs next.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg
from serving import Database, Service

from wharfinger.testing.faults import Fault
from wharfinger.testing.model import World
from wharfinger.testing.upstream import Upstream

PAGE = 4
ARRIVES_S = 15.0

# Requests, as the paths and queries of SWR's v3 say them.
LISTING = r"/manage/repos\?"
FIRST_PAGE = r"/manage/repos\?limit=\d+$"
FURTHER_PAGES = r"/manage/repos\?.*marker="
UNIT_1 = r"/repos/service-0[0-3]/tags\?"
UNITS_2_AND_3 = r"/repos/service-(0[4-9]|1\d)/tags\?"
SERVICES = r"/repos/service-\d+/tags\?"
LONG = r"/repos/long/tags\?"
LONG_FIRST_PAGE = r"/repos/long/tags\?(?!.*marker=)"
LONG_FURTHER_PAGES = r"/repos/long/tags\?.*marker="


def world_before() -> World:
    """What the list holds already: twelve services, one that will go, one with many tags."""
    world = World()
    world.access_key()
    for number in range(12):
        for tag in ("v1", "v2", "v3"):
            world.push(f"team/service-{number:02}", tag)
    for tag in ("v1", "v2"):
        world.push("team/doomed", tag)
    for number in range(20):
        world.push("team/long", f"t{number:02}")
    return world


def change(world: World) -> None:
    """What the run under test finds: every repository changed, some of it to be retired.

    Pages of four make four units: three of services, and one of the long repository alone.
    """
    for number in range(12):
        world.move(f"team/service-{number:02}", "v2")
        world.push(f"team/service-{number:02}", "v4")
    world.delete_tag("team/service-05", "v1")
    world.move("team/long", "t05")
    world.delete_tag("team/long", "t03")
    for number in range(20, 23):
        world.push("team/long", f"t{number:02}")
    world.delete_repository("team/doomed")


@dataclass
class Stage:
    """A service over a list that was read before, and the upstream that has changed since."""

    service: Service
    database: Database
    upstream: Upstream

    def hold(self, path: str, *, skip: int = 0) -> Fault:
        """Keep the first such request waiting, but for the ones skipped."""
        return self.upstream.faults.hold(path, skip=skip, times=1)

    def await_held(self, fault: Fault, count: int = 1) -> None:
        deadline = time.monotonic() + ARRIVES_S
        while fault.struck < count:
            assert time.monotonic() < deadline, f"nobody asks for {fault.path.pattern}"
            time.sleep(0.01)

    def await_units(self, done: int) -> None:
        self.await_run("units_done = %s", done)

    def await_run(self, condition: str, *parameters) -> None:
        query = f"SELECT count(*) = 1 FROM run WHERE state = 'running' AND {condition}"
        self.database.await_(query, *parameters, within_s=ARRIVES_S)


@dataclass
class Arrived:
    """A run that stands at its kill point.

    ``held`` is what it waits for from the registry, ``locks`` what it waits for in the database.
    ``expected`` are the requests that are left to be made, ``needless`` those that must not be
    made again.
    """

    expected: dict[str, int] = field(default_factory=dict)
    needless: Sequence[str] = ()
    held: Fault | None = None
    locks: psycopg.Connection | None = None

    @property
    def waiting(self) -> int:
        return self.held.struck if self.held else 0

    def answer(self) -> None:
        """Answer those who still wait for the registry."""
        if self.held is not None:
            self.held.release()

    def unlock(self) -> None:
        if self.locks is not None:
            # A database that was killed took its locks along.
            with contextlib.suppress(psycopg.OperationalError):
                self.locks.close()


def before_the_first_page(stage: Stage) -> Arrived:
    held = stage.hold(LISTING)
    stage.service.synchronise()
    stage.await_held(held)
    return Arrived({FIRST_PAGE: 1, FURTHER_PAGES: 3, SERVICES: 12, LONG: 6}, held=held)


def between_pages(stage: Stage) -> Arrived:
    held = stage.hold(FURTHER_PAGES)
    stage.service.synchronise()
    stage.await_held(held)
    stage.await_units(1)
    left = {FURTHER_PAGES: 3, UNITS_2_AND_3: 8, LONG: 6}
    return Arrived(left, needless=[FIRST_PAGE, UNIT_1], held=held)


def between_units(stage: Stage) -> Arrived:
    page = stage.hold(FURTHER_PAGES)
    tags = stage.upstream.faults.hold(UNITS_2_AND_3, times=8)
    stage.service.synchronise()
    stage.await_held(page)
    stage.await_units(1)
    page.release()
    stage.await_held(tags, 8)
    stage.await_run("listing = 'complete' AND units_done = 2")
    return Arrived({UNITS_2_AND_3: 8}, needless=[LISTING, UNIT_1, LONG], held=tags)


def between_pages_of_tags(stage: Stage) -> Arrived:
    held = stage.hold(LONG_FURTHER_PAGES, skip=1)
    stage.service.synchronise()
    stage.await_held(held)
    stage.await_units(3)
    # Six pages, of which two are staged.
    return Arrived({LONG: 4}, needless=[LISTING, SERVICES, LONG_FIRST_PAGE], held=held)


def between_the_last_write_and_the_end(stage: Stage) -> Arrived:
    lock = "SELECT id FROM registry FOR NO KEY UPDATE"
    locks = _blocked_in_the_database(stage, LONG, lock, units_done=4)
    return Arrived(needless=["."], locks=locks)


def while_a_tag_is_retired(stage: Stage) -> Arrived:
    last = r"/repos/service-05/tags\?"
    lock = _row_of_image("service-05", "v1")
    locks = _blocked_in_the_database(stage, last, lock, units_done=3)
    others = r"/repos/service-(08|09|1\d)/tags\?"
    left = {r"/repos/service-0[4-7]/tags\?": 4}
    return Arrived(left, needless=[LISTING, UNIT_1, others, LONG], locks=locks)


def while_a_repository_is_retired(stage: Stage) -> Arrived:
    lock = _row_of_image("doomed", "v2")
    locks = _blocked_in_the_database(stage, LONG, lock, units_done=4)
    return Arrived(needless=["."], locks=locks)


def _row_of_image(repository: str, tag: str) -> str:
    return (
        "SELECT FROM image JOIN repository r ON r.id = repository_id"
        f" WHERE tag = '{tag}' AND r.name = '{repository}' FOR UPDATE OF image"
    )


def _blocked_in_the_database(
    stage: Stage, last: str, lock: str, *, units_done: int
) -> psycopg.Connection:
    """Bring the run to where only ``last`` is missing, take the lock, and let it run into that."""
    held = stage.hold(last)
    stage.service.synchronise()
    stage.await_held(held)
    stage.await_units(3)
    locks = stage.database.connect()
    locks.autocommit = False
    locks.execute(lock)
    held.release()
    stage.await_units(units_done)
    stage.database.await_(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))",
        locks.info.backend_pid,
        within_s=ARRIVES_S,
    )
    return locks


POINTS: dict[str, Callable[[Stage], Arrived]] = {
    "before the first page": before_the_first_page,
    "between pages": between_pages,
    "between units": between_units,
    "between pages of tags": between_pages_of_tags,
    "between the last write and the end": between_the_last_write_and_the_end,
    "while a tag is retired": while_a_tag_is_retired,
    "while a repository is retired": while_a_repository_is_retired,
}
