"""Webhooks on the command line: who is told what happens, and what came of it."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    print_json,
    print_line,
    print_table,
    read_duration,
    with_house,
)
from wharfinger.domain.labels import read_filter
from wharfinger.domain.webhooks import Delivery, NewWebhook, Webhook, WebhookChange
from wharfinger.service.webhooks import NewSecret
from wharfinger.wiring import House

webhooks = typer.Typer(help="Who is told what happens, as CloudEvents.", no_args_is_help=True)

WebhookArgument = Annotated[
    str, typer.Argument(metavar="WEBHOOK", help="The webhook, by name or id.")
]
TypeOption = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Only events of this type; repeatable."),
]
RegistryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--registry",
        metavar="NAME",
        help="Only events of this registry, by name or id; repeatable.",
    ),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        "--pattern", metavar="GLOB", help="Only images whose repository's path matches: team/*."
    ),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="KEY=VALUE", help="Only images that are labelled so; repeatable."
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option("--batch", min=1, max=100, metavar="N", help="Send up to so many at once."),
]


@webhooks.command("add")
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to send events.")],
    project: ProjectOption,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What to call it.")],
    types: TypeOption = None,
    registry: RegistryOption = None,
    pattern: PatternOption = None,
    label: LabelOption = None,
    batch: BatchOption = None,
    from_number: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Tell image changes from this number on, too."),
    ] = None,
    allow_private_networks: Annotated[
        bool,
        typer.Option("--allow-private-networks", help="It is in a private network, or has no TLS."),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Tell a receiver what happens from now on; its secret is shown this once."""
    new = NewWebhook(
        name=name,
        url=url,
        types=tuple(types or ()),
        registries=tuple(registry or ()),
        pattern=pattern,
        labels=_labels(label),
        batch=batch or 1,
        from_number=from_number,
    )

    async def work(house: House) -> NewSecret:
        caller = await caller_of(house, project)
        return await house.webhooks.add(caller, new, allow_private=allow_private_networks)

    _show_secret(with_house(work), json=json)


@webhooks.command("list")
def list_webhooks(project: ProjectOption, json: JsonFlag = False) -> None:
    """List webhooks, how they stand, and how far their receivers have been told."""

    async def work(house: House) -> list[Webhook]:
        return await house.webhooks.list(await caller_of(house, project))

    _show(with_house(work), json=json)


@webhooks.command("set")
def change(
    webhook: WebhookArgument,
    project: ProjectOption,
    name: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="Another name.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="ADDRESS", help="Another URL.")
    ] = None,
    types: TypeOption = None,
    registry: RegistryOption = None,
    pattern: PatternOption = None,
    label: LabelOption = None,
    batch: BatchOption = None,
    no_filter: Annotated[
        bool, typer.Option("--no-filter", help="Take away every filter that is not given.")
    ] = False,
    pause: Annotated[
        bool | None,
        typer.Option("--pause/--resume", help="Tell nothing, or go on.", show_default=False),
    ] = None,
    new_secret: Annotated[
        bool, typer.Option("--new-secret", help="Make a new secret, shown this once.")
    ] = False,
    keep_old: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="For how long the old secret signs, too; 0 for none."
        ),
    ] = "24h",
    json: JsonFlag = False,
) -> None:
    """Change a webhook, pause or resume it, or give it a new secret."""
    empty = () if no_filter else None
    wanted = WebhookChange(
        name=name,
        url=url,
        types=tuple(types) if types else empty,
        registries=tuple(registry) if registry else empty,
        pattern=pattern or ("" if no_filter else None),
        labels=_labels(label) if label or no_filter else None,
        batch=batch,
        paused=pause,
    )
    if wanted == WebhookChange() and not new_secret:
        raise typer.BadParameter("give at least one option that changes something")
    while_s = dt.timedelta(0) if keep_old == "0" else read_duration(keep_old, "--keep-old")

    async def work(house: House) -> Webhook | NewSecret:
        caller = await caller_of(house, project)
        changed = await house.webhooks.change(caller, webhook, wanted)
        if new_secret:
            return await house.webhooks.rotate(caller, changed.id, keep_old=while_s)
        return changed

    done = with_house(work)
    if isinstance(done, NewSecret):
        _show_secret(done, json=json)
    else:
        _show([done], json=json)


@webhooks.command("remove")
def remove(webhook: WebhookArgument, project: ProjectOption) -> None:
    """Remove a webhook with the log of its deliveries."""

    async def work(house: House) -> None:
        await house.webhooks.remove(await caller_of(house, project), webhook)

    with_house(work)


@webhooks.command("test")
def send_test(webhook: WebhookArgument, project: ProjectOption, json: JsonFlag = False) -> None:
    """Send an event that says nothing; exits with 1 unless the receiver takes it."""

    async def work(house: House) -> Delivery:
        return await house.webhooks.test(await caller_of(house, project), webhook)

    done = with_house(work)
    _show_deliveries([done], json=json)
    if not done.is_taken:
        sys.exit(1)


@webhooks.command("deliveries")
def deliveries(
    webhook: WebhookArgument,
    project: ProjectOption,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1000, metavar="N", help="At most so many.")
    ] = 50,
    json: JsonFlag = False,
) -> None:
    """List attempts, newest first, and what came back."""

    async def work(house: House) -> Sequence[Delivery]:
        caller = await caller_of(house, project)
        return await house.webhooks.deliveries(caller, webhook, limit=limit)

    _show_deliveries(with_house(work), json=json)


@webhooks.command("replay")
def replay(
    webhook: WebhookArgument,
    project: ProjectOption,
    from_number: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="From this image change on.")
    ] = None,
    delivery: Annotated[
        int | None,
        typer.Option("--delivery", min=1, metavar="ID", help="From this delivery on."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Tell everything again from a number or a delivery on, in order, under the same ids."""

    async def work(house: House) -> Webhook:
        caller = await caller_of(house, project)
        return await house.webhooks.replay(
            caller, webhook, from_number=from_number, delivery=delivery
        )

    _show([with_house(work)], json=json)


def _labels(given: Sequence[str] | None) -> dict[str, str]:
    return dict(read_filter(text) for text in given or ())


def _show(found: Sequence[Webhook], *, json: bool) -> None:
    if json:
        print_json(found)
        return
    rows = [
        (one.name, one.address, one.state, one.delivered, one.behind, one.last_status)
        for one in found
    ]
    print_table(["webhook", "address", "state", "told up to", "behind", "last status"], rows)


def _show_secret(made: NewSecret, *, json: bool) -> None:
    if json:
        print_json(made)
        return
    print_line(f"webhook {made.webhook.name}: {made.webhook.id}")
    print_line(f"secret, shown this once: {made.secret}")


def _show_deliveries(found: Sequence[Delivery], *, json: bool) -> None:
    if json:
        print_json(found)
        return
    rows = [
        (
            one.id,
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            one.event_id,
            one.events,
            one.attempt,
            one.status or one.error,
            f"{one.latency_ms} ms",
        )
        for one in found
    ]
    print_table(["delivery", "at (UTC)", "event", "events", "attempt", "answer", "took"], rows)
