"""Where a bench works."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's and nginx's own accounts can enter, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="wharfinger-bench-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        _await_end(folder / "data")
        shutil.rmtree(folder, ignore_errors=True)


def _await_end(data_dir: Path) -> None:
    """Wait until the keeper has stopped the server, which it does a second after its last user."""
    state = data_dir / "postgresql" / "data" / "postmaster.pid"
    deadline = time.monotonic() + 30
    while state.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
