"""The bench of growth, over worlds small enough for a test. Its verdicts are no test's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from wharfinger.testing.rendered import nginx_missing

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import growth


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_the_power_of_what_grows(power):
    points = [(x, 7 * x**power) for x in (10_000, 100_000, 1_000_000)]

    assert growth.exponent(points) == pytest.approx(power)


@pytest.mark.nginx
@pytest.mark.slow
@pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing()))
def test_small_sizes_are_measured_to_the_end(tmp_path, monkeypatch, capsys):
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}:{root}")
    figures = tmp_path / "figures.json"

    growth.main(["--images", "200", "--images", "800", "--json", str(figures)])

    small, large = json.loads(figures.read_text())["steps"]
    assert [step["rows_equal"] for step in (small, large)] == [True, True]
    assert [step["first"]["requests"] for step in (small, large)] == [11, 41]
    assert [step["unchanged"]["requests"] for step in (small, large)] == [1, 1]
    assert large["tables"]["image"]["rows"] == 800 + 60
    assert large["first"]["wal_bytes"] > small["first"]["wal_bytes"] > 0
    assert large["first"]["peak_mb"] > 10
    assert "exponent of requests" in capsys.readouterr().out
