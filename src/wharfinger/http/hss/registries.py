"""The list of registries: ``image/registries``."""

from __future__ import annotations

from typing import Literal, cast
from urllib.parse import urlsplit

from litestar import Response, get

from wharfinger.domain.inventory import ListedRegistry, RegistryFilter
from wharfinger.domain.model import hss_kind
from wharfinger.http.hss.call import KINDS, TheCall, kinds_of, worth_headers
from wharfinger.http.hss.tasks import milliseconds
from wharfinger.http.hss.wire import Registries, Registry
from wharfinger.http.services import TheServices

_STATES = ("success", "fail", "accessing")
# Reasons of our own making; all others are the registry's answers, or their absence.
_OUR_FAULTS = frozenset({"error", "store_unavailable", "fenced", "setup"})


@get("/v5/{project_id:str}/image/registries", action="hss:imageRegistries:list")
async def list_registries(call: TheCall, services: TheServices) -> Response[Registries]:
    """Answer ``ListRegistry``."""
    query = call.query
    wanted = RegistryFilter(
        scope=call.scope(
            registry_name=query.text("registry_name", longest=128),
            kinds=kinds_of(query.choices("registry_type", KINDS)),
        ),
        registry_id=query.text("registry_id", longest=64),
        address=query.text("registry_addr", longest=256),
        status=query.choice("status", _STATES),
    )
    offset, limit = call.window(smallest_limit=10)
    page = await services.inventory.registries(call.caller, wanted, offset=offset, limit=limit)
    answer = Registries(
        total_num=page.total, data_list=[_registry(registry) for registry in page.items]
    )
    return Response(answer, headers=worth_headers(verdict=page.verdict, as_of=page.as_of))


def _registry(registry: ListedRegistry) -> Registry:
    address = urlsplit(registry.address)
    status = cast("Literal['success', 'fail', 'accessing']", registry.status)
    return Registry(
        id=registry.id,
        registry_name=registry.name,
        registry_type=hss_kind(registry.kind),
        api_version=registry.hss.get("api_version", None if _is_swr(registry) else "V2"),
        protocol=address.scheme or "https",
        registry_addr=f"{address.netloc}{address.path}".rstrip("/") or registry.address,
        registry_username=registry.user_name or None,
        status=status,
        fail_reason=_fail_reason(registry) if status == "fail" else None,
        images_num=registry.images,
        namespace=registry.hss.get("namespace"),
        connect_cluster_id=registry.hss.get("connect_cluster_id"),
        get_scan_image_channel=registry.hss.get("get_scan_image_channel"),
        latest_sync_time=None if registry.synced_at is None else milliseconds(registry.synced_at),
    )


def _is_swr(registry: ListedRegistry) -> bool:
    return registry.kind.startswith("Swr")


def _fail_reason(registry: ListedRegistry) -> str:
    return "SERVER_ERROR" if registry.reason_code in _OUR_FAULTS else "REQUEST_API_ERROR"
