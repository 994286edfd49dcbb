"""Alerts fire when they should and only then; dashboard, rules and pages speak of what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from wharfinger.domain.metrics import METRICS

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
NAME = re.compile(r"\bwharfinger_\w+")
SERIES = {
    f"{metric.exported}{ending}"
    for metric in METRICS
    for ending in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}

A, B = 'job="wharfinger",instance="a"', 'job="wharfinger",instance="b"'
# Of each alert: what makes it fire, when, with which labels; and what must leave it quiet. Two
# services that tell of one installation are one.
FIRING = {
    "WharfingerDown": ({f"up{{{A}}}": "0x20"}, "6m", {"instance": "a"}),
    "WharfingerDatabaseDown": ({f"wharfinger_database_up{{{A}}}": "0x20"}, "3m", {"instance": "a"}),
    "WharfingerNoWorker": (
        {f"wharfinger_workers{{{A}}}": "0x20", f"wharfinger_workers{{{B}}}": "0x20"},
        "4m",
        {},
    ),
    "WharfingerListStale": (
        {f'wharfinger_registries{{{A},kind="Harbor",verdict="stale"}}': "1x60"},
        "20m",
        {"kind": "Harbor"},
    ),
    "WharfingerListPartial": (
        {f'wharfinger_registries{{{A},kind="Harbor",verdict="partial"}}': "1x400"},
        "4h",
        {"kind": "Harbor"},
    ),
    "WharfingerRunsFail": (
        {f'wharfinger_runs_total{{{A},kind="Other",outcome="failed"}}': "0 1 2 3 4 4x60"},
        "30m",
        {"kind": "Other"},
    ),
    "WharfingerRunTooLong": (
        {f'wharfinger_run_oldest_seconds{{{A},state="running"}}': "0+60x400"},
        "5h",
        {},
    ),
    "WharfingerQueueStuck": (
        {f'wharfinger_job_oldest_seconds{{{A},queue="sync"}}': "0+60x60"},
        "30m",
        {"queue": "sync"},
    ),
    "WharfingerJobsFail": (
        {f'wharfinger_job_failures_total{{{A},task="wharfinger.read"}}': "0x10 1x60"},
        "15m",
        {"task": "wharfinger.read"},
    ),
    "WharfingerImagesHeld": (
        {f'wharfinger_images_held{{{A},kind="Jfrog"}}': "12x120"},
        "90m",
        {"kind": "Jfrog"},
    ),
    "WharfingerFingerprintsLie": (
        {f'wharfinger_fingerprint_lies{{{A},kind="Harbor"}}': "0x10 1x60"},
        "30m",
        {"kind": "Harbor"},
    ),
    "WharfingerUpstreamFails": (
        {
            f'wharfinger_upstream_requests_total{{{A},host="h",status="200"}}': "0+80x60",
            f'wharfinger_upstream_requests_total{{{A},host="h",status="503"}}': "0+10x60",
            f'wharfinger_upstream_requests_total{{{A},host="h",status="unreachable"}}': "0+10x60",
        },
        "40m",
        {"host": "h"},
    ),
    "WharfingerUpstreamThrottles": (
        {
            f'wharfinger_upstream_requests_total{{{A},host="h",status="200"}}': "0+50x60",
            f'wharfinger_upstream_requests_total{{{A},host="h",status="429"}}': "0+50x60",
        },
        "40m",
        {"host": "h"},
    ),
    "WharfingerHttpFails": (
        {
            f'wharfinger_http_requests_total{{{A},method="GET",route="/",status="200"}}': "0+80x60",
            f'wharfinger_http_requests_total{{{A},method="GET",route="/",status="503"}}': "0+20x60",
        },
        "30m",
        {"instance": "a"},
    ),
    "WharfingerHttpSlow": (
        {
            f'wharfinger_http_request_duration_seconds_bucket{{{A},le="1"}}': "0+50x60",
            f'wharfinger_http_request_duration_seconds_bucket{{{A},le="2.5"}}': "0+100x60",
            f'wharfinger_http_request_duration_seconds_bucket{{{A},le="+Inf"}}': "0+100x60",
        },
        "30m",
        {"instance": "a"},
    ),
    "WharfingerRefusals": (
        {f'wharfinger_refusals_total{{{A},reason="unknown_token"}}': "0+120x60"},
        "30m",
        {},
    ),
    "WharfingerPoolWaits": (
        {
            f'wharfinger_database_pool_wait_seconds_total{{{A},role="serve"}}': "0+60x60",
            f'wharfinger_database_pool_requests_total{{{A},role="serve"}}': "0+100x60",
        },
        "30m",
        {"role": "serve"},
    ),
}
# An ordinary day, told by two services.
QUIET = {
    series: values
    for who in (A, B)
    for series, values in {
        f"up{{{who}}}": "1x600",
        f"wharfinger_database_up{{{who}}}": "1x600",
        f"wharfinger_workers{{{who}}}": "1x600",
        f'wharfinger_registries{{{who},kind="Harbor",verdict="complete"}}': "3x600",
        # Stale for ten minutes and partial for two hours, then well again.
        f'wharfinger_registries{{{who},kind="Other",verdict="stale"}}': "1x10 0x590",
        f'wharfinger_registries{{{who},kind="Other",verdict="partial"}}': "1x120 0x480",
        f'wharfinger_runs_total{{{who},kind="Other",outcome="failed"}}': "0x60 1x60 2x480",
        f'wharfinger_runs_total{{{who},kind="Other",outcome="complete"}}': "0+1x600",
        f'wharfinger_run_oldest_seconds{{{who},state="running"}}': "0+60x200 0x400",
        f'wharfinger_job_oldest_seconds{{{who},queue="sync"}}': "0+60x10 0x590",
        f'wharfinger_job_failures_total{{{who},task="wharfinger.read"}}': "3x600",
        f'wharfinger_images_held{{{who},kind="Jfrog"}}': "12x30 0x570",
        f'wharfinger_fingerprint_lies{{{who},kind="Harbor"}}': "4x600",
        f'wharfinger_upstream_requests_total{{{who},host="h",status="200"}}': "0+100x600",
        f'wharfinger_upstream_requests_total{{{who},host="h",status="401"}}': "0+90x600",
        f'wharfinger_upstream_requests_total{{{who},host="h",status="503"}}': "0+5x600",
        f'wharfinger_upstream_requests_total{{{who},host="h",status="429"}}': "0+9x600",
        f'wharfinger_http_requests_total{{{who},method="GET",route="/",status="200"}}': "0+99x600",
        f'wharfinger_http_requests_total{{{who},method="GET",route="/",status="404"}}': "0+99x600",
        f'wharfinger_http_requests_total{{{who},method="GET",route="/",status="503"}}': "0+1x600",
        f'wharfinger_http_request_duration_seconds_bucket{{{who},le="0.1"}}': "0+99x600",
        f'wharfinger_http_request_duration_seconds_bucket{{{who},le="+Inf"}}': "0+100x600",
        # Forty a minute: below one a second, though two services tell of it.
        f'wharfinger_refusals_total{{{who},reason="unknown_token"}}': "0+40x600",
        f'wharfinger_database_pool_wait_seconds_total{{{who},role="serve"}}': "0+1x600",
        f'wharfinger_database_pool_requests_total{{{who},role="serve"}}': "0+100x600",
    }.items()
}


def rules() -> dict[str, dict]:
    return {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}


@pytest.fixture
def promtool():
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")

    def run(*arguments):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def series(values: dict[str, str]) -> list[dict]:
    return [{"series": one, "values": value} for one, value in values.items()]


def firing(name: str) -> dict:
    values, at, labels = FIRING[name]
    rule = rules()[name]
    expected = {"exp_labels": {"job": "wharfinger", **rule["labels"], **labels}}
    return {
        "name": name,
        "interval": "1m",
        "input_series": series(values),
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": [expected]}],
    }


@pytest.mark.promtool
def test_each_alert_fires_for_what_it_is_there_for_and_not_on_an_ordinary_day(promtool, tmp_path):
    quiet = {
        "name": "an ordinary day",
        "interval": "1m",
        "input_series": series(QUIET),
        "alert_rule_test": [
            {"eval_time": f"{hours}h", "alertname": name, "exp_alerts": []}
            for name in rules()
            for hours in (1, 5, 9)
        ],
    }
    # Without annotations, whose words are none of this test's affair.
    bare = yaml.safe_load(RULES.read_text())
    for rule in bare["groups"][0]["rules"]:
        del rule["annotations"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(bare))
    cases = {"rule_files": ["rules.yaml"], "tests": [*map(firing, FIRING), quiet]}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases))

    assert set(FIRING) == set(rules())
    promtool("check", "rules", str(RULES))
    promtool("check", "config", "--syntax-only", str(RULES.with_name("scrape.yaml")))
    promtool("test", "rules", str(tmp_path / "cases.yaml"))


def test_rules_and_dashboard_ask_for_metrics_that_there_are():
    asked = set(NAME.findall(RULES.read_text())) | set(NAME.findall(DASHBOARD.read_text()))

    assert len(asked) > 25
    assert asked - SERIES == set()


def test_the_dashboard_shows_every_metric():
    shown = set(NAME.findall(DASHBOARD.read_text()))

    missing = {m.exported for m in METRICS if not any(s.startswith(m.exported) for s in shown)}
    assert missing == set()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_metric_is_in_the_docs_as_it_is_in_the_code():
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")

    told = re.findall(r"^\| `(wharfinger_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", page, re.MULTILINE)
    assert told == [
        (m.exported, m.kind, ", ".join(f"`{label}`" for label in m.labels), m.help)
        for scope in ("installation", "process")
        for m in METRICS
        if m.scope == scope
    ]


def test_every_alert_leads_to_its_page_of_the_runbook():
    page = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]

    assert [section.partition("\n")[0] for section in sections] == list(rules())
    for section in sections:
        name = section.partition("\n")[0]
        assert rules()[name]["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
        assert "**Look.**" in section, name
        assert "**Do.**" in section, name
