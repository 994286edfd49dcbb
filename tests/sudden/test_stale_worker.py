"""A worker that was given up for dead and is not: it takes its successor's job away, and no more.

The job engine knows a job by its number alone. So the stale worker, whose writes are fenced, ends
its job as done, and with it the row that its successor works under.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from kill_points import ARRIVES_S, LONG_FURTHER_PAGES
from outcomes import ENDS_S, FINISHED, account, expect_one_end

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

GOES_ON_S = 20.0
NO_JOB = "SELECT count(*) = 0 FROM procrastinate_jobs"


@pytest.fixture
def successor(stage) -> Iterator:
    """A second worker, in the middle of the unit whose job the first one has just taken away."""
    first = stage.upstream.faults.hold(LONG_FURTHER_PAGES, skip=1, times=1)
    second = stage.upstream.faults.hold(LONG_FURTHER_PAGES, skip=2, times=1)
    stage.service.synchronise()
    stage.await_held(first)
    stage.await_units(3)
    stale = stage.service.worker()
    os.kill(stale, signal.SIGSTOP)
    process = stage.service.another_worker()
    try:
        stage.await_held(second)
        os.kill(stale, signal.SIGCONT)
        first.release()
        stage.database.await_(NO_JOB, within_s=ARRIVES_S)
        assert "job.fenced" in stage.service.log()
        yield process, second
    finally:
        process.kill()
        process.wait(20)


def test_its_successor_ends_the_run_all_the_same(stage, successor, undisturbed):
    process, held = successor

    held.release()

    stage.database.await_(FINISHED, within_s=ENDS_S)
    assert account(stage.database) == undisturbed
    expect_one_end(stage.database)
    assert process.poll() is None
    stage.service.synchronise()
    stage.database.await_(FINISHED, within_s=ENDS_S)


def test_its_successor_may_be_killed_and_the_run_goes_on(stage, successor, undisturbed):
    process, _ = successor
    asked = len(stage.upstream.log)

    process.kill()
    killed_at = time.monotonic()
    while len(stage.upstream.log) == asked:
        assert time.monotonic() - killed_at < GOES_ON_S, stage.service.log()
        time.sleep(0.02)

    stage.database.await_(FINISHED, within_s=ENDS_S)
    # What the killed one had asked for in vain, and the three pages behind it.
    new = stage.upstream.log[asked:]
    assert [line.path.rpartition("/repos/")[2] for line in new] == ["long/tags"] * 4
    assert account(stage.database) == undisturbed
    expect_one_end(stage.database)
