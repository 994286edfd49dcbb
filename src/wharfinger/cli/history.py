"""History on the command line: the change feed, the life of an image, forgetting."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import sys
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
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
    with_house,
)
from wharfinger.domain.history import Change, Life, PastFilter, PastImage
from wharfinger.domain.model import Caller
from wharfinger.wiring import House

image = typer.Typer(help="One image of the list.", no_args_is_help=True)
history = typer.Typer(help="What is kept of the past.", no_args_is_help=True)

CHUNK = 1000
POLL_S = 0.5


class Format(StrEnum):
    """How changes are written."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"


def changes(
    project: ProjectOption,
    after: Annotated[int, typer.Option(min=0, metavar="N", help="Only after this number.")] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with new changes until Ctrl-C.")
    ] = False,
    output: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.TABLE,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """List every change since a number: additions, moves, removals, returns."""
    wanted = Format.JSON if json else output
    if follow and wanted is Format.JSON:
        raise typer.BadParameter("a JSON document has an end: follow with --format ndjson")

    async def work(house: House) -> None:
        found = _changes(house, await caller_of(house, project), after, follow=follow)
        if wanted is Format.JSON:
            print_json([change async for change in found])
        elif wanted is Format.TABLE and not follow:
            columns = ["number", "at", "what", "registry", "repository", "tag", "digest"]
            print_table(columns, [_cells(change) async for change in found])
        else:
            await _write_lines(found, _ndjson if wanted is Format.NDJSON else _line)

    with contextlib.suppress(KeyboardInterrupt):
        with_house(work)


@image.command("history")
def life(
    project: ProjectOption,
    image_id: Annotated[
        int | None, typer.Option("--image", metavar="ID", help="The image's id in the list.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="Or its registry's name, with --repository and --tag.")
    ] = None,
    repository: Annotated[
        str | None, typer.Option(metavar="PATH", help="Its repository: namespace/name.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Its tag.")] = None,
    json: JsonFlag = False,
) -> None:
    """Tell the life of one image, digest by digest, with the runs that saw it."""

    async def work(house: House) -> Life:
        caller = await caller_of(house, project)
        if image_id is not None:
            return await house.history.life(caller, image_id)
        if registry is None or repository is None or tag is None:
            raise typer.BadParameter("give --image, or --registry, --repository and --tag")
        return await house.history.life_of_tag(caller, registry=registry, path=repository, tag=tag)

    found = with_house(work)
    if json:
        print_json(found)
        return
    rows = [
        (
            v.from_seq,
            _time(v.from_at) or "before history",
            v.how,
            v.digest[:19],
            v.run_id,
            _time(v.to_at),
            v.ended_by,
        )
        for v in found.versions
    ]
    print_table(["number", "from", "how", "digest", "run", "until", "ended by"], rows)


@history.command("prune")
def prune(project: ProjectOption, json: JsonFlag = False) -> None:
    """Forget what is older than WHARFINGER_HISTORY_DAYS; the current list is not touched."""

    async def work(house: House) -> int:
        caller = await caller_of(house, project)
        return await house.history.prune(caller.project_id, by=caller)

    forgotten = with_house(work)
    if json:
        print_json({"forgotten": forgotten})
    else:
        print_line(f"forgot {forgotten} events")


async def past_images(
    house: House, caller: Caller, at: dt.datetime, wanted: PastFilter, limit: int | None
) -> AsyncIterator[PastImage]:
    """The list of a past time, in turns that all speak of the same event number."""
    moment = await house.history.moment(caller, at=at)
    left = limit if limit is not None else sys.maxsize
    after = 0
    while left:
        page = await house.history.images(
            caller, moment, wanted, after=after, limit=min(CHUNK, left)
        )
        for item in page.items:
            yield item
        if page.next is None:
            return
        left -= len(page.items)
        after = int(page.next)


async def _changes(
    house: House, caller: Caller, after: int, *, follow: bool
) -> AsyncIterator[Change]:
    while True:
        page = await house.history.changes(caller, after=after, limit=CHUNK)
        for change in page.items:
            yield change
        after = int(page.next) if page.next is not None else page.as_of
        if page.next is None:
            if not follow:
                return
            await asyncio.sleep(POLL_S)


async def _write_lines(found: AsyncIterator[Change], word: Callable[[Change], str]) -> None:
    async for change in found:
        print_line(word(change))
        # Whoever follows wants it now, also through a pipe.
        sys.stdout.flush()


def _ndjson(change: Change) -> str:
    return msgspec.json.encode(change).decode()


def _line(change: Change) -> str:
    return "  ".join(str(cell) for cell in _cells(change))


def _cells(change: Change) -> tuple[Any, ...]:
    path = f"{change.namespace}/{change.name}" if change.namespace else change.name
    digest = (change.digest_after or change.digest_before or "")[:19]
    return (
        change.seq,
        _time(change.at),
        change.kind,
        change.registry or "(purged)",
        path or "(purged)",
        change.tag or "",
        digest,
    )


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
