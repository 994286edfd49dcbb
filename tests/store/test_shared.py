"""Equal questions are asked once, and nobody is told what was true before it asked."""

from __future__ import annotations

import asyncio

import pytest

from wharfinger.domain.errors import StoreUnavailableError
from wharfinger.store.shared import Shared


class Source:
    """Answers with the value it has when it is asked, once it is let."""

    def __init__(self) -> None:
        self.value = 0
        self.times_asked = 0
        self.let = asyncio.Event()

    async def ask(self) -> int:
        self.times_asked += 1
        found = self.value
        await self.let.wait()
        if found < 0:
            raise StoreUnavailableError("the database does not answer")
        return found


@pytest.fixture
def source():
    return Source()


async def asked(shared: Shared, source: Source, how_often: int) -> list[asyncio.Task[int]]:
    """That many questions, which are under way."""
    tasks = [asyncio.create_task(shared.ask("it", source.ask)) for _ in range(how_often)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_who_asks_while_an_answer_is_under_way_gets_a_newer_one(source):
    shared = Shared()
    first = await asked(shared, source, 1)
    source.value = 1  # committed after the first question, and before the others
    others = await asked(shared, source, 30)
    source.let.set()

    assert await asyncio.gather(*first) == [0]
    assert await asyncio.gather(*others) == [1] * 30
    assert source.times_asked == 2


async def test_different_questions_do_not_wait_for_each_other(source):
    shared, other = Shared(), Source()
    other.let.set()
    waiting = await asked(shared, source, 1)

    assert await asyncio.wait_for(shared.ask("other", other.ask), 5) == 0

    source.let.set()
    assert await asyncio.gather(*waiting) == [0]


async def test_who_goes_away_does_not_take_the_answer_from_the_others(source):
    shared = Shared()
    gone, stays = await asked(shared, source, 2)
    gone.cancel()
    source.let.set()

    assert await stays == 0
    assert gone.cancelled() or gone.cancelling()


async def test_a_failure_is_told_to_all_who_asked_and_to_nobody_after_them(source):
    shared = Shared()
    source.value = -1
    failing = await asked(shared, source, 3)
    source.let.set()
    results = await asyncio.gather(*failing, return_exceptions=True)
    source.value = 7

    assert [type(result) for result in results] == [StoreUnavailableError] * 3
    assert await shared.ask("it", source.ask) == 7
    assert source.times_asked == 2
