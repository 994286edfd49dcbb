"""The report of a run, for a person, a ticket or a chat."""

from __future__ import annotations

from enum import StrEnum
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
from wharfinger.domain.errors import NotFoundError
from wharfinger.domain.report import RunReport, as_markdown
from wharfinger.service.report import LATEST, report_of
from wharfinger.wiring import House


class Format(StrEnum):
    """How a report is written."""

    MARKDOWN = "markdown"
    JSON = "json"


def report(
    project: ProjectOption,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or latest.")] = LATEST,
    registry: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The latest of this registry.", autocompletion=complete_registry
        ),
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", metavar="FORMAT", help="markdown or json.")
    ] = Format.MARKDOWN,
    json: JsonFlag = False,
) -> None:
    """Tell what a run has found, what changed, what went wrong, and what to do about it."""

    async def work(house: House) -> RunReport:
        caller = await caller_of(house, project)
        chosen: str | None = None
        if registry is not None:
            known = await house.history.registries(caller)
            chosen = next((one.id for one in known.items if one.name == registry), None)
            if chosen is None:
                raise NotFoundError(f"there is no registry named {registry}")
        return await report_of(house.history, caller, run, registry=chosen)

    found = with_house(work)
    if json or form is Format.JSON:
        print_json(found)
    else:
        print_line(as_markdown(found).rstrip("\n"))
