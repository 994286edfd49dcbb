"""Verdicts: every figure of the bench beside its target, as one table and as JSON."""

from __future__ import annotations

import datetime as dt
import os
import platform
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.bell import Hints
from bench.contenders import CONNECTIONS
from bench.course import Cell, Lie, Round
from bench.depot import ALIASES, IMAGES, Depot
from bench.stage import Size

# What is aimed at, by repositories and delay.
FIRST_AIMS = {(5000, 0.0): 5.5, (500, 0.03): 12.0}
PLAIN_AIM = {(5000, 0.0): 1.3}
CURL_AIM = {(500, 0.03): 1.3}
UNCHANGED_AIM = {5000: 40.0}
DEPOT_CURL_AIM = 1.15
DEPOT_UNCHANGED_AIM = 0.3
MEMORY_MB = 120.0
HINT_P95_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table; ``met`` is ``None`` where there is no target to meet."""

    case: str
    what: str
    value: str
    target: str = ""
    met: bool | None = None
    # For a later run to be held against: one number, and which way is better.
    number: float | None = None
    more_is_better: bool = True

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "NO", None: ""}[self.met]


def lines(
    cells: Sequence[Cell], hints: Hints | None = None, depot: Depot | None = None
) -> list[Line]:
    """The whole table."""
    found: list[Line] = [] if hints is None else _hints(hints)
    if depot is not None:
        found += _depot(depot)
    for cell in cells:
        found += [*_first(cell), *_unchanged(cell), *_changed(cell), *_everyone(cell)]
        if cell.lie is not None:
            found += _lie(cell, cell.lie)
    return found


def _hints(hints: Hints) -> list[Line]:
    told = (("alone", hints.quiet), ("during syncs of its registry", hints.busy))
    return [
        Line(
            case=f"{len(seconds)} pushes, {when}",
            what="95th percentile from hint to visible image",
            value=f"{Hints.p95(seconds):.3g} s (median {statistics.median(seconds):.3g} s,"
            f" most {max(seconds):.3g} s)",
            target=f"under {HINT_P95_S:g} s",
            met=Hints.p95(seconds) < HINT_P95_S,
        )
        for when, seconds in told
    ]


def _median(cell: Cell, figure: Callable[[Round], float]) -> float:
    return statistics.median(map(figure, cell.rounds))


def _spread(cell: Cell, figure: Callable[[Round], float], unit: str) -> str:
    values = sorted(map(figure, cell.rounds))
    return f"{_median(cell, figure):.3g}{unit} ({values[0]:.3g} to {values[-1]:.3g})"


def _first(cell: Cell) -> list[Line]:
    case = f"{cell.title}, first"
    key = (cell.size.repositories, cell.delay_s)

    def plain(r: Round) -> float:
        return r.first.seconds / (r.bare.seconds + r.copy_s)

    return [
        Line(case=case, what="SDK loop", value=_spread(cell, lambda r: r.sdk.seconds, " s")),
        Line(case=case, what="Wharfinger", value=_spread(cell, lambda r: r.first.seconds, " s")),
        _ratio(
            cell,
            case,
            "SDK loop / Wharfinger",
            lambda r: r.sdk.seconds / r.first.seconds,
            least=FIRST_AIMS.get(key),
        ),
        _ratio(
            cell,
            case,
            f"Wharfinger / curl-{CONNECTIONS}",
            lambda r: r.first.seconds / r.curl.seconds,
            most=CURL_AIM.get(key),
        ),
        _ratio(cell, case, "Wharfinger / bare aiohttp", lambda r: r.first.seconds / r.bare.seconds),
        _ratio(cell, case, "Wharfinger / (bare aiohttp + COPY)", plain, most=PLAIN_AIM.get(key)),
        _requests(
            case,
            "requests: Wharfinger, SDK loop, curl, bare",
            cell,
            lambda r: (r.first.requests, r.sdk.requests, r.curl.requests, r.bare.requests),
            lambda r: r.first.requests <= cell.size.repositories + cell.size.listing_requests,
            f"ours at most {cell.size.repositories + cell.size.listing_requests}",
        ),
        _memory(cell, case, lambda r: r.first.peak_mb),
    ]


def _ratio(
    cell: Cell,
    case: str,
    what: str,
    figure: Callable[[Round], float],
    *,
    least: float | None = None,
    most: float | None = None,
) -> Line:
    """A ratio of one round beside its aim, of which the median decides."""
    median = _median(cell, figure)
    value = _spread(cell, figure, "")
    target, met = "", None
    if least is not None:
        target, met = f"at least {least:g}", median >= least
    if most is not None:
        target, met = f"at most {most:g}", median <= most
    return Line(
        case=case,
        what=what,
        value=value,
        target=target,
        met=met,
        number=median,
        more_is_better=what.startswith("SDK loop"),
    )


def _depot(depot: Depot) -> list[Line]:
    case = "docker-registry"
    one = depot.rounds[-1]
    asked, again = Counter(one.first.requests), Counter(one.unchanged.requests)
    tags, images = depot.tags, depot.images
    told: list[Line] = []
    first = depot.median(lambda r: r.first.seconds / r.curl.seconds)
    told.append(
        Line(
            case=f"{case}, first",
            what=f"Wharfinger / curl-{CONNECTIONS} over the same requests",
            value=f"{first:.3g} ({depot.median(lambda r: r.first.seconds):.3g} s)",
            target=f"at most {DEPOT_CURL_AIM:g}",
            met=first <= DEPOT_CURL_AIM,
            number=first,
            more_is_better=False,
        )
    )
    told += [
        Line(
            case=f"{case}, first",
            what=f"GET of a {what}",
            value=str(asked[f"GET {what}"]),
            target=f"one per distinct {unit}: {images}",
            met=asked[f"GET {what}"] <= images,
        )
        for what, unit in (("manifest", "digest"), ("config", "image"))
    ]
    told.append(
        Line(
            case=f"{case}, first",
            what="images stored",
            value=str(one.images),
            target=str(tags),
            met=all(r.images == tags for r in depot.rounds),
        )
    )
    unchanged = depot.median(lambda r: r.unchanged.seconds / r.first.seconds)
    told += [
        Line(
            case=f"{case}, unchanged",
            what="unchanged / first",
            value=f"{unchanged:.3g}",
            target=f"at most {DEPOT_UNCHANGED_AIM:g}",
            met=unchanged <= DEPOT_UNCHANGED_AIM,
            number=unchanged,
            more_is_better=False,
        ),
        Line(
            case=f"{case}, unchanged",
            what="HEAD of a manifest; GET of one; of a config",
            value=f"{again['HEAD manifest']}; {again['GET manifest']}; {again['GET config']}",
            target=f"at most one per tag, {tags}; none; none",
            met=again["HEAD manifest"] <= tags
            and not again["GET manifest"]
            and not again["GET config"],
        ),
    ]
    if depot.pushed is not None:
        # Its tags, a HEAD each, and what is new of the image.
        most = 1 + (IMAGES + ALIASES + 1) + 2
        told.append(
            Line(
                case=f"{case}, one push with its notification",
                what="requests",
                value=str(depot.pushed.total),
                target=f"that repository's alone: at most {most}",
                met=depot.pushed.total <= most,
            )
        )
    return told


def _unchanged(cell: Cell) -> list[Line]:
    case = f"{cell.title}, unchanged"
    most = cell.size.listing_requests
    return [
        Line(
            case=case, what="Wharfinger", value=_spread(cell, lambda r: r.unchanged.seconds, " s")
        ),
        _ratio(
            cell,
            case,
            "SDK loop / Wharfinger",
            lambda r: r.sdk.seconds / r.unchanged.seconds,
            least=UNCHANGED_AIM.get(cell.size.repositories),
        ),
        _requests(
            case,
            "requests",
            cell,
            lambda r: (r.unchanged.requests,),
            lambda r: r.unchanged.requests <= most,
            f"at most {most}",
        ),
        Line(
            case=case,
            what="rows written",
            value=_written(cell.rounds[-1].unchanged_writes),
            target="none",
            met=not any(r.unchanged_writes for r in cell.rounds),
        ),
        _memory(cell, case, lambda r: r.unchanged.peak_mb),
    ]


def _changed(cell: Cell) -> list[Line]:
    case = f"{cell.title}, 1 % changed"
    return [
        Line(case=case, what="Wharfinger", value=_spread(cell, lambda r: r.changed.seconds, " s")),
        Line(
            case=case,
            what="SDK loop / Wharfinger",
            value=_spread(cell, lambda r: r.sdk.seconds / r.changed.seconds, ""),
        ),
        _requests(
            case,
            "requests",
            cell,
            lambda r: (r.changed.requests,),
            lambda r: r.changed.requests <= r.unchanged.requests + r.changed_repositories,
            f"unchanged + {cell.rounds[0].changed_repositories}",
        ),
        Line(
            case=case,
            what="rows written",
            value=_written(cell.rounds[-1].changed_writes),
            target="what changed",
            met=all(r.changed_writes == _moves(r.changed_repositories) for r in cell.rounds),
        ),
        _memory(cell, case, lambda r: r.changed.peak_mb),
    ]


def _moves(count: int) -> dict[str, dict[str, int]]:
    """What moving one tag in each of so many repositories has to write, and no more."""
    return {
        "repository": {"upd": count},
        "image": {"upd": count},
        "event": {"ins": count},
        "image_version": {"ins": count, "upd": count},
    }


def _everyone(cell: Cell) -> list[Line]:
    return [
        Line(
            case=cell.title,
            what="rows equal: upstream, SDK loop, stored (first and changed)",
            value="yes" if all(r.rows_equal for r in cell.rounds) else "no",
            target="yes",
            met=all(r.rows_equal for r in cell.rounds),
        )
    ]


def _lie(cell: Cell, lie: Lie) -> list[Line]:
    case = f"{cell.title}, a tag moved behind a standing fingerprint"
    return [
        Line(
            case=case,
            what="quick sync",
            value=f"{lie.quick.requests} requests, {'seen' if lie.seen_by_quick else 'not seen'}",
            target="not seen",
            met=not lie.seen_by_quick and lie.quick.requests <= cell.size.listing_requests,
        ),
        Line(
            case=case,
            what="full sync",
            value=f"{lie.full.requests} requests, {'found' if lie.seen_by_full else 'not found'},"
            f" moved {lie.full.run.moved}",
            target="found, moved 1",
            met=lie.seen_by_full and lie.full.run.moved == 1,
        ),
        Line(
            case=case,
            what="the sync after it",
            value=f"{lie.after.requests} requests, lies recorded {lie.lies_recorded}",
            target="recorded",
            met=lie.lies_recorded == 1,
        ),
        Line(
            case=case,
            what="every later sync",
            value=f"{lie.later.requests} requests",
            target="reads everything",
            met=lie.later.requests > cell.size.repositories,
        ),
    ]


def _requests(
    case: str,
    what: str,
    cell: Cell,
    counts: Callable[[Round], tuple[int, ...]],
    holds: Callable[[Round], bool],
    target: str,
) -> Line:
    found = sorted({counts(r) for r in cell.rounds})
    return Line(
        case=case,
        what=what,
        value="; ".join(", ".join(map(str, numbers)) for numbers in found),
        target=target,
        met=all(map(holds, cell.rounds)),
    )


def _memory(cell: Cell, case: str, peak_mb: Callable[[Round], float]) -> Line:
    most = max(map(peak_mb, cell.rounds))
    return Line(
        case=case,
        what="worker's peak memory",
        value=f"{most:.0f} MB",
        target=f"under {MEMORY_MB:.0f} MB",
        met=most < MEMORY_MB,
    )


def _written(rows: dict[str, dict[str, int]]) -> str:
    told = [f"{t} {' '.join(f'{k} {n}' for k, n in c.items())}" for t, c in sorted(rows.items())]
    return ", ".join(told) or "none"


def table(found: Sequence[Line], *, value: str = "median (least to most)") -> str:
    """The table as text for a terminal and for Markdown alike."""
    head = ("case", "what", value, "target", "met")
    rows = [head, *((x.case, x.what, x.value, x.target, x.verdict) for x in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    told = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    told.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(told)


def machine() -> dict[str, Any]:
    """Where the figures come from, without a name."""
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
    }


def as_json(
    cells: Sequence[Cell],
    hints: Hints,
    depot: Depot | None,
    server: dict[str, str],
    where: dict[str, Any],
) -> dict[str, Any]:
    """Everything that was measured, for other programs."""
    return {
        "machine": where,
        "postgresql": server,
        "lines": [{**asdict(line), "met": line.met} for line in lines(cells, hints, depot)],
        "hints": asdict(hints),
        "depot": depot and asdict(depot),
        "cells": [
            {
                "repositories": cell.size.repositories,
                "tags": cell.size.tags,
                "delay_s": cell.delay_s,
                "rounds": [_plain(r) for r in cell.rounds],
            }
            for cell in cells
        ],
    }


def _plain(measured: Round) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in ("sdk", "curl", "bare"):
        plain[name] = asdict(getattr(measured, name))
    plain["copy_s"] = measured.copy_s
    for name in ("first", "unchanged", "changed"):
        sync = getattr(measured, name)
        plain[name] = {
            "seconds": sync.seconds,
            "requests": sync.requests,
            "peak_mb": sync.peak_mb,
        }
    plain["unchanged_writes"] = measured.unchanged_writes
    plain["changed_writes"] = measured.changed_writes
    plain["changed_repositories"] = measured.changed_repositories
    plain["rows_equal"] = measured.rows_equal
    return plain


def size_of(text: str) -> Size:
    """``500x20`` as a size.

    Raises:
        ValueError: it is not two whole numbers from 1.
    """
    repositories, _, tags = text.partition("x")
    if not (repositories.isdigit() and tags.isdigit() and int(repositories) and int(tags)):
        raise ValueError(f"a world is REPOSITORIESxTAGS, like 500x20, and not {text!r}")
    return Size(repositories=int(repositories), tags=int(tags))
