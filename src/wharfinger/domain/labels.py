"""Labels: whose a registry, a namespace or a repository is, and what it is for."""

from __future__ import annotations

import re

import msgspec

from wharfinger.domain.errors import InvalidParameterError

MOST_LABELS = 10_000
# What most people ask for; any other key is as good.
OWNER, ENVIRONMENT = "owner", "environment"
# What images are counted by.
FACET_LABELS = (OWNER, ENVIRONMENT)
_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a label is: on a registry, on a namespace of it, or on one repository."""

    registry: str
    namespace: str | None = None
    repository: str | None = None


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """A label where it was put; what lies within inherits it."""

    registry_id: str
    registry: str
    namespace: str | None
    repository: str | None
    key: str
    value: str


def checked_label(key: str, value: str) -> tuple[str, str]:
    """Return a label's key and value.

    Raises:
        InvalidParameterError: one of them is out of its range.
    """
    if not 1 <= len(value) <= 255 or "\0" in value:
        raise InvalidParameterError("value", "must be 1 to 255 characters")
    return checked_key(key), value


def checked_key(key: str) -> str:
    """Return a label's key.

    Raises:
        InvalidParameterError: it is none.
    """
    if not _KEY.fullmatch(key):
        raise InvalidParameterError(
            "key", "must be 1 to 63 of a-z, 0-9, '_', '.' and '-', beginning with a letter"
        )
    return key


def checked_place(place: Place) -> Place:
    """Return a place.

    Raises:
        InvalidParameterError: a part of it is out of its range, or a repository has no namespace.
    """
    for name in ("namespace", "repository"):
        text = getattr(place, name)
        if text is not None and (len(text) > 255 or "\0" in text):
            raise InvalidParameterError(name, "must be at most 255 characters")
    if place.repository is not None and place.namespace is None:
        raise InvalidParameterError(
            "namespace", "is needed beside repository; '' where there is none"
        )
    return place


def read_filter(text: str) -> tuple[str, str]:
    """Read ``key=value``.

    Raises:
        InvalidParameterError: it is something else.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidParameterError("label", "must be KEY=VALUE")
    return checked_label(key, value)
