"""Makes the report of a run out of history."""

from __future__ import annotations

from wharfinger.domain.advice import advised
from wharfinger.domain.errors import HistoryForgottenError, InvalidParameterError, NotFoundError
from wharfinger.domain.history import Difference, RunRecord
from wharfinger.domain.model import Caller
from wharfinger.domain.report import MOST_CHANGES, MOST_FAILURES, RunReport, verdict_of
from wharfinger.service.history import History

LATEST = "latest"
# A run that is open may be the newest; of a registry there are two at most.
_LOOK_BACK = 200


async def report_of(
    history: History, caller: Caller, run_id: str, *, registry: str | None = None
) -> RunReport:
    """The report of one run, or of the one that ended last.

    Args:
        history: where it is looked up.
        caller: on whose behalf.
        run_id: which, or ``latest``.
        registry: the id of the registry whose latest run is meant.

    Raises:
        NotFoundError: there is no such run.
    """
    if run_id == LATEST:
        run = await _latest(history, caller, registry)
    else:
        run = await history.run(caller, run_id)
    before = await _before(history, caller, run)
    changes, more = await _changes(history, caller, before, run)
    failures = tuple(advised(reason) for reason in run.reasons)
    return RunReport(
        run=run,
        verdict=verdict_of(run),
        compared_with=None if changes is None or before is None else before.id,
        changes=changes or (),
        more_changes=more,
        failures=failures[:MOST_FAILURES],
        more_failures=max(0, len(failures) - MOST_FAILURES),
        what_to_do=tuple(dict.fromkeys(one.advice for one in failures)),
    )


async def _latest(history: History, caller: Caller, registry: str | None) -> RunRecord:
    found = await history.runs(caller, registry=registry, limit=_LOOK_BACK)
    ended = [run for run in found.items if run.finished_at is not None]
    if not ended:
        raise NotFoundError("run_id: no run has ended yet")
    return max(ended, key=lambda run: (run.finished_at, run.queued_at))


async def _before(history: History, caller: Caller, run: RunRecord) -> RunRecord | None:
    if run.finished_seq is None:
        return None
    found = await history.runs(
        caller, registry=run.registry_id, before=(run.queued_at, run.id), limit=1
    )
    return next(iter(found.items), None)


async def _changes(
    history: History, caller: Caller, before: RunRecord | None, run: RunRecord
) -> tuple[tuple[Difference, ...] | None, bool]:
    if before is None:
        return None, False
    try:
        found = await history.diff(caller, before.id, run.id, after=0, limit=MOST_CHANGES)
    except (HistoryForgottenError, InvalidParameterError):
        # What lies between is forgotten, or the run before never ended.
        return None, False
    return tuple(found.items), found.next is not None
