"""The page of changes: the feed, the newest first, looked at again while it is open."""

from __future__ import annotations

from urllib.parse import urlencode

from litestar import Response, get

from wharfinger.domain.history import ChangeFilter
from wharfinger.domain.model import ChangeKind
from wharfinger.http.parameters import MAX_INT64
from wharfinger.http.services import TheServices
from wharfinger.http.ui.choices import registry_names
from wharfinger.http.ui.pages import page
from wharfinger.http.ui.plots import changes_plot
from wharfinger.http.ui.visit import TheVisit

KINDS = tuple(kind.value for kind in ChangeKind)
_CHANGES = 50


@get("/changes", action="wharfinger:changes:list")
async def list_changes(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show what changed, the newest first, with the number that each event has."""
    query = visit.query.without_blanks()
    wanted = ChangeFilter(
        registry=query.text("registry_id", longest=64), kind=query.choice("what", KINDS)
    )
    before = query.integer("before", smallest=0, largest=MAX_INT64)
    found = await services.history.recent_changes(
        visit.caller, wanted, before=before, limit=_CHANGES
    )
    kept = {"registry_id": wanted.registry, "what": wanted.kind}
    asked = {name: value for name, value in kept.items() if value is not None}
    return page(
        visit,
        "changes.html",
        found=found,
        registry=wanted.registry or "",
        what=wanted.kind or "",
        kinds=KINDS,
        registries=await registry_names(visit, services),
        is_newest=before is None,
        by_day=await changes_plot(visit, services, wanted.registry) if before is None else None,
        first=urlencode(asked),
        next=urlencode(asked | {"before": found.next}) if found.next else None,
    )
