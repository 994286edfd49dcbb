"""The keeper: a small detached process that runs the embedded PostgreSQL while it has users.

Started by ``embedded.hold`` as ``python -P -m wharfinger.store.keeper``; not meant for people.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from wharfinger.domain.errors import SetupError, WharfingerError
from wharfinger.store.cluster import Cluster, FileLock, Layout, State, find_binaries

_log = logging.getLogger("wharfinger.keeper")

_POLL_S = 0.25
# Commands often follow each other closely; a start costs more than a second of an idle server.
LINGER_S = 1.0
# A server that dies this soon after its start, this many times in a row, will not get better.
_SOON_S = 5.0
_ATTEMPTS = 3


class Keeper:
    """Starts the server, restarts it when it dies, stops it when the last user has left."""

    def __init__(self, layout: Layout, *, pg_bin: str | None, settings: dict[str, str]) -> None:
        self._layout = layout
        self._pg_bin = pg_bin
        self._settings = settings
        self._token = secrets.token_hex(8)
        self._users = FileLock(layout.users_lock)

    def run(self) -> None:
        """Keep the server until nobody uses it. A failure is left in the state for the users."""
        self._publish("starting")
        try:
            cluster = self._cluster()
            self._keep(cluster)
            cluster.remove_socket_folder()
        except WharfingerError as exc:
            _log.error("%s", exc)
            self._publish("failed", message=str(exc))
        except Exception as exc:
            _log.exception("the keeper failed")
            self._publish("failed", message=f"{exc!r}; see {self._layout.log}")
            raise
        else:
            self._publish("stopped")

    def release(self) -> None:
        """Let new users in; the keeper's own lock must be free by then."""
        self._users.release()

    def _cluster(self) -> Cluster:
        binaries = find_binaries(self._pg_bin, major=self._layout.major())
        _log.info("PostgreSQL %s from %s", binaries.major, binaries.origin)
        cluster = Cluster(self._layout, binaries, self._settings)
        cluster.initialise()
        return cluster

    def _keep(self, cluster: Cluster) -> None:
        early_deaths = 0
        while early_deaths < _ATTEMPTS:
            began = time.monotonic()
            server = cluster.start()
            try:
                if self._await_ready(cluster, server):
                    self._publish("ready", socket=cluster.socket)
                    if self._last_user_left(server):
                        return
            finally:
                _stop(server)
            early_deaths = early_deaths + 1 if time.monotonic() - began < _SOON_S else 0
            _log.warning("the server died (%s), starting it again", server.returncode)
            self._publish("starting")
            time.sleep(_POLL_S * early_deaths)
        raise SetupError(f"PostgreSQL does not stay up; see {self._layout.log}")

    def _await_ready(self, cluster: Cluster, server: subprocess.Popen[bytes]) -> bool:
        while server.poll() is None:
            if cluster.is_ready(server.pid):
                return True
            time.sleep(0.02)
        return False

    def _last_user_left(self, server: subprocess.Popen[bytes]) -> bool:
        """Wait: true when nobody uses the server any more, false when it died.

        On true the users' lock is held, so a new user waits until the server has stopped.
        """
        idle_since = None
        with _death_of(server) as death:
            while server.poll() is None:
                if not self._layout.keeper_lock.exists():
                    return True  # The data directory was removed under us.
                if not self._users.acquire(shared=False):
                    idle_since = None
                elif time.monotonic() - (idle_since := idle_since or time.monotonic()) >= LINGER_S:
                    return True
                else:
                    self._users.release()
                death.poll(_POLL_S * 1000)
        return False

    def _publish(self, phase: str, *, socket: str = "", message: str = "") -> None:
        # The folder itself may have been removed.
        with contextlib.suppress(FileNotFoundError):
            self._layout.write_state(
                State(
                    token=self._token,
                    phase=phase,
                    keeper_pid=os.getpid(),
                    socket=socket,
                    message=message,
                )
            )


@contextlib.contextmanager
def _death_of(server: subprocess.Popen[bytes]) -> Iterator[select.poll]:
    poller = select.poll()
    fd = os.pidfd_open(server.pid)
    poller.register(fd, select.POLLIN)
    try:
        yield poller
    finally:
        os.close(fd)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """A fast stop; if that takes too long an immediate one, which costs a recovery but no row."""
    for sign, patience_s in ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
        if server.poll() is not None:
            return
        server.send_signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(patience_s)


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def main() -> None:
    """Become the keeper of a folder, unless it has one; returns once the lock is taken."""
    parser = argparse.ArgumentParser(prog="wharfinger.store.keeper")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--pg-bin")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    layout = Layout.below(arguments.data_dir)
    lock = FileLock(layout.keeper_lock)
    # Others look at the lock by taking it for an instant, so one refusal does not count.
    if not lock.acquire(shared=False, timeout_s=1):
        return
    # The lock goes along: when the caller has waited for us, it is held by the process that stays.
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, _leave)
    settings = dict(setting.split("=", 1) for setting in arguments.set)
    keeper = Keeper(layout, pg_bin=arguments.pg_bin, settings=settings)
    try:
        keeper.run()
    finally:
        lock.release()
        keeper.release()


if __name__ == "__main__":
    main()
