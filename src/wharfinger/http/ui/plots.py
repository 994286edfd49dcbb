"""Plots as pictures of their own; the same figures stand in a table beside each."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from litestar import Response, get

from wharfinger.http.services import TheServices
from wharfinger.http.ui.visit import TheVisit

GROWTH_DAYS = 30
# Text, lines behind it, and the colours of what is plotted: on white, and on near black.
_COLOURS = {
    "light": ("#1b2733", "#c9d2da", ("#0b62a8", "#b4540a", "#2d7a33", "#8a2f6d", "#5b5b5b")),
    "dark": ("#e4eaf0", "#44515e", ("#6cb6f5", "#f0a35c", "#79c77f", "#e08cc6", "#b5b5b5")),
}
_SCRIPT = re.compile(rb"<script\b.*?(?:/>|</script>)", re.DOTALL)


@get("/plots/growth.svg", action="hss:imageRegistries:list")
async def show_growth(visit: TheVisit, services: TheServices) -> Response[bytes]:
    """Draw how many images there were, day by day."""
    days = await services.overview.growth(visit.caller, days=GROWTH_DAYS, zone=visit.zone)
    title = visit.words("overview.growth")
    points = {title: [day.images for day in days]}
    return drawn("Line", [f"{day.day:%m-%d}" for day in days], points, visit=visit)


def drawn(
    kind: str, labels: Sequence[str], series: Mapping[str, Sequence[Any]], *, visit: TheVisit
) -> Response[bytes]:
    """Draw a plot: one of pygal's kinds, what stands below it, and named rows of figures."""
    theme = visit.query.raw("theme") or "light"
    plot = _plot(kind, _COLOURS.get(theme, _COLOURS["light"]))
    plot.x_labels = labels
    plot.show_legend = len(series) > 1
    for name, values in series.items():
        plot.add(name, values)
    # A picture cannot run scripts, and what cannot be run need not be sent.
    svg = _SCRIPT.sub(b"", plot.render())
    headers = {"Cache-Control": "no-store", "Vary": "Cookie"}
    return Response(svg, media_type="image/svg+xml", headers=headers)


@cache
def _charts() -> tuple[Any, Any]:
    """The library and its styles: a tenth of a second, for those who look at plots."""
    import pygal  # type: ignore[import-untyped]  # noqa: PLC0415 - see above
    from pygal.style import Style  # type: ignore[import-untyped]  # noqa: PLC0415 - see above

    # It leaves a finder of plugins that Python 3.11 warns of whenever an import fails.
    # That one alone goes: what it imports leaves another, by which installed packages are found.
    sys.meta_path[:] = [one for one in sys.meta_path if type(one).__module__ != pygal.__name__]
    return pygal, Style


def _plot(kind: str, colours: tuple[str, str, Sequence[str]]) -> Any:
    pygal, style_of = _charts()
    text, lines, drawn_in = colours
    style = style_of(
        background="transparent",
        plot_background="transparent",
        foreground=text,
        foreground_strong=text,
        foreground_subtle=lines,
        colors=drawn_in,
        font_family="sans-serif",
        label_font_size=13,
        major_label_font_size=13,
        legend_font_size=13,
    )
    return getattr(pygal, kind)(
        style=style,
        js=(),
        width=760,
        height=260,
        margin=6,
        dots_size=3,
        include_x_axis=True,
        x_label_rotation=0,
        x_labels_major_count=8,
        show_minor_x_labels=False,
        truncate_label=-1,
        formatter=lambda value: f"{value:,.0f}",
        no_prefix=True,
        disable_xml_declaration=False,
    )
