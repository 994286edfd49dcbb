"""GitLab as its documents tell of it: groups, projects, pages that move, and its registry."""

import pytest
from stages import reader_of

from wharfinger.domain.errors import (
    ForbiddenError,
    InvalidParameterError,
    ListMovedError,
    MissingError,
    UnauthorisedError,
    UnexpectedAnswerError,
)
from wharfinger.domain.model import RegistryCredential, RegistryRef
from wharfinger.sources import check_registry
from wharfinger.testing.gitlab import GitlabUpstream
from wharfinger.testing.source_suite import inventory_of, opened, path_of, repositories_of

LIST = "/registry/repositories"
NOBODY = RegistryCredential(kind="none")


@pytest.fixture
async def gitlab():
    async with GitlabUpstream() as running:
        yield running


def reading(upstream, *groups, credential=None, **options):
    registry = RegistryRef(
        id="r1",
        project_id="p1",
        name="gitlab",
        kind="Gitlab",
        address=upstream.url,
        options={"groups": groups, **options},
        allow_private_networks=True,
    )
    return opened(registry, credential or reader_of(upstream))


async def paths(upstream, *groups, **options):
    async with reading(upstream, *groups, **options) as source:
        return [path_of(one) for one in await repositories_of(source)]


async def test_a_group_is_read_with_its_subgroups_and_nothing_beside_it(gitlab):
    for path in ("team/app", "team/sub/deep/app", "team-b/app", "other/app"):
        gitlab.world.push(path, "v1")

    async with reading(gitlab, "team") as source:
        found = await inventory_of(source)

    of_the_group = {one for one in gitlab.world.images() if one[0].startswith("team/")}
    assert found == of_the_group
    assert len(found) == 2


async def test_a_group_is_named_as_gitlab_shows_it_and_its_images_are_lower_case(gitlab):
    gitlab.world.push("platform/app", "v1")

    assert await paths(gitlab, "Platform") == ["platform/app"]


async def test_a_project_is_found_where_there_is_no_group_and_listed_once(gitlab):
    gitlab.gitlab.projects.add("team/app")
    for path in ("team/app", "team/app/worker", "team/web"):
        gitlab.world.push(path, "v1")

    assert await paths(gitlab, "team/app") == ["team/app", "team/app/worker"]
    assert await paths(gitlab, "team/app", "team") == ["team/app", "team/app/worker", "team/web"]
    assert gitlab.requests(r"/projects/team%2Fapp/registry")


async def test_the_token_opens_gitlab_and_the_registry_and_the_catalog_is_not_asked(gitlab):
    gitlab.world.push("team/app", "v1")

    async with reading(gitlab, "team") as source:
        await inventory_of(source)

    (listed,) = gitlab.requests(LIST)
    assert listed.headers["private-token"] == gitlab.gitlab.token
    assert "authorization" not in listed.headers
    assert [line for line in gitlab.requests("/v2/") if "private-token" in line.headers] == []
    assert gitlab.requests("_catalog") == []


async def test_a_repository_that_vanishes_between_two_pages_takes_none_with_it(gitlab):
    for number in range(6):
        gitlab.world.push(f"team/app-{number}", "v1")
    gone = lambda: gitlab.world.delete_repository("team/app-0")  # noqa: E731 - a moment's work
    come = lambda: gitlab.world.push("team/app-9", "v1")  # noqa: E731 - likewise
    gitlab.faults.before(LIST, lambda: (gone(), come()), skip=1, times=1)

    with pytest.raises(ListMovedError, match="team changed while it was read"):
        await paths(gitlab, "team", page_size=3)

    again = await paths(gitlab, "team", page_size=3)
    assert sorted(again) == [f"team/app-{number}" for number in (1, 2, 3, 4, 5, 9)]


async def test_a_list_of_one_page_is_read_once(gitlab):
    gitlab.world.push("team/app", "v1")

    await paths(gitlab, "team")

    assert len(gitlab.requests(LIST)) == 1


async def test_what_is_not_there_is_named_and_no_empty_list(gitlab):
    with pytest.raises(MissingError, match="no group and no project nowhere/at-all"):
        await paths(gitlab, "nowhere/at-all")


async def test_a_registry_that_is_switched_off_says_what_to_look_at(gitlab):
    gitlab.world.push("team/app", "v1")
    gitlab.gitlab.switched_off.add("team")

    with pytest.raises(ForbiddenError, match=r"read_api.*Reporter"):
        await paths(gitlab, "team")


async def test_a_wrong_token_is_refused_and_never_shown(gitlab):
    wrong = RegistryCredential(kind="basic", identity="reader", secret="glpat-wrong-token-123")

    with pytest.raises(UnauthorisedError) as refused:
        await paths(gitlab, "team", credential=wrong)

    assert "glpat" not in str(refused.value)


async def test_no_token_goes_to_a_registry_that_is_not_where_the_images_are(gitlab):
    gitlab.world.push("team/app", "v1")
    gitlab.gitlab.registry = "registry.gitlab.example"

    with pytest.raises(UnexpectedAnswerError, match=r"registry=https://registry\.gitlab\.example"):
        await paths(gitlab, "team")

    assert gitlab.requests("/v2/") == []


async def test_the_registry_may_be_at_an_address_of_its_own(gitlab):
    async with GitlabUpstream(gitlab.world) as registry:
        registry.behaviour.password = gitlab.gitlab.token
        gitlab.world.push("team/app", "v1")
        gitlab.gitlab.registry = registry.host

        async with reading(gitlab, "team", registry=registry.url) as source:
            assert await inventory_of(source) == gitlab.world.images()

    assert gitlab.requests("/v2/") == []


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({}, "options.groups"),
        ({"groups": ("team/",)}, "options.groups"),
        ({"groups": ("a team",)}, "options.groups"),
        ({"groups": ("team",), "registry": "registry.example"}, "options.registry"),
    ],
)
def test_what_cannot_be_read_is_refused_before_it_is_kept(options, parameter):
    with pytest.raises(InvalidParameterError) as refused:
        check_registry("Gitlab", "https://gitlab.example", options, NOBODY)

    assert refused.value.parameter == parameter
