"""Registries of several enterprise projects: whose runs a task shows, and what moves along."""

from __future__ import annotations

import msgspec
import pytest

from wharfinger.domain.errors import ConflictError, NotFoundError
from wharfinger.store.registries import RegistryChange

NAME = "swrprivate"


@pytest.fixture
async def web(yard, upstream):
    """Somebody who sees the enterprise project web and no other; the yard's caller sees 0."""
    yard.owner.execute(
        "INSERT INTO enterprise_project (id, project_id, name) VALUES ('web', %s, 'web')",
        (yard.caller.project_id,),
    )
    await yard.add_swr(upstream)
    return seeing(yard, "web")


def seeing(yard, *ids):
    return msgspec.structs.replace(yard.caller, enterprise_projects=ids)


async def move(yard, where):
    await yard.house.registries.change(
        seeing(yard, "0", "web"), NAME, RegistryChange(enterprise_project_id=where)
    )


async def changes(yard, caller):
    return (await yard.house.history.changes(caller, after=0, limit=200)).items


async def test_a_task_over_several_shows_everybody_their_own(yard, upstream, web):
    await yard.add_swr(upstream, kind="SwrShared")
    await move(yard, "web")
    everything = seeing(yard, "0", "web")
    task = await yard.house.synchroniser.synchronise_names(everything, [])
    await yard.quiet()

    async def seen(caller):
        return [r.registry_name for r in (await yard.house.synchroniser.task(caller, task)).runs]

    assert await seen(everything) == [NAME, "swrshared"]
    assert await seen(yard.caller) == ["swrshared"]
    assert await seen(web) == [NAME]
    with pytest.raises(NotFoundError):
        await seen(seeing(yard, "other"))


async def test_a_registry_moves_with_its_history_and_is_audited(yard, web):
    await yard.sync()
    assert len(await changes(yard, yard.caller)) == 60
    assert await changes(yard, web) == ()

    await move(yard, "web")

    assert await changes(yard, yard.caller) == ()
    assert len(await changes(yard, web)) == 60
    assert (await yard.house.history.runs(yard.caller, limit=9)).items == ()
    assert len((await yard.house.history.runs(web, limit=9)).items) == 1
    assert yard.owner.execute(
        "SELECT action, details FROM audit WHERE target_type = 'registry'"
    ).fetchall() == [
        (
            "registry.set",
            {"name": NAME, "enterprise_project_id": "web", "moved_from": "0", "hidden": 0},
        )
    ]


async def test_a_move_is_no_change_of_what_is_listed(yard, web):
    await yard.sync()
    await move(yard, "web")

    assert yard.value("SELECT config_generation = listed_generation FROM registry")


async def test_a_registry_moves_only_where_it_may(yard, web):
    with pytest.raises(NotFoundError, match="there is no enterprise project 'other'"):
        await move(yard, "other")
    yard.owner.execute("UPDATE enterprise_project SET disabled_at = now()")
    with pytest.raises(ConflictError, match="'web' is disabled"):
        await move(yard, "web")
    with pytest.raises(NotFoundError, match="there is no registry"):
        await yard.house.registries.change(web, NAME, RegistryChange(enterprise_project_id="web"))

    assert yard.value("SELECT enterprise_project_id FROM registry") == "0"


async def test_what_is_left_of_an_erased_registry_is_told_to_those_who_saw_it(yard, web):
    await yard.sync()
    await move(yard, "web")
    await yard.house.registries.remove(web, NAME)
    with pytest.raises(NotFoundError, match="only those can be purged"):
        await yard.house.held.purge(yard.caller, NAME)
    await yard.house.held.purge(web, NAME)

    assert await changes(yard, yard.caller) == ()
    left = await changes(yard, web)
    assert len(left) == 120
    assert {(event.name, event.tag, event.digest_after) for event in left} == {(None, None, None)}
