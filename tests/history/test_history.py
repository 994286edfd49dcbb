"""The list of any past moment, lives, differences and the feed agree with what happened."""

from __future__ import annotations

import asyncio
import datetime as dt
import re

import pytest

from wharfinger.domain.errors import (
    HistoryForgottenError,
    InvalidParameterError,
    NotFoundError,
)
from wharfinger.domain.history import PastFilter
from wharfinger.domain.model import VerdictState

REPOSITORY = "bench-03/service-00003"
LIST = r"^/v2/manage/repos\?"


class Past:
    """What the list was after each of four syncs."""

    def __init__(self, yard, upstream) -> None:
        self.yard = yard
        self.world = upstream.world
        self.runs, self.lists, self.times = [], [], []

    async def sync(self) -> None:
        await asyncio.sleep(0.02)
        self.runs.append(await self.yard.sync())
        self.lists.append(self.yard.stored())
        self.times.append(dt.datetime.now(dt.UTC))
        await asyncio.sleep(0.02)

    async def as_of(self, *, page=1000, wanted=None, **moment):
        """Every page of a past list, as (path, tag, digest), and its last page."""
        history = self.yard.house.history
        when = await history.moment(self.yard.caller, **moment)
        found, after = [], 0
        while True:
            answer = await history.images(
                self.yard.caller, when, wanted or PastFilter(), after=after, limit=page
            )
            found += [(f"{i.namespace}/{i.name}", i.tag, i.digest) for i in answer.items]
            if answer.next is None:
                break
            after = int(answer.next)
        assert len(found) == len(set(found))
        return set(found), answer


@pytest.fixture
async def past(yard, upstream):
    """Added; one tag moved and one deleted; the moved one back, the deleted one restored."""
    await yard.add_swr(upstream)
    past = Past(yard, upstream)
    tags = sorted(t.name for t in upstream.world.tags(REPOSITORY))
    past.moving, past.going = tags[:2]
    await past.sync()
    upstream.world.push(REPOSITORY, past.moving)
    upstream.world.delete_tag(REPOSITORY, past.going)
    await past.sync()
    upstream.world.push(REPOSITORY, past.moving)
    upstream.world.push(REPOSITORY, past.going)
    upstream.world.push(REPOSITORY, "passing")
    await past.sync()
    upstream.world.delete_tag(REPOSITORY, "passing")
    await past.sync()
    return past


async def test_the_list_of_every_past_moment_is_what_was_stored_then(past):
    for stored, at in zip(past.lists, past.times, strict=True):
        assert (await past.as_of(at=at))[0] == stored
        assert (await past.as_of(at=at, page=7))[0] == stored

    before, answer = await past.as_of(at=past.times[0] - dt.timedelta(days=1))
    assert (before, answer.verdict, answer.as_of) == (set(), VerdictState.NEVER, 0)


async def test_a_number_stands_for_the_list_that_it_left(past):
    seqs = past.yard.owner.execute("SELECT finished_seq FROM run ORDER BY finished_at").fetchall()

    for stored, (seq,) in zip(past.lists, seqs, strict=True):
        assert (await past.as_of(seq=seq))[0] == stored


async def test_filters_hold_for_the_past_as_well(past):
    wanted = PastFilter(name_contains="SERVICE-00003", tag=past.going)

    gone, _ = await past.as_of(at=past.times[1], wanted=wanted)
    back, _ = await past.as_of(at=past.times[2], wanted=wanted)
    other, _ = await past.as_of(at=past.times[2], wanted=PastFilter(registry="no such"))

    assert (len(gone), len(back), len(other)) == (0, 1, 0)


async def test_the_verdict_is_the_one_of_then(past, upstream):
    yard = past.yard
    fault = upstream.faults.answer(LIST, 403, body={"error_code": "X", "error_msg": "no"})
    await past.sync()
    upstream.faults.remove(fault)
    await past.sync()

    verdicts = []
    for at in past.times[3:]:
        _, answer = await past.as_of(at=at)
        verdicts.append((answer.verdict, [r.code for r in answer.registries[0].reasons]))
    yard.owner.execute("UPDATE registry SET stale_after = '10 ms'")
    _, stale = await past.as_of(at=past.times[-1])

    assert verdicts == [
        (VerdictState.COMPLETE, []),
        (VerdictState.PARTIAL, ["forbidden"]),
        (VerdictState.COMPLETE, []),
    ]
    assert stale.verdict is VerdictState.STALE
    assert stale.registries[0].run_id == past.runs[-1].id


async def test_a_removed_registry_is_in_the_list_of_a_time_when_it_was_not(past):
    await past.yard.house.registries.remove(past.yard.caller, "swrprivate")

    then, answer = await past.as_of(at=past.times[3])
    now, _ = await past.as_of(at=dt.datetime.now(dt.UTC))

    assert (then, now) == (past.lists[3], set())
    assert [r.name for r in answer.registries] == ["swrprivate"]


async def test_the_life_of_a_tag_tells_each_digest_and_the_run_that_saw_it(past):
    history = past.yard.house.history

    moved = await history.life_of_tag(
        past.yard.caller, registry="swrprivate", path=REPOSITORY, tag=past.moving
    )
    back = await history.life_of_tag(
        past.yard.caller, registry="swrprivate", path=REPOSITORY, tag=past.going
    )

    assert [v.how for v in moved.versions] == ["added", "moved", "moved"]
    assert [v.run_id for v in moved.versions] == [r.id for r in past.runs[:3]]
    assert len({v.digest for v in moved.versions}) == 3
    assert [v.to_seq for v in moved.versions] == [v.from_seq for v in moved.versions[1:]] + [None]
    assert [(v.how, v.ended_by, v.ended_by_run) for v in back.versions] == [
        ("added", "retired", past.runs[1].id),
        ("restored", None, None),
    ]
    with pytest.raises(NotFoundError):
        await history.life_of_tag(
            past.yard.caller, registry="swrprivate", path=REPOSITORY, tag="never"
        )


async def test_the_difference_of_two_runs_is_the_difference_of_their_lists(past):
    for a in range(4):
        for b in range(4):
            items = await differences(past, a, b)
            assert applied(past.lists[a], items) == past.lists[b]
            changed = past.lists[a] ^ past.lists[b]
            assert len(items) == len({(path, tag) for path, tag, _ in changed})


async def differences(past, a, b):
    found, after = [], 0
    while True:
        answer = await past.yard.house.history.diff(
            past.yard.caller, past.runs[a].id, past.runs[b].id, after=after, limit=2
        )
        found += answer.items
        if answer.next is None:
            return found
        after = int(answer.next)


def applied(stored, items):
    rows = {(path, tag): digest for path, tag, digest in stored}
    for item in items:
        key = (f"{item.namespace}/{item.name}", item.tag)
        assert rows.pop(key, None) == item.digest_before
        if item.digest_after is not None:
            rows[key] = item.digest_after
    return {(*key, digest) for key, digest in rows.items()}


async def test_the_feed_rebuilds_the_list_and_ends_with_its_newest_number(past):
    rows, after, as_of = {}, 0, None
    while True:
        page = await past.yard.house.history.changes(past.yard.caller, after=after, limit=9)
        for change in page.items:
            assert change.seq == after + 1
            after = change.seq
            key = (f"{change.namespace}/{change.name}", change.tag)
            assert change.kind in {"added", "restored"} or rows.get(key) == change.digest_before
            rows.pop(key, None)
            if change.digest_after is not None:
                rows[key] = change.digest_after
        as_of = page.as_of
        if page.next is None:
            break

    assert {(*key, digest) for key, digest in rows.items()} == past.yard.stored()
    assert after == as_of == past.yard.value("SELECT seq FROM tenant_feed")


async def test_a_number_from_another_feed_is_refused(past):
    with pytest.raises(InvalidParameterError, match="newest number"):
        await past.yard.house.history.changes(past.yard.caller, after=9999, limit=1)
    with pytest.raises(InvalidParameterError, match="newest number"):
        await past.yard.house.history.moment(past.yard.caller, seq=9999)
    with pytest.raises(InvalidParameterError, match="future"):
        await past.yard.house.history.moment(
            past.yard.caller, at=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        )


async def test_what_is_forgotten_is_an_error_and_the_list_stays_as_it_is(past):
    yard, history = past.yard, past.yard.house.history
    stored = yard.stored()
    age_events(yard, before=past.times[1])

    forgotten = await history.prune("acme-project")

    assert forgotten == yard.value("SELECT horizon_seq FROM tenant_feed") > 60
    assert yard.stored() == stored
    for number in (2, 3):
        kept, _ = await past.as_of(at=past.times[number])
        assert kept == past.lists[number]
    kept, _ = await past.as_of(seq=forgotten)
    assert kept == past.lists[1]
    with pytest.raises(HistoryForgottenError):
        await past.as_of(at=past.times[0] - dt.timedelta(days=1000))
    with pytest.raises(HistoryForgottenError):
        await past.as_of(seq=forgotten - 1)
    with pytest.raises(HistoryForgottenError):
        await history.changes(yard.caller, after=forgotten - 1, limit=10)
    assert (await history.changes(yard.caller, after=forgotten, limit=10)).items
    with pytest.raises(HistoryForgottenError):
        await history.diff(yard.caller, past.runs[0].id, past.runs[3].id, after=0, limit=9)
    assert await history.prune("acme-project") == 0


@pytest.mark.hard_case("H35", guard="wharfinger.service.history:History.prune")
async def test_forgetting_everything_keeps_every_open_state(past):
    yard = past.yard
    stored = yard.stored()
    yard.owner.execute("UPDATE event SET at = at - interval '500 days'")
    yard.owner.execute(
        "UPDATE run SET finished_at = finished_at - interval '500 days',"
        " started_at = started_at - interval '500 days'"
    )

    await yard.house.history.prune("acme-project")

    assert yard.value("SELECT count(*) FROM event") == 0
    assert yard.value("SELECT count(*) FROM run") == 1
    assert yard.value("SELECT count(*) FROM image_version WHERE to_seq IS NOT NULL") == 0
    assert yard.stored() == stored
    assert (await past.as_of(at=dt.datetime.now(dt.UTC)))[0] == stored
    run = await yard.sync()
    assert (run.added, run.moved, run.retired, run.restored) == (0, 0, 0, 0)


async def test_the_app_cannot_rewrite_events_or_the_audit(past):
    import psycopg

    for table in ("event", "audit"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with past.yard.house.database.tenant("acme-project") as tx:
                await tx.execute(f"DELETE FROM {table}")


async def test_a_page_of_the_past_reads_a_page_and_not_the_table(past):
    yard = past.yard
    fill(yard.owner, 30_000)
    plan = yard.owner.execute(as_of_query(yard), as_of_values()).fetchall()

    text = "\n".join(row[0] for row in plan)
    assert "image_version_pkey" in text
    assert "Seq Scan on image_version" not in text
    assert "Sort" not in text
    read = re.findall(r"actual rows=([\d.]+)", text)
    assert max(map(float, read)) < 10_000


def as_of_query(yard) -> str:
    from wharfinger.store.named_sql import queries

    return "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + queries("history")["images_as_of"]


def as_of_values():
    return {
        "project": "acme-project",
        "after": 1000,
        "seq": 70,
        "enterprise_projects": ["0"],
        "registry": None,
        "kind": None,
        "namespace": None,
        "name_pattern": None,
        "tag": None,
        "limit": 100,
    }


def fill(owner, count) -> None:
    """So many more images, listed since number 10 and never changed."""
    owner.execute(
        "WITH made AS (INSERT INTO image (project_id, registry_id, repository_id, tag, digest,"
        "  image_id, size, updated_at)"
        " SELECT r.project_id, r.registry_id, r.id, 'filler-' || n, 'sha256:' || n, 'c', 1, now()"
        " FROM (SELECT * FROM repository LIMIT 1) r, generate_series(1, %s) n RETURNING *)"
        " INSERT INTO image_version (image_id, project_id, from_seq, digest, config_digest, size,"
        "  updated_at, run_id)"
        " SELECT id, project_id, 10, digest, image_id, 1, now(), gen_random_uuid() FROM made",
        (count,),
    )
    owner.execute("ANALYZE image, image_version, repository, registry")


def age_events(yard, *, before) -> None:
    yard.owner.execute("UPDATE event SET at = at - interval '500 days' WHERE at <= %s", (before,))


async def test_a_past_list_tells_what_was_an_index_then(yard, upstream):
    await yard.add_swr(upstream)
    path = upstream.world.owned()[0].path
    upstream.world.push(path, "turned", platforms=("linux/amd64", "linux/arm64"))
    await yard.sync()
    index = upstream.world.tag(path, "turned").content.digest
    then = yard.value("SELECT seq FROM tenant_feed")
    plain = upstream.world.tag(path, "v1.0").content
    upstream.world.move(path, "turned", content=plain)
    await yard.sync()

    past = await list_as_of(yard, then)
    now = await list_as_of(yard, yard.value("SELECT seq FROM tenant_feed"))

    assert (past["turned"].digest, past["turned"].multi_arch) == (index, True)
    assert past["turned"].image_id == index
    assert (now["turned"].digest, now["turned"].multi_arch) == (plain.digest, False)


async def list_as_of(yard, seq):
    """The images of one repository's tags at a number, by tag."""
    house = yard.house
    moment = await house.history.moment(yard.caller, seq=seq)
    page = await house.history.images(yard.caller, moment, PastFilter(), after=0, limit=1000)
    return {image.tag: image for image in page.items if image.tag == "turned"}
