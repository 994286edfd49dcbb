"""Lists in pages, as registries and the proxies before them really send them."""

from __future__ import annotations

import pytest
from served import CATALOG, catalog, codes, fill, serve

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.model import RunOutcome
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.faults import Answer
from wharfinger.testing.model import made_up_world
from wharfinger.testing.scripted import Scripted
from wharfinger.testing.upstream import Upstream
from yard import NOBODY

FIRST = "GET /v2/_catalog?n=1000"


# --- lists that move -----------------------------------------------------------------------------


@pytest.mark.hard_case("H2", guard="wharfinger.sources.swr:_OffsetWalk.advance")
@pytest.mark.parametrize("known", [True, False], ids=["again", "first"])
async def test_a_push_that_shifts_the_rows_makes_the_list_begin_again(yard, known):
    async with Upstream(made_up_world(12, 2)) as upstream:
        upstream.world.clock.follow_real_time()
        await yard.add_swr(upstream, page_size=5)
        if known:
            await yard.sync()
        # The newest comes first: a row joins in front, the last one goes, the total stays.
        upstream.faults.before(
            r"^/v2/manage/repos\?", lambda: replace_last_by_first(upstream.world), skip=1, times=1
        )

        run = await yard.sync()

        assert run.outcome is RunOutcome.COMPLETE
        assert yard.stored() == upstream.world.images()


def replace_last_by_first(world) -> None:
    world.push("aardvark/app", "v1")
    world.delete_repository(world.owned()[0].path)


# --- links ---------------------------------------------------------------------------------------


@pytest.mark.hard_case("H4", guard="wharfinger.sources._distribution:Distribution._names")
async def test_a_cursor_of_the_registrys_own_is_sent_back_as_it_came(yard):
    async with Scripted() as registry:
        opaque = "/v2/_catalog?n=1000&next=Zm9v%3D%3D%2b&x=%c3%a9"
        registry.expect(FIRST, catalog("one", link=f'<{opaque}>; rel="next"'))
        registry.expect(f"GET {opaque}", catalog("two"))
        wanted = serve(registry, "one", "v1") | serve(registry, "two", "v1")
        await yard.add_oci(registry)

        run = await yard.sync()

        assert run.outcome is RunOutcome.COMPLETE
        assert yard.stored() == wanted


@pytest.mark.hard_case("H4", guard="wharfinger.sources._distribution:Distribution._names")
async def test_a_registry_that_refuses_rebuilt_cursors_is_read_to_its_end(yard, registry):
    registry.behaviour.link = "cursor"
    fill(registry, 7, tags=3)
    await yard.add_oci(registry, page_size=2)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()


@pytest.mark.hard_case("H5", guard="wharfinger.sources._reading:next_link")
@pytest.mark.parametrize(
    "link",
    [
        lambda url: '</v2/_catalog?second=1&n=9>; rel="next"',
        lambda url: f'<{url}/v2/_catalog?second=1>; rel="next"',
        lambda url: f'<{url.replace("http:", "https:")}/v2/_catalog?second=1>; rel="next"',
        lambda url: '/v2/_catalog?second=1; rel="next"',
        lambda url: '<_catalog?second=1>; title="a, b; c"; rel=next',
        lambda url: '</v2/_catalog>; rel="first", </v2/_catalog?second=1>; rel="last next"',
    ],
    ids=["relative", "absolute", "other scheme", "bare", "titled", "several"],
)
async def test_a_link_is_followed_however_it_is_written(yard, link):
    async with Scripted() as registry:
        registry.expect(FIRST, lambda _: catalog("one", link=link(registry.url)))
        registry.expect("GET re:/v2/_catalog\\?second=1.*", catalog("two"))
        wanted = serve(registry, "one", "v1") | serve(registry, "two", "v1")
        await yard.add_oci(registry)

        run = await yard.sync()

        assert run.outcome is RunOutcome.COMPLETE
        assert yard.stored() == wanted


@pytest.mark.hard_case("H5", guard="wharfinger.sources._reading:_on_same_host")
@pytest.mark.parametrize(
    "link",
    [
        lambda url, other: f'<{other}/v2/_catalog?second=1>; rel="next"',
        lambda url, other: f'<{other[5:]}/v2/_catalog?second=1>; rel="next"',
        lambda url, other: f'<{url.replace("//", "//u:p@")}/v2/_catalog?second=1>; rel="next"',
        lambda url, other: '<file:///etc/passwd?second=1>; rel="next"',
    ],
    ids=["absolute", "without scheme", "with a user", "a file"],
)
async def test_a_link_to_elsewhere_fails_the_listing_and_nothing_else(yard, link):
    async with Scripted() as registry, Scripted() as other:
        registry.expect(FIRST, catalog("one", "two"))
        wanted = serve(registry, "one", "v1") | serve(registry, "two", "v1")
        await yard.add_oci(registry)
        await yard.sync()
        registry.expect(FIRST, catalog("one", link=link(registry.url, other.url)))

        run = await yard.sync()

        assert (run.outcome, codes(run)) == (RunOutcome.FAILED, ["unexpected"])
        assert (run.retired, run.held) == (0, 0)
        assert yard.stored() == wanted
        assert yard.registry_verdict() == "partial"
        assert other.log == []


@pytest.mark.hard_case("H6", guard="wharfinger.sources._distribution:_may_be_cut")
@pytest.mark.parametrize("tags", [1, 7])
async def test_a_full_page_without_a_link_is_asked_what_comes_after_it(yard, registry, tags):
    registry.behaviour.link = "absent"
    fill(registry, 7, tags=tags)
    await yard.add_oci(registry, page_size=3)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()


@pytest.mark.hard_case("H7", guard="wharfinger.sources._distribution:_Walk.take")
@pytest.mark.parametrize("style", ["loop", "cycle"])
async def test_links_that_lead_back_end_the_listing_and_retire_nothing(yard, registry, style):
    fill(registry, 7)
    await yard.add_oci(registry, page_size=3)
    await yard.sync()
    before = yard.stored()
    registry.world.delete_repository("team/app-006")
    registry.behaviour.link = style
    registry.log.clear()

    run = await yard.sync()

    assert run.outcome in (RunOutcome.FAILED, RunOutcome.PARTIAL)
    assert "list_loop" in {reason.code for reason in run.reasons}
    assert yard.stored() == before
    assert len(registry.requests(CATALOG)) <= 4


@pytest.mark.hard_case("H7", guard="wharfinger.sources._distribution:_Walk.take")
async def test_a_list_that_goes_on_for_ever_is_given_up(yard, registry):
    fill(registry, 2)
    await yard.add_oci(registry)
    await yard.sync()
    before = yard.stored()

    def on_and_on(_asked) -> Answer:
        link = f'</v2/_catalog?page={len(registry.log)}>; rel="next"'
        return catalog("team/app-000", link=link)

    registry.faults.instead(CATALOG, on_and_on)

    run = await yard.sync()

    assert "list_loop" in {reason.code for reason in run.reasons}
    assert yard.stored() == before


@pytest.mark.hard_case("H7", guard="wharfinger.sources.swr:_OffsetWalk._joint")
async def test_an_offset_page_that_comes_again_proves_no_absence(yard, upstream):
    await yard.add_swr(upstream, page_size=5)
    await yard.sync()
    before = yard.stored()
    pages = []

    def always_the_first(_asked, answer) -> Answer:
        pages.append(answer)
        return pages[0]

    upstream.faults.change(r"^/v2/manage/repos\?", always_the_first)

    run = await yard.sync()

    assert (run.outcome, codes(run)) == (RunOutcome.PARTIAL, ["list_loop"])
    assert (run.retired, run.held) == (0, 0)
    assert yard.stored() == before


# --- sizes of pages ------------------------------------------------------------------------------


@pytest.mark.hard_case("H8", guard="wharfinger.sources._distribution:_refuses_page_size")
@pytest.mark.parametrize(
    "behaviour", [{"page_cap": 2}, {"refuse_n_above": 100, "default_page": 3}, {"ignore_n": True}]
)
async def test_a_registry_with_its_own_idea_of_pages_is_read_completely(yard, registry, behaviour):
    for name, value in behaviour.items():
        setattr(registry.behaviour, name, value)
    fill(registry, 7, tags=5)
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()


@pytest.mark.hard_case("H8", guard="wharfinger.sources.swr:_OffsetWalk._is_end")
@pytest.mark.parametrize("total", [True, False])
async def test_a_server_that_caps_its_pages_is_followed_by_what_it_sends(yard, upstream, total):
    upstream.faults.rows(r"manage/repos\?", lambda rows: rows[:3])
    if not total:
        upstream.faults.no_total(r"manage/repos\?")
    await yard.add_swr(upstream)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == upstream.world.images()


@pytest.mark.hard_case("H8", guard="wharfinger.sources:read_options")
async def test_pages_of_nothing_cannot_be_asked_for(yard, registry):
    new = NewRegistry(name="other", kind="Other", address=registry.url, options={"page_size": 0})

    with pytest.raises(InvalidParameterError, match="page_size"):
        await yard.house.registries.add(yard.caller, new, NOBODY)

    assert yard.value("SELECT count(*) FROM registry") == 0


# --- nothing, in many words ----------------------------------------------------------------------


@pytest.mark.hard_case("H10", guard="wharfinger.sources._distribution:_TagList")
@pytest.mark.parametrize("shape", ["null_lists", "missing_lists"])
async def test_a_repository_whose_tags_are_null_or_missing_is_complete_and_empty(
    yard, registry, shape
):
    setattr(registry.behaviour, shape, True)
    fill(registry, 2)
    registry.world.create_repository("team/empty")
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()
    assert yard.verdicts()["team/empty"] == ("complete", None)


@pytest.mark.hard_case("H10", guard="wharfinger.sources._distribution:_Catalog")
async def test_repositories_may_be_null_and_their_images_are_held_all_the_same(yard, registry):
    fill(registry, 3)
    await yard.add_oci(registry)
    await yard.sync()
    before = yard.stored()
    registry.faults.answer(CATALOG, 200, body={"repositories": None})

    run = await yard.sync()

    assert (run.outcome, run.held) == (RunOutcome.HELD, 3)
    assert yard.stored() == before


@pytest.mark.hard_case("H3", guard="wharfinger.store.runs:_retire_repositories")
async def test_a_catalog_whose_scope_was_lost_is_empty_and_deletes_nothing(yard, registry):
    # Few enough for any run's budget: only the emptiness can give it away.
    fill(registry, 2, tags=3)
    await yard.add_oci(registry)
    await yard.sync()
    before = yard.stored()
    registry.faults.answer(CATALOG, 200, body={"repositories": []})

    first = await yard.sync()
    second = await yard.sync()

    assert (first.outcome, first.retired, first.held) == (RunOutcome.HELD, 0, 6)
    assert (second.outcome, second.retired) == (RunOutcome.HELD, 0)
    assert first.reasons[-1].code == "suspiciously_empty"
    assert yard.stored() == before


# --- no catalog ----------------------------------------------------------------------------------


@pytest.mark.hard_case("H14", guard="wharfinger.sources._distribution:_check_catalog")
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "unauthorised"),
        (403, "forbidden"),
        (404, "unsupported"),
        (405, "unsupported"),
        (501, "unsupported"),
    ],
)
async def test_a_catalog_that_is_closed_is_told_and_costs_no_image(yard, registry, status, code):
    fill(registry, 3)
    await yard.add_oci(registry)
    await yard.sync()
    before = yard.stored()
    registry.behaviour.catalog_status = status

    run = await yard.sync()

    assert (run.outcome, codes(run)) == (RunOutcome.FAILED, [code])
    assert "--repository" in run.reasons[0].message
    assert yard.stored() == before


@pytest.mark.hard_case("H14", guard="wharfinger.sources.oci:Other.repositories")
async def test_without_a_catalog_the_repositories_can_be_named(yard, registry):
    fill(registry, 3)
    registry.behaviour.catalog_status = 404
    await yard.add_oci(registry, repositories=["team/app-000", "team/app-002"])

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    named = {row for row in registry.world.images() if row[0] != "team/app-001"}
    assert yard.stored() == named
