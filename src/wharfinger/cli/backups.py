"""Everything that is kept, as one file, and back again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from wharfinger.cli.common import JsonFlag, print_json, print_line, settings_of, whole_file
from wharfinger.domain.errors import SetupError
from wharfinger.wiring import back_up_database, restore_database


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What was written or brought back."""

    file: str
    version: str
    created_at: dt.datetime
    tables: int
    rows: int
    has_key: bool


def backup(
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")
    ],
    with_key: Annotated[
        bool,
        typer.Option(
            "--with-key", help="The file of keys, too: with it, all secrets are in there."
        ),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Write the whole database to a file, as it is at one moment, while everything goes on."""
    settings = settings_of()
    with whole_file(Path(output), mode=0o600) as file:
        manifest = back_up_database(settings, file, with_key=with_key)
    done = Kept(
        file=output,
        version=manifest.version,
        created_at=manifest.created_at,
        tables=len(manifest.tables),
        rows=manifest.rows,
        has_key=with_key,
    )
    if json:
        print_json(done)
        return
    print_line(f"{output}: {done.rows} rows of {done.tables} tables")
    if not with_key:
        print_line(
            f"Without {settings.secret_key_file}, which is not in it, the secrets of registries,"
            " access keys and webhooks that it holds can never be opened: keep that file apart."
        )


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What backup has written.")],
    json: JsonFlag = False,
) -> None:
    """Bring a backup back into an empty database: all of it, or nothing."""
    settings = settings_of()
    try:
        content = file.open("rb")
    except OSError as exc:
        raise SetupError(f"{file} cannot be read: {exc.strerror}") from exc
    with content:
        manifest, lacks_keys = restore_database(settings, content)
    done = Kept(
        file=str(file),
        version=manifest.version,
        created_at=manifest.created_at,
        tables=len(manifest.tables),
        rows=manifest.rows,
        has_key=manifest.key_sha256 is not None,
    )
    if json:
        print_json(done)
        return
    print_line(f"{done.rows} rows of {done.tables} tables are back, as of {done.created_at}")
    if lacks_keys:
        print_line(
            f"{settings.secret_key_file} is not there: put it back before you start anything, or"
            " enter the secrets of registries, access keys and webhooks again."
        )
