"""Figures of one bench held against those of another."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.compare import main


def line(what, number, *, met=None, more_is_better=True):
    figure = {"case": "a world, first", "what": what, "value": str(number), "met": met}
    return figure | {"number": number, "more_is_better": more_is_better}


def judged(tmp_path, then, now):
    for name, lines in (("then", then), ("now", now)):
        (tmp_path / name).write_text(json.dumps({"lines": lines, "machine": {"cpus": 2}}))
    return main(["--then", str(tmp_path / "then"), "--now", str(tmp_path / "now")])


@pytest.mark.parametrize(
    ("then", "now", "verdict", "code"),
    [
        (line("a", 4.0), line("a", 2.0), "worse (-50 %)", 1),
        (line("a", 4.0), line("a", 6.0), "better (+50 %)", 0),
        (line("a", 4.0), line("a", 3.9), "alike", 0),
        (line("a", 1.0, more_is_better=False), line("a", 2.0, more_is_better=False), "worse", 1),
        (line("a", 1.0, more_is_better=False), line("a", 0.5, more_is_better=False), "better", 0),
        (line("a", 4.0, met=True), line("a", 3.9, met=False), "target missed now", 1),
        (line("a", 4.0, met=False), line("a", 3.9, met=False), "alike", 0),
        (line("a", 4.0), line("b", 4.0), "not measured now", 0),
    ],
)
def test_a_figure_is_judged_by_which_way_is_better(tmp_path, capsys, then, now, verdict, code):
    assert judged(tmp_path, [then], [now]) == code

    assert verdict in capsys.readouterr().out


def test_seconds_are_not_compared(tmp_path, capsys):
    assert judged(tmp_path, [line("a", None)], [line("a", None)]) == 0

    assert "nothing worse, of 0" in capsys.readouterr().out


def test_missing_figures_are_said(tmp_path, capsys):
    assert main(["--then", str(tmp_path / "none")]) == 2

    assert "no figures in" in capsys.readouterr().err
