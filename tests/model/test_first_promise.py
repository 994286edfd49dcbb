"""Nothing is lost to a bad day: random days, against a plain model of what may be concluded."""

from __future__ import annotations

import asyncio
import time

import pytest
from amount import RUNS_OF_A_SHARD, SEED, SHARDS, SHRINKS
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from interruptions import WatchedDatabase
from machine import Wharf
from tally import Tally

KINDS = {
    "SwrPrivate v2": ("SwrPrivate", {"api": "v2", "page_size": 3}),
    "SwrPrivate v3": ("SwrPrivate", {"api": "v3", "page_size": 2}),
    "Other": ("Other", {"page_size": 2}),
}

# Examples of one search: many enough to be varied, few enough to stop soon after the amount.
EXAMPLES = 10
STEPS = 30
# Searches beyond the amount, for what is rare.
MORE_SEARCHES = 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(SHARDS))
def test_nothing_is_lost_whatever_happens(number, shard, record_property):
    name = list(KINDS)[number % len(KINDS)]
    kind, options = KINDS[name]
    tally = Tally()
    began = time.monotonic()

    with asyncio.Runner() as loop:
        database = WatchedDatabase(shard.address, max_connections=8)
        loop.run(database.open())
        machine = type(
            "Wharf",
            (Wharf,),
            {
                "shard": shard,
                "loop": loop,
                "database": database,
                "tally": tally,
                "kind": kind,
                "options": options,
            },
        )
        try:
            search, more = SEED + 1000 * number, MORE_SEARCHES
            while tally.runs < RUNS_OF_A_SHARD or (more and tally.zeros()):
                # Chance may leave a kill point out: from then on it is aimed at.
                if tally.runs >= RUNS_OF_A_SHARD:
                    machine.aims = tally.never_hit()
                    more -= 1
                examine(seed(search)(machine))
                search += 1
        finally:
            loop.run(database.close())
            record_property("figures", tally.figures())
            tell(name, number, tally, time.monotonic() - began)

    assert tally.runs >= RUNS_OF_A_SHARD
    assert not tally.zeros(), "what was never met says nothing"


def examine(machine) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=True,
            report_multiple_bugs=False,
            # Every example is slow and large on purpose.
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, *([Phase.shrink] if SHRINKS else [])],
            verbosity=Verbosity.normal,
        ),
    )


def tell(name: str, number: int, tally: Tally, seconds: float) -> None:
    runs_per_second = tally.runs / seconds
    print(f"\nshard {number} of {SHARDS}, {name}: seed {SEED}, {runs_per_second:.1f} runs/s")
    for words, count in tally.figures().items():
        print(f"{count:8} {words}")
