"""The inventory as a CycloneDX 1.6 bill of materials: a component of type container an image.

https://cyclonedx.org/docs/1.6/json/ and, for the package URLs,
https://github.com/package-url/purl-spec/blob/main/types-doc/oci-definition.md
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import msgspec

from wharfinger import __version__
from wharfinger.domain.history import PastImage
from wharfinger.domain.inventory import ListedImage
from wharfinger.domain.model import VerdictState
from wharfinger.http.api.wire import ImageItem, listed_item, past_item
from wharfinger.service.exports import Export, Part

CYCLONEDX = "application/vnd.cyclonedx+json"
SPEC_VERSION = "1.6"

_INVENTORY = "inventory"
# What CycloneDX calls the algorithms of digests, and how many hexadecimal digits they have.
_ALGORITHMS = {"sha256": ("SHA-256", 64), "sha384": ("SHA-384", 96), "sha512": ("SHA-512", 128)}
# The endpoint that manages SWR, and beside it the one that Docker uses.
_SWR_API = re.compile(r"^swr-api\.")


class _Hash(msgspec.Struct):
    alg: str
    content: str


class _Property(msgspec.Struct):
    name: str
    value: str


class _Component(msgspec.Struct, omit_defaults=True, kw_only=True):
    type: str = msgspec.field(name="type")
    ref: str = msgspec.field(name="bom-ref")
    name: str
    version: str = ""
    hashes: list[_Hash] = []
    purl: str = ""
    properties: list[_Property] = []


class BomEncoder:
    """Writes the document around its components, which are written part by part."""

    def __init__(self) -> None:
        self._json = msgspec.json.Encoder()
        self._has_written = False

    def begin(self, export: Export) -> bytes:
        """The head, with the state that the list is from."""
        self._export = export
        head = {
            "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": SPEC_VERSION,
            "serialNumber": f"urn:uuid:{uuid.uuid4()}",
            "version": 1,
            "metadata": {
                "timestamp": export.at,
                "tools": {
                    "components": [
                        {"type": "application", "name": "wharfinger", "version": __version__}
                    ]
                },
                "component": _Component(
                    type="platform", ref=_INVENTORY, name=f"images of {export.project_id}"
                ),
                "properties": [
                    _Property("wharfinger:project", export.project_id),
                    _Property("wharfinger:as_of", str(export.as_of)),
                    _Property("wharfinger:verdict", export.verdict.value),
                ],
            },
        }
        return self._json.encode(head)[:-1] + b',"components":['

    def rows(self, part: Part) -> bytes:
        """Some components."""
        components = b",".join(self._json.encode(self._component(image)) for image in part)
        joint = b"," if self._has_written and components else b""
        self._has_written |= bool(components)
        return joint + components

    def end(self, images: int) -> bytes:  # noqa: ARG002 - a bill of materials has no count
        """The tail, which says whether the list is known to be whole."""
        is_whole = self._export.verdict is VerdictState.COMPLETE
        aggregate = "complete" if is_whole else "incomplete"
        composition = {"aggregate": aggregate, "assemblies": [_INVENTORY]}
        return b'],"compositions":' + self._json.encode([composition]) + b"}"

    def _component(self, image: ListedImage | PastImage) -> _Component:
        item = listed_item(image) if isinstance(image, ListedImage) else past_item(image)
        path = f"{item.namespace}/{item.name}" if item.namespace else item.name
        host = host_of(self._export.addresses.get(image.registry_id, ""))
        return _Component(
            type="container",
            ref=f"image:{item.id}",
            name=path,
            version=item.tag or item.digest,
            hashes=list(_hashes(item.digest)),
            purl=purl_of(item, f"{host}/{path}" if host else path),
            properties=[
                _Property(f"wharfinger:{name}", text) for name, text in _facts(image, item)
            ],
        )


def host_of(address: str) -> str:
    """The host, and the port if it is named, that an image's reference begins with."""
    where = urlsplit(address if "://" in address else f"//{address}").netloc
    return _SWR_API.sub("swr.", where.rpartition("@")[2])


def purl_of(item: ImageItem, where: str) -> str:
    """The package URL: the last part of the name, the digest, and where it is."""
    name = quote(item.name.rpartition("/")[2].lower(), safe="")
    # A colon is never encoded, and qualifiers stand in the order of their names.
    qualifiers = f"repository_url={quote(where, safe='/:')}"
    if item.tag is not None:
        qualifiers += f"&tag={quote(item.tag, safe=':')}"
    return f"pkg:oci/{name}@{quote(item.digest, safe=':')}?{qualifiers}"


def _hashes(digest: str) -> Iterator[_Hash]:
    name, _, value = digest.partition(":")
    algorithm, digits = _ALGORITHMS.get(name, ("", 0))
    if re.fullmatch(f"[0-9a-f]{{{digits}}}", value) and digits:
        yield _Hash(algorithm, value)


def _facts(image: ListedImage | PastImage, item: ImageItem) -> Iterator[tuple[str, str]]:
    yield "registry", item.registry
    yield "kind", item.kind
    yield "repository", f"{item.namespace}/{item.name}" if item.namespace else item.name
    if item.tag is not None:
        yield "tag", item.tag
    yield "size", str(item.size)
    yield "updated_at", item.updated_at.isoformat()
    for key, value in sorted((item.labels or {}).items()):
        yield f"label:{key}", value
    for attachment in item.attachments or ():
        yield f"attachment:{attachment.kind}", attachment.digest
    if isinstance(image, ListedImage):
        for child in image.platforms:
            one = child.platform
            words = (one.os, one.architecture, one.variant)
            yield "platform", f"{'/'.join(filter(None, words))}@{one.digest}"
