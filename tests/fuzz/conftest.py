"""One running service for all that is thrown at it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Commands
from prey import KEPT, SPOILT, THROWN, Prey, furnish, known_ids, serving

from clusters import FAST, send_away
from wharfinger.store.cluster import DATABASE
from wharfinger.store.embedded import hold


@pytest.fixture(scope="session")
def prey(initialised_folder: Path) -> Iterator[Prey]:
    folder = Path(tempfile.mkdtemp(prefix="wharfinger-fuzz-"))
    folder.chmod(0o711)
    data_dir = folder / "data"
    subprocess.run(["cp", "-a", f"{initialised_folder}/.", data_dir], check=True)
    with hold(data_dir, settings=FAST) as lease:
        commands = Commands(data_dir)
        tokens = furnish(commands)
        with serving(commands, folder / "log.txt") as (url, pid):
            database = lease.superuser_dsn(DATABASE)
            yield Prey(
                url=url,
                pid=pid,
                log=folder / "log.txt",
                database=database,
                ids={project: known_ids(database, project) for project in (KEPT, THROWN, SPOILT)},
                **tokens,
            )
    send_away(data_dir)
    shutil.rmtree(folder)
