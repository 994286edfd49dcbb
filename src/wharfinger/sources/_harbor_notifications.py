"""Notifications in the shape of Harbor's webhooks, which SWR enterprise's triggers share."""

from __future__ import annotations

import re

import msgspec

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.model import Notification, RepositoryName

# What can have changed a list of artifacts or of tags: as Harbor calls it, and as CloudEvents.
_TELLING = frozenset(
    {
        "PUSH_ARTIFACT",
        "DELETE_ARTIFACT",
        "CREATE_TAG",
        "DELETE_TAG",
        "harbor.artifact.pushed",
        "harbor.artifact.deleted",
        "harbor.tag.created",
        "harbor.tag.deleted",
    }
)
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})+")


class _Repository(msgspec.Struct, frozen=True):
    repo_full_name: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def path(self) -> str:
        return self.repo_full_name or f"{self.namespace}/{self.name}"


class _Data(msgspec.Struct, frozen=True):
    repository: _Repository = _Repository()


class _Event(msgspec.Struct, frozen=True):
    type: str
    event_data: _Data | None = None
    data: _Data | None = None  # where CloudEvents have it

    @property
    def path(self) -> str:
        """The repository whose lists may have changed, or nothing."""
        path = (self.event_data or self.data or _Data()).repository.path
        known = self.type in _TELLING and len(path) <= 255 and _PATH.fullmatch(path)
        return path if known else ""


def read_harbor_notification(body: bytes) -> Notification:
    """Return the repository that an event names, in Harbor's own format or as a CloudEvent.

    An event of another type, or of a repository that none can be called, is ignored rather than
    refused: whoever sent it would send it again.

    Raises:
        InvalidParameterError: the body is no event.
    """
    try:
        path = msgspec.json.decode(body, type=_Event).path
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidParameterError(
            "body", "must be one event with its type and event_data, as Harbor writes them"
        ) from exc
    if not path:
        return Notification(repositories=(), ignored=1)
    namespace, _, name = path.partition("/")
    named = RepositoryName(namespace=namespace, name=name)
    return Notification(repositories=(named,), ignored=0)
