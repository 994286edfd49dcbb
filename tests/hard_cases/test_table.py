"""Every case is played by a test, and what the test shows to be needed is there."""

from __future__ import annotations

import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hard_case_table import CASES, PENDING, as_markdown, marked

DOCS = Path(__file__).parents[2] / "docs"


def test_every_case_is_played_or_waits_for_a_later_kind():
    played = {one.case for one in marked()}

    assert len(CASES) == 35
    assert set(CASES) - played - set(PENDING) == set()
    assert played | set(PENDING) <= set(CASES)


@pytest.mark.parametrize("guard", sorted({one.guard for one in marked()}))
def test_every_guard_is_a_function_or_a_class_of_ours(guard):
    module, _, name = guard.partition(":")

    found = functools.reduce(getattr, name.split("."), importlib.import_module(module))

    assert module.startswith("wharfinger.")
    assert callable(getattr(found, "fget", found))


def test_the_page_in_the_docs_is_the_table():
    page = (DOCS / "hard-cases.md").read_text("utf-8")

    assert as_markdown() in page, "write it anew: python tests/hard_case_table.py"


def test_a_case_that_nobody_played_fails_the_run_and_is_named():
    command = [sys.executable, "-m", "pytest", "--hard-cases", "-p", "no:cacheprovider"]

    done = subprocess.run(
        [*command, "-n", "0", Path(__file__).with_name("test_unknown_names.py"), "-k", "any_other"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert re.search(r"^H1 .*missing$", done.stdout, re.MULTILINE)
