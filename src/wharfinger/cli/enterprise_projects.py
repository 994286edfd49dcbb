"""Enterprise projects: parts of an account, and which users see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    print_json,
    print_line,
    print_table,
    with_house,
)
from wharfinger.domain.model import ALL_GRANTED_ENTERPRISE_PROJECTS
from wharfinger.store.enterprise_projects import EnterpriseGrant, EnterpriseProject
from wharfinger.wiring import House

enterprise_projects = typer.Typer(
    help="Enterprise projects: what each user sees of an account.", no_args_is_help=True
)

IdArgument = Annotated[str, typer.Argument(help="Its id; 0 is the default one.", metavar="ID")]
UserArgument = Annotated[str, typer.Argument(help="The user's name.", metavar="USER")]
OptionalIdArgument = Annotated[
    str | None, typer.Argument(help="Its id; 0 is the default one.", metavar="[ID]")
]
AllFlag = Annotated[bool, typer.Option("--all", help="Every one, also those made later.")]


@enterprise_projects.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What it is called in the account.")],
    project: ProjectOption,
    json: JsonFlag = False,
) -> None:
    """Make an enterprise project in the account of a project; prints its id."""

    async def work(house: House) -> EnterpriseProject:
        return await house.enterprise_projects.create(await caller_of(house, project), name)

    made = with_house(work)
    if json:
        print_json(made)
    else:
        print_line(made.id)


@enterprise_projects.command("list")
def list_all(project: ProjectOption, json: JsonFlag = False) -> None:
    """List the enterprise projects of a project's account with who is granted each."""

    async def work(house: House) -> list[tuple[EnterpriseProject, Sequence[EnterpriseGrant]]]:
        caller = await caller_of(house, project)
        return [
            (one, await house.enterprise_projects.grants(caller, one.id))
            for one in await house.enterprise_projects.list(caller)
        ]

    found = with_house(work)
    if json:
        print_json(
            [
                {
                    "id": one.id,
                    "name": one.name,
                    "disabled": one.disabled,
                    "created_at": one.created_at,
                    "grants": grants,
                }
                for one, grants in found
            ]
        )
        return
    rows = [
        (one.id, one.name, "disabled" if one.disabled else "", _told(grants))
        for one, grants in found
    ]
    print_table(["id", "name", "", "granted to"], rows)


@enterprise_projects.command("rename")
def rename(
    enterprise_project: IdArgument,
    name: Annotated[str, typer.Argument(help="What it is called from now on.")],
    project: ProjectOption,
) -> None:
    """Give an enterprise project another name; its id stays."""
    _change(project, enterprise_project, name=name)


@enterprise_projects.command("disable")
def disable(enterprise_project: IdArgument, project: ProjectOption) -> None:
    """Let no further registry in; what it holds stays in every list."""
    _change(project, enterprise_project, disabled=True)


@enterprise_projects.command("enable")
def enable(enterprise_project: IdArgument, project: ProjectOption) -> None:
    """Let registries in again."""
    _change(project, enterprise_project, disabled=False)


@enterprise_projects.command("grant")
def grant(
    user: UserArgument,
    project: ProjectOption,
    enterprise_project: OptionalIdArgument = None,
    every: AllFlag = False,
) -> None:
    """Let a user see an enterprise project; it counts from the next call on."""
    which = _which(enterprise_project, every)

    async def work(house: House) -> None:
        await house.enterprise_projects.grant(await caller_of(house, project), which, user)

    with_house(work)


@enterprise_projects.command("revoke")
def revoke(
    user: UserArgument,
    project: ProjectOption,
    enterprise_project: OptionalIdArgument = None,
    every: AllFlag = False,
) -> None:
    """Take a grant back, exactly as it was given."""
    which = _which(enterprise_project, every)

    async def work(house: House) -> None:
        await house.enterprise_projects.revoke(await caller_of(house, project), which, user)

    with_house(work)


def _change(
    project: str, wanted: str, *, name: str | None = None, disabled: bool | None = None
) -> None:
    async def work(house: House) -> None:
        caller = await caller_of(house, project)
        await house.enterprise_projects.change(caller, wanted, name=name, disabled=disabled)

    with_house(work)


def _which(enterprise_project: str | None, every: bool) -> str:
    if every == (enterprise_project is not None):
        raise typer.BadParameter("give the id of an enterprise project, or --all; not both")
    return enterprise_project or ALL_GRANTED_ENTERPRISE_PROJECTS


def _told(grants: Sequence[EnterpriseGrant]) -> str:
    return ", ".join(f"{one.user} (all)" if one.every else one.user for one in grants)
