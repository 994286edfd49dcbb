"""What is stored beside images and is none: signatures, SBOMs, attestations, charts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

import msgspec


class ArtifactKind(StrEnum):
    """What an artifact is good for."""

    SIGNATURE = "signature"
    SBOM = "sbom"
    ATTESTATION = "attestation"
    CHART = "chart"
    OTHER = "other"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What the name of a tag says that it belongs to.

    ``kind`` is ``None`` for the tag that lists an image's referrers where a registry cannot.
    """

    digest: str
    kind: ArtifactKind | None


class Referrer(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that belongs to an image; ``subject`` is the image's digest.

    ``tag`` tells of it, or ``None`` where the registry's own list does.
    """

    subject: str
    digest: str
    artifact_type: str
    kind: ArtifactKind
    tag: str | None = None


class Referrers(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to one image. ``listed`` says that the registry has a list, and gave it."""

    listed: bool
    found: tuple[Referrer, ...] = ()


# Parts of types that give an artifact away, in the order in which they decide: an SBOM inside of
# an attestation is an SBOM.
_PARTS = (
    (("spdx", "cyclonedx", "syft", "sbom"), ArtifactKind.SBOM),
    (("in-toto", "dsse", "attestation", "slsa"), ArtifactKind.ATTESTATION),
    (
        ("simplesigning", "notary.signature", "cosign", "sigstore", "signature.notation"),
        ArtifactKind.SIGNATURE,
    ),
    (("cncf.helm",), ArtifactKind.CHART),
)
# Where an envelope's type leaves open what is in it, these annotations tell: in-toto's own, and
# those of sigstore's bundles.
_TELLING = (
    "in-toto.io/predicate-type",
    "dev.sigstore.bundle.predicateType",
    "dev.sigstore.bundle.content",
)

# Cosign names a tag after the digest; the suffix tells what it holds. Without a suffix it is the
# "referrers tag schema" of the OCI distribution specification.
_TAG = re.compile(r"(sha256|sha512)-([0-9a-f]{64,128})(?:\.(sig|att|sbom))?")
_SUFFIXES = {
    "sig": ArtifactKind.SIGNATURE,
    "att": ArtifactKind.ATTESTATION,
    "sbom": ArtifactKind.SBOM,
}


def kind_of_artifact(
    artifact_type: str, annotations: Mapping[str, str] | None = None
) -> ArtifactKind:
    """Tell what an artifact is by its type, and by its annotations where they say more."""
    told = [(annotations or {}).get(name, "") for name in _TELLING]
    text = " ".join([artifact_type, *told]).lower()
    for parts, kind in _PARTS:
        if any(part in text for part in parts):
            return kind
    return ArtifactKind.OTHER


def subject_of_tag(tag: str) -> Subject | None:
    """Return what a tag belongs to by its name, or ``None`` if it stands for itself."""
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    algorithm, encoded, suffix = match.groups()
    return Subject(digest=f"{algorithm}:{encoded}", kind=_SUFFIXES.get(suffix or ""))
