"""The token under which a registry tells of changes at once."""

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
from wharfinger.cli.registries import NameOption
from wharfinger.service.hints import NewHintToken
from wharfinger.wiring import House


def hint_token(
    project: ProjectOption,
    name: NameOption,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Let no notification of the registry in any more.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Make the token of a registry's notifications; it is shown once, an earlier one ends.

    The registry is told to send them to the printed path with Authorization: Bearer TOKEN.
    """

    async def work(house: House) -> NewHintToken | None:
        caller = await caller_of(house, project)
        if revoke:
            await house.hints.revoke_token(caller, name)
            return None
        return await house.hints.make_token(caller, name)

    made = with_house(work)
    if made is None:
        print_json({"name": name, "revoked": True}) if json else print_line(f"revoked for {name}")
    elif json:
        print_json({"name": name, "token": made.token, "path": made.path})
    else:
        print_line(f"token  {made.token}")
        print_line(f"path   {made.path}")
