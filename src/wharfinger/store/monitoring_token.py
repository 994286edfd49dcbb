"""The token that a scrape must bring: made once, and kept in a file that only its owner reads."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from wharfinger.domain.errors import SetupError


def monitoring_token(path: Path) -> str:
    """Read the token, or make one where there is none yet.

    Raises:
        SetupError: the file can be neither read nor made, or holds nothing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(path)
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{path} cannot be used: {type(exc).__name__}") from exc
    if not token:
        raise SetupError(f"{path} holds no token; remove it, and another is made")
    return token


def _make(path: Path) -> None:
    if path.exists():
        return
    # Whole or not there at all: another process may be reading it already.
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    try:
        os.link(fresh, path)
    except FileExistsError:
        # Somebody was quicker; theirs is the one.
        return
    finally:
        fresh.unlink()
