"""Adding, changing and deleting registries over the API.

Whoever calls is a tenant: its registries reach no private networks, its passwords are passwords and
no references to what the operator keeps elsewhere, and a stored password is sent to no new address.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from litestar import delete, post, put
from litestar.params import FromPath

from wharfinger.domain.errors import InvalidParameterError, NotFoundError
from wharfinger.domain.inventory import ListedRegistry, RegistryFilter
from wharfinger.domain.model import ALL_GRANTED_ENTERPRISE_PROJECTS, Caller, RegistryCredential
from wharfinger.http.hss.call import KINDS, Call, TheCall, read_body
from wharfinger.http.hss.wire import (
    AddedRegistry,
    AddRegistryBody,
    DeleteRegistriesBody,
    Done,
    UpdateRegistryBody,
)
from wharfinger.http.parameters import checked_choice, checked_text
from wharfinger.http.services import Services, TheServices
from wharfinger.sources import login_kind
from wharfinger.store.registries import NewRegistry, RegistryChange

MOST_IDS = 100
_API_VERSIONS = ("V1", "V2")
_PROTOCOLS = ("http", "https")
_CHANNELS = ("Swr", "Other")
_LONGEST_ID = 64
# How the API calls what the service calls otherwise.
_WIRE_NAMES = {
    "name": "registry_name",
    "kind": "registry_type",
    "address": "registry_addr",
    "credential": "registry_password",
}
_REFERENCE = re.compile(r"(env|file|exec):", re.IGNORECASE)


@post("/v5/{project_id:str}/image/registries", status_code=200, action="hss:imageRegistries:create")
async def add_registry(call: TheCall, services: TheServices) -> AddedRegistry:
    """Answer ``AddRegistry``."""
    body = read_body(call.body or b"{}", AddRegistryBody)
    name = _required("registry_name", body.registry_name, longest=128)
    kind = _choice("registry_type", body.registry_type, KINDS, required=True)
    address = _host("registry_addr", body.registry_addr, required=True)
    protocol = _choice("protocol", body.protocol, _PROTOCOLS) or "https"
    if call.enterprise_project_id == ALL_GRANTED_ENTERPRISE_PROJECTS:
        raise InvalidParameterError("enterprise_project_id", "must be the one it is added to")
    new = NewRegistry(
        name=name,
        kind=kind,
        address=f"{protocol}://{address}",
        enterprise_project_id=call.enterprise_project_id,
        hss=_kept(body),
    )
    credential = _credential(kind, body, known_user=None)
    with _wire_names():
        registry_id = await services.registries.add(
            _caller(call), new, credential or RegistryCredential(kind="none")
        )
    return AddedRegistry(id=registry_id)


@put("/v5/{project_id:str}/image/registries/{registry_id:str}", action="hss:imageRegistries:update")
async def update_registry(call: TheCall, services: TheServices, registry_id: FromPath[str]) -> Done:
    """Answer ``UpdateRegistry``; what is not given stays as it is."""
    body = read_body(call.body or b"{}", UpdateRegistryBody)
    address = _host("registry_addr", body.registry_addr)
    protocol = _choice("protocol", body.protocol, _PROTOCOLS)
    kept = _kept(body)
    before = await _find(call, services, _id("id", registry_id))
    credential = _credential(before.kind, body, known_user=before.user_name)
    change = RegistryChange(address=_moved(before.address, protocol, address), hss=kept or None)
    with _wire_names():
        await services.registries.change(_caller(call), UUID(before.id), change, credential)
    return Done()


@delete(
    "/v5/{project_id:str}/image/registries/{registry_id:str}",
    status_code=200,
    action="hss:imageRegistries:delete",
)
async def delete_registry(call: TheCall, services: TheServices, registry_id: FromPath[str]) -> Done:
    """Answer ``DeleteRegistry``: its images leave the list, their history stays."""
    await services.registries.remove_all(_caller(call), [_id("id", registry_id)])
    return Done()


@post(
    "/v5/{project_id:str}/image/registries/batch-delete",
    status_code=200,
    action="hss:imageRegistries:delete",
)
async def batch_delete_registry(call: TheCall, services: TheServices) -> Done:
    """Answer ``BatchDeleteRegistry``: all of them, or none."""
    ids = read_body(call.body or b"{}", DeleteRegistriesBody).ids
    if not 1 <= len(ids) <= MOST_IDS:
        raise InvalidParameterError("ids", f"must be 1 to {MOST_IDS} ids")
    await services.registries.remove_all(_caller(call), [_id("ids", one) for one in ids])
    return Done()


def _caller(call: Call) -> Caller:
    """Return the caller, who sees the enterprise projects that the call speaks of."""
    seen = call.scope().enterprise_projects
    return msgspec.structs.replace(call.caller, enterprise_projects=seen)


@contextlib.contextmanager
def _wire_names() -> Iterator[None]:
    try:
        yield
    except InvalidParameterError as error:
        name = _WIRE_NAMES.get(error.parameter, error.parameter)
        raise InvalidParameterError(name, error.rule) from error


async def _find(call: Call, services: Services, registry_id: UUID) -> ListedRegistry:
    wanted = RegistryFilter(scope=call.scope(), registry_id=str(registry_id))
    page = await services.inventory.registries(call.caller, wanted, offset=0, limit=1)
    if not page.items:
        raise NotFoundError(f"id: there is no registry {registry_id}")
    return page.items[0]


def _id(name: str, text: str) -> UUID:
    checked_text(name, text, _LONGEST_ID)
    try:
        return UUID(text)
    except ValueError:
        # Every id is one; so there is no such registry.
        raise NotFoundError(f"id: there is no registry {text}") from None


def _required(name: str, value: str | None, *, longest: int) -> str:
    if value is None:
        raise InvalidParameterError(name, f"is required: 1 to {longest} characters")
    return checked_text(name, value, longest)


def _choice(
    name: str, value: str | None, allowed: Collection[str], *, required: bool = False
) -> str:
    if value is None:
        if required:
            raise InvalidParameterError(name, f"is required: {' or '.join(allowed)}")
        return ""
    return checked_choice(name, value, allowed)


def _host(name: str, value: str | None, *, required: bool = False) -> str:
    """Return host and port, and the path below which a registry may lie."""
    if value is None and not required:
        return ""
    address = _required(name, value, longest=256)
    if "://" in address or address.startswith("/"):
        raise InvalidParameterError(name, "must be host or host:port; the scheme is protocol's")
    return address.rstrip("/")


def _moved(before: str, protocol: str, address: str) -> str | None:
    if not protocol and not address:
        return None
    parts = urlsplit(before)
    return f"{protocol or parts.scheme}://{address or before.partition('://')[2]}"


def _kept(body: UpdateRegistryBody) -> Mapping[str, str]:
    """Return what nothing here needs, for the lists to tell again."""
    version = _choice("api_version", body.api_version, _API_VERSIONS)
    if version == "V1":
        raise InvalidParameterError("api_version", "must be V2: V1 is not read by this service")
    given = {
        "api_version": version,
        "namespace": body.namespace and checked_text("namespace", body.namespace, 128),
        "connect_cluster_id": body.connect_cluster_id
        and checked_text("connect_cluster_id", body.connect_cluster_id, _LONGEST_ID),
        "get_scan_image_channel": _choice(
            "get_scan_image_channel", body.get_scan_image_channel, _CHANNELS
        ),
    }
    return {name: value for name, value in given.items() if value}


def _credential(
    kind: str, body: UpdateRegistryBody, *, known_user: str | None
) -> RegistryCredential | None:
    """Return the credential that a body brings, or ``None``: no name alone, and no secret alone."""
    user, password = body.registry_username, body.registry_password
    if user is not None:
        checked_text("registry_username", user, 128)
    if password is None:
        if user in {None, known_user}:
            return None
        raise InvalidParameterError("registry_password", "is required beside registry_username")
    checked_text("registry_password", password, 128)
    if _REFERENCE.match(password):
        raise InvalidParameterError(
            "registry_password",
            "must be the password itself; only the operator's command line may name a place where"
            " one is kept (env:, file:, exec:)",
        )
    if not (user or known_user):
        raise InvalidParameterError("registry_username", "is required beside registry_password")
    return RegistryCredential(
        kind=login_kind(kind), identity=user or known_user or "", secret=password
    )
