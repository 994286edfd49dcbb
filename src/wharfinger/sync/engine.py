"""The engine: plans a run from a registry's listing, reads its units, and ends it once."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec
import structlog

from wharfinger.domain.errors import (
    CredentialsNeededError,
    CursorRefusedError,
    ListMovedError,
    MalformedAnswerError,
    MissingError,
    NameUnknownError,
    SetupError,
    SourceError,
)
from wharfinger.domain.metrics import RUN_ENDS
from wharfinger.domain.model import (
    Page,
    Reason,
    RegistryCredential,
    RegistryRef,
    RepositoryFilter,
    RepositoryRef,
    RunOutcome,
    TagRef,
)
from wharfinger.domain.ports import Source
from wharfinger.domain.tally import Tally
from wharfinger.store import hints, registries, runs, writing
from wharfinger.store.attachments import Told
from wharfinger.store.database import Connection, Database
from wharfinger.store.runs import StagedListing, TakenRun, TakenUnit
from wharfinger.store.writing import (
    Cost,
    FailedRepository,
    ReadRepository,
    UnitResult,
    WantedRepository,
)
from wharfinger.sync.attachments import Asking, Counting, ToldByListing, Troubles
from wharfinger.sync.pacing import hinted
from wharfinger.sync.together import together

log = structlog.get_logger()

# A list that moves while it is read is read again this often before its absences are given up.
LISTING_PASSES = 4


class Jobs(Protocol):
    """Enqueues the engine's next steps inside the transaction that makes them necessary."""

    async def plan(
        self,
        tx: Connection,
        *,
        project_id: str,
        run_id: str,
        registry_id: str,
        hinted: bool = False,
    ) -> None:
        """Enqueue the listing of a run's registry, or the beginning of a run of hints."""
        ...

    async def read(
        self,
        tx: Connection,
        *,
        project_id: str,
        run_id: str,
        units: Sequence[int],
        hinted: bool = False,
    ) -> None:
        """Enqueue the reading of units; those of a hint come before others."""
        ...

    async def finish(
        self, tx: Connection, *, project_id: str, run_id: str, registry_id: str
    ) -> None:
        """Enqueue the end of a run."""
        ...


class OpenSource(Protocol):
    """A source with its transport. ``take_requests`` counts since it was last asked."""

    source: Source
    # Which repositories the registry's configuration asks for.
    filter: RepositoryFilter

    def counting(self) -> AbstractContextManager[Counting]:
        """Count the requests of what is awaited inside."""
        ...

    def take_requests(self) -> int:
        """Requests sent since this was last asked."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


SourceOpener = Callable[[RegistryRef, RegistryCredential], OpenSource]
# Fills in the secret of a credential that only says where it is kept.
Resolve = Callable[[RegistryCredential], Awaitable[RegistryCredential]]


async def as_stored(credential: RegistryCredential) -> RegistryCredential:
    """Resolve nothing: a secret that is kept elsewhere is not to be had.

    Raises:
        CredentialsNeededError: the credential has no secret, and needs one.
    """
    if credential.kind == "none" or credential.secret:
        return credential
    raise CredentialsNeededError("the registry's secret is not stored")


class Engine:
    """Carries out runs. Every method may be repeated or interrupted at any instant."""

    def __init__(
        self,
        database: Database,
        seals: registries.Seals,
        opener: SourceOpener,
        jobs: Jobs,
        *,
        resolve: Resolve = as_stored,
        tally: Tally | None = None,
    ) -> None:
        self._database = database
        self._tally = tally or Tally()
        self._sources = _Sources(database, seals, opener, resolve)
        self._jobs = jobs
        self._troubles = Troubles()

    async def aclose(self) -> None:
        """Let go of every registry's connections."""
        await self._sources.aclose()

    # --- the listing of repositories ---------------------------------------------------------

    async def plan(self, project_id: str, run_id: str, registry_id: str) -> None:
        """List the registry's repositories and make units of those that must be read."""
        async with self._database.tenant(project_id) as tx:
            run = await runs.take_run(tx, run_id, registry_id)
            if run is not None:
                run = await self._begin(tx, project_id, run)
        if run is None:
            return
        log.info("sync.run_started", run=run_id, registry=registry_id, attempt=run.attempt)
        try:
            async with self._sources.use(project_id, registry_id) as opened:
                await self._list(project_id, run, opened)
        except SourceError as error:
            await self._end_listing(project_id, run, reasons=[_reason(error)])

    async def _begin(self, tx: Connection, project_id: str, run: TakenRun) -> TakenRun | None:
        """Enqueue what needs no listing; returns the run if there is still something to list."""
        if run.kind == "hint" and run.listing == "open":
            await hints.begin_run(tx, run.id)
        elif run.listing == "open":
            if run.attempt == 1:
                await self._read_hinted(tx, project_id, run)
            return run
        await self._resume(tx, project_id, run)
        return None

    async def _read_hinted(self, tx: Connection, project_id: str, run: TakenRun) -> None:
        """Have read what hints named while the run was waiting to begin."""
        _, units = await runs.open_work(tx, run.id)
        await self._jobs.read(tx, project_id=project_id, run_id=run.id, units=units, hinted=True)

    async def _resume(self, tx: Connection, project_id: str, run: TakenRun) -> None:
        ready, units = await runs.open_work(tx, run.id)
        await self._jobs.read(
            tx, project_id=project_id, run_id=run.id, units=units, hinted=run.kind == "hint"
        )
        if ready:
            await self._jobs.finish(
                tx, project_id=project_id, run_id=run.id, registry_id=run.registry_id
            )

    async def _list(self, project_id: str, run: TakenRun, opened: OpenSource) -> None:
        run = await self._begin_listing(project_id, run)
        for attempt in range(LISTING_PASSES):
            try:
                await self._list_once(project_id, run, opened)
            except (ListMovedError, CursorRefusedError) as error:
                if attempt + 1 == LISTING_PASSES:
                    raise
                log.info("sync.listing_restarted", run=run.id, error=error.code)
                async with self._database.tenant(project_id) as tx:
                    run = await runs.restart_listing(tx, run)
            else:
                await self._end_listing(
                    project_id, run, wanted=opened.filter, requests=opened.take_requests()
                )
                return

    async def _begin_listing(self, project_id: str, run: TakenRun) -> TakenRun:
        """Go on from the stored cursor if it can be believed, or begin again."""
        cursor = run.cursor
        if cursor is not None and cursor.resumable and run.generation == run.current_generation:
            return run
        if run.listed == 0:
            return dataclasses.replace(run, cursor=None)
        async with self._database.tenant(project_id) as tx:
            return await runs.restart_listing(tx, run)

    async def _list_once(self, project_id: str, run: TakenRun, opened: OpenSource) -> None:
        async for page in opened.source.repositories(run.cursor):
            async with self._database.tenant(project_id) as tx:
                units = await runs.store_page(
                    tx,
                    project_id,
                    run,
                    _wanted(page, opened.filter),
                    requests=opened.take_requests(),
                )
                await self._jobs.read(tx, project_id=project_id, run_id=run.id, units=units)

    async def _end_listing(
        self,
        project_id: str,
        run: TakenRun,
        *,
        reasons: Sequence[Reason] = (),
        wanted: RepositoryFilter | None = None,
        requests: int = 0,
    ) -> None:
        async with self._database.tenant(project_id) as tx:
            if wanted and not reasons:
                await runs.hide_uncovered(tx, project_id, run, wanted.covers)
            if await runs.end_listing(tx, run, reasons=reasons, requests=requests):
                await self._jobs.finish(
                    tx, project_id=project_id, run_id=run.id, registry_id=run.registry_id
                )

    # --- the tags of a batch of repositories -------------------------------------------------

    async def read(self, project_id: str, unit_id: int) -> None:
        """Read a unit's repositories and publish them in one transaction."""
        began = dt.datetime.now(dt.UTC)
        async with self._database.tenant(project_id) as tx:
            unit = await runs.take_unit(tx, unit_id)
            if unit is None:
                return
            staged = await runs.take_over_listings(tx, unit) if unit.attempt > 1 else {}
        try:
            async with self._sources.use(project_id, unit.registry_id) as opened:
                reader = _Reader(self._database, project_id, unit, opened, staged)
                with hinted() if unit.hinted else contextlib.nullcontext():
                    found = await together([reader.read(w) for w in _covered(unit, opened.filter)])
                    found = await self._ask(project_id, unit, opened, found)
                requests = opened.take_requests()
            results = await self._settle_unknown(project_id, unit, found)
        except SourceError as error:
            results, requests = [_failed(w, error) for w in unit.repositories], 0
        await self._publish(
            project_id,
            unit,
            UnitResult(
                unit=unit.id,
                attempt=unit.attempt,
                began=began,
                read=[r for r in results if isinstance(r, ReadRepository)],
                failed=[r for r in results if isinstance(r, FailedRepository)],
                requests=requests,
            ),
        )

    async def _ask(
        self, project_id: str, unit: TakenUnit, opened: OpenSource, found: Sequence[_Found]
    ) -> list[_Found]:
        """Fill in what belongs to the images of what could be read."""
        read = [one for one in found if isinstance(one, ReadRepository)]
        trouble = self._troubles.of(unit)
        asked = await Asking(self._database, project_id, unit, opened, trouble).about(read)
        return [asked[one.wanted.id] if isinstance(one, ReadRepository) else one for one in found]

    async def _settle_unknown(
        self, project_id: str, unit: TakenUnit, found: Sequence[_Found]
    ) -> list[ReadRepository | FailedRepository]:
        """Take listed repositories of unknown name for empty, if others could be read just now.

        Registries say so of repositories without any tag, but some also of what the caller may not
        see. A credential that has lost everything reads nothing else either. A name that only a
        hint brought is unknown indeed.
        """
        unknown = [one for one in found if isinstance(one, _Unknown)]
        believed = any(isinstance(one, ReadRepository) and one.rows for one in found)
        if unknown and not believed:
            async with self._database.tenant(project_id) as tx:
                believed = await runs.has_read_images(tx, unit.run_id)
        settled = [u.as_empty() if believed and unit.listed else u.as_failed() for u in unknown]
        return [*(one for one in found if not isinstance(one, _Unknown)), *settled]

    async def _publish(self, project_id: str, unit: TakenUnit, result: UnitResult) -> None:
        async with self._database.tenant(project_id) as tx:
            published = await writing.publish_unit(tx, project_id, result)
            run_id = published.run_id
            await self._jobs.read(
                tx, project_id=project_id, run_id=run_id, units=published.released, hinted=True
            )
            if published.ready:
                await self._jobs.finish(
                    tx, project_id=project_id, run_id=run_id, registry_id=unit.registry_id
                )

    # --- the end -------------------------------------------------------------------------------

    async def finish(self, project_id: str, run_id: str, registry_id: str) -> RunOutcome | None:
        """End the run, and start the one that waits behind it."""
        async with self._database.tenant(project_id) as tx:
            outcome, successor = await runs.finish_run(tx, project_id, run_id, registry_id)
            if successor is not None:
                await self._jobs.plan(
                    tx,
                    project_id=project_id,
                    run_id=successor.id,
                    registry_id=registry_id,
                    hinted=successor.hinted,
                )
        if outcome is not None:
            async with self._database.tenant(project_id) as tx:
                await runs.refresh_statistics(tx, run_id)
                await runs.fold_counts(tx, registry_id)
                kind, took_s = await runs.kind_and_duration(tx, run_id)
            self._tally.add("runs", kind, outcome)
            self._tally.add_duration("run_duration_seconds", kind, seconds=took_s, ends=RUN_ENDS)
            log.info("sync.run_finished", run=run_id, registry=registry_id, outcome=outcome)
        return outcome

    # --- when something of ours is broken -------------------------------------------------------

    async def give_up_listing(
        self, project_id: str, run_id: str, registry_id: str, error: BaseException
    ) -> None:
        """End a listing that keeps failing for a reason of our own."""
        async with self._database.tenant(project_id) as tx:
            run = await runs.take_run(tx, run_id, registry_id)
        if run is not None and run.listing == "open":
            await self._end_listing(project_id, run, reasons=[_internal(error)])

    async def give_up_unit(self, project_id: str, unit_id: int, error: BaseException) -> None:
        """Report a unit that keeps failing for a reason of our own; its rows stay as they are."""
        async with self._database.tenant(project_id) as tx:
            unit = await runs.take_unit(tx, unit_id)
        if unit is None:
            return
        reason = _internal(error)
        failed = [FailedRepository(wanted=w, reason=_named(reason, w)) for w in unit.repositories]
        result = UnitResult(
            unit=unit.id, attempt=unit.attempt, began=dt.datetime.now(dt.UTC), failed=failed
        )
        await self._publish(project_id, unit, result)


@dataclasses.dataclass(frozen=True)
class _Unknown:
    """A repository that its registry lists, and whose name it does not know."""

    wanted: WantedRepository
    error: NameUnknownError
    cost: Cost = dataclasses.field(default_factory=Cost)

    def as_empty(self) -> ReadRepository:
        return ReadRepository(wanted=self.wanted, unknown=True, attached=Told(), cost=self.cost)

    def as_failed(self) -> FailedRepository:
        return dataclasses.replace(_failed(self.wanted, self.error), cost=self.cost)


_Found = ReadRepository | FailedRepository | _Unknown


class _Reader:
    """Reads the repositories of one unit."""

    def __init__(
        self,
        database: Database,
        project_id: str,
        unit: TakenUnit,
        opened: OpenSource,
        staged: dict[int, StagedListing],
    ) -> None:
        self._database = database
        self._project_id = project_id
        self._unit = unit
        self._opened = opened
        self._source = opened.source
        self._staged = staged

    async def read(self, wanted: WantedRepository) -> _Found:
        """Read one repository; a failure is a value, so that it costs the others nothing."""
        began = time.monotonic()
        with self._opened.counting() as count:
            result = await self._read(wanted)
        took = Cost(requests=count.requests, milliseconds=round((time.monotonic() - began) * 1000))
        return dataclasses.replace(result, cost=took)

    async def _read(self, wanted: WantedRepository) -> _Found:
        try:
            return await self._read_until_it_holds_still(wanted)
        except NameUnknownError as error:
            return _Unknown(wanted, error)
        except MissingError as error:
            if wanted.images == 0:
                # The listing's own row says it is empty, which is the second signal a 404 needs.
                return ReadRepository(wanted=wanted)
            return _failed(wanted, error)
        except SourceError as error:
            return _failed(wanted, error)

    async def _read_until_it_holds_still(self, wanted: WantedRepository) -> ReadRepository:
        for _ in range(LISTING_PASSES - 1):
            try:
                return await self._read_once(wanted)
            except (ListMovedError, CursorRefusedError) as error:
                log.info("sync.tags_restarted", repository=wanted.id, error=error.code)
        return await self._read_once(wanted)

    async def _read_once(self, wanted: WantedRepository) -> ReadRepository:
        repository = RepositoryRef(
            namespace=wanted.namespace, name=wanted.name, images=wanted.images
        )
        staged = self._staged.pop(wanted.id, None)
        after = staged.cursor if staged is not None and _resumes(staged) else None
        listing: StagedListing | None = staged if after is not None else None
        tags: Sequence[TagRef] = ()
        told = ToldByListing()
        pages = self._source.tags(repository, after)
        async for page in pages:
            told.take(page)
            described = await self._describe(repository, page)
            if listing is None and page.next is None:
                tags = described.items
                continue
            if listing is None:
                listing = await self._open_listing(wanted)
            listing = await self._stage(listing, described)
        if listing is None:
            return ReadRepository(wanted=wanted, tags=tags, rows=len(tags), attached=told.told())
        async with self._database.tenant(self._project_id) as tx:
            rows = await runs.count_staged(tx, listing)
        return ReadRepository(wanted=wanted, listing=listing.id, rows=rows, attached=told.told())

    async def _open_listing(self, wanted: WantedRepository) -> StagedListing:
        async with self._database.tenant(self._project_id) as tx:
            listing = await runs.open_listing(tx, self._project_id, self._unit, wanted.id)
            if listing.pages:
                listing = await runs.reset_listing(tx, self._unit, listing)
        return listing

    async def _stage(self, listing: StagedListing, page: Page[TagRef]) -> StagedListing:
        async with self._database.tenant(self._project_id) as tx:
            return await runs.stage_page(tx, self._project_id, self._unit, listing, page)

    async def _describe(self, repository: RepositoryRef, page: Page[TagRef]) -> Page[TagRef]:
        """Fill in what the listing left out, for digests the store does not know."""
        bare = {tag.digest: tag for tag in page.items if tag.image is None}
        if not bare:
            return page
        ask = self._database.asking(self._project_id)
        unknown = await writing.unknown_digests(
            ask, self._project_id, self._unit.registry_id, list(bare)
        )
        if not unknown:
            return page
        images = {
            image.digest: image
            async for image in self._source.describe(repository, [bare[d] for d in unknown])
        }
        missing = set(unknown) - set(images)
        if missing:
            raise MalformedAnswerError(f"{len(missing)} digests were not described")
        items = tuple(
            msgspec.structs.replace(tag, image=images[tag.digest])
            if tag.image is None and tag.digest in images
            else tag
            for tag in page.items
        )
        return msgspec.structs.replace(page, items=items)


# A registry, the generation of its configuration, and its secret where that is kept elsewhere.
_Key = tuple[str, int, str]


class _Sources:
    """Sources in use, shared by the units of a registry so that tokens and connections are."""

    def __init__(
        self,
        database: Database,
        seals: registries.Seals,
        opener: SourceOpener,
        resolve: Resolve,
    ) -> None:
        self._database = database
        self._seals = seals
        self._opener = opener
        self._resolve = resolve
        self._open: dict[_Key, _Shared] = {}

    @contextlib.asynccontextmanager
    async def use(self, project_id: str, registry_id: str) -> AsyncIterator[OpenSource]:
        registry, stored = await self._stored(project_id, registry_id)
        credential = await self._resolve(stored)
        # What is kept elsewhere may be another secret today.
        key = (registry_id, registry.generation, credential.secret if stored.reference else "")
        shared = self._open.get(key)
        if shared is None:
            shared = self._open[key] = _Shared(self._opener(registry, credential))
        shared.users += 1
        try:
            yield shared.opened
        finally:
            shared.users -= 1
            await self._close_idle(keep=key)

    async def _stored(
        self, project_id: str, registry_id: str
    ) -> tuple[RegistryRef, RegistryCredential]:
        async with self._database.tenant(project_id) as tx:
            try:
                return await registries.open_registry(
                    tx, project_id, registry_id, seals=self._seals
                )
            except SetupError as error:
                log.warning("sync.secret_sealed", registry=registry_id, error=str(error))
                raise CredentialsNeededError(
                    "the stored secret cannot be opened with the keys of this installation"
                ) from error

    async def _close_idle(self, *, keep: _Key) -> None:
        # The newest stays open for the next unit; others go as soon as nobody reads them.
        idle = [k for k, shared in self._open.items() if not shared.users and k != keep]
        for key in idle:
            await self._open.pop(key).opened.aclose()

    async def aclose(self) -> None:
        while self._open:
            _, shared = self._open.popitem()
            await shared.opened.aclose()


class _Shared:
    def __init__(self, opened: OpenSource) -> None:
        self.opened = opened
        self.users = 0


def _wanted(page: Page[RepositoryRef], wanted: RepositoryFilter) -> Page[RepositoryRef]:
    """Leave out what the registry's configuration does not ask for; the cursor stays."""
    if not wanted:
        return page
    items = tuple(r for r in page.items if wanted.covers(r.namespace, r.name))
    return msgspec.structs.replace(page, items=items)


def _covered(unit: TakenUnit, wanted: RepositoryFilter) -> list[WantedRepository]:
    """Leave out what a filter leaves out that came after the unit was queued."""
    return [r for r in unit.repositories if wanted.covers(r.namespace, r.name)]


def _resumes(staged: StagedListing) -> bool:
    return staged.cursor is not None and staged.cursor.resumable


def _failed(wanted: WantedRepository, error: SourceError) -> FailedRepository:
    log.warning("sync.repository_failed", repository=wanted.id, error=error.code)
    return FailedRepository(wanted=wanted, reason=_named(_reason(error), wanted))


def _reason(error: SourceError) -> Reason:
    return Reason(code=error.code, message=str(error)[:400])


def _internal(error: BaseException) -> Reason:
    return Reason(
        code="internal", message=f"{type(error).__name__} inside Wharfinger; see the worker's log"
    )


def _named(reason: Reason, wanted: WantedRepository) -> Reason:
    path = f"{wanted.namespace}/{wanted.name}" if wanted.namespace else wanted.name
    return msgspec.structs.replace(reason, repository=path)
