"""Where the console's pages are, and which actions open each."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the navigation, offered to whoever may do any of its actions.

    ``key`` says what it is called: ``common.nav_KEY``, and on the page of settings
    ``settings.nav_KEY`` with ``settings.for_KEY``, a sentence of what it is for.
    """

    key: str
    path: str
    actions: tuple[str, ...]

    def is_offered(self, may: Callable[[str], bool]) -> bool:
        """Whether there is anything behind it for somebody who ``may`` do some actions."""
        return any(map(may, self.actions))


_SETTINGS = "/console/settings"
# What the page of settings leads to, in its order.
SETTINGS: tuple[Place, ...] = (
    Place(key="users", path=f"{_SETTINGS}/users", actions=("iam:users:list",)),
    Place(key="credentials", path=f"{_SETTINGS}/credentials", actions=("iam:credentials:list",)),
    Place(key="roles", path=f"{_SETTINGS}/roles", actions=("iam:policies:list",)),
    Place(
        key="enterprise_projects",
        path=f"{_SETTINGS}/enterprise-projects",
        actions=("eps:enterpriseProjects:list",),
    ),
    Place(key="webhooks", path=f"{_SETTINGS}/webhooks", actions=("wharfinger:webhooks:list",)),
    Place(key="schedules", path=f"{_SETTINGS}/schedules", actions=("wharfinger:schedules:list",)),
    Place(key="labels", path=f"{_SETTINGS}/labels", actions=("wharfinger:labels:list",)),
    Place(key="audit", path=f"{_SETTINGS}/audit", actions=("wharfinger:audit:list",)),
)

PLACES = (
    Place(key="overview", path="/console", actions=("hss:imageRegistries:list",)),
    Place(key="registries", path="/console/registries", actions=("hss:imageRegistries:list",)),
    Place(key="images", path="/console/images", actions=("hss:images:list",)),
    Place(key="runs", path="/console/runs", actions=("wharfinger:runs:list",)),
    Place(key="changes", path="/console/changes", actions=("wharfinger:changes:list",)),
    Place(
        key="settings",
        path=_SETTINGS,
        actions=tuple(action for place in SETTINGS for action in place.actions),
    ),
)


def place_of(path: str) -> str:
    """The key of the place that a page belongs to."""
    inside = [p for p in PLACES if path == p.path or path.startswith(f"{p.path}/")]
    return max(inside, key=lambda place: len(place.path)).key if inside else ""
