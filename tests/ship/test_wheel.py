"""The wheel as a stranger gets it: built, installed by the lock, and run by an ordinary user."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from commands import await_end, living

ROOT = Path(__file__).parents[2]
NOBODY = "nobody"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the source distribution, made without the network."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return folder


def test_the_wheel_holds_all_that_is_needed_and_nothing_else(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {n for n in wheel.namelist() if ".dist-info/" not in n}

    source = ROOT / "src"
    wanted = {
        str(path.relative_to(source))
        for path in (source / "wharfinger").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names == wanted
    assert "wharfinger/py.typed" in names
    assert any(n.startswith("wharfinger/store/migrations/") for n in names)
    assert any(n.startswith("wharfinger/store/queries/") for n in names)


def test_the_source_distribution_can_be_built_and_tested(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as source:
        names = {n.partition("/")[2] for n in source.getnames()}

    assert {"pyproject.toml", "README.md", "LICENSE", "src/wharfinger/py.typed"} <= names
    assert "src/wharfinger/store/migrations/0001_pre_foundation.sql" in names
    assert "tests/conftest.py" in names


@pytest.fixture
def place():
    """A folder that an ordinary user can read, and that user's home in it."""
    folder = Path(tempfile.mkdtemp(prefix="wharfinger-wheel-"))
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir(mode=0o700)
    if os.geteuid() == 0:
        entry = pwd.getpwnam(NOBODY)
        os.chown(home, entry.pw_uid, entry.pw_gid)
    yield folder
    await_end(home / "share" / "wharfinger")
    shutil.rmtree(folder)


def as_ordinary_user(command, folder, **options):
    """Run it with a home of its own; as root, in the name of nobody."""
    entry = pwd.getpwnam(NOBODY)
    identity = (
        {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        if os.geteuid() == 0
        else {}
    )
    home = folder / "home"
    return subprocess.run(
        command,
        cwd="/",
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "share"),
            "WHARFINGER_LISTEN": "127.0.0.1:0",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
        **identity,
        **options,
    )


def ordinary_python(folder) -> str:
    """A Python that an ordinary user can run: ours may lie in root's home."""
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    asked = "import sys, venv; sys.exit(sys.version_info < (3, 11))"
    for python in (base, *map(shutil.which, ("python3", "python3.13", "python3.12", "python3.11"))):
        for candidate in {str(python), f"/usr/bin/{Path(python or 'python3').name}"}:
            with contextlib.suppress(OSError):
                if as_ordinary_user([candidate, "-c", asked], folder).returncode == 0:
                    return candidate
    pytest.skip("needs Python 3.11+ that every user can run: apt-get install python3")
    return ""


def processes_of(folder) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
    return living(found)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_ordinary_user_runs_the_quick_start_from_the_wheel(built, place):
    venv = place / "venv"
    python = venv / "bin" / "python"
    subprocess.run([ordinary_python(place), "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    lock = ROOT / "requirements" / "run.txt"
    subprocess.run(
        [*pip, "--require-hashes", "--disable-pip-version-check", "-r", lock],
        check=True,
        capture_output=True,
    )
    wheel = next(built.glob("*.whl"))
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True, capture_output=True)

    walk = as_ordinary_user([python, "-m", "wharfinger.testing.quickstart", "--exit"], place)

    assert walk.returncode == 0, walk.stdout + walk.stderr
    assert "exactly this one was retired" in walk.stdout
    assert "huaweicloudsdkhss" in walk.stdout
    assert processes_of(place) == set()
    listed = as_ordinary_user(
        [venv / "bin" / "wharfinger", "images", "--project", "sample", "--json"], place
    )
    assert len(json.loads(listed.stdout)) == 3605
    data_dir = place / "home" / "share" / "wharfinger"
    assert data_dir.stat().st_uid == place.joinpath("home").stat().st_uid
