"""The console's style, scripts and pictures, at addresses that change with what they hold."""

from __future__ import annotations

import hashlib
from importlib import resources

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from wharfinger.domain.errors import NotFoundError

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# A year, which is as long as is believed.
_FOR_EVER = "public, max-age=31536000, immutable"


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it is served."""

    body: bytes
    media_type: str


def _load() -> dict[str, Asset]:
    folder = resources.files(__package__) / "static"
    return {
        one.name: Asset(body=one.read_bytes(), media_type=_TYPES["." + one.name.rpartition(".")[2]])
        for one in sorted(folder.iterdir(), key=lambda one: one.name)
    }


ASSETS = _load()
# One for all of them, so that a script finds the others beside it.
DIGEST = hashlib.sha256(
    b"".join(name.encode() + asset.body for name, asset in ASSETS.items())
).hexdigest()[:16]


def asset_path(name: str) -> str:
    """Where a file is served now."""
    if name not in ASSETS:
        raise KeyError(name)
    return f"/console/static/{DIGEST}/{name}"


@get("/static/{digest:str}/{name:str}")
async def show_asset(digest: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """Answer a file; needs no sign-in."""
    if digest != DIGEST or name not in ASSETS:
        raise NotFoundError(f"there is no file {name}")
    asset = ASSETS[name]
    return Response(
        asset.body,
        media_type=asset.media_type,
        headers={"Cache-Control": _FOR_EVER, "ETag": f'"{DIGEST}"'},
    )
