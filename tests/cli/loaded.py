"""The program, loaded once: what asks it (``ask_loaded.py``) gets a process of its own that begins.

A command is run hundreds of times in a session, and most of its time would go into loading the
same modules. A process forked from here has its own arguments, environment, folder and files, runs
``python -m wharfinger`` and ends with its code; only the loading was done before. What has to do
with the loading itself is tested with processes that begin from nothing.
"""

from __future__ import annotations

import array
import contextlib
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ASKING = Path(__file__).with_name("ask_loaded.py")
_LONGEST = 1_000_000


@functools.cache
def line() -> list[str]:
    """What to put before a command's arguments. The first call loads the program."""
    place = Path(tempfile.mkdtemp(prefix="wharfinger-loaded-")) / "socket"
    # Nothing is ever written to its standard input, which ends with this process, however it ends.
    ends_with_us, _ = os.pipe()
    subprocess.run([sys.executable, __file__, place], stdin=ends_with_us, check=True)
    os.close(ends_with_us)
    return [sys.executable, "-I", "-S", str(ASKING), str(place)]


class Loaded:
    """Begins processes for whoever asks, until standard input ends."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(place))
        self._door.listen(16)
        self._poll = select.poll()
        # By what tells of the end of a process: its number, and whom to tell.
        self._ends: dict[int, tuple[int, socket.socket]] = {}
        # By what tells that a caller has gone: the number of its process.
        self._callers: dict[int, int] = {}

    def serve(self) -> dict | None:
        """Returns nothing at the end, and in each new process what it was asked to be."""
        self._poll.register(0, select.POLLHUP)
        self._poll.register(self._door, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == 0:
                    self._leave()
                    return None
                if descriptor in self._ends:
                    self._tell_the_end(descriptor)
                elif descriptor in self._callers:
                    os.kill(self._callers[descriptor], signal.SIGKILL)
                    self._poll.unregister(descriptor)
                elif descriptor == self._door.fileno() and (asked := self._begin()):
                    return asked

    def _begin(self) -> dict | None:
        caller, _ = self._door.accept()
        asked, files = _received(caller)
        if pid := os.fork():
            for file in files:
                os.close(file)
            end = os.pidfd_open(pid)
            self._ends[end] = pid, caller
            self._callers[caller.fileno()] = pid
            self._poll.register(end, select.POLLIN)
            # Nothing more is said by the caller: what comes is that it was killed.
            self._poll.register(caller, select.POLLIN)
            return None
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.closerange(3, 1024)
        return asked

    def _tell_the_end(self, descriptor: int) -> None:
        pid, caller = self._ends.pop(descriptor)
        self._poll.unregister(descriptor)
        os.close(descriptor)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        del self._callers[caller.fileno()]
        with contextlib.suppress(KeyError):
            self._poll.unregister(caller)
        with contextlib.suppress(OSError):
            caller.sendall(str(code).encode())
        caller.close()

    def _leave(self) -> None:
        for pid in self._callers.values():
            os.kill(pid, signal.SIGKILL)
        self._place.unlink(missing_ok=True)
        self._place.parent.rmdir()


def _received(caller: socket.socket) -> tuple[dict, array.array]:
    files = array.array("i")
    text, ancillary, _, _ = caller.recvmsg(_LONGEST, socket.CMSG_SPACE(3 * files.itemsize))
    for _, _, data in ancillary:
        files.frombytes(data)
    while not text.endswith(b"\n"):
        text += caller.recv(_LONGEST)
    return json.loads(text), files


def become(asked: dict) -> None:
    """Be the program, as the interpreter would have begun it."""
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv[1:] = asked["arguments"]
    runpy.run_module("wharfinger", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    # This file's folder is not where the program looks for modules.
    del sys.path[0]
    import wharfinger.cli  # noqa: F401 - this is what is loaded

    gc.freeze()
    loaded = Loaded(Path(sys.argv[1]))
    # Whoever waits may go on.
    if os.fork():
        os._exit(0)
    os.setsid()
    if asked := loaded.serve():
        become(asked)
