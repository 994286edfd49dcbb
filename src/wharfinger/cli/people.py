"""Projects, and the credentials and tokens that belong to them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    operator,
    print_json,
    print_line,
    print_table,
    read_duration,
    with_house,
)
from wharfinger.store.callers import ListedCredential, NewCredential
from wharfinger.store.resealing import Resealing
from wharfinger.wiring import House

projects = typer.Typer(help="Projects: the tenants.", no_args_is_help=True)
credentials = typer.Typer(help="Access keys that sign calls.", no_args_is_help=True)
tokens = typer.Typer(help="Tokens for X-Auth-Token.", no_args_is_help=True)
secret_keys = typer.Typer(help="The keys that seal secrets at rest.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(help="The access key.", metavar="ACCESS_KEY")]


@projects.command("create")
def create_project(
    name: Annotated[str, typer.Argument(help="Name it after your region to let SDKs find it.")],
    project_id: Annotated[
        str | None,
        typer.Option("--id", help="The id in every URL; 32 hexadecimal digits by default."),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="One more project of this account; by default one of its own."
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Make a project; its id is printed."""
    made = with_house(
        lambda house: house.callers.create_project(
            name, project_id, account_id=account, by=operator()
        )
    )
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
def create_credential(
    project: ProjectOption,
    user: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose it is; by default it acts as the account."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="After how long it ends: 90d.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Make an access key; the secret key is shown this once."""
    life = None if expires is None else read_duration(expires, "--expires")

    async def make(house: House) -> NewCredential:
        return await house.access_keys.create(await caller_of(house, project), user, life)

    _show_key(with_house(make), json=json)


@credentials.command("list")
def list_credentials(project: ProjectOption, json: JsonFlag = False) -> None:
    """List a project's access keys."""

    async def find(house: House) -> list[ListedCredential]:
        found = await house.access_keys.list(await caller_of(house, project))
        return [known.key for known in found]

    found = with_house(find)
    if json:
        print_json(found)
        return
    rows = [(c.access_key, c.user_name, c.created_at, c.expires_at, c.revoked_at) for c in found]
    print_table(["access key", "user", "created at", "expires at", "revoked at"], rows)


@credentials.command("rotate")
def rotate_credential(
    access_key: KeyArgument,
    project: ProjectOption,
    keep: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old one goes on: 0, 30m, 24h.")
    ] = "24h",
    json: JsonFlag = False,
) -> None:
    """Make a key in place of another, which goes on for a while; shown this once."""
    life = dt.timedelta(0) if keep == "0" else read_duration(keep, "--keep")

    async def replace(house: House) -> NewCredential:
        return await house.access_keys.rotate(await caller_of(house, project), access_key, life)

    _show_key(with_house(replace), json=json)


@credentials.command("revoke")
def revoke_credential(access_key: KeyArgument, project: ProjectOption) -> None:
    """End an access key now."""

    async def revoke(house: House) -> None:
        await house.access_keys.revoke(await caller_of(house, project), access_key)

    with_house(revoke)


def _show_key(made: NewCredential, *, json: bool) -> None:
    ends = {} if made.expires_at is None else {"expires_at": made.expires_at}
    if json:
        print_json({"access_key": made.access_key, "secret_key": made.secret_key, **ends})
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
        return await house.callers.create_token(project, life, by=operator())

    token = with_house(make)
    expires = dt.datetime.now(dt.UTC) + life
    if json:
        print_json({"token": token, "expires_at": expires})
    else:
        print_line(f"expires at {expires:%Y-%m-%dT%H:%M:%SZ}")
        print_line(token)


@secret_keys.command("rotate")
def rotate_secret_key(
    drop_old: Annotated[
        bool,
        typer.Option("--drop-old", help="Remove the old key at once; stop everything else first."),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Replace the key that seals secrets at rest, and seal all of them again."""

    async def rotate(house: House) -> tuple[int, str]:
        resealing = Resealing(house.database, house.callers, house.keys)
        done = await resealing.rotate(drop_old=drop_old, by=operator())
        return done, house.keys.newest

    done, key = with_house(rotate)
    if json:
        print_json({"resealed": done, "key": key})
    else:
        print_line(f"sealed {done} secrets again under the key {key}")
