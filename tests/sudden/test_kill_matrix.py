"""``kill -9`` at every kill point, of every process: the run goes on, ends once, and loses nothing.

Each cell begins with a list that was read before. The registry changes, a run reads it, and is
stopped at its kill point. Whoever is killed there is killed by ``SIGKILL``.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable

import pytest
from kill_points import POINTS, Arrived, Stage
from outcomes import ENDS_S, FINISHED, account, expect_one_end
from serving import is_alive

from wharfinger.testing.server import Logged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

# The promise, from the kill to the first sign of life.
GOES_ON_S = 20.0


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("victim", ["worker", "service", "database"])
def test_a_run_killed_anywhere_goes_on_and_ends_once(stage, undisturbed, victim, point, capsys):
    arrived = POINTS[point](stage)
    asked = len(stage.upstream.log)

    killed_at = time.monotonic()
    kill(stage, victim, arrived)
    goes_on_s = await_sign_of_life(stage, arrived, asked, killed_at)
    stage.database.await_(FINISHED, within_s=ENDS_S)
    ends_s = time.monotonic() - killed_at

    with capsys.disabled():
        print(f"\n{point:36} {victim:9} goes on {goes_on_s:5.1f} s  ends {ends_s:5.1f} s", end=" ")
    assert goes_on_s < GOES_ON_S
    new = stage.upstream.log[asked:]
    assert counted(new, arrived.needless) == dict.fromkeys(arrived.needless, 0)
    # An answer that came while the database was gone may have to be asked for once more.
    spare = arrived.waiting if victim == "database" else 0
    for path, count in counted(new, arrived.expected).items():
        assert 0 <= count - arrived.expected[path] <= spare, path
    assert account(stage.database) == undisturbed
    assert stage.database.stored() == stage.upstream.world.images()
    expect_one_end(stage.database)


def kill(stage: Stage, victim: str, arrived: Arrived) -> None:
    worker = stage.service.worker()
    if victim == "worker":
        os.kill(worker, signal.SIGKILL)
    elif victim == "service":
        stage.service.kill()
        stage.service.start()
        # An orphan may end what it waits for, while it is there; so it gets nothing before.
        await_gone(worker)
    else:
        # The worker lives, and so does its connection to the registry.
        stage.service.kill_database()
        arrived.answer()
    arrived.unlock()


def await_gone(pid: int) -> None:
    deadline = time.monotonic() + GOES_ON_S
    while is_alive(pid):
        assert time.monotonic() < deadline, "the killed service's worker stays"
        time.sleep(0.02)


def await_sign_of_life(stage: Stage, arrived: Arrived, asked: int, since: float) -> float:
    """Seconds from the kill to the first new answer, or to the end where none is needed."""
    if arrived.expected:
        while len(stage.upstream.log) == asked:
            assert time.monotonic() < since + ENDS_S, stage.service.log()
            time.sleep(0.02)
    else:
        stage.database.await_(FINISHED, within_s=ENDS_S)
    return time.monotonic() - since


def counted(log: Iterable[Logged], paths: Iterable[str]) -> dict[str, int]:
    targets = [line.target for line in log]
    return {path: sum(bool(re.search(path, target)) for target in targets) for path in paths}
