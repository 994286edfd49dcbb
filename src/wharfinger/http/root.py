"""What belongs to no API version: project discovery, the version document, and health."""

from __future__ import annotations

import re
from importlib import metadata

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from wharfinger.domain.model import Caller
from wharfinger.http.authentication import authenticated
from wharfinger.http.failures import AnyRequest
from wharfinger.http.parameters import Parameters
from wharfinger.http.services import TheServices

# Wharfinger stands in for every region, so a region's name finds the caller's project.
_REGION = re.compile(r"[a-z]{2}-[a-z]+-\d+")


# How a route outside the project paths asks who is calling.
TheCaller = SkipValidation[NamedDependency[Caller]]


class Links(msgspec.Struct, frozen=True, kw_only=True, rename={"self_": "self"}):
    """Keystone's links of a list."""

    self_: str
    previous: str | None = None
    next: str | None = None


class KeystoneProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project as IAM shows it. There are no domains here: a project is its own."""

    id: str
    name: str
    domain_id: str
    parent_id: str
    description: str = ""
    enabled: bool = True
    is_domain: bool = False
    links: dict[str, str] = {}


class KeystoneProjects(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``/v3/projects``."""

    projects: list[KeystoneProject]
    links: Links


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """What answers at ``/``."""

    name: str
    version: str
    apis: dict[str, str]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the service is alive, or ready."""

    status: str


@get("/v3/projects")
async def list_projects(caller: TheCaller, request: AnyRequest) -> KeystoneProjects:
    """Answer ``KeystoneListProjects``, by which an SDK finds the id of its project."""
    name = Parameters(request.scope["query_string"]).raw("name")
    found = name is None or name == caller.project_name or _REGION.fullmatch(name) is not None
    project = KeystoneProject(
        id=caller.project_id,
        # The SDK asks by region and takes the only answer; the name it asked for is the one it
        # knows the project by.
        name=caller.project_name,
        domain_id=caller.project_id,
        parent_id=caller.project_id,
    )
    return KeystoneProjects(projects=[project] if found else [], links=Links(self_="/v3/projects"))


@get("/")
async def show_version() -> Version:
    """Say what this is; needs no credentials."""
    return Version(
        name="wharfinger",
        version=_version(),
        apis={"hss": "/v5/{project_id}", "iam": "/v3/projects"},
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


async def find_caller(request: AnyRequest, services: TheServices) -> Caller:
    """Authenticate a call that belongs to no project path."""
    return await authenticated(request, services)


def _version() -> str:
    try:
        return metadata.version("wharfinger")
    except metadata.PackageNotFoundError:  # Run from a source tree.
        return "unknown"
