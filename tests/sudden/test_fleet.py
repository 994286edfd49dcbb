"""Workers and services of several machines: one database, no shared disk, and any may leave."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from serving import Database

from leaks import LEAKS
from wharfinger.domain.model import Caller, RegistryCredential
from wharfinger.settings import read_settings
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream
from wharfinger.wiring import House, database_of, open_house

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PROJECT = "acme"
CALLER = Caller(project_id=PROJECT, project_name="acme", principal="test", is_operator=True)
STARTS_S, ENDS_S, STOPS_S = 30.0, 60.0, 30.0
CALM, DISTURBED = "calm", "disturbed"
REPOSITORIES, TAGS = 400, 3
RUN = "SELECT count(*) = 1 FROM run JOIN registry g ON g.id = registry_id WHERE g.name = %s"
FINISHED = f"{RUN} AND run.state = 'finished'"
HALF_WAY = f"{RUN} AND run.state = 'running' AND run.units_done >= 3"
READ_BY_SEVERAL = """
SELECT count(DISTINCT worker_id) >= 2 FROM procrastinate_jobs
WHERE status = 'doing' AND task_name = 'wharfinger.read'
"""
IMAGES = """
SELECT r.namespace || '/' || r.name, r.verdict, r.live_images, r.fingerprint, i.tag, i.digest,
    i.retired_at IS NULL, i.held_at IS NULL
FROM repository r JOIN registry g ON g.id = r.registry_id LEFT JOIN image i
    ON i.repository_id = r.id WHERE g.name = %s ORDER BY 1, 5
"""
EVENTS = """
SELECT e.kind, r.namespace || '/' || r.name, e.tag, e.digest_before, e.digest_after, v.digest
FROM event e JOIN repository r ON r.id = e.repository_id JOIN registry g ON g.id = e.registry_id
LEFT JOIN image_version v ON v.from_seq = e.seq AND v.image_id = e.image_id
WHERE g.name = %s ORDER BY 2, 3, 1
"""
END = """
SELECT g.verdict, g.live_images, run.outcome, listing, repositories_total, repositories_done,
    repositories_failed, images, added, moved, retired, held, reasons
FROM run JOIN registry g ON g.id = run.registry_id WHERE g.name = %s
"""


class Machine:
    """A machine of the fleet: its own copy of the key, the working role, and no place to write."""

    def __init__(self, folder: Path, app: str, key: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.key = folder / "secret.key"
        shutil.copy(key, self.key)
        self._app = app
        self._started: list[subprocess.Popen[bytes]] = []

    def environment(self, **settings: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHARFINGER_", "PG"))}
        return {
            **kept,
            "WHARFINGER_DATABASE_APP_URL": self._app,
            "WHARFINGER_SECRET_KEY_FILE": str(self.key),
            "WHARFINGER_DATA_DIR": str(self.folder / "nowhere"),
            "WHARFINGER_HOST_CONCURRENCY": "12",
            "WHARFINGER_SCHEDULES": "false",
            **settings,
        }

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "wharfinger", *arguments],
                env=self.environment(**settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._started.append(process)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start("worker")

    @contextlib.contextmanager
    def serving(self, **settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        process = self.start("serve", "--workers=0", "--listen=127.0.0.1:0", **settings)
        line = process.stdout.readline().decode()
        assert line.startswith("listening on "), self.log.read_text()
        yield line.split()[-1], process

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait(20)
            process.stdout.close()
        if self.log.exists():
            LEAKS.look(self.log.read_text(), "the log of a machine")


@pytest.fixture
def machines(tmp_path, cluster, database_address) -> Iterator[list[Machine]]:
    """Four machines over one database; the first has made its key and a project there."""
    key = tmp_path / "secret.key"
    settings = {
        "WHARFINGER_DATABASE_URL": database_address.owner,
        "WHARFINGER_DATABASE_APP_URL": database_address.app,
        "WHARFINGER_SECRET_KEY_FILE": str(key),
    }
    operator = ["project", "create", "acme", "--id", PROJECT]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHARFINGER_", "PG"))}
    subprocess.run([sys.executable, "-m", "wharfinger", *operator], env=kept | settings, check=True)
    ready = [Machine(tmp_path / f"machine-{n}", database_address.app, key) for n in range(4)]
    try:
        yield ready
    finally:
        for machine in ready:
            machine.end()


@pytest.fixture
def database(cluster, database_address) -> Database:
    return Database(cluster.superuser_dsn(str(conninfo_to_dict(database_address.app)["dbname"])))


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(made_up_world(REPOSITORIES, TAGS)).running_in_thread() as running:
        running.faults.delay(r"/tags\?", 0.1)
        yield running


@pytest.fixture
async def house(machines) -> AsyncIterator[House]:
    """The first machine, in this process."""
    settings = read_settings(environment=machines[0].environment())
    with database_of(settings) as address:
        async with open_house(settings, address) as opened:
            yield opened


async def attach(house: House, upstream: Upstream, *names: str) -> None:
    """Attach the same registry under several names; its pages of 25 make 16 units."""
    key = RegistryCredential(
        kind="access_key", identity=upstream.key.access_key, secret=upstream.key.secret_key
    )
    for name in names:
        new = NewRegistry(
            name=name,
            kind="SwrPrivate",
            address=upstream.url,
            options={"api": "v3", "page_size": 25},
            allow_private_networks=True,
        )
        await house.registries.add(CALLER, new, key)


def account(database: Database, name: str) -> dict[str, list[tuple]]:
    """All that is stored of a registry, but ids and times."""
    queries = {"images": IMAGES, "events": EVENTS, "end": END}
    return {what: database.rows(query, name) for what, query in queries.items()}


async def test_a_worker_killed_at_random_changes_nothing_in_the_result(
    machines, house, database, upstream
):
    workers = [machine.worker() for machine in machines[1:]]
    await attach(house, upstream, CALM, DISTURBED)
    await house.synchroniser.synchronise_names(CALLER, (CALM,))
    database.await_(READ_BY_SEVERAL, within_s=STARTS_S)
    database.await_(FINISHED, CALM, within_s=ENDS_S)

    await house.synchroniser.synchronise_names(CALLER, (DISTURBED,))
    database.await_(HALF_WAY, DISTURBED, within_s=ENDS_S)
    random.SystemRandom().choice(workers).kill()
    database.await_(FINISHED, DISTURBED, within_s=ENDS_S)

    undisturbed = account(database, CALM)
    assert account(database, DISTURBED) == undisturbed
    assert len(undisturbed["images"]) == REPOSITORIES * TAGS
    assert undisturbed["end"][0][2] == "complete"
    assert not any((machine.folder / "nowhere").exists() for machine in machines)


async def test_a_worker_that_is_told_to_stop_hands_its_units_back(
    machines, house, database, upstream
):
    """Its registry does not answer it any more; the successor gets the answers."""
    stuck = upstream.faults.hold(r"/tags\?", skip=40, times=12)
    leaving = machines[1].worker()
    await attach(house, upstream, CALM)
    await house.synchroniser.synchronise_names(CALLER, (CALM,))
    await until(lambda: stuck.struck == 12, within_s=STARTS_S)

    leaving.terminate()

    assert ended(leaving, STOPS_S) == 0
    assert database.rows(RUN + " AND run.state = 'running'", CALM) == [(True,)]
    machines[2].worker()
    stuck.release()
    database.await_(FINISHED, CALM, within_s=ENDS_S)
    assert database.stored() == upstream.world.images()
    assert account(database, CALM)["end"][0][2] == "complete"


async def test_a_service_that_is_told_to_stop_ends_the_requests_under_way(
    machines, house, database
):
    token = await house.callers.create_token(PROJECT, dt.timedelta(hours=1))
    with (
        machines[1].serving(WHARFINGER_DRAIN_S="5") as (url, process),
        database.connect() as connection,
    ):
        assert status(f"{url}/readyz") == (200, "ready")
        with connection.transaction():
            connection.execute("LOCK TABLE image")
            late = asyncio.create_task(asyncio.to_thread(images, url, token))
            await until(lambda: waiting_for_a_lock(database), within_s=STARTS_S)

            process.terminate()
            await until(lambda: status(f"{url}/readyz")[0] == 503, within_s=STARTS_S)

            assert status(f"{url}/readyz") == (503, "draining")
            assert status(f"{url}/healthz") == (200, "alive")
            assert process.poll() is None

        assert await late == 200
        assert ended(process, STOPS_S) == 0


def test_nothing_works_before_the_database_is_migrated(machines, database, database_address):
    """And it says so, without an end to the process that would have to be started again."""
    with database.connect() as connection, machines[1].serving() as (url, _):
        taken = connection.execute(
            "DELETE FROM schema_migration WHERE name = '0012_pre_labels' RETURNING name, sha256"
        ).fetchone()
        waiting = machines[2].start("worker", "--metrics-listen=127.0.0.1:0")
        await_text(machines[2].log, "worker.waits")
        (metrics,) = re.findall(r"(http://127.0.0.1:\d+)/metrics", machines[2].log.read_text())
        waits = machines[3].start("migrate", "--wait=60")

        assert status(f"{url}/readyz") == (503, "the database lacks migrations: 0012_pre_labels")
        assert (waiting.poll(), waits.poll()) == (None, None)
        with urllib.request.urlopen(f"{metrics}/healthz", timeout=10) as answer:
            assert answer.read() == b"alive\n"

        connection.execute("INSERT INTO schema_migration (name, sha256) VALUES (%s, %s)", taken)
        assert status(f"{url}/readyz") == (200, "ready")
        assert ended(waits, STARTS_S) == 0
        await_text(machines[2].log, "worker.started")

        connection.execute(
            "INSERT INTO schema_migration (name, sha256) VALUES ('9999_post_future', '')"
        )
        assert status(f"{url}/readyz")[0] == 503


def test_a_process_without_the_key_of_the_others_makes_none(machines):
    machines[1].key.unlink()

    process = machines[1].worker()

    assert ended(process, STARTS_S) == 1
    assert "its secret key file is not here" in machines[1].log.read_text()
    assert not machines[1].key.exists()


def test_the_working_role_migrates_nothing(machines):
    process = machines[1].start("migrate", "--phase=pre")

    assert ended(process, STARTS_S) == 1
    assert "migrating needs WHARFINGER_DATABASE_URL" in machines[1].log.read_text()


# --- what is seen from outside -------------------------------------------------------------------


def ended(process: subprocess.Popen[bytes], within_s: float) -> int | None:
    """The code that a process ends with, if it does."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(within_s)
    return None


def status(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)["status"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["status"]
    except urllib.error.URLError:
        return 0, "nobody listens"


def images(url: str, token: str) -> int:
    request = urllib.request.Request(
        f"{url}/api/v1/projects/{PROJECT}/images", headers={"X-Auth-Token": token}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status


def waiting_for_a_lock(database: Database) -> bool:
    query = (
        "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return database.rows(query)[0][0]


async def until(condition: Callable[[], bool], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"not within {within_s} s"
        await asyncio.sleep(0.05)


def await_text(file: Path, text: str) -> None:
    deadline = time.monotonic() + STARTS_S
    while text not in file.read_text():
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.05)
