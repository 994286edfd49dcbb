"""Repositories named by what several names have in common, with a catalog and without one."""

import pytest
from stages import OciRegistry

from wharfinger.domain.errors import ForbiddenError, InvalidParameterError, UnsupportedError
from wharfinger.domain.model import RegistryCredential, RegistryRef
from wharfinger.sources import check_registry, wanted_repositories
from wharfinger.sources._paths import MOST_NAMES, spelled_out
from wharfinger.testing.source_suite import opened, path_of, repositories_of

NOBODY = RegistryCredential(kind="none")


async def listed(registry, *names):
    ref = RegistryRef(
        id="r1",
        project_id="p1",
        name="named",
        kind="Other",
        address=registry.url,
        options={"repositories": names},
        allow_private_networks=True,
    )
    async with opened(ref, NOBODY) as source:
        found = [path_of(one) for one in await repositories_of(source)]
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("team/app", ["team/app"]),
        ("team/{web,api}", ["team/web", "team/api"]),
        ("app-{1..3}", ["app-1", "app-2", "app-3"]),
        ("app-{08..10}", ["app-08", "app-09", "app-10"]),
        ("{a,b}/{x,y}", ["a/x", "a/y", "b/x", "b/y"]),
        ("app{,-debug}", ["app", "app-debug"]),
        ("{a,a}", ["a"]),
    ],
)
def test_braces_stand_for_each_of_their_words(written, meant):
    assert list(spelled_out([written])) == meant


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("app-{9..1}", "must go from the smaller number up"),
        ("{1..500}/{1..500}", f"must stand for at most {MOST_NAMES} names"),
        ("{1..99999}", f"must stand for at most {MOST_NAMES} names"),
        ("team/{web", "is no repository name"),
        ("team/{}", "is no repository name"),
        ("team-*/", "is no repository name"),
        ("Team-*/app", "is no repository name"),
    ],
)
def test_what_can_stand_for_no_names_is_refused_before_it_is_kept(name, rule):
    with pytest.raises(InvalidParameterError, match=rule) as refused:
        check_registry("Other", "https://registry.example", {"repositories": [name]}, NOBODY)

    assert refused.value.parameter == "options.repositories"


async def test_names_that_are_spelled_out_need_no_catalog():
    async with OciRegistry(catalog_status=404) as registry:
        assert await listed(registry, "team/{web,api}") == {"team/web", "team/api"}
        assert registry.requests("_catalog") == []


async def test_a_pattern_is_looked_up_in_the_catalog_and_a_name_beside_it_is_not():
    async with OciRegistry() as registry:
        for path in ("team-a/app", "team-b/app", "team-b/web", "other/app"):
            registry.world.push(path, "v1")

        found = await listed(registry, "team-*/app", "other/app", "hidden/app")

    wanted = wanted_repositories(
        "Other", {"repositories": ["team-*/app", "other/app", "hidden/app"]}, include=(), exclude=()
    )
    assert {path for path in found if wanted.covers(*path.split("/"))} == {
        "team-a/app",
        "team-b/app",
        "other/app",
        "hidden/app",
    }


@pytest.mark.parametrize(("status", "error"), [(404, UnsupportedError), (403, ForbiddenError)])
async def test_without_a_catalog_a_pattern_is_an_error_that_names_the_way_out(status, error):
    async with OciRegistry(catalog_status=status) as registry:
        with pytest.raises(error, match=r"team-\*/app can only be looked up.*\{a,b\}"):
            await listed(registry, "team-*/app", "team/app")
