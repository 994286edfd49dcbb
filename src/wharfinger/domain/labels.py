"""Labels: whose a registry, a namespace or a repository is, and what it is for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

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


def by_place(labels: Iterable[Label]) -> Mapping[tuple[str | None, str | None], Sequence[Label]]:
    """The labels of one registry by namespace and repository, as they were put."""
    found: dict[tuple[str | None, str | None], list[Label]] = defaultdict(list)
    for one in labels:
        found[one.namespace, one.repository].append(one)
    return found


def in_force(
    put: Mapping[tuple[str | None, str | None], Sequence[Label]], namespace: str, repository: str
) -> list[Label]:
    """What a repository is labelled with, by key: of each key the label that was put nearest."""
    nearest: dict[str, Label] = {}
    for place in ((None, None), (namespace, None), (namespace, repository)):
        nearest |= {one.key: one for one in put.get(place, ())}
    return [nearest[key] for key in sorted(nearest)]
