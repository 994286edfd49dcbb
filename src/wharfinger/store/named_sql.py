"""Named queries kept in SQL files: ``-- name: …`` starts one, the rest is its text."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@functools.cache
def queries(file: str) -> dict[str, LiteralString]:
    """The queries of ``store/queries/<file>.sql``, by name."""
    text = (resources.files("wharfinger.store") / "queries" / f"{file}.sql").read_text("utf-8")
    parts = _NAME.split(text)
    # The file ships with the package: its text is as trustworthy as a literal.
    return {
        name: cast("LiteralString", body.strip())
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }
