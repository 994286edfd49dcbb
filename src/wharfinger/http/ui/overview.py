"""The first page: how everything stands, and what needs attention."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import Response, get

from wharfinger.domain.model import VerdictState
from wharfinger.domain.overview import Standing
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.pages import page
from wharfinger.http.ui.plots import CHANGES, Plot, changes_plot, growth_plot, share_plot
from wharfinger.http.ui.visit import TheVisit, Visit
from wharfinger.service.overview import by_urgency

_MOST_URGENT = 20


@get("/", action="hss:imageRegistries:list")
async def show_overview(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show registries by verdict, images, what has changed, and what to look at."""
    found = await services.overview.standings(visit.caller)
    urgent = by_urgency(found)
    return page(
        visit,
        "overview.html",
        registries=found,
        verdicts={v: sum(one.verdict is v for one in found) for v in VerdictState},
        images=sum(one.images for one in found),
        held=sum(one.held for one in found),
        running=sum(one.run_id is not None for one in found),
        paused=sum(one.paused_at is not None for one in found),
        urgent=urgent[:_MOST_URGENT],
        more_urgent=max(0, len(urgent) - _MOST_URGENT),
        changed=await services.overview.changed_today(visit.caller),
        plots=await _plots(visit, services, found) if found else [],
    )


async def _plots(visit: Visit, services: Services, found: Sequence[Standing]) -> list[Plot]:
    plots = [await growth_plot(visit, services), share_plot(visit, found)]
    if visit.may(CHANGES):
        plots.insert(1, await changes_plot(visit, services))
    return plots
