"""The audit on the command line: who did what in a project, and who was not let in."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    print_json,
    print_line,
    print_table,
    read_duration,
    with_house,
)
from wharfinger.domain.audit import AuditEntry, AuditFilter, Strangers
from wharfinger.domain.model import Caller
from wharfinger.wiring import House

audit = typer.Typer(help="The audit: who did or was refused what.", no_args_is_help=True)

CHUNK = 1000

SinceOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only of the last so much time: 24h, 7d.")
]


@audit.command("list")
def list_entries(
    project: ProjectOption,
    since: SinceOption = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="change or refusal: only those.", metavar="KIND")
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this action: registry.remove.")] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this user.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="At most so many, the newest.")
    ] = 1000,
    json: JsonFlag = False,
) -> None:
    """List who changed what in a project, and whose calls were refused; newest first."""
    if kind not in (None, "change", "refusal"):
        raise typer.BadParameter("must be change or refusal", param_hint="--kind")
    wanted = AuditFilter(kind=kind, action=action, user=user, since=_ago(since) if since else None)

    async def work(house: House) -> list[AuditEntry]:
        return await _entries(house, await caller_of(house, project), wanted, limit)

    found = with_house(work)
    if json:
        print_json(found)
    else:
        columns = ["at", "who", "from", "action", "target", "outcome", "request id"]
        print_table(columns, [_cells(entry) for entry in found])


@audit.command("strangers")
def list_strangers(
    since: SinceOption = None,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="At most so many of each.")
    ] = 50,
    json: JsonFlag = False,
) -> None:
    """List refused calls of nobody we know: counts by reason and network, and samples.

    They belong to no project, so this is of the whole installation.
    """
    moment = _ago(since or "24h")
    found: Strangers = with_house(lambda house: house.trail.strangers(moment, limit=limit))
    if json:
        print_json(found)
        return
    counts = [(c.reason, c.network, c.calls, _time(c.first), _time(c.last)) for c in found.counts]
    print_table(["reason", "network", "calls", "first", "last"], counts)
    print_line("samples:")
    samples = [
        (_time(s.at), s.reason, s.source, f"{s.method} {s.route}", s.request_id)
        for s in found.samples
    ]
    print_table(["at", "reason", "from", "call", "request id"], samples)


async def _entries(
    house: House, caller: Caller, wanted: AuditFilter, limit: int
) -> list[AuditEntry]:
    found: list[AuditEntry] = []
    while len(found) < limit:
        at_once = min(CHUNK, limit - len(found))
        before = found[-1].id if found else None
        page = await house.trail.entries(caller, wanted, before=before, limit=at_once)
        found += page
        if len(page) < at_once:
            break
    return found


def _ago(since: str) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - read_duration(since, "--since")


def _cells(entry: AuditEntry) -> tuple[Any, ...]:
    return (
        _time(entry.at),
        entry.principal,
        entry.source,
        entry.action,
        f"{entry.target_type} {entry.target_name}" if entry.target_name else entry.target,
        entry.outcome,
        entry.request_id[:8],
    )


def _time(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
