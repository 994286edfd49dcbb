"""What the audit keeps: entries about a project, and counts of calls of nobody we know."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

Kind = Literal["change", "refusal"]


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Who did or was refused what, from where, and with which effect.

    ``target`` is a type and an id, such as ``registry 4f2c…``; ``target_name`` what people call
    it. Without ``user_id`` the project's account itself asked.
    """

    id: int
    at: dt.datetime
    kind: Kind
    principal: str
    user_id: str
    user_name: str
    access_key: str
    source: str
    user_agent: str
    request_id: str
    action: str
    target: str
    target_name: str
    outcome: str
    details: Mapping[str, Any]

    @property
    def target_type(self) -> str:
        """What kind of thing it is about."""
        return self.target.partition(" ")[0]


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are wanted; what is ``None`` is not asked for. Both times belong to it."""

    kind: str | None = None
    action: str | None = None
    outcome: str | None = None
    user: str | None = None  # the user's name, or of an account its principal
    source: str | None = None
    request_id: str | None = None
    target_type: str | None = None
    target_name: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


class RefusalCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls from one network were refused for one reason, and between which minutes."""

    reason: str
    network: str
    calls: int
    first: dt.datetime
    last: dt.datetime


class RefusalSample(msgspec.Struct, frozen=True, kw_only=True):
    """One of those calls."""

    at: dt.datetime
    reason: str
    source: str
    method: str
    route: str
    user_agent: str
    request_id: str


class Strangers(msgspec.Struct, frozen=True, kw_only=True):
    """Refused calls of nobody we know: the networks with most of them, and the newest samples."""

    counts: Sequence[RefusalCount]
    samples: Sequence[RefusalSample]
