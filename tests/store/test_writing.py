"""The cost of publishing a batch, and what readers see of it."""

from __future__ import annotations

import datetime as dt

import psycopg
import pytest
from psycopg.types.json import Jsonb

from wharfinger.domain.model import Image, TagRef
from wharfinger.store import runs, writing
from wharfinger.store.writing import ReadRepository, UnitResult, WantedRepository

PROJECT = "p"


@pytest.fixture
def owner(owner_connection: psycopg.Connection) -> psycopg.Connection:
    owner_connection.execute("INSERT INTO project VALUES ('p', 'p')")
    owner_connection.execute("INSERT INTO tenant_feed VALUES ('p')")
    owner_connection.execute(
        "INSERT INTO registry (project_id, name, kind, address, listed_generation)"
        " VALUES ('p', 'r', 'SwrPrivate', 'http://r', 1)"
    )
    owner_connection.execute(
        "INSERT INTO run (project_id, registry_id, state, retire_budget)"
        " SELECT 'p', id, 'running', 10 FROM registry"
    )
    return owner_connection


async def test_the_cost_of_a_batch_does_not_grow_with_the_table(database, owner):
    small = await pages_touched_by_a_batch(database, owner, round_=1)
    fill(owner, 200_000)

    large = await pages_touched_by_a_batch(database, owner, round_=2)

    assert small > 0
    # Index trees get a level deeper; a scan of the table would touch thousands of pages.
    assert large < 2 * small


async def test_a_first_batch_costs_the_same_in_a_table_without_statistics(database, owner):
    ids = repositories(owner, 20)
    small = await pages_touched_by(database, owner, ids, version="small")
    fill(owner, 100_000, analyse=False)

    large = await pages_touched_by(database, owner, repositories(owner, 20), version="large")

    assert 0 < large < 2 * small


async def test_a_moved_batch_closes_the_versions_before_it(database, owner):
    ids = repositories(owner, 3)
    await publish(database, owner, ids, version="one")
    await publish(database, owner, ids, version="two")

    spans = owner.execute(
        "SELECT o.to_seq = n.from_seq, o.to_seq = e.seq FROM image_version o"
        " JOIN image_version n ON n.image_id = o.image_id AND n.to_seq IS NULL"
        " JOIN event e ON e.image_id = o.image_id AND e.kind = 'moved'"
        " WHERE o.to_seq IS NOT NULL"
    ).fetchall()

    assert spans == [(True, True)] * 60


async def test_what_arrived_is_told_before_what_moved(database, owner):
    known, new = repositories(owner, 2), repositories(owner, 1)
    await publish(database, owner, known, version="one")

    await publish(database, owner, [*known, *new], version="two")

    told = owner.execute("SELECT kind, count(*), min(seq), max(seq) FROM event GROUP BY kind")
    assert sorted(told.fetchall()) == [("added", 60, 1, 60), ("moved", 40, 61, 100)]
    open_ = owner.execute(
        "SELECT count(*) FROM image_version v JOIN event e ON e.image_id = v.image_id"
        " AND e.seq = v.from_seq AND e.digest_after = v.digest WHERE v.to_seq IS NULL"
    )
    assert open_.fetchone() == (60,)


@pytest.mark.hard_case("H27", guard="wharfinger.store.writing:publish_unit")
async def test_readers_see_a_repository_as_it_was_or_as_it_is(database, owner):
    ids = repositories(owner, 3)
    await publish(database, owner, ids, version="one")

    async with database.tenant(PROJECT) as tx:
        unit = await take(tx, owner, ids)
        await writing.publish_unit(tx, PROJECT, result_of(unit, version="two"))
        during = owner.execute("SELECT DISTINCT digest LIKE '%two%' FROM image").fetchall()
    after = owner.execute("SELECT DISTINCT digest LIKE '%two%' FROM image").fetchall()

    assert (during, after) == ([(False,)], [(True,)])


async def test_a_batch_that_fails_leaves_nothing_behind(database, owner):
    ids = repositories(owner, 2)

    with pytest.raises(ZeroDivisionError):
        async with database.tenant(PROJECT) as tx:
            unit = await take(tx, owner, ids)
            await writing.publish_unit(tx, PROJECT, result_of(unit, version="one"))
            raise ZeroDivisionError

    assert owner.execute("SELECT count(*) FROM image").fetchone() == (0,)
    assert owner.execute("SELECT count(*) FROM event").fetchone() == (0,)
    assert owner.execute("SELECT seq FROM tenant_feed").fetchone() == (0,)


def repositories(owner, count: int) -> list[int]:
    return [
        row[0]
        for row in owner.execute(
            "INSERT INTO repository (project_id, registry_id, namespace, name)"
            " SELECT 'p', r.id, 'ns', 'repo-' || n || '-' || (SELECT count(*) FROM repository)"
            " FROM registry r, generate_series(1, %s) n RETURNING id",
            (count,),
        ).fetchall()
    ]


def fill(owner, rows: int, *, analyse: bool = True) -> None:
    owner.execute(
        "WITH r AS (INSERT INTO repository (project_id, registry_id, namespace, name)"
        "   SELECT 'p', g.id, 'filler', 'f' || n FROM registry g, generate_series(1, %s) n"
        "   RETURNING id, registry_id)"
        " INSERT INTO image (project_id, registry_id, repository_id, tag, digest, image_id, size,"
        "   updated_at)"
        " SELECT 'p', r.registry_id, r.id, 't' || n, 'sha256:' || r.id || '-' || n, 'x', 1, now()"
        " FROM r, generate_series(1, 20) n",
        (rows // 20,),
    )
    if analyse:
        owner.execute("ANALYZE image")


async def take(tx, owner, ids: list[int]):
    (unit_id,) = owner.execute(
        "INSERT INTO unit (project_id, run_id, registry_id, repository_ids, repositories)"
        " SELECT 'p', run.id, run.registry_id, %s, %s FROM run RETURNING id",
        (ids, Jsonb([{"id": i, "namespace": "ns", "name": f"n{i}"} for i in ids])),
    ).fetchone()
    return await runs.take_unit(tx, unit_id)


def result_of(unit, *, version: str, tags: int = 20) -> UnitResult:
    return UnitResult(
        unit=unit.id,
        attempt=unit.attempt,
        began=dt.datetime.now(dt.UTC),
        read=[
            ReadRepository(wanted=wanted, tags=tags_of(wanted, version, tags), rows=tags)
            for wanted in unit.repositories
        ],
    )


def tags_of(wanted: WantedRepository, version: str, count: int) -> list[TagRef]:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return [
        TagRef(
            tag=f"v{n}",
            digest=f"sha256:{version}-{wanted.id}-{n}",
            updated_at=now,
            image=Image(digest=f"sha256:{version}-{wanted.id}-{n}", image_id="i", size=1),
        )
        for n in range(count)
    ]


async def publish(database, owner, ids: list[int], *, version: str) -> None:
    async with database.tenant(PROJECT) as tx:
        unit = await take(tx, owner, ids)
        await writing.publish_unit(tx, PROJECT, result_of(unit, version=version))


async def pages_touched_by_a_batch(database, owner, *, round_: int) -> int:
    """Pages of the image table and its indexes that one batch of 20 repositories touches."""
    ids = repositories(owner, 20)
    await publish(database, owner, ids, version=f"first{round_}")
    return await pages_touched_by(database, owner, ids, version=f"second{round_}")


async def pages_touched_by(database, owner, ids: list[int], *, version: str) -> int:
    async with database.tenant(PROJECT) as tx:
        unit = await take(tx, owner, ids)
        before = await pages(tx)
        await writing.publish_unit(tx, PROJECT, result_of(unit, version=version))
        return await pages(tx) - before


async def pages(tx) -> int:
    # Counters of the running transaction, before they reach the shared statistics.
    cursor = await tx.execute(
        "SELECT sum(pg_stat_get_xact_blocks_fetched(c.oid)) FROM pg_class c"
        " WHERE c.relname IN ('image', 'image_key', 'image_pkey', 'image_digest_idx',"
        " 'image_live_idx', 'image_registry_live_idx')"
    )
    row = await cursor.fetchone()
    return int(row[0])
