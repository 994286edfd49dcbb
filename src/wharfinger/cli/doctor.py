"""A dry run of a registry, for people and for scripts."""

from __future__ import annotations

from typing import Annotated

import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    print_json,
    print_line,
    with_house,
)
from wharfinger.cli.completing import complete_registry
from wharfinger.domain.examination import Examination, Finding
from wharfinger.wiring import House


def doctor(
    registry: Annotated[
        str,
        typer.Argument(
            metavar="REGISTRY",
            help="The registry, by name or id.",
            autocompletion=complete_registry,
        ),
    ],
    project: ProjectOption,
    json: JsonFlag = False,
) -> None:
    """Try every step of a sync of a registry once, and say what it would cost; store nothing.

    Exit code 1 when a check fails.
    """

    async def work(house: House) -> Examination:
        return await house.doctor.examine(await caller_of(house, project), registry)

    report = with_house(work)
    if json:
        print_json(report)
    else:
        for finding in report.findings:
            _show(finding)
        print_line(f"{report.requests} requests in {report.seconds:.1f} s")
    if not report.ok:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    print_line(f"{finding.grade:<8}{finding.check.replace('_', ' '):<16}{finding.message}")
    if finding.advice is not None:
        print_line(f"{'':<24}{finding.advice}")
