"""The composition root: the only place that knows which classes stand behind the ports."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import procrastinate
import structlog
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from wharfinger.domain.errors import SetupError, StoreUnavailableError
from wharfinger.domain.examination import Contact
from wharfinger.domain.model import (
    FoundRegistry,
    RegistryCredential,
    RegistryRef,
    RepositoryFilter,
)
from wharfinger.domain.ports import Reply, Request, Source, Transport
from wharfinger.domain.tally import Tally
from wharfinger.http.limits import Limits, Throttle
from wharfinger.identity.access_keys import AccessKeys
from wharfinger.identity.keystone import ExternalTokens, ServiceAccount
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
from wharfinger.service.metering import Metering
from wharfinger.service.overview import Overview
from wharfinger.service.registries import Registries
from wharfinger.service.schedules import Schedules
from wharfinger.service.swr import SwrAccounts
from wharfinger.service.synchronise import Synchroniser
from wharfinger.service.telemetry import traces
from wharfinger.service.telling import Teller
from wharfinger.service.trail import Trail
from wharfinger.service.webhooks import Webhooks
from wharfinger.settings import Settings, command_environment, environment_variable
from wharfinger.sources import filter_of, find_registries, open_source
from wharfinger.sources._addresses import AddressPolicy
from wharfinger.sources._counting import RequestCount, counting_requests
from wharfinger.sources._references import References
from wharfinger.store import archive, fitness
from wharfinger.store.callers import Callers, any_project
from wharfinger.store.database import Database, DatabaseAddress, connection_options
from wharfinger.store.embedded import hold
from wharfinger.store.metrics import Metrics
from wharfinger.store.migrate import Phase, beyond, migrate, needed
from wharfinger.store.monitoring_token import monitoring_token
from wharfinger.store.pacing import SharedBudgets
from wharfinger.store.principals import Principals
from wharfinger.store.reading import Reading
from wharfinger.store.sealing import Sealer, put_keys
from wharfinger.store.sessions import SessionRows
from wharfinger.sync.engine import Engine
from wharfinger.sync.pacing import PacedHttp, host_and_port
from wharfinger.sync.queue import SyncQueue, Worker
from wharfinger.sync.shares import LEASE_S, LeasedBudgets
from wharfinger.sync.together import end

if TYPE_CHECKING:
    from wharfinger.http.exposition import Exposition
    from wharfinger.sources._examining import WatchedHttp, WatchedTransport
    from wharfinger.sources._http import AioTransport

log = structlog.get_logger()

# How often a worker looks whether a project's history was last pruned more than a day ago, and
# how often it prunes the audit, which has no such mark: it costs little where nothing is old.
PRUNE_LOOK_S = 600.0
PRUNE_AUDIT_S = 86_400.0

# A receiver of events that needs longer should put them aside first.
RECEIVER_CONNECT_S = 5.0
RECEIVER_ANSWER_S = 15.0


class OpenedSource:
    """A source with its transport and pacing. It implements ``engine.OpenSource``."""

    def __init__(self, source: Source, transport: AioTransport, wanted: RepositoryFilter) -> None:
        self.source = source
        self.filter = wanted
        self._transport = transport
        self._taken = 0

    def take_requests(self) -> int:
        """Requests sent since this was last asked."""
        since, self._taken = self._transport.requests - self._taken, self._transport.requests
        return since

    def counting(self) -> AbstractContextManager[RequestCount]:
        """Count the requests of what is awaited inside."""
        return counting_requests()

    async def aclose(self) -> None:
        """Close the source and its connections."""
        await self.source.aclose()
        await self._transport.aclose()


class WatchedSource(OpenedSource):
    """A source whose exchanges are watched. It implements ``doctor.Patient``."""

    def __init__(
        self,
        source: Source,
        transport: WatchedTransport,
        http: WatchedHttp,
        wanted: RepositoryFilter,
        *,
        contact: Callable[[], Awaitable[Contact]],
        rate: Callable[[], float | None],
        concurrency: int,
    ) -> None:
        super().__init__(source, transport, wanted)
        self.exchanges = transport.exchanges
        self._watched = http
        self.concurrency = concurrency
        self._contact = contact
        self._rate = rate

    @property
    def refused(self) -> int:
        """Answers so far that told us to slow down, in whatever words the kind knows."""
        return self._watched.refused

    async def contact(self) -> Contact:
        """Reach the registry's host without asking it anything."""
        return await self._contact()

    def learned_rate(self) -> float | None:
        """Requests a second that the host bears, if it has been seen to refuse more."""
        return self._rate()


class SourceOpener:
    """Opens sources with one budget per host for the whole installation."""

    def __init__(self, settings: Settings, budgets: LeasedBudgets, tally: Tally) -> None:
        self._tally = tally
        self._networks = settings.allow_networks
        self._concurrency = settings.host_concurrency
        self._deadline_s = float(settings.retry_deadline_s)
        self._budgets = budgets
        self._transport = _client_of(settings)

    def __call__(self, registry: RegistryRef, credential: RegistryCredential) -> OpenedSource:
        """Open one registry's source; no request is made yet."""
        transport = self._transport(self._policy(registry), ca_pem=registry.ca_pem)
        source = open_source(registry, credential, self._http(registry, transport))
        return OpenedSource(source, transport, filter_of(registry))

    async def find(
        self, service: RegistryRef, credential: RegistryCredential
    ) -> Sequence[FoundRegistry]:
        """Ask a service which registries it has; ``service`` names none of them."""
        transport = _aio_transport(self._policy(service), ca_pem=service.ca_pem)
        async with contextlib.aclosing(transport):
            return await find_registries(service, credential, self._http(service, transport))

    def watched(self, registry: RegistryRef, credential: RegistryCredential) -> WatchedSource:
        """Open one registry's source so that every exchange can be looked at afterwards."""
        from wharfinger.sources._examining import (  # noqa: PLC0415 - see _aio_transport
            WatchedHttp,
            WatchedTransport,
            make_contact,
        )

        policy = self._policy(registry)
        transport = WatchedTransport(policy, ca_pem=registry.ca_pem)
        http = WatchedHttp(self._http(registry, transport))
        return WatchedSource(
            open_source(registry, credential, http),
            transport,
            http,
            filter_of(registry),
            contact=lambda: make_contact(registry.address, policy, ca_pem=registry.ca_pem),
            rate=lambda: self._budgets.of(registry.address).rate,
            concurrency=self._concurrency,
        )

    def _policy(self, registry: RegistryRef) -> AddressPolicy:
        return AddressPolicy(
            allow_private=registry.allow_private_networks, allow_networks=self._networks
        )

    def _http(self, registry: RegistryRef, transport: Transport) -> PacedHttp:
        from wharfinger.sources._observing import (  # noqa: PLC0415 - see _aio_transport
            CountedTransport,
        )

        return PacedHttp(
            CountedTransport(transport, self._saw),
            self._budgets,
            key=registry.project_id,
            deadline_s=self._deadline_s,
        )

    def _saw(self, url: str, met: str, seconds: float) -> None:
        host = _host_of(url[: url.find("/", 8)])
        self._tally.add("upstream_requests", host, met)
        self._tally.add("upstream_request_seconds", host, by=seconds)


_host_of = functools.lru_cache(maxsize=1000)(host_and_port)


def _client_of(settings: Settings) -> Callable[..., AioTransport]:
    """What reads registries.

    Raises:
        ExtraMissingError: it is wished from an extra that is not installed.
    """
    if settings.fast_http:
        from wharfinger.sources._fast import fast_client  # noqa: PLC0415 - see _aio_transport

        return fast_client()
    return _aio_transport


def _aio_transport(policy: AddressPolicy, **options: Any) -> AioTransport:
    # Its library costs a tenth of a second, which the commands that reach nobody do without.
    from wharfinger.sources._http import AioTransport  # noqa: PLC0415 - see above

    return AioTransport(policy, **options)


class Receivers:
    """Sends to the receivers of webhooks. It implements ``webhooks.Send``."""

    def __init__(self, settings: Settings) -> None:
        self._networks = settings.allow_networks
        # By whether private addresses may be reached; made when first needed.
        self._transports: dict[bool, AioTransport] = {}

    async def __call__(self, request: Request, *, allow_private: bool) -> Reply:
        """Send to an address that the operator has let in, or to a public one."""
        if allow_private not in self._transports:
            self._transports[allow_private] = self._transport(allow_private=allow_private)
        return await self._transports[allow_private].send(request)

    def _transport(self, *, allow_private: bool) -> AioTransport:
        return _aio_transport(
            AddressPolicy(allow_private=allow_private, allow_networks=self._networks),
            connect_timeout_s=RECEIVER_CONNECT_S,
            idle_timeout_s=RECEIVER_ANSWER_S,
            answer_timeout_s=RECEIVER_ANSWER_S,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        for transport in self._transports.values():
            await transport.aclose()


@dataclass(frozen=True, kw_only=True)
class House:
    """Everything that works, wired together."""

    settings: Settings
    database: Database
    keys: Sealer
    queue: SyncQueue
    opener: SourceOpener
    references: References
    synchroniser: Synchroniser
    registries: Registries
    swr: SwrAccounts
    inventory: Inventory
    held: HeldImages
    hints: Hints
    history: History
    enterprise_projects: EnterpriseProjects
    schedules: Schedules
    doctor: Doctor
    labels: Labels
    exports: Exports
    webhooks: Webhooks
    receivers: Receivers
    callers: Callers
    principals: Principals
    users: Users
    access_keys: AccessKeys
    ledger: Ledger
    trail: Trail
    metering: Metering
    issuers: Sequence[ExternalTokens] = ()
    # Set when the process has been told to end, and still answers those who have not heard yet.
    draining: asyncio.Event = field(default_factory=asyncio.Event)

    async def unready(self) -> str | None:
        """Why no request should come here now, or ``None``: looked up each time it is asked."""
        if self.draining.is_set():
            return "draining"
        return unfit(await self.database.recorded_migrations())

    @functools.cached_property
    def exposition(self) -> Exposition:
        """All metrics, as Prometheus reads them from this process."""
        # Its library costs a tenth of a second, which commands do without.
        from wharfinger.http.exposition import Exposition  # noqa: PLC0415 - see above

        return Exposition(self.metering, token=self._monitoring_token())

    def http_app(self) -> Any:
        """The ASGI application over these services."""
        # The web framework costs a second and 40 MB, which commands and workers do without.
        from wharfinger.http.app import create_app  # noqa: PLC0415 - see above
        from wharfinger.http.remembered import Remembered  # noqa: PLC0415
        from wharfinger.http.services import Services  # noqa: PLC0415
        from wharfinger.identity.authentication import Authenticator  # noqa: PLC0415
        from wharfinger.identity.locks import Locks  # noqa: PLC0415
        from wharfinger.identity.login import Login  # noqa: PLC0415
        from wharfinger.identity.oneself import Oneself  # noqa: PLC0415
        from wharfinger.identity.sessions import Sessions  # noqa: PLC0415

        locks = Locks()
        authenticator = Authenticator(
            self.callers,
            issuers=self.issuers,
            locks=locks,
            ecdsa=self.settings.ecdsa_signatures,
        )
        login = Login(self.principals, self.callers, locks=locks)
        services = Services(
            authenticator=authenticator,
            login=login,
            sessions=Sessions(SessionRows(self.database), authenticator, login),
            users=self.users,
            access_keys=self.access_keys,
            oneself=Oneself(login, self.users, self.access_keys),
            callers=self.callers,
            inventory=self.inventory,
            synchroniser=self.synchroniser,
            history=self.history,
            held=self.held,
            hints=self.hints,
            registries=self.registries,
            enterprise_projects=self.enterprise_projects,
            ledger=self.ledger,
            trail=self.trail,
            schedules=self.schedules,
            doctor=self.doctor,
            labels=self.labels,
            exports=self.exports,
            webhooks=self.webhooks,
            overview=Overview(self.database),
            unready=self.unready,
            proxies=self.settings.trusted_proxies,
            limits=limits_of(self.settings),
            throttle=Throttle(
                per_credential=self.settings.rate_per_credential,
                per_address=self.settings.rate_per_address,
            ),
            exposition=self.exposition,
            remembered=Remembered(self.settings.remembered_mb * 1024 * 1024),
        )
        return create_app(services)

    def _monitoring_token(self) -> str | None:
        try:
            return monitoring_token(self.settings.metrics_token_file)
        except SetupError as error:
            # A folder that nobody may write to must not keep the service from its work.
            log.warning("metrics.no_token", error=str(error))
            return None

    def engine(self) -> Engine:
        """An engine of one's own."""
        return Engine(
            self.database,
            self.keys,
            self.opener,
            self.queue,
            resolve=self.references,
            tally=self.metering.tally,
        )

    @contextlib.asynccontextmanager
    async def worker(
        self, *, name: str = "worker", schedules: bool = True
    ) -> AsyncIterator[Worker]:
        """A worker that is ready to run; without ``schedules`` it begins no sync by itself."""
        engine = self.engine()
        teller = Teller(
            self.database,
            self.keys,
            self.receivers,
            patience_days=self.settings.webhook_patience_days,
        )
        pruning = asyncio.create_task(self._prune_daily())
        telling = asyncio.create_task(teller.run())
        try:
            ticks = schedules and self.settings.schedules
            tick = self.schedules.tick if ticks else None
            async with self.metering.reporting("worker"):
                yield Worker(
                    self.queue,
                    engine,
                    self.database,
                    name=name,
                    tick=tick,
                    tally=self.metering.tally,
                )
        finally:
            await end(pruning, telling)
            await engine.aclose()

    async def _prune_daily(self) -> None:
        """Forget old history and audit once a day, whichever worker comes first."""
        audit_at = 0.0
        while True:
            await asyncio.sleep(PRUNE_LOOK_S)
            try:
                projects = [project.id for project in await self.callers.list_projects()]
                for project_id in projects:
                    await self.history.prune(project_id, only_if_due=True)
                if time.monotonic() >= audit_at:
                    await self.trail.prune(projects)
                    for project_id in projects:
                        await self.webhooks.prune(
                            project_id,
                            delivery_days=self.settings.delivery_days,
                            history_days=self.settings.history_days,
                        )
                    audit_at = time.monotonic() + PRUNE_AUDIT_S
            except StoreUnavailableError as error:
                log.info("history.prune_waits", error=error.code)
            except Exception:
                log.exception("history.prune_failed")


def limits_of(settings: Settings) -> Limits:
    """How much one caller may ask of the HTTP server."""
    return Limits(
        connections=settings.max_connections,
        receive_s=float(settings.receive_timeout_s),
        keep_alive_s=float(settings.keep_alive_s),
    )


def _iam_password(settings: Settings) -> str:
    """The service account's password, as it is now.

    Raises:
        SetupError: there is none, there are two, or the file cannot be read.
    """
    if (settings.iam_password is None) == (settings.iam_password_file is None):
        raise SetupError(
            "WHARFINGER_IAM_URL needs WHARFINGER_IAM_PASSWORD or WHARFINGER_IAM_PASSWORD_FILE,"
            " one of them"
        )
    if settings.iam_password_file is None:
        return settings.iam_password or ""
    return _text_of(settings.iam_password_file).rstrip("\r\n")


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{path} cannot be read: {type(exc).__name__}") from exc


@contextlib.asynccontextmanager
async def _issuers(settings: Settings, callers: Callers) -> AsyncIterator[list[ExternalTokens]]:
    """Who else vouches for tokens: the configured identity service, or nobody.

    Raises:
        SetupError: its settings are incomplete, or name files that cannot be used.
    """
    if settings.iam_url is None:
        yield []
        return
    if settings.iam_user is None:
        raise SetupError("WHARFINGER_IAM_URL needs WHARFINGER_IAM_USER")
    _iam_password(settings)
    # The operator's own choice of a host, like a registry added on the command line.
    policy = AddressPolicy(allow_private=True, allow_networks=settings.allow_networks)
    timeout_s = float(settings.iam_timeout_s)
    transport = _aio_transport(
        policy,
        ca_pem=_text_of(settings.iam_ca_file) if settings.iam_ca_file else None,
        connect_timeout_s=timeout_s,
        idle_timeout_s=timeout_s,
    )
    account = ServiceAccount(
        address=settings.iam_url,
        user=settings.iam_user,
        domain=settings.iam_domain,
        project=settings.iam_project,
        password=lambda: _iam_password(settings),
    )
    async with contextlib.aclosing(transport):
        yield [
            ExternalTokens(
                transport,
                account,
                callers,
                roles=dict(pair.split("=", 1) for pair in settings.iam_roles),
                cache_s=float(settings.iam_cache_s),
                timeout_s=timeout_s,
                create_projects=settings.iam_create_projects,
            )
        ]


@contextlib.contextmanager
def database_of(settings: Settings) -> Iterator[DatabaseAddress]:
    """The configured database: one of the operator's own, or the embedded one.

    It is migrated as ``WHARFINGER_MIGRATIONS`` says. A process that is given the working role
    alone migrates nothing, and with a database of one's own no data directory is needed.

    Raises:
        SetupError: the database cannot be used; the message says what to change.
        StoreUnavailableError: it does not answer.
    """
    with _address_of(settings) as address:
        if settings.migrations != "none":
            migrate(_owner_of(address), cast("Phase", settings.migrations))
        yield address


def migrate_database(settings: Settings, phase: Phase) -> list[str]:
    """Migrate the configured database whatever the settings say; the names applied.

    Raises:
        SetupError: the database cannot be used; the message says what to change.
        StoreUnavailableError: it does not answer.
    """
    with _address_of(settings) as address:
        return migrate(_owner_of(address), phase)


def back_up_database(settings: Settings, file: BinaryIO, *, with_key: bool) -> archive.Manifest:
    """Write the configured database into a file, and the keys if that is wished.

    Raises:
        SetupError: it was not made by this version, or the keys cannot be read.
        StoreUnavailableError: it does not answer.
    """
    key = None
    if with_key:
        # It is read as everybody reads it, so that what is kept is known to be good.
        Sealer(settings.secret_key_file)
        key = settings.secret_key_file.read_bytes()
    with _address_of(settings) as address:
        return archive.back_up(_owner_of(address), file, key=key)


def restore_database(settings: Settings, file: BinaryIO) -> tuple[archive.Manifest, bool]:
    """Bring a backup back; also whether the keys to its secrets are missing.

    Raises:
        SetupError: the database is not empty, the file is damaged or newer, or there are other
            keys in the place of those in the backup.
        StoreUnavailableError: the database does not answer.
    """
    _, key = archive.read_manifest(file)
    place = settings.secret_key_file
    if key is not None and place.exists() and place.read_bytes() != key:
        raise SetupError(f"{place} holds other keys than the backup; move it away first")
    with _address_of(settings) as address:
        manifest = archive.restore(_owner_of(address), file)
    if key is not None and not place.exists():
        put_keys(place, key)
    return manifest, not place.exists()


def check_upgrade(settings: Settings) -> Iterator[fitness.Check]:
    """Look whether this version can take over the configured database; nothing is changed."""
    is_embedded = not (settings.database_url or settings.database_app_url)
    if is_embedded:
        binaries = fitness.check_binaries(settings.data_dir, settings.pg_bin)
        yield binaries
        if binaries.grade == "fail":
            return
    try:
        with _address_of(settings) as address:
            owner = _owner_of(address)
            yield from fitness.check_database(owner)
            if is_embedded:
                yield fitness.check_disk(owner, settings.data_dir)
            yield fitness.check_keys(owner, settings.secret_key_file)
    except (SetupError, StoreUnavailableError) as error:
        yield fitness.Check(
            check="database",
            grade="fail",
            message=str(error),
            advice="see that it runs, and that WHARFINGER_DATABASE_URL leads to its owner",
        )


async def migrations_missing(settings: Settings) -> str | None:
    """Why the configured database does not do for this version yet, or ``None``."""
    with _address_of(settings) as address:
        database = Database(address, max_connections=1)
        try:
            await database.open()
            return unfit(await database.recorded_migrations())
        except (SetupError, StoreUnavailableError) as error:
            # The working role may be what has yet to be made.
            return str(error)
        finally:
            await database.close()


def unfit(recorded: set[str] | None) -> str | None:
    """Why a database with these migrations does not do for this version, or ``None``."""
    if recorded is None:
        return "the database does not answer"
    if missing := [name for name in needed() if name not in recorded]:
        return f"the database lacks migrations: {', '.join(missing[:3])}"
    if unknown := beyond(recorded):
        return f"the database is newer than this version: {unknown[-1]}"
    return None


@contextlib.contextmanager
def _address_of(settings: Settings) -> Iterator[DatabaseAddress]:
    owner, app = settings.database_url, settings.database_app_url
    if owner or app:
        yield DatabaseAddress(owner=owner or "", app=app or as_app_role(owner or ""))
        return
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with hold(settings.data_dir, pg_bin=settings.pg_bin) as lease:
        yield lease.address


def _owner_of(address: DatabaseAddress) -> str:
    if not address.owner:
        raise SetupError("migrating needs WHARFINGER_DATABASE_URL, the role that owns the schema")
    return address.owner


def as_app_role(owner: str) -> str:
    """An owner's address, working as the role that row-level security binds."""
    options = conninfo_to_dict(owner).get("options") or ""
    return make_conninfo(owner, options=f"{options} -c role=wharfinger_app".strip())


async def _refuse_to_replace_keys(settings: Settings, database: Database) -> None:
    """Make no new key where other processes have one: they could not open what it seals.

    Raises:
        SetupError: the database is in use, and the key file is missing.
    """
    path = settings.secret_key_file
    is_shared = settings.database_url or settings.database_app_url
    if is_shared and not path.exists() and await any_project(database):
        raise SetupError(
            f"the database is in use, and its secret key file is not here ({path}); copy it from"
            " where the other processes have it"
        )


@contextlib.asynccontextmanager
async def open_house(
    settings: Settings, address: DatabaseAddress, *, max_connections: int = 8
) -> AsyncIterator[House]:
    """Wire everything to one database, for as long as the context lasts."""
    async with traces(settings), _furnished(settings, address, max_connections) as house:
        yield house


@contextlib.asynccontextmanager
async def _furnished(
    settings: Settings, address: DatabaseAddress, max_connections: int
) -> AsyncIterator[House]:
    database = Database(address, max_connections=max_connections)
    connector = procrastinate.PsycopgConnector(
        conninfo=address.app,
        kwargs={"options": connection_options(address.app)},
        min_size=1,
        # A worker listens on two.
        max_size=5,
        timeout=10,
    )
    queue = SyncQueue(connector)
    await database.open()
    try:
        await _refuse_to_replace_keys(settings, database)
        keys = Sealer.from_file(settings.secret_key_file)
        budgets = LeasedBudgets(
            SharedBudgets(database, start=settings.host_concurrency, lease_s=LEASE_S)
        )
        tally = Tally()
        opener = SourceOpener(settings, budgets, tally)
        references = References(
            variable=environment_variable,
            environment=command_environment(),
            commands=settings.secret_commands,
        )
        callers = Callers(database, keys)
        principals = Principals(database)
        registries = Registries(database, keys, opener, resolve=references)
        reading = Reading(database)
        receivers = Receivers(settings)
        ledger = Ledger(database, tally=tally)
        async with (
            contextlib.aclosing(budgets),
            contextlib.aclosing(ledger),
            contextlib.aclosing(receivers),
            queue.app.open_async(),
            _issuers(settings, callers) as issuers,
        ):
            yield House(
                settings=settings,
                database=database,
                keys=keys,
                queue=queue,
                opener=opener,
                references=references,
                synchroniser=Synchroniser(database, queue),
                registries=registries,
                swr=SwrAccounts(database, keys, registries, opener.find),
                inventory=Inventory(reading),
                exports=Exports(database, reading),
                webhooks=Webhooks(database, keys, receivers),
                receivers=receivers,
                held=HeldImages(database),
                hints=Hints(database, queue),
                history=History(database, days=settings.history_days),
                enterprise_projects=EnterpriseProjects(database),
                schedules=Schedules(database, queue, jitter_s=settings.schedule_jitter_s),
                doctor=Doctor(database, keys, opener.watched, resolve=references),
                labels=Labels(database),
                callers=callers,
                principals=principals,
                users=Users(principals, callers),
                access_keys=AccessKeys(principals, callers),
                ledger=ledger,
                trail=Trail(database, days=settings.audit_days),
                metering=Metering(Metrics(database), tally),
                issuers=issuers,
            )
    finally:
        await database.close()
