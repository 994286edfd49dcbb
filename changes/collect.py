"""Moves the fragments of this folder into CHANGELOG.md, under a version: ``collect.py 0.2.0``."""  # noqa: INP001 - a script

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

KINDS = {"added": "Added", "changed": "Changed", "fixed": "Fixed", "removed": "Removed"}


def section(folder: Path, version: str, day: dt.date) -> str:
    """The section of a version, made of every fragment.

    Raises:
        ValueError: there is no fragment, or one of another kind.
    """
    fragments = sorted(p for p in folder.glob("*.md") if p.name != "README.md")
    strange = [p.name for p in fragments if p.name.split(".")[-2] not in KINDS]
    if strange or not fragments:
        raise ValueError(f"no fragment, or one of an unknown kind: {strange}")
    parts = [f"## {version}, {day:%Y-%m-%d}"]
    for kind, title in KINDS.items():
        texts = [p.read_text("utf-8").strip() for p in fragments if p.name.split(".")[-2] == kind]
        if texts:
            parts.append(f"### {title}\n\n" + "\n".join(f"- {text}" for text in texts))
    return "\n\n".join(parts) + "\n"


def collect(root: Path, version: str, day: dt.date) -> None:
    """Put the section above the earlier versions and remove the fragments."""
    folder, log = root / "changes", root / "CHANGELOG.md"
    new = section(folder, version, day)
    head, mark, rest = log.read_text("utf-8").partition("\n## ")
    log.write_text(f"{head.rstrip()}\n\n{new}{mark}{rest}", "utf-8")
    for path in folder.glob("*.md"):
        if path.name != "README.md":
            path.unlink()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("say which version: make changelog VERSION=0.2.0")
    collect(Path(__file__).parents[1], sys.argv[1], dt.datetime.now(dt.UTC).date())
