"""SWR basic: what its lists prove, how it is logged in to, what its rows say."""

import asyncio
import datetime as dt

import pytest
from stages import signed_by, swr_stage

from wharfinger.domain.errors import (
    CredentialsError,
    ForbiddenError,
    InvalidParameterError,
    ListLoopError,
    ListMovedError,
    MalformedAnswerError,
    ThrottledError,
    UnauthorisedError,
    UnexpectedAnswerError,
)
from wharfinger.domain.model import RegistryCredential, RegistryRef
from wharfinger.sources import check_registry
from wharfinger.testing.faults import json_answer
from wharfinger.testing.model import World, made_up_world
from wharfinger.testing.source_suite import inventory_of, opened, path_of, repositories_of, tags_of
from wharfinger.testing.upstream import Upstream

REPOSITORIES = r"/v2/manage/repos\?"
TAGS = r"/tags\?"


@pytest.fixture
async def upstream():
    async with Upstream(World()) as upstream:
        yield upstream


@pytest.fixture
async def stage():
    async with swr_stage() as stage:
        yield stage


def ref(upstream, kind="SwrPrivate", **options):
    return RegistryRef(
        id="r1",
        project_id="p1",
        name="swr",
        kind=kind,
        address=upstream.url,
        region="cn-north-4",
        options=options,
        allow_private_networks=True,
    )


def reading(upstream, *, credential=None, attempts=1, kind="SwrPrivate", **options):
    credential = credential or signed_by(upstream.key)
    return opened(ref(upstream, kind, **options), credential, attempts=attempts)


def fill(upstream, repositories, *, tags=1):
    for number in range(repositories):
        for version in range(tags):
            upstream.world.push(f"team/app-{number:03}", f"v{version}")


async def listed(upstream, **options):
    async with reading(upstream, **options) as source:
        return [path_of(row) for row in await repositories_of(source)]


# --- what goes over the wire ---------------------------------------------------------------------


async def test_h20_a_slash_in_a_name_travels_as_an_encoded_dollar(upstream):
    upstream.world.push("team/deep/er/app", "v1")

    async with reading(upstream) as source:
        await inventory_of(source)

    assert [line.target for line in upstream.log] == [
        "/v2/manage/repos?limit=1000&offset=0",
        "/v2/manage/namespaces/team/repos/deep%24er%24app/tags?limit=1000&offset=0",
    ]


async def test_pages_overlap_by_one_row_and_cost_one_request_more_at_most(upstream):
    fill(upstream, 50)

    assert len(await listed(upstream, page_size=10)) == 50

    assert [line.target for line in upstream.log] == [
        f"/v2/manage/repos?limit=10&offset={offset}" for offset in (0, 9, 18, 27, 36, 45)
    ]


@pytest.mark.slow
async def test_five_thousand_repositories_take_six_requests():
    async with Upstream(made_up_world(5000, 0)) as upstream:
        assert len(await listed(upstream)) == 5000
        assert len(upstream.log) == 6


async def test_shared_repositories_are_those_of_others(upstream):
    upstream.world.push("theirs/app", "v1", account="partner")
    upstream.world.push("theirs/old", "v1", account="partner")
    upstream.world.push("mine/app", "v1")
    upstream.world.share("theirs/app", "acme")
    upstream.world.share("theirs/old", "acme", expires=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))

    async with reading(upstream, kind="SwrShared") as source:
        found = {path_of(row): row for row in await repositories_of(source)}

    assert {path: row.shared_status for path, row in found.items()} == {
        "theirs/app": "effective",
        "theirs/old": "expired",
    }
    assert {row.owner for row in found.values()} == {"partner"}
    assert "center=thirdparty&limit=1000&offset=0" in upstream.log[0].target


# --- what proves that a list is complete ---------------------------------------------------------


def delete_first(world):
    world.delete_repository("team/app-000")


def delete_last(world):
    world.delete_repository("team/app-011")


def touch_first(world):
    world.push("team/app-000", "again")


def touch_last(world):
    world.push("team/app-011", "again")


def push_first(world):
    world.push("team/a-new-one", "v1")


def replace_first_by_last(world):
    delete_first(world)
    world.push("team/zebra", "v1")


def replace_last_by_first(world):
    delete_last(world)
    push_first(world)


CHANGES = [
    delete_first,
    delete_last,
    touch_first,
    touch_last,
    push_first,
    replace_first_by_last,
    replace_last_by_first,
]


@pytest.mark.parametrize("order", ["updated_at", "name"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("page", [1, 2])
async def test_h02_what_stood_all_along_is_listed_or_the_list_is_not_complete(
    upstream, change, page, order
):
    upstream.swr.default_order = order
    fill(upstream, 12)
    before = {repository.path for repository in upstream.world.owned()}
    upstream.faults.before(REPOSITORIES, lambda: change(upstream.world), skip=page, times=1)

    try:
        found = await listed(upstream, page_size=4)
    except ListMovedError:
        return

    after = {repository.path for repository in upstream.world.owned()}
    assert before & after <= set(found)


def push_last(world):
    world.push("team/zebra", "v1")


@pytest.mark.parametrize("change", [delete_first, push_first, push_last, replace_first_by_last])
async def test_h02_a_list_that_shifts_between_its_pages_is_not_complete(upstream, change):
    upstream.swr.default_order = "name"
    fill(upstream, 13)
    upstream.faults.before(REPOSITORIES, lambda: change(upstream.world), skip=1, times=1)

    with pytest.raises(ListMovedError):
        await listed(upstream, page_size=4)


@pytest.mark.parametrize("total", [0, 3, 5, 12, 1000])
async def test_a_total_that_the_rows_do_not_reach_is_not_complete(upstream, total):
    fill(upstream, 7)
    upstream.faults.wrong_total(REPOSITORIES, total)

    with pytest.raises(ListMovedError):
        await listed(upstream, page_size=4)


@pytest.mark.parametrize("repositories", [0, 1, 4, 5, 7, 8])
async def test_without_any_total_the_end_is_where_nothing_new_comes(upstream, repositories):
    fill(upstream, repositories)
    upstream.faults.no_total(REPOSITORIES)

    assert len(await listed(upstream, page_size=4)) == repositories


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("cap", [1, 2, 3])
async def test_h08_a_server_that_caps_the_page_is_followed_by_what_it_sends(upstream, total, cap):
    fill(upstream, 11)
    upstream.faults.rows(REPOSITORIES, lambda rows: rows[:cap])
    if not total:
        upstream.faults.no_total(REPOSITORIES)

    assert len(await listed(upstream)) == 11


async def test_h08_a_server_that_ignores_the_limit_sends_everything_at_once(upstream):
    fill(upstream, 11)
    rows = [{"namespace": "a", "name": f"r{number}"} for number in range(11)]
    upstream.faults.answer(REPOSITORIES, 200, body=rows)

    assert len(await listed(upstream, page_size=4)) == 11


@pytest.mark.parametrize("api", ["v2", "v3"])
async def test_h07_a_page_that_comes_again_is_a_loop(upstream, api):
    rows = [{"namespace": "a", "namespace_name": "a", "name": f"r{n}"} for n in range(4)]
    body = rows if api == "v2" else {"repos": rows, "nextMarker": 7}
    upstream.faults.answer("/manage/repos", 200, body=body)

    with pytest.raises((ListLoopError, ListMovedError)):
        await listed(upstream, page_size=4, api=api)

    assert len(upstream.log) == 2


async def test_h07_a_marker_that_comes_again_is_a_loop(upstream):
    def page(asked):
        return json_answer({"repos": [], "nextMarker": 7})

    upstream.faults.instead("/v3/manage/repos", page)

    with pytest.raises(ListLoopError):
        await listed(upstream, api="v3")


@pytest.mark.parametrize("api", ["v2", "v3"])
async def test_a_row_that_comes_twice_is_a_list_that_moved(upstream, api):
    row = {"namespace": "a", "namespace_name": "a", "name": "r"}
    body = [row, row] if api == "v2" else {"repos": [row, row]}
    upstream.faults.answer("/manage/repos", 200, body=body)

    with pytest.raises(ListMovedError, match="twice"):
        await listed(upstream, api=api)


async def test_h03_an_empty_list_with_a_total_is_not_complete(upstream):
    headers = {"Content-Range": "0-0/3"}
    upstream.faults.answer(REPOSITORIES, 200, body=[], headers=headers)

    with pytest.raises(ListMovedError):
        await listed(upstream)


async def test_more_tags_without_a_marker_is_malformed(upstream):
    fill(upstream, 1)
    upstream.faults.answer("/v3/.*/tags", 200, body={"tags": [], "has_more": True})

    async with reading(upstream, api="v3") as source:
        with pytest.raises(MalformedAnswerError):
            await inventory_of(source)


@pytest.mark.parametrize("pushed_again", ["v0", "v3", "v5"])
async def test_h02_a_tag_that_moves_between_two_pages_of_markers_is_not_missed(
    upstream, pushed_again
):
    fill(upstream, 1, tags=6)
    upstream.faults.after(
        "/v3/.*/tags", lambda: upstream.world.move("team/app-000", pushed_again), times=1
    )

    async with reading(upstream, api="v3", page_size=2) as source:
        (repository,) = await repositories_of(source)
        found = [tag.tag for tag in await tags_of(source, repository)]

    assert found == [f"v{number}" for number in range(6)]


async def test_a_tag_list_within_its_total_takes_one_request(upstream):
    fill(upstream, 1, tags=4)

    async with reading(upstream, page_size=4) as source:
        await inventory_of(source)

    assert len(upstream.requests(TAGS)) == 1


@pytest.mark.parametrize(("claimed", "requests"), [(3, 1), (5, 2)])
async def test_a_tag_list_without_total_must_agree_with_the_repository_or_is_probed(
    upstream, claimed, requests
):
    fill(upstream, 1, tags=3)
    upstream.world.repository("team/app-000").num_images = claimed
    upstream.faults.no_total(TAGS)

    async with reading(upstream) as source:
        found = await inventory_of(source)

    assert found == upstream.world.images()
    assert len(upstream.requests(TAGS)) == requests


@pytest.mark.parametrize(
    "row",
    [
        {"namespace": "", "name": "app"},
        {"namespace": "team", "name": ""},
    ],
)
async def test_a_row_without_a_name_is_no_repository(upstream, row):
    upstream.faults.answer(REPOSITORIES, 200, body=[{**row, "total_range": 1}])

    with pytest.raises(UnexpectedAnswerError):
        await listed(upstream)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [1, 2, 3])
async def test_every_generation_of_errors_is_read(upstream, generation):
    upstream.swr.error_generation = generation
    upstream.forbid(REPOSITORIES)

    with pytest.raises(ForbiddenError, match=r"SVCSTG\.SWR\.4030170 Insufficient permissions"):
        await listed(upstream)


@pytest.mark.parametrize("generation", [1, 2, 3])
async def test_h12_throttling_comes_as_403(upstream, generation):
    upstream.swr.error_generation = generation
    upstream.swr_throttle(REPOSITORIES)

    with pytest.raises(ThrottledError, match="4031032"):
        await listed(upstream)


async def test_the_gateways_errors_are_read(upstream):
    wrong = RegistryCredential(kind="access_key", identity=upstream.key.access_key, secret="no")

    with pytest.raises(UnauthorisedError, match=r"APIGW\.0301"):
        await listed(upstream, credential=wrong)


async def test_an_error_body_with_status_200_says_what_it_is(upstream):
    body = [{"errorCode": "SVCSTG.SWR.4001048", "errorMessage": "Failed to get Token"}]
    upstream.faults.answer(REPOSITORIES, 200, body=body)

    with pytest.raises(MalformedAnswerError, match="4001048"):
        await listed(upstream)


# --- logging in ----------------------------------------------------------------------------------


def password_of(upstream, password=None):
    home = upstream.world.home
    return RegistryCredential(kind="basic", identity=home.name, secret=password or home.password)


async def test_a_given_token_is_sent_and_its_end_is_told(upstream):
    fill(upstream, 1)
    credential = RegistryCredential(kind="token", secret=upstream.token())

    found = await listed(upstream, credential=credential)
    upstream.iam.revoke_all()

    assert found == ["team/app-000"]
    with pytest.raises(UnauthorisedError):
        await listed(upstream, credential=credential)


async def test_h13_a_token_that_ends_meanwhile_is_renewed_once_for_all(upstream):
    fill(upstream, 20)
    credential = password_of(upstream)

    async with reading(upstream, credential=credential, iam_address=upstream.url) as source:
        repositories = await repositories_of(source)
        upstream.iam.revoke_all()
        tags = await asyncio.gather(*(tags_of(source, one) for one in repositories))

    assert sum(map(len, tags)) == 20
    assert len(upstream.requests("/v3/auth/tokens")) == 2


async def test_a_wrong_password_is_tried_once_only(upstream):
    credential = password_of(upstream, "wrong-password")

    async with reading(upstream, credential=credential, iam_address=upstream.url) as source:
        results = await asyncio.gather(
            *(repositories_of(source) for _ in range(10)), return_exceptions=True
        )

    assert all(isinstance(result, CredentialsError) for result in results)
    assert len(upstream.requests("/v3/auth/tokens")) == 1
    assert "wrong-password" not in repr(results)


async def test_every_attempt_is_signed(upstream):
    fill(upstream, 1)
    upstream.faults.answer(REPOSITORIES, 503, times=1)

    await listed(upstream, attempts=3)

    assert [line.status for line in upstream.log] == [503, 200]
    assert all("x-sdk-date" in line.headers for line in upstream.log)


# --- what the rows say ---------------------------------------------------------------------------


async def fingerprint_of(upstream, **options):
    async with reading(upstream, **options) as source:
        (repository,) = await repositories_of(source)
    return repository.fingerprint


async def test_a_fingerprint_moves_with_the_tags_and_not_with_the_downloads(upstream):
    upstream.world.push("team/app", "v1")
    first = await fingerprint_of(upstream)

    upstream.world.repository("team/app").num_download += 1000
    downloaded = await fingerprint_of(upstream)
    upstream.world.move("team/app", "v1")
    moved = await fingerprint_of(upstream)
    upstream.world.push("team/app", "v2")
    added = await fingerprint_of(upstream)
    upstream.world.push("team/app", "v3", quiet=True)
    upstream.world.delete_tag("team/app", "v2", quiet=True)
    renamed = await fingerprint_of(upstream)

    assert first is not None
    assert downloaded == first
    assert len({first, moved, added, renamed}) == 4


async def test_a_fingerprint_is_not_believed_while_the_clock_has_hardly_moved(upstream):
    upstream.world_date = True
    upstream.world.push("team/app", "v1")

    fresh = await fingerprint_of(upstream)
    upstream.world.clock.advance(10)
    settled = await fingerprint_of(upstream)

    assert fresh is None
    assert settled is not None


@pytest.mark.parametrize(
    "updated_at", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "", None]
)
async def test_h31_a_time_that_no_clock_has_said_is_not_believed(upstream, updated_at):
    upstream.world.push("team/app", "v1")
    upstream.faults.rows(REPOSITORIES, lambda rows: [{**rows[0], "updated_at": updated_at}])

    async with reading(upstream) as source:
        (repository,) = await repositories_of(source)

    assert repository.updated_at is None
    assert repository.fingerprint is None


async def test_an_incomplete_list_of_tag_names_stays_out_of_the_fingerprint(upstream):
    upstream.world.push("team/app", "v1")
    upstream.world.push("team/app", "v2")
    upstream.faults.rows(REPOSITORIES, lambda rows: [{**rows[0], "tags": ["v1"]}], times=1)
    upstream.faults.rows(REPOSITORIES, lambda rows: [{**rows[0], "tags": ["v2"]}], times=2)

    assert await fingerprint_of(upstream) == await fingerprint_of(upstream) is not None


async def test_a_manifest_list_tells_its_platforms(upstream):
    placed = upstream.world.push("team/app", "v1", platforms=("linux/amd64", "linux/arm64/v8"))
    upstream.world.push("team/app", "v2")

    async with reading(upstream) as source:
        (repository,) = await repositories_of(source)
        tags = {tag.tag: tag for tag in await tags_of(source, repository)}
        described = [image async for image in source.describe(repository, list(tags.values()))]

    image = tags["v1"].image
    assert image.is_index
    assert [(p.os, p.architecture, p.variant) for p in image.platforms] == [
        ("linux", "amd64", ""),
        ("linux", "arm64", "v8"),
    ]
    assert [p.digest for p in image.platforms] == [c.digest for c in placed.content.children]
    assert not tags["v2"].image.is_index
    assert {one.digest for one in described} == {tag.digest for tag in tags.values()}


async def test_a_tag_says_all_that_its_row_says(upstream):
    placed = upstream.world.push("team/app", "v1", size=3 * 2**31)

    async with reading(upstream) as source:
        (repository,) = await repositories_of(source)
        (tag,) = await tags_of(source, repository)

    assert repository.images == 1
    assert tag.digest == placed.content.digest
    assert tag.updated_at == placed.updated.replace(microsecond=tag.updated_at.microsecond)
    assert tag.image.size == 3 * 2**31
    assert tag.image.image_id in placed.content.image_id


async def test_a_page_of_tags_is_read_without_building_the_manifests(upstream):
    broken = {"Tag": "v1", "digest": "sha256:aa", "manifest": "not json", "tag_type": 0}
    upstream.world.push("team/app", "v1")
    upstream.faults.answer(TAGS, 200, body=[broken])

    async with reading(upstream) as source:
        (repository,) = await repositories_of(source)
        (tag,) = await tags_of(source, repository)

    assert tag.image.image_id == "sha256:aa"


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "options", "credential", "parameter"),
    [
        ("swr-api.example.com", {}, {}, "address"),
        ("ftp://swr.example.com", {}, {}, "address"),
        ("https://user:pw@swr.example.com", {}, {}, "address"),
        ("https://swr.example.com?x=1", {}, {}, "address"),
        ("https://swr.example.com:port", {}, {}, "address"),
        ("https://swr.example.com", {"page_size": 1001}, {}, "options.page_size"),
        ("https://swr.example.com", {"page_size": "x"}, {}, "options.page_size"),
        ("https://swr.example.com", {"api": "v4"}, {}, "options.api"),
        ("https://swr.example.com", {"pagesize": 1}, {}, "options.pagesize"),
        ("https://swr.example.com", {}, {"kind": "none"}, "credential"),
        ("https://swr.example.com", {}, {"secret": ""}, "credential"),
        ("https://swr.example.com", {}, {"identity": ""}, "credential"),
        ("https://swr.example.com", {}, {"secret": "a\nb"}, "credential"),
        ("https://swr.example.com", {}, {"kind": "basic"}, "options.iam_address"),
    ],
)
def test_a_setting_that_cannot_work_is_named(address, options, credential, parameter):
    given = {"kind": "access_key", "identity": "AK", "secret": "SK", **credential}

    with pytest.raises(InvalidParameterError) as caught:
        check_registry("SwrPrivate", address, options, RegistryCredential(**given))

    assert caught.value.parameter == parameter


def test_an_unknown_kind_is_named_with_the_known_ones():
    with pytest.raises(InvalidParameterError, match="SwrPrivate"):
        check_registry("Nonesuch", "https://x", {}, RegistryCredential(kind="none"))
