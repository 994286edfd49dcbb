"""Pages about runs: all of them, the course of each, what failed, and what changed between two."""

from __future__ import annotations

import datetime as dt
import uuid
from urllib.parse import urlencode

from litestar import Response, get
from litestar.params import FromPath

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.history import RunRecord
from wharfinger.domain.model import RunOutcome, RunState
from wharfinger.http.parameters import MAX_INT64, Parameters
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.choices import registry_names
from wharfinger.http.ui.pages import page
from wharfinger.http.ui.plots import durations_plot
from wharfinger.http.ui.visit import TheVisit, Visit

LIST = "wharfinger:runs:list"
SHOW = "wharfinger:runs:get"
OUTCOMES = (
    *(outcome.value for outcome in RunOutcome),
    RunState.QUEUED.value,
    RunState.RUNNING.value,
)
_RUNS, _DIFFERENCES, _REASONS, _OTHERS = 50, 100, 200, 20


@get("/runs", action=LIST)
async def list_runs(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show runs, newest first."""
    query = visit.query.without_blanks()
    registry = query.text("registry_id", longest=64)
    outcome = query.choice("outcome", OUTCOMES)
    found = await services.history.runs(
        visit.caller, registry=registry, outcome=outcome, before=_before(query), limit=_RUNS
    )
    is_newest = query.raw("before") is None
    kept = {"registry_id": registry, "outcome": outcome}
    asked = {name: value for name, value in kept.items() if value is not None}
    return page(
        visit,
        "runs.html",
        found=found.items,
        registry=registry or "",
        outcome=outcome or "",
        outcomes=OUTCOMES,
        registries=await registry_names(visit, services),
        first=None if is_newest else urlencode(asked),
        next=urlencode(asked | {"before": found.next}) if found.next else None,
        durations=await durations_plot(visit, services, registry) if is_newest else None,
    )


def _before(query: Parameters) -> tuple[dt.datetime, str] | None:
    text = query.text("before", longest=100)
    if text is None:
        return None
    moment, _, run = text.partition(" ")
    try:
        queued_at, run_id = dt.datetime.fromisoformat(moment), uuid.UUID(run)
    except ValueError as exc:
        raise InvalidParameterError("before", "must be of the same list") from exc
    if queued_at.tzinfo is None:
        raise InvalidParameterError("before", "must be of the same list")
    return queued_at, str(run_id)


@get("/runs/{run_id:str}", action=SHOW)
async def show_run(visit: TheVisit, services: TheServices, run_id: FromPath[str]) -> Response[str]:
    """Show the course of one run, and what could not be read with what to do about it."""
    run = await services.history.run(visit.caller, run_id)
    return page(
        visit,
        "run.html",
        run=run,
        reasons=run.reasons[:_REASONS],
        more_reasons=max(0, len(run.reasons) - _REASONS),
        others=await _others(visit, services, run),
        waited_s=None if run.started_at is None else _seconds(run.queued_at, run.started_at),
    )


def _seconds(start: dt.datetime, end: dt.datetime) -> float:
    return max(0.0, (end - start).total_seconds())


async def _others(visit: Visit, services: Services, run: RunRecord) -> list[RunRecord]:
    """Runs of the registry that ended before a run, the newest first."""
    found = await services.history.runs(
        visit.caller, registry=run.registry_id, before=(run.queued_at, run.id), limit=_OTHERS
    )
    return [one for one in found.items if one.finished_seq is not None]


@get("/runs/{run_id:str}/differences", action=SHOW)
async def show_differences(
    visit: TheVisit, services: TheServices, run_id: FromPath[str]
) -> Response[str]:
    """Show what changed since another run of the registry: the one before, unless one is named."""
    query = visit.query.without_blanks()
    run = await services.history.run(visit.caller, run_id)
    others = await _others(visit, services, run)
    since = query.text("since", longest=64) or next((one.id for one in others), None)
    after = query.integer("after", smallest=0, largest=MAX_INT64) or 0
    found = None
    if since is not None:
        found = await services.history.diff(
            visit.caller, since, run.id, after=after, limit=_DIFFERENCES
        )
    more = found.next if found is not None else None
    return page(
        visit,
        "differences.html",
        run=run,
        others=others,
        since=since or "",
        found=found,
        first=urlencode({"since": since}) if after else None,
        next=urlencode({"since": since, "after": more}) if more else None,
    )
