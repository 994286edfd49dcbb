"""Plant each bug alone in a copy of the code, and see the test named beside it fail.

``make mutants`` runs this; ``python tests/mutants/run.py WORD…`` those with a word in their name.
A mutant counts as killed when it applies, compiles, and the test fails by an assertion; the same
tests must pass without it.

Every run is a fork of this process, which has imported what all of them need but the code itself.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from planted import FOLDER, ROOT, Mutant, PatchError, all_mutants, apply

COPIES = 2
LONGEST_S = 150
# What takes long to import and is not ours; pytest wants to import its plugins itself.
FOREIGN = ("aiohttp", "cryptography", "litestar", "procrastinate", "psycopg_pool", "uvicorn")
PLUGINS = ("pytest_asyncio.plugin", "pytest_socket", "pytest_timeout")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a mutant, or of the tests without any."""

    word: str
    detail: str = ""
    seconds: float = 0.0


@dataclass(kw_only=True)
class Run:
    """A test run under way in a fork."""

    pid: int
    copy: Path
    began: float
    mutant: Mutant | None

    @property
    def report(self) -> Path:
        return self.copy / "report.jsonl"

    def lines(self) -> list[dict]:
        text = self.report.read_text("utf-8") if self.report.exists() else ""
        return [json.loads(line) for line in text.splitlines()]


@dataclass
class Recorder:
    """A pytest plugin that writes down how each test failed: by an assertion, or by an accident."""

    report: Path
    written: int = field(default=0)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Iterator:
        report = yield
        error = call.excinfo.value if call.excinfo is not None else None
        line = {
            "test": item.nodeid,
            "passed": report.passed,
            "by_assertion": report.when == "call" and is_assertion(error),
            "error": "" if error is None else f"{type(error).__name__}: {error}"[:300],
        }
        with self.report.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return report

    __hash__ = object.__hash__


def is_assertion(error: BaseException | None) -> bool:
    """Whether a test found something wrong, rather than broke on the way."""
    # What pytest-timeout raises has the class of pytest.fail, and is no finding of the test.
    timed_out = isinstance(error, pytest.fail.Exception) and str(error).startswith("Timeout")
    return isinstance(error, AssertionError | pytest.fail.Exception) and not timed_out


# --- one run -------------------------------------------------------------------------------------


def start(copy: Path, tests: Sequence[str], mutant: Mutant | None = None) -> Run:
    """Run tests in a fork."""
    run = Run(pid=0, copy=copy, began=time.monotonic(), mutant=mutant)
    run.report.unlink(missing_ok=True)
    sys.stdout.flush()
    run.pid = os.fork()
    if run.pid == 0:
        try:
            _be_a_run(run, tests)
        except BaseException:  # noqa: BLE001 - nothing of a fork may reach the code of its parent
            traceback.print_exc()
        os._exit(1)
    return run


def _be_a_run(run: Run, tests: Sequence[str]) -> None:
    os.chdir(run.copy)
    out = os.open(run.copy / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.path.insert(0, str(run.copy / "src"))
    # What is compiled from a mutant must not outlive it.
    sys.dont_write_bytecode = run.mutant is not None
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ["PYTHONPATH"] = str(run.copy / "src")
    chosen = [word for plugin in PLUGINS for word in ("-p", plugin)]
    arguments = ["-q", *chosen, "-p", "no:cacheprovider", *tests]
    pytest.main(arguments, plugins=[Recorder(run.report)])


def end_of_one(runs: list[Run]) -> Run:
    """Wait until one of the runs has ended, or has taken too long."""
    while True:
        for run in runs:
            ended, _ = os.waitpid(run.pid, os.WNOHANG)
            overdue = time.monotonic() - run.began > LONGEST_S and run.mutant is not None
            if overdue and not ended:
                os.kill(run.pid, 9)
                os.waitpid(run.pid, 0)
            if ended or overdue:
                runs.remove(run)
                return run
        time.sleep(0.02)


# --- all of them ---------------------------------------------------------------------------------


def without_any(chosen: Sequence[Mutant], copies: Sequence[Path]) -> Verdict:
    """Whether the tests that are to judge pass on the code as it is."""
    tests = sorted({mutant.killed_by for mutant in chosen})
    runs = [start(copy, tests[n :: len(copies)]) for n, copy in enumerate(copies)]
    lines = [line for run in list(runs) for line in (_ended(run, runs)).lines()]
    failed = sorted({f"{line['test']}: {line['error']}" for line in lines if not line["passed"]})
    played = {line["test"] for line in lines}
    absent = [test for test in tests if not any(one.startswith(test) for one in played)]
    detail = "; ".join([*failed, *(f"{test} did not run" for test in absent)])
    return Verdict(word="broken" if detail else "healthy", detail=detail)


def _ended(run: Run, runs: list[Run]) -> Run:
    os.waitpid(run.pid, 0)
    runs.remove(run)
    return run


def judge_all(
    chosen: Sequence[Mutant], copies: Sequence[Path], tell: Callable[[Mutant, Verdict], None]
) -> dict[str, Verdict]:
    """Plant every bug, one in each copy at a time."""
    verdicts: dict[str, Verdict] = {}
    free, waiting, runs = list(copies), list(chosen), list[Run]()
    while waiting or runs:
        if waiting and free:
            mutant, copy = waiting.pop(0), free.pop()
            verdict = _plant(mutant, copy)
            if verdict is None:
                runs.append(start(copy, [mutant.killed_by], mutant))
                continue
            free.append(copy)
        else:
            run = end_of_one(runs)
            mutant, verdict = run.mutant, _word_for(run)
            apply(mutant, run.copy, "-R")
            free.append(run.copy)
        verdicts[mutant.name] = verdict
        tell(mutant, verdict)
    return verdicts


def _plant(mutant: Mutant, copy: Path) -> Verdict | None:
    try:
        apply(mutant, copy)
    except PatchError as error:
        return Verdict(word="does not apply", detail=str(error))
    try:
        for file in mutant.files:
            if file.endswith(".py"):
                compile((copy / file).read_bytes(), file, "exec")
    except SyntaxError as error:
        apply(mutant, copy, "-R")
        return Verdict(word="does not compile", detail=str(error))
    return None


def _word_for(run: Run) -> Verdict:
    lines, seconds = run.lines(), time.monotonic() - run.began
    failed = [line for line in lines if not line["passed"]]
    if not lines:
        output = (run.copy / "output.txt").read_text("utf-8", "replace")
        return Verdict(word="no test ran", detail=output[-300:], seconds=seconds)
    if not failed:
        return Verdict(word="SURVIVED", seconds=seconds)
    if not any(line["by_assertion"] for line in failed):
        return Verdict(word="by accident", detail=failed[0]["error"], seconds=seconds)
    return Verdict(word="killed", seconds=seconds)


# --- the program ---------------------------------------------------------------------------------


def main() -> int:
    """Judge the chosen mutants; the exit code says whether all were killed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only mutants with one of these in their name")
    words = parser.parse_args().words
    chosen = [m for m in all_mutants() if not words or any(word in m.name for word in words)]
    for module in FOREIGN:
        importlib.import_module(module)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wharfinger-mutants-") as folder:
        copies = [_copy(Path(folder) / f"copy-{number}") for number in range(COPIES)]
        healthy = without_any(chosen, copies)
        print(f"without any bug the tests are {healthy.word} {healthy.detail}", flush=True)
        verdicts = judge_all(chosen, copies, _tell) if healthy.word == "healthy" else {}
    _print_table(chosen, verdicts)
    killed = sum(verdict.word == "killed" for verdict in verdicts.values())
    print(f"{killed} of {len(chosen)} mutants killed in {time.monotonic() - began:.0f} s")
    return 0 if killed == len(chosen) else 1


def _copy(place: Path) -> Path:
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def _tell(mutant: Mutant, verdict: Verdict) -> None:
    print(f"{verdict.seconds:5.1f} s  {mutant.name}: {verdict.word} {verdict.detail}", flush=True)


def _print_table(chosen: Sequence[Mutant], verdicts: dict[str, Verdict]) -> None:
    rows = [("mutant", "breaks", "killed by", "verdict")]
    for mutant in chosen:
        word = verdicts[mutant.name].word if mutant.name in verdicts else "not tried"
        rows.append((mutant.name, mutant.breaks, mutant.killed_by.removeprefix("tests/"), word))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    sys.exit(main())
