"""``kill -9`` at every kill point, of every process: the run goes on, ends once, and loses nothing.

Each cell begins with a list that was read before. The registry changes, a run reads it, and is
stopped at its kill point. Whoever is killed there is killed by ``SIGKILL``.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kill_points import PAGE, POINTS, Arrived, Stage, change, world_before
from serving import Database, Service, is_alive

from clusters import FAST, await_end
from wharfinger.store.embedded import hold
from wharfinger.testing.server import Logged
from wharfinger.testing.upstream import Upstream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

# The promise, from the kill to the first sign of life.
GOES_ON_S = 20.0
ENDS_S = 60.0

# What is committed must survive the database's sudden end, if not the machine's.
SETTINGS = {**FAST, "synchronous_commit": "on"}

FINISHED = "SELECT state = 'finished' FROM run ORDER BY queued_at DESC LIMIT 1"
# Whose list is left behind is told by rows that do not depend on the order of its batches.
IMAGES = """
SELECT r.namespace || '/' || r.name, i.tag, i.digest, i.retired_at IS NOT NULL, i.held_at IS NULL,
    r.live_images, r.retired_at IS NOT NULL, r.fingerprint, r.verdict
FROM image i JOIN repository r ON r.id = i.repository_id ORDER BY 1, 2
"""
EVENTS = """
SELECT e.kind, r.namespace || '/' || r.name, e.tag, e.digest_before, e.digest_after
FROM event e JOIN repository r ON r.id = e.repository_id ORDER BY 2, 3, e.seq
"""
VERSIONS = """
SELECT r.namespace || '/' || r.name, i.tag, v.digest, b.kind, e.kind
FROM image_version v JOIN image i ON i.id = v.image_id JOIN repository r ON r.id = i.repository_id
LEFT JOIN event b ON b.seq = v.from_seq AND b.image_id = i.id
LEFT JOIN event e ON e.seq = v.to_seq AND e.image_id = i.id
ORDER BY 1, 2, v.from_seq
"""
RUN = """
SELECT outcome, listing, repositories_total, repositories_done, repositories_failed, images, added,
    moved, retired, restored, held, reasons FROM run ORDER BY queued_at DESC LIMIT 1
"""
REGISTRY = "SELECT verdict, verdict_reasons, live_images, held_images FROM registry"
LEFT_OVER = """
SELECT (SELECT count(*) FROM unit), (SELECT count(*) FROM listing),
    (SELECT count(*) FROM listing_row), (SELECT count(*) FROM run_page)
"""


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


def expect_one_end(database: Database) -> None:
    assert database.rows("SELECT state, count(*) FROM run GROUP BY 1") == [("finished", 2)]
    assert database.rows(LEFT_OVER) == [(0, 0, 0, 0)]
    (numbers,) = database.rows("SELECT count(*), min(seq), max(seq) FROM event")
    assert numbers == (numbers[0], 1, numbers[0])
    assert database.rows("SELECT seq FROM tenant_feed") == [(numbers[0],)]


def account(database: Database) -> dict[str, list]:
    """All that is stored of the list, its history and the run, fit to be compared."""
    queries = {"images": IMAGES, "events": EVENTS, "versions": VERSIONS}
    queries |= {"run": RUN, "registry": REGISTRY}
    return {what: [list(row) for row in database.rows(query)] for what, query in queries.items()}


# --- the stage -----------------------------------------------------------------------------------


@pytest.fixture
def stage(seeded: Path, short_folder: Path) -> Iterator[Stage]:
    with set_up(seeded, short_folder / "data") as ready:
        yield ready


@contextmanager
def set_up(seeded: Path, data_dir: Path) -> Iterator[Stage]:
    """A service over a copy of the seeded data directory, and the registry as it is now."""
    subprocess.run(["cp", "-a", f"{seeded}/.", data_dir], check=True)
    # Requests that are held must leave room for those that are not.
    service = Service(data_dir, data_dir.with_name("serve.log"), concurrency=16)
    service.token = (seeded / "token").read_text()
    world = world_before()
    change(world)
    with (
        Upstream(world).running_in_thread() as upstream,
        hold(data_dir, settings=SETTINGS) as lease,
    ):
        database = Database(lease.superuser_dsn("wharfinger"))
        with database.connect() as connection:
            # Only the port is another one: to the registry it is the same address.
            connection.execute("UPDATE registry SET address = %s", (upstream.url,))
        service.start()
        try:
            yield Stage(service, database, upstream)
        finally:
            service.stop()


@pytest.fixture(scope="session")
def seeded(initialised_folder: Path) -> Path:
    """A data directory with a project, a token, and a registry that was read once."""
    folder = initialised_folder.with_name("seeded")
    with (folder.with_suffix(".lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "token").exists():
            seed(initialised_folder, folder)
    return folder


def seed(model: Path, folder: Path) -> None:
    subprocess.run(["cp", "-a", f"{model}/.", folder], check=True)
    service = Service(folder, folder.with_suffix(".log"))
    with (
        Upstream(world_before()).running_in_thread() as upstream,
        hold(folder, settings=SETTINGS) as lease,
    ):
        service.start()
        service.settle_in(upstream, api="v3", page_size=PAGE)
        service.synchronise()
        Database(lease.superuser_dsn("wharfinger")).await_(FINISHED, within_s=ENDS_S)
        service.stop()
    await_end(folder)
    (folder / "token").write_text(service.token)


@pytest.fixture(scope="session")
def undisturbed(seeded: Path) -> dict[str, list]:
    """What is stored after the same run with nobody killed."""
    found = seeded.with_name("undisturbed.json")
    with (found.with_suffix(".lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            data_dir = seeded.with_name("undisturbed")
            data_dir.mkdir(mode=0o711, exist_ok=True)
            with set_up(seeded, data_dir / "data") as stage:
                stage.service.synchronise()
                stage.database.await_(FINISHED, within_s=ENDS_S)
                assert stage.database.stored() == stage.upstream.world.images()
                found.write_text(json.dumps(account(stage.database)))
            await_end(data_dir / "data")
    return json.loads(found.read_text())
