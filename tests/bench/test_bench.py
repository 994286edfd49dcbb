"""The bench's machinery, over a world small enough for a test. Its verdicts are no test's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from wharfinger.testing.rendered import nginx_missing

pytest.importorskip("huaweicloudsdkswr.v2")
sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.__main__ import main
from bench.report import size_of

pytestmark = [
    pytest.mark.nginx,
    pytest.mark.slow,
    pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing())),
]


def test_a_small_course_is_run_to_its_end(tmp_path, monkeypatch, capsys):
    # What the bench starts must find the bench, wherever the test was started.
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}:{root}")
    monkeypatch.setattr("bench.bell.QUIET", 15)
    monkeypatch.setattr("bench.bell.BUSY", 5)
    figures = tmp_path / "figures.json"

    main(
        [
            "--world",
            "20x3",
            "--delay-ms",
            "0",
            "--runs",
            "1",
            "--depot",
            "2",
            "--json",
            str(figures),
        ]
    )

    told = json.loads(figures.read_text())
    (cell,) = told["cells"]
    (measured,) = cell["rounds"]
    assert told["postgresql"]["fsync"] == told["postgresql"]["synchronous_commit"] == "on"
    assert measured["rows_equal"]
    assert [measured[who]["requests"] for who in ("sdk", "curl", "bare", "first")] == [21] * 4
    assert measured["unchanged"]["requests"] == 1
    assert measured["unchanged_writes"] == {}
    assert measured["changed"]["requests"] == 2
    assert measured["changed_writes"]["image"] == {"upd": 1}
    found = {line["what"]: line["met"] for line in told["lines"] if "behind" in line["case"]}
    assert found == dict.fromkeys(
        ("quick sync", "full sync", "the sync after it", "every later sync"), True
    )
    depot = {line["what"]: line["met"] for line in told["lines"] if "docker" in line["case"]}
    counted = ("GET of a manifest", "GET of a config", "images stored", "requests")
    assert [depot[what] for what in counted] == [True] * 4
    assert "| 20x3 no delay, first" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "500", "x20", "500x", "0x20", "500x-1", "axb"])
def test_a_world_is_two_whole_numbers(text):
    with pytest.raises(ValueError, match="REPOSITORIESxTAGS"):
        size_of(text)
