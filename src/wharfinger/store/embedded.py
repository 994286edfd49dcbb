"""Using the embedded PostgreSQL: ``hold`` it, and it runs until the last holder has left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from wharfinger.domain.errors import SetupError, StoreUnavailableError, WharfingerError
from wharfinger.settings import bystander_environment
from wharfinger.store.cluster import (
    APP,
    OWNER,
    SUPERUSER,
    Binaries,
    FileLock,
    Layout,
    find_binaries,
    is_free,
)
from wharfinger.store.database import DatabaseAddress

__all__ = ["Binaries", "Lease", "find_binaries", "hold"]

_WATCH_S = 0.5
_LONGEST_PAUSE_S = 10.0
_LOG_LIMIT = 1_000_000


def hold(
    data_dir: Path,
    *,
    pg_bin: str | None = None,
    settings: Mapping[str, str] | None = None,
    timeout_s: float = 120,
) -> Lease:
    """Use the embedded PostgreSQL of a data directory, which is made and started when needed.

    Blocks until the server accepts connections: about 2 s the first time, 0.3 s for a stopped
    server, nothing for a running one; longer while it recovers from a crash.

    Args:
        data_dir: Wharfinger's data directory; everything is kept below ``postgresql`` in it.
        pg_bin: the value of ``WHARFINGER_PG_BIN``, if set.
        settings: server settings on top of ``postgresql.conf``; they count when this call is the
            one that starts the server.
        timeout_s: how long to wait for the server.

    Raises:
        SetupError: no usable PostgreSQL, a data directory of another major version or user, or a
            server that does not start.
        StoreUnavailableError: not ready in time.
    """
    return Lease(
        Layout.below(data_dir), pg_bin=pg_bin, settings=settings or {}, timeout_s=timeout_s
    )


class Lease:
    """One user's hold on the server. While it lasts a killed keeper is replaced."""

    def __init__(
        self, layout: Layout, *, pg_bin: str | None, settings: Mapping[str, str], timeout_s: float
    ) -> None:
        self._layout = layout
        self._launch_arguments = [
            *([f"--pg-bin={pg_bin}"] if pg_bin else []),
            *(f"--set={name}={value}" for name, value in settings.items()),
        ]
        self._deadline = time.monotonic() + timeout_s
        self._users = FileLock(layout.users_lock)
        # A keeper that is stopping the server keeps users out until it has.
        if not self._users.acquire(shared=True, timeout_s=timeout_s):
            raise StoreUnavailableError("the embedded PostgreSQL does not finish stopping")
        try:
            self._socket = self._await_ready()
        except BaseException:
            self._users.release()
            raise
        self._closing = threading.Event()
        self._watch = threading.Thread(target=self._replace_keepers, daemon=True)
        self._watch.start()

    @property
    def address(self) -> DatabaseAddress:
        """Where the database is, for the owner and for the application's role."""
        return DatabaseAddress(
            owner=self._layout.dsn(OWNER, socket=self._socket),
            app=self._layout.dsn(APP, socket=self._socket),
        )

    def superuser_dsn(self, database: str = "postgres") -> str:
        """A connection string for the server's own administrator: tests, dumps, upgrades."""
        return self._layout.dsn(SUPERUSER, socket=self._socket, database=database)

    def close(self) -> None:
        """Leave; the last user's leaving stops the server. A second call does nothing."""
        self._closing.set()
        self._watch.join()
        self._users.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _await_ready(self) -> str:
        before = self._layout.read_state()
        while time.monotonic() < self._deadline:
            has_keeper = not is_free(self._layout.keeper_lock)
            state = self._layout.read_state()
            if has_keeper and state and state.phase == "ready":
                return state.socket
            if not has_keeper:
                # A failure that was there before is somebody else's, and may be mended.
                if state and state.phase == "failed" and state != before:
                    raise SetupError(state.message)
                self._launch()
            time.sleep(0.02)
        raise StoreUnavailableError(f"the embedded PostgreSQL is not ready; see {self._layout.log}")

    def _launch(self) -> None:
        """Start a keeper unless there is one; when this returns there is, or it has failed."""
        lock = FileLock(self._layout.launch_lock)
        if not lock.acquire(shared=False, timeout_s=30):
            return
        try:
            if is_free(self._layout.keeper_lock):
                # Whoever sees the new keeper must not take its predecessor's word for its own.
                self._layout.state.unlink(missing_ok=True)
                self._start_keeper()
        finally:
            lock.release()

    def _start_keeper(self) -> None:
        log = self._layout.log
        small = not log.exists() or log.stat().st_size < _LOG_LIMIT
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if small else os.O_TRUNC)
        with os.fdopen(os.open(log, flags, 0o600), "ab") as output:
            # -P: a module in the caller's working directory must not become the keeper's.
            done = subprocess.run(  # noqa: S603 - our own interpreter and module.
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "wharfinger.store.keeper",
                    str(self._layout.folder.parent),
                    *self._launch_arguments,
                ],
                stdin=subprocess.DEVNULL,
                env=bystander_environment(),
                # Not the caller's: a pipe held by the keeper would keep its reader waiting.
                stdout=output,
                stderr=output,
                start_new_session=True,
                check=False,
            )
        if done.returncode:
            raise SetupError(f"the keeper of PostgreSQL does not start; see {log}")

    def _replace_keepers(self) -> None:
        pause_s = _WATCH_S
        while not self._closing.wait(pause_s):
            pause_s = _WATCH_S
            # The next round tries again; the keeper's log has the reason.
            with contextlib.suppress(WharfingerError, OSError):
                if is_free(self._layout.keeper_lock):
                    # If it fails for good, its log should not fill up with that reason.
                    state = self._layout.read_state()
                    self._launch()
                    if state and state.phase == "failed":
                        pause_s = _LONGEST_PAUSE_S
