"""``python -m bench.compare``: the newest figures beside the last committed ones.

Only ratios within one run are compared, and numbers of requests: seconds belong to a machine.
Returns 1 when a ratio is worse than before by more than the tolerance, or a target is missed that
was met.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

RESULTS = Path(__file__).parent / "results"
COMMITTED, LATEST = RESULTS / "committed.json", RESULTS / "latest.json"
# The medians of three rounds on a quiet machine have differed by this much.
TOLERANCE = 0.2


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a result."""

    case: str
    what: str
    value: str
    target: str = ""
    met: bool | None = None
    number: float | None = None
    more_is_better: bool = True


class Result(msgspec.Struct, frozen=True):
    """What a bench wrote."""

    lines: list[Figure]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One figure then and now."""

    case: str
    what: str
    then: str
    now: str
    verdict: str
    worse: bool


def compare(then: Result, now: Result, tolerance: float = TOLERANCE) -> list[Compared]:
    """Every figure that both have and that can be held against the other, and what is gone."""
    new = {(line.case, line.what): line for line in now.lines}
    told = []
    for old in then.lines:
        line = new.get((old.case, old.what))
        if line is None:
            told.append(_compared(old, None, "not measured now", worse=False))
        elif old.met and line.met is False:
            told.append(_compared(old, line, "target missed now", worse=True))
        elif old.number and line.number:
            told.append(_ratio(old, line, tolerance))
    return told


def _ratio(old: Figure, new: Figure, tolerance: float) -> Compared:
    grown = float(new.number or 0) / float(old.number or 1)
    better = grown if old.more_is_better else 1 / grown
    worse = better < 1 / (1 + tolerance)
    word = "worse" if worse else "better" if better > 1 + tolerance else "alike"
    return _compared(old, new, f"{word} ({(better - 1) * 100:+.0f} %)", worse=worse)


def _compared(old: Figure, new: Figure | None, verdict: str, *, worse: bool) -> Compared:
    return Compared(
        case=old.case,
        what=old.what,
        then=old.value,
        now=new.value if new else "",
        verdict=verdict,
        worse=worse,
    )


def _table(rows: Sequence[Compared]) -> str:
    head: Mapping[str, str] = {name: name for name in ("case", "what", "then", "now", "verdict")}
    cells = [list(head.values()), *([getattr(row, name) for name in head] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    told = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    told.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(told)


def main(given: list[str] | None = None) -> int:
    """Print the comparison; 0 when nothing is worse, 1 when something is, 2 without figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--then", type=Path, default=COMMITTED, help="the earlier figures")
    parser.add_argument("--now", type=Path, default=LATEST, help="the figures to judge")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="by how much (0.2)")
    chosen = parser.parse_args(given)
    missing = [str(path) for path in (chosen.then, chosen.now) if not path.exists()]
    if missing:
        print(f"no figures in {' and '.join(missing)}; make bench writes them", file=sys.stderr)
        return 2
    then, now = (
        msgspec.json.decode(p.read_bytes(), type=Result) for p in (chosen.then, chosen.now)
    )
    rows = compare(then, now, chosen.tolerance)
    print(_table(rows))
    worse = sum(row.worse for row in rows)
    print(f"\n{worse or 'nothing'} worse, of {len(rows)}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
