"""A database with a list of any size, made once and kept for the next run."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench.wharf import Server
from wharfinger.domain.model import Caller
from wharfinger.settings import Settings, read_settings
from wharfinger.store.cluster import DATABASE, OWNER
from wharfinger.store.database import connection_options
from wharfinger.store.migrate import migrations
from wharfinger.wiring import open_house

PROJECT, NEIGHBOUR = "town", "neighbour"
EVERYONE = Caller(project_id=PROJECT, project_name=PROJECT, principal="bench", is_operator=True)
LARGE_TAGS, SMALL_TAGS = 4000, 20
STEPS = (
    "registries",
    "enterprise_projects",
    "repositories",
    "images",
    "platforms",
    "latest",
    "versions",
    "events",
    "counts",
    "feed",
    "labels",
)
_SQL = Path(__file__).with_name("town.sql")

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Town:
    """A database with so many images of one tenant, and a tenth as many of another."""

    images: int
    database: str
    owner: str
    app: str
    settings: Settings

    def connect(self, *, as_owner: bool = False) -> psycopg.Connection[Any]:
        """A connection of the role that works, or of the owner."""
        dsn = self.owner if as_owner else self.app
        return psycopg.connect(dsn, options=connection_options(dsn))


def usual_folder() -> Path:
    """Where databases of the present schema are kept between runs; those of others are removed."""
    root = Path(tempfile.gettempdir()) / f"wharfinger-bench-large-{os.getuid()}"
    folder = root / _schema()
    for old in root.glob("*"):
        if old != folder:
            shutil.rmtree(old)
    folder.mkdir(exist_ok=True, parents=True)
    for path in (root, folder):
        path.chmod(0o711)
    return folder


def town(server: Server, images: int, say: Say) -> Town:
    """The database of that size, made where there is none of the present schema."""
    name = f"town_{images}_{_schema()}"
    with server.superuser() as connection:
        known = {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}
        for old in known:
            if re.fullmatch(rf"town_{images}_[0-9a-f]+(_making)?", old) and old != name:
                connection.execute(
                    sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(old))
                )
    if name not in known:
        _build(server, name, images, say)
    return town_of(server, name, images)


def _schema() -> str:
    """A word that changes with the migrations and with what is made here."""
    texts = [step.text for step in migrations()] + [_SQL.read_text("utf-8")]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:10]


def town_of(server: Server, name: str, images: int) -> Town:
    address = server.address(name)
    settings = read_settings(environment={"WHARFINGER_DATA_DIR": str(server.data_dir)})
    return Town(
        images=images, database=name, owner=address.owner, app=address.app, settings=settings
    )


def _build(server: Server, name: str, images: int, say: Say) -> None:
    making, began = f"{name}_making", time.monotonic()
    with server.superuser() as connection:
        parts = [sql.Identifier(n) for n in (making, DATABASE, OWNER)]
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(*parts))
    made = town_of(server, making, images)
    asyncio.run(_people(server, made))
    for project, size in ((NEIGHBOUR, images // 10), (PROJECT, images)):
        _fill(made, project, size)
    with server.superuser(making) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
    with server.superuser() as connection:
        parts = [sql.Identifier(n) for n in (making, name)]
        connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*parts))
    say(f"made a list of {images:,} images in {time.monotonic() - began:.0f} s")


async def _people(server: Server, made: Town) -> None:
    async with open_house(made.settings, server.address(made.database)) as house:
        for project in (PROJECT, NEIGHBOUR):
            await house.callers.create_project(project, project)


def _fill(made: Town, project: str, images: int) -> None:
    large = images * 4 // 10 // LARGE_TAGS
    values: dict[str, Any] = {
        "project": project,
        "large": large,
        "large_tags": LARGE_TAGS,
        "small": (images - large * LARGE_TAGS) // SMALL_TAGS,
        "small_tags": SMALL_TAGS,
        "images": images,
    }
    statements = _statements()
    with made.connect(as_owner=True) as connection:
        for step in STEPS:
            if step == "versions":
                row = connection.execute(
                    "SELECT min(id) FROM image WHERE project_id = %s", (project,)
                ).fetchone()
                values["first"] = row[0] if row else 0
            connection.execute(statements[step], values)
            if step in {"repositories", "images"}:
                connection.execute("ANALYZE repository, image")


def _statements() -> dict[str, Any]:
    parts = re.split(r"^-- name: (\w+)\s*$", _SQL.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
