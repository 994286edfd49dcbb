"""Every how-to page is carried out as it is written, and prints what it says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import loaded
import pytest
from commands import Commands, until

from leaks import LEAKS

MARK = "--- the next step ---"
PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("[!R]*.md"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A service with the sample whose list is complete, and commands on its data directory."""
    folder = tmp_path_factory.mktemp("how-to")
    program = folder / "bin" / "wharfinger"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(loaded.line())} "$@"\n')
    program.chmod(0o755)
    commands = Commands(folder / "data")
    with commands.serving("--sample") as serving:
        note = folder / "data" / "sample.json"
        until(note.exists)
        LEAKS.learn(json.loads(note.read_text())["secret_key"])
        commands("sync", "--project", "sample")
        yield commands, serving.url, program.parent


def steps(text):
    """Each block of commands, with the block of output that follows it."""
    return re.findall(r"```bash\n(.*?)```(?:\s*```text\n(.*?)```)?", text, re.DOTALL)


def pattern(expected):
    lines = expected.rstrip("\n").split("\n")
    anything = [".*?" if line == "…" else re.escape(line).replace("…", ".*") for line in lines]
    return re.compile("\n".join(anything), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_step_of_a_how_to_page_does_what_it_says(page, sample):
    commands, url, programs = sample
    environment = commands.environment() | {"COLUMNS": "240"}
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    parts = steps(page.read_text("utf-8"))
    # One shell for a page, so that what a step exports is there in the next.
    script = "".join(f"{block}\necho {MARK}\n" for block, _ in parts)

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:8080", url)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, (done.stdout, done.stderr)
    for (block, expected), printed in zip(parts, done.stdout.split(MARK), strict=False):
        assert pattern(expected).search(printed), (block, printed)
