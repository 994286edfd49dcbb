"""``python -m bench.plots``: draws the last measurements for the documentation.

Growth is drawn from what ``bench.growth`` wrote, on logarithmic axes, where what grows like the
images is a straight line with the slope of the dotted one; a sync's course from what
``bench.timeline`` wrote. Each picture knows light and dark.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wharfinger.http.ui import charting

RESULTS = Path(__file__).parent / "results"
PICTURES = Path(__file__).parents[1] / "docs" / "img"
WIDTH, HEIGHT = 460, 320
CASES = {"first": "first sync", "unchanged": "nothing changed", "changed": "1 % changed"}
# The library asks for a width where the line's own rule outweighs it.
_WIDTHS_OF_SERIES = re.compile(rb"\.series(\.serie-\d+)\{stroke-width")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is drawn against the number of images."""

    title: str
    of: Callable[[Mapping[str, Any]], float]


MEASURES = {
    "growth-requests": Measure(title="Requests", of=lambda cost: cost["requests"]),
    "growth-processor": Measure(
        title="Processor seconds, worker and PostgreSQL",
        of=lambda cost: cost["cpu_s"] + cost["server_cpu_s"],
    ),
    "growth-wal": Measure(title="WAL, MB", of=lambda cost: cost["wal_bytes"] / 1e6),
    "growth-memory": Measure(title="Peak memory of the worker, MB", of=lambda c: c["peak_mb"]),
}


def main(given: list[str] | None = None) -> int:
    """Draw what has been measured; 2 when nothing has."""
    parser = argparse.ArgumentParser(prog="python -m bench.plots", description=__doc__)
    parser.add_argument("--growth", type=Path, default=RESULTS / "growth.json")
    parser.add_argument("--timeline", type=Path, default=RESULTS / "timeline.json")
    parser.add_argument("--to", type=Path, default=PICTURES, help="the folder of the pictures")
    chosen = parser.parse_args(given)
    pictures: dict[str, bytes] = {}
    if chosen.growth.exists():
        pictures |= growth(json.loads(chosen.growth.read_bytes()))
    if chosen.timeline.exists():
        pictures["sync-timeline"] = timeline(json.loads(chosen.timeline.read_bytes()))
    if not pictures:
        print("nothing was measured: run bench.growth or bench.timeline first", file=sys.stderr)
        return 2
    chosen.to.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures.items():
        (chosen.to / f"{name}.svg").write_bytes(svg)
        print(f"{chosen.to / name}.svg: {len(svg):,} bytes")
    return 0


# --- growth --------------------------------------------------------------------------------------


def growth(told: Mapping[str, Any]) -> dict[str, bytes]:
    """A picture for each measure, by its file's name."""
    return {name: _measure(one, told["steps"]) for name, one in MEASURES.items()}


def _measure(measure: Measure, steps: Sequence[Mapping[str, Any]]) -> bytes:
    points = {
        title: [(step["images"], measure.of(step[case])) for step in steps]
        for case, title in CASES.items()
    }
    (x, y), (end, _) = points[CASES["first"]][0], points[CASES["first"]][-1]
    as_images = [(x, y), (end, y * end / x)]
    values = [y for line in (*points.values(), as_images) for _, y in line]
    marks = decades(min(values), max(values))
    plot = _chart(
        ["main", "good", "warm", "plain"],
        title=measure.title,
        width=WIDTH,
        height=HEIGHT,
        logarithmic=True,
        x_title="images",
        x_labels=[step["images"] for step in steps],
        y_labels=marks,
        range=(marks[0], marks[-1] * 1.1),
        legend_at_bottom_columns=2,
        value_formatter=_short,
        x_value_formatter=_short,
    )
    for title, line in points.items():
        plot.add(title, line)
    dotted = {"width": 1.5, "dasharray": "2, 4"}
    plot.add("as fast as the images", as_images, stroke_style=dotted, show_dots=False)
    return _both(plot)


def decades(least: float, most: float) -> list[float]:
    """Powers of ten that hold all figures between them."""
    low = high = 1.0
    while low > least:
        low /= 10
    while low * 10 <= least:
        low *= 10
    while high < most:
        high *= 10
    found = [low]
    while found[-1] < high:
        found.append(found[-1] * 10)
    return found


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


# --- a sync's course -----------------------------------------------------------------------------


def timeline(told: Mapping[str, Any]) -> bytes:
    """What of a first sync was done when, and above it what it was at."""
    samples, phases = told["samples"], told["phases"]
    images = told["repositories"] * told["tags"]
    delay = f", {told['delay_ms']:g} ms away" if told["delay_ms"] else ""
    plot = _chart(
        ["main", "good", "odd", "plain", "warm", "teal", "gold"],
        title=f"First sync of {images:,} images{delay}: done by then, in %",
        width=760,
        height=400,
        x_title="seconds since the call",
        y_labels=[0, 25, 50, 75, 100],
        range=(0, 100 + 12 * (len(phases) + 1)),
        show_dots=False,
        legend_at_bottom_columns=4,
        # The library leaves room for whole rows of the legend only.
        margin_bottom=38,
        value_formatter=lambda y: f"{y:g}",
        x_value_formatter=lambda x: f"{x:g}",
    )
    for name, title in (
        ("requests", "requests"),
        ("images", "images listed"),
        ("wal_bytes", "WAL"),
    ):
        most = max(1, *(sample[name] for sample in samples))
        plot.add(title, steps((s["s"], 100 * s[name] / most) for s in samples))
    for n, phase in enumerate(phases):
        y = 100 + 12 * (len(phases) - n)
        title = f"{phase['name']}: {phase['to_s'] - phase['from_s']:.1f} s"
        line = [(phase["from_s"], y), (phase["to_s"], y)]
        plot.add(title, line, stroke_style={"width": 8})
    return _both(plot)


def steps(points: Any) -> list[tuple[float, float]]:
    """What was seen stays until something else is seen; what stays equal needs two points."""
    found: list[tuple[float, float]] = []
    last: tuple[float, float] | None = None
    for x, y in points:
        if last is not None and y != last[1]:
            found.append((x, last[1]))
        if last is None or y != last[1]:
            found.append((x, y))
        last = (x, y)
    if last is not None and last != found[-1]:
        found.append(last)
    return found


# --- light and dark ------------------------------------------------------------------------------


def _chart(marks: Sequence[str], **options: Any) -> Any:
    usual = {
        "include_x_axis": False,
        "show_x_guides": True,
        "explicit_size": True,
        "margin_right": 24,
        "margin_bottom": 16,
    }
    return charting.chart("XY", charting.THEMES["light"], marks, **{**usual, **options})


def _both(plot: Any) -> bytes:
    """The picture with the colours of the dark for those whose screen is dark."""
    svg = _WIDTHS_OF_SERIES.sub(rb"\1 .line{stroke-width", charting.rendered(plot))
    return svg.replace(b"</style>", _dark(svg.decode()).encode() + b"</style>", 1)


def _dark(svg: str) -> str:
    light, dark = charting.THEMES["light"], charting.THEMES["dark"]
    pairs = {light.text: dark.text, light.lines: dark.lines}
    pairs |= {colour: dark.marks[name] for name, colour in light.marks.items()}
    style = svg.partition('<style type="text/css">')[2].partition("</style>")[0]
    rules = []
    for selector, body in _RULE.findall(style):
        coloured = [
            part.replace(colour, pairs[colour])
            for part in body.split(";")
            for colour in pairs
            if colour in part
        ]
        if coloured:
            rules.append(f"{selector.strip()}{{{';'.join(p.strip() for p in coloured)}}}")
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"


if __name__ == "__main__":
    sys.exit(main())
