"""The bench of several workers, over a small world. Its verdicts are no test's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from wharfinger.testing.rendered import nginx_missing

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import fleet

pytestmark = [
    pytest.mark.nginx,
    pytest.mark.slow,
    pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing())),
]


def test_a_small_fleet_is_measured_to_its_end(tmp_path, monkeypatch, capsys):
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}:{root}")
    monkeypatch.setattr(fleet, "FLEETS", (1, 2))
    monkeypatch.setattr(fleet, "SPEED_UPS", {2: 1.8})
    figures = tmp_path / "figures.json"

    fleet.main(["--world", "30x3", "--limited", "30", "--json", str(figures)])

    told = json.loads(figures.read_text())
    assert [(c["workers"], c["killed"]) for c in told["crews"]] == [(1, 0), (2, 0), (2, 1)]
    assert all(crew["rows_equal"] for crew in told["crews"])
    assert [crew["requests"] for crew in told["crews"][:2]] == [31, 31]
    assert [one["workers"] for one in told["limited"]] == [1, 2]
    assert all(one["refused"] > 0 for one in told["limited"])
    assert "| 1 worker / 2 workers" in capsys.readouterr().out
