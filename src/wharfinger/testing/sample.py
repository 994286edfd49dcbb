"""A believable SWR of three hundred repositories, the same every time."""

from __future__ import annotations

import datetime as dt
import random

from wharfinger.testing.content import OCI_INDEX, index
from wharfinger.testing.model import Clock, World

PARTNER = "northwind"

_TEAMS = {
    "platform": ("api-gateway", "config-server", "service-mesh", "scheduler", "feature-flags"),
    "payments": ("ledger", "card-vault", "settlement", "fraud-check", "invoice-render"),
    "data": ("ingest", "stream-router", "warehouse-loader", "catalog", "quality"),
    "mobile": ("push-relay", "session", "media-upload", "profile", "search"),
    "web": ("storefront", "checkout", "content", "recommendations", "accounts"),
    "ml": ("trainer", "feature-store", "embedder", "scorer", "notebook"),
}
_PARTS = ("", "-worker", "-migrate", "-cron", "/sidecar", "/tools/cli", "-exporter", "-proxy")
_BASES = ("alpine", "debian", "python", "node", "openjdk", "nginx", "redis", "postgres", "golang")
_PLATFORMS = ("linux/amd64", "linux/arm64/v8")


def sample_world() -> World:
    """About 300 repositories and 3,000 to 4,000 tags of ``acme``, 12 more lent by ``northwind``."""
    chance = random.Random(20_260)  # noqa: S311 - the same world every time
    world = World(account="acme", clock=Clock(dt.datetime(2025, 2, 3, 7, 41, 9, tzinfo=dt.UTC)))
    for team, services in _TEAMS.items():
        for service in services:
            for part in _PARTS:
                _releases(world, f"{team}/{service}{part}", chance)
    for base in _BASES:
        _base_image(world, f"base/{base}", chance)
    for number in range(52):
        _nightly(world, f"sandbox/{chance.choice(_BASES)}-try-{number:02}", chance)
    _partner(world, chance)
    world.create_repository("sandbox/abandoned")
    for path in ("base/alpine", "platform/api-gateway"):
        world.share(path, PARTNER)
    return world


def _releases(world: World, path: str, chance: random.Random) -> None:
    world.create_repository(path, category="app_server")
    major = chance.randint(1, 4)
    versions = [f"{major}.{minor}.{chance.randint(0, 9)}" for minor in range(chance.randint(5, 17))]
    for version in versions:
        _later(world, chance)
        world.push(path, version, size=chance.randint(18, 420) * 1_000_003)
    newest = world.tag(path, versions[-1]).content
    world.push(path, "latest", content=newest)
    if chance.random() < 0.4:
        world.push(path, f"{chance.getrandbits(28):07x}", content=newest)


def _base_image(world: World, path: str, chance: random.Random) -> None:
    world.create_repository(path, category="linux", is_public=True)
    for version in range(chance.randint(6, 14)):
        _later(world, chance)
        size = chance.randint(3, 60) * 1_000_003
        world.push(path, f"{version + 3}", platforms=_PLATFORMS, size=size)


def _nightly(world: World, path: str, chance: random.Random) -> None:
    for day in range(1, chance.randint(4, 12)):
        _later(world, chance)
        world.push(path, f"nightly-2025{chance.randint(1, 12):02}{day:02}")


def _partner(world: World, chance: random.Random) -> None:
    for number in range(12):
        path = f"{PARTNER}-public/connector-{number:02}"
        world.create_repository(path, account=PARTNER)
        for minor in range(chance.randint(2, 8)):
            _later(world, chance)
            world.push(path, f"2.{minor}")
        world.share(path, world.home.name, expires=_expiry(world, number))
    seed = f"{PARTNER} agent"
    agent = index(
        seed, created=world.clock.now(), platforms=_PLATFORMS, size=31_000_017, media_type=OCI_INDEX
    )
    world.push(f"{PARTNER}-public/connector-00", "multi", content=agent)


def _expiry(world: World, number: int) -> dt.datetime | None:
    if number == 11:
        return world.clock.now() + dt.timedelta(seconds=1)
    return None if number % 2 else dt.datetime(2099, 12, 31, tzinfo=dt.UTC)


def _later(world: World, chance: random.Random) -> None:
    world.clock.advance(chance.randint(40, 9_000) + chance.random())
