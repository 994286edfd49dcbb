"""SWR enterprise: what its lists prove, what its rows say, and what its triggers send."""

import contextlib
import datetime as dt
import itertools
import json

import pytest
from stages import signed_by

from wharfinger.domain.errors import (
    ForbiddenError,
    InvalidParameterError,
    ListLoopError,
    ListMovedError,
    MalformedAnswerError,
    MissingError,
    SourceError,
)
from wharfinger.domain.model import RegistryCredential, RegistryRef, RepositoryName
from wharfinger.sources import check_registry, find_registries, read_notification
from wharfinger.sources._addresses import AddressPolicy
from wharfinger.sources._http import AioTransport
from wharfinger.sync.pacing import HostBudget, PacedHttp
from wharfinger.testing.faults import json_answer
from wharfinger.testing.model import World
from wharfinger.testing.source_suite import inventory_of, opened, path_of, repositories_of, tags_of
from wharfinger.testing.swr_enterprise import notification_of
from wharfinger.testing.upstream import Upstream

REPOSITORIES = r"/repositories\?"
ARTIFACTS = r"/repositories/.*/artifacts\?"


@pytest.fixture
async def upstream():
    async with Upstream(World()) as upstream:
        upstream.world.instance("prod")
        yield upstream


@pytest.fixture
def instance(upstream):
    return upstream.world.instance("prod")


@pytest.fixture
def content(instance):
    return instance.content


def ref(upstream, **options):
    instance = upstream.world.instance("prod")
    own = {"instance_id": instance.id, "project_id": upstream.world.home.project_id}
    return RegistryRef(
        id="r1",
        project_id="p1",
        name="prod",
        kind="SwrEnterprise",
        address=upstream.url,
        options=own | options,
        allow_private_networks=True,
    )


def reading(upstream, *, attempts=1, **options):
    return opened(ref(upstream, **options), signed_by(upstream.key), attempts=attempts)


async def found_by(upstream, **options):
    async with reading(upstream, **options) as source:
        return await inventory_of(source)


async def listed(upstream, **options):
    async with reading(upstream, **options) as source:
        return await repositories_of(source)


async def only_tags(upstream, **options):
    async with reading(upstream, **options) as source:
        (repository,) = await repositories_of(source)
        return await tags_of(source, repository)


def fill(content, artifacts, path="team/app"):
    for number in range(artifacts):
        content.push(path, f"v{number:04}")


# --- what goes over the wire ---------------------------------------------------------------------


@pytest.mark.hard_case("H20", guard="wharfinger.sources.swr_enterprise:_path")
async def test_a_slash_in_a_name_is_encoded_twice(upstream, content):
    content.push("team/deep/er/app", "v1")

    with contextlib.suppress(MissingError):
        await found_by(upstream)

    (asked,) = upstream.requests("/artifacts")
    assert asked.path.endswith("/namespaces/team/repositories/deep%252Fer%252Fapp/artifacts")
    assert asked.status == 200


@pytest.mark.parametrize("size", [2, 3, 4, 10, 99, 100])
async def test_every_page_stands_on_the_grid_and_joins_the_one_before(upstream, content, size):
    fill(content, 131)

    assert await found_by(upstream, page_size=size) == content.images()

    pages = [dict(p.split("=") for p in r.query.split("&")) for r in upstream.requests(ARTIFACTS)]
    reached = 0
    for page in pages:
        limit, offset = int(page["limit"]), int(page["offset"])
        assert limit <= size
        assert offset % limit == 0
        # Either it overlaps what was read, or the page it follows is read again right after it.
        assert offset <= reached
        reached = max(reached, offset + limit)


async def test_joined_pages_cost_a_request_in_eight_more_than_bare_ones(upstream, content):
    fill(content, 1000)

    await found_by(upstream)

    assert len(upstream.requests(ARTIFACTS)) <= 12


async def test_a_server_with_smaller_pages_of_its_own_is_read_completely(upstream, content):
    upstream.enterprise.largest_page = 7
    fill(content, 40)

    assert await found_by(upstream) == content.images()


async def test_an_unchanged_instance_is_told_by_one_request(upstream, content):
    for number in range(30):
        content.push(f"team/app-{number}", "v1")

    rows = await listed(upstream)

    assert len(rows) == 30
    assert all(row.fingerprint for row in rows)
    assert len(upstream.log) == 1


# --- lists that move -----------------------------------------------------------------------------


async def test_a_push_between_two_pages_is_noticed(upstream, content):
    fill(content, 150)
    upstream.faults.before(ARTIFACTS, lambda: content.push("team/app", "new"), skip=1, times=1)

    with pytest.raises(ListMovedError):
        await found_by(upstream)


@pytest.mark.hard_case("H2", guard="wharfinger.sources.swr_enterprise:_GridWalk._joint")
async def test_a_deletion_made_good_by_a_push_is_noticed_though_the_total_stays(upstream, content):
    for number in range(150):
        content.push(f"team/app-{number:03}", "v1")

    def swap():
        content.delete_repository("team/app-000")
        content.push("team/another", "v1")

    upstream.faults.before(REPOSITORIES, swap, skip=1, times=1)

    with pytest.raises(ListMovedError, match="last rows of the one before"):
        await listed(upstream)


@pytest.mark.parametrize("size", [3, 10])
async def test_where_pages_cannot_overlap_a_deletion_is_noticed_too(upstream, content, size):
    for number in range(14):
        content.push(f"team/app-{number:03}", "v1")

    def swap():
        content.delete_repository(next(iter(content.repositories)))
        content.push(f"team/another-{len(upstream.log)}", "v1")

    for skip in itertools.count(1):
        fault = upstream.faults.before(REPOSITORIES, swap, skip=skip, times=1)
        try:
            rows = await listed(upstream, page_size=size)
        except ListMovedError:
            continue
        finally:
            upstream.faults.remove(fault)
        break

    # No page was left before which it could happen unnoticed: the list then was over.
    assert fault.struck == 0
    assert len(rows) == 14


async def test_a_tag_that_jumps_from_a_later_page_to_an_earlier_one_is_noticed(upstream, content):
    fill(content, 150)
    newest = content.tag("team/app", "v0149").content
    upstream.faults.before(
        ARTIFACTS,
        lambda: content.push("team/app", "v0000", content=newest, quiet=True),
        skip=1,
        times=1,
    )

    with pytest.raises(ListMovedError, match="a tag is elsewhere now"):
        await found_by(upstream)


async def test_a_count_that_is_never_right_costs_a_second_reading_and_no_more(upstream, content):
    fill(content, 150)
    upstream.faults.wrong_total(r"/tags\?", 7)

    assert await found_by(upstream) == content.images()

    assert len(upstream.requests(ARTIFACTS)) == 4


async def test_a_list_of_one_page_needs_no_count(upstream, content):
    fill(content, 100)

    assert await found_by(upstream) == content.images()

    assert len(upstream.log) == 2


@pytest.mark.hard_case("H7", guard="wharfinger.sources.swr_enterprise:_GridWalk._joint")
async def test_a_page_that_comes_again_is_a_loop(upstream, content):
    fill(content, 150)
    upstream.faults.repeat(ARTIFACTS, skip=1, times=1)

    with pytest.raises(SourceError) as caught:
        await found_by(upstream)

    # What has moved is read again; a loop would only be walked once more.
    assert isinstance(caught.value, ListLoopError)


async def test_fewer_rows_than_the_total_are_no_complete_list(upstream, content):
    fill(content, 5)

    upstream.faults.rows(ARTIFACTS, lambda rows: [])

    with pytest.raises(ListMovedError, match="a page is empty where the total says 5"):
        await found_by(upstream)


async def test_without_a_total_nothing_is_complete(upstream, content):
    fill(content, 2)
    upstream.faults.no_total(ARTIFACTS)

    with pytest.raises(MalformedAnswerError, match="total"):
        await found_by(upstream)


async def test_a_list_without_rows_may_be_null(upstream):
    upstream.faults.instead(REPOSITORIES, lambda _: json_answer({"total": 0, "repositories": None}))

    assert await listed(upstream) == []


async def test_too_many_requests_by_403_are_waited_out(upstream, content):
    content.push("team/app", "v1")
    upstream.swr_throttle(ARTIFACTS, times=2)

    async with reading(upstream, attempts=3) as source:
        assert await inventory_of(source) == content.images()


async def test_no_permission_is_no_throttling(upstream, content):
    content.push("team/app", "v1")
    upstream.forbid(ARTIFACTS)

    with pytest.raises(ForbiddenError, match="Insufficient permissions"):
        await found_by(upstream)


# --- what the rows say ---------------------------------------------------------------------------


async def test_what_lost_its_tag_is_listed_by_its_digest(upstream, content):
    old = content.push("team/app", "v1").content
    new = content.move("team/app", "v1").content

    tags = await only_tags(upstream)

    assert {(tag.tag, tag.digest) for tag in tags} == {("v1", new.digest), (None, old.digest)}


async def test_a_row_tells_size_time_and_type(upstream, content):
    placed = content.push("team/app", "v1", size=123_456)

    (tag,) = await only_tags(upstream)

    assert tag.updated_at == placed.updated.replace(
        microsecond=placed.updated.microsecond // 1000 * 1000
    )
    assert (tag.image.size, tag.image.media_type) == (123_456, placed.content.media_type)
    assert (tag.image.is_index, tag.image.artifact_type) == (False, "")
    # Only the registry itself could tell the config's digest.
    assert tag.image.image_id == tag.digest


async def test_an_index_is_one_though_its_platforms_are_not_told(upstream, content):
    content.push("team/app", "v1", platforms=("linux/amd64", "linux/arm64/v8"), size=1000)

    (tag,) = await only_tags(upstream)

    assert (tag.image.is_index, tag.image.platforms, tag.image.size) == (True, (), 2000)


async def test_what_is_no_image_says_what_it_is(upstream, content):
    helm = "application/vnd.cncf.helm.config.v1+json"
    digest = content.push("team/app", "1.2.3").content.digest
    chart = content.repository("team/app").artifacts[digest]
    chart.type, chart.media_type = "CHART", helm
    signed = content.push("team/app", "v1").content.digest
    content.push("team/app", f"{signed.replace(':', '-')}.sig")

    types = {tag.tag: tag.image.artifact_type for tag in await only_tags(upstream)}

    assert types == {
        "1.2.3": helm,
        "v1": "",
        f"{signed.replace(':', '-')}.sig": "application/vnd.dev.cosign.artifact.sig.v1+json",
    }


async def test_what_is_attached_is_not_listed_as_an_image(upstream, content):
    digest = content.push("team/app", "v1").content.digest
    content.attach("team/app", digest)

    assert await found_by(upstream) == {("team/app", "v1", digest)}


@pytest.mark.parametrize(
    "written", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z", "", "yesterday"]
)
async def test_a_time_that_no_clock_has_said_is_none(upstream, content, written):
    content.push("team/app", "v1")
    repository = content.repository("team/app")
    repository.updated = repository.tags["v1"].updated = written
    repository.artifacts[repository.tags["v1"].content.digest].pushed = written

    (row,) = await listed(upstream)
    (tag,) = await only_tags(upstream)

    assert (row.updated_at, row.fingerprint, tag.updated_at) == (None, None, None)


# --- fingerprints --------------------------------------------------------------------------------


async def fingerprint_of(upstream):
    (row,) = await listed(upstream)
    return row.fingerprint


async def test_a_time_in_another_zone_is_the_same_time(upstream, content):
    content.push("team/app", "v1")
    repository = content.repository("team/app")
    moment = repository.updated.replace(microsecond=0)
    repository.updated = moment
    before = await fingerprint_of(upstream)

    repository.updated = moment.astimezone(dt.timezone(dt.timedelta(hours=8))).isoformat()

    assert await fingerprint_of(upstream) == before


@pytest.mark.parametrize("change", ["push", "move", "delete_tag", "delete_artifact"])
async def test_every_change_shows_in_the_fingerprint(upstream, content, change):
    content.push("team/app", "v1")
    digest = content.push("team/app", "v2").content.digest
    before = await fingerprint_of(upstream)

    {
        "push": lambda: content.push("team/app", "v3"),
        "move": lambda: content.move("team/app", "v2"),
        "delete_tag": lambda: content.delete_tag("team/app", "v2"),
        "delete_artifact": lambda: content.delete_artifact("team/app", digest),
    }[change]()

    assert await fingerprint_of(upstream) != before


async def test_a_deletion_that_leaves_the_time_alone_shows_in_the_numbers(upstream, content):
    content.push("team/app", "v1")
    content.push("team/app", "v2")
    before = await fingerprint_of(upstream)
    repository = content.repository("team/app")
    moment = repository.updated

    content.delete_tag("team/app", "v2")
    repository.updated = moment

    assert await fingerprint_of(upstream) != before


async def test_downloads_do_not_show(upstream, content):
    content.push("team/app", "v1")
    before = await fingerprint_of(upstream)

    content.repository("team/app").num_download += 10

    assert await fingerprint_of(upstream) == before


async def test_what_was_pushed_a_moment_ago_has_no_fingerprint_yet(upstream, content):
    upstream.world.clock.follow_real_time()
    content.push("team/app", "v1")

    assert await fingerprint_of(upstream) is None


async def test_only_a_repository_without_any_artifact_claims_to_be_empty(upstream, content):
    content.create_repository("team/empty")
    content.push("team/untagged", "v1")
    content.delete_tag("team/untagged", "v1")
    content.push("team/tagged", "v1")

    claims = {path_of(row): row.images for row in await listed(upstream)}

    assert claims == {"team/empty": 0, "team/untagged": None, "team/tagged": 1}


# --- which instances there are -------------------------------------------------------------------


async def instances_of(upstream, **options):
    own = ref(upstream)
    kept = {"project_id": own.options["project_id"]} | options
    registry = RegistryRef(
        id="",
        project_id="p1",
        name="",
        kind="SwrEnterprise",
        address=upstream.url,
        options=kept,
        allow_private_networks=True,
    )
    transport = AioTransport(AddressPolicy(allow_private=True))
    try:
        http = PacedHttp(transport, HostBudget(), attempts=1)
        return await find_registries(registry, signed_by(upstream.key), http)
    finally:
        await transport.aclose()


@pytest.mark.hard_case("H31", guard="wharfinger.sources._reading:deadline")
async def test_an_instance_that_expires_in_the_year_1_does_not_expire(upstream, instance):
    upstream.world.instance("trial").expires = dt.datetime(2199, 1, 1, tzinfo=dt.UTC)

    prod, trial = await instances_of(upstream)

    assert (prod.id, prod.name, prod.version) == (instance.id, "prod", "25.6.7")
    assert prod.url == instance.content.registry_host
    assert prod.expires_at is None
    assert trial.expires_at == dt.datetime(2199, 1, 1, tzinfo=dt.UTC)
    # Its zone is the cloud's own, eight hours from ours.
    assert prod.created_at == instance.created


async def test_there_may_be_more_instances_than_a_page_holds(upstream):
    for number in range(120):
        upstream.world.instance(f"i-{number}")

    assert len({one.id for one in await instances_of(upstream)}) == 121


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parameter", "words"),
    [
        ({"project_id": "p"}, "options.instance_id", "wharfinger swr instances"),
        ({"instance_id": "i"}, "options.project_id", "id in Huawei Cloud"),
        ({"instance_id": "../x", "project_id": "p"}, "options.instance_id", "must be"),
        ({"instance_id": "i", "project_id": "p/q"}, "options.project_id", "must be"),
        ({"instance_id": "i", "project_id": "p", "page_size": 101}, "options.page_size", "<= 100"),
    ],
)
def test_settings_that_lead_nowhere_are_refused_before_they_are_kept(options, parameter, words):
    credential = RegistryCredential(kind="access_key", identity="AK", secret="SK")

    with pytest.raises(InvalidParameterError, match=words) as caught:
        check_registry("SwrEnterprise", "https://swr-api.example.com", options, credential)

    assert caught.value.parameter == parameter


# --- triggers ------------------------------------------------------------------------------------


def told(body):
    return read_notification("SwrEnterprise", json.dumps(body).encode())


def test_a_push_names_its_repository(upstream, instance):
    instance.content.push("team/deep/app", "v1")

    found = told(notification_of(instance, "team/deep/app", "v1"))

    assert found.repositories == (RepositoryName(namespace="team", name="deep/app"),)
    assert found.ignored == 0


@pytest.mark.parametrize(
    "event",
    [
        {"type": "PULL_ARTIFACT", "event_data": {"repository": {"repo_full_name": "team/app"}}},
        {"type": "PUSH_ARTIFACT", "event_data": {"repository": {"repo_full_name": "../app"}}},
        {"type": "PUSH_ARTIFACT", "event_data": {"repository": {"repo_full_name": "alone"}}},
        {
            "type": "PUSH_ARTIFACT",
            "event_data": {"repository": {"repo_full_name": "t/" + "a" * 300}},
        },
        {"type": "PUSH_ARTIFACT"},
    ],
)
def test_what_tells_of_no_artifact_is_ignored(event):
    assert (told(event).repositories, told(event).ignored) == ((), 1)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"type": 1}', b"\xff", b"[" * 5000])
def test_what_is_no_event_is_refused(body):
    with pytest.raises(InvalidParameterError, match="as Harbor writes them"):
        read_notification("SwrEnterprise", body)
