"""The first page: how everything stands, and what needs attention."""

from __future__ import annotations

from litestar import Response, get

from wharfinger.domain.model import VerdictState
from wharfinger.http.services import TheServices
from wharfinger.http.ui.pages import page
from wharfinger.http.ui.plots import GROWTH_DAYS
from wharfinger.http.ui.visit import TheVisit
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
        growth=await services.overview.growth(visit.caller, days=GROWTH_DAYS, zone=visit.zone),
    )
