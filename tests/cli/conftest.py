"""One data directory for a module of commands, with its PostgreSQL running throughout."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import PROJECT, Commands

from clusters import send_away
from wharfinger.store.embedded import hold
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream


@pytest.fixture(scope="module")
def commands(initialised_folder: Path) -> Iterator[Commands]:
    folder = Path(tempfile.mkdtemp(prefix="wharfinger-cli-"))
    folder.chmod(0o711)
    data_dir = folder / "data"
    subprocess.run(["cp", "-a", f"{initialised_folder}/.", data_dir], check=True)
    # Without a standing user the server would start and stop with every command.
    with hold(data_dir, settings={"fsync": "off"}):
        commands = Commands(data_dir)
        commands("project", "create", "acme name", "--id", PROJECT)
        yield commands
    send_away(data_dir)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(made_up_world(3, 4)).running_in_thread() as running:
        yield running


@pytest.fixture
def add_registry(commands, upstream):
    """Add an SWR registry that reads the upstream."""

    def add(name, *arguments, project=PROJECT, kind="SwrPrivate", address=None, code=0):
        return commands(
            *("registry", "add", "--project", project, "--name", name, "--kind", kind),
            *("--address", address or upstream.url, "--access-key", upstream.key.access_key),
            "--secret-key-stdin",
            *arguments,
            stdin=upstream.key.secret_key + "\n",
            code=code,
        )

    return add
