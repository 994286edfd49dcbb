"""Labels on registries, namespaces and repositories: list, set, remove."""

from __future__ import annotations

from typing import Annotated

import typer

from wharfinger.cli.common import (
    JsonFlag,
    ProjectOption,
    caller_of,
    print_json,
    print_table,
    with_house,
)
from wharfinger.cli.completing import complete_registry
from wharfinger.domain.labels import Label, Place, read_filter
from wharfinger.wiring import House

labels = typer.Typer(
    help="Whose a registry, a namespace or a repository is, and what it is for.",
    no_args_is_help=True,
)

RegistryArgument = Annotated[
    str,
    typer.Argument(
        metavar="REGISTRY",
        help="The registry, by name or id.",
        autocompletion=complete_registry,
    ),
]
NamespaceOption = Annotated[
    str | None, typer.Option(help="Only this namespace of it; '' is none.", show_default=False)
]
RepositoryOption = Annotated[
    str | None, typer.Option(help="Only this repository of the namespace.", show_default=False)
]


@labels.command("list")
def list_labels(project: ProjectOption, json: JsonFlag = False) -> None:
    """List labels where they were put; what lies within inherits them."""

    async def work(house: House) -> list[Label]:
        return await house.labels.list(await caller_of(house, project))

    found = with_house(work)
    if json:
        print_json(found)
        return
    rows = [(one.registry, one.namespace, one.repository, one.key, one.value) for one in found]
    print_table(["registry", "namespace", "repository", "key", "value"], rows)


@labels.command("set")
def set_label(
    registry: RegistryArgument,
    label: Annotated[
        str, typer.Argument(metavar="KEY=VALUE", help="owner=payments, for instance.")
    ],
    project: ProjectOption,
    namespace: NamespaceOption = None,
    repository: RepositoryOption = None,
) -> None:
    """Put a label; the nearest one counts: repository before namespace before registry."""
    key, value = read_filter(label)
    place = Place(registry=registry, namespace=namespace, repository=repository)

    async def work(house: House) -> None:
        await house.labels.put(await caller_of(house, project), place, key, value)

    with_house(work)


@labels.command("remove")
def remove_label(
    registry: RegistryArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="owner, for instance.")],
    project: ProjectOption,
    namespace: NamespaceOption = None,
    repository: RepositoryOption = None,
) -> None:
    """Take a label away from where it was put."""
    place = Place(registry=registry, namespace=namespace, repository=repository)

    async def work(house: House) -> None:
        await house.labels.remove(await caller_of(house, project), place, key)

    with_house(work)
