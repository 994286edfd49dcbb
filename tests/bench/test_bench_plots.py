"""What the bench draws, and the course of a sync that it draws from."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from wharfinger.testing.rendered import nginx_missing

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import plots, timeline

SVG = "{http://www.w3.org/2000/svg}"


def cost(n, **figures) -> dict:
    usual = {"seconds": n / 1e4, "requests": n // 20, "cpu_s": n / 3e4, "server_cpu_s": n / 2e4}
    return usual | {"wal_bytes": n * 900, "peak_mb": 90.0} | figures


def told() -> dict:
    """As ``bench.growth`` and ``bench.timeline`` write it."""
    sizes = (10_000, 100_000, 1_000_000)
    steps = [
        {"images": n, "first": cost(n), "unchanged": cost(n // 100), "changed": cost(n // 10)}
        for n in sizes
    ]
    samples = [
        {"s": n / 10, "requests": n * 50, "repositories": n * 50, "images": n * 1000}
        | {"wal_bytes": n * 10_000}
        for n in range(11)
    ]
    phases = [
        {"name": "lists repositories", "from_s": 0.1, "to_s": 0.4},
        {"name": "settles", "from_s": 0.9, "to_s": 1.0},
    ]
    course = {"repositories": 500, "tags": 20, "delay_ms": 0, "seconds": 1.0}
    return {"steps": steps, "timeline": course | {"samples": samples, "phases": phases}}


@pytest.fixture
def drawn(tmp_path) -> dict[str, bytes]:
    """The pictures, by their names."""
    found = told()
    (tmp_path / "growth.json").write_text(json.dumps({"steps": found["steps"]}))
    (tmp_path / "timeline.json").write_text(json.dumps(found["timeline"]))
    given = [f"--{name}={tmp_path / name}.json" for name in ("growth", "timeline")]
    assert plots.main([*given, f"--to={tmp_path}"]) == 0
    return {file.stem: file.read_bytes() for file in tmp_path.glob("*.svg")}


def texts(svg: bytes) -> set[str]:
    return {node.text for node in ET.fromstring(svg).iter(f"{SVG}text") if node.text}


def lines(svg: bytes) -> list[list[tuple[float, float]]]:
    """The points of each line that is drawn."""
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        if "series" in group.get("class", "").split():
            for path in group.iter(f"{SVG}path"):
                numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))]
                found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


def test_there_is_a_picture_of_each_measure_and_of_the_course(drawn):
    assert set(drawn) == {*plots.MEASURES, "sync-timeline"}
    assert {"first sync", "nothing changed", "1 % changed"} <= texts(drawn["growth-requests"])
    assert {"10 k", "100 k", "1 M"} <= texts(drawn["growth-requests"])
    assert "lists repositories: 0.3 s" in texts(drawn["sync-timeline"])


def test_what_grows_like_the_images_lies_on_the_dotted_line(drawn):
    first, unchanged, changed, dotted = lines(drawn["growth-requests"])

    assert [first[0], first[-1]] == dotted
    slopes = [(line[0][1] - line[-1][1]) / (line[-1][0] - line[0][0]) for line in (first, changed)]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.02)
    assert slopes[0] > 0
    assert len(unchanged) == 3


def test_equal_figures_give_equal_bytes_and_few(drawn):
    found = told()

    assert drawn["growth-wal"] == plots.growth({"steps": found["steps"]})["growth-wal"]
    assert drawn["sync-timeline"] == plots.timeline(found["timeline"])
    assert max(map(len, drawn.values())) < 25_000
    assert not re.search(rb"<script|<!--|[0-9a-f]{8}-[0-9a-f]{4}-", b"".join(drawn.values()))


def test_a_picture_has_colours_for_the_dark(drawn):
    for name, svg in drawn.items():
        style = svg.partition(b"<style")[2].partition(b"</style>")[0].decode()
        light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
        for colour in ("#1b2733", "#0b62a8"):
            assert colour in light, name
            assert colour not in dark, name
        assert "#e4eaf0" in dark, name


def test_without_a_measurement_nothing_is_drawn(tmp_path, capsys):
    given = [f"--{name}={tmp_path / name}.json" for name in ("growth", "timeline")]

    assert plots.main([*given, f"--to={tmp_path}"]) == 2
    assert list(tmp_path.iterdir()) == []
    assert "bench.growth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(1, 1, [1]), (6, 5006, [1, 10, 100, 1000, 10_000]), (0.26, 9, [0.1, 1, 10])],
)
def test_powers_of_ten_hold_what_is_drawn(least, most, expected):
    assert plots.decades(least, most) == pytest.approx(expected)


def test_a_course_is_drawn_in_steps():
    seen = [(0, 0), (1, 0), (2, 5), (3, 5), (4, 9)]

    assert plots.steps(seen) == [(0, 0), (2, 0), (2, 5), (4, 5), (4, 9)]


@pytest.mark.nginx
@pytest.mark.slow
@pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing()))
def test_the_course_of_a_sync_is_looked_at_while_it_goes(tmp_path, monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}:{root}")
    figures = tmp_path / "timeline.json"

    assert timeline.main(["--world", "120x3", "--delay-ms", "20", "--json", str(figures)]) == 0

    course = json.loads(figures.read_text())
    samples, phases = course["samples"], course["phases"]
    assert len(samples) > 3
    for name in ("s", "requests", "repositories", "images", "wal_bytes"):
        seen = [sample[name] for sample in samples]
        assert seen == sorted(seen), name
    assert samples[-1]["images"] == 360
    assert samples[-1]["repositories"] == 120
    assert samples[-1]["requests"] == 121
    assert [phase["name"] for phase in phases] == [
        "waits",
        "lists repositories",
        "reads and writes",
        "settles",
    ]
    assert all(0 <= phase["from_s"] <= phase["to_s"] <= samples[-1]["s"] for phase in phases)
