"""SWR of Huawei Cloud: the registries that come with access to it."""

from __future__ import annotations

from typing import Annotated

import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    print_json,
    print_table,
    with_house,
)
from wharfinger.cli.registries import (
    AccessKeyOption,
    PasswordOption,
    SecretKeyOption,
    UsernameOption,
    read_credential,
)
from wharfinger.domain.model import FoundRegistry
from wharfinger.service.swr import ConfiguredRegistry, SwrAccess
from wharfinger.wiring import House

swr = typer.Typer(help="SWR of Huawei Cloud, both editions.", no_args_is_help=True)

RegionOption = Annotated[str, typer.Option(help="The region, like cn-north-4.")]
AddressOption = Annotated[
    str, typer.Option(help="The management endpoint, where it is not the region's own. A URL.")
]
IamOption = Annotated[
    str, typer.Option("--iam-address", help="The IAM endpoint; a user name and password need it.")
]
SwrProjectOption = Annotated[
    str,
    typer.Option("--swr-project-id", help="The project's id in Huawei Cloud; instances need it."),
]


@swr.command("configure")
def configure(
    project: ProjectOption,
    region: RegionOption,
    access_key: AccessKeyOption = None,
    secret_key_stdin: SecretKeyOption = False,
    username: UsernameOption = None,
    password_stdin: PasswordOption = False,
    address: AddressOption = "",
    iam_address: IamOption = "",
    swr_project_id: SwrProjectOption = "",
    instances: Annotated[
        bool,
        typer.Option("--instances", help="Have a registry for each enterprise instance, too."),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Have the registries that access to SWR opens: private, shared, and with --instances more.

    What is there already, under whatever name, gets these credentials; a second time changes
    nothing.
    """
    access = SwrAccess(
        region=region,
        address=address.rstrip("/"),
        iam_address=iam_address,
        swr_project_id=swr_project_id,
        credential=read_credential(access_key, secret_key_stdin, username, password_stdin),
    )

    async def work(house: House) -> list[ConfiguredRegistry]:
        caller = await caller_of(house, project)
        return await house.swr.configure(caller, access, instances=instances)

    done = with_house(work)
    if json:
        print_json(done)
    else:
        print_table(["name", "kind", "outcome"], [(r.name, r.kind, r.outcome) for r in done])


@swr.command("instances")
def list_instances(
    project: ProjectOption,
    region: RegionOption,
    swr_project_id: SwrProjectOption,
    access_key: AccessKeyOption = None,
    secret_key_stdin: SecretKeyOption = False,
    username: UsernameOption = None,
    password_stdin: PasswordOption = False,
    address: AddressOption = "",
    iam_address: IamOption = "",
    json: JsonFlag = False,
) -> None:
    """List the instances of SWR enterprise edition; nothing is stored."""
    access = SwrAccess(
        region=region,
        address=address.rstrip("/"),
        iam_address=iam_address,
        swr_project_id=swr_project_id,
        credential=read_credential(access_key, secret_key_stdin, username, password_stdin),
    )

    async def work(house: House) -> list[FoundRegistry]:
        return [*await house.swr.instances(await caller_of(house, project), access)]

    found = with_house(work)
    if json:
        print_json(found)
    else:
        columns = ["id", "name", "version", "status", "expires", "address"]
        print_table(columns, [_row(one) for one in found])


def _row(one: FoundRegistry) -> tuple[str, ...]:
    expires = f"{one.expires_at:%Y-%m-%d}" if one.expires_at else "never"
    return one.id, one.name, one.version, one.status, expires, one.url
