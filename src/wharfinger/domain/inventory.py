"""The values of a reading of the stored list: what is asked for, and the rows that answer."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping

import msgspec

from wharfinger.domain.artifacts import ArtifactKind
from wharfinger.domain.model import Platform, VerdictState


class RegistryScope(msgspec.Struct, frozen=True, kw_only=True):
    """Which registries a reading covers; ``None`` leaves a question out.

    ``kinds`` may name kinds that no registry has: they match nothing.
    """

    enterprise_projects: tuple[str, ...]
    registry_name: str | None = None
    kinds: tuple[str, ...] | None = None
    instance_id: str | None = None
    instance_name: str | None = None


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A span of time in Unix milliseconds, both ends included; ``None`` is an open end."""

    start_ms: int | None = None
    end_ms: int | None = None

    @classmethod
    def between(cls, start: dt.datetime | None, end: dt.datetime | None) -> Span:
        """The span from one time to another, whole milliseconds as they are listed."""
        return cls(start_ms=_whole_ms(start), end_ms=_whole_ms(end))

    @property
    def is_open(self) -> bool:
        """Whether the span excludes nothing."""
        return self.start_ms is None and self.end_ms is None


def _whole_ms(time: dt.datetime | None) -> int | None:
    if time is None:
        return None
    return (time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


class ImageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which images are asked for; ``None`` leaves a question out.

    ``name_contains`` and ``tag_contains`` are parts of the image's name and tag, ``text`` a part of
    either, whatever the case; all others are equal or not. ``size`` is in bytes. ``updated`` and
    ``synced`` compare the times as they are listed.
    """

    scope: RegistryScope
    namespace: str | None = None
    name_contains: str | None = None
    tag: str | None = None
    tag_contains: str | None = None
    text: str | None = None
    digest: str | None = None
    image_id: str | None = None
    size: int | None = None
    is_index: bool | None = None
    latest_only: bool = False
    # Each must be the one that counts for the image's repository.
    labels: tuple[tuple[str, str], ...] = ()
    # Which kinds of artifact must belong to the image, and which must not.
    attached: Mapping[ArtifactKind, bool] = {}
    updated: Span = Span()
    synced: Span = Span()

    @property
    def asks_about_single_images(self) -> bool:
        """Whether the number of matches needs counting; else the counts of repositories tell it."""
        return (
            self.latest_only
            or bool(self.attached)
            or not self.updated.is_open
            or any(
                question is not None
                for question in (
                    self.tag,
                    self.tag_contains,
                    self.text,
                    self.digest,
                    self.image_id,
                    self.size,
                    self.is_index,
                )
            )
        )

    @property
    def asks_about_tags_only(self) -> bool:
        """Whether a part of the tag, or of name or tag, is all that is asked beside the scope."""
        bare = ImageFilter(scope=self.scope)
        return self != bare and (
            self == msgspec.structs.replace(bare, tag_contains=self.tag_contains)
            or self == msgspec.structs.replace(bare, text=self.text)
        )

    @property
    def asks_about_repositories(self) -> bool:
        """Whether the repositories must be looked at before the images."""
        return (
            self.namespace is not None
            or self.name_contains is not None
            or bool(self.labels)
            or not self.synced.is_open
        )


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What a list is worth: the newest event, the verdict, and a word that changes with the list.

    Two equal ``state`` of one question mean equal answers. The rest is what the question's scope
    came to: the ids of its registries, how many images they and all the tenant's list, as far as
    the last runs knew, and whether the tenant has any labels, and attachments.
    """

    as_of: int
    verdict: VerdictState
    state: str
    registry_ids: tuple[uuid.UUID, ...] = ()
    images: int = 0
    images_of_all: int = 0
    has_labels: bool = False
    has_attachments: bool = False


class Facets(msgspec.Struct, frozen=True, kw_only=True):
    """How many images match, in all and by each value, the most first.

    ``more_namespaces`` says that there are others than those named. ``labels`` has the keys of
    ``FACET_LABELS`` that are in use, with "" for what has no such label; ``more_labels`` names
    those of them that have more values.
    """

    total: int
    registries: dict[str, int]
    kinds: dict[str, int]
    enterprise_projects: dict[str, int]
    namespaces: dict[str, int]
    more_namespaces: bool
    labels: dict[str, dict[str, int]]
    more_labels: list[str]


class ListedAttachment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An artifact that belongs to a listed image."""

    kind: ArtifactKind
    digest: str
    artifact_type: str  # as far as it is known


class ListedPlatform(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A child of a listed index. ``id`` is set where the child is a row of the list itself."""

    id: int | None
    platform: Platform


class ListedImage(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the list. Times are Unix milliseconds, ``size`` is in bytes."""

    id: int
    namespace: str
    name: str
    tag: str | None
    digest: str
    image_id: str
    size: int
    is_index: bool
    is_latest: bool
    updated_ms: int
    synced_ms: int
    owner: str
    shared_status: str
    registry_id: str
    registry_name: str
    registry_kind: str
    repository_id: int
    instance_id: str = ""  # of an instance of SWR enterprise, as are its name and address
    instance_name: str = ""
    instance_url: str = ""
    platforms: tuple[ListedPlatform, ...] = ()
    # With those it inherits; only where they were asked for.
    labels: Mapping[str, str] = {}
    # Only where they were asked for, as the labels.
    attachments: tuple[ListedAttachment, ...] = ()


class ImagePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the list as it stood at event number ``as_of``; ``total`` rows match in all."""

    total: int
    items: tuple[ListedImage, ...]
    as_of: int
    verdict: VerdictState


class RegistryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which registries are asked for; ``None`` leaves a question out.

    ``address`` is compared with and without the scheme. ``status`` is "success", "fail" or
    "accessing".
    """

    scope: RegistryScope
    registry_id: str | None = None
    address: str | None = None
    status: str | None = None


class ListedRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """One registry as the lists show it. ``user_name`` is "" where none is used to log in."""

    id: str
    name: str
    kind: str
    address: str
    user_name: str
    status: str
    reason_code: str | None
    images: int
    synced_at: dt.datetime | None
    hss: Mapping[str, str] = {}  # what HSS's API told of it, given back as it came


class RegistryPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of registries; ``total`` match in all."""

    total: int
    items: tuple[ListedRegistry, ...]
    as_of: int
    verdict: VerdictState
