"""Registries: add, list, remove, test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    print_json,
    print_line,
    print_table,
    read_secret,
    with_house,
)
from wharfinger.domain.model import RegistryCredential
from wharfinger.service.registries import TestReport
from wharfinger.sources import KINDS
from wharfinger.store.registries import NewRegistry, RegistryStatus
from wharfinger.wiring import House

registries = typer.Typer(help="The registries of a project.", no_args_is_help=True)

NameOption = Annotated[str, typer.Option("--name", help="The registry's name in the project.")]


@registries.command("add")
def add(
    project: ProjectOption,
    name: NameOption,
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")],
    address: Annotated[
        str,
        typer.Option(help="SWR: the management endpoint; Other: the registry's root. A URL."),
    ],
    access_key: Annotated[str | None, typer.Option(help="Sign calls with this access key.")] = None,
    secret_key_stdin: Annotated[
        bool, typer.Option("--secret-key-stdin", help="Read its secret key from standard input.")
    ] = False,
    username: Annotated[str | None, typer.Option(help="Log in under this name.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    region: Annotated[str, typer.Option(help="The registry's region, as a label.")] = "",
    repository: Annotated[
        list[str] | None,
        typer.Option(help="Other: read this repository instead of the catalog; repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of the kind; repeatable."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="Trust these certificates (PEM) as well.", exists=True, dir_okay=False),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Add a registry; its id is printed.

    Registries added here may be in private and loopback networks.
    """
    credential = _credential(access_key, secret_key_stdin, username, password_stdin)
    new = NewRegistry(
        name=name,
        kind=kind,
        address=address.rstrip("/"),
        region=region,
        options=_options(repository, option),
        ca_pem=ca_file.read_text("ascii") if ca_file else None,
        allow_private_networks=True,
    )

    async def work(house: House) -> str:
        return await house.registries.add(await caller_of(house, project), new, credential)

    registry_id = with_house(work)
    if json:
        print_json({"id": registry_id, "name": name, "kind": kind})
    else:
        print_line(registry_id)


@registries.command("list")
def list_registries(project: ProjectOption, json: JsonFlag = False) -> None:
    """List the registries with what is known of each."""

    async def work(house: House) -> list[RegistryStatus]:
        return await house.registries.list(await caller_of(house, project))

    found = with_house(work)
    if json:
        print_json(found)
    else:
        rows = [
            (
                r.name,
                r.kind,
                r.address,
                r.verdict,
                f"{r.confirmed_at:%Y-%m-%d %H:%M:%S}" if r.confirmed_at else "never",
                r.repositories,
                r.images,
                r.held,
            )
            for r in found
        ]
        columns = ["name", "kind", "address", "verdict", "as of", "repositories", "images", "held"]
        print_table(columns, rows)


@registries.command("remove")
def remove(
    project: ProjectOption,
    name: NameOption,
    json: JsonFlag = False,
) -> None:
    """Remove a registry: its images leave the list, their history stays."""

    async def work(house: House) -> int:
        return await house.registries.remove(await caller_of(house, project), name)

    retired = with_house(work)
    if json:
        print_json({"name": name, "retired": retired})
    else:
        print_line(f"removed {name}; {retired} images retired")


@registries.command("test")
def look(project: ProjectOption, name: NameOption, json: JsonFlag = False) -> None:
    """Reach the registry, list a page and read one repository; nothing is stored."""

    async def work(house: House) -> TestReport:
        return await house.registries.test(await caller_of(house, project), name)

    report = with_house(work)
    if json:
        print_json(report)
    else:
        print_line(f"{'ok' if report.ok else 'failed'}: {report.message}")
    if not report.ok:
        raise typer.Exit(1)


def _credential(
    access_key: str | None, secret_key_stdin: bool, username: str | None, password_stdin: bool
) -> RegistryCredential:
    if access_key and username:
        raise typer.BadParameter("give --access-key or --username, not both")
    if access_key:
        if not secret_key_stdin:
            raise typer.BadParameter("--access-key needs --secret-key-stdin")
        return RegistryCredential(
            kind="access_key", identity=access_key, secret=read_secret("secret key")
        )
    if username:
        if not password_stdin:
            raise typer.BadParameter("--username needs --password-stdin")
        return RegistryCredential(kind="basic", identity=username, secret=read_secret("password"))
    if secret_key_stdin or password_stdin:
        raise typer.BadParameter("a secret needs its --access-key or --username")
    return RegistryCredential(kind="none")


def _options(repositories: list[str] | None, options: list[str] | None) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for text in options or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} must be KEY=VALUE", param_hint="--option")
        parsed[key] = int(value) if value.isdigit() else value
    if repositories:
        parsed["repositories"] = repositories
    return parsed
