"""The list as a file for other tools."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    SbomOption,
    SignedOption,
    attached,
    caller_of,
    print_json,
    read_moment,
    whole_file,
    with_house,
)
from wharfinger.domain.history import PastFilter
from wharfinger.domain.inventory import ImageFilter, RegistryScope, Span
from wharfinger.domain.labels import read_filter
from wharfinger.domain.model import Caller
from wharfinger.http.exports import FORMATS, encoded
from wharfinger.service.exports import Export
from wharfinger.wiring import House


class Format(StrEnum):
    """How the list is written."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"
    CYCLONEDX = "cyclonedx"


def _time_option(words: str) -> Any:
    return typer.Option(metavar="TIME", help=words, show_default=False)


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    file: str
    bytes: int
    as_of: int
    verdict: str


def export(
    project: ProjectOption,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - for standard output.")
    ],
    file_format: Annotated[Format, typer.Option("--format", help="How to write it.")],
    registry: Annotated[str | None, typer.Option(help="Only this registry, by name.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only registries of this kind.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Only this namespace.")] = None,
    name: Annotated[str | None, typer.Option(help="Only names that contain this.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only this tag.")] = None,
    tag_contains: Annotated[str | None, typer.Option(help="Only tags that contain this.")] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only names or tags that contain this.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="Only this digest.")] = None,
    image_id: Annotated[str | None, typer.Option(help="Only this image id.")] = None,
    size: Annotated[int | None, typer.Option(min=0, help="Only this size, in bytes.")] = None,
    multi_arch: Annotated[
        bool | None,
        typer.Option(
            "--multi-arch/--single-arch", help="Only indexes, or none.", show_default=False
        ),
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
    updated_from: Annotated[
        str | None, _time_option("Only what was updated then or later.")
    ] = None,
    updated_to: Annotated[str | None, _time_option("Only what was updated then or before.")] = None,
    confirmed_from: Annotated[
        str | None, _time_option("Only what was confirmed then or later.")
    ] = None,
    confirmed_to: Annotated[
        str | None, _time_option("Only what was confirmed then or before.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The list as it was known then: 2026-11-01T00:00:00Z."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Write the whole list, or what matches every filter, to a file: all of it, or nothing."""
    if json and output == "-":
        raise typer.BadParameter("standard output takes the list or the JSON, not both")
    past = PastFilter(
        registry=registry, kind=kind, namespace=namespace, name_contains=name, tag=tag
    )
    current_only = {
        "--tag-contains": tag_contains,
        "--search": search,
        "--digest": digest,
        "--image-id": image_id,
        "--size": size,
        "--multi-arch": multi_arch,
        "--label": label,
        "--signed or --unsigned": signed,
        "--sbom or --no-sbom": sbom,
        "--latest": latest or None,
        "--updated-from": updated_from,
        "--updated-to": updated_to,
        "--confirmed-from": confirmed_from,
        "--confirmed-to": confirmed_to,
    }
    moment = None if at is None else read_moment(at, "--at")
    for option, given in current_only.items():
        if moment is not None and given is not None:
            raise typer.BadParameter(f"{option} is known of the current list only")
    updated = _span(updated_from, updated_to, "--updated")
    confirmed = _span(confirmed_from, confirmed_to, "--confirmed")

    def opening(house: House, caller: Caller) -> AbstractAsyncContextManager[Export]:
        if moment is not None:
            return house.exports.past(caller, past, at=moment)
        wanted = ImageFilter(
            scope=RegistryScope(
                enterprise_projects=caller.enterprise_projects,
                registry_name=registry,
                kinds=(kind,) if kind else None,
            ),
            namespace=namespace,
            name_contains=name,
            tag=tag,
            tag_contains=tag_contains,
            text=search,
            digest=digest,
            image_id=image_id,
            size=size,
            is_index=multi_arch,
            attached=attached(signed=signed, sbom=sbom),
            latest_only=latest,
            labels=tuple(read_filter(text) for text in label or ()),
            updated=updated,
            synced=confirmed,
        )
        return house.exports.current(caller, wanted)

    async def work(house: House) -> Exported:
        encoder = FORMATS[file_format.value].encoder()
        caller = await caller_of(house, project)
        async with (
            opening(house, caller) as whole,
            contextlib.aclosing(encoded(whole, encoder)) as pieces,
        ):
            written = await _write(pieces, output)
        return Exported(file=output, bytes=written, as_of=whole.as_of, verdict=whole.verdict)

    done = with_house(work)
    if json:
        print_json(done)


async def _write(pieces: AsyncIterator[bytes], output: str) -> int:
    written = 0
    with _standard_output() if output == "-" else whole_file(Path(output)) as file:
        async for piece in pieces:
            file.write(piece)
            written += len(piece)
    return written


@contextlib.contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


def _span(start: str | None, end: str | None, option: str) -> Span:
    first = None if start is None else read_moment(start, f"{option}-from")
    last = None if end is None else read_moment(end, f"{option}-to")
    if first is not None and last is not None and first > last:
        raise typer.BadParameter(f"{option}-from must not be later than {option}-to")
    return Span.between(first, last)
