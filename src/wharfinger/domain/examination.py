"""What an examination of a registry found: one finding a check, each with what to do.

The doctor says it in codes; whoever shows it has the words: ``domain.findings`` English ones.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class Grade(StrEnum):
    """How a check went. A note works, but costs something or will not last."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"
    SKIPPED = "skipped"  # what it needs has failed


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check: in words, in ``facts``, and what to do where something is wrong."""

    check: str
    grade: Grade
    message: str
    advice: str | None = None
    facts: Mapping[str, Any] = {}


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """All checks of one registry. ``ok``: none has failed."""

    registry: str
    kind: str
    ok: bool
    findings: tuple[Finding, ...]
    requests: int
    seconds: float


class Phrase(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was found, for whoever has words for ``code``; values may be phrases too."""

    code: str
    values: Mapping[str, str | int | Phrase] = {}


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One check before it is put into words.

    ``error_code`` names the reason why it failed, and ``told`` is what the failure itself says.
    ``advice`` is a code, or a reason's.
    """

    check: str
    grade: Grade
    said: tuple[Phrase, ...] = ()
    advice: str | None = None
    error_code: str | None = None
    told: str = ""
    facts: Mapping[str, Any] = {}


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """All checks of one registry before they are put into words."""

    registry: str
    kind: str
    observations: tuple[Observation, ...]
    requests: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether none has failed."""
        return all(one.grade is not Grade.FAILED for one in self.observations)


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """The TLS of a connection."""

    version: str
    issuer: str
    ends_at: dt.datetime


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """How a host was reached. ``certificate`` is ``None`` where nothing is encrypted."""

    host: str
    addresses: tuple[str, ...]
    seconds: float
    certificate: Certificate | None = None


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it went over the wire, without what may be secret.

    ``server_time`` is the answer's own clock, ``at`` ours.
    """

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    server_time: dt.datetime | None
    seconds: float
    at: dt.datetime
