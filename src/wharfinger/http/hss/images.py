"""The lists of images: ``image/registries/images``, ``image/swr-repository``, statistics."""

from __future__ import annotations

import msgspec
from litestar import Response, get

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.inventory import ImageFilter, ImagePage, ListedImage, RegistryScope, Span
from wharfinger.domain.model import hss_kind
from wharfinger.http.hss.call import (
    IMAGE_TYPE_OF_KIND,
    KIND_OF_IMAGE_TYPE,
    TheCall,
    kinds_of,
    worth_headers,
)
from wharfinger.http.hss.wire import (
    AssetStatistics,
    AssociatedImage,
    RegistryImage,
    RegistryImages,
    SwrImage,
    SwrImages,
)
from wharfinger.http.parameters import MAX_INT64, Parameters
from wharfinger.http.services import TheServices

MAX_IMAGE_SIZE = 2147483547
MAX_STATISTIC = 65535
OLDER_MAX_TIME = 4070880000000
SCAN_STATES = ("unscan", "success", "scanning", "failed", "waiting_for_scan")
SEVERITIES = ("Security", "Low", "Medium", "High")


@get("/v5/{project_id:str}/image/registries/images", action="hss:images:list")
async def list_registry_images(call: TheCall, services: TheServices) -> Response[RegistryImages]:
    """Answer ``ListRegistryImages``."""
    query = call.query
    image_type = query.choice("image_type", tuple(KIND_OF_IMAGE_TYPE))
    scope = call.scope(
        registry_name=query.text("registry_name", longest=128),
        kinds=kinds_of(None if image_type is None else (KIND_OF_IMAGE_TYPE[image_type],)),
        instance_id=_of_instance(query, "instance_id"),
        instance_name=_of_instance(query, "instance_name"),
    )
    wanted = _filter(query, scope, latest=MAX_INT64, synced=_span(query, "latest_sync_time"))
    impossible = _asks_for_scans(query, latest=MAX_INT64)
    impossible |= _asks_for_more_scans(query)
    offset, limit = call.window(smallest_limit=1)
    query.choice("sort_key", ("latest_scan_time",))
    descending = query.choice("sort_dir", ("asc", "desc")) == "desc"
    if impossible:
        page = await services.inventory.no_images(call.caller, scope)
    else:
        page = await services.inventory.images(
            call.caller, wanted, offset=offset, limit=limit, descending=descending
        )
    answer = RegistryImages(
        total_num=page.total, data_list=[_registry_image(image) for image in page.items]
    )
    return Response(answer, headers=worth_headers(verdict=page.verdict, as_of=page.as_of))


@get("/v5/{project_id:str}/image/swr-repository", action="hss:images:list")
async def list_swr_images(call: TheCall, services: TheServices) -> Response[SwrImages]:
    """Answer ``ListSwrImageRepository``."""
    query = call.query
    types = ("private_image", "shared_image", "local_image", "instance_image")
    image_type = query.choice("image_type", types)
    if image_type is None:
        raise InvalidParameterError("image_type", f"is required: {' or '.join(types)}")
    # No registry has local images, so asking for them matches nothing.
    scope = call.scope(
        kinds=kinds_of((KIND_OF_IMAGE_TYPE.get(image_type, image_type),)),
        instance_id=_of_instance(query, "instance_id"),
        instance_name=_of_instance(query, "instance_name"),
    )
    wanted = _filter(query, scope, latest=OLDER_MAX_TIME, synced=Span())
    impossible = _asks_for_scans(query, latest=OLDER_MAX_TIME)
    offset, limit = call.window(smallest_limit=10)
    page = (
        await services.inventory.no_images(call.caller, scope)
        if impossible
        else await services.inventory.images(call.caller, wanted, offset=offset, limit=limit)
    )
    answer = SwrImages(total_num=page.total, data_list=[_swr_image(image) for image in page.items])
    return Response(answer, headers=worth_headers(verdict=page.verdict, as_of=page.as_of))


@get("/v5/{project_id:str}/image/asset/statistics", action="hss:imageStatistics:get")
async def show_asset_statistics(call: TheCall, services: TheServices) -> Response[AssetStatistics]:
    """Answer ``ShowImageAssetStatistics``."""
    page: ImagePage = await services.inventory.count_images(call.caller, call.scope())
    answer = AssetStatistics(registry_num=min(page.total, MAX_STATISTIC))
    return Response(answer, headers=worth_headers(verdict=page.verdict, as_of=page.as_of))


def _filter(query: Parameters, scope: RegistryScope, *, latest: int, synced: Span) -> ImageFilter:
    return ImageFilter(
        scope=scope,
        namespace=query.text("namespace", longest=128),
        name_contains=query.text("image_name", longest=128),
        tag=query.text("image_version", longest=64),
        size=query.integer("image_size", smallest=0, largest=MAX_IMAGE_SIZE),
        is_index=query.flag("is_multarch"),
        latest_only=query.flag("latest_version") or False,
        updated=_span(query, "latest_update_time", latest=latest),
        synced=synced,
    )


def _span(query: Parameters, what: str, *, latest: int = MAX_INT64) -> Span:
    start = query.integer(f"start_{what}", smallest=0, largest=latest)
    end = query.integer(f"end_{what}", smallest=0, largest=latest)
    if start is not None and end is not None and start > end:
        raise InvalidParameterError(f"start_{what}", f"must not be later than end_{what}")
    return Span(start_ms=start, end_ms=end)


def _asks_for_scans(query: Parameters, *, latest: int) -> bool:
    """Tell whether a filter speaks of scanned images, of which there are none."""
    scan_status = query.choice("scan_status", SCAN_STATES)
    flags = [query.flag(name) for name in ("has_malicious_file", "has_unsafe_setting", "has_vul")]
    # Each is read, whatever the others say: what is out of its range is told all the same.
    scanned = _span(query, "latest_scan_time", latest=latest)
    return (
        scan_status not in {None, "unscan"}
        or any(flag is not None for flag in flags)
        or not scanned.is_open
    )


def _of_instance(query: Parameters, name: str) -> str | None:
    """Read a filter on the instance; empty, it filters nothing."""
    return query.text(name, longest=128, shortest=0) or None


def _asks_for_more_scans(query: Parameters) -> bool:
    severity = query.choice("severity_level", SEVERITIES)
    return query.flag("risky") is not None or severity is not None


def _registry_image(image: ListedImage) -> RegistryImage:
    image_type = _image_type(image)
    return RegistryImage(
        id=image.id,
        namespace=image.namespace,
        image_name=image.name,
        image_id=image.image_id,
        image_digest=image.digest,
        image_version=image.tag or "",
        image_type=image_type,
        registry_id=image.registry_id,
        registry_name=image.registry_name,
        registry_type=hss_kind(image.registry_kind),
        latest_version=image.is_latest,
        image_size=image.size,
        latest_update_time=image.updated_ms,
        latest_sync_time=image.synced_ms,
        is_multiple_arch=image.is_index,
        domain_name=image.owner or None,
        shared_status=image.shared_status or None,
        instance_id=image.instance_id or None,
        instance_name=image.instance_name or None,
        instance_url=image.instance_url or None,
        association_images=[
            AssociatedImage(
                id=child.id,
                image_id=child.platform.image_id,
                image_name=image.name,
                image_version=image.tag or "",
                image_type=image_type,
                namespace=image.namespace,
                image_digest=child.platform.digest,
            )
            for child in image.platforms
        ],
    )


def _swr_image(image: ListedImage) -> SwrImage:
    # The older list's rows are the newer one's with fewer fields.
    return msgspec.convert(_registry_image(image), SwrImage, from_attributes=True)


def _image_type(image: ListedImage) -> str:
    return IMAGE_TYPE_OF_KIND[hss_kind(image.registry_kind)]
