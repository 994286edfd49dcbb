"""What the routes need of the rest of the house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from wharfinger.domain.model import Caller, RunProgress, TaskFilter, TaskProgress
from wharfinger.http.exposition import Exposition
from wharfinger.http.limits import Limits, Throttle
from wharfinger.http.origin import Network
from wharfinger.http.remembered import Remembered
from wharfinger.identity.access_keys import AccessKeys
from wharfinger.identity.authentication import Authenticator
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
from wharfinger.store.callers import Callers


class Synchroniser(Protocol):
    """Accepts synchronisations and tells how they stand."""

    async def synchronise_kind(self, caller: Caller, kind: str, enterprise_project_id: str) -> str:
        """Record a task for every registry of a kind and return its id.

        Raises:
            NotConfiguredError: the project has no such registry.
            NotGrantedError: the enterprise project is not the caller's.
        """
        ...

    async def synchronise_registries(
        self,
        caller: Caller,
        *,
        enterprise_project_id: str,
        everything: bool,
        chosen: Sequence[tuple[str, str]],
        full: bool = False,
    ) -> str:
        """Record a task for all or for chosen registries (id and kind) and return its id."""
        ...

    async def tasks(
        self, caller: Caller, wanted: TaskFilter, *, offset: int, limit: int
    ) -> tuple[int, list[TaskProgress]]:
        """Return the number of tasks that match, and a page of them, newest first."""
        ...

    async def task_runs(
        self,
        caller: Caller,
        task_id: str,
        *,
        registry_name: str | None,
        registry_kinds: tuple[str, ...] | None,
        sync_status: str | None,
        offset: int,
        limit: int,
    ) -> tuple[int, list[RunProgress]]:
        """Return the number of a task's runs that match, and a page of them.

        Raises:
            NotFoundError: the project has no such task.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything a route may call.

    ``unready`` tells why no request should come here now, if there is a reason. ``proxies`` are
    the networks of proxies that are believed about where a request came from. ``limits`` and
    ``throttle`` say how much one caller may ask for.
    """

    authenticator: Authenticator
    login: Login
    callers: Callers
    inventory: Inventory
    synchroniser: Synchroniser
    history: History
    held: HeldImages
    hints: Hints
    registries: Registries
    enterprise_projects: EnterpriseProjects
    ledger: Ledger
    trail: Trail
    schedules: Schedules
    doctor: Doctor
    labels: Labels
    exports: Exports
    webhooks: Webhooks
    overview: Overview
    sessions: Sessions
    users: Users
    access_keys: AccessKeys
    oneself: Oneself
    unready: Callable[[], Awaitable[str | None]]
    proxies: Sequence[Network] = ()
    limits: Limits = field(default_factory=Limits)
    throttle: Throttle = field(default_factory=Throttle)
    exposition: Exposition | None = None
    remembered: Remembered = field(default_factory=Remembered)


# How a route asks for them.
TheServices = SkipValidation[NamedDependency[Services]]
