"""The bench of large lists, over a small one. Its verdicts are no test's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.large.__main__ import main
from bench.stage import Size

pytestmark = pytest.mark.slow


def test_every_question_is_asked_over_http_and_over_libpq(short_folder, monkeypatch, capsys):
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}:{root}")
    monkeypatch.setattr("bench.large.crowd.SECONDS", 1)
    monkeypatch.setattr("bench.large.crowd.ROUNDS", 1)
    monkeypatch.setattr("bench.large.syncing.SECONDS", 1)
    monkeypatch.setattr("bench.large.syncing.WORLD", Size(repositories=1_500, tags=1))
    monkeypatch.setattr("bench.large.writing.QUIET_S", 0.2)
    figures = short_folder / "figures.json"

    main(
        ["--images", "2000", "--rounds", "2", "--folder", f"{short_folder}", "--json", f"{figures}"]
    )

    told = json.loads(figures.read_text())
    asked = told["reading"]["2000"]
    assert told["postgresql"]["fsync"] == told["postgresql"]["synchronous_commit"] == "on"
    assert {one["rounds"] for one in asked} == {2}
    assert all(one["http_ms"] > 0 and one["sql_ms"] > 0 for one in asked)
    assert told["writing"]["images"] == 2000
    assert told.get("syncing", {}).get("added", 1_500) == 1_500
    assert told["writing"]["waits_for_locks"] == 0
    crowds = told.get("crowd", {}).values()
    assert all(burst["errors"] == 0 for crowd in crowds for burst in crowd["service"])
    assert "| 2,000 images, page of 100, half way" in capsys.readouterr().out
