"""A real service in processes of its own, to be killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Database, Service

from wharfinger.store.embedded import hold
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream


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
