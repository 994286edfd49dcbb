"""A real server over a real database, and rows written by SQL."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import psycopg
import uvicorn
from psycopg import sql
from psycopg.conninfo import make_conninfo

from leaks import watched
from rows import AT, Rows
from wharfinger.domain.errors import NotConfiguredError, NotFoundError, UnreachableError
from wharfinger.domain.model import RunOutcome, RunProgress, RunState, TaskProgress
from wharfinger.http.app import create_app
from wharfinger.http.connections import ServerConfig
from wharfinger.http.limits import Limits, Throttle
from wharfinger.http.services import Services, Synchroniser
from wharfinger.identity.access_keys import AccessKeys
from wharfinger.identity.authentication import Authenticator
from wharfinger.identity.locks import Locks
from wharfinger.identity.login import Login
from wharfinger.identity.oneself import Oneself
from wharfinger.identity.sessions import Sessions
from wharfinger.identity.users import Users
from wharfinger.service.doctor import Doctor
from wharfinger.service.enterprise_projects import EnterpriseProjects
from wharfinger.service.exports import Exports
from wharfinger.service.held import HeldImages
from wharfinger.service.hints import Hints
from wharfinger.service.history import History
from wharfinger.service.inventory import Inventory
from wharfinger.service.labels import Labels
from wharfinger.service.ledger import Ledger
from wharfinger.service.overview import Overview
from wharfinger.service.registries import Registries
from wharfinger.service.schedules import Schedules
from wharfinger.service.trail import Trail
from wharfinger.service.webhooks import Webhooks
from wharfinger.store.callers import Callers, NewCredential
from wharfinger.store.cluster import DATABASE, OWNER
from wharfinger.store.database import Database, DatabaseAddress, connection_options
from wharfinger.store.principals import Principals
from wharfinger.store.reading import Reading
from wharfinger.store.sealing import Sealer
from wharfinger.store.sessions import SessionRows

TASK_ID = "7b0d4a4e-6c0f-4f52-9a38-000000000001"


class ScriptedSynchroniser:
    """Says what the test tells it to; the real one is tested with the engine."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.progress: list[TaskProgress] = []
        self.failure: Exception | None = None

    async def synchronise_kind(self, caller, kind, enterprise_project_id):
        if self.failure is not None:
            raise self.failure
        if kind == "SwrShared":
            raise NotConfiguredError(
                "no SwrShared registry; run: wharfinger swr configure --project"
                f" {caller.project_id}"
            )
        self.asked.append((caller.project_id, kind, enterprise_project_id))
        return TASK_ID

    async def synchronise_registries(
        self, caller, *, enterprise_project_id, everything, chosen, full=False
    ):
        self.asked.append((caller.project_id, enterprise_project_id, everything, list(chosen)))
        return TASK_ID

    async def tasks(self, caller, wanted, *, offset, limit):
        self.asked.append((caller.project_id, wanted, offset, limit))
        return len(self.progress), self.progress

    async def task_runs(self, caller, task_id, **wanted):
        if task_id != TASK_ID:
            raise NotFoundError(f"there is no task {task_id!r}")
        self.asked.append((caller.project_id, task_id, wanted))
        runs = [run for task in self.progress for run in task.runs]
        return len(runs), runs


def run_progress(
    state=RunState.FINISHED, outcome=RunOutcome.COMPLETE, done=0, total=0, **changes
) -> RunProgress:
    facts = {
        "id": str(uuid.uuid4()),
        "registry_id": str(uuid.uuid4()),
        "registry_name": "swr",
        "registry_kind": "SwrPrivate",
        "full": False,
        "repositories_failed": 0,
        "images": 0,
        "requests": 0,
        "added": 0,
        "moved": 0,
        "retired": 0,
        "restored": 0,
        "held": 0,
        "queued_at": AT,
        "started_at": AT,
        "finished_at": AT,
    }
    return RunProgress(
        state=state,
        outcome=outcome,
        repositories_done=done,
        repositories_total=total,
        **(facts | changes),
    )


@dataclass
class Tenant(Rows):
    """A project with a credential and a token."""

    credential: NewCredential
    token: str


class House:
    """The running server."""

    def __init__(
        self,
        address: DatabaseAddress,
        key_file: Path,
        sql: psycopg.Connection,
        synchroniser: Callable[[Database], Synchroniser] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self.throttle = Throttle()
        self.statuses: Counter[int] = Counter()
        self.sql = sql
        self._make_synchroniser = synchroniser
        self.synchroniser = ScriptedSynchroniser()
        self.ready = True
        self._address = address
        self._key_file = key_file
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(20)
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - shown by the thread that waits for us
            self._failure = failure
            self._started.set()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    def forget(self) -> None:
        """Take back what a test told the server."""
        self.ready = True
        self.synchroniser.__init__()
        self.throttle.__init__()
        self.statuses.clear()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    @property
    def connections(self) -> set:
        """The connections that are open now."""
        return self._server.server_state.connections

    def answered(self, status: int) -> int:
        """How many answers had this status since the test began."""
        return self.statuses[status]

    async def _counted(self, scope, receive, send) -> None:
        async def counting(message) -> None:
            if message["type"] == "http.response.start":
                self.statuses[message["status"]] += 1
            await send(message)

        await self._app(scope, receive, counting)

    @property
    def room_taken(self) -> int:
        """What request bodies take of the memory."""
        return self._app._room.take(0)

    def tenant(self, name="cn-north-4", project_id=None) -> Tenant:
        return self.run(self._tenant(name, project_id))

    async def _tenant(self, name, project_id) -> Tenant:
        project = await self.callers.create_project(name, project_id)
        credential = await self.callers.create_credential(project.id)
        token = await self.callers.create_token(project.id, dt.timedelta(hours=1))
        return Tenant(project.id, self.sql, credential, token)

    async def _unready(self) -> str | None:
        return None if self.ready else "the database does not answer"

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.database = Database(self._address, max_connections=4)
        await self.database.open()
        self.keys = Sealer.from_file(self._key_file)
        self.callers = Callers(self.database, self.keys)
        self.principals = Principals(self.database)
        self.reading = Reading(self.database)
        self.exports = Exports(self.database, self.reading)
        self.hints = Hints(self.database, jobs=_NoJobs())
        self.ledger = Ledger(self.database, pause_s=0.02)
        locks = Locks()
        if self._make_synchroniser is not None:
            self.synchroniser = self._make_synchroniser(self.database)
        self.registries = Registries(self.database, self.keys, opener=None)
        authenticator = Authenticator(self.callers, locks=locks)
        login = Login(self.principals, self.callers, locks=locks)
        users = Users(self.principals, self.callers)
        access_keys = AccessKeys(self.principals, self.callers)
        self.services = Services(
            authenticator=authenticator,
            login=login,
            sessions=Sessions(SessionRows(self.database), authenticator, login),
            users=users,
            access_keys=access_keys,
            oneself=Oneself(login, users, access_keys),
            callers=self.callers,
            inventory=Inventory(self.reading),
            synchroniser=self.synchroniser,
            history=History(self.database, days=400),
            held=HeldImages(self.database),
            hints=self.hints,
            ledger=self.ledger,
            trail=Trail(self.database, days=400),
            registries=self.registries,
            enterprise_projects=EnterpriseProjects(self.database),
            schedules=Schedules(self.database, _NoJobs()),
            doctor=Doctor(self.database, self.keys, admit=None),
            labels=Labels(self.database),
            exports=self.exports,
            webhooks=Webhooks(self.database, self.keys, _nowhere),
            overview=Overview(self.database),
            unready=self._unready,
            proxies=(ip_network("127.0.0.0/8"),),
            limits=self._limits,
            throttle=self.throttle,
        )
        self._app = create_app(self.services)
        counted = watched(self._counted)
        config = ServerConfig(counted, host="127.0.0.1", port=0, limits=self._limits)
        self._server = _Server(config)
        self._server.announce = self._announce
        await self._server.serve()
        await self.ledger.aclose()
        await self.database.close()

    def _announce(self) -> None:
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._started.set()


async def _nowhere(request, *, allow_private):
    raise UnreachableError("this house sends nothing")


class _NoJobs:
    """This house has no worker: a hint that would need one is tested where there is one."""

    async def plan(self, tx, **job) -> None:
        raise AssertionError(job)

    read = finish = plan


class _Server(uvicorn.Server):
    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        self.announce()


@contextlib.contextmanager
def standing_house(cluster, administrator, folder: Path, **options) -> Iterator[House]:
    """A server over a database of its own, for many tests."""
    name = f"test_{uuid.uuid4().hex}"
    administrator.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY wal_log").format(
            sql.Identifier(name), sql.Identifier(DATABASE), sql.Identifier(OWNER)
        )
    )
    address = DatabaseAddress(
        owner=make_conninfo(cluster.address.owner, dbname=name),
        app=make_conninfo(cluster.address.app, dbname=name),
    )
    connection_of = connection_options(address.owner)
    with psycopg.connect(address.owner, autocommit=True, options=connection_of) as connection:
        running = House(address, folder / "secret.key", connection, **options)
        running.start()
        yield running
        running.stop()
    administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
