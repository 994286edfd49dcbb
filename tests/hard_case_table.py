"""The bad days that registries are known for, the tests that play them, and the table of both.

``pytest --hard-cases`` (``make hard-cases``) runs the marked tests and prints the table;
``python tests/hard_case_table.py`` writes the table of ``docs/hard-cases.md``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

CASES = {
    "H1": "one repository of many fails",
    "H2": "a list moves under its offset pages",
    "H3": "an empty list where thousands were",
    "H4": "only the registry can write its cursor",
    "H5": "links in every spelling, and to other hosts",
    "H6": "a full page whose link got lost",
    "H7": "pages that lead back to themselves",
    "H8": "a page size of the server's own",
    "H9": "half an answer, or a proxy's page, with 200",
    "H10": "null, or no list at all, for none",
    "H11": "listed by the catalog, unknown to its tags",
    "H12": "throttled, in every wording",
    "H13": "tokens that end, and scopes, realms, redirects",
    "H14": "no catalog, or none for us",
    "H15": "HEAD does not tell the digest",
    "H16": "the Accept header decides the digest",
    "H17": "a tag moves or goes between list and manifest",
    "H18": "indexes with children of every sort",
    "H19": "one digest under thousands of tags",
    "H20": "names that do not fit a path",
    "H21": "a source whose lists flicker",
    "H22": "sizes beyond 32 bits",
    "H23": "a repository of any length, in one size of memory",
    "H24": "killed between two batches",
    "H25": "two runs, or a change of settings, at once",
    "H26": "two registries at once",
    "H27": "readers during a sync",
    "H28": "a changed filter is no deletion",
    "H29": "down, unwell and locked are three things",
    "H30": "hints twice, late, reversed, forged",
    "H31": "times that no clock has said",
    "H32": "addresses inside the network",
    "H33": "secrets in logs, jobs and errors",
    "H34": "answers without end, and bombs",
    "H35": "tables that only grow",
}

# What waits for a kind of a later issue: the part that does, and what closes it.
PENDING: dict[str, tuple[str, str]] = {}


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A test that plays a case, and the function that it shows to be needed."""

    case: str
    guard: str
    test: str  # as pytest names it, from the root of the project, without parameters


def marked() -> list[Marked]:
    """Every marked test, read from the sources, in the order of the cases."""
    found = [one for path in sorted(TESTS.rglob("test_*.py")) for one in _marked_in(path)]
    return sorted(found, key=lambda one: (int(one.case[1:]), one.test))


def _marked_in(path: Path) -> Iterator[Marked]:
    text = path.read_text("utf-8")
    if "hard_case(" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        for call in getattr(node, "decorator_list", []):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.hard_case":
                case, guard = (
                    ast.literal_eval(call.args[0]),
                    ast.literal_eval(call.keywords[0].value),
                )
                test = f"{path.relative_to(TESTS.parent)}::{node.name}"
                yield Marked(case=case, guard=guard, test=test)


def as_markdown() -> str:
    """The table of the documentation."""
    lines = ["| case | what happens | guard | tests |", "|---|---|---|---|"]
    tests = marked()
    for case, what in CASES.items():
        own = [one for one in tests if one.case == case]
        guards = "<br>".join(f"`{guard}`" for guard in dict.fromkeys(one.guard for one in own))
        names = "<br>".join(f"`{one.test.removeprefix('tests/')}`" for one in own)
        if case in PENDING:
            part, closed_by = PENDING[case]
            names = "<br>".join(filter(None, (names, f"pending: {part} ({closed_by})")))
        lines.append(f"| {case} | {what} | {guards} | {names} |")
    return "\n".join(lines)


@dataclass(eq=False)  # A plugin is known by its identity.
class HardCases:
    """The pytest plugin: it chooses the marked tests and prints the table of how they went."""

    outcomes: dict[Marked, set[str]] = field(default_factory=dict)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("hard_case"):
                # What stands in a report travels from a worker to the process that prints.
                item.user_properties.append(("hard_case", [mark.args[0], mark.kwargs["guard"]]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        for name, value in report.user_properties:
            if name == "hard_case":
                case, guard = value
                one = Marked(case=case, guard=guard, test=report.nodeid.partition("[")[0])
                self.outcomes.setdefault(one, set()).add(report.outcome)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        is_worker = hasattr(session.config, "workerinput")
        if not is_worker and not session.exitstatus and self.missing():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def missing(self) -> list[str]:
        """The cases that no test has played and no later kind excuses."""
        played = {one.case for one in self.outcomes}
        return [case for case in CASES if case not in played and case not in PENDING]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        rows = [("id", "case", "test", "guard", "verdict"), *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        terminalreporter.section("hard cases")
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            terminalreporter.write_line("  ".join(cells).rstrip())
        tests = {one.test for one in self.outcomes}
        counts = [f"{len(CASES)} cases", f"{len(tests)} tests"]
        for verdict in ("failed", "missing", "pending"):
            number = sum(row[4] == verdict for row in rows)
            counts.append(f"{number} {verdict}")
        terminalreporter.write_line(", ".join(counts))

    def _rows(self) -> Iterator[tuple[str, str, str, str, str]]:
        for case, what in CASES.items():
            own = [one for one in self.outcomes if one.case == case]
            for one in sorted(own, key=lambda one: one.test):
                # Skipped is not shown, and what is not shown has failed.
                passed = self.outcomes[one] == {"passed"}
                test = one.test.removeprefix("tests/")
                guard = one.guard.removeprefix("wharfinger.")
                yield case, what, test, guard, "passed" if passed else "failed"
            if case in PENDING:
                part, closed_by = PENDING[case]
                yield case, part, f"with {closed_by}", "", "pending"
            elif not own:
                yield case, what, "", "", "missing"


if __name__ == "__main__":
    print(as_markdown())
