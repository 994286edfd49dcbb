"""What belongs to no API: the version document, and health."""

from __future__ import annotations

from importlib import metadata

import msgspec
from litestar import Response, get

from wharfinger.http.failures import AnyRequest
from wharfinger.http.iam.routes import iam_version
from wharfinger.http.iam.wire import ApiVersion
from wharfinger.http.services import TheServices


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
async def show_version(request: AnyRequest, services: TheServices) -> ServedVersion:
    """Say what this is; needs no credentials."""
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
    """Say whether the database answers."""
    if await services.is_ready():
        return Response(Health(status="ready"))
    return Response(Health(status="the database does not answer"), status_code=503)


def _version() -> str:
    try:
        return metadata.version("wharfinger")
    except metadata.PackageNotFoundError:  # Run from a source tree.
        return "unknown"
