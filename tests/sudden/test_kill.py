"""Any process may die at any instant; the run goes on from where it was, and ends once."""

from __future__ import annotations

import os
import signal

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

HALF_WAY = "SELECT count(*) = 1 FROM run WHERE state = 'running' AND units_done >= 1"
GOES_ON = """
SELECT count(*) = 1 FROM run
WHERE attempt > 1 OR state = 'finished' OR EXISTS (SELECT FROM unit WHERE attempt > 1)
"""
ENDED = "SELECT count(*) = 1 FROM run WHERE state = 'finished'"
# A dead worker's run goes on within 20 s; what is left of it takes a few more.
GOES_ON_S = 20
ENDED_S = 60


@pytest.mark.hard_case("H24", guard="wharfinger.sync.queue:Worker._reap")
async def test_a_killed_worker_costs_a_moment(service, database, upstream):
    service.synchronise()
    database.await_(HALF_WAY, within_s=30)

    os.kill(service.worker(), signal.SIGKILL)

    database.await_(GOES_ON, within_s=GOES_ON_S)
    database.await_(ENDED, within_s=ENDED_S)
    expect_an_undisturbed_result(database, upstream)


@pytest.mark.hard_case("H24", guard="wharfinger.sync.queue:Worker._reap")
async def test_a_killed_service_goes_on_when_it_is_started_again(service, database, upstream):
    service.synchronise()
    database.await_(HALF_WAY, within_s=30)

    service.kill()
    service.start()

    database.await_(GOES_ON, within_s=GOES_ON_S)
    database.await_(ENDED, within_s=ENDED_S)
    expect_an_undisturbed_result(database, upstream)


async def test_a_killed_database_loses_nothing_and_the_run_goes_on(service, database, upstream):
    service.synchronise()
    database.await_(HALF_WAY, within_s=30)

    service.kill_database()

    database.await_(GOES_ON, within_s=GOES_ON_S)
    database.await_(ENDED, within_s=ENDED_S)
    expect_an_undisturbed_result(database, upstream)


async def test_an_accepted_sync_survives_a_kill_before_any_worker_saw_it(
    service, database, upstream
):
    stopped = service.worker()
    os.kill(stopped, signal.SIGSTOP)
    service.synchronise()

    service.kill()
    service.start()

    database.await_(ENDED, within_s=ENDED_S)
    # Stopped as it is, it cannot see that its parent is gone.
    os.kill(stopped, signal.SIGKILL)
    expect_an_undisturbed_result(database, upstream)


def expect_an_undisturbed_result(database, upstream) -> None:
    assert database.stored() == upstream.world.images()
    assert database.rows("SELECT outcome, repositories_total FROM run") == [("complete", 300)]
    assert database.rows("SELECT count(*), max(seq) FROM event WHERE kind = 'added'") == [
        (1800, 1800)
    ]
    assert database.rows("SELECT count(*) FROM unit") == [(0,)]
