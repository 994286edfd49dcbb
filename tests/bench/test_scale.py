"""The model of scale keeps to what can be worked out on paper, and its figures to their file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.growth import exponent
from bench.scale import KEPT_TABLES, MEASURED, Costs, Fleet, Measured, Registry, main, simulate

FREE = Costs(worker_per_image=0, server_per_image=0)


def registry(repositories=2000, tags=20, **others):
    known = {"delay_s": 0.03, "concurrency": 4} | others
    return Registry(repositories=repositories, tags=tags, **known)


def test_a_slow_registry_takes_its_requests_times_its_delay_over_its_places():
    outcome = simulate([registry()], Fleet(workers=1, server_cores=1), FREE)

    assert outcome.requests == 2000 + 2
    assert outcome.seconds == pytest.approx(2000 * 0.03 / 4, rel=0.01)
    assert outcome.hosts_used == pytest.approx(1, abs=0.01)


def test_a_registry_with_a_limit_takes_its_requests_over_its_limit():
    limited = registry(repositories=600, tags=1, rate=20, concurrency=16)

    outcome = simulate([limited], Fleet(workers=4, server_cores=1), FREE)

    assert outcome.seconds == pytest.approx(600 / 20, rel=0.02)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_share_what_only_they_are_needed_for(workers):
    costs = Costs(worker_per_image=0.001, server_per_image=0)

    outcome = simulate([registry(delay_s=0)], Fleet(workers=workers, server_cores=1), costs)

    assert outcome.seconds == pytest.approx(40_000 * 0.001 / workers, rel=0.05)


@pytest.mark.parametrize("cores", [1, 2])
def test_more_workers_do_not_help_a_database_at_its_limit(cores):
    costs = Costs(worker_per_image=0.0001, server_per_image=0.001)

    outcome = simulate([registry(delay_s=0)], Fleet(workers=8, server_cores=cores), costs)

    assert outcome.seconds == pytest.approx(40_000 * 0.001 / cores, rel=0.05)
    assert outcome.server_used == pytest.approx(1, abs=0.05)


def test_registries_that_take_turns_keep_each_others_hosts_busy():
    """In the order in which they came, the units of the first keep all places waiting for it."""
    hosts = [registry(repositories=1000) for _ in range(10)]
    fleet = Fleet(workers=1, server_cores=1)

    one_by_one = simulate(hosts, fleet, FREE)
    in_turns = simulate(hosts, fleet, FREE, turns=True)

    assert in_turns.seconds < one_by_one.seconds / 2
    assert in_turns.seconds >= 1000 * 0.03 / 4


def test_nothing_is_lost_on_the_way():
    three = [registry(repositories=n, tags=n) for n in (1, 999, 2500)]

    outcome = simulate(three, Fleet(workers=2, server_cores=1), FREE)

    assert outcome.requests == (1 + 999 + 2500) + (1 + 1 + 3)


def test_what_was_measured_answers_for_ten_million(capsys):
    costs = Measured.from_file(MEASURED).costs()

    assert 1e-6 < costs.worker_per_image < 1e-3
    assert main(["--questions", "1"]) == 0
    assert "| 10,000,000 images in 100 registries" in capsys.readouterr().out


def test_the_plan_tells_what_was_measured():
    plan = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8")
    measured = Measured.from_file(MEASURED)

    for name in KEPT_TABLES:
        one = measured.largest["tables"][name]
        row, index = (round(one[part] / one["rows"]) for part in ("table_bytes", "index_bytes"))
        assert f"| `{name}` | {row} | {index} |" in plan
    for measure in ("requests", "wal_bytes"):
        points = [(step["images"], step["first"][measure]) for step in measured.steps]
        assert f"| {exponent(points):.3f} |" in plan
