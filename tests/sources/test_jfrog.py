"""Artifactory as it is known to be: what is where, AQL's habits, and what serves without AQL."""

import base64
import contextlib

import pytest
from stages import reader_of

from wharfinger.domain.errors import (
    ForbiddenError,
    ListLoopError,
    ListMovedError,
    SourceError,
    UnauthorisedError,
    UnexpectedAnswerError,
)
from wharfinger.domain.model import RegistryCredential, RegistryRef
from wharfinger.testing.jfrog import JfrogUpstream
from wharfinger.testing.source_suite import inventory_of, opened, repositories_of, tags_of

AQL = r"/search/aql"


@pytest.fixture
async def artifactory():
    async with JfrogUpstream() as running:
        yield running


def registry(upstream, *, below="", **options):
    return RegistryRef(
        id="r1",
        project_id="p1",
        name="artifactory",
        kind="Jfrog",
        address=upstream.url + below,
        options=options,
        allow_private_networks=True,
    )


async def read(upstream, *, credential=None, below="", **options):
    async with opened(
        registry(upstream, below=below, **options), credential or reader_of(upstream)
    ) as source:
        return await inventory_of(source)


async def inventory(upstream, **how):
    with in_full():
        return await read(upstream, **how)


async def listed(upstream, **options):
    async with opened(registry(upstream, **options), reader_of(upstream)) as source:
        with in_full():
            return {f"{one.namespace}/{one.name}": one for one in await repositories_of(source)}


@contextlib.contextmanager
def in_full():
    try:
        yield
    except SourceError as exc:
        raise AssertionError(f"not read in full: {exc}") from exc


def push_many(upstream, number, *, path="docker-local/app-{:03}"):
    for index in range(number):
        upstream.world.push(path.format(index), "v1")


# --- what is where -------------------------------------------------------------------------------


@pytest.mark.parametrize("listing", ["aql", "docker"])
async def test_every_image_is_listed_once_and_where_it_really_is(artifactory, listing):
    artifactory.add("hub", "remote")
    artifactory.add("shared", "federated")
    artifactory.add("all", "virtual", members=("docker-local", "hub", "shared"))
    artifactory.add("charts", "local", package_type="helm")
    artifactory.behaviour.elsewhere = {"library/never-pulled"}
    for path in ("docker-local/team/deep/app", "hub-cache/library/nginx", "shared/base"):
        artifactory.world.push(path, "v1")
    of_images = artifactory.world.images()
    artifactory.world.push("charts/redis", "v1")

    assert await inventory(artifactory, listing=listing) == of_images
    # A remote repository itself would be asked for what somebody else has, and would fetch it.
    assert not artifactory.requests(r"/docker/(hub|all)/")


async def test_images_with_the_same_name_in_two_repositories_are_two(artifactory):
    for path in ("dev-local/team/app", "prod-local/team/app", "prod-local/team/app/sub"):
        artifactory.world.push(path, "v1")

    assert await inventory(artifactory) == artifactory.world.images()


@pytest.mark.parametrize("listing", ["aql", "docker"])
async def test_the_platforms_of_an_index_are_described_and_are_no_tags(artifactory, listing):
    pushed = artifactory.world.push(
        "docker-local/app", "multi", platforms=("linux/amd64", "linux/arm64/v8"), size=7_000_000
    )

    async with opened(registry(artifactory, listing=listing), reader_of(artifactory)) as source:
        (repository,) = await repositories_of(source)
        (tag,) = await tags_of(source, repository)
        (image,) = [image async for image in source.describe(repository, [tag])]

    assert (tag.tag, tag.digest) == ("multi", pushed.content.digest)
    assert [(p.architecture, p.variant) for p in image.platforms] == [
        ("amd64", ""),
        ("arm64", "v8"),
    ]
    assert image.size == 14_000_000
    assert image.created_at is not None


async def test_a_tag_was_updated_when_its_manifest_was_pushed(artifactory):
    pushed = artifactory.world.push("docker-local/app", "v1")

    async with opened(registry(artifactory), reader_of(artifactory)) as source:
        (repository,) = await repositories_of(source)
        (tag,) = await tags_of(source, repository)

    assert tag.updated_at == pushed.updated
    assert repository.updated_at == pushed.updated


async def test_tags_that_begin_like_a_child_are_tags(artifactory):
    signature = f"sha256-{'ab' * 32}.sig"
    artifactory.world.push("docker-local/app", signature)

    assert await inventory(artifactory) == artifactory.world.images()


async def test_what_belongs_to_an_image_is_told_by_dockers_api(artifactory):
    image = artifactory.world.push("docker-local/app", "v1").content.digest
    tag = f"sha256-{image.partition(':')[2]}.sig"
    signature = artifactory.world.push("docker-local/app", tag).content

    async with opened(registry(artifactory), reader_of(artifactory)) as source:
        (repository,) = await repositories_of(source)
        (found,) = (await source.referrers(repository, image, ["v1", tag])).found

    assert (found.digest, found.kind.value) == (signature.digest, "signature")


# --- AQL -----------------------------------------------------------------------------------------


@pytest.mark.hard_case("H8", guard="wharfinger.sources.jfrog:_PathWalk.take")
@pytest.mark.parametrize("hidden", [3, 7])
async def test_pages_of_what_we_may_not_see_do_not_end_a_list(artifactory, hidden):
    push_many(artifactory, hidden, path="docker-local/a-secret-{}")
    artifactory.behaviour.hidden = {"docker-local/a-secret"}
    push_many(artifactory, 4)

    found = await listed(artifactory, listing="aql", page_size=3)

    assert set(found) == {f"docker-local/app-{number:03}" for number in range(4)}


@pytest.mark.hard_case("H8", guard="wharfinger.sources.jfrog:_PathWalk.take")
@pytest.mark.parametrize("most", [2, 3, 5])
async def test_answers_that_were_trimmed_are_read_on(artifactory, most):
    artifactory.behaviour.hard_limit = most
    push_many(artifactory, 11)

    found = await inventory(artifactory, listing="aql", page_size=4)

    assert found == artifactory.world.images()


async def test_a_database_to_which_case_is_nothing_is_read_completely(artifactory):
    artifactory.behaviour.caseless = True
    for tag in ("V1", "v1", "V2", "v2", "v3", "W", "x"):
        artifactory.world.push("docker-local/app", tag)

    found = await inventory(artifactory, listing="aql", page_size=4)

    assert found == artifactory.world.images()


@pytest.mark.hard_case("H2", guard="wharfinger.sources.jfrog:_query")
async def test_pages_by_path_lose_nothing_while_images_come_and_go(artifactory):
    for number in reversed(range(12)):
        artifactory.world.push(f"docker-local/app-{number:03}", "v1")

    def meddle():
        artifactory.world.push("docker-local/app-000", "newer")
        artifactory.world.delete_repository("docker-local/app-001")

    artifactory.faults.before(AQL, meddle, skip=1, times=1)
    found = await listed(artifactory, listing="aql", page_size=5)

    stood = {f"docker-local/app-{number:03}" for number in range(12)} - {"docker-local/app-001"}
    assert stood <= set(found)


async def test_a_page_that_does_not_join_the_one_before_is_no_list(artifactory):
    push_many(artifactory, 12)
    artifactory.faults.rows(AQL, lambda rows: rows[1:])

    with pytest.raises(ListMovedError):
        await read(artifactory, listing="aql", page_size=5)


async def test_a_page_that_comes_again_is_a_loop(artifactory):
    push_many(artifactory, 12)
    artifactory.faults.repeat(AQL)

    with pytest.raises(ListLoopError):
        await read(artifactory, listing="aql", page_size=5)


async def test_rows_of_another_repository_are_not_believed(artifactory):
    push_many(artifactory, 2)
    artifactory.faults.rows(AQL, lambda rows: [{**row, "repo": "theirs"} for row in rows])

    with pytest.raises(UnexpectedAnswerError, match="theirs"):
        await read(artifactory)


async def test_the_digest_of_an_item_without_its_hash_is_asked_for(artifactory):
    old = artifactory.world.push("docker-local/app", "v1")
    artifactory.world.push("docker-local/app", "v2")
    artifactory.behaviour.no_sha256 = {old.content.digest}

    assert await inventory(artifactory) == artifactory.world.images()
    assert (await listed(artifactory))["docker-local/app"].fingerprint is None
    assert [r.path for r in artifactory.requests("", method="HEAD")] == [
        "/artifactory/api/docker/docker-local/v2/app/manifests/v1"
    ]


async def test_one_request_reads_the_tags_of_an_image(artifactory):
    for number in range(50):
        artifactory.world.push("docker-local/app", f"v{number}")

    async with opened(registry(artifactory), reader_of(artifactory)) as source:
        (repository,) = await repositories_of(source)
        before = len(artifactory.log)
        assert len(await tags_of(source, repository)) == 50

    assert len(artifactory.log) - before == 1


# --- unchanged -----------------------------------------------------------------------------------


async def test_a_fingerprint_stands_while_nothing_changes_and_falls_with_any_change(artifactory):
    world = artifactory.world
    for tag in ("v1", "v2", "v3"):
        world.push("docker-local/app", tag)
    world.push("docker-local/beside", "v1")

    seen = [(await listed(artifactory))["docker-local/app"].fingerprint for _ in range(2)]
    for change in (
        lambda: world.push("docker-local/app", "v4", quiet=True),
        lambda: world.move("docker-local/app", "v2", quiet=True),
        lambda: world.delete_tag("docker-local/app", "v1", quiet=True),
        lambda: world.push(
            "docker-local/app", "v3", content=world.tag("docker-local/app", "v3").content
        ),
    ):
        change()
        seen.append((await listed(artifactory))["docker-local/app"].fingerprint)

    assert None not in seen
    assert seen[0] == seen[1]
    assert len(set(seen)) == 5


async def test_a_fingerprint_does_not_depend_on_pages(artifactory):
    for number in range(9):
        artifactory.world.push("docker-local/app", f"v{number}")

    found = [await listed(artifactory, page_size=size) for size in (3, 4, 100)]

    assert len({one["docker-local/app"].fingerprint for one in found}) == 1
    assert {one["docker-local/app"].images for one in found} == {9}


# --- where AQL is refused ------------------------------------------------------------------------


@pytest.mark.hard_case("H14", guard="wharfinger.sources.jfrog:Jfrog._without_aql")
@pytest.mark.parametrize("status", [400, 403, 404, 405])
async def test_where_aql_is_refused_dockers_api_serves(artifactory, status):
    push_many(artifactory, 3)
    artifactory.behaviour.aql_status = status

    assert await inventory(artifactory) == artifactory.world.images()
    # Who was refused once does not ask again for every image.
    assert len(artifactory.requests(AQL)) == 1


async def test_aql_that_was_asked_for_by_name_is_not_replaced(artifactory):
    push_many(artifactory, 3)
    artifactory.behaviour.aql_status = 403

    with pytest.raises(ForbiddenError):
        await read(artifactory, listing="aql")


@pytest.mark.hard_case("H5", guard="wharfinger.sources._reading:_own_path")
@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("link_lost", [False, True])
async def test_links_without_the_repository_are_followed_where_they_were_meant(
    artifactory, positions, link_lost
):
    own = artifactory.behaviour
    own.default_page, own.positions, own.link_lost = 2, positions, link_lost
    push_many(artifactory, 5)
    for number in range(5):
        artifactory.world.push("docker-local/app-000", f"v{number}")

    assert await inventory(artifactory, listing="docker") == artifactory.world.images()


# --- who asks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "/", "/artifactory", "/artifactory/"])
async def test_the_address_may_end_at_the_host(artifactory, below):
    push_many(artifactory, 1)

    assert await inventory(artifactory, below=below) == artifactory.world.images()


async def test_a_token_and_an_api_key_are_as_good_as_a_password(artifactory):
    push_many(artifactory, 1)
    own = artifactory.behaviour
    token = RegistryCredential(kind="token", secret=own.access_token)
    key = RegistryCredential(kind="basic", identity=own.username, secret=own.api_key)

    for credential in (token, key):
        assert await inventory(artifactory, credential=credential) == artifactory.world.images()
    sent = {line.headers["authorization"] for line in artifactory.log}
    pair = base64.b64encode(f"{own.username}:{own.api_key}".encode()).decode()
    assert sent == {f"Bearer {own.access_token}", f"Basic {pair}"}


async def test_a_wrong_password_is_not_tried_by_other_ways(artifactory):
    wrong = RegistryCredential(kind="basic", identity="reader", secret="wrong")

    with pytest.raises(UnauthorisedError):
        await read(artifactory, credential=wrong)

    assert len(artifactory.log) == 1


async def test_nobody_is_enough_where_everybody_is_let_in(artifactory):
    artifactory.behaviour.anonymous = True
    artifactory.behaviour.aql_status = 401
    push_many(artifactory, 2)

    nobody = RegistryCredential(kind="none")
    assert await inventory(artifactory, credential=nobody) == artifactory.world.images()
