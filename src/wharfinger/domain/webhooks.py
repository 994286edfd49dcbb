"""Webhooks: what is told to whom, as CloudEvents, and how a receiver knows that it was us.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md and
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import hashlib
import hmac
import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from wharfinger.domain.errors import InvalidParameterError

SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with
EVENT = "application/cloudevents+json"
EVENTS = "application/cloudevents-batch+json"

TYPES = (
    *(f"image.{kind}" for kind in ("added", "moved", "retired", "restored", "hidden", "shown")),
    "run.finished",
    "registry.verdict",
)
# Told whatever is asked for: otherwise nobody would know that something is missing.
FORGOTTEN, TEST = "changes.forgotten", "test"

MOST_WEBHOOKS = 100
MOST_BATCH = 100

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 3600.0
LONGEST_WISH_S = 86_400.0


class NewWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook as it is asked for. An empty filter keeps everything.

    ``types`` as in ``TYPES``; ``registries`` by name or id; ``pattern`` of a repository's path, in
    which ``*`` stands for anything, and ``labels`` that it must have, narrow image changes only.
    Up to ``batch`` events are sent at once. ``from_number``: image changes from this number on are
    told; without it, what happens from now on.
    """

    name: str
    url: str
    types: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    pattern: str | None = None
    labels: dict[str, str] = {}
    batch: int = 1
    from_number: int | None = None


class WebhookChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; what is left out stays. An empty ``pattern`` takes it away."""

    name: str | None = None
    url: str | None = None
    types: tuple[str, ...] | None = None
    registries: tuple[str, ...] | None = None
    pattern: str | None = None
    labels: dict[str, str] | None = None
    batch: int | None = None
    paused: bool | None = None


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as it stands.

    ``state`` is ``active``, ``failing`` (it is tried again at ``next_at``), ``paused``,
    ``given_up`` (it failed for too long) or ``gone`` (the receiver said so). ``address`` is the
    URL without its query. All image changes up to ``delivered`` have been taken; ``behind`` events
    have not, those among them that do not concern it included.
    """

    id: str
    name: str
    address: str
    types: Sequence[str]
    registries: Sequence[str]
    pattern: str | None
    labels: Mapping[str, str]
    batch: int
    allow_private_networks: bool
    state: str
    created_at: dt.datetime
    paused_at: dt.datetime | None
    failures: int
    failing_since: dt.datetime | None
    next_at: dt.datetime | None
    delivered: int
    behind: int
    last_at: dt.datetime | None
    last_status: int | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: ``events`` of them, the first being ``event_id``, and what came back.

    Without an answer, ``status`` is ``None`` and ``error`` says why.
    """

    id: int
    at: dt.datetime
    kind: str
    event_id: str
    events: int
    attempt: int
    status: int | None
    error: str
    latency_ms: int
    excerpt: str

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event in the JSON form of CloudEvents 1.0."""

    id: str
    source: str
    type: str
    time: dt.datetime
    data: Any
    subject: str = ""
    # Every event says which version it is of.
    specversion: str = msgspec.field(default_factory=lambda: "1.0")
    datacontenttype: str = msgspec.field(default_factory=lambda: "application/json")


class SealedParts(msgspec.Struct, frozen=True, kw_only=True):
    """What of a webhook is kept sealed. ``old_secret`` signs beside the new one for a while."""

    url: str
    secret: str
    old_secret: str = ""
    old_until: dt.datetime | None = None

    def __repr__(self) -> str:
        return "SealedParts(***)"

    def secrets_at(self, now: dt.datetime) -> list[str]:
        """Those that sign now, the newest first."""
        has_old = self.old_until is not None and now < self.old_until
        return [self.secret, self.old_secret] if has_old else [self.secret]


def event_of(project_id: str, kind: str, **facts: Any) -> CloudEvent:
    """An event of a project; ``kind`` is its type as filters know it."""
    return CloudEvent(
        source=f"/api/v1/projects/{project_id}/changes", type=f"wharfinger.{kind}", **facts
    )


def encode_events(events: Sequence[CloudEvent], *, batch: int) -> tuple[str, bytes]:
    """The media type and the body that carry events: one by itself, or a list of them."""
    if batch == 1:
        return EVENT, msgspec.json.encode(events[0])
    return EVENTS, msgspec.json.encode(events)


def new_secret() -> str:
    """A secret to sign with, as Standard Webhooks writes it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(
    body: bytes, *, event_id: str, now: dt.datetime, by: Sequence[str], media_type: str
) -> dict[str, str]:
    """The header fields that go with a body: what it is, and a signature by each secret."""
    timestamp = str(int(now.timestamp()))
    signed = f"{event_id}.{timestamp}.".encode() + body
    return {
        "Content-Type": f"{media_type}; charset=utf-8",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{_signature(signed, one)}" for one in by),
    }


def _signature(signed: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def wait_s(failures: int, wish: str | None, now: dt.datetime) -> float:
    """How long to wait after so many failures in a row; no less than the receiver wishes.

    Waits double up to an hour, and are spread so that receivers that failed together are not
    asked together.
    """
    usual = min(FIRST_WAIT_S * 2.0 ** min(failures - 1, 20), LONGEST_WAIT_S)
    spread = usual * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
    return max(spread, min(_wish_s(wish, now), LONGEST_WISH_S))


def _wish_s(wish: str | None, now: dt.datetime) -> float:
    """Read a Retry-After: seconds, or a date (RFC 9110, section 10.2.3)."""
    if wish is None:
        return 0.0
    if wish.isascii() and wish.isdigit() and len(wish) < 10:
        return float(wish)
    try:
        moment = email.utils.parsedate_to_datetime(wish)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - now).total_seconds()


def checked_url(url: str, *, allow_private: bool) -> str:
    """Return a URL that events may be sent to.

    Raises:
        InvalidParameterError: it is no such URL, or needs the operator's word.
    """
    rule = "must be a percent-encoded https:// URL without user name, password and fragment"
    if not 1 <= len(url) <= 2048 or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidParameterError("url", rule)
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as exc:
        raise InvalidParameterError("url", rule) from exc
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise InvalidParameterError("url", rule)
    if parts.fragment or "\\" in url:
        raise InvalidParameterError("url", rule)
    if parts.scheme == "http" and not allow_private:
        raise InvalidParameterError("url", "must begin with https://, or the operator allows it")
    return url


def checked_types(types: Sequence[str]) -> list[str]:
    """Return known types of events, each once.

    Raises:
        InvalidParameterError: one is not known.
    """
    if unknown := [one for one in types if one not in TYPES]:
        raise InvalidParameterError(
            "types", f"{unknown[0][:64]!r} must be one of {', '.join(TYPES)}"
        )
    return sorted(set(types), key=TYPES.index)
