"""The wheel, installed where an ordinary user can read it, and started as that user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    # A copy, so that building leaves no trace in the tree and needs no write access to it.
    tree = tmp_path_factory.mktemp("tree") / "wharfinger"
    shutil.copytree(
        ROOT, tree, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache")
    )
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "-o", out, tree)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that everybody may read: pytest's own are the owner's alone."""
    folder = Path(tempfile.mkdtemp(prefix="wharfinger-wheel-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run(*command, **options) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=options.pop("timeout", 400),
        **options,
    )
    assert done.returncode == 0, (command, done.stdout[-3000:], done.stderr[-3000:])
    return done


def test_the_wheel_holds_what_runs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    assert "wharfinger/py.typed" in names
    migrations = {n for n in names if n.startswith("wharfinger/store/migrations/")}
    assert len(migrations) == len(list((ROOT / "src/wharfinger/store/migrations").glob("*.sql")))
    for query in (ROOT / "src/wharfinger/store/queries").glob("*.sql"):
        assert f"wharfinger/store/queries/{query.name}" in names
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_an_ordinary_user_runs_the_quick_start_from_the_wheel(wheel, place):
    # The interpreter that made this environment may live where only its owner can read.
    python = next(
        (p for p in (sys.base_prefix + "/bin/python3", "/usr/bin/python3") if readable(Path(p))),
        None,
    )
    if python is None:
        python = sys.executable
    run(python, "-m", "venv", place / "venv")
    pip = [place / "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "-r", ROOT / "requirements/run.txt")
    run(*pip, "--no-deps", wheel)
    home = place / "home"
    home.mkdir()
    who: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        shutil.chown(home, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    done = run(
        place / "venv/bin/python",
        "-m",
        "wharfinger.testing.quickstart",
        "--exit",
        cwd=home,
        env={
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "WHARFINGER_LISTEN": "127.0.0.1:0",
            "LANG": "C.UTF-8",
        },
        **who,
    )

    assert "retired" in done.stdout
    assert (home / ".local/share/wharfinger/secret.key").exists()


def readable(path: Path) -> bool:
    """Whether an ordinary user can get at the file: every folder above it is open."""
    real = path.resolve()
    return real.exists() and all(p.stat().st_mode & 0o001 for p in real.parents)
