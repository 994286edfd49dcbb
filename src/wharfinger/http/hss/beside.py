"""Operations of which only a part concerns the list of images; the rest is answered honestly."""

from __future__ import annotations

from litestar import Response, get, put

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.inventory import ImageFilter, RegistryFilter
from wharfinger.domain.model import hss_kind
from wharfinger.domain.schedule import CYCLES, cycle_of
from wharfinger.http.hss.call import KINDS, TheCall, kinds_of, read_body, worth_headers
from wharfinger.http.hss.synchronize import chosen_registry
from wharfinger.http.hss.wire import (
    ContainerImage,
    ContainerImages,
    Done,
    PolicyRegistry,
    RegistryStatistics,
    ScanPolicy,
    ScanPolicyBody,
    UploadCommand,
)
from wharfinger.http.services import TheServices

# As many as the contract lets one answer hold.
_MOST_REGISTRIES = 200
# A shell that is handed these goes on: there is nothing to do.
_NOTHING_TO_UPLOAD = "true  # Wharfinger reads registries over the network and runs nothing inside"
_NOT_DONE = {
    "scan_scope": "nothing is scanned here",
    "rate_limit": "each registry is read as fast as it bears",
    "time_scope": "images of every age are listed",
}
_LONGEST = {"registry_addr": 256, "namespace": 128, "username": 128, "password": 128}


@get("/v5/{project_id:str}/image/registries/statistics", action="hss:imageRegistries:list")
async def list_registry_statistics(
    call: TheCall, services: TheServices
) -> Response[RegistryStatistics]:
    """Answer ``ListRegistryStatistics``; a registry nobody has read yet counts as neither."""
    scope = call.scope(kinds=kinds_of(call.query.choices("registry_type", KINDS)))
    failing, good = [
        await services.inventory.registries(
            call.caller, RegistryFilter(scope=scope, status=status), offset=0, limit=1
        )
        for status in ("fail", "success")
    ]
    answer = RegistryStatistics(fail_num=failing.total, success_num=good.total)
    return Response(answer, headers=worth_headers(verdict=good.verdict, as_of=good.as_of))


@get("/v5/{project_id:str}/image/registries/image-upload-command", action="hss:imageRegistries:get")
async def show_image_upload_command(call: TheCall) -> UploadCommand:
    """Answer ``ShowImageUploadCommand``: nothing is to be uploaded to a registry that is read.

    The password that comes with it is neither kept nor given back.
    """
    for name, longest in _LONGEST.items():
        if call.query.text(name, longest=longest) is None:
            raise InvalidParameterError(name, f"is required: 1 to {longest} characters")
    return UploadCommand(
        image_command=_NOTHING_TO_UPLOAD, swr_image_pull_command=_NOTHING_TO_UPLOAD
    )


@get("/v5/{project_id:str}/image/scanner-policies", action="hss:imageScanPolicies:get")
async def list_image_scan_policy(call: TheCall, services: TheServices) -> ScanPolicy:
    """Answer ``ListImageScanPolicy``: which registries are read every few days; none is scanned."""
    call.query.choice("global_image_type", ("local", "registry"))
    if call.query.text("type", longest=64) is None:
        raise InvalidParameterError("type", "is required: 1 to 64 characters")
    page = await services.inventory.registries(
        call.caller, RegistryFilter(scope=call.scope()), offset=0, limit=_MOST_REGISTRIES
    )
    cycles = {
        one.registry_id: days
        for one in await services.schedules.list(call.caller)
        if (days := cycle_of(one.cron)) is not None
    }
    return ScanPolicy(
        total_registry_num=page.total,
        registry_list=[
            PolicyRegistry(
                registry_id=one.id,
                registry_name=one.name,
                registry_type=hss_kind(one.kind),
                is_selected=one.id in cycles,
            )
            for one in page.items
        ],
        is_all=0 < page.total == len(cycles),
        enabled=bool(cycles),
        scan_cycle=min(cycles.values(), default=None),
    )


@put(
    "/v5/{project_id:str}/image/scanner-policies",
    status_code=200,
    action="hss:imageScanPolicies:set",
)
async def modify_image_scan_policy(call: TheCall, services: TheServices) -> Done:
    """Answer ``ModifyImageScanPolicy``: how often registries are read, without any scan."""
    body = read_body(call.body or b"{}", ScanPolicyBody)
    for name in ("scan_scope", "rate_limit", "time_scope"):
        if getattr(body, name):
            raise InvalidParameterError(name, f"must be 0 or left out: {_NOT_DONE[name]}")
    if body.enabled is None:
        raise InvalidParameterError("enabled", "is required: true or false")
    if body.enabled and body.scan_cycle not in CYCLES:
        raise InvalidParameterError("scan_cycle", "must be 3, 7 or 14 days")
    if body.enabled and body.registry_info == []:
        raise InvalidParameterError(
            "registry_info", "must name at least one registry, or be left out for all of them"
        )
    chosen = body.registry_info
    await services.schedules.set_cycle(
        call.caller,
        body.scan_cycle if body.enabled else None,
        None if chosen is None else [chosen_registry(one) for one in chosen],
    )
    return Done()


@get("/v5/{project_id:str}/container/images", action="hss:images:list")
async def list_container_images(call: TheCall, services: TheServices) -> Response[ContainerImages]:
    """Answer ``ListContainerImages`` with the images of the registries; hosts have no others."""
    wanted = ImageFilter(scope=call.scope(), name_contains=call.query.text("keyword", longest=128))
    offset, limit = call.window(smallest_limit=10)
    page = await services.inventory.images(call.caller, wanted, offset=offset, limit=limit)
    answer = ContainerImages(
        total_num=page.total,
        data_list=[
            ContainerImage(
                image_id=str(image.id),
                image_name=image.name,
                image_version=image.tag or "",
                create_time=image.updated_ms,
            )
            for image in page.items
        ],
    )
    return Response(answer, headers=worth_headers(verdict=page.verdict, as_of=page.as_of))
