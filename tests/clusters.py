"""What tests know of PostgreSQL servers of their own."""

from __future__ import annotations

import time
from pathlib import Path

from wharfinger.store.cluster import is_free

# A crash of the machine loses the test cluster, which is thrown away anyway.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "autovacuum": "off",
    "logging_collector": "off",
}


def await_end(data_dir: Path) -> None:
    """Wait until the keeper of a data directory has gone."""
    keeper_lock = data_dir / "postgresql" / "keeper.lock"
    deadline = time.monotonic() + 30
    while keeper_lock.exists() and not is_free(keeper_lock):
        assert time.monotonic() < deadline, "the keeper does not stop"
        time.sleep(0.05)
