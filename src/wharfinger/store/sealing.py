"""Secrets at rest: sealed with AES-GCM under a key that is kept outside the database."""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wharfinger.domain.errors import SetupError

_VERSION = b"\x01"
_KEY_ID_BYTES = 4
_KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, repr=False)
class _Key:
    id: bytes
    cipher: AESGCM


class Sealer:
    """Seals and unseals under the keys of one file.

    The file holds one key a line, ``<id in hex> <key in base64>``; the last line is the newest
    key, which seals. Older ones still unseal, so a key is replaced by adding a line, and a process
    that runs meanwhile notices.
    A sealed value is: version (1 byte), id of its key (4), nonce (12), ciphertext and tag.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, int] | None = None
        self._load()

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the keys; a file that is missing is made, with one new key and mode 0600.

        Raises:
            SetupError: the file cannot be read or made, others may read it, or it holds no key.
        """
        try:
            if not path.exists():
                _create(path)
        except OSError as exc:
            raise SetupError(f"the secret key file {path} cannot be used: {exc}") from exc
        return cls(path)

    @property
    def newest(self) -> str:
        """The id of the key that seals."""
        return self._newest.id.hex()

    @property
    def ids(self) -> set[str]:
        """The ids of all keys of the file."""
        return {key_id.hex() for key_id in self._keys}

    def add_key(self) -> None:
        """Add a key to the file, which seals from now on.

        Raises:
            SetupError: the file cannot be written.
        """
        self._rewrite(lambda lines: [*lines, new_key_line().strip()])

    def drop_keys(self, *, but: Collection[str]) -> None:
        """Remove all keys from the file but those with the given ids, and the newest.

        Raises:
            SetupError: the file cannot be written.
        """
        self._rewrite(
            lambda lines: [line for line in lines if line == lines[-1] or line.split()[0] in but]
        )

    def is_current(self, sealed: bytes) -> bool:
        """Whether a value is sealed under the newest key."""
        return sealed[1 : 1 + _KEY_ID_BYTES] == self._newest.id

    def _load(self) -> None:
        try:
            facts = self._path.stat()
            _refuse_an_open_file(self._path)
            text = self._path.read_text("ascii")
        except (OSError, UnicodeDecodeError) as exc:
            raise SetupError(f"the secret key file {self._path} cannot be used: {exc}") from exc
        keys = _parse(self._path, text)
        self._newest = keys[-1]
        self._keys = {key.id: key for key in keys}
        self._state = (facts.st_ino, facts.st_mtime_ns)

    def _refresh(self) -> None:
        """Read the file again if it was replaced since."""
        # A file that has just gone is no reason to stop: what was read from it still holds.
        with contextlib.suppress(OSError):
            facts = self._path.stat()
            if (facts.st_ino, facts.st_mtime_ns) != self._state:
                self._load()

    def _rewrite(self, change: Callable[[list[str]], list[str]]) -> None:
        try:
            with _alone_in(self._path.parent):
                lines = [
                    line for line in self._path.read_text("ascii").splitlines() if line.strip()
                ]
                aside = _write_aside(self._path, "".join(f"{line}\n" for line in change(lines)))
                aside.replace(self._path)
        except OSError as exc:
            raise SetupError(f"the secret key file {self._path} cannot be written: {exc}") from exc
        self._load()

    def seal(self, plaintext: str, *, context: bytes) -> bytes:
        """Seal a secret. It unseals only in the same ``context``, so rows cannot swap secrets."""
        self._refresh()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        prefix = _VERSION + self._newest.id
        sealed = self._newest.cipher.encrypt(nonce, plaintext.encode(), prefix + context)
        return prefix + nonce + sealed

    def unseal(self, sealed: bytes, *, context: bytes) -> str:
        """Give the secret back.

        Raises:
            SetupError: its key is not in the file, or the value was not sealed in this context.
        """
        key_id = sealed[1 : 1 + _KEY_ID_BYTES]
        if key_id not in self._keys:
            self._refresh()
        key = self._keys.get(key_id)
        if key is None or sealed[:1] != _VERSION:
            raise SetupError(f"the secret key file lacks the key {key_id.hex()} of a stored secret")
        prefix = sealed[: 1 + _KEY_ID_BYTES]
        nonce, rest = _split(sealed[len(prefix) :])
        try:
            return key.cipher.decrypt(nonce, rest, prefix + context).decode()
        except InvalidTag as exc:
            raise SetupError("a stored secret was changed or moved; enter it again") from exc


def put_keys(path: Path, content: bytes) -> None:
    """Make the file of keys with this content and mode 0600.

    Raises:
        SetupError: it cannot be made, or it is there already.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _write_aside(path, content.decode("ascii"))
        try:
            os.link(aside, path)
        finally:
            aside.unlink()
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"the secret key file {path} cannot be made: {exc}") from exc


def new_key_line() -> str:
    """One more line for the key file."""
    key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    return f"{secrets.token_hex(_KEY_ID_BYTES)} {key}\n"


def _split(rest: bytes) -> tuple[bytes, bytes]:
    return rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and linked into place: of two processes that start together one makes the
    # file, and neither ever reads half of it.
    aside = _write_aside(path, new_key_line())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()


def _write_aside(path: Path, text: str) -> Path:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return aside


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second change of the keys out: one of two would lose the other's new key."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_an_open_file(path: Path) -> None:
    facts = path.stat()
    mode = stat.S_IMODE(facts.st_mode)
    # Who is given another user's file has it through a group; a cluster's mounted secrets are so.
    allowed = 0 if facts.st_uid == os.geteuid() else stat.S_IRGRP
    if mode & 0o077 & ~allowed:
        raise SetupError(f"the secret key file {path} has mode {mode:04o}; run: chmod 600 {path}")


def _parse(path: Path, text: str) -> tuple[_Key, ...]:
    keys = tuple(_parse_line(path, line) for line in text.splitlines() if line.strip())
    if not keys:
        raise SetupError(f"the secret key file {path} holds no key")
    return keys


def _parse_line(path: Path, line: str) -> _Key:
    try:
        key_id, encoded = line.split()
        key = _Key(bytes.fromhex(key_id), AESGCM(base64.b64decode(encoded, validate=True)))
    except (ValueError, binascii.Error) as exc:
        raise SetupError(f"the secret key file {path} has a line that is no key") from exc
    if len(key.id) != _KEY_ID_BYTES:
        raise SetupError(f"the secret key file {path} has a line that is no key")
    return key
