"""What every command shares: global options, opening the house, printing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import logging
import os
import pwd
import re
import secrets
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

import msgspec
import structlog
import typer
from rich.console import Console
from rich.table import Table

from wharfinger import __version__
from wharfinger.cli.completing import complete_project
from wharfinger.domain.artifacts import ArtifactKind
from wharfinger.domain.errors import NotFoundError, SetupError, WharfingerError
from wharfinger.domain.model import Caller, Origin
from wharfinger.settings import Settings, read_settings
from wharfinger.store.callers import ProjectRef
from wharfinger.wiring import House, database_of, open_house

T = TypeVar("T")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")
]
ProjectOption = Annotated[
    str,
    typer.Option(
        "--project",
        metavar="ID",
        help="The project (tenant).",
        show_default=False,
        autocompletion=complete_project,
    ),
]

SignedOption = Annotated[
    bool | None,
    typer.Option("--signed/--unsigned", help="Only what is signed, or is not.", show_default=False),
]
SbomOption = Annotated[
    bool | None,
    typer.Option("--sbom/--no-sbom", help="Only what has an SBOM, or none.", show_default=False),
]

_flags: dict[str, Any] = {}


def attached(*, signed: bool | None, sbom: bool | None) -> dict[ArtifactKind, bool]:
    """Which kinds of artifact the options say that must belong to an image, and which must not."""
    asked = {ArtifactKind.SIGNATURE: signed, ArtifactKind.SBOM: sbom}
    return {kind: wanted for kind, wanted in asked.items() if wanted is not None}


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(__version__)
        raise typer.Exit


class GlobalOptions:
    """Options that stand before the command."""

    @staticmethod
    def from_flags(
        data_dir: Annotated[
            str | None,
            typer.Option(help="Where the embedded database and keys live.", show_default=False),
        ] = None,
        database_url: Annotated[
            str | None,
            typer.Option(help="A PostgreSQL 17+ of your own instead.", show_default=False),
        ] = None,
        log_level: Annotated[
            str | None, typer.Option(help="debug, info, warning or error.", show_default=False)
        ] = None,
        version: Annotated[  # noqa: ARG004 - its callback has ended the program by now
            bool,
            typer.Option(
                "--version",
                help="Print the version and exit.",
                is_eager=True,
                callback=_print_version,
            ),
        ] = False,
    ) -> None:
        """Keep the list of every container image in every registry you own."""
        _flags.update(data_dir=data_dir, database_url=database_url, log_level=log_level)


def settings_of(**flags: Any) -> Settings:
    """The settings under the global flags and the command's own; logging is set up by them."""
    settings = read_settings({**_flags, **flags})
    set_up_logging(settings)
    return settings


def set_up_logging(settings: Settings) -> None:
    """Log events with fields to standard error, so that standard output is the answer's alone."""
    level = logging.getLevelName(settings.log_level.upper())
    render: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*processors, structlog.processors.format_exc_info, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # What libraries say has the same form, so that every line can be read by the same reader.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*processors, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                render,
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # The job engine tells of every job and of every lost connection; we tell it in our words.
    logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def with_house(work: Callable[[House], Awaitable[T]], *, settings: Settings | None = None) -> T:
    """Open the database and the house, run the work, close everything."""
    settings = settings or settings_of(log_level=_flags.get("log_level") or "warning")
    with database_of(settings) as address:

        async def run() -> T:
            # The jobs that a command leaves behind have its id in their lines.
            structlog.contextvars.bind_contextvars(request_id=_origin().request_id)
            async with open_house(settings, address) as house:
                return await work(house)

        return asyncio.run(run())


def operator() -> Caller:
    """Whoever runs this command, as the audit knows them: the user of the operating system."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:  # A container may run as a number without a name.
        name = str(number)
    return Caller(
        project_id="",
        project_name="",
        principal=f"operating-system user {name}",
        user_name=name,
        is_operator=True,
        origin=_origin(),
    )


@functools.cache
def _origin() -> Origin:
    # One id for all that a command does.
    return Origin(source="command line", request_id=uuid.uuid4().hex)


async def caller_of(house: House, project_id: str) -> Caller:
    """The operator, acting for one project.

    Raises:
        NotFoundError: there is no such project.
    """
    project = await find_project(house, project_id)
    return msgspec.structs.replace(
        operator(),
        project_id=project.id,
        project_name=project.name,
        account_id=project.account_id,
        enterprise_projects=await house.callers.every_enterprise_project(project.account_id),
        sees_every_enterprise_project=True,
    )


async def find_project(house: House, project_id: str) -> ProjectRef:
    """One project by its id, with the account it belongs to.

    Raises:
        NotFoundError: there is no such project.
    """
    project = await house.callers.find_project(project_id)
    if project is None:
        raise NotFoundError(
            f"there is no project {project_id!r}; see them with: wharfinger project list"
        )
    return project


@contextlib.asynccontextmanager
async def finishing(task: asyncio.Task[Any]) -> AsyncIterator[None]:
    """Cancel a background task at the end, and wait until it is gone."""
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def print_line(text: str) -> None:
    """Write one line of the answer."""
    sys.stdout.write(text + "\n")


def print_json(value: Any) -> None:
    """Write the answer as one JSON document."""
    print_line(msgspec.json.format(msgspec.json.encode(value)).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write the answer as a table for people."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def complain(error: WharfingerError) -> None:
    """Say what went wrong, on standard error."""
    sys.stderr.write(f"wharfinger: {error}\n")


def read_secret(what: str) -> str:
    """One line from standard input; secrets never come from a command line others can see.

    Raises:
        typer.BadParameter: standard input is empty.
    """
    if sys.stdin.isatty():
        secret = typer.prompt(what, hide_input=True)
        return str(secret)
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise typer.BadParameter(f"standard input must hold the {what} on one line")
    return line


def read_duration(text: str, option: str) -> dt.timedelta:
    """A length of time given as a number and a unit.

    Raises:
        typer.BadParameter: it is something else, or nothing.
    """
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise typer.BadParameter(
            "must be a number and a unit (s, m, h, d), like 24h", param_hint=option
        )
    return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})


def read_moment(text: str, option: str) -> dt.datetime:
    """A time with its offset from UTC.

    Raises:
        typer.BadParameter: it is something else.
    """
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter(
            "must be a time with an offset, like 2026-11-01T00:00:00Z", param_hint=option
        )
    return moment


@contextlib.contextmanager
def whole_file(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file that takes its name once it is whole, and whatever it replaces stays until then.

    Raises:
        SetupError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    except OSError as exc:
        raise SetupError(f"{path} cannot be written: {exc.strerror}") from exc
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as exc:
        raise SetupError(f"{path} cannot be written: {exc.strerror}") from exc
    finally:
        aside.unlink(missing_ok=True)
