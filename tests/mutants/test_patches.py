"""The planted bugs still fit the code, and each guard of a hard case has one of its own."""

from __future__ import annotations

import ast
import functools

import pytest
from planted import ROOT, all_mutants, apply

from hard_case_table import marked

MUTANTS = all_mutants()


@functools.cache  # One file is named by dozens of mutants.
def functions_of(file):
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_applies_to_the_code_as_it_is(mutant):
    apply(mutant, ROOT, "--check")

    assert mutant.files
    assert all(file.startswith("src/wharfinger/") for file in mutant.files)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_test_that_must_notice_exists(mutant):
    file, _, name = mutant.killer.partition("::")

    assert name in functions_of(file)


def test_every_guard_of_a_hard_case_is_shown_to_be_needed():
    shown = {(mutant.killer, mutant.guard) for mutant in MUTANTS}
    needed: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for one in marked():
        needed.setdefault((one.case, one.guard), set()).add((one.test, one.guard))

    assert {case_and_guard for case_and_guard, by in needed.items() if not by & shown} == set()
