"""What every HSS call has: a caller, a project, enterprise projects, a query and a body."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.inventory import RegistryScope
from wharfinger.domain.model import (
    DEFAULT_ENTERPRISE_PROJECT,
    HSS_KINDS,
    Caller,
    VerdictState,
    hss_kind,
)
from wharfinger.http.authentication import authenticated, check_action, check_project
from wharfinger.http.failures import AnyRequest, UnreadableBodyError
from wharfinger.http.parameters import Parameters, checked_text
from wharfinger.http.services import TheServices
from wharfinger.sources import KINDS as ALL_KINDS

T = TypeVar("T")

MAX_OFFSET = 2_000_000
KINDS = HSS_KINDS
KIND_OF_IMAGE_TYPE = {
    "private_image": "SwrPrivate",
    "shared_image": "SwrShared",
    "instance_image": "SwrEnterprise",
    "harbor": "Harbor",
    "jfrog": "Jfrog",
    "other": "Other",
}
IMAGE_TYPE_OF_KIND = {kind: image_type for image_type, kind in KIND_OF_IMAGE_TYPE.items()}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One authenticated call on the caller's own project.

    Its caller sees the enterprise projects that the call speaks of, and no others.
    """

    caller: Caller
    query: Parameters
    body: bytes
    enterprise_project_id: str

    def scope(
        self,
        *,
        registry_name: str | None = None,
        kinds: tuple[str, ...] | None = None,
        instance_id: str | None = None,
        instance_name: str | None = None,
    ) -> RegistryScope:
        """Return the registries the call may speak of."""
        return RegistryScope(
            enterprise_projects=self.caller.enterprise_projects,
            registry_name=registry_name,
            kinds=kinds,
            instance_id=instance_id,
            instance_name=instance_name,
        )

    def window(self, *, smallest_limit: int) -> tuple[int, int]:
        """Return offset and limit."""
        offset = self.query.integer("offset", smallest=0, largest=MAX_OFFSET)
        limit = self.query.integer("limit", smallest=smallest_limit, largest=200)
        return offset or 0, 10 if limit is None else limit


def kinds_of(types: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The kinds that HSS's types stand for; ``Other`` is every one that it has no word for."""
    if types is None:
        return None
    known = tuple(kind for kind in ALL_KINDS if hss_kind(kind) in types)
    # A type without a kind matches nothing.
    return known or types


# How a route asks for it.
TheCall = SkipValidation[NamedDependency[Call]]


async def hss_call(request: AnyRequest, services: TheServices) -> Call:
    """Authenticate a call and check what all calls have in common.

    Raises:
        NotAuthenticatedError: nobody we know.
        NotGrantedError: the project or the enterprise project is not the caller's.
        NotAllowedError: no policy of the caller's allows the route's action.
        InvalidParameterError: one of the common parameters is out of its range.
    """
    caller = await authenticated(request, services)
    _check_project(str(request.path_params["project_id"]), caller)
    # Of callers with identity policies the image pages of HSS ask for no permission.
    check_action(request, caller, free=True)
    checked_text("region", request.headers.get("region", ""), longest=128, shortest=0)
    query = Parameters(request.scope["query_string"])
    wanted = query.text("enterprise_project_id", longest=256) or DEFAULT_ENTERPRISE_PROJECT
    return Call(
        caller=caller.within(wanted),
        query=query,
        body=await request.body(),
        enterprise_project_id=wanted,
    )


def read_body(body: bytes, shape: type[T]) -> T:
    """Decode a JSON body.

    Raises:
        UnreadableBodyError: it is not JSON.
        InvalidParameterError: it is JSON of another shape.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as exc:
        # Says "Expected `str`, got `int` - at `$.image_type`".
        what, _, where = str(exc).partition(" - at ")
        raise InvalidParameterError(where.strip("`").removeprefix("$.") or "body", what) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise UnreadableBodyError(f"The body is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise UnreadableBodyError("The body is nested too deeply") from exc


def worth_headers(*, verdict: VerdictState, as_of: int) -> dict[str, str]:
    """Say how much a list can be believed and which event it has seen last."""
    return {"X-Wharfinger-Verdict": verdict.value, "X-Wharfinger-As-Of": str(as_of)}


def _check_project(project_id: str, caller: Caller) -> None:
    if project_id == "{project_id}":
        raise InvalidParameterError(
            "project_id",
            "the path holds the placeholder {project_id} itself; give the client a project id",
        )
    checked_text("project_id", project_id, longest=256)
    check_project(project_id, caller)
