"""Puts the routes together into one ASGI application."""

from __future__ import annotations

from typing import Any, cast

from litestar import Litestar, Response
from litestar.di import Provide

from wharfinger.http.api.routes import make_api
from wharfinger.http.edge import Asgi, Edge
from wharfinger.http.failures import AnyRequest, answer_failure
from wharfinger.http.hss.beside import (
    list_container_images,
    list_image_scan_policy,
    list_registry_statistics,
    modify_image_scan_policy,
    show_image_upload_command,
)
from wharfinger.http.hss.call import hss_call
from wharfinger.http.hss.events import list_container_image_logs
from wharfinger.http.hss.images import (
    list_registry_images,
    list_swr_images,
    show_asset_statistics,
)
from wharfinger.http.hss.not_offered import refusals
from wharfinger.http.hss.registries import list_registries
from wharfinger.http.hss.registry_changes import (
    add_registry,
    batch_delete_registry,
    delete_registry,
    update_registry,
)
from wharfinger.http.hss.synchronize import create_image_synchronize_task, run_image_synchronize
from wharfinger.http.hss.tasks import list_task_registries, list_tasks
from wharfinger.http.iam.routes import make_iam
from wharfinger.http.limits import MAX_BODY_BYTES
from wharfinger.http.metrics import show_metrics
from wharfinger.http.openapi import show_openapi
from wharfinger.http.refusals import refusal_hook
from wharfinger.http.root import show_health, show_readiness, show_version
from wharfinger.http.services import Services
from wharfinger.http.ui.failures import answer_page_failure, is_of_the_console
from wharfinger.http.ui.routes import make_console

HSS = (
    run_image_synchronize,
    create_image_synchronize_task,
    list_registry_images,
    list_swr_images,
    list_tasks,
    list_task_registries,
    list_registries,
    show_asset_statistics,
    list_registry_statistics,
    show_image_upload_command,
    list_image_scan_policy,
    modify_image_scan_policy,
    list_container_images,
    add_registry,
    update_registry,
    delete_registry,
    batch_delete_registry,
    list_container_image_logs,
)


def create_app(services: Services) -> Asgi:
    """Make the ASGI application over the given services; it owns none of them."""
    app = Litestar(
        route_handlers=[
            show_version,
            show_health,
            show_readiness,
            show_metrics,
            show_openapi,
            *HSS,
            *refusals(HSS),
            make_iam(),
            make_api(),
            make_console(),
        ],
        dependencies={
            "services": Provide(lambda: services, sync_to_thread=False),
            "call": Provide(hss_call),
        },
        exception_handlers={Exception: _answer_failure},
        after_exception=[refusal_hook(services)],
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )
    return Edge(cast("Asgi", app), services)


def _answer_failure(request: AnyRequest, error: Exception) -> Response[Any]:
    """Answer what no API's own way answers: a path without a route, for one."""
    if is_of_the_console(request):
        return answer_page_failure(request, error)
    return answer_failure(request, error)
