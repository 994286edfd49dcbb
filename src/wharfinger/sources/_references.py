"""Secrets that are kept outside the database, by references that only the operator gives.

``env:NAME`` is a variable of the worker's environment, ``file:/PATH`` a file on its machine, and
``exec:PROGRAM ARGUMENTS`` what a program prints that the operator has put into the folder of
``WHARFINGER_SECRET_COMMANDS``. They are read when a registry is about to be read. What goes wrong
is told without the reference, since whoever sees a run's reasons need not be the operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import stat
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
import structlog

from wharfinger.domain.errors import CredentialsNeededError, InvalidParameterError
from wharfinger.domain.model import RegistryCredential

log = structlog.get_logger()

LONGEST = 1024
MOST_BYTES = 64 * 1024
TIMEOUT_S = 10.0
# Units of one run ask again and again; a secret that was replaced is noticed by the next run.
KEEP_S = 60.0

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_RULE = "must be env:NAME, file:/PATH or exec:PROGRAM ARGUMENTS"


def check_reference(reference: str) -> None:
    """Check the form of a reference; whether the secret is there shows when it is needed.

    Raises:
        InvalidParameterError: naming what would be accepted.
    """
    scheme, _, rest = reference.partition(":")
    good = {
        "env": lambda: _NAME.fullmatch(rest) is not None,
        "file": lambda: rest.startswith("/"),
        "exec": lambda: _PROGRAM.fullmatch(_words(rest)[0]) is not None,
    }
    if len(reference) > LONGEST or not reference.isprintable():
        raise InvalidParameterError("secret_from", f"must be up to {LONGEST} printable characters")
    if scheme not in good or not good[scheme]():
        raise InvalidParameterError("secret_from", _RULE)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command) or [""]
    except ValueError:
        return [""]


class _Answer(msgspec.Struct, frozen=True):
    at: float
    secret: str = ""
    failure: str = ""


class References:
    """Reads secrets by their references, each at most once a minute."""

    def __init__(
        self,
        *,
        variable: Callable[[str], str | None],
        environment: Mapping[str, str],
        commands: Path | None,
        timeout_s: float = TIMEOUT_S,
        keep_s: float = KEEP_S,
    ) -> None:
        self._variable = variable
        self._environment = dict(environment)
        self._commands = commands
        self._timeout_s = timeout_s
        self._keep_s = keep_s
        self._answers: dict[str, _Answer] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __call__(self, credential: RegistryCredential) -> RegistryCredential:
        """Return the credential with its secret.

        Raises:
            CredentialsNeededError: the secret is not to be had.
        """
        if credential.kind == "none" or credential.secret:
            return credential
        if not credential.reference:
            raise CredentialsNeededError("the registry's secret is not stored; enter it again")
        async with self._locks[credential.reference]:
            answer = await self._answer(credential.reference)
        if answer.failure:
            raise CredentialsNeededError(f"the secret is kept elsewhere: {answer.failure}")
        return msgspec.structs.replace(credential, secret=answer.secret)

    async def _answer(self, reference: str) -> _Answer:
        known = self._answers.get(reference)
        if known is not None and time.monotonic() - known.at < self._keep_s:
            return known
        scheme, _, rest = reference.partition(":")
        read: Mapping[str, Callable[[str], Awaitable[bytes]]] = {
            "env": self._read_variable,
            "file": _read_file,
            "exec": self._run,
        }
        try:
            answer = _Answer(time.monotonic(), secret=_one_line(await read[scheme](rest)))
        except _UnreadableError as error:
            answer = _Answer(time.monotonic(), failure=str(error))
            # The arguments of a command may be secrets themselves.
            shown = f"exec:{_words(rest)[0]}" if scheme == "exec" else reference
            log.warning("credentials.needed", reference=shown, why=str(error))
        self._answers[reference] = answer
        return answer

    async def _read_variable(self, name: str) -> bytes:
        value = self._variable(name)
        if value is None:
            raise _UnreadableError("the environment variable is not set")
        return value.encode("utf-8", "surrogateescape")

    async def _run(self, command: str) -> bytes:
        program, *arguments = _words(command)
        path = await asyncio.to_thread(_trusted, self._commands, program)
        try:
            process = await asyncio.create_subprocess_exec(
                path,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                # What a program complains of may quote the secret.
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as exc:
            raise _UnreadableError(f"the command cannot be run ({type(exc).__name__})") from None
        try:
            async with asyncio.timeout(self._timeout_s):
                output = await _capped(process)
                code = await process.wait()
        except BaseException as exc:
            await _end(process)
            if not isinstance(exc, TimeoutError):
                raise
            took = f"the command took more than {self._timeout_s:g} seconds"
            raise _UnreadableError(took) from None
        if code:
            raise _UnreadableError(f"the command ended with {code}")
        return output


class _UnreadableError(Exception):
    """Why a secret is not to be had, in words that do not tell where it is kept."""


def _one_line(raw: bytes) -> str:
    if len(raw) > MOST_BYTES:
        raise _UnreadableError(f"there are more than {MOST_BYTES} bytes where it should be")
    try:
        secret = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise _UnreadableError("what is there is no UTF-8 text") from None
    if not secret:
        raise _UnreadableError("it is empty")
    if any(char in secret for char in "\r\n\0"):
        raise _UnreadableError("what is there is more than one line")
    return secret


async def _read_file(path: str) -> bytes:
    return await asyncio.to_thread(_read, Path(path))


def _read(path: Path) -> bytes:
    try:
        # Not blocking: somebody may have put a pipe there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _UnreadableError("the file is none")
            return os.read(descriptor, MOST_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise _UnreadableError(f"the file cannot be read ({type(exc).__name__})") from None


def _trusted(folder: Path | None, program: str) -> Path:
    """Return the program, if the operator alone decides what it is."""
    if folder is None:
        raise _UnreadableError("commands are not run unless WHARFINGER_SECRET_COMMANDS is set")
    path = folder / program
    try:
        modes = [one.stat().st_mode for one in (folder, path)]
    except OSError as exc:
        raise _UnreadableError(f"there is no such command ({type(exc).__name__})") from None
    if any(mode & 0o022 for mode in modes):
        raise _UnreadableError("others may write the command or its folder")
    if not stat.S_ISREG(modes[1]):
        raise _UnreadableError("the command is no file")
    return path


async def _capped(process: asyncio.subprocess.Process) -> bytes:
    """Read what a program prints, and a little more than a secret may be long."""
    output = b""
    stdout = process.stdout
    while stdout is not None and len(output) <= MOST_BYTES:
        piece = await stdout.read(MOST_BYTES + 1 - len(output))
        if not piece:
            return output
        output += piece
    raise _UnreadableError(f"the command prints more than {MOST_BYTES} bytes")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Leave nothing running that a program started, be it gone itself."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    while process.stdout is not None and await process.stdout.read(MOST_BYTES):
        pass
    await process.wait()
