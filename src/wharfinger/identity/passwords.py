"""Passwords: Argon2id, a few at a time, and as slow for nobody as for somebody."""

from __future__ import annotations

import asyncio
import functools
import secrets

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from wharfinger.domain.errors import InvalidParameterError

SHORTEST = 8
LONGEST = 128

# OWASP's first choice for Argon2id: 19 MiB, two passes. About 70 ms here.
_MEMORY_KIB = 19 * 1024
_PASSES = 2


def check_new_password(password: str) -> None:
    """Refuse a password that is too short, or longer than it is worth hashing.

    Raises:
        InvalidParameterError: it is.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidParameterError("password", f"must be {SHORTEST} to {LONGEST} characters")


def hash_password(password: str) -> str:
    """Hash a password for keeping."""
    kdf = Argon2id(
        salt=secrets.token_bytes(16),
        length=32,
        iterations=_PASSES,
        lanes=1,
        memory_cost=_MEMORY_KIB,
    )
    return kdf.derive_phc_encoded(password.encode("utf-8", "surrogateescape"))


class PasswordCheck:
    """Hashes passwords, and compares them, at most two at a time: each takes a core and 19 MiB."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(2)

    async def hashed(self, password: str) -> str:
        """Hash a password for keeping."""
        async with self._turns:
            return await asyncio.to_thread(hash_password, password)

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Tell whether a password is right. Without a hash it takes as long, and is wrong."""
        if len(password) > LONGEST:
            password = ""
        async with self._turns:
            right = await asyncio.to_thread(_verify, password, password_hash or _nobodys_hash())
        return right and password_hash is not None


def _verify(password: str, password_hash: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password.encode("utf-8", "surrogateescape"), password_hash)
    except InvalidKey:
        return False
    return True


@functools.cache
def _nobodys_hash() -> str:
    return hash_password(secrets.token_hex(16))
