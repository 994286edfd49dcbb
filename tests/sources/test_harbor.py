"""Harbor: what its lists prove, what its rows say, what it costs, who it lets in."""

import datetime as dt
import email.utils
import json

import pytest
from stages import known_to

from wharfinger.domain.errors import (
    ForbiddenError,
    InvalidParameterError,
    ListLoopError,
    ListMovedError,
    MissingError,
    ThrottledError,
    UnauthorisedError,
    UnexpectedAnswerError,
    UnsupportedError,
    UpstreamFailureError,
)
from wharfinger.domain.model import (
    RegistryCredential,
    RegistryRef,
    RepositoryName,
    RepositoryRef,
)
from wharfinger.sources import check_registry, filter_of, read_notification
from wharfinger.testing.content import OCI_INDEX, image, index
from wharfinger.testing.faults import json_answer
from wharfinger.testing.harbor import HarborUpstream
from wharfinger.testing.source_suite import inventory_of, opened, path_of, repositories_of, tags_of

NOBODY = RegistryCredential(kind="none")
REPOSITORIES = r"/repositories\?"
ARTIFACTS = r"/artifacts\?"
MADE = dt.datetime(2025, 6, 7, 8, 9, 10, 123_000, tzinfo=dt.UTC)
DEEP = "/api/v2.0/projects/team/repositories/deep%252Fer%252Fapp"
WITH = "with_tag=true&with_accessory=true&with_scan_overview=false"


@pytest.fixture
async def harbor():
    async with HarborUpstream() as harbor:
        yield harbor


def ref(harbor, *, address=None, **options):
    return RegistryRef(
        id="r1",
        project_id="p1",
        name="harbour",
        kind="Harbor",
        address=address or harbor.url,
        options=options,
        allow_private_networks=True,
    )


def reading(harbor, *, account="admin", credential=None, address=None, **options):
    credential = credential or known_to(harbor, account)
    return opened(ref(harbor, address=address, **options), credential)


def fill(harbor, repositories, *, tags=1):
    for number in range(repositories):
        for version in range(tags):
            harbor.push(f"team/app-{number:03}", f"v{version}")


async def listed(harbor, **options):
    async with reading(harbor, **options) as source:
        return [path_of(row) for row in await repositories_of(source)]


async def artifacts_of(harbor, **options):
    """The rows of the only repository, and the images they name."""
    async with reading(harbor, **options) as source:
        (repository,) = await repositories_of(source)
        tags = await tags_of(source, repository)
        bare = [tag for tag in tags if tag.image is None]
        images = {image.digest: image async for image in source.describe(repository, bare)}
    return tags, images | {tag.digest: tag.image for tag in tags if tag.image is not None}


def targets(harbor, pattern="/api/"):
    return [line.target for line in harbor.requests(pattern)]


# --- what goes over the wire ---------------------------------------------------------------------


async def test_h20_a_slash_in_a_name_is_encoded_twice(harbor):
    harbor.push("team/deep/er/app", "v1")

    async with reading(harbor) as source:
        found = await inventory_of(source)

    assert found == harbor.world.images()
    assert targets(harbor) == [
        "/api/v2.0/repositories?page=1&page_size=100",
        f"{DEEP}/artifacts?page=1&page_size=100&{WITH}",
    ]


async def test_a_listing_costs_one_request_for_a_hundred_rows_and_none_for_a_manifest(harbor):
    fill(harbor, 150)
    for number in range(250):
        harbor.push("team/large", f"v{number}")

    async with reading(harbor) as source:
        found = await inventory_of(source)

    assert found == harbor.world.images()
    assert len(harbor.requests(REPOSITORIES)) == 2
    assert len(harbor.requests("/large/artifacts")) == 3
    assert len(harbor.requests()) == 2 + 150 + 3


async def test_the_address_of_the_api_is_as_good_as_the_root(harbor):
    harbor.push("team/app", "v1")

    found, images = await artifacts_of(harbor, address=f"{harbor.url}/api/v2.0")

    assert set(images) == {tag.digest for tag in found}


async def test_every_request_of_the_api_is_logged_in_before_anybody_asks(harbor):
    harbor.push("team/app", "v1")
    harbor.push("open/app", "v1")
    harbor.harbor.public.add("open")

    async with reading(harbor, credential=NOBODY) as source:
        anonymous = [path_of(row) for row in await repositories_of(source)]

    assert anonymous == ["open/app"]
    assert sorted(await listed(harbor)) == ["open/app", "team/app"]


async def test_a_robot_account_reads_its_projects_and_their_manifests(harbor):
    harbor.push("team/app", "v1")
    harbor.push("other/app", "v1")
    robot = harbor.robot("inventory", "team")

    tags, images = await artifacts_of(harbor, account=robot.name)

    assert [tag.tag for tag in tags] == ["v1"]
    assert images[tags[0].digest].image_id.startswith("sha256:")


# --- what proves that a list is complete ---------------------------------------------------------


def delete_newest(world):
    world.delete_repository("team/app-011")


def delete_oldest(world):
    world.delete_repository("team/app-000")


def push_new(world):
    world.push("team/new", "v1")


def replace_newest(world):
    delete_newest(world)
    push_new(world)


def replace_oldest(world):
    delete_oldest(world)
    push_new(world)


CHANGES = [delete_newest, delete_oldest, push_new, replace_newest, replace_oldest]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("totals", [True, False])
@pytest.mark.parametrize("page", [1, 2])
@pytest.mark.parametrize("change", CHANGES)
async def test_h02_what_stood_all_along_is_listed_or_the_list_is_not_complete(
    harbor, change, page, totals, order
):
    harbor.harbor.order, harbor.harbor.totals = order, totals
    fill(harbor, 12)
    before = {repository.path for repository in harbor.world.owned()}
    harbor.faults.before(REPOSITORIES, lambda: change(harbor.world), skip=page, times=1)

    try:
        found = await listed(harbor, page_size=4)
    except ListMovedError:
        return

    after = {repository.path for repository in harbor.world.owned()}
    assert before & after <= set(found)


async def test_h02_a_row_that_a_deletion_shifted_out_of_sight_is_missed_by_no_list(harbor):
    # In the oldest order the total stays, no row comes twice, and app-004 is never shown.
    harbor.harbor.order = "oldest"
    fill(harbor, 12)
    harbor.faults.before(REPOSITORIES, lambda: replace_oldest(harbor.world), skip=1, times=1)

    with pytest.raises(ListMovedError, match="second reading"):
        await listed(harbor, page_size=4)


async def test_where_the_newest_do_not_come_first_a_long_list_is_read_twice(harbor):
    fill(harbor, 12)
    harbor.harbor.order = "oldest"

    assert len(await listed(harbor, page_size=4)) == 12
    assert len(harbor.requests(REPOSITORIES)) == 6
    assert len(await listed(harbor)) == 12
    assert len(harbor.requests(REPOSITORIES)) == 7


async def test_h06_without_links_the_total_tells_that_there_is_more(harbor):
    fill(harbor, 9)
    harbor.harbor.links = False

    assert len(await listed(harbor, page_size=4)) == 9


async def test_h06_without_links_and_totals_a_full_page_is_asked_what_comes_after_it(harbor):
    fill(harbor, 8)
    harbor.harbor.links = harbor.harbor.totals = False

    assert len(await listed(harbor, page_size=8)) == 8
    assert targets(harbor)[1] == "/api/v2.0/repositories?page=2&page_size=8"


async def test_h08_a_server_that_caps_its_pages_is_followed(harbor):
    fill(harbor, 11)
    harbor.harbor.page_cap = 4

    assert len(await listed(harbor)) == 11
    assert len(harbor.requests(REPOSITORIES)) == 3


@pytest.mark.parametrize("total", ["2", "4", "100"])
async def test_a_total_that_is_not_what_came_proves_nothing(harbor, total):
    fill(harbor, 3)
    harbor.faults.change(REPOSITORIES, lambda _, answer: answer.with_headers(X_Total_Count=total))

    with pytest.raises(ListMovedError):
        await listed(harbor)


async def test_h07_a_page_that_comes_again_is_no_list(harbor):
    fill(harbor, 9)
    harbor.faults.repeat(REPOSITORIES, skip=1)

    with pytest.raises(ListLoopError):
        await listed(harbor, page_size=3)


async def test_h07_a_link_that_leads_back_is_no_list(harbor):
    fill(harbor, 2)
    back = '</api/v2.0/repositories?page=1&page_size=100>; rel="next"'
    harbor.faults.change(REPOSITORIES, lambda _, answer: answer.with_headers(Link=back))

    with pytest.raises(ListLoopError):
        await listed(harbor)


async def test_h05_a_link_is_followed_as_it_is_and_to_no_other_host(harbor):
    fill(harbor, 6)
    before = '</api/v2.0/repositories?page=1>; rel="prev" , '
    opaque = f'{before}<{harbor.url}/api/v2.0/repositories?page_size=3&x=%2f&page=2>; rel="next"'
    harbor.faults.change(REPOSITORIES, lambda _, answer: answer.with_headers(Link=opaque), times=1)

    assert len(await listed(harbor, page_size=3)) == 6
    assert targets(harbor)[1] == "/api/v2.0/repositories?page_size=3&x=%2f&page=2"

    away = opaque.replace("127.0.0.1", "192.0.2.1")
    harbor.faults.change(REPOSITORIES, lambda _, answer: answer.with_headers(Link=away), times=1)
    with pytest.raises(UnexpectedAnswerError, match="another host"):
        await listed(harbor, page_size=3)


# --- project by project --------------------------------------------------------------------------


async def test_h14_where_the_list_of_all_is_forbidden_the_projects_can_be_named(harbor):
    harbor.push("team/app", "v1")
    harbor.push("base/app", "v1")
    harbor.push("other/app", "v1")
    harbor.harbor.global_list = "forbidden"
    robot = harbor.robot("inventory", "team", "base").name

    with pytest.raises(ForbiddenError, match="--option projects="):
        await listed(harbor, account=robot)

    assert await listed(harbor, account=robot, projects="team, base") == ["team/app", "base/app"]


async def test_h14_an_old_harbor_without_a_list_of_all_says_what_helps(harbor):
    harbor.push("team/app", "v1")
    harbor.harbor.global_list = "absent"

    with pytest.raises(UnsupportedError, match="--option projects="):
        await listed(harbor)

    assert await listed(harbor, projects=["team"]) == ["team/app"]


async def test_a_project_that_is_not_there_is_an_error_and_no_empty_list(harbor):
    harbor.push("team/app", "v1")

    with pytest.raises(MissingError):
        await listed(harbor, projects=["team", "gone"])
    with pytest.raises(MissingError, match="no project gone"):
        await listed(harbor, projects=["team", "gone"], proxy_caches=False)


async def test_only_the_last_page_of_the_last_project_is_the_last(harbor):
    fill(harbor, 7)
    harbor.push("base/app", "v1")

    async with reading(harbor, projects=["base", "team"], page_size=3) as source:
        pages = [page async for page in source.repositories(None)]

    assert [len(page.items) for page in pages] == [1, 3, 3, 1]
    assert [page.next is None for page in pages] == [False, False, False, True]


async def test_proxy_caches_are_left_out_where_they_are_not_wanted(harbor):
    harbor.push("team/app", "v1")
    harbor.push("hub/library/nginx", "v1")
    harbor.harbor.proxy_caches["hub"] = 3

    assert await listed(harbor) == ["hub/library/nginx", "team/app"]
    assert await listed(harbor, proxy_caches="false") == ["team/app"]
    assert await listed(harbor, proxy_caches=False, projects=["hub", "team"]) == ["team/app"]
    assert await listed(harbor, proxy_caches=False, projects=["hub"]) == []


def test_named_projects_are_a_filter_that_hides_the_others(harbor):
    wanted = filter_of(ref(harbor, address="https://harbor.example.com", projects="team,base"))

    assert wanted
    assert wanted.covers("team", "app")
    assert not wanted.covers("teams", "app")


# --- what rows say --------------------------------------------------------------------------------


async def test_an_image_has_its_config_digest_for_one_request(harbor):
    content = image("app", created=MADE, size=12_345)
    harbor.push("team/app", "v1", content=content)

    tags, images = await artifacts_of(harbor)

    found = images[content.digest]
    assert (found.image_id, found.size) == (content.image_id, 12_345)
    assert (found.created_at, found.artifact_type) == (MADE, "")
    assert tags[0].updated_at == dt.datetime(2024, 3, 4, 8, 0, 14, 544_000, tzinfo=dt.UTC)
    # The listing told when it was made, so its config is not asked for; nor is a token.
    assert [line.path for line in harbor.requests("/v2/|/service/")] == [
        f"/v2/team/app/manifests/{content.digest}"
    ]


async def test_a_registry_that_insists_on_tokens_gets_them(harbor):
    harbor.harbor.basic_registry = False
    for version in range(3):
        harbor.push("team/app", f"v{version}")

    tags, images = await artifacts_of(harbor)

    assert set(images) == {tag.digest for tag in tags}
    assert harbor.tokens_issued == 1


async def test_public_images_are_described_to_nobody_in_particular(harbor):
    content = harbor.push("open/app", "v1")
    harbor.harbor.public.add("open")

    async with reading(harbor, credential=NOBODY) as source:
        (repository,) = await repositories_of(source)
        tags = await tags_of(source, repository)
        (found,) = [image async for image in source.describe(repository, tags)]

    assert found.image_id == content.image_id


async def test_an_image_of_which_the_listing_says_no_time_is_asked_for_its_config(harbor):
    content = image("app", created=MADE)
    harbor.push("team/app", "v1", content=content)

    async with reading(harbor) as source:
        (repository,) = await repositories_of(source)
        tags = await tags_of(source, repository)
    async with reading(harbor) as another:
        (found,) = [image async for image in another.describe(repository, tags)]

    assert (found.image_id, found.created_at) == (content.image_id, MADE)


async def test_without_manifests_nothing_but_the_lists_is_read(harbor):
    single = image("one", created=MADE, size=1_000)
    harbor.push("team/app", "v1", content=single)
    harbor.push("team/app", "v2", content=index("two", created=MADE, platforms=("linux/arm64/v8",)))

    tags, images = await artifacts_of(harbor, manifests=False)

    assert harbor.requests("/v2/") == []
    found = {tag.tag: images[tag.digest] for tag in tags}
    assert found["v1"].image_id == single.digest
    assert found["v1"].size == 1_000 + len(single.manifest)
    assert found["v1"].created_at == MADE
    assert found["v2"].is_index
    assert [(p.os, p.architecture, p.variant) for p in found["v2"].platforms] == [
        ("linux", "arm64", "v8")
    ]


async def test_an_index_has_its_children_with_size_and_config(harbor):
    platforms = ("linux/amd64", "linux/arm64/v8")
    content = index("app", created=MADE, platforms=platforms, size=1_000, media_type=OCI_INDEX)
    harbor.push("team/app", "v1", content=content)

    tags, images = await artifacts_of(harbor)

    found = images[content.digest]
    assert len(tags) == 1
    assert (found.is_index, found.image_id, found.size) == (True, content.digest, 2_000)
    assert [(p.architecture, p.image_id) for p in found.platforms] == [
        (child.architecture, child.image_id) for child in content.children
    ]
    assert found.created_at == MADE


async def test_one_artifact_is_listed_under_each_of_its_tags(harbor):
    content = harbor.push("team/app", "v1")
    harbor.push("team/app", "latest", content=content)

    tags, images = await artifacts_of(harbor)

    assert {tag.tag for tag in tags} == {"v1", "latest"}
    assert len(images) == 1


async def test_an_artifact_without_a_tag_is_listed_without_one(harbor):
    first = harbor.push("team/app", "v1")
    second = harbor.push("team/app", "v1")
    harbor.push("team/app", "v2")
    third = harbor.delete_tag("team/app", "v2")

    tags, images = await artifacts_of(harbor)

    assert {(tag.tag, tag.digest) for tag in tags} == {
        (None, first.digest),
        ("v1", second.digest),
        (None, third.digest),
    }
    assert images[first.digest].image_id == first.image_id


async def test_what_is_attached_is_listed_as_what_it_is(harbor):
    content = harbor.push("team/app", "v1")
    signature = harbor.attach(content.digest, "signature.cosign")
    sbom = harbor.attach(content.digest, "sbom.harbor")

    tags, images = await artifacts_of(harbor)

    assert {(tag.tag, images[tag.digest].artifact_type) for tag in tags} == {
        ("v1", ""),
        (None, "signature.cosign"),
        (None, "sbom.harbor"),
    }
    assert images[signature.digest].size == 1_337
    assert harbor.requests(f"/manifests/{sbom.digest}") == []


async def test_what_belongs_to_an_image_is_told_without_a_pull(harbor):
    app = RepositoryRef(namespace="team", name="deep/app")
    content = harbor.push("team/deep/app", "v1")
    other = harbor.push("team/deep/app", "v2")
    attached = {
        kind: harbor.attach(content.digest, kind).digest
        for kind in ("signature.cosign", "signature.notation", "sbom.harbor", "accelerator.nydus")
    }

    async with reading(harbor) as source:
        found = (await source.referrers(app, content.digest, ["v1"])).found
        none = (await source.referrers(app, other.digest)).found

    assert {(one.digest, one.artifact_type) for one in found} == {
        (digest, kind) for kind, digest in attached.items()
    }
    assert [one.kind for one in found] == ["signature", "signature", "sbom", "other"]
    assert none == ()
    assert harbor.requests("/v2/") == []


async def test_what_an_old_harbor_keeps_under_a_tag_belongs_to_the_image(harbor):
    content = harbor.push("team/app", "v1")
    tag = content.digest.replace(":", "-") + ".sig"
    signature = harbor.push("team/app", tag)

    async with reading(harbor) as source:
        (repository,) = await repositories_of(source)
        (found,) = (await source.referrers(repository, content.digest, ["v1", tag])).found

    assert (found.digest, found.kind) == (signature.digest, "signature")


async def test_a_chart_is_no_container_image_and_costs_no_manifest(harbor):
    helm = "application/vnd.cncf.helm.config.v1+json"
    content = harbor.push("team/app", "1.2.3")
    harbor.declare(content.digest, "CHART", helm)

    _, images = await artifacts_of(harbor)

    assert images[content.digest].artifact_type == helm
    assert harbor.requests("/v2/") == []


async def test_signatures_that_an_old_harbor_takes_for_images_are_told_by_their_tags(harbor):
    content = harbor.push("team/app", "v1")
    tag = content.digest.replace(":", "-") + ".sig"
    signature = harbor.push("team/app", tag)

    _, images = await artifacts_of(harbor, manifests=False)

    assert images[signature.digest].artifact_type == "signature.cosign"
    assert images[content.digest].artifact_type == ""


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("0001-01-01T00:00:00.000Z", None),
        ("1970-01-01T00:00:00.000Z", None),
        ("2025-06-07T16:09:10.123+08:00", MADE),
        ("2025-06-07T08:09:10.123Z", MADE),
        ("yesterday", None),
    ],
)
async def test_h31_times_with_offsets_are_understood_and_those_of_no_clock_are_none(
    harbor, told, meant
):
    harbor.push("team/app", "v1")

    def say(rows):
        for row in rows:
            row["push_time"] = row["tags"][0]["push_time"] = told
        return rows

    harbor.faults.rows(ARTIFACTS, say)
    tags, _ = await artifacts_of(harbor)

    assert [tag.updated_at for tag in tags] == [meant]


# --- fingerprints ---------------------------------------------------------------------------------


async def fingerprint(harbor, *, later=60):
    """Of the only repository, read so many seconds after it last changed."""
    now = harbor.world.repository("team/app").updated + dt.timedelta(seconds=later)
    date = email.utils.format_datetime(now, usegmt=True)
    fault = harbor.faults.change(REPOSITORIES, lambda _, answer: answer.with_headers(Date=date))
    async with reading(harbor) as source:
        (repository,) = await repositories_of(source)
    harbor.faults.remove(fault)
    return repository.fingerprint


async def test_a_fingerprint_stands_until_something_is_pushed_or_deleted(harbor):
    harbor.push("team/app", "v1")
    first = await fingerprint(harbor)
    again = await fingerprint(harbor)
    harbor.push("team/app", "v2")
    pushed = await fingerprint(harbor)
    harbor.delete_artifact("team/app", harbor.world.tag("team/app", "v2").content.digest)
    deleted = await fingerprint(harbor)

    assert first is not None
    assert again == first
    assert len({first, pushed, deleted}) == 3


async def test_a_deleted_tag_shows_in_no_fingerprint(harbor):
    harbor.push("team/app", "v1")
    before = await fingerprint(harbor)
    harbor.delete_tag("team/app", "v1")

    assert await fingerprint(harbor) == before


async def test_a_pull_changes_no_fingerprint_by_its_count_alone(harbor):
    harbor.push("team/app", "v1")
    before = await fingerprint(harbor)
    harbor.world.repository("team/app").num_download += 1

    assert await fingerprint(harbor) == before


async def test_a_row_that_has_just_changed_has_no_fingerprint(harbor):
    harbor.push("team/app", "v1")

    assert await fingerprint(harbor, later=3) is None
    assert await fingerprint(harbor, later=8) is not None


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "UNAUTHORIZED", UnauthorisedError),
        (403, "FORBIDDEN", ForbiddenError),
        (404, "NOT_FOUND", MissingError),
        (429, "TOO_MANY_REQUESTS", ThrottledError),
        (500, "UNKNOWN", UpstreamFailureError),
        (503, "UNAVAILABLE", UpstreamFailureError),
    ],
)
async def test_h29_errors_in_harbors_shape_are_told_apart_and_quoted(harbor, status, code, error):
    harbor.push("team/app", "v1")
    body = {"errors": [{"code": code, "message": "so it is"}]}
    harbor.faults.answer(ARTIFACTS, status, body=body)

    with pytest.raises(error, match=f"{code} so it is"):
        await artifacts_of(harbor)


async def test_who_may_list_but_not_pull_is_told_what_helps(harbor):
    harbor.push("team/app", "v1")
    harbor.behaviour.denied_scopes.add("repository:team/app:pull")

    with pytest.raises(UnauthorisedError, match="manifests=false"):
        await artifacts_of(harbor)

    tags, images = await artifacts_of(harbor, manifests=False)
    assert set(images) == {tag.digest for tag in tags}


async def test_a_row_without_a_digest_is_no_artifact(harbor):
    harbor.push("team/app", "v1")
    harbor.faults.rows(ARTIFACTS, lambda rows: [{**row, "digest": ""} for row in rows])

    with pytest.raises(UnexpectedAnswerError, match="digest"):
        await artifacts_of(harbor)


async def test_a_repository_outside_any_project_is_none(harbor):
    harbor.push("team/app", "v1")
    harbor.faults.rows(REPOSITORIES, lambda rows: [{**row, "name": "app"} for row in rows])

    with pytest.raises(UnexpectedAnswerError, match="no repository's name"):
        await listed(harbor)


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"page_size": 0}, "options.page_size"),
        ({"page_size": 101}, "options.page_size"),
        ({"projects": "../admin"}, "options.projects"),
        ({"projects": ["a/b"]}, "options.projects"),
        ({"manifests": "perhaps"}, "options.manifests"),
        ({"proxy_caches": 7}, "options.proxy_caches"),
    ],
)
def test_what_is_out_of_range_is_refused(options, parameter):
    with pytest.raises(InvalidParameterError) as caught:
        check_registry("Harbor", "https://harbor.example.com", options, NOBODY)

    assert caught.value.parameter == parameter


# --- webhooks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cloud", [False, True])
@pytest.mark.parametrize("kind", ["PUSH_ARTIFACT", "DELETE_ARTIFACT"])
async def test_h30_a_push_or_deletion_names_its_repository_in_both_formats(harbor, kind, cloud):
    harbor.world.namespace("team")

    told = read_notification("Harbor", harbor.hook("team/deep/app", kind, cloud=cloud))

    assert told.repositories == (RepositoryName(namespace="team", name="deep/app"),)
    assert told.ignored == 0


@pytest.mark.parametrize("cloud", [False, True])
@pytest.mark.parametrize("kind", ["PULL_ARTIFACT", "SCANNING_COMPLETED"])
async def test_what_changes_no_list_is_ignored(harbor, kind, cloud):
    harbor.world.namespace("team")

    told = read_notification("Harbor", harbor.hook("team/app", kind, cloud=cloud))

    assert (told.repositories, told.ignored) == ((), 1)


@pytest.mark.parametrize("name", ["app", "../x", "team//app", "team/" + "x" * 251, "Team/App"])
def test_a_name_that_no_repository_has_is_ignored(name):
    data = {"repository": {"repo_full_name": name}}
    body = json.dumps({"type": "PUSH_ARTIFACT", "event_data": data}).encode()

    told = read_notification("Harbor", body)

    assert (told.repositories, told.ignored) == ((), 1)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"type": 7}', b'{"events": []}'])
def test_what_is_no_event_is_refused(body):
    with pytest.raises(InvalidParameterError, match="as Harbor writes them"):
        read_notification("Harbor", body)


async def test_read_only_is_no_reason_not_to_read(harbor):
    harbor.push("team/app", "v1")
    harbor.harbor.read_only = True

    async with reading(harbor) as source:
        assert await inventory_of(source) == harbor.world.images()


async def test_null_for_no_tags_and_no_accessories_is_an_untagged_artifact(harbor):
    content = harbor.push("team/app", "v1")
    row = {"id": 1, "digest": content.digest, "type": "IMAGE", "tags": None, "accessories": None}
    answer = json_answer([row], X_Total_Count="1")
    harbor.faults.instead(ARTIFACTS, lambda _: answer)

    tags, _ = await artifacts_of(harbor)

    assert [(tag.tag, tag.digest) for tag in tags] == [(None, content.digest)]
