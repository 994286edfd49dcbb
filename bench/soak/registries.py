"""Twenty registries in one process, which change and misbehave until they are told to stop.

``python -m bench.soak.registries SEED``: the first line of standard output is a JSON array with how
to reach each. Each line of standard input is a command, answered by one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import datetime as dt
import logging
import random
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from wharfinger.testing.faults import Fault, Faults
from wharfinger.testing.model import World
from wharfinger.testing.oci import OciBehaviour, OciUpstream
from wharfinger.testing.upstream import Upstream

KINDS = ("SwrPrivate",) * 8 + ("SwrShared",) * 4 + ("Other",) * 8
PROJECTS = 4
LENDER = "lender"

CHANGE_EVERY_S = 0.25
BREAK_EVERY_S = 0.5
MOST_TAGS = 25
MOST_REPOSITORIES = 70
LOG_KEPT = 1000

LISTS = r"/repos\?|shared-repositories|_catalog"
TAGS = r"/tags"
ANY = r"/(v2|v3)/"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach one registry, and to which project it belongs."""

    name: str
    project: str
    kind: str
    url: str
    credential_kind: str
    identity: str = ""
    secret: str = ""
    options: dict[str, Any] = {}


Truth = dict[str, list[tuple[str, str, str]]]


@dataclass(kw_only=True)
class Registry:
    """One registry, and what goes wrong with it at the moment."""

    name: str
    kind: str
    server: Upstream | OciUpstream
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.server.world

    @property
    def owner(self) -> str:
        """Whose repositories are listed."""
        return LENDER if self.kind == "SwrShared" else self.world.home.name

    def paths(self) -> list[str]:
        return [r.path for r in self.world.owned(self.owner)]

    def truth(self) -> list[tuple[str, str, str]]:
        with self.world.lock:
            listed = self.world.shared_with() if self.kind == "SwrShared" else self.world.owned()
            return [(r.path, t.name, t.content.digest) for r in listed for t in r.tags.values()]

    def access(self, project: str) -> Access:
        if isinstance(self.server, Upstream):
            key = self.server.key
            kind, identity, secret = "access_key", key.access_key, key.secret_key
        elif self.server.behaviour.auth == "none":
            kind, identity, secret = "none", "", ""
        else:
            behaviour = self.server.behaviour
            kind, identity, secret = "basic", behaviour.username, behaviour.password
        return Access(
            name=self.name,
            project=project,
            kind=self.kind,
            url=self.server.url,
            credential_kind=kind,
            identity=identity,
            secret=secret,
            options=self.options,
        )


class Harbour:
    """All registries, the changes in them, and the faults on the way to them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.registries = [self._registry(n, kind) for n, kind in enumerate(KINDS)]
        self.changes: collections.Counter[str] = collections.Counter()
        self.broken: collections.Counter[str] = collections.Counter()
        self.struck: collections.Counter[str] = collections.Counter()
        self.requests = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._faults: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        self._tasks = [
            asyncio.create_task(self._change_for_ever()),
            asyncio.create_task(self._break_for_ever()),
            asyncio.create_task(self._count_for_ever()),
        ]

    async def stop_changing(self) -> None:
        await _cancel(self._tasks[:1])

    async def stop_breaking(self) -> None:
        await _cancel([self._tasks[1], *self._faults])
        for registry in self.registries:
            registry.server.faults.clear()

    def figures(self) -> dict[str, Any]:
        self._count()
        return {
            "changes": dict(self.changes),
            "faults": dict(self.broken),
            "struck": dict(self.struck),
            "requests": self.requests,
        }

    def truth(self) -> Truth:
        return {registry.name: registry.truth() for registry in self.registries}

    # --- how they are made ---

    def _registry(self, number: int, kind: str) -> Registry:
        world = World(clock=None)
        world.clock.follow_real_time()
        world.access_key()
        name = f"{kind.lower()}-{number:02}"
        options: dict[str, Any] = {"page_size": self.chance.choice((7, 20, 1000))}
        server: Upstream | OciUpstream
        if kind == "Other":
            server = OciUpstream(world, self._behaviour())
        else:
            server = Upstream(world)
            options["api"] = self.chance.choice(("v2", "v3"))
        registry = Registry(name=name, kind=kind, server=server, options=options)
        self._fill(registry)
        return registry

    def _behaviour(self) -> OciBehaviour:
        return OciBehaviour(
            auth=self.chance.choice(("none", "basic", "bearer")),
            page_cap=self.chance.choice((5, 1000)),
            token_lifetime_s=20.0,
            expires_in=20,
        )

    def _fill(self, registry: Registry) -> None:
        # Every image of Other costs requests of its own.
        least, most = (15, 30) if registry.kind == "Other" else (30, 60)
        for number in range(self.chance.randint(least, most)):
            for tag in range(self.chance.randint(5, 12 if registry.kind == "Other" else 20)):
                self._push(registry, f"team-{number % 5}/app-{number:03}", f"v{tag}")

    def _push(self, registry: Registry, path: str, tag: str, *, quiet: bool = False) -> None:
        platforms = ("linux/amd64", "linux/arm64") if self.chance.random() < 0.1 else ()
        registry.world.push(path, tag, platforms=platforms, account=registry.owner, quiet=quiet)
        if registry.kind == "SwrShared" and not registry.world.repository(path).shares:
            registry.world.share(path, registry.world.home.name)

    # --- changes ---

    async def _change_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(0, 2 * CHANGE_EVERY_S))
            registry = self.chance.choice(self.registries)
            with registry.world.lock:
                self.changes[self._change(registry)] += 1

    def _change(self, registry: Registry) -> str:
        paths = registry.paths()
        if len(paths) < 5 or (self.chance.random() < 0.06 and len(paths) < MOST_REPOSITORIES):
            return self._new_repository(registry)
        path = self.chance.choice(paths)
        tags = list(registry.world.repository(path).tags)
        if not tags:
            return self._push_tag(registry, path)
        changes: list[tuple[int, Callable[[], str]]] = [
            (30, lambda: self._push_tag(registry, path)),
            (30, lambda: self._move(registry, path, tags)),
            (40 if len(tags) > MOST_TAGS else 24, lambda: self._delete(registry, path, tags)),
            (3, lambda: self._delete_repository(registry, path)),
            (1, lambda: self._empty(registry, path, tags)),
        ]
        if registry.kind == "SwrShared":
            changes.append((3, lambda: self._unshare(registry, path)))
        if registry.kind != "Other":
            changes.append((1, lambda: self._move(registry, path, tags, quiet=True)))
        weights = [weight for weight, _ in changes]
        return self.chance.choices([change for _, change in changes], weights)[0]()

    def _new_repository(self, registry: Registry) -> str:
        path = f"team-{self.chance.randrange(5)}/new-{self.chance.randrange(10**6):06}"
        for tag in range(self.chance.randint(1, 8)):
            self._push(registry, path, f"v{tag}")
        return "new repository"

    def _push_tag(self, registry: Registry, path: str) -> str:
        # Some names come again, so that images are restored.
        self._push(registry, path, f"v{self.chance.randrange(40)}")
        return "push"

    def _move(self, registry: Registry, path: str, tags: list[str], *, quiet: bool = False) -> str:
        self._push(registry, path, self.chance.choice(tags), quiet=quiet)
        return "quiet move" if quiet else "move"

    def _delete(self, registry: Registry, path: str, tags: list[str]) -> str:
        registry.world.delete_tag(path, self.chance.choice(tags))
        return "delete"

    def _empty(self, registry: Registry, path: str, tags: list[str]) -> str:
        for tag in tags:
            registry.world.delete_tag(path, tag)
        return "all tags deleted"

    def _delete_repository(self, registry: Registry, path: str) -> str:
        registry.world.delete_repository(path)
        return "repository deleted"

    def _unshare(self, registry: Registry, path: str) -> str:
        home = registry.world.home.name
        if home in registry.world.repository(path).shares:
            registry.world.unshare(path, home)
            return "unshared"
        registry.world.share(path, home)
        return "shared"

    # --- faults ---

    async def _break_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(0, 2 * BREAK_EVERY_S))
            registry = self.chance.choice(self.registries)
            task = asyncio.create_task(self._break(registry))
            self._faults.add(task)
            task.add_done_callback(self._faults.discard)

    async def _break(self, registry: Registry) -> None:
        what, begin = self.chance.choice(list(self._ways(registry).items()))
        self.broken[what] += 1
        fault = begin()
        try:
            # What hangs for long must be given up, not only waited for.
            await asyncio.sleep(self.chance.uniform(1, 80 if what == "hanging" else 8))
        finally:
            self.struck[what] += fault.struck
            fault.release()
            with contextlib.suppress(ValueError):
                registry.server.faults.remove(fault)

    def _ways(self, registry: Registry) -> dict[str, Callable[[], Fault]]:
        faults: Faults = registry.server.faults
        often, seldom = self.chance.uniform(0.2, 0.9), self.chance.uniform(0.05, 0.3)
        ways: dict[str, Callable[[], Fault]] = {
            "429": lambda: faults.throttle(ANY, retry_after=self._wish(), probability=often),
            "503": lambda: faults.answer(ANY, 503, probability=often),
            "reset": lambda: faults.reset(ANY, probability=seldom),
            "truncated": lambda: faults.truncate(ANY, probability=seldom),
            "truncated, chunked": lambda: faults.truncate(ANY, chunked=True, probability=seldom),
            "broken JSON": lambda: faults.cut_body(ANY, probability=seldom),
            "HTML": lambda: faults.html(ANY, probability=seldom),
            "stalled": lambda: faults.stall(ANY, 4.0, probability=seldom),
            "hanging": lambda: faults.hold(ANY, times=4),
            "late": lambda: faults.delay(ANY, 0.5),
            "403": lambda: faults.answer(TAGS, 403, times=3),
            "empty list": lambda: faults.empty_list(LISTS, times=2),
            "empty tags": lambda: faults.empty_list(TAGS, times=2),
            "rate limit": lambda: faults.limit_rate(ANY, 10),
        }
        if isinstance(registry.server, Upstream):
            server = registry.server
            ways["SWR throttles"] = lambda: server.swr_throttle(ANY, probability=often)
            ways["SWR breaks down"] = lambda: server.break_down(ANY, probability=often)
            ways["wrong total"] = lambda: faults.wrong_total(LISTS, 9999, times=2)
        return ways

    def _wish(self) -> float | dt.datetime | None:
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
        return self.chance.choice((None, 1, 2, soon))

    # --- counting ---

    async def _count_for_ever(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._count()

    def _count(self) -> None:
        for registry in self.registries:
            self.requests += len(registry.server.log)
            registry.server.log.clear()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(harbour: Harbour) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for registry in harbour.registries:
            await stack.enter_async_context(registry.server)
        _say([r.access(f"project-{n % PROJECTS}") for n, r in enumerate(harbour.registries)])
        harbour.begin()
        async for command in _commands():
            _say(await _obey(harbour, command))


async def _obey(harbour: Harbour, command: str) -> Any:
    if command == "stop changing":
        await harbour.stop_changing()
    elif command == "stop breaking":
        await harbour.stop_breaking()
    elif command == "truth":
        return harbour.truth()
    return harbour.figures()


async def _commands() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


def _say(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int)
    # Callers are killed in the middle of an answer, and two faults at once may not fit together.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    asyncio.run(_serve(Harbour(parser.parse_args().seed)))


if __name__ == "__main__":
    main()
