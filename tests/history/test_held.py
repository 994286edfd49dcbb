"""Held rows wait for a person; what a person accepts is retired, numbered and audited."""

from __future__ import annotations

import asyncio

import pytest
from typer.testing import CliRunner

from wharfinger.cli import app
from wharfinger.domain.errors import NotFoundError
from wharfinger.domain.model import RunOutcome
from wharfinger.service import held

LIST = r"^/v2/manage/repos\?"
NAME = "swrprivate"


@pytest.fixture
async def holding(yard, upstream):
    """Sixty images of which a listing that came up empty held every one."""
    await yard.add_swr(upstream)
    await yard.sync()
    yard.fault = upstream.faults.empty_list(LIST)
    await yard.sync()
    return yard


async def test_held_images_are_listed_by_turns_with_the_time_they_were_held(holding):
    first = await holding.house.held.list(holding.caller, NAME, limit=45)
    rest = await holding.house.held.list(holding.caller, NAME, after=first[-1].id, limit=45)

    assert (len(first), len(rest)) == (45, 15)
    assert {(f"{i.namespace}/{i.name}", i.tag, i.digest) for i in first + rest} == holding.stored()
    assert {i.held_since for i in first} == {
        holding.value("SELECT held_at FROM image WHERE held_at IS NOT NULL LIMIT 1")
    }


async def test_accepting_one_image_retires_that_one_and_counts_again(holding):
    one, *others = await holding.house.held.list(holding.caller, NAME)

    retired = await holding.house.held.accept(holding.caller, NAME, images=[one.id])

    assert retired == 1
    assert len(holding.stored()) == 59
    assert await holding.house.held.list(holding.caller, NAME) == others
    assert holding.events()[-1] == ("retired", one.tag)
    assert holding.value("SELECT max(seq) = 61 AND count(*) = 61 FROM event") is True
    assert holding.value("SELECT run_id FROM event WHERE seq = 61") is None
    assert holding.owner.execute("SELECT live_images, held_images FROM registry").fetchone() == (
        59,
        59,
    )
    assert holding.owner.execute(
        "SELECT live_images, held_images, latest_image_id = %s FROM repository WHERE name = %s",
        (one.id, one.name),
    ).fetchone() == (4, 4, False)
    assert (
        holding.value(
            "SELECT count(*) FROM image_version WHERE image_id = %s AND to_seq = 61", one.id
        )
        == 1
    )


async def test_accepting_all_empties_the_list_and_is_audited(holding):
    retired = await holding.house.held.accept(holding.caller, NAME, images=None)

    assert retired == 60
    assert holding.stored() == set()
    assert holding.value("SELECT held_images + live_images FROM registry") == 0
    assert holding.value("SELECT verdict_reasons FROM registry") == []
    assert holding.owner.execute(
        "SELECT principal, action, outcome, details ->> 'retired' FROM audit"
        " WHERE target LIKE 'registry %'"
    ).fetchall() == [("test", "registry.accept", "done", "60")]


async def test_accepting_many_goes_by_batches_that_others_can_write_between(holding, monkeypatch):
    monkeypatch.setattr(held, "BATCH", 25)
    so_far = []

    retired = await holding.house.held.accept(holding.caller, NAME, images=None, tell=so_far.append)

    assert (retired, so_far) == (60, [25, 50])
    assert holding.stored() == set()
    assert holding.value("SELECT held_images + live_images FROM registry") == 0
    assert holding.owner.execute(
        "SELECT details ->> 'retired' FROM audit WHERE action = 'registry.accept' ORDER BY id"
    ).fetchall() == [("25",), ("25",), ("10",)]
    # One transaction each: their events stand at three times.
    assert holding.value(
        "SELECT count(DISTINCT at) = 3 AND count(*) = 60 FROM event WHERE kind = 'retired'"
    )


async def test_the_command_tells_how_far_it_is(holding, database_address, monkeypatch):
    monkeypatch.setattr(held, "BATCH", 25)
    environment = {
        "WHARFINGER_DATA_DIR": str(holding.house.settings.data_dir),
        "WHARFINGER_DATABASE_URL": database_address.owner,
        "WHARFINGER_DATABASE_APP_URL": database_address.app,
    }
    words = ["registry", "accept", "--project", holding.caller.project_id, "--name", NAME, "--all"]

    done = await asyncio.to_thread(CliRunner().invoke, app, words, env=environment)

    assert done.stderr.splitlines() == ["accepted so far: 25", "accepted so far: 50"]
    assert done.stdout == f"accepted: 60 images of {NAME} retired\n"


async def test_what_is_held_after_somebody_accepted_all_is_not_meant(holding, monkeypatch):
    monkeypatch.setattr(held, "BATCH", 30)
    *_, last = await holding.house.held.list(holding.caller, NAME)

    def it_comes_and_is_held_anew(_: int) -> None:
        holding.owner.execute("UPDATE image SET held_at = now() WHERE id = %s", (last.id,))

    retired = await holding.house.held.accept(
        holding.caller, NAME, images=None, tell=it_comes_and_is_held_anew
    )

    assert retired == 59
    assert [i.id for i in await holding.house.held.list(holding.caller, NAME)] == [last.id]


async def test_what_a_newer_listing_contained_cannot_be_accepted(holding, upstream):
    before = await holding.house.held.list(holding.caller, NAME)
    upstream.faults.remove(holding.fault)
    upstream.world.delete_tag("bench-03/service-00003", held_tag(before))
    await holding.sync()

    with pytest.raises(NotFoundError, match="held no more"):
        await holding.house.held.accept(holding.caller, NAME, images=[i.id for i in before])
    # The one that the newer listing lacks as well stayed held, and is all that can be accepted.
    assert await holding.house.held.accept(holding.caller, NAME, images=None) == 1

    assert holding.stored() == upstream.world.images()


async def test_an_image_beside_held_ones_is_neither_listed_as_held_nor_retired(holding):
    kept = holding.value("SELECT min(id) FROM image")
    holding.owner.execute("UPDATE image SET held_at = NULL WHERE id = %s", (kept,))

    listed = await holding.house.held.list(holding.caller, NAME)
    with pytest.raises(NotFoundError, match=f"held no more: {kept}"):
        await holding.house.held.accept(holding.caller, NAME, images=[kept, listed[0].id])
    assert len(holding.stored()) == 60
    retired = await holding.house.held.accept(holding.caller, NAME, images=None)

    assert kept not in {image.id for image in listed}
    assert retired == 59
    assert holding.value("SELECT id FROM image WHERE retired_at IS NULL") == kept


async def test_what_was_accepted_and_comes_back_is_restored(holding, upstream):
    await holding.house.held.accept(holding.caller, NAME, images=None)
    upstream.faults.remove(holding.fault)

    run = await holding.sync()

    assert (run.outcome, run.restored, run.added) == (RunOutcome.COMPLETE, 60, 0)
    assert holding.stored() == upstream.world.images()


async def test_another_tenant_sees_and_accepts_nothing(holding):
    stranger = type(holding.caller)(project_id="stranger", project_name="s", principal="test")
    registry = str(holding.value("SELECT id FROM registry"))

    for name in (NAME, registry):
        with pytest.raises(NotFoundError):
            await holding.house.held.list(stranger, name)
        with pytest.raises(NotFoundError):
            await holding.house.held.accept(stranger, name, images=None)

    assert len(holding.stored()) == 60


async def test_purging_erases_a_removed_registry_and_keeps_the_numbers(yard, upstream):
    await yard.add_swr(upstream)
    await yard.add_swr(upstream, name="other")
    await yard.sync(names=(NAME,))
    await yard.sync(names=("other",))
    registry = yard.value("SELECT id FROM registry WHERE name = %s", NAME)
    await yard.house.registries.remove(yard.caller, NAME)

    assert await yard.house.held.purge(yard.caller, NAME) == 60

    for table in ("repository", "image", "run"):
        count = yard.value(f"SELECT count(*) FROM {table} WHERE registry_id = %s", registry)
        assert (table, count) == (table, 0)
    assert yard.value("SELECT count(*) FROM image_version") == 60
    assert yard.value("SELECT count(*) FROM registry") == 1
    assert yard.value("SELECT count(*) = 180 AND max(seq) = 180 FROM event") is True
    assert (
        yard.value(
            "SELECT count(*) FROM event WHERE registry_id = %s"
            " AND num_nonnulls(tag, digest_before, digest_after) > 0",
            registry,
        )
        == 0
    )
    actions = yard.owner.execute(
        "SELECT action FROM audit WHERE target LIKE 'registry %' ORDER BY id"
    ).fetchall()
    assert actions == [("registry.remove",), ("registry.purge",)]
    assert len(yard.stored()) == 60


async def test_a_registry_that_was_not_removed_is_not_purged(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()

    with pytest.raises(NotFoundError, match="only those can be purged"):
        await yard.house.held.purge(yard.caller, NAME)

    assert len(yard.stored()) == 60


def held_tag(held) -> str:
    return next(i.tag for i in held if i.name == "service-00003")
