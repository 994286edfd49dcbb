"""When registries are read without anybody asking: list, set, pause, resume."""

from __future__ import annotations

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
from wharfinger.cli.completing import complete_registry
from wharfinger.domain.schedule import Schedule, ScheduleChange
from wharfinger.wiring import House

schedules = typer.Typer(
    help="When registries are read without anybody asking.", no_args_is_help=True
)

RegistryArgument = Annotated[
    str,
    typer.Argument(
        metavar="REGISTRY",
        help="The registry, by name or id.",
        autocompletion=complete_registry,
    ),
]


@schedules.command("list")
def list_schedules(project: ProjectOption, json: JsonFlag = False) -> None:
    """List when each registry is read, in the project's time zone, and when it is due next."""

    async def work(house: House) -> list[Schedule]:
        return await house.schedules.list(await caller_of(house, project))

    found = with_house(work)
    if json:
        print_json(found)
    else:
        _show(found)


@schedules.command("set")
def set_schedule(
    registry: RegistryArgument,
    project: ProjectOption,
    cron: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION",
            help="Minute, hour, day, month, weekday: '0 1 * * *'; or @hourly, @daily, @weekly.",
        ),
    ] = None,
    full: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Which of them read everything: daily (the first after 20 hours), always, never.",
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Change when a registry is read."""
    if cron is None and full is None:
        raise typer.BadParameter("give --cron, --full, or both")
    _change(project, registry, ScheduleChange(cron=cron, full_syncs=full), json=json)


@schedules.command("pause")
def pause(registry: RegistryArgument, project: ProjectOption, json: JsonFlag = False) -> None:
    """Let a registry be read only when somebody asks."""
    _change(project, registry, ScheduleChange(paused=True), json=json)


@schedules.command("resume")
def resume(registry: RegistryArgument, project: ProjectOption, json: JsonFlag = False) -> None:
    """Let a paused registry be read again by its schedule; what was left out is not made up for."""
    _change(project, registry, ScheduleChange(paused=False), json=json)


def time_zone(
    project: ProjectOption,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The new one, like Asia/Shanghai.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Show or change the time zone that a project's schedules go by."""

    async def work(house: House) -> str:
        caller = await caller_of(house, project)
        if name is not None:
            await house.schedules.set_time_zone(caller, name)
        return await house.schedules.time_zone(caller)

    shown = with_house(work)
    if json:
        print_json({"project": project, "time_zone": shown})
    else:
        print_line(shown)


def _change(project: str, registry: str, change: ScheduleChange, *, json: bool) -> None:
    async def work(house: House) -> Schedule:
        return await house.schedules.change(await caller_of(house, project), registry, change)

    changed = with_house(work)
    if json:
        print_json(changed)
    else:
        _show([changed])


def _show(found: list[Schedule]) -> None:
    rows = [
        (
            one.registry,
            one.cron,
            one.full_syncs,
            "paused" if one.next_at is None else f"{one.next_at:%Y-%m-%d %H:%M:%S} UTC",
            "" if one.last_at is None else f"{one.last_at:%Y-%m-%d %H:%M:%S} UTC",
        )
        for one in found
    ]
    print_table(["registry", "cron", "full", "next", "last"], rows)
