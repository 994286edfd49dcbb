"""What manifests, indexes and configs say, and what of it makes an image."""

from __future__ import annotations

import datetime as dt
import hashlib
import re

import msgspec

from wharfinger.domain.errors import MalformedAnswerError
from wharfinger.domain.model import Image, Platform
from wharfinger.sources._reading import timestamp

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

# Without the OCI types registries answer 404, or convert and thereby change the digest. A long
# header trips proxies, so obsolete and private types stay out.
ACCEPT = f"{OCI_INDEX}, {DOCKER_INDEX}, {OCI_MANIFEST}, {DOCKER_MANIFEST}"

_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
IMAGE_CONFIGS = frozenset(
    {
        "",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
_EMPTY = "application/vnd.oci.empty.v1+json"
_IMAGE_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]{32,}")


class DescribedPlatform(msgspec.Struct, frozen=True):
    """The platform of an index's entry."""

    os: str = ""
    architecture: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """A reference to a blob or a manifest."""

    digest: str
    media_type: str = ""
    size: int = 0
    platform: DescribedPlatform | None = None
    artifact_type: str = ""
    annotations: dict[str, str] | None = None


class _History(msgspec.Struct, frozen=True, rename="camel"):
    v1_compatibility: str = msgspec.field(name="v1Compatibility", default="{}")


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """A manifest or an index, as far as it is kept."""

    schema_version: int
    media_type: str = ""
    artifact_type: str | None = None
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None
    annotations: dict[str, str] | None = None
    history: list[_History] | None = None  # schema 1 only


class Config(msgspec.Struct, frozen=True):
    """An image's config, as far as it is kept."""

    created: str | None = None
    os: str | None = None
    architecture: str | None = None
    variant: str | None = None


class Held(msgspec.Struct, frozen=True):
    """A manifest together with its digest and the media type it came under."""

    digest: str
    media_type: str
    manifest: Manifest

    @property
    def is_index(self) -> bool:
        """Whether this is an index over other manifests."""
        return self.manifest.manifests is not None

    @property
    def is_schema_1(self) -> bool:
        """Whether this is of the first schema, which knows no config and no sizes."""
        return self.manifest.schema_version == 1

    @property
    def size(self) -> int:
        """Bytes of config and layers."""
        config = self.manifest.config
        layers = self.manifest.layers or []
        return (config.size if config else 0) + sum(layer.size for layer in layers)

    @property
    def image_id(self) -> str:
        """The config's digest; the manifest's own where there is none."""
        config = self.manifest.config
        return config.digest if config else self.digest


def is_digest(text: str) -> bool:
    """Tell whether this is a digest as the OCI image specification writes one."""
    return bool(_DIGEST.fullmatch(text))


def sha256_of(raw: bytes) -> str:
    """Return the digest of raw bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def check_digest(raw: bytes, digest: str, what: str) -> None:
    """Compare bytes with the digest they were asked by.

    Raises:
        MalformedAnswerError: the bytes are others.
    """
    name, _, wanted = digest.partition(":")
    if name in ("sha256", "sha512") and hashlib.new(name, raw).hexdigest() != wanted:
        raise MalformedAnswerError(f"{what}: the bytes do not have the digest {digest}")


def media_type_of(content_type: str, manifest: Manifest) -> str:
    """Return the media type: the one the manifest states, else the one it came under."""
    return manifest.media_type or content_type.partition(";")[0].strip().lower()


def is_schema_1_type(content_type: str) -> bool:
    """Tell whether an answer is a signed manifest of the first schema by its ``Content-Type``."""
    return content_type.startswith(_SCHEMA_1)


def artifact_type_of(manifest: Manifest) -> str:
    """Return what an artifact is that is no container image, or nothing for an image.

    The manifest may say so, its config may, or else none of its layers is an image's: that is
    how signatures, attestations and SBOMs are stored by cosign and BuildKit.
    """
    if manifest.artifact_type:
        return manifest.artifact_type
    if manifest.manifests is not None or manifest.schema_version == 1:
        return ""
    config = manifest.config.media_type if manifest.config else ""
    layers = [layer.media_type for layer in manifest.layers or []]
    if config not in IMAGE_CONFIGS and config != _EMPTY:
        return config
    if layers and not any(one.startswith(_IMAGE_LAYERS) for one in layers):
        return layers[0] or config
    return config if config == _EMPTY else ""


def artifact_type_of_index(index: Manifest, children: list[Held | None]) -> str:
    """Return what an index is that holds no image, or nothing if it may hold one.

    The list of an image's referrers is such an index, where a tag has to hold it.
    """
    said = [entry.artifact_type for entry in index.manifests or []]
    found = ["" if child is None else artifact_type_of(child.manifest) for child in children]
    for types in (said, found):
        if types and all(types):
            return types[0] if len(set(types)) == 1 else OCI_INDEX
    return artifact_type_of(index)


def image_of(held: Held, config: Config | None) -> Image:
    """Return the image that a single manifest is."""
    return Image(
        digest=held.digest,
        image_id=held.image_id,
        size=held.size,
        media_type=held.media_type,
        artifact_type=artifact_type_of(held.manifest),
        created_at=created_at_of(held.manifest, config),
    )


def index_image_of(
    held: Held, children: list[tuple[Platform, Held | None]], config: Config | None
) -> Image:
    """Return the image that an index is; its size is the sum over its platforms."""
    platforms = tuple(platform for platform, _ in children)
    return Image(
        digest=held.digest,
        image_id=held.digest,
        size=sum(platform.size for platform in platforms),
        media_type=held.media_type,
        artifact_type=artifact_type_of_index(held.manifest, [child for _, child in children]),
        created_at=created_at_of(held.manifest, config),
        is_index=True,
        platforms=platforms,
    )


def platform_of(entry: Descriptor, child: Held | None, config: Config | None) -> Platform:
    """Return an index's platform: what its entry says, completed by the child where it is there.

    Attestations keep the ``unknown/unknown`` that BuildKit gives them.
    """
    said = entry.platform or DescribedPlatform()
    known = config or Config()
    return Platform(
        digest=entry.digest,
        os=said.os or known.os or "",
        architecture=said.architecture or known.architecture or "",
        variant=said.variant or known.variant or "",
        size=child.size if child else 0,
        image_id=child.image_id if child else "",
    )


def created_at_of(manifest: Manifest, config: Config | None) -> dt.datetime | None:
    """Return when the image says it was made, if a clock could have said so."""
    said = (manifest.annotations or {}).get("org.opencontainers.image.created")
    if config is not None:
        said = config.created or said
    if manifest.history:
        said = _schema_1_created(manifest.history[0])
    return timestamp(said)


def _schema_1_created(newest: _History) -> str | None:
    try:
        return msgspec.json.decode(newest.v1_compatibility, type=Config).created
    except msgspec.DecodeError:
        return None
