"""The page of settings, which leads to all others of them."""

from __future__ import annotations

from litestar import Response, get

from wharfinger.http.ui.navigation import SETTINGS
from wharfinger.http.ui.pages import page
from wharfinger.http.ui.visit import OF_ONESELF, TheVisit


@get("/settings", action=OF_ONESELF)
async def show_settings(visit: TheVisit) -> Response[str]:
    """Show what can be set here by whoever is signed in."""
    offered = [place for place in SETTINGS if place.is_offered(visit.may)]
    return page(visit, "settings.html", offered=offered)
