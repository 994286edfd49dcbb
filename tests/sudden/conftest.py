"""A real service in processes of its own, to be killed."""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kill_points import PAGE, Stage, change, world_before
from outcomes import ENDS_S, FINISHED, account
from serving import Database, Service

from clusters import FAST, await_end
from wharfinger.store.embedded import hold
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream

# What is committed must survive the database's sudden end, if not the machine's.
SETTINGS = {**FAST, "synchronous_commit": "on"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """An SWR of 300 repositories whose tag lists take their time."""
    world = made_up_world(300, 6)
    with Upstream(world).running_in_thread() as running:
        running.faults.delay(r"/tags\?", 0.2)
        yield running


@pytest.fixture
def service(tmp_path: Path, upstream: Upstream) -> Iterator[Service]:
    running = Service(tmp_path / "data", tmp_path / "serve.log")
    running.start()
    running.settle_in(upstream)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def database(service: Service) -> Iterator[Database]:
    with hold(service.data_dir) as lease:
        yield Database(lease.superuser_dsn("wharfinger"))


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
