"""Each repository tells how much its list can be believed, and what reading it cost."""

from __future__ import annotations

import pytest

from wharfinger.domain.errors import NotFoundError
from wharfinger.domain.model import VerdictState


async def of(yard, path, **wanted):
    found = await yard.house.registries.repositories(yard.caller, "swrprivate", **wanted)
    return next(r for r in found if f"{r.namespace}/{r.name}" == path)


async def test_a_repository_that_was_read_says_when_and_at_what_cost(yard, upstream):
    await yard.add_swr(upstream, page_size=2)
    await yard.sync()

    repository = await of(yard, upstream.world.owned()[0].path)

    # Five tags by two, each page but the first repeating a row.
    asked = upstream.requests(rf"{repository.name}/tags\?")
    assert (repository.verdict, repository.reason) == (VerdictState.COMPLETE, None)
    assert (repository.images, repository.requests) == (5, len(asked))
    assert repository.seconds >= 0
    assert repository.read_at is not None


async def test_retries_are_part_of_the_cost(yard, upstream):
    path = upstream.world.owned()[3].path
    await yard.add_swr(upstream)
    upstream.faults.answer(rf"{path.partition('/')[2]}/tags\?", 503, times=1)

    await yard.sync()

    assert (await of(yard, path)).requests == 2


async def test_one_that_failed_says_why_and_the_others_do_not(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    path = upstream.world.owned()[0].path
    upstream.world.push(path, "fresh")
    upstream.faults.answer(rf"{path.partition('/')[2]}/tags\?", 403)
    await yard.sync()

    (failed,) = await yard.house.registries.repositories(
        yard.caller, "swrprivate", verdict=VerdictState.PARTIAL
    )
    others = await yard.house.registries.repositories(
        yard.caller, "swrprivate", verdict=VerdictState.COMPLETE
    )

    assert (f"{failed.namespace}/{failed.name}", failed.reason.code) == (path, "forbidden")
    assert failed.images == 5
    assert len(others) == 11


async def test_an_old_list_is_stale_repository_by_repository(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    yard.owner.execute(
        "UPDATE repository SET listed_at = listed_at - interval '3 days';"
        "UPDATE registry SET confirmed_at = confirmed_at - interval '3 days'"
    )

    stale = await yard.house.registries.repositories(
        yard.caller, "swrprivate", verdict=VerdictState.STALE
    )
    await yard.sync()
    after = await yard.house.registries.repositories(
        yard.caller, "swrprivate", verdict=VerdictState.STALE
    )

    assert (len(stale), len(after)) == (12, 0)


async def test_they_come_in_pages(yard, upstream):
    registry = await yard.add_swr(upstream)
    await yard.sync()

    first = await yard.house.registries.repositories(yard.caller, registry, limit=7)
    rest = await yard.house.registries.repositories(
        yard.caller, registry, after=first[-1].id, limit=7
    )

    paths = {f"{r.namespace}/{r.name}" for r in [*first, *rest]}
    assert (len(first), len(rest)) == (7, 5)
    assert paths == {r.path for r in upstream.world.owned()}


async def test_nobody_has_the_repositories_of_a_registry_that_is_not_there(yard):
    with pytest.raises(NotFoundError):
        await yard.house.registries.repositories(yard.caller, "nowhere")
