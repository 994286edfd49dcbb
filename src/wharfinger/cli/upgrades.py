"""Whether an upgrade may begin."""

from __future__ import annotations

import msgspec
import typer

from wharfinger.cli.common import JsonFlag, print_json, print_line, settings_of
from wharfinger.store.fitness import Check
from wharfinger.wiring import check_upgrade


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was looked at; ``ok`` unless something failed."""

    ok: bool
    checks: list[Check]


def upgrade_check(json: JsonFlag = False) -> None:
    """Look whether this version can take over the database; nothing is changed.

    Exit code 1 when a check fails; a warning does not count.
    """
    checks = list(check_upgrade(settings_of()))
    report = Report(ok=all(one.grade != "fail" for one in checks), checks=checks)
    if json:
        print_json(report)
    else:
        for one in checks:
            print_line(f"{one.grade:<6}{one.check:<14}{one.message}")
            if one.advice:
                print_line(f"{'':<20}{one.advice}")
    if not report.ok:
        raise typer.Exit(1)
