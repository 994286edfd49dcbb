"""Access to SWR makes registries once, and another time changes what is there."""

from __future__ import annotations

import msgspec
import pytest

from wharfinger.domain.errors import ConflictError, InvalidParameterError, UnauthorisedError
from wharfinger.domain.model import RegistryCredential
from wharfinger.service.swr import SwrAccess
from wharfinger.store.registries import RegistryChange

CONFIGURED = "SELECT name, kind, config_generation FROM registry ORDER BY name"


@pytest.fixture
def access(upstream):
    key = upstream.key
    return SwrAccess(
        region="cn-north-4",
        address=upstream.url,
        swr_project_id=upstream.world.home.project_id,
        credential=RegistryCredential(
            kind="access_key", identity=key.access_key, secret=key.secret_key
        ),
    )


def with_secret(access, secret):
    return msgspec.structs.replace(
        access, credential=msgspec.structs.replace(access.credential, secret=secret)
    )


def configured(yard):
    return yard.owner.execute(CONFIGURED).fetchall()


async def outcomes(yard, access, **options):
    done = await yard.house.swr.configure(yard.caller, access, **options)
    return {one.name: one.outcome for one in done}


async def test_the_region_says_where_swr_is(yard, access):
    await yard.house.swr.configure(yard.caller, msgspec.structs.replace(access, address=""))

    addresses = yard.owner.execute("SELECT DISTINCT address FROM registry").fetchall()
    assert addresses == [("https://swr-api.cn-north-4.myhuaweicloud.com",)]


async def test_a_second_time_changes_nothing_and_holds_no_retirement(yard, access):
    await outcomes(yard, access)
    await yard.house.registries.change(
        yard.caller,
        "swr-shared-cn-north-4",
        RegistryChange(options={"page_size": 50, "project_id": access.swr_project_id}),
    )
    before = configured(yard)

    again = await outcomes(yard, access)

    assert set(again.values()) == {"unchanged"}
    assert configured(yard) == before


async def test_a_new_key_reaches_what_is_there_and_leaves_its_own_options(yard, access):
    await outcomes(yard, with_secret(access, "old"))
    change = RegistryChange(options={"page_size": 50})
    await yard.house.registries.change(yard.caller, "swr-private-cn-north-4", change)

    assert set((await outcomes(yard, access)).values()) == {"changed"}

    (private, _) = await yard.house.registries.list(yard.caller)
    assert private.options["page_size"] == 50
    assert (await yard.house.registries.test(yard.caller, private.name)).ok


async def test_a_registry_is_known_by_what_it_reads_and_not_by_its_name(yard, upstream, access):
    await yard.add_swr(upstream, name="mine", project_id=access.swr_project_id)

    assert await outcomes(yard, access) == {
        "mine": "unchanged",
        "swr-shared-cn-north-4": "added",
    }


async def test_a_name_that_something_else_has_is_not_taken_over(yard, upstream, access):
    await yard.add_swr(upstream, "SwrShared", name="swr-private-cn-north-4")

    with pytest.raises(ConflictError, match="swr-private-cn-north-4"):
        await outcomes(yard, access)


async def test_each_instance_is_a_registry_and_a_new_one_is_added_later(yard, upstream, access):
    upstream.world.instance("prod").content.push("team/app", "v1")
    first = await outcomes(yard, access, instances=True)
    upstream.world.instance("test")

    later = await outcomes(yard, access, instances=True)

    assert first["swr-prod"] == "added"
    assert later["swr-prod"] == "unchanged"
    assert later["swr-test"] == "added"
    options = yard.value("SELECT options FROM registry WHERE name = 'swr-prod'")
    instance = upstream.world.instance("prod")
    assert options == {
        "project_id": access.swr_project_id,
        "instance_id": instance.id,
        "instance_name": "prod",
        "instance_url": instance.content.registry_host,
    }


async def test_where_instances_cannot_be_asked_for_nothing_is_made(yard, access):
    with pytest.raises(UnauthorisedError):
        await outcomes(yard, with_secret(access, "wrong"), instances=True)
    with pytest.raises(InvalidParameterError, match="swr_project_id"):
        await outcomes(yard, msgspec.structs.replace(access, swr_project_id=""), instances=True)

    assert configured(yard) == []
