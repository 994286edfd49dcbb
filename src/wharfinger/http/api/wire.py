"""The shapes of our own API's answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Generic, TypeVar

import msgspec

from wharfinger.domain.advice import advised
from wharfinger.domain.artifacts import ArtifactKind
from wharfinger.domain.audit import AuditEntry
from wharfinger.domain.history import Advised, PastImage, RegistryVerdict
from wharfinger.domain.inventory import Facets, ListedImage
from wharfinger.http.parameters import MAX_INT64
from wharfinger.store.registries import RepositoryStatus

T = TypeVar("T")


class ListAnswer(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A page of any list. ``next`` is the ``after`` of the next page, ``None`` on the last one."""

    items: list[T]
    next: str | None
    as_of: int
    verdict: str


class AuditAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit, newest first. It is no list of images, so it has no verdict."""

    items: list[AuditEntry]
    next: str | None


class RegistryItem(msgspec.Struct, frozen=True, kw_only=True):
    """A registry with its verdict and, of each reason, what to do about it."""

    id: str
    name: str
    kind: str
    verdict: str
    confirmed_at: dt.datetime | None
    read_at: dt.datetime | None
    stale_after_s: int
    reasons: list[Advised]
    run_id: str | None
    requests: int | None
    seconds: float | None
    repositories: int | None
    images: int | None
    held: int | None


class RepositoryItem(msgspec.Struct, frozen=True, kw_only=True):
    """A repository with its verdict; ``requests`` and ``seconds`` are its last reading's cost."""

    id: int
    namespace: str
    name: str
    verdict: str
    reason: Advised | None
    confirmed_at: dt.datetime | None
    read_at: dt.datetime | None
    images: int
    held: int
    requests: int | None
    seconds: float | None


class AttachmentItem(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that belongs to an image: ``signature``, ``sbom``, ``attestation`` or another."""

    kind: str
    digest: str
    artifact_type: str


class ImageItem(msgspec.Struct, frozen=True, kw_only=True):
    """An image.

    Of a past moment, ``confirmed_at``, ``latest``, ``labels`` and what is attached are not known.
    """

    id: int
    registry: str
    kind: str
    namespace: str
    name: str
    tag: str | None
    digest: str
    image_id: str
    size: int
    updated_at: dt.datetime
    confirmed_at: dt.datetime | None
    latest: bool | None
    multi_arch: bool
    labels: Mapping[str, str] | None
    signed: bool | None
    has_sbom: bool | None
    has_attestation: bool | None
    attachments: list[AttachmentItem] | None


class PastAnswer(ListAnswer[ImageItem], frozen=True, kw_only=True):
    """A page of the list of a past moment, with each registry's verdict of then."""

    at: dt.datetime
    registries: list[RegistryItem]


class FacetsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many images match, by the values that filters take."""

    facets: Facets
    as_of: int
    verdict: str


class StreamEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of a stream: without it, something is missing."""

    end: bool
    images: int
    as_of: int
    verdict: str


ImageId = Annotated[int, msgspec.Meta(ge=1, le=MAX_INT64)]


class AcceptBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which held images are accepted to be gone: those named, or all."""

    images: list[ImageId] | None = None
    all: bool = False


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """How many images were retired."""

    retired: int


def registry_item(registry: RegistryVerdict) -> RegistryItem:
    """Word a verdict."""
    facts = msgspec.structs.asdict(registry)
    return RegistryItem(
        **{
            **facts,
            "verdict": registry.verdict.value,
            "reasons": [advised(reason) for reason in registry.reasons],
        }
    )


def repository_item(repository: RepositoryStatus) -> RepositoryItem:
    """Word a repository's verdict."""
    facts = msgspec.structs.asdict(repository)
    reason = None if repository.reason is None else advised(repository.reason)
    return RepositoryItem(**{**facts, "verdict": repository.verdict.value, "reason": reason})


def past_item(image: PastImage) -> ImageItem:
    """Word an image of a past moment."""
    return ImageItem(
        id=image.id,
        registry=image.registry,
        kind=image.kind,
        namespace=image.namespace,
        name=image.name,
        tag=image.tag,
        digest=image.digest,
        image_id=image.image_id,
        size=image.size,
        updated_at=image.updated_at,
        confirmed_at=None,
        latest=None,
        multi_arch=image.multi_arch,
        labels=None,
        signed=None,
        has_sbom=None,
        has_attestation=None,
        attachments=None,
    )


def listed_item(image: ListedImage) -> ImageItem:
    """Word an image of the current list."""
    kinds = {one.kind for one in image.attachments}
    return ImageItem(
        id=image.id,
        registry=image.registry_name,
        kind=image.registry_kind,
        namespace=image.namespace,
        name=image.name,
        tag=image.tag,
        digest=image.digest,
        image_id=image.image_id,
        size=image.size,
        updated_at=_moment(image.updated_ms),
        confirmed_at=_moment(image.synced_ms),
        latest=image.is_latest,
        multi_arch=image.is_index,
        labels=image.labels,
        signed=ArtifactKind.SIGNATURE in kinds,
        has_sbom=ArtifactKind.SBOM in kinds,
        has_attestation=ArtifactKind.ATTESTATION in kinds,
        attachments=[
            AttachmentItem(kind=one.kind.value, digest=one.digest, artifact_type=one.artifact_type)
            for one in image.attachments
        ],
    )


def _moment(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
