"""The report of a run says in words what happened, and what to do."""

from __future__ import annotations

import datetime as dt

import aiohttp
import msgspec
import pytest

from http_port import serving
from wharfinger.domain.errors import NotFoundError
from wharfinger.domain.history import Advised, Difference, RunRecord
from wharfinger.domain.report import RunReport, as_markdown
from wharfinger.service.report import report_of
from yard import PROJECT

AT = dt.datetime(2026, 11, 24, 1, 0, tzinfo=dt.UTC)


async def test_a_run_is_told_with_what_changed_since_the_one_before(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    upstream.world.push(upstream.world.owned()[0].path, "fresh")
    run = await yard.sync(full=True)

    report = await report_of(yard.house.history, yard.caller, "latest")
    page = as_markdown(report)

    assert report.run.id == run.id
    assert [(one.change, one.tag) for one in report.changes] == [("added", "fresh")]
    assert page.startswith("# swrprivate: complete\n\nThe list is complete")
    assert "| added | 1 |" in page
    assert "fresh" in page.partition("## What changed since the run before")[2]
    assert "What went wrong" not in page


async def test_the_api_gives_it_to_people_and_to_programs(yard, upstream):
    await yard.add_swr(upstream)
    run = await yard.sync()
    token = await yard.house.callers.create_token(PROJECT, dt.timedelta(minutes=5))
    async with (
        serving(yard.house) as url,
        aiohttp.ClientSession(headers={"X-Auth-Token": token}) as session,
    ):
        path = f"{url}/api/v1/projects/{PROJECT}/runs"
        async with session.get(f"{path}/{run.id}/report") as answer:
            told = await answer.json()
        async with session.get(f"{path}/latest/report?format=markdown") as answer:
            kind, page = answer.content_type, await answer.text()
        async with session.get(f"{path}/latest/report?format=html") as answer:
            refused = answer.status

    assert told["run"]["id"] == run.id
    assert told["verdict"].startswith("The list is complete")
    assert kind == "text/markdown"
    assert page.startswith("# swrprivate: complete")
    assert refused == 400


async def test_before_the_first_run_there_is_none_to_tell_of(yard):
    with pytest.raises(NotFoundError, match="no run has ended yet"):
        await report_of(yard.house.history, yard.caller, "latest")


def record(**changes) -> RunRecord:
    facts = dict.fromkeys(RunRecord.__struct_fields__, 0)
    return RunRecord(
        **facts
        | {
            "id": "r1",
            "registry_id": "g1",
            "registry": "harbor",
            "kind": "sync",
            "state": "finished",
            "outcome": "partial",
            "full": True,
            "queued_at": AT,
            "started_at": AT,
            "finished_at": AT + dt.timedelta(seconds=3723),
            "seconds": 3723.0,
            "reasons": (),
        }
        | changes
    )


def report(**changes) -> RunReport:
    facts = RunReport(
        run=record(),
        verdict="Part of it.",
        compared_with=None,
        changes=(),
        more_changes=False,
        failures=(),
        more_failures=0,
        what_to_do=(),
    )
    return msgspec.structs.replace(facts, **changes)


def test_failures_are_told_with_where_why_and_what_to_do():
    failure = Advised(code="forbidden", message="403", repository="team/app", advice="Grant it.")

    page = as_markdown(report(failures=(failure,), more_failures=3, what_to_do=("Grant it.",)))

    assert "## What to do\n\n- Grant it." in page
    assert "| team/app | 403 | `forbidden` |" in page
    assert "And 3 more." in page
    assert "after 1 h 2 min" in page


def test_what_a_registry_made_up_is_text_and_no_markup():
    wicked = "a|b\n# Heading [x](javascript:y) <script> `z`"
    failure = Advised(code="missing", message=wicked, repository=wicked, advice="Look.")
    change = Difference(
        id=1,
        change="added",
        namespace="",
        name=wicked,
        tag="t",
        digest_before=None,
        digest_after="sha256:`|",
    )

    page = as_markdown(
        report(
            run=record(registry=wicked),
            compared_with="r0",
            changes=(change,),
            failures=(failure,),
            what_to_do=("Look.",),
        )
    )

    assert "<script" not in page.replace("\\<", "")
    assert "](" not in page.replace("\\]\\(", "").replace("\\](", "")
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert len(headings) == 4
    assert all(line.count(" | ") - line.count("\\| ") <= 4 for line in page.splitlines())
