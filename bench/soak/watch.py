"""What is measured while the soak lasts, and what is found when it is over."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench.report import Line
from bench.soak.house import Harbour, House, Killer, resident_mb

SAMPLE_EVERY_S = 5.0
TELL_EVERY_S = 30.0
# The memory of the first minutes says nothing: caches and pools fill.
SLOPE_S = 1200.0
SLOPE_MOST = 1.0
LAST_JOB_S = 30.0

# Each process has at most eight connections for its work, four for its jobs, and one that is being
# replaced in each. Three processes stay, and an orphan and a command may be there beside them.
CONNECTIONS_MOST = 5 * 14

UNFINISHED = "SELECT count(*) FROM run WHERE state <> 'finished'"
RUNS = "SELECT outcome, count(*) FROM run WHERE state = 'finished' GROUP BY 1 ORDER BY 1"
LEFT_OVER = """
SELECT (SELECT count(*) FROM unit), (SELECT count(*) FROM listing),
    (SELECT count(*) FROM listing_row), (SELECT count(*) FROM run_page),
    (SELECT count(*) FROM procrastinate_jobs)
"""
CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
OLDEST = """
SELECT coalesce(max(extract(epoch FROM now() - started_at)), 0) FROM run WHERE state = 'running'
"""
# Per project: how many events there are, the first and last number, and what the feed says.
NUMBERS = """
SELECT f.project_id, f.seq, count(e.seq), coalesce(min(e.seq), 1), coalesce(max(e.seq), 0)
FROM tenant_feed f LEFT JOIN event e ON e.project_id = f.project_id GROUP BY 1, 2
"""
# What is listed and what history says is current, where they differ.
TORN = """
SELECT count(*) FROM
    (SELECT id, digest FROM image WHERE retired_at IS NULL) i
    FULL JOIN (SELECT image_id, digest FROM image_version WHERE to_seq IS NULL) v
        ON v.image_id = i.id AND v.digest = i.digest
WHERE i.id IS NULL OR v.image_id IS NULL
"""
STORED = """
SELECT g.name, CASE WHEN r.namespace = '' THEN r.name ELSE r.namespace || '/' || r.name END,
    i.tag, i.digest
FROM image i JOIN repository r ON r.id = i.repository_id JOIN registry g ON g.id = i.registry_id
WHERE i.retired_at IS NULL
"""
EVENTS = "SELECT kind, count(*) FROM event GROUP BY 1 ORDER BY 1"


@dataclass(kw_only=True)
class Sample:
    """One look at everything. ``None``: nobody was there to be looked at."""

    at_s: float
    steady_mb: float | None
    worker_mb: float | None
    service_mb: float | None
    connections: int | None
    oldest_run_s: float | None


@dataclass
class Watch:
    """Looks every few seconds, and says every half minute what it sees."""

    house: House
    harbour: Harbour
    killer: Killer
    asked: dict[str, int]
    began: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    blind: int = 0

    def run(self, stop: threading.Event) -> None:
        told = 0.0
        while not stop.wait(SAMPLE_EVERY_S):
            self.samples.append(self._look())
            if time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                self._tell()

    def _look(self) -> Sample:
        return Sample(
            at_s=time.monotonic() - self.began,
            steady_mb=resident_mb(self.house.steady_worker),
            worker_mb=resident_mb(self.house.killable_worker()),
            service_mb=resident_mb(self.house.service),
            connections=self._number(CONNECTIONS),
            oldest_run_s=self._number(OLDEST),
        )

    def _number(self, query: str) -> Any:
        try:
            return self.house.rows(query)[0][0]
        except psycopg.OperationalError:
            self.blind += 1  # The database has just been killed.
            return None

    def _tell(self) -> None:
        try:
            outcomes = dict(self.house.rows(RUNS))
        except psycopg.OperationalError:
            return
        last = self.samples[-1]
        figures = self.harbour.ask("figures")
        print(
            f"{last.at_s / 60:5.1f} min  runs {outcomes}  kills {self.killer.kills}"
            f"  changes {sum(figures['changes'].values())}"
            f"  faults {sum(figures['struck'].values())}  requests {figures['requests']}"
            f"  asked {self.asked['answered']}  steady {_mb(last.steady_mb)}"
            f"  worker {_mb(last.worker_mb)}  connections {last.connections}"
            f"  oldest run {float(last.oldest_run_s or 0):.0f} s",
            flush=True,
        )

    # --- figures ---

    def most(self, figure: Callable[[Sample], float | None]) -> float:
        return max((float(x) for s in self.samples if (x := figure(s)) is not None), default=0.0)

    def slope(self) -> tuple[float, float, float, int]:
        """(% per 10 minutes, mean MB, minutes, samples) of the steady worker's memory."""
        last = self.samples[-1].at_s
        # Of a shorter soak, its last two thirds.
        since = max(last - SLOPE_S, last / 3)
        found = [(s.at_s, s.steady_mb) for s in self.samples if s.at_s >= since and s.steady_mb]
        times, sizes = zip(*found, strict=True)
        mean = statistics.fmean(sizes)
        per_s = statistics.linear_regression(times, sizes).slope
        return per_s * 600 / mean * 100, mean, (last - since) / 60, len(found)


def _mb(value: float | None) -> str:
    return "gone" if value is None else f"{value:.0f} MB"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One registry's list beside the truth."""

    registry: str
    images: int
    missing: int
    extra: int


def compare(house: House, harbour: Harbour) -> list[Difference]:
    """What is stored beside what is there, per registry, tag and digest."""
    stored: dict[str, list[tuple[str, str, str]]] = {}
    for name, *image in house.rows(STORED):
        stored.setdefault(name, []).append(tuple(image))
    found = []
    for name, images in harbour.truth().items():
        truth, listed = set(images), stored.get(name, [])
        found.append(
            Difference(
                registry=name,
                images=len(truth),
                missing=len(truth - set(listed)),
                # An image that is listed twice is one too many.
                extra=len(set(listed) - truth) + len(listed) - len(set(listed)),
            )
        )
    return found


def _left_over(house: House) -> tuple[int, ...]:
    """Rows that only a run under way has; the last job takes itself away after its run's end."""
    until = time.monotonic() + LAST_JOB_S
    while any(left := house.rows(LEFT_OVER)[0]) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def verdicts(watch: Watch, differences: Sequence[Difference], stuck: int) -> list[Line]:
    """What must hold, and whether it does."""
    house = watch.house
    open_rows = _left_over(house)
    wrong = [d for d in differences if d.missing or d.extra]
    images = sum(d.images for d in differences)
    slope, mean, minutes, samples = watch.slope()
    numbers = house.rows(NUMBERS)
    gaps = [n[0] for n in numbers if not (n[1] == n[2] == n[4] and n[3] == 1)]
    torn = house.rows(TORN)[0][0]
    connections = int(watch.most(lambda s: s.connections))
    told = "; ".join(f"{d.registry}: {d.missing} missing, {d.extra} extra" for d in wrong)
    return [
        _line(
            "stored list",
            told or f"equal in {len(differences)} registries, {images} images",
            "equals the upstream exactly",
            met=not wrong and len(differences) > 0,
        ),
        _line("runs not finished", str(stuck), "none", met=stuck == 0),
        _line(
            "open units, listings, their rows, pages, jobs",
            ", ".join(map(str, open_rows)),
            "none",
            met=not any(open_rows),
        ),
        _line(
            "steady worker's memory",
            f"{slope:+.2f} % per 10 min (mean {mean:.1f} MB, {samples} samples, {minutes:.1f} min)",
            f"under {SLOPE_MOST:g} %",
            met=slope < SLOPE_MOST,
        ),
        _line(
            "database connections",
            f"at most {connections}",
            f"at most {CONNECTIONS_MOST}",
            met=connections <= CONNECTIONS_MOST,
        ),
        _line(
            "numbers of events",
            f"{sum(n[2] for n in numbers)} events in {len(numbers)} projects,"
            f" {len(gaps)} with gaps",
            "no gaps",
            met=not gaps,
        ),
        _line("images unlike their history", str(torn), "none", met=torn == 0),
    ]


def circumstances(watch: Watch) -> list[Line]:
    """What the soak was made of."""
    figures = watch.harbour.ask("figures")
    told = {
        "kills": ", ".join(f"{n} of {who}" for who, n in watch.killer.kills.items()),
        "changes upstream": str(sum(figures["changes"].values())),
        "answers falsified": f"{sum(figures['struck'].values())} by {len(figures['faults'])} kinds",
        "requests upstream": str(figures["requests"]),
        "syncs asked for": f"{watch.asked['answered']}, {watch.asked['refused']} not answered",
        "runs": ", ".join(f"{n} {outcome}" for outcome, n in watch.house.rows(RUNS)),
        "events": ", ".join(f"{n} {kind}" for kind, n in watch.house.rows(EVENTS)),
        "oldest running run": f"{watch.most(lambda s: s.oldest_run_s):.0f} s",
        "serve's worker, largest": f"{watch.most(lambda s: s.worker_mb):.0f} MB",
        "serve, largest": f"{watch.most(lambda s: s.service_mb):.0f} MB",
        "steady worker, largest": f"{watch.most(lambda s: s.steady_mb):.0f} MB",
    }
    return [Line(case="meanwhile", what=what, value=value) for what, value in told.items()]


def _line(what: str, value: str, target: str, *, met: bool) -> Line:
    return Line(case="afterwards", what=what, value=value, target=target, met=met)
