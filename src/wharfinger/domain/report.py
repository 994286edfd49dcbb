"""What a person is told of one run: its verdict in words, its figures, what changed, what to do."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator

import msgspec

from wharfinger.domain.history import Advised, Difference, RunRecord

# More than this nobody reads; the rest is counted, and to be had from the lists it comes from.
MOST_CHANGES = 50
MOST_FAILURES = 50

_VERDICTS = {
    "complete": "The list is complete: everything there was to read was read.",
    "held": "The list is complete, and some images that it lacks are held back: they stay listed"
    " until somebody decides.",
    "partial": "Part of the registry could not be read. What was not read is listed as it was"
    " before, and nothing was retired for it.",
    "failed": "The registry could not be read. Its list is as it was before.",
}
_UNFINISHED = "The run has not ended: the figures are those of now."
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~!&])")


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """A run for people.

    ``changes`` are those since the run of the registry before it, none where there was no such
    run or what lies between is forgotten; ``more_changes`` says that there are others.
    """

    run: RunRecord
    verdict: str
    compared_with: str | None
    changes: tuple[Difference, ...]
    more_changes: bool
    failures: tuple[Advised, ...]
    more_failures: int
    what_to_do: tuple[str, ...]


def verdict_of(run: RunRecord) -> str:
    """A run's verdict in words."""
    return _VERDICTS.get(run.outcome or "", _UNFINISHED)


def as_markdown(report: RunReport) -> str:
    """The report as a page: names that a registry made up are text and never markup."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: RunReport) -> Iterator[str]:
    run = report.run
    yield f"# {_plain(run.registry)}: {run.outcome or run.state}"
    yield from ("", report.verdict, "")
    yield from ("| | |", "|---|---|")
    yield from (f"| {name} | {value} |" for name, value in _figures(run))
    if report.what_to_do:
        yield from ("", "## What to do", "")
        yield from (f"- {advice}" for advice in report.what_to_do)
    if report.failures:
        yield from ("", "## What went wrong", "")
        yield from ("| where | what | code |", "|---|---|---|")
        yield from (
            f"| {_plain(one.repository or 'the registry')} | {_plain(one.message)} | `{one.code}` |"
            for one in report.failures
        )
        if report.more_failures:
            yield from ("", f"And {report.more_failures} more.")
    yield from _changes(report)


def _figures(run: RunRecord) -> Iterator[tuple[str, str]]:
    yield "run", f"`{run.id}`"
    yield "asked for", _time(run.queued_at)
    if run.started_at is not None:
        yield "began", _time(run.started_at)
    if run.finished_at is not None:
        took = "" if run.seconds is None else f", after {_duration(run.seconds)}"
        yield "ended", f"{_time(run.finished_at)}{took}"
    reading = "every repository" if run.full else "what had changed"
    yield "read", "what notifications named" if run.kind == "hint" else reading
    yield "repositories", f"{run.repositories_done} of {run.repositories_total}"
    if run.repositories_failed:
        yield "of them unread", str(run.repositories_failed)
    yield "images read", str(run.images)
    yield "requests", str(run.requests)
    for name in ("added", "moved", "retired", "restored", "held"):
        if count := getattr(run, name):
            yield name, str(count)


def _changes(report: RunReport) -> Iterator[str]:
    if report.compared_with is None:
        return
    yield from ("", "## What changed since the run before", "")
    if not report.changes:
        yield "Nothing."
        return
    yield from ("| | image | before | after |", "|---|---|---|---|")
    for one in report.changes:
        path = "/".join(part for part in (one.namespace, one.name) if part)
        image = _plain(f"{path}:{one.tag}" if one.tag else path)
        before, after = _digest(one.digest_before), _digest(one.digest_after)
        yield f"| {one.change} | {image} | {before} | {after} |"
    if report.more_changes:
        yield from ("", "And others: `wharfinger changes`, or the difference of the two runs.")


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", _CONTROL.sub(" ", text))


def _digest(digest: str | None) -> str:
    return "" if digest is None else f"`{_CONTROL.sub('', digest).replace('`', '')[:19]}`"


def _time(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
