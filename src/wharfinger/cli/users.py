"""Users of an account, and what they may do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    find_project,
    operator,
    print_json,
    print_line,
    print_table,
    read_secret,
    with_house,
)
from wharfinger.domain.errors import SetupError
from wharfinger.domain.policy import read_policy
from wharfinger.identity.passwords import check_new_password
from wharfinger.identity.users import KINDS, NewUser
from wharfinger.store.principals import NamedPolicy, User
from wharfinger.wiring import House

users = typer.Typer(help="Users: who logs in, and what each may do.", no_args_is_help=True)
policies = typer.Typer(help="Policies: what may be granted to users.", no_args_is_help=True)

UserArgument = Annotated[str, typer.Argument(help="The user's name.", metavar="NAME")]
PasswordFlag = Annotated[
    bool, typer.Option("--password-stdin", help="Read a password from standard input.")
]
EverywhereFlag = Annotated[
    bool, typer.Option("--all-projects", help="In every project of the account, later ones too.")
]


@users.command("create")
def create_user(
    name: UserArgument,
    project: ProjectOption,
    kind: Annotated[
        str, typer.Option(help="user, or account: one who may do everything.")
    ] = "user",
    policy: Annotated[
        list[str] | None, typer.Option(help="Grant this in the project; repeatable.")
    ] = None,
    password_stdin: PasswordFlag = False,
    json: JsonFlag = False,
) -> None:
    """Make a user in the account of a project; prints its id."""
    if kind not in KINDS:
        raise typer.BadParameter("must be account or user", param_hint="--kind")
    new = NewUser(
        name=name,
        kind=kind,
        roles=policy or (),
        password=_new_password() if password_stdin else None,
    )

    async def make(house: House) -> str:
        return await house.users.create(await caller_of(house, project), new)

    user_id = with_house(make)
    if json:
        print_json({"id": user_id, "name": name})
    else:
        print_line(user_id)


@users.command("list")
def list_users(project: ProjectOption, json: JsonFlag = False) -> None:
    """List the users of a project's account with what they are granted."""

    async def find(house: House) -> list[User]:
        found = await house.users.list(await caller_of(house, project))
        return [known.user for known in found]

    found = with_house(find)
    if json:
        print_json(found)
        return
    rows = [
        (
            user.id,
            user.name,
            user.kind,
            ", ".join(f"{g.policy} in {g.project or 'all projects'}" for g in user.grants),
            ", ".join("all" if one == "*" else one for one in user.enterprise_projects),
            "password" if user.has_password else "keys only",
            "disabled" if user.disabled else "",
        )
        for user in found
    ]
    print_table(["id", "name", "kind", "granted", "enterprise projects", "logs in with", ""], rows)


@users.command("disable")
def disable_user(name: UserArgument, project: ProjectOption) -> None:
    """Close a user: no login, and neither its tokens nor its keys work."""

    async def disable(house: House) -> None:
        await house.users.set_disabled(await caller_of(house, project), name, disabled=True)

    with_house(disable)


@users.command("enable")
def enable_user(name: UserArgument, project: ProjectOption) -> None:
    """Open a user again."""

    async def enable(house: House) -> None:
        await house.users.set_disabled(await caller_of(house, project), name, disabled=False)

    with_house(enable)


@users.command("password")
def change_password(name: UserArgument, project: ProjectOption) -> None:
    """Set a user's password, read from standard input; its tokens end."""
    password = _new_password()

    async def change(house: House) -> None:
        await house.users.set_password(await caller_of(house, project), name, password)

    with_house(change)


@users.command("grant")
def grant(
    name: UserArgument,
    policy: Annotated[str, typer.Argument(help="A policy's name.")],
    project: ProjectOption,
    all_projects: EverywhereFlag = False,
) -> None:
    """Grant a policy to a user; it counts from the next call on."""

    async def do(house: House) -> None:
        account = await account_of(house, project)
        where = None if all_projects else project
        await house.principals.grant(account, name, policy, where, by=operator())

    with_house(do)


@users.command("revoke")
def revoke(
    name: UserArgument,
    policy: Annotated[str, typer.Argument(help="A policy's name.")],
    project: ProjectOption,
    all_projects: EverywhereFlag = False,
) -> None:
    """Take a granted policy back, exactly as it was granted."""

    async def do(house: House) -> None:
        account = await account_of(house, project)
        where = None if all_projects else project
        await house.principals.revoke(account, name, policy, where, by=operator())

    with_house(do)


@policies.command("create")
def create_policy(
    name: Annotated[str, typer.Argument(help="What it is called in the account.")],
    project: ProjectOption,
    file: Annotated[
        Path, typer.Option(help='JSON: {"Version": "1.1", "Statement": […]}.', show_default=False)
    ],
) -> None:
    """Keep a policy in the account of a project."""
    try:
        document = file.read_bytes()
    except OSError as exc:
        raise SetupError(f"{file} cannot be read: {exc.strerror}") from exc
    policy = read_policy(document)

    async def create(house: House) -> None:
        account = await account_of(house, project)
        await house.principals.create_policy(account, name, policy, by=operator())

    with_house(create)


@policies.command("list")
def list_policies(project: ProjectOption, json: JsonFlag = False) -> None:
    """List the system's policies and the account's own."""
    found = with_house(lambda house: _policies(house, project))
    if json:
        print_json(found)
        return
    rows = [
        (
            one.name,
            "system" if one.system else "",
            "; ".join(f"{s.effect} {', '.join(s.action)}" for s in one.policy.statement),
        )
        for one in found
    ]
    print_table(["name", "", "statements"], rows)


@policies.command("delete")
def delete_policy(
    name: Annotated[str, typer.Argument(help="A policy of the account's own.")],
    project: ProjectOption,
) -> None:
    """Delete a policy that nobody is granted."""

    async def delete(house: House) -> None:
        await house.principals.delete_policy(await account_of(house, project), name, by=operator())

    with_house(delete)


async def account_of(house: House, project_id: str) -> str:
    """The account that a project belongs to.

    Raises:
        NotFoundError: there is no such project.
    """
    return (await find_project(house, project_id)).account_id


async def _policies(house: House, project: str) -> list[NamedPolicy]:
    return await house.principals.list_policies(await account_of(house, project))


def _new_password() -> str:
    password = read_secret("password")
    # Before anything is opened, which takes a while.
    check_new_password(password)
    return password
