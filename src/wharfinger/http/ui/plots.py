"""Plots as pictures of their own; the same figures stand in a table beside each."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import zoneinfo
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec
from litestar import Response, get

from wharfinger.domain.model import RunOutcome
from wharfinger.domain.overview import Standing, Took
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui import charting
from wharfinger.http.ui.visit import TheVisit, Visit

GROWTH_DAYS = CHANGE_DAYS = 30
REGISTRIES = "hss:imageRegistries:list"
CHANGES = "wharfinger:changes:list"
RUNS = "wharfinger:runs:list"
_SHARES, _RUNS, _SLOWEST = 10, 30, 10
_WIDTHS = {"wide": 620, "narrow": 350}
_HEIGHT, _BAR, _AROUND_BARS = 260, 24, 50
_YEAR = len("2026-")
# A day is cut that has more than so many times what is drawn of it: so many busy days.
_CUT_FROM, _CUT_TO = 4, 3
_MARKS_OF_CHANGES = {"added": "good", "moved": "main", "retired": "warm", "restored": "odd"}
_MARKS_OF_OUTCOMES = {
    RunOutcome.COMPLETE: "good",
    RunOutcome.HELD: "warm",
    RunOutcome.PARTIAL: "odd",
    RunOutcome.FAILED: "bad",
}


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn and what stands in the table: both are made of it.

    ``series`` are rows of figures by what they are called, ``marks`` their colours; ``beside`` are
    columns that only the table has. ``text`` is for those who see no picture. Of a label, the
    picture has what follows the first ``leaves_out`` characters. ``cut`` are bars that would make
    all others invisible, by their place, with the part of them that is drawn; ``note`` says so.
    """

    name: str
    path: str
    kind: str
    title: str
    text: str
    head: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    marks: Sequence[str]
    beside: Mapping[str, Sequence[str]] = {}
    decimals: int = 0
    leaves_out: int = 0
    cut: Mapping[int, float] = {}
    note: str = ""

    @property
    def columns(self) -> list[str]:
        """What stands above the table, without what stands above the labels."""
        return [*self.series, *self.beside]

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The table: of times the newest first, for that is what people look for."""
        columns = [[self._told(v) for v in values] for values in self.series.values()]
        columns += [list(values) for values in self.beside.values()]
        found = [(label, [cells[n] for cells in columns]) for n, label in enumerate(self.labels)]
        return found if self.kind == "HorizontalBar" else found[::-1]

    @property
    def scale(self) -> list[float]:
        """Round figures from nothing to the most that is drawn, four or so."""
        tops = [sum(v or 0 for v in column) for column in zip(*self.drawn.values(), strict=True)]
        most = max(tops, default=0) or 1
        size = 10 ** math.floor(math.log10(most / 4))
        step = next(n * size for n in (1, 2, 2.5, 5, 10) if n * size >= most / 4)
        return [n * step for n in range(math.ceil(most / step) + 1)]

    @property
    def ticks(self) -> list[str]:
        """The labels as the picture has them."""
        return [label[self.leaves_out :] for label in self.labels]

    @property
    def drawn(self) -> dict[str, list[float | None]]:
        """The figures as the picture has them."""
        return {
            name: [v if v is None else v * self.cut.get(n, 1) for n, v in enumerate(values)]
            for name, values in self.series.items()
        }

    @property
    def height(self) -> int:
        """Bars that lie keep their thickness, however few there are."""
        if self.kind != "HorizontalBar":
            return _HEIGHT
        return min(_HEIGHT, _AROUND_BARS + _BAR * len(self.labels))

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Width and height, for wide and for narrow windows."""
        return {name: (width, self.height) for name, width in _WIDTHS.items()}

    def _told(self, value: float | None) -> str:
        return "" if value is None else f"{value:,.{self.decimals}f}"


# --- the plots there are --------------------------------------------------------------------------


async def growth_plot(visit: Visit, services: Services) -> Plot:
    """How many images there were, day by day."""
    days = await services.overview.growth(visit.caller, days=GROWTH_DAYS, zone=visit.zone)
    return Plot(
        name="growth",
        path="/console/plots/growth.svg",
        kind="Line",
        title=visit.words("overview.growth"),
        text=visit.words(
            "overview.growth_text",
            days=len(days),
            first=f"{days[0].images:,}",
            last=f"{days[-1].images:,}",
        ),
        head=visit.words("common.day"),
        labels=[f"{day.day}" for day in days],
        leaves_out=_YEAR,
        series={visit.words("common.images"): [day.images for day in days]},
        marks=["main"],
    )


def share_plot(visit: Visit, found: Sequence[Standing]) -> Plot:
    """How the images are spread over the registries: the largest ones, and the rest in one."""
    named = [(one.name, one.images) for one in sorted(found, key=lambda one: -one.images)]
    if rest := named[_SHARES:]:
        named[_SHARES:] = [
            (visit.words("overview.others", count=len(rest)), sum(n for _, n in rest))
        ]
    total = sum(images for _, images in named)
    name, most = named[0] if named else ("", 0)
    return Plot(
        name="share",
        path="/console/plots/share.svg",
        kind="HorizontalBar",
        title=visit.words("overview.share"),
        text=visit.words("overview.share_text", name=name, images=f"{most:,}", total=f"{total:,}"),
        head=visit.words("images.registry"),
        labels=[name for name, _ in named],
        series={visit.words("common.images"): [images for _, images in named]},
        marks=["main"],
        beside={visit.words("overview.share_of"): [f"{n / max(1, total):.1%}" for _, n in named]},
    )


async def changes_plot(visit: Visit, services: Services, registry: str | None = None) -> Plot:
    """What runs have changed, day by day: of all registries, or of one."""
    days = await services.overview.changes_by_day(
        visit.caller, days=CHANGE_DAYS, zone=visit.zone, registry=registry
    )
    sums = {name: sum(getattr(day, name) for day in days) for name in _MARKS_OF_CHANGES}
    totals = [sum(getattr(day, name) for name in _MARKS_OF_CHANGES) for day in days]
    cut = _cut(totals)
    told = ", ".join(f"{days[n].day}: {totals[n]:,}" for n in cut)
    return Plot(
        name="by-day",
        path=_asked_of("/console/plots/changes.svg", registry),
        kind="StackedBar",
        title=visit.words("changes.by_day"),
        text=visit.words(
            "changes.by_day_text", days=len(days), **{name: f"{n:,}" for name, n in sums.items()}
        ),
        head=visit.words("common.day"),
        labels=[f"{day.day}" for day in days],
        leaves_out=_YEAR,
        series={
            visit.words(f"common.{name}"): [getattr(day, name) for day in days]
            for name in _MARKS_OF_CHANGES
        },
        marks=list(_MARKS_OF_CHANGES.values()),
        cut=cut,
        note=visit.words("changes.cut", days=told) if cut else "",
    )


def _cut(totals: Sequence[int]) -> dict[int, float]:
    """Days that are drawn as a part of what they are: a first sync has more than years after it."""
    busy = sorted(total for total in totals if total)
    if not busy:
        return {}
    usual = _CUT_TO * busy[int(0.8 * (len(busy) - 1))]
    return {n: usual / total for n, total in enumerate(totals) if total > _CUT_FROM * usual}


async def durations_plot(
    visit: Visit, services: Services, registry: str | None = None
) -> Plot | None:
    """How long the last syncs of a registry took; without one, the last sync of each."""
    if registry is None:
        return _slowest(visit, await services.overview.slowest(visit.caller, limit=_SLOWEST))
    return _durations(visit, await services.overview.took(visit.caller, registry, limit=_RUNS))


def _durations(visit: Visit, found: Sequence[Took]) -> Plot | None:
    if not found:
        return None
    zone = zoneinfo.ZoneInfo(visit.zone)
    outcomes = [outcome for outcome in RunOutcome if any(one.outcome is outcome for one in found)]
    return Plot(
        name="durations",
        path=_asked_of("/console/plots/durations.svg", found[0].registry_id),
        kind="StackedBar",
        title=visit.words("runs.durations"),
        text=visit.words("runs.durations_text", **_between(found)),
        head=visit.words("runs.started"),
        labels=[_minute(one.started_at, zone) for one in found],
        leaves_out=_YEAR,
        # Whatever a run came to, there is one bar of it.
        series={
            visit.words(f"registries.run_{outcome}"): [
                one.seconds if one.outcome is outcome else None for one in found
            ]
            for outcome in outcomes
        },
        marks=[_MARKS_OF_OUTCOMES[outcome] for outcome in outcomes],
        decimals=1,
    )


def _slowest(visit: Visit, found: Sequence[Took]) -> Plot | None:
    if not found:
        return None
    return Plot(
        name="durations",
        path="/console/plots/durations.svg",
        kind="HorizontalBar",
        title=visit.words("runs.slowest"),
        text=visit.words("runs.slowest_text", name=found[0].registry, **_between(found)),
        head=visit.words("images.registry"),
        labels=[one.registry for one in found],
        series={visit.words("runs.in_seconds"): [one.seconds for one in found]},
        marks=["main"],
        beside={
            visit.words("runs.outcome"): [
                visit.words(f"registries.run_{one.outcome}") for one in found
            ]
        },
        decimals=1,
    )


def _between(found: Sequence[Took]) -> dict[str, object]:
    seconds = [one.seconds for one in found]
    return {"count": len(found), "least": f"{min(seconds):,.1f}", "most": f"{max(seconds):,.1f}"}


def _minute(moment: dt.datetime, zone: dt.tzinfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}"


def _asked_of(path: str, registry: str | None) -> str:
    return path if registry is None else f"{path}?{urlencode({'registry_id': registry})}"


# --- the pictures ---------------------------------------------------------------------------------


@get("/plots/growth.svg", action=REGISTRIES)
async def show_growth(visit: TheVisit, services: TheServices) -> Response[bytes]:
    """Draw how many images there were, day by day."""
    return await _drawn(await growth_plot(visit, services), visit)


@get("/plots/share.svg", action=REGISTRIES)
async def show_share(visit: TheVisit, services: TheServices) -> Response[bytes]:
    """Draw how the images are spread over the registries."""
    return await _drawn(share_plot(visit, await services.overview.standings(visit.caller)), visit)


@get("/plots/changes.svg", action=CHANGES)
async def show_changes_by_day(visit: TheVisit, services: TheServices) -> Response[bytes]:
    """Draw what runs have changed, day by day."""
    return await _drawn(await changes_plot(visit, services, _registry_of(visit)), visit)


@get("/plots/durations.svg", action=RUNS)
async def show_durations(visit: TheVisit, services: TheServices) -> Response[bytes]:
    """Draw how long syncs took."""
    return await _drawn(await durations_plot(visit, services, _registry_of(visit)), visit)


def _registry_of(visit: Visit) -> str | None:
    return visit.query.without_blanks().text("registry_id", longest=64)


async def _drawn(plot: Plot | None, visit: Visit) -> Response[bytes]:
    theme = charting.THEMES.get(visit.query.raw("theme") or "", charting.THEMES["light"])
    size = "narrow" if visit.query.raw("size") == "narrow" else "wide"
    nothing = visit.words("common.nothing")
    # It takes as long as a hundred pages do: others are answered meanwhile.
    svg = await asyncio.to_thread(_svg, plot, theme, size, nothing)
    headers = {"Cache-Control": "no-store", "Vary": "Cookie"}
    return Response(svg, media_type="image/svg+xml", headers=headers)


def _svg(plot: Plot | None, colours: charting.Colours, size: str, nothing: str) -> bytes:
    kind, marks = ("Line", ["main"]) if plot is None else (plot.kind, plot.marks)
    narrow, lies = size == "narrow", kind == "HorizontalBar"
    decimals = 0 if plot is None else plot.decimals
    picture = charting.chart(
        kind,
        colours,
        marks,
        width=_WIDTHS[size],
        height=_HEIGHT if plot is None else plot.height,
        include_x_axis=True,
        show_minor_x_labels=lies,
        x_labels_major_count=None if lies else 3 if narrow else 5,
        truncate_label=(14 if narrow else 24) if lies else -1,
        legend_at_bottom_columns=2 if narrow else 4,
        show_legend=plot is not None and len(plot.series) > 1,
        no_data_text=nothing,
        value_formatter=lambda value: f"{value:,.{decimals}f}" if value % 1 else f"{value:,.0f}",
        margin_right=24,
    )
    # What lies is drawn from the bottom up.
    turn = -1 if lies else 1
    picture.x_labels = [] if plot is None else plot.ticks[::turn]
    if plot is not None:
        picture.y_labels = plot.scale
    for name, values in plot.drawn.items() if plot is not None else ():
        picture.add(name, values[::turn])
    return charting.rendered(picture)
