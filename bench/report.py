"""Verdicts: every figure of the bench beside its target, as one table and as JSON."""

from __future__ import annotations

import datetime as dt
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.bell import Hints
from bench.contenders import CONNECTIONS
from bench.course import Cell, Lie, Round
from bench.stage import Size

# What the issues ask for. "Next" is the target of later work: shown, but no verdict yet.
FIRST_AIMS = {(5000, 0.0): (5.0, 5.5), (500, 0.03): (12.0, None)}
UNCHANGED_NEXT = 40.0
CURL_NEXT = 1.3
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

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "NO", None: ""}[self.met]


def lines(cells: Sequence[Cell], hints: Hints | None = None) -> list[Line]:
    """The whole table."""
    found: list[Line] = [] if hints is None else _hints(hints)
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
    aim, following = FIRST_AIMS.get((cell.size.repositories, cell.delay_s), (None, None))
    speed = _median(cell, lambda r: r.sdk.seconds / r.first.seconds)
    target = f"at least {aim:g}" if aim else ""
    if following:
        target += f" (next {following:g})"
    delayed = cell.delay_s > 0
    return [
        Line(case=case, what="SDK loop", value=_spread(cell, lambda r: r.sdk.seconds, " s")),
        Line(case=case, what="Wharfinger", value=_spread(cell, lambda r: r.first.seconds, " s")),
        Line(
            case=case,
            what="SDK loop / Wharfinger",
            value=_spread(cell, lambda r: r.sdk.seconds / r.first.seconds, ""),
            target=target,
            met=speed >= aim if aim else None,
        ),
        Line(
            case=case,
            what=f"Wharfinger / curl-{CONNECTIONS}",
            value=_spread(cell, lambda r: r.first.seconds / r.curl.seconds, ""),
            target=f"(next at most {CURL_NEXT:g})" if delayed else "",
        ),
        Line(
            case=case,
            what="Wharfinger / bare aiohttp",
            value=_spread(cell, lambda r: r.first.seconds / r.bare.seconds, ""),
        ),
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


def _unchanged(cell: Cell) -> list[Line]:
    case = f"{cell.title}, unchanged"
    most = cell.size.listing_requests
    return [
        Line(
            case=case, what="Wharfinger", value=_spread(cell, lambda r: r.unchanged.seconds, " s")
        ),
        Line(
            case=case,
            what="SDK loop / Wharfinger",
            value=_spread(cell, lambda r: r.sdk.seconds / r.unchanged.seconds, ""),
            target=f"(next {UNCHANGED_NEXT:g})" if cell.size.repositories == 5000 else "",
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
    cells: Sequence[Cell], hints: Hints, server: dict[str, str], where: dict[str, Any]
) -> dict[str, Any]:
    """Everything that was measured, for other programs."""
    return {
        "machine": where,
        "postgresql": server,
        "lines": [{**asdict(line), "met": line.met} for line in lines(cells, hints)],
        "hints": asdict(hints),
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
