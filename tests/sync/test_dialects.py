"""`Other` reads the registries of the world, each in the way that it wants to be read."""

from __future__ import annotations

import pytest

from wharfinger.domain.model import RegistryCredential, RunOutcome
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.dialects import DIALECTS
from wharfinger.testing.model import World
from wharfinger.testing.oci import OciUpstream

CLOSED = [name for name, dialect in DIALECTS.items() if not dialect().has_catalog]


def the_world() -> World:
    world = World()
    for path in ("library/nginx", "acme/team/deep/app", "acme/base", "acme/tool", "other/x_y-z"):
        for number in range(5):
            world.push(path, f"v1.{number}")
    world.push("acme/base", "multi", platforms=("linux/amd64", "linux/arm64/v8"))
    return world


async def add(yard, registry, dialect, **options):
    new = NewRegistry(
        name="other",
        kind="Other",
        address=registry.url + dialect.behaviour.root,
        options={**dialect.options, **options},
        allow_private_networks=True,
    )
    secret = dialect.secret or dialect.behaviour.password
    credential = RegistryCredential(kind="basic", identity=dialect.username, secret=secret)
    await yard.add(new, credential)


@pytest.mark.parametrize("name", DIALECTS)
async def test_every_dialect_is_read_to_its_last_image(yard, name):
    dialect = DIALECTS[name]()
    world = the_world()
    named = {} if dialect.has_catalog else {"repositories": [r.path for r in world.owned()]}

    async with OciUpstream(world, dialect.behaviour) as registry:
        await add(yard, registry, dialect, **named)
        run = await yard.sync()

    assert (run.outcome, run.reasons) == (RunOutcome.COMPLETE, ())
    assert yard.stored() == world.images()


@pytest.mark.parametrize("name", CLOSED)
async def test_a_closed_catalog_is_told_with_what_helps(yard, name):
    dialect = DIALECTS[name]()

    async with OciUpstream(the_world(), dialect.behaviour) as registry:
        await add(yard, registry, dialect)
        run = await yard.sync()

    assert run.outcome is RunOutcome.FAILED
    assert "--repository" in run.reasons[0].message
    assert dialect.behaviour.password not in run.reasons[0].message


async def test_an_exchanged_token_is_exchanged_once_and_anew_when_it_ends(yard):
    dialect = DIALECTS["acr-entra"]()
    world = the_world()

    async with OciUpstream(world, dialect.behaviour) as registry:
        await add(yard, registry, dialect)
        await yard.sync()
        assert len(registry.requests("/oauth2/exchange")) == 1
        assert dialect.secret not in "".join(line.target for line in registry.log)
        dialect.behaviour.refresh_token = "refresh-token-of-the-next-hours"
        registry.expire_tokens()
        world.push("acme/base", "v2")
        run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == world.images()
