"""The schema, apart from the processes that use it: for upgrades while others are at work."""

from __future__ import annotations

import asyncio
import enum
from typing import Annotated

import typer

from wharfinger.cli.common import JsonFlag, print_json, print_line, settings_of
from wharfinger.domain.errors import SetupError
from wharfinger.settings import Settings
from wharfinger.wiring import migrate_database, migrations_missing

_LOOK_S = 0.5


class Phase(enum.StrEnum):
    """Before or after the release before has gone."""

    PRE = "pre"
    POST = "post"


def migrate(
    phase: Annotated[
        Phase,
        typer.Option(
            help="pre: what the release before can live with, to be run before this one starts."
            " post: the rest, after the release before has gone."
        ),
    ] = Phase.POST,
    wait: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Apply nothing: wait until somebody else has done what this version needs.",
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Bring the database's schema to this version, or wait until it is there."""
    settings = settings_of()
    if wait is not None:
        asyncio.run(_wait(settings, wait))
        applied = []
    else:
        applied = migrate_database(settings, "pre" if phase is Phase.PRE else "all")
    if json:
        print_json({"applied": applied})
    elif not applied:
        print_line("nothing to do")
    for name in [] if json else applied:
        print_line(name)


async def _wait(settings: Settings, seconds: int) -> None:
    """Look at the database until it has what this version needs.

    Raises:
        SetupError: it does not get it in time.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while reason := await migrations_missing(settings):
        if asyncio.get_running_loop().time() >= deadline:
            raise SetupError(f"not within {seconds} s: {reason}")
        await asyncio.sleep(_LOOK_S)
