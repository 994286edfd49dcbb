"""What OpenAPI is told of the routes of HSS v5. See ``wharfinger.http.described``."""

from __future__ import annotations

from wharfinger.http.answers import GatewayError, HssError
from wharfinger.http.described import (
    Api,
    Operation,
    Parameter,
    choice,
    choices,
    flag,
    integer,
    text,
)
from wharfinger.http.hss.call import KIND_OF_IMAGE_TYPE, KINDS, MAX_OFFSET
from wharfinger.http.hss.images import MAX_IMAGE_SIZE, OLDER_MAX_TIME, SCAN_STATES, SEVERITIES
from wharfinger.http.hss.tasks import MAX_TIME
from wharfinger.http.hss.wire import (
    AddRegistryBody,
    DeleteRegistriesBody,
    ScanPolicyBody,
    SynchronizeRequest,
    SynchronizeTaskRequest,
    UpdateRegistryBody,
)
from wharfinger.http.parameters import MAX_INT64

WORTH = ("X-Wharfinger-Verdict", "X-Wharfinger-As-Of")
TASK_ID = ("X-Wharfinger-Task-Id",)

_OFFSET = integer("offset", smallest=0, largest=MAX_OFFSET)
_PAGE = (_OFFSET, integer("limit", smallest=10, largest=200))
_PAGE_OF_ANY_SIZE = (_OFFSET, integer("limit", smallest=1, largest=200))


def _times(latest: int, *names: str) -> tuple[Parameter, ...]:
    return tuple(
        integer(f"{end}_{name}", smallest=0, largest=latest)
        for name in names
        for end in ("start", "end")
    )


def _images(latest: int) -> tuple[Parameter, ...]:
    return (
        text("namespace", longest=128),
        text("image_name", longest=128),
        text("image_version", longest=64),
        integer("image_size", smallest=0, largest=MAX_IMAGE_SIZE),
        flag("is_multarch"),
        flag("latest_version"),
        choice("scan_status", SCAN_STATES),
        flag("has_malicious_file"),
        flag("has_unsafe_setting"),
        flag("has_vul"),
        text("instance_id", longest=128, shortest=0),
        text("instance_name", longest=128, shortest=0),
        *_times(latest, "latest_update_time", "latest_scan_time"),
    )


_DESCRIBED = {
    "run_image_synchronize": Operation(
        body=SynchronizeRequest, answer_headers=(*TASK_ID, "Deprecation", "Link")
    ),
    "create_image_synchronize_task": Operation(body=SynchronizeTaskRequest, answer_headers=TASK_ID),
    "list_registry_images": Operation(
        query=(
            choice("image_type", tuple(KIND_OF_IMAGE_TYPE)),
            text("registry_name", longest=128),
            *_images(MAX_INT64),
            *_times(MAX_INT64, "latest_sync_time"),
            flag("risky"),
            choice("severity_level", SEVERITIES),
            choice("sort_key", ("latest_scan_time",)),
            choice("sort_dir", ("asc", "desc")),
            *_PAGE_OF_ANY_SIZE,
        ),
        answer_headers=WORTH,
    ),
    "list_swr_images": Operation(
        query=(
            choice(
                "image_type",
                ("private_image", "shared_image", "local_image", "instance_image"),
                required=True,
            ),
            *_images(OLDER_MAX_TIME),
            *_PAGE,
        ),
        answer_headers=WORTH,
    ),
    "show_asset_statistics": Operation(answer_headers=WORTH),
    "list_registries": Operation(
        query=(
            text("registry_name", longest=128),
            choices("registry_type", KINDS),
            text("registry_id", longest=64),
            text("registry_addr", longest=256),
            choice("status", ("success", "fail", "accessing")),
            *_PAGE,
        ),
        answer_headers=WORTH,
    ),
    "list_registry_statistics": Operation(
        query=(choices("registry_type", KINDS),), answer_headers=WORTH
    ),
    "show_image_upload_command": Operation(
        query=(
            text("registry_addr", longest=256, required=True),
            text("namespace", longest=128, required=True),
            text("username", longest=128, required=True),
            text("password", longest=128, required=True),
        )
    ),
    "list_image_scan_policy": Operation(
        query=(
            choice("global_image_type", ("local", "registry")),
            text("type", longest=64, required=True),
        )
    ),
    "modify_image_scan_policy": Operation(body=ScanPolicyBody),
    "list_container_images": Operation(
        query=(text("keyword", longest=128), *_PAGE), answer_headers=WORTH
    ),
    "add_registry": Operation(body=AddRegistryBody),
    "update_registry": Operation(body=UpdateRegistryBody),
    "batch_delete_registry": Operation(body=DeleteRegistriesBody),
    "list_container_image_logs": Operation(
        query=(
            text("event_type", longest=64),
            text("event_name", longest=128),
            text("user_name", longest=256),
            text("source_ip", longest=64),
            text("resource_type", longest=64),
            text("resource_name", longest=256),
            integer("start_time", smallest=0, largest=MAX_TIME),
            integer("end_time", smallest=0, largest=MAX_TIME),
            *_PAGE_OF_ANY_SIZE,
        )
    ),
    "list_tasks": Operation(
        query=(
            choice("type", ("image_sync", "image_scan"), required=True),
            text("task_id", longest=256),
            text("task_name", longest=256),
            choice("task_type", ("cycle", "manual", "autoSync", "manualSync")),
            integer("create_time", smallest=0, largest=MAX_TIME),
            integer("end_time", smallest=0, largest=MAX_TIME),
            choice("task_status", ("scanning", "finished")),
            choice("global_image_type", ("local", "registry")),
            integer("scan_scope", smallest=0, largest=0x7FFFFFFF),
            *_PAGE,
        ),
    ),
    "list_task_registries": Operation(
        query=(
            text("registry_name", longest=128),
            choices("registry_type", KINDS),
            choice("sync_status", ("finished", "running", "failed")),
            *_PAGE,
        ),
    ),
}

HSS = Api(
    tag="hss",
    prefix="/v5/",
    description="HSS v5, as far as it concerns container images.",
    query=(text("enterprise_project_id", longest=256),),
    headers=(
        Parameter(
            name="region",
            schema={"type": "string", "maxLength": 128},
            place="header",
            description="read and not needed: one service answers for every region",
        ),
    ),
    errors={
        400: (HssError, GatewayError),
        401: (GatewayError,),
        403: (GatewayError,),
        500: (HssError,),
        503: (HssError, GatewayError),
    },
    described=_DESCRIBED,
)
