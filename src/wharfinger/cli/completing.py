"""What the shell offers for a word that is half written. It never starts anything."""

from __future__ import annotations

from typing import Any

import typer

from wharfinger.domain.errors import WharfingerError
from wharfinger.settings import read_settings
from wharfinger.sources import KINDS
from wharfinger.store import completing
from wharfinger.wiring import as_app_role


def complete_kind(incomplete: str) -> list[str]:
    """Kinds of registries."""
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def complete_project(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of projects."""
    address = _address(ctx)
    found = [] if address is None else completing.project_ids(address)
    return [one for one in found if one.startswith(incomplete)]


def complete_registry(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the registries of the project that the line names before."""
    address, project = _address(ctx), ctx.params.get("project")
    if address is None or not project:
        return []
    found = completing.registry_names(address, str(project))
    return [one for one in found if one.startswith(incomplete)]


def _address(ctx: typer.Context) -> str | None:
    flags: dict[str, Any] = ctx.find_root().params
    given = {name: flags.get(name) for name in ("data_dir", "database_url")}
    try:
        settings = read_settings(given)
    except WharfingerError:
        return None
    if settings.database_app_url is not None:
        return settings.database_app_url
    if settings.database_url is not None:
        return as_app_role(settings.database_url)
    return completing.running_database(settings.data_dir)
