"""What was, and what has changed: the feed, past lists, lives of images, runs, retention."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

from wharfinger.domain.errors import InvalidParameterError, NotFoundError
from wharfinger.domain.history import (
    ChangeFilter,
    Changes,
    Differences,
    Life,
    Moment,
    PastFilter,
    PastImages,
    RecentChanges,
    RegistryVerdict,
    RegistryVerdicts,
    RunRecord,
    RunRecords,
)
from wharfinger.domain.model import OURSELVES, Caller, VerdictState
from wharfinger.store import audit, history
from wharfinger.store.database import Connection, Database
from wharfinger.store.reading import together

# Events that are forgotten in one transaction.
PRUNE_AT_ONCE = 20_000
# Numbers that one page of the newest events goes through, however few of them are asked for.
LOOKED_THROUGH = 20_000


class History:
    """Answers about the past of a project. ``days`` is how long it is kept, 0 for ever."""

    def __init__(self, database: Database, *, days: int) -> None:
        self._database = database
        self._days = days

    async def changes(self, caller: Caller, *, after: int, limit: int) -> Changes:
        """Everything since a number, tombstones included. ``next`` is ``None`` at the end.

        Raises:
            InvalidParameterError: ``after`` is larger than the newest number.
            HistoryForgottenError: some of what follows ``after`` is forgotten.
        """
        async with self._database.tenant(caller.project_id) as tx:
            # The newest number first: numbers are given in the order of commits, so that all
            # events up to it can be seen.
            feed = await history.feed_of(tx, caller)
            if after > feed.newest:
                raise InvalidParameterError(
                    "after", f"must be at most {feed.newest}, the newest number"
                )
            found = await history.changes(tx, caller, after=after, newest=feed.newest, limit=limit)
            await history.check_horizon(tx, caller, after)
            verdict = await _verdict_now(tx, caller)
        more = len(found) == limit and found[-1].seq < feed.newest
        return Changes(
            items=found,
            next=str(found[-1].seq) if more else None,
            as_of=feed.newest,
            verdict=verdict,
        )

    async def recent_changes(
        self, caller: Caller, wanted: ChangeFilter, *, before: int | None, limit: int
    ) -> RecentChanges:
        """The newest events with numbers below ``before``; ``next`` is the next page's ``before``.

        Raises:
            InvalidParameterError: the registry of the filter is no id.
        """
        if wanted.registry is not None and not _is_uuid(wanted.registry):
            raise InvalidParameterError("registry_id", "must be the id of a registry")
        async with self._database.tenant(caller.project_id) as tx:
            feed = await history.feed_of(tx, caller)
            below = feed.newest + 1 if before is None else min(before, feed.newest + 1)
            low = max(below - 1 - LOOKED_THROUGH, feed.horizon_seq)
            found = await history.recent_changes(
                tx, caller, wanted, low=low, before=below, limit=limit
            )
            verdict = await _verdict_now(tx, caller)
        if len(found) == limit:
            low = found[-1].seq - 1
        more = low > feed.horizon_seq
        return RecentChanges(
            items=found,
            low=low,
            next=str(low + 1) if more else None,
            as_of=feed.newest,
            verdict=verdict,
        )

    async def moment(
        self, caller: Caller, *, at: dt.datetime | None = None, seq: int | None = None
    ) -> Moment:
        """The moment of a time or of an event number.

        Raises:
            InvalidParameterError: it lies in the future.
            HistoryForgottenError: it lies before the retention horizon.
        """
        if seq is not None:
            async with self._database.tenant(caller.project_id) as tx:
                return await history.moment_of(tx, caller, seq)
        if at is None or at > dt.datetime.now(dt.UTC):
            raise InvalidParameterError("at", "must not lie in the future")
        ask = self._database.asking(caller.project_id)
        return await history.moment_at(ask, caller, at)

    async def images(
        self, caller: Caller, moment: Moment, wanted: PastFilter, *, after: int, limit: int
    ) -> PastImages:
        """The list as it was known at a moment, with the verdicts of then.

        Raises:
            HistoryForgottenError: the moment lies before the retention horizon.
        """
        found, registries = await history.list_as_of(
            self._database.asking(caller.project_id),
            caller,
            moment,
            wanted,
            after=after,
            limit=limit,
        )
        asked_about = [
            r
            for r in registries
            if wanted.registry in {None, r.name} and wanted.kind in {None, r.kind}
        ]
        return PastImages(
            items=found,
            next=str(found[-1].id) if len(found) == limit else None,
            as_of=moment.seq,
            at=moment.at,
            verdict=_together(asked_about),
            registries=tuple(asked_about),
        )

    async def life(self, caller: Caller, image: int) -> Life:
        """The life of one image, digest by digest, with the runs that saw it.

        Raises:
            NotFoundError: there never was one of that id.
        """
        async with self._database.tenant(caller.project_id) as tx:
            return await history.life_of(tx, caller, image)

    async def life_of_tag(self, caller: Caller, *, registry: str, path: str, tag: str) -> Life:
        """The life of one tag of a repository given by its path.

        Raises:
            NotFoundError: it was never seen.
        """
        async with self._database.tenant(caller.project_id) as tx:
            image = await history.find_image(tx, caller, registry=registry, path=path, tag=tag)
            return await history.life_of(tx, caller, image)

    async def runs(
        self,
        caller: Caller,
        *,
        registry: str | None = None,
        outcome: str | None = None,
        before: tuple[dt.datetime, str] | None = None,
        limit: int,
    ) -> RunRecords:
        """Runs, newest first; ``before`` is (queued at, id) of the last one that was seen.

        ``outcome`` is how they ended, or the state of those that have not.
        """
        if registry is not None and not _is_uuid(registry):
            raise InvalidParameterError("registry_id", "must be the id of a registry")
        async with self._database.tenant(caller.project_id) as tx:
            found = await history.runs(
                tx, caller, registry=registry, outcome=outcome, before=before, limit=limit
            )
            feed = await history.feed_of(tx, caller)
            verdict = await _verdict_now(tx, caller)
        last = found[-1] if len(found) == limit else None
        return RunRecords(
            items=found,
            next=None if last is None else f"{last.queued_at.isoformat()} {last.id}",
            as_of=feed.newest,
            verdict=verdict,
        )

    async def run(self, caller: Caller, run_id: str) -> RunRecord:
        """One run.

        Raises:
            NotFoundError: there is none, or it is forgotten.
        """
        async with self._database.tenant(caller.project_id) as tx:
            return await _run(tx, caller, run_id)

    async def diff(
        self, caller: Caller, run_a: str, run_b: str, *, after: int, limit: int
    ) -> Differences:
        """What changed in a registry from the end of one run to the end of another.

        Raises:
            NotFoundError: a run does not exist.
            InvalidParameterError: they are of two registries, or one has not finished.
            HistoryForgottenError: some of what lies between is forgotten.
        """
        async with self._database.tenant(caller.project_id) as tx:
            a, b = await _run(tx, caller, run_a), await _run(tx, caller, run_b)
            span = _finished(a), _finished(b)
            if a.registry_id != b.registry_id:
                raise InvalidParameterError("run", "both must be runs of one registry")
            found = await history.differences(
                tx, caller, a.registry_id, span, after=after, limit=limit
            )
            await history.check_horizon(tx, caller, min(span))
            verdict = await _verdict_now(tx, caller)
        return Differences(
            items=found,
            next=str(found[-1].id) if len(found) == limit else None,
            as_of=span[1],
            verdict=verdict,
        )

    async def registries(self, caller: Caller) -> RegistryVerdicts:
        """Every registry with its verdict, the reasons, and what the last run cost."""
        async with self._database.tenant(caller.project_id) as tx:
            feed = await history.feed_of(tx, caller)
            found = await history.verdicts_now(tx, caller)
        return RegistryVerdicts(items=found, next=None, as_of=feed.newest, verdict=_together(found))

    async def prune(
        self, project_id: str, *, only_if_due: bool = False, by: Caller = OURSELVES
    ) -> int:
        """Forget what is older than the policy keeps; returns how many events.

        The current list is never touched: states that hold, and rows that are listed, stay.
        """
        if not self._days:
            return 0
        before = dt.datetime.now(dt.UTC) - dt.timedelta(days=self._days)
        if only_if_due:
            async with self._database.tenant(project_id) as tx:
                if not await history.is_due(tx, project_id):
                    return 0
        forgotten = 0
        while True:
            async with self._database.tenant(project_id) as tx:
                events = await history.prune(tx, before, most=PRUNE_AT_ONCE)
            forgotten += events
            if not events:
                break
        async with self._database.tenant(project_id) as tx:
            await history.prune_runs(tx, before)
            if forgotten or not only_if_due:
                await audit.record(
                    tx,
                    by,
                    "history.prune",
                    target=f"project {project_id}",
                    details={"forgotten": forgotten},
                )
        return forgotten


async def _run(tx: Connection, caller: Caller, run_id: str) -> RunRecord:
    if _is_uuid(run_id):
        found = await history.runs(tx, caller, run=run_id)
        if found:
            return found[0]
    raise NotFoundError(f"run_id: there is no run {run_id}")


def _finished(run: RunRecord) -> int:
    if run.finished_seq is None:
        raise InvalidParameterError("run", f"{run.id} must have finished")
    return run.finished_seq


async def _verdict_now(tx: Connection, caller: Caller) -> VerdictState:
    return _together(await history.verdicts_now(tx, caller))


def _together(registries: Sequence[RegistryVerdict]) -> VerdictState:
    return together(r.verdict for r in registries)


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
