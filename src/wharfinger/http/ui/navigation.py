"""Where the console's pages are, and which action each needs to be offered at all."""

from __future__ import annotations

import msgspec


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the navigation; ``key`` says what it is called: ``common.nav_KEY``."""

    key: str
    path: str
    action: str


PLACES = (
    Place(key="overview", path="/console", action="hss:imageRegistries:list"),
    Place(key="registries", path="/console/registries", action="hss:imageRegistries:list"),
    Place(key="images", path="/console/images", action="hss:images:list"),
    Place(key="runs", path="/console/runs", action="wharfinger:runs:list"),
    Place(key="changes", path="/console/changes", action="wharfinger:changes:list"),
)


def place_of(path: str) -> str:
    """The key of the place that a page belongs to."""
    inside = [p for p in PLACES if path == p.path or path.startswith(f"{p.path}/")]
    return max(inside, key=lambda place: len(place.path)).key if inside else ""
