"""Answers that are none, that lie, or that never end."""

from __future__ import annotations

import gzip

import pytest
from served import CATALOG, codes, fill

from wharfinger.domain.inventory import ImageFilter, RegistryScope
from wharfinger.domain.model import RunOutcome
from wharfinger.testing.faults import Answer

LIST = r"^/v2/manage/repos\?"
NEVER = "0001-01-01T00:00:00Z"


@pytest.fixture
async def listed(yard, registry):
    """A registry whose ten images are stored."""
    fill(registry, 5, tags=2)
    await yard.add_oci(registry)
    assert (await yard.sync()).outcome is RunOutcome.COMPLETE
    return registry


def gzipped(body: bytes) -> Answer:
    return Answer(body=body, headers={"Content-Encoding": "gzip"})


# --- broken --------------------------------------------------------------------------------------


@pytest.mark.hard_case("H9", guard="wharfinger.sources._http:_decoded")
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (gzipped(gzip.compress(b'{"repositories": []}')[:-9]), "unreachable"),
        (gzipped(b'{"repositories": []}'), "malformed"),
        (Answer(body=b'{"repositories": []}', sent=4, chunked=True), "unreachable"),
    ],
    ids=["gzip cut short", "no gzip", "chunks cut short"],
)
async def test_a_broken_answer_is_no_empty_list(yard, listed, answer, code):
    before = yard.stored()
    listed.faults.instead(CATALOG, lambda _: answer)

    run = await yard.sync()

    assert (run.outcome, codes(run)) == (RunOutcome.FAILED, [code])
    assert yard.stored() == before
    assert yard.value("SELECT held_images FROM registry") == 0


@pytest.mark.hard_case("H9", guard="wharfinger.sources._reading:decode")
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"<html>sign in</html>"])
async def test_a_status_of_200_proves_nothing(yard, listed, body):
    before = yard.stored()
    listed.faults.answer("/v2/team/app-000/tags/list", 200, body=body)

    run = await yard.sync()

    assert run.outcome is RunOutcome.PARTIAL
    assert [(r.code, r.repository) for r in run.reasons] == [("malformed", "team/app-000")]
    assert yard.stored() == before


# --- without end ---------------------------------------------------------------------------------


@pytest.mark.hard_case("H34", guard="wharfinger.sources._http:_read_body")
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(body=b"[", headers={"Content-Length": str(1 << 30)}), "too_large"),
        (gzipped(gzip.compress(b"0" * (65 << 20), 1)), "too_large"),
        (Answer(body=b"[" * 100_000), "malformed"),
        (Answer(body=b'{"repositories": ' + b'{"a":' * 100_000), "malformed"),
    ],
    ids=["a gigabyte", "a bomb", "deep lists", "deep objects"],
)
async def test_a_hostile_answer_ends_the_listing_and_costs_nothing(yard, listed, answer, code):
    before = yard.stored()
    listed.faults.instead(CATALOG, lambda _: answer)

    run = await yard.sync()

    assert (run.outcome, codes(run)) == (RunOutcome.FAILED, [code])
    assert yard.stored() == before
    listed.faults.clear()
    assert (await yard.sync()).outcome is RunOutcome.COMPLETE


@pytest.mark.hard_case(
    "H34", guard="wharfinger.sources._distribution:Distribution._manifest_request"
)
async def test_a_manifest_of_more_than_eight_megabytes_is_not_read(yard, listed):
    before = yard.stored()
    listed.world.push("team/app-000", "huge")
    listed.faults.change(
        "/team/app-000/manifests/sha256",
        lambda _, answer: Answer(body=answer.body + b" " * (9 << 20), headers=answer.headers),
    )

    run = await yard.sync()

    assert [(r.code, r.repository) for r in run.reasons] == [("too_large", "team/app-000")]
    assert yard.stored() == before


# --- in other words ------------------------------------------------------------------------------


@pytest.mark.hard_case("H29", guard="wharfinger.sources._reading:raise_for_status")
@pytest.mark.hard_case("H29", guard="wharfinger.sources._http:_in_our_words")
async def test_down_unwell_locked_and_shut_are_told_apart(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    before = yard.stored()

    async def told(fault=None) -> tuple[str, str, str]:
        run = await yard.sync()
        if fault is not None:
            upstream.faults.remove(fault)
        assert run.outcome is RunOutcome.FAILED
        stored = yard.value("SELECT verdict_reasons -> 0 ->> 'code' FROM registry")
        assert stored == run.reasons[0].code
        return stored

    unwell = await told(upstream.break_down(LIST))
    locked = await told(upstream.token_expired(LIST))
    shut = await told(upstream.forbid(LIST))
    busy = await told(upstream.swr_throttle(LIST))
    await upstream.stop()
    down = await told()

    assert [unwell, locked, shut, busy, down] == [
        "upstream_failure",
        "unauthorised",
        "forbidden",
        "throttled",
        "unreachable",
    ]
    assert yard.stored() == before


# --- numbers and times ---------------------------------------------------------------------------


@pytest.mark.hard_case("H22", guard="wharfinger.store.writing:incoming_row")
async def test_sizes_beyond_two_gigabytes_are_stored_and_found_as_they_are(yard, upstream):
    size = 5 * 2**31 + 1
    upstream.world.push("team/large", "v1", size=size)
    await yard.add_swr(upstream)

    await yard.sync()

    assert yard.value("SELECT size FROM image ORDER BY size DESC LIMIT 1") == size
    wanted = ImageFilter(scope=RegistryScope(enterprise_projects=("0",)), size=size)
    page = await yard.house.inventory.images(yard.caller, wanted, offset=0, limit=9)
    assert [image.size for image in page.items] == [size]


@pytest.mark.hard_case("H31", guard="wharfinger.sources._reading:timestamp")
@pytest.mark.parametrize("said", [NEVER, "1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "", None])
async def test_a_time_that_no_clock_has_said_is_stored_as_none(yard, upstream, said):
    upstream.faults.rows("/tags", lambda rows: [{**row, "created": said} for row in rows])
    upstream.faults.rows(LIST, lambda rows: [{**row, "updated_at": said} for row in rows])
    await yard.add_swr(upstream)

    await yard.sync()
    again = await yard.sync()

    assert yard.stored() == upstream.world.images()
    assert yard.value("SELECT count(*) FROM image WHERE created_at IS NOT NULL") == 0
    assert yard.value("SELECT max(updated_at) < now() + interval '1 day' FROM image") is True
    # Without a believable time there is no fingerprint: the tags are read again.
    assert yard.value("SELECT count(*) FROM repository WHERE fingerprint IS NOT NULL") == 0
    assert again.requests == 13
