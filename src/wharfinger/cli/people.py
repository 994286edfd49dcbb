"""Projects, and the credentials and tokens that belong to them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    print_json,
    print_line,
    print_table,
    read_duration,
    with_house,
)
from wharfinger.wiring import House

projects = typer.Typer(help="Projects: the tenants.", no_args_is_help=True)
credentials = typer.Typer(help="Access keys that sign calls.", no_args_is_help=True)
tokens = typer.Typer(help="Tokens for X-Auth-Token.", no_args_is_help=True)


@projects.command("create")
def create_project(
    name: Annotated[str, typer.Argument(help="Name it after your region to let SDKs find it.")],
    project_id: Annotated[
        str | None,
        typer.Option("--id", help="The id in every URL; 32 hexadecimal digits by default."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Make a project; its id is printed."""
    made = with_house(lambda house: house.callers.create_project(name, project_id))
    if json:
        print_json({"id": made.id, "name": made.name, "created_at": made.created_at})
    else:
        print_line(made.id)


@projects.command("list")
def list_projects(json: JsonFlag = False) -> None:
    """List every project with its registries and images."""
    found = with_house(lambda house: house.callers.list_projects())
    if json:
        print_json(found)
    else:
        rows = [(p.id, p.name, p.registries, p.images, p.created_at) for p in found]
        print_table(["id", "name", "registries", "images", "created at"], rows)


@credentials.command("create")
def create_credential(project: ProjectOption, json: JsonFlag = False) -> None:
    """Make an access key; the secret key is shown this once."""
    made = with_house(lambda house: house.callers.create_credential(project))
    if json:
        print_json({"access_key": made.access_key, "secret_key": made.secret_key})
    else:
        print_line(f"access_key  {made.access_key}")
        print_line(f"secret_key  {made.secret_key}")


@tokens.command("create")
def create_token(
    project: ProjectOption,
    ttl: Annotated[str, typer.Option(help="How long it lives: 30m, 24h, 7d.")] = "24h",
    json: JsonFlag = False,
) -> None:
    """Make a token; the bare token is the last line, shown this once."""
    life = read_duration(ttl, "--ttl")

    async def make(house: House) -> str:
        return await house.callers.create_token(project, life)

    token = with_house(make)
    expires = dt.datetime.now(dt.UTC) + life
    if json:
        print_json({"token": token, "expires_at": expires})
    else:
        print_line(f"expires at {expires:%Y-%m-%dT%H:%M:%SZ}")
        print_line(token)
