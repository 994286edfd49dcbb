"""Registries: add, list, remove, test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    print_json,
    print_line,
    print_table,
    read_duration,
    read_secret,
    with_house,
)
from wharfinger.cli.completing import complete_kind, complete_registry
from wharfinger.domain.advice import advised
from wharfinger.domain.model import (
    DEFAULT_ENTERPRISE_PROJECT,
    Caller,
    Reason,
    RegistryCredential,
    TwoStrikes,
    VerdictState,
)
from wharfinger.service.registries import TestReport
from wharfinger.sources import KINDS
from wharfinger.store.registries import (
    NewRegistry,
    RegistryChange,
    RegistryStatus,
    RepositoryStatus,
)
from wharfinger.wiring import House

registries = typer.Typer(help="The registries of a project.", no_args_is_help=True)

NameOption = Annotated[
    str,
    typer.Option(
        "--name", help="The registry's name in the project.", autocompletion=complete_registry
    ),
]


AccessKeyOption = Annotated[str | None, typer.Option(help="Sign calls with this access key.")]
SecretKeyOption = Annotated[
    bool, typer.Option("--secret-key-stdin", help="Read its secret key from standard input.")
]
UsernameOption = Annotated[str | None, typer.Option(help="Log in under this name.")]
PasswordOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
EnterpriseProjectOption = Annotated[
    str | None,
    typer.Option(metavar="ID", help="The enterprise project it belongs to; 0 is the default one."),
]
SecretFromOption = Annotated[
    str | None,
    typer.Option(
        metavar="REFERENCE",
        help="Where the worker finds the secret: env:NAME, file:/PATH or exec:PROGRAM ARGUMENTS.",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="List only repositories like this (team/*); repeatable."),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave repositories like this out; repeatable."),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option(
        help="Trust these certificates (PEM) as well; an empty file: none.",
        exists=True,
        dir_okay=False,
    ),
]
CHUNK = 1000


@registries.command("add")
def add(
    project: ProjectOption,
    name: NameOption,
    kind: Annotated[
        str, typer.Option(help=f"One of {', '.join(KINDS)}.", autocompletion=complete_kind)
    ],
    address: Annotated[
        str,
        typer.Option(help="SWR: the management endpoint; Harbor, Other: the root. A URL."),
    ],
    access_key: AccessKeyOption = None,
    secret_key_stdin: SecretKeyOption = False,
    username: UsernameOption = None,
    password_stdin: PasswordOption = False,
    secret_from: SecretFromOption = None,
    region: Annotated[str, typer.Option(help="The registry's region, as a label.")] = "",
    enterprise_project: EnterpriseProjectOption = None,
    repository: Annotated[
        list[str] | None,
        typer.Option(help="Other: read this instead of the catalog, or team/{a,b}; repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of the kind; repeatable."),
    ] = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    stale_after: Annotated[
        str, typer.Option(help="A complete list older than this is stale: 90m, 26h, 7d.")
    ] = "26h",
    ca_file: CaFileOption = None,
    json: JsonFlag = False,
) -> None:
    """Add a registry; its id is printed.

    Registries added here may be in private and loopback networks.
    """
    credential = read_credential(
        access_key, secret_key_stdin, username, password_stdin, secret_from
    )
    new = NewRegistry(
        name=name,
        kind=kind,
        address=address.rstrip("/"),
        region=region,
        enterprise_project_id=enterprise_project or DEFAULT_ENTERPRISE_PROJECT,
        options=_options(repository, option),
        include=include or (),
        exclude=exclude or (),
        stale_after=read_duration(stale_after, "--stale-after"),
        ca_pem=_certificates(ca_file),
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
                r.requests,
                None if r.seconds is None else f"{r.seconds:.1f}",
            )
            for r in found
        ]
        columns = ["name", "kind", "address", "verdict", "as of", "repositories", "images", "held"]
        print_table([*columns, "requests", "seconds"], rows)
        for r in found:
            for reason in (
                advised(msgspec.convert(told, Reason)) for told in r.verdict_reasons[:5]
            ):
                where = f" {reason.repository}:" if reason.repository else ""
                print_line(f"{r.name}:{where} {reason.message} ({reason.code}). {reason.advice}")


@registries.command("repositories")
def list_repositories(
    project: ProjectOption,
    name: NameOption,
    verdict: Annotated[
        VerdictState | None, typer.Option(help="Only those of this verdict.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """List a registry's repositories with how much the list of each can be believed."""

    async def work(house: House) -> list[RepositoryStatus]:
        return await _all_repositories(house, await caller_of(house, project), name, verdict)

    found = with_house(work)
    if json:
        print_json([{**msgspec.to_builtins(r), "reason": _reason(r)} for r in found])
    else:
        rows = [
            (
                f"{r.namespace}/{r.name}" if r.namespace else r.name,
                r.verdict.value,
                f"{r.confirmed_at:%Y-%m-%d %H:%M:%S}" if r.confirmed_at else "never",
                r.images,
                r.held,
                r.requests,
                None if r.seconds is None else f"{r.seconds:.2f}",
                r.reason.message if r.reason else "",
            )
            for r in found
        ]
        columns = ["repository", "verdict", "as of", "images", "held", "requests", "seconds"]
        print_table([*columns, "reason"], rows)


@registries.command("set")
def change(
    project: ProjectOption,
    name: NameOption,
    address: Annotated[str | None, typer.Option(help="Another address. A URL.")] = None,
    access_key: AccessKeyOption = None,
    secret_key_stdin: SecretKeyOption = False,
    username: UsernameOption = None,
    password_stdin: PasswordOption = False,
    enterprise_project: EnterpriseProjectOption = None,
    secret_from: SecretFromOption = None,
    repository: Annotated[
        list[str] | None,
        typer.Option(help="Other: read these repositories instead; repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Options of the kind, in place of those so far."),
    ] = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    no_filter: Annotated[
        bool, typer.Option("--no-filter", help="Forget --include and --exclude.")
    ] = False,
    stale_after: Annotated[
        str | None, typer.Option(help="A complete list older than this is stale: 90m, 26h, 7d.")
    ] = None,
    two_strikes: Annotated[
        TwoStrikes | None,
        typer.Option(
            help="Retire what two listings lack, not one; auto: once the registry has"
            " contradicted itself.",
        ),
    ] = None,
    ca_file: CaFileOption = None,
    json: JsonFlag = False,
) -> None:
    """Change what is given; all else stays as it is.

    What --include and --exclude leave out is hidden, not retired: its history goes on when it is
    wanted again. After a change of address, credentials, options or filter the next complete
    listing holds all retirements.
    """
    if no_filter and (include or exclude):
        raise typer.BadParameter("give --no-filter, or --include and --exclude; not both")
    given = access_key or username or secret_key_stdin or password_stdin or secret_from
    credential = (
        read_credential(access_key, secret_key_stdin, username, password_stdin, secret_from)
        if given
        else None
    )
    wanted = RegistryChange(
        address=address and address.rstrip("/"),
        enterprise_project_id=enterprise_project,
        options=_options(repository, option) if repository or option else None,
        include=[] if no_filter else include,
        exclude=[] if no_filter else exclude,
        stale_after=read_duration(stale_after, "--stale-after") if stale_after else None,
        two_strikes=two_strikes,
        ca_pem=_certificates(ca_file),
    )

    async def work(house: House) -> int:
        caller = await caller_of(house, project)
        return await house.registries.change(caller, name, wanted, credential)

    hidden = with_house(work)
    if json:
        print_json({"name": name, "hidden": hidden})
    else:
        print_line(f"changed {name}" + (f"; {hidden} images are hidden" if hidden else ""))


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


async def _all_repositories(
    house: House, caller: Caller, name: str, verdict: VerdictState | None
) -> list[RepositoryStatus]:
    found: list[RepositoryStatus] = []
    while True:
        page = await house.registries.repositories(
            caller, name, verdict=verdict, after=found[-1].id if found else 0, limit=CHUNK
        )
        found += page
        if len(page) < CHUNK:
            return found


def _certificates(file: Path | None) -> str | None:
    # Whether they are any is for the service to say, whatever the file is.
    return file.read_text("utf-8", errors="replace") if file else None


def _reason(repository: RepositoryStatus) -> Any:
    return None if repository.reason is None else msgspec.to_builtins(advised(repository.reason))


def read_credential(
    access_key: str | None,
    secret_key_stdin: bool,
    username: str | None,
    password_stdin: bool,
    secret_from: str | None = None,
) -> RegistryCredential:
    """The credential that the flags describe, its secret read from standard input.

    Raises:
        typer.BadParameter: the flags do not fit together.
    """
    if access_key and username:
        raise typer.BadParameter("give --access-key or --username, not both")
    from_stdin = secret_key_stdin if access_key else password_stdin
    if not access_key and not username:
        if secret_key_stdin or password_stdin or secret_from:
            raise typer.BadParameter("a secret needs its --access-key or --username")
        return RegistryCredential(kind="none")
    option, flag, what = (
        ("--access-key", "--secret-key-stdin", "secret key")
        if access_key
        else ("--username", "--password-stdin", "password")
    )
    if bool(secret_from) == from_stdin:
        raise typer.BadParameter(f"{option} needs {flag} or --secret-from, one of them")
    return RegistryCredential(
        kind="access_key" if access_key else "basic",
        identity=access_key or username or "",
        secret="" if secret_from else read_secret(what),
        reference=secret_from or "",
    )


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
