"""Held images, and the end of a registry: list, accept, purge."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Annotated

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
from wharfinger.cli.registries import NameOption
from wharfinger.domain.model import Caller, HeldImage
from wharfinger.wiring import House

CHUNK = 2000


def list_held(project: ProjectOption, name: NameOption, json: JsonFlag = False) -> None:
    """List the images that a complete listing lacked and that wait for `registry accept`."""

    async def work(house: House) -> list[HeldImage]:
        caller = await caller_of(house, project)
        return [image async for image in _all_held(house, caller, name)]

    found = with_house(work)
    if json:
        print_json(found)
    else:
        rows = [
            (
                i.id,
                f"{i.namespace}/{i.name}" if i.namespace else i.name,
                i.tag,
                i.digest[:19],
                f"{i.held_since:%Y-%m-%d %H:%M:%S}",
            )
            for i in found
        ]
        print_table(["id", "repository", "tag", "digest", "held since"], rows)


def accept(
    project: ProjectOption,
    name: NameOption,
    image: Annotated[
        list[int] | None, typer.Option(metavar="ID", help="Only this image; repeatable.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every image that is held when this runs.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Accept that held images are gone: they leave the list, their history stays."""
    if bool(image) == everything:
        raise typer.BadParameter("give --image ID (repeatable) or --all")

    async def work(house: House) -> int:
        caller = await caller_of(house, project)
        chosen = None if everything else image
        return await house.held.accept(caller, name, images=chosen, tell=_tell)

    retired = with_house(work)
    if json:
        print_json({"name": name, "retired": retired})
    else:
        print_line(f"accepted: {retired} images of {name} retired")


def _tell(retired: int) -> None:
    sys.stderr.write(f"accepted so far: {retired}\n")


def purge(
    project: ProjectOption,
    name: NameOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; nothing brings it back.")] = False,
    json: JsonFlag = False,
) -> None:
    """Erase a removed registry with its history; its events keep only their numbers."""
    if not yes:
        raise typer.BadParameter("this erases history for good; add --yes to do it")

    async def work(house: House) -> int:
        return await house.held.purge(await caller_of(house, project), name)

    images = with_house(work)
    if json:
        print_json({"name": name, "purged": images})
    else:
        print_line(f"purged {name}; the history of {images} images is erased")


async def _all_held(house: House, caller: Caller, name: str) -> AsyncIterator[HeldImage]:
    after = 0
    while True:
        page = await house.held.list(caller, name, after=after, limit=CHUNK)
        for image in page:
            yield image
        if len(page) < CHUNK:
            return
        after = page[-1].id
