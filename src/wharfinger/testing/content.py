"""Image content: manifests, configs and indexes whose digests follow from a seed alone."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"
_LAYER = {
    OCI_MANIFEST: "application/vnd.oci.image.layer.v1.tar+gzip",
    DOCKER_MANIFEST: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_CONFIG = {OCI_MANIFEST: OCI_CONFIG, DOCKER_MANIFEST: DOCKER_CONFIG}


def digest_of(raw: bytes) -> str:
    """The digest under which a registry keeps these bytes: ``sha256:`` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def wire_time(moment: dt.datetime | str, nanoseconds: int = 0) -> str:
    """A moment as SWR writes it: UTC, ``Z``, 0 to 9 fractional digits; a string stays as it is.

    Args:
        moment: an aware time, or text that is to go out unchanged (``0001-01-01T00:00:00Z``).
        nanoseconds: 0 to 999, added behind the microseconds when those are not zero.
    """
    if isinstance(moment, str):
        return moment
    text = moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat()
    if moment.microsecond:
        text = f"{text}{nanoseconds:03}".rstrip("0")
    return text + "Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a digest names. The bytes are made again when asked for, so a large world stays small.

    ``size`` is config and layers in bytes, of an index the sum over its children. ``image_id`` is
    the config's digest, of an index its own. ``created`` is an aware time or text written as is.
    """

    seed: str
    digest: str
    image_id: str
    media_type: str
    size: int
    created: dt.datetime | str
    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""
    children: tuple[Content, ...] = ()
    artifact_type: str = ""
    subject: str = ""

    @property
    def is_index(self) -> bool:
        """Whether this is a manifest list or an OCI index."""
        return self.media_type in {OCI_INDEX, DOCKER_INDEX}

    @property
    def manifest(self) -> bytes:
        """The manifest's or index's raw bytes; ``digest`` is their hash."""
        if self.is_index:
            return _index_bytes(self.media_type, self.children)
        if self.artifact_type:
            return _artifact_bytes(self.seed, self.artifact_type, self.subject, self.size)
        return _manifest_bytes(
            self.seed, self.media_type, self.image_id, len(self.config), self.size
        )

    @property
    def config(self) -> bytes:
        """The config's raw bytes; ``image_id`` is their hash. Empty for an index."""
        if self.is_index:
            return b""
        if self.artifact_type:
            return b"{}"
        return _config_bytes(self.seed, self.created, self.os, self.architecture, self.variant)


def image(
    seed: str,
    *,
    created: dt.datetime | str,
    size: int | None = None,
    platform: str = "linux/amd64",
    media_type: str = DOCKER_MANIFEST,
) -> Content:
    """An image of one platform. The same arguments give the same digests.

    Args:
        seed: anything that sets this image apart.
        created: what the config says about the time of the build.
        size: config and layers in bytes; by default 5 to 400 MB, as the seed has it.
        platform: ``os/architecture`` or ``os/architecture/variant``.
        media_type: ``DOCKER_MANIFEST`` or ``OCI_MANIFEST``.
    """
    os, architecture, variant = (*platform.split("/"), "")[:3]
    config = _config_bytes(seed, created, os, architecture, variant)
    image_id = digest_of(config)
    whole = _likely_size(seed) if size is None else size
    raw = _manifest_bytes(seed, media_type, image_id, len(config), whole)
    return Content(
        seed=seed,
        digest=digest_of(raw),
        image_id=image_id,
        media_type=media_type,
        size=whole,
        created=created,
        os=os,
        architecture=architecture,
        variant=variant,
    )


def artifact(
    seed: str, artifact_type: str, *, subject: str = "", created: dt.datetime | str, size: int = 100
) -> Content:
    """A signature, an SBOM, or whatever else is no image; it belongs to the digest ``subject``."""
    return Content(
        seed=seed,
        digest=digest_of(_artifact_bytes(seed, artifact_type, subject, size)),
        image_id=digest_of(b"{}"),
        media_type=OCI_MANIFEST,
        size=size,
        created=created,
        artifact_type=artifact_type,
        subject=subject,
    )


def index(
    seed: str,
    *,
    created: dt.datetime | str,
    platforms: tuple[str, ...],
    size: int | None = None,
    media_type: str = DOCKER_INDEX,
) -> Content:
    """A manifest list (or OCI index) with one image a platform; ``size`` is that of each child."""
    kind = DOCKER_MANIFEST if media_type == DOCKER_INDEX else OCI_MANIFEST
    children = tuple(
        image(f"{seed}@{name}", created=created, size=size, platform=name, media_type=kind)
        for name in platforms
    )
    return index_of(seed, children, created=created, media_type=media_type)


def index_of(
    seed: str,
    children: tuple[Content, ...],
    *,
    created: dt.datetime | str,
    media_type: str = DOCKER_INDEX,
) -> Content:
    """An index over children made elsewhere, which may be shared, nested or never pushed."""
    digest = digest_of(_index_bytes(media_type, children))
    return Content(
        seed=seed,
        digest=digest,
        image_id=digest,
        media_type=media_type,
        size=sum(child.size for child in children),
        created=created,
        children=children,
    )


def _likely_size(seed: str) -> int:
    return 5_000_000 + int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % 395_000_000


def _config_bytes(
    seed: str, created: dt.datetime | str, os: str, architecture: str, variant: str
) -> bytes:
    # Formatted by hand: a hundred thousand of them are made for a bench.
    flavour = f'"variant":"{variant}",' if variant else ""
    layer = hashlib.sha256(f"diff {seed}".encode()).hexdigest()
    return (
        f'{{"architecture":"{architecture}",{flavour}"os":"{os}","created":"{wire_time(created)}",'
        f'"config":{{"Env":["PATH=/usr/local/bin:/usr/bin:/bin"],"Cmd":["/entrypoint"]}},'
        f'"rootfs":{{"type":"layers","diff_ids":["sha256:{layer}"]}}}}'
    ).encode()


def _manifest_bytes(
    seed: str, media_type: str, image_id: str, config_size: int, size: int
) -> bytes:
    layer = hashlib.sha256(f"layer {seed}".encode()).hexdigest()
    rest = max(size - config_size, 0)
    return (
        f'{{"schemaVersion":2,"mediaType":"{media_type}",'
        f'"config":{{"mediaType":"{_CONFIG[media_type]}","size":{config_size},"digest":"{image_id}"}},'
        f'"layers":[{{"mediaType":"{_LAYER[media_type]}","size":{rest},"digest":"sha256:{layer}"}}]}}'
    ).encode()


def _artifact_bytes(seed: str, artifact_type: str, subject: str, size: int) -> bytes:
    layer = hashlib.sha256(f"blob {seed}".encode()).hexdigest()
    belongs = f',"subject":{{"mediaType":"{OCI_MANIFEST}","size":1,"digest":"{subject}"}}'
    return (
        f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","artifactType":"{artifact_type}",'
        f'"config":{{"mediaType":"{_EMPTY}","size":2,"digest":"{digest_of(b"{}")}"}},'
        f'"layers":[{{"mediaType":"{artifact_type}","size":{size - 2},'
        f'"digest":"sha256:{layer}"}}]{belongs if subject else ""}}}'
    ).encode()


def _index_bytes(media_type: str, children: tuple[Content, ...]) -> bytes:
    rows = ",".join(_descriptor(child) for child in children)
    return (f'{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{rows}]}}').encode()


def _descriptor(child: Content) -> str:
    if child.artifact_type:
        return (
            f'{{"mediaType":"{child.media_type}","size":{len(child.manifest)},'
            f'"digest":"{child.digest}","artifactType":"{child.artifact_type}"}}'
        )
    flavour = f',"variant":"{child.variant}"' if child.variant else ""
    return (
        f'{{"mediaType":"{child.media_type}","size":{len(child.manifest)},"digest":"{child.digest}",'
        f'"platform":{{"architecture":"{child.architecture}","os":"{child.os}"{flavour}}}}}'
    )
