"""The library that draws plots, as we use it: colours for light and dark, and nothing that runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

# What runs, what is for those who run it (hints beside each point), and the day of the drawing.
_NEEDLESS = re.compile(
    rb"<script\b.*?(?:/>|</script>)|<desc\b.*?(?:/>|</desc>)|<!--.*?-->", re.DOTALL
)
_LONG_FRACTION = re.compile(rb"(\d+\.\d)\d{2,}")


class Colours(msgspec.Struct, frozen=True, kw_only=True):
    """Of text, of the lines behind a plot, and of what is plotted, by what it stands for."""

    text: str
    lines: str
    marks: Mapping[str, str]


# On white, and on near black.
THEMES: Mapping[str, Colours] = {
    "light": Colours(
        text="#1b2733",
        lines="#c9d2da",
        marks={
            "main": "#0b62a8",
            "good": "#2d7a33",
            "warm": "#b4540a",
            "odd": "#8a2f6d",
            "bad": "#a3261b",
            "plain": "#5f6f7d",
            "teal": "#0f766e",
            "gold": "#8a6d00",
        },
    ),
    "dark": Colours(
        text="#e4eaf0",
        lines="#44515e",
        marks={
            "main": "#6cb6f5",
            "good": "#79c77f",
            "warm": "#f0a35c",
            "odd": "#e08cc6",
            "bad": "#ff9d93",
            "plain": "#97a5b2",
            "teal": "#5fd3c6",
            "gold": "#d8c04a",
        },
    ),
}


@cache
def charts() -> tuple[Any, Any]:
    """The library and its styles: a tenth of a second, for those who look at plots."""
    import pygal  # type: ignore[import-untyped]  # noqa: PLC0415 - see above
    from pygal.style import Style  # type: ignore[import-untyped]  # noqa: PLC0415 - see above

    # It leaves a finder of plugins that Python 3.11 warns of whenever an import fails.
    # That one alone goes: what it imports leaves another, by which installed packages are found.
    sys.meta_path[:] = [one for one in sys.meta_path if type(one).__module__ != pygal.__name__]
    return pygal, Style


def chart(kind: str, colours: Colours, marks: Sequence[str], **options: Any) -> Any:
    """A plot of one of the library's kinds that is still empty; ``marks`` name its colours."""
    pygal, style_of = charts()
    style = style_of(
        background="transparent",
        plot_background="transparent",
        foreground=colours.text,
        foreground_strong=colours.text,
        foreground_subtle=colours.lines,
        guide_stroke_color=colours.lines,
        major_guide_stroke_color=colours.lines,
        colors=tuple(colours.marks[mark] for mark in marks),
        opacity=".85",
        font_family="sans-serif",
        label_font_size=13,
        major_label_font_size=13,
        legend_font_size=13,
        title_font_size=15,
        no_data_font_size=18,
    )
    usual = {
        "js": (),
        "margin": 6,
        "dots_size": 3,
        "truncate_label": -1,
        "truncate_legend": -1,
        "legend_at_bottom": True,
        "legend_box_size": 10,
        "no_prefix": True,
        "disable_xml_declaration": False,
    }
    return getattr(pygal, kind)(style=style, **{**usual, **options})


def rendered(plot: Any) -> bytes:
    """The picture: equal figures give equal bytes, and a tenth of a point is exact enough.

    It cannot run scripts, and what cannot be run need not be sent.
    """
    plot.uuid = "plot"
    return _LONG_FRACTION.sub(rb"\1", _NEEDLESS.sub(b"", plot.render()))
