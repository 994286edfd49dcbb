"""Asking for a synchronisation: the founding call and its successor."""

from __future__ import annotations

import datetime as dt

from litestar import Response, post

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.http.hss.call import KIND_OF_IMAGE_TYPE, KINDS, Call, TheCall, read_body
from wharfinger.http.hss.wire import (
    ChosenRegistry,
    Synchronized,
    SynchronizeRequest,
    SynchronizeTask,
    SynchronizeTaskRequest,
)
from wharfinger.http.parameters import checked_choice, checked_text
from wharfinger.http.services import TheServices

# The day on which the international page of the API first called the operation deprecated.
DEPRECATED_SINCE = dt.datetime(2026, 4, 3, tzinfo=dt.UTC)
TASK_ID_HEADER = "X-Wharfinger-Task-Id"
_IMAGE_TYPES = ("private_image", "shared_image")


@post("/v5/{project_id:str}/image/synchronize", status_code=200, action="hss:images:synchronize")
async def run_image_synchronize(call: TheCall, services: TheServices) -> Response[Synchronized]:
    """Answer ``RunImageSynchronize``: 200 is sent once the run is stored."""
    request = read_body(call.body or b"{}", SynchronizeRequest)
    if request.image_type is None:
        raise InvalidParameterError("image_type", f"is required: {' or '.join(_IMAGE_TYPES)}")
    image_type = checked_choice("image_type", request.image_type, _IMAGE_TYPES)
    task_id = await services.synchroniser.synchronise_kind(
        call.caller, KIND_OF_IMAGE_TYPE[image_type], call.enterprise_project_id
    )
    answer = Synchronized(error_code=0, error_description="success", task_id=task_id)
    return Response(answer, headers=_deprecation(call) | {TASK_ID_HEADER: task_id})


@post(
    "/v5/{project_id:str}/image/image-sync/tasks", status_code=200, action="hss:images:synchronize"
)
async def create_image_synchronize_task(
    call: TheCall, services: TheServices
) -> Response[SynchronizeTask]:
    """Answer ``CreateImageSynchronizeTask``."""
    request = read_body(call.body or b"{}", SynchronizeTaskRequest)
    everything = request.sync_all_registries or False
    chosen = [] if everything else [chosen_registry(one) for one in request.registry_info or ()]
    if not everything and not chosen:
        raise InvalidParameterError(
            "registry_info", "must name at least one registry unless sync_all_registries is true"
        )
    task_id = await services.synchroniser.synchronise_registries(
        call.caller,
        enterprise_project_id=call.enterprise_project_id,
        everything=everything,
        chosen=chosen,
    )
    return Response(SynchronizeTask(task_id=task_id), headers={TASK_ID_HEADER: task_id})


def chosen_registry(one: ChosenRegistry) -> tuple[str, str]:
    """Return id and kind; either may be "", which leaves it open."""
    if not one.registry_id and not one.registry_type:
        raise InvalidParameterError("registry_info", "must give registry_id or registry_type")
    kind = one.registry_type or ""
    if kind:
        checked_choice("registry_type", kind, KINDS)
    return checked_text("registry_id", one.registry_id or "", 64, 0), kind


def _deprecation(call: Call) -> dict[str, str]:
    successor = f"/v5/{call.caller.project_id}/image/image-sync/tasks"
    return {
        # RFC 9745, section 2.1: a structured-field date.
        "Deprecation": f"@{int(DEPRECATED_SINCE.timestamp())}",
        "Link": f'<{successor}>; rel="successor-version"',
    }
