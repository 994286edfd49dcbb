"""The list itself."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from wharfinger.cli.common import (
    ProjectOption,
    SbomOption,
    SignedOption,
    attached,
    caller_of,
    print_json,
    print_table,
    read_moment,
    with_house,
)
from wharfinger.cli.completing import complete_kind, complete_registry
from wharfinger.cli.history import past_images
from wharfinger.domain.history import PastFilter, PastImage
from wharfinger.domain.inventory import ImageFilter, RegistryScope
from wharfinger.domain.labels import read_filter
from wharfinger.domain.model import Caller
from wharfinger.http.api.wire import ImageItem, listed_item, past_item
from wharfinger.http.exports import COLUMNS, csv_cells, csv_records
from wharfinger.wiring import House

CHUNK = 2000


class Format(StrEnum):
    """How the list is written."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


def images(
    project: ProjectOption,
    registry: Annotated[
        str | None,
        typer.Option(help="Only this registry, by name.", autocompletion=complete_registry),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only registries of this kind.", autocompletion=complete_kind)
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Only this namespace.")] = None,
    name: Annotated[str | None, typer.Option(help="Only names that contain this.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only this tag.")] = None,
    digest: Annotated[str | None, typer.Option(help="Only this digest.")] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only names or tags that contain this.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only what is labelled so; repeatable."),
    ] = None,
    signed: SignedOption = None,
    sbom: SbomOption = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="Only the newest tag of each repository.")
    ] = False,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The list as it was known then: 2026-11-01T00:00:00Z."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many rows.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.TABLE,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """List images: all of them, or those that match every filter."""
    moment = None if at is None else read_moment(at, "--at")
    for option, given in (
        ("--latest", latest),
        ("--digest", digest),
        ("--search", search),
        ("--label", label),
        ("--signed or --unsigned", signed is not None),
        ("--sbom or --no-sbom", sbom is not None),
    ):
        if moment is not None and given:
            raise typer.BadParameter(f"{option} is known of the current list only")

    async def work(house: House) -> None:
        caller = await caller_of(house, project)
        write = _WRITERS[Format.JSON if json else output]
        if moment is not None:
            past = PastFilter(
                registry=registry, kind=kind, namespace=namespace, name_contains=name, tag=tag
            )
            await write(_past_rows(past_images(house, caller, moment, past, limit)))
            return
        wanted = ImageFilter(
            scope=RegistryScope(
                enterprise_projects=caller.enterprise_projects,
                registry_name=registry,
                kinds=(kind,) if kind else None,
            ),
            namespace=namespace,
            name_contains=name,
            tag=tag,
            digest=digest,
            text=search,
            labels=tuple(read_filter(text) for text in label or ()),
            attached=attached(signed=signed, sbom=sbom),
            latest_only=latest,
        )
        await write(_rows(house, caller, wanted, limit))

    with_house(work)


async def _rows(
    house: House, caller: Caller, wanted: ImageFilter, limit: int | None
) -> AsyncIterator[ImageItem]:
    left = limit if limit is not None else sys.maxsize
    after = 0
    while left:
        page = await house.inventory.images_after(
            caller, wanted, after_id=after, limit=min(CHUNK, left)
        )
        for item in page:
            yield listed_item(item)
        if len(page) < min(CHUNK, left):
            return
        left -= len(page)
        after = page[-1].id


async def _past_rows(images: AsyncIterator[PastImage]) -> AsyncIterator[ImageItem]:
    async for image in images:
        yield past_item(image)


async def _write_table(rows: AsyncIterator[ImageItem]) -> None:
    read = [row async for row in rows]
    shown = [
        (
            row.registry,
            f"{row.namespace}/{row.name}" if row.namespace else row.name,
            row.tag,
            row.digest[:19],
            f"{row.size / 1e6:,.1f} MB",
            f"{row.updated_at:%Y-%m-%d %H:%M}",
            _belonging(row),
            ", ".join(f"{key}={value}" for key, value in sorted((row.labels or {}).items())),
        )
        for row in read
    ]
    columns = ["registry", "repository", "tag", "digest", "size", "updated", "with", "labels"]
    # Without any label there is no column for them.
    width = len(columns) if any(row.labels for row in read) else len(columns) - 1
    print_table(columns[:width], [cells[:width] for cells in shown])


def _belonging(row: ImageItem) -> str:
    return ", ".join(sorted({one.kind for one in row.attachments or ()}))


async def _write_json(rows: AsyncIterator[ImageItem]) -> None:
    print_json([row async for row in rows])


async def _write_ndjson(rows: AsyncIterator[ImageItem]) -> None:
    encoder = msgspec.json.Encoder()
    async for row in rows:
        sys.stdout.write(encoder.encode(row).decode() + "\n")


async def _write_csv(rows: AsyncIterator[ImageItem]) -> None:
    sys.stdout.buffer.write(csv_records([COLUMNS]))
    async for row in rows:
        sys.stdout.buffer.write(csv_records([csv_cells(row)]))


_WRITERS = {
    Format.TABLE: _write_table,
    Format.JSON: _write_json,
    Format.NDJSON: _write_ndjson,
    Format.CSV: _write_csv,
}
