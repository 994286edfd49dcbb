"""Planted bugs: each is a patch whose header says what it breaks and which test must notice."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
_HEADER = re.compile(r"^(Killed-by|Guard): (\S.*)$", re.MULTILINE)


class PatchError(Exception):
    """The patch does not fit the code any more."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One planted bug. ``guard`` is the function it takes away, where a hard case names it."""

    path: Path
    breaks: str
    killed_by: str
    guard: str
    files: Sequence[str]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def killer(self) -> str:
        """The test that must notice, without its parameters."""
        return self.killed_by.partition("[")[0]


def read_mutant(path: Path) -> Mutant:
    text = path.read_text("utf-8")
    head, _, _ = text.partition("\n--- ")
    fields = dict(_HEADER.findall(head))
    return Mutant(
        path=path,
        breaks=head.partition("\n")[0],
        killed_by=fields["Killed-by"],
        guard=fields.get("Guard", ""),
        files=re.findall(r"^\+\+\+ b/(\S+)$", text, re.MULTILINE),
    )


def all_mutants() -> list[Mutant]:
    return [read_mutant(path) for path in sorted(FOLDER.glob("*.patch"))]


def apply(mutant: Mutant, tree: Path, *options: str) -> None:
    """Apply the patch to a tree; ``-R`` takes it back, ``--check`` only tries.

    Raises:
        PatchError: it does not fit.
    """
    # One line of context will do, so that a change nearby does not take the patch along.
    command = ["git", "apply", "-C1", "--whitespace=nowarn", *options, str(mutant.path)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PatchError(done.stderr.strip())
