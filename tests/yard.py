"""A house over the test's own database, and a registry in a real upstream."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from wharfinger.domain.model import Caller, RegistryCredential, RunProgress
from wharfinger.settings import read_settings
from wharfinger.store import registries
from wharfinger.store.database import DatabaseAddress
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.model import made_up_world
from wharfinger.testing.server import LoopbackServer
from wharfinger.testing.upstream import Upstream
from wharfinger.wiring import House, open_house

PROJECT = "acme-project"
NOBODY = RegistryCredential(kind="none")


@dataclass
class Yard:
    """A project with a working house, and what a test wants to know of it."""

    house: House
    owner: psycopg.Connection
    caller: Caller = field(
        default_factory=lambda: Caller(
            project_id=PROJECT, project_name="acme", principal="test", is_operator=True
        )
    )

    async def add_swr(
        self, upstream: Upstream, kind: str = "SwrPrivate", name: str = "", **options
    ) -> str:
        return await self.add(
            NewRegistry(
                name=name or kind.lower(),
                kind=kind,
                address=upstream.url,
                options=options,
                allow_private_networks=True,
            ),
            RegistryCredential(
                kind="access_key",
                identity=upstream.key.access_key,
                secret=upstream.key.secret_key,
            ),
        )

    async def add_oci(
        self,
        registry: LoopbackServer,
        credential: RegistryCredential = NOBODY,
        *,
        name: str = "other",
        allow_private_networks: bool = True,
        **options,
    ) -> str:
        new = NewRegistry(
            name=name,
            kind="Other",
            address=registry.url,
            options=options,
            allow_private_networks=allow_private_networks,
        )
        return await self.add(new, credential)

    async def add(self, new: NewRegistry, credential: RegistryCredential) -> str:
        async with self.house.database.tenant(PROJECT) as tx:
            return await registries.add_registry(
                tx, PROJECT, new, credential, seals=self.house.keys
            )

    async def sync(
        self, *, full: bool = False, names: tuple[str, ...] = (), within_s: float = 60
    ) -> RunProgress:
        """Synchronise and wait; the one run of the task."""
        task_id = await self.house.synchroniser.synchronise_names(self.caller, names, full=full)
        return (await self.ended(task_id, within_s=within_s))[0]

    async def ended(self, task_id: str, *, within_s: float = 60) -> tuple[RunProgress, ...]:
        deadline = time.monotonic() + within_s
        while True:
            task = await self.house.synchroniser.task(self.caller, task_id)
            if task.finished_at is not None:
                return task.runs
            assert time.monotonic() < deadline, f"not ended within {within_s} s: {task.runs}"
            await asyncio.sleep(0.03)

    async def quiet(self, *, within_s: float = 20) -> None:
        """Wait until no run is open, whoever asked for it."""
        deadline = time.monotonic() + within_s
        while self.value("SELECT count(*) FROM run WHERE state <> 'finished'"):
            assert time.monotonic() < deadline, f"a run is still open after {within_s} s"
            await asyncio.sleep(0.03)

    def stored(self) -> set[tuple[str, str, str]]:
        """(path, tag, digest) of every live image."""
        rows = self.owner.execute(
            """
            SELECT CASE WHEN r.namespace = '' THEN r.name ELSE r.namespace || '/' || r.name END,
                   i.tag, i.digest
            FROM image i JOIN repository r ON r.id = i.repository_id
            WHERE i.retired_at IS NULL
            """
        ).fetchall()
        assert len(rows) == len(set(rows))
        return set(rows)

    def verdicts(self) -> dict[str, tuple[str, str | None]]:
        """Of every live repository: what it is worth, and the code of the reason."""
        rows = self.owner.execute(
            """
            SELECT CASE WHEN namespace = '' THEN name ELSE namespace || '/' || name END,
                   verdict, verdict_reason ->> 'code'
            FROM repository WHERE retired_at IS NULL
            """
        ).fetchall()
        return {path: (verdict, code) for path, verdict, code in rows}

    def registry_verdict(self) -> str:
        return self.value("SELECT verdict FROM registry")

    def events(self) -> list[tuple[str, str | None]]:
        return self.owner.execute("SELECT kind, tag FROM event ORDER BY seq").fetchall()

    def value(self, query: str, *parameters):
        row = self.owner.execute(query, parameters).fetchone()
        return row[0] if row else None


@pytest.fixture
async def yard(
    database_address: DatabaseAddress, owner_connection: psycopg.Connection, tmp_path: Path
) -> AsyncIterator[Yard]:
    """A house with one worker at work in this process."""
    async with yard_with(database_address, owner_connection, tmp_path) as made:
        yield made


@pytest.fixture
async def idle_yard(
    database_address: DatabaseAddress, owner_connection: psycopg.Connection, tmp_path: Path
) -> AsyncIterator[Yard]:
    """A house in which nobody works until the test has somebody work."""
    owner_connection.execute("INSERT INTO project VALUES (%s, 'acme')", (PROJECT,))
    owner_connection.execute("INSERT INTO tenant_feed VALUES (%s)", (PROJECT,))
    settings = read_settings(environment={"WHARFINGER_DATA_DIR": str(tmp_path)})
    async with open_house(settings, database_address) as house:
        yield Yard(house, owner_connection)


@contextlib.asynccontextmanager
async def yard_with(
    database_address: DatabaseAddress,
    owner_connection: psycopg.Connection,
    folder: Path,
    **environment: str,
) -> AsyncIterator[Yard]:
    """Such a house under settings of the test's own."""
    owner_connection.execute("INSERT INTO project VALUES (%s, 'acme')", (PROJECT,))
    owner_connection.execute("INSERT INTO tenant_feed VALUES (%s)", (PROJECT,))
    settings = read_settings(
        environment={
            "WHARFINGER_DATA_DIR": str(folder),
            "WHARFINGER_RETRY_DEADLINE_S": "1",
            # Whatever the clock says while a test runs, only the test asks for syncs.
            "WHARFINGER_SCHEDULES": "false",
            **environment,
        }
    )
    async with (
        open_house(settings, database_address) as house,
        house.worker() as worker,
    ):
        running = asyncio.create_task(worker.run())
        try:
            yield Yard(house, owner_connection)
        finally:
            worker.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await running


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """An SWR with twelve repositories of five tags."""
    async with Upstream(made_up_world(12, 5)) as running:
        running.world.clock.follow_real_time()
        yield running
