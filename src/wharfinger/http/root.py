"""What belongs to no API: the version document, and health."""

from __future__ import annotations

from importlib import metadata

import msgspec
from litestar import Response, get
from litestar.response import Redirect

from wharfinger.http.failures import AnyRequest
from wharfinger.http.iam.routes import iam_version
from wharfinger.http.iam.wire import ApiVersion
from wharfinger.http.services import Services, TheServices

CONSOLE = "/console"
_BY_ACCEPT = {"Vary": "Accept"}


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of IAM."""

    values: list[ApiVersion]


class ServedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What answers at ``/``; Keystone's clients look at ``versions`` to find ``/v3``."""

    name: str
    version: str
    apis: dict[str, str]
    versions: Versions


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the service is alive, or ready."""

    status: str


@get("/")
async def show_version(request: AnyRequest, services: TheServices) -> Response[ServedVersion]:
    """Say what this is; needs no credentials. Browsers are sent to the console."""
    if _wants_page(request.headers.get("accept", "")):
        return Redirect(CONSOLE, status_code=303, headers=_BY_ACCEPT)
    return Response(_version_document(request, services), headers=_BY_ACCEPT)


def _wants_page(accept: str) -> bool:
    """Whether it is a browser that asks: programs ask for JSON, or for anything."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return "text/html" in kinds and "application/json" not in kinds


def _version_document(request: AnyRequest, services: Services) -> ServedVersion:
    return ServedVersion(
        name="wharfinger",
        version=_version(),
        apis={
            "hss": "/v5/{project_id}",
            "wharfinger": "/api/v1/projects/{project_id}",
            "iam": "/v3",
        },
        versions=Versions(values=[iam_version(request, services)]),
    )


@get("/healthz")
async def show_health() -> Health:
    """Say that the process is alive."""
    return Health(status="alive")


@get("/readyz")
async def show_readiness(services: TheServices) -> Response[Health]:
    """Say whether requests should come here, and if not, why."""
    reason = await services.unready()
    if reason is None:
        return Response(Health(status="ready"))
    return Response(Health(status=reason), status_code=503)


def _version() -> str:
    try:
        return metadata.version("wharfinger")
    except metadata.PackageNotFoundError:  # Run from a source tree.
        return "unknown"
