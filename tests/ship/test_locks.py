import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def pins(path):
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_by_hash_and_names_no_place(lock):
    text = lock.read_text()

    assert not re.search(r"://|--(extra-)?index|--find-links|^-e|/(home|tmp|work|opt|root)/", text)
    # Every requirement ends in its hashes.
    blocks = re.split(r"\n(?=[a-z0-9])", text)
    assert all("--hash=sha256:" in block for block in blocks)


def test_what_runs_is_tested_in_the_same_versions():
    run, dev, build = (pins(ROOT / "requirements" / f"{n}.txt") for n in ("run", "dev", "build"))

    assert run.items() <= dev.items()
    assert {name: dev.get(name, version) for name, version in build.items()} == build


def test_the_locks_hold_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    def names(requirements):
        return {re.match(r"[A-Za-z0-9-]+", r)[0].lower() for r in requirements}

    assert names(project["project"]["dependencies"]) <= set(pins(ROOT / "requirements/run.txt"))
    assert names(project["dependency-groups"]["dev"]) <= set(pins(ROOT / "requirements/dev.txt"))
