"""What is stored after a sync, an unchanged one, and each kind of change."""

from __future__ import annotations

import datetime as dt

import pytest

from wharfinger.domain.inventory import RegistryScope
from wharfinger.domain.model import RunOutcome

REPOSITORY = "bench-03/service-00003"


async def test_a_first_sync_stores_exactly_what_the_registry_has(yard, upstream):
    await yard.add_swr(upstream)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert (run.repositories_total, run.repositories_done, run.images) == (12, 12, 60)
    assert (run.added, run.moved, run.retired) == (60, 0, 0)
    assert yard.stored() == upstream.world.images()
    assert {kind for kind, _ in yard.events()} == {"added"}


@pytest.mark.hard_case("H35", guard="wharfinger.store.runs:_sort_out")
async def test_an_unchanged_registry_is_confirmed_without_reading_tags_or_writing_rows(
    yard, upstream
):
    await yard.add_swr(upstream)
    await yard.sync()
    before = written(yard)
    upstream.log.clear()

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert (run.repositories_done, run.images, run.requests) == (12, 60, 1)
    assert [logged.path for logged in upstream.log] == ["/v2/manage/repos"]
    assert written(yard) == before


@pytest.mark.hard_case("H35", guard="wharfinger.store.writing:_level")
async def test_a_full_sync_of_an_unchanged_registry_reads_everything_and_writes_no_row(
    yard, upstream
):
    await yard.add_swr(upstream)
    await yard.sync()
    before = written(yard)

    run = await yard.sync(full=True)

    assert (run.outcome, run.requests) == (RunOutcome.COMPLETE, 13)
    assert written(yard) == before


async def test_only_the_repository_that_changed_is_read(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    upstream.world.push(REPOSITORY, "v2.0")
    upstream.log.clear()

    run = await yard.sync()

    assert run.added == 1
    assert len(upstream.requests("/tags")) == 1
    assert yard.stored() == upstream.world.images()


async def test_a_quick_pass_reads_a_repository_that_changed_a_while_ago(yard, upstream):
    # The registry's own clock says that the change is old, so the row has a fingerprint, a new one.
    upstream.world_date = True
    upstream.world.clock.advance(60)
    await yard.add_swr(upstream)
    await yard.sync()
    upstream.world.push(REPOSITORY, "v2.0")
    upstream.world.clock.advance(60)
    upstream.log.clear()

    run = await yard.sync()

    assert run.added == 1
    assert len(upstream.requests("/tags")) == 1
    assert yard.stored() == upstream.world.images()


async def test_a_moved_tag_keeps_its_id_and_tells_both_digests(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    old = upstream.world.tag(REPOSITORY, "v1.1").content.digest
    image_id = yard.value("SELECT id FROM image WHERE digest = %s AND tag = 'v1.1'", old)

    upstream.world.move(REPOSITORY, "v1.1")
    run = await yard.sync()

    new = upstream.world.tag(REPOSITORY, "v1.1").content.digest
    assert (run.added, run.moved, run.retired) == (0, 1, 0)
    assert yard.value("SELECT digest FROM image WHERE id = %s", image_id) == new
    last = yard.owner.execute(
        "SELECT kind, image_id, digest_before, digest_after FROM event ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    assert last == ("moved", image_id, old, new)


async def test_a_deleted_tag_is_retired_and_its_return_restores_it(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    image_id = yard.value("SELECT min(id) FROM image WHERE tag = 'v1.4'")
    path = yard.value(
        "SELECT r.namespace || '/' || r.name FROM image i JOIN repository r"
        " ON r.id = i.repository_id WHERE i.id = %s",
        image_id,
    )

    upstream.world.delete_tag(path, "v1.4")
    gone = await yard.sync()
    assert (gone.outcome, gone.retired) == (RunOutcome.COMPLETE, 1)
    assert yard.stored() == upstream.world.images()

    upstream.world.push(path, "v1.4")
    back = await yard.sync()
    assert (back.added, back.restored) == (0, 1)
    assert yard.stored() == upstream.world.images()
    life = yard.owner.execute(
        "SELECT kind FROM event WHERE image_id = %s ORDER BY seq", (image_id,)
    ).fetchall()
    assert life == [("added",), ("retired",), ("restored",)]


async def test_a_deleted_repository_is_retired_with_its_images(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()

    upstream.world.delete_repository(REPOSITORY)
    run = await yard.sync()

    assert (run.outcome, run.retired) == (RunOutcome.COMPLETE, 5)
    assert yard.stored() == upstream.world.images()
    assert yard.value("SELECT count(*) FROM repository WHERE retired_at IS NOT NULL") == 1


async def test_events_are_numbered_without_a_gap_and_versions_tile_their_time(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    upstream.world.move(REPOSITORY, "v1.1")
    upstream.world.delete_tag(REPOSITORY, "v1.2")
    await yard.sync()
    upstream.world.push(REPOSITORY, "v1.2")
    await yard.sync()

    numbers = [n for (n,) in yard.owner.execute("SELECT seq FROM event ORDER BY seq")]
    assert numbers == list(range(1, 60 + 3 + 1))
    assert yard.value("SELECT seq FROM tenant_feed") == len(numbers)
    # The current list is what the open versions say, and no image has two at once.
    assert (
        yard.value(
            """
        SELECT count(*) FROM image i FULL JOIN
            (SELECT * FROM image_version WHERE to_seq IS NULL) v ON v.image_id = i.id
        WHERE (i.retired_at IS NULL) IS DISTINCT FROM (v.image_id IS NOT NULL)
           OR (v.image_id IS NOT NULL AND v.digest <> i.digest)
        """
        )
        == 0
    )
    assert (
        yard.value(
            """
        SELECT count(*) FROM image_version a JOIN image_version b
            ON a.image_id = b.image_id AND a.from_seq < b.from_seq
        WHERE coalesce(a.to_seq, 9e18) > b.from_seq
        """
        )
        == 0
    )


async def test_a_tag_moved_behind_a_standing_fingerprint_is_found_by_a_full_sync(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    upstream.world.move(REPOSITORY, "v1.1", quiet=True)

    assert (await yard.sync()).moved == 0
    found = await yard.sync(full=True)

    assert found.moved == 1
    assert yard.stored() == upstream.world.images()


async def test_once_a_fingerprint_has_lied_quick_passes_stop(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    upstream.world.move(REPOSITORY, "v1.1", quiet=True)
    await yard.sync(full=True)

    await yard.sync()  # the fingerprint still stands: nothing but a lie explains the change
    upstream.world.move(REPOSITORY, "v1.3", quiet=True)
    run = await yard.sync()

    assert yard.value("SELECT fingerprint_lies FROM registry") == 1
    assert (run.full, run.moved) == (True, 1)


def written(yard) -> list[tuple[str, int, int, int]]:
    """Rows inserted, updated and deleted so far in the tables of the list and its history."""
    # Counters reach the shared statistics when a backend is idle; asking a snapshot of row
    # versions instead is exact: a row that is written gets another xmin or another place.
    rows = []
    for table in ("repository", "image", "image_version", "platform", "event"):
        rows += yard.owner.execute(
            f"SELECT '{table}', count(*), coalesce(sum(xmin::text::bigint), 0),"
            f" coalesce(sum(('x' || md5(ctid::text))::bit(32)::bigint), 0) FROM {table}"
        ).fetchall()
    return rows


async def test_a_change_without_an_event_still_changes_what_the_list_is_worth(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    everything = RegistryScope(enterprise_projects=("0",))
    tag = next(iter(upstream.world.owned()[0].tags.values()))
    before = await yard.house.inventory.worth(yard.caller, everything)
    events = len(yard.events())

    tag.updated += dt.timedelta(minutes=1)
    await yard.sync(full=True)

    after = await yard.house.inventory.worth(yard.caller, everything)
    assert (len(yard.events()), after.as_of) == (events, before.as_of)
    assert yard.value("SELECT revision FROM tenant_feed") == 1
    assert after.state != before.state


async def test_another_failure_changes_what_the_list_is_worth_though_the_verdict_stays(
    yard, upstream
):
    await yard.add_swr(upstream)
    await yard.sync()
    everything = RegistryScope(enterprise_projects=("0",))
    states = []
    for repository in upstream.world.owned()[:2]:
        tags = f"/v2/manage/namespaces/{repository.path.replace('/', '/repos/')}/tags"
        fault = upstream.faults.answer(tags, 403, body={"error_code": "X", "error_msg": "no"})
        await yard.sync(full=True)
        upstream.faults.remove(fault)
        assert yard.registry_verdict() == "partial"
        states.append((await yard.house.inventory.worth(yard.caller, everything)).state)

    assert len(set(states)) == 2
