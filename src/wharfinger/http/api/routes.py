"""The routes of our own API under ``/api/v1/projects/{project_id}``."""

from __future__ import annotations

import datetime as dt
import uuid

from litestar import Router, get, post
from litestar.di import Provide
from litestar.params import FromPath

from wharfinger.domain.errors import InvalidParameterError, NotFoundError, WharfingerError
from wharfinger.domain.examination import Examination
from wharfinger.domain.history import (
    Change,
    Difference,
    Life,
    RunRecord,
)
from wharfinger.domain.model import HeldImage, VerdictState
from wharfinger.http.api.asked import known_call
from wharfinger.http.api.audit import list_audit
from wharfinger.http.api.call import TheApiCall, answer_api_failure, cursor
from wharfinger.http.api.enterprise_projects import (
    change_enterprise_project,
    create_enterprise_project,
    grant_enterprise_project,
    list_enterprise_grants,
    list_enterprise_projects,
    revoke_enterprise_project,
)
from wharfinger.http.api.images import list_facets, list_images
from wharfinger.http.api.labels import list_labels, remove_label, set_label
from wharfinger.http.api.reports import show_report
from wharfinger.http.api.schedules import list_schedules, set_schedule
from wharfinger.http.api.webhooks import (
    add_webhook,
    change_webhook,
    list_deliveries,
    list_webhooks,
    remove_webhook,
    replay_webhook,
    rotate_webhook_secret,
    test_webhook,
)
from wharfinger.http.api.wire import (
    AcceptBody,
    Accepted,
    ListAnswer,
    RegistryItem,
    RepositoryItem,
    registry_item,
    repository_item,
)
from wharfinger.http.failures import AnyRequest
from wharfinger.http.hss.call import read_body
from wharfinger.http.parameters import MAX_INT64
from wharfinger.http.services import TheServices
from wharfinger.service.hints import Receipt

_MOST_DIGITS = len(str(MAX_INT64))


@get("/changes", action="wharfinger:changes:list")
async def list_changes(call: TheApiCall, services: TheServices) -> ListAnswer[Change]:
    """Everything since a number, tombstones included."""
    page = await services.history.changes(
        call.caller, after=call.number("after") or 0, limit=call.limit()
    )
    return ListAnswer(
        items=list(page.items), next=page.next, as_of=page.as_of, verdict=page.verdict
    )


@get("/images/{image_id:str}/history", action="wharfinger:images:get")
async def show_life(call: TheApiCall, services: TheServices, image_id: FromPath[str]) -> Life:
    """The life of one image, digest by digest."""
    is_number = image_id.isascii() and image_id.isdigit() and len(image_id) <= _MOST_DIGITS
    if not is_number or int(image_id) > MAX_INT64:
        raise NotFoundError(f"image_id: there is no image {image_id}")
    return await services.history.life(call.caller, int(image_id))


@get("/runs", action="wharfinger:runs:list")
async def list_runs(call: TheApiCall, services: TheServices) -> ListAnswer[RunRecord]:
    """Runs, newest first."""
    position = call.after(tuple[dt.datetime, uuid.UUID])
    page = await services.history.runs(
        call.caller,
        registry=call.query.text("registry_id", longest=64),
        before=None if position is None else (position[0], str(position[1])),
        limit=call.limit(),
    )
    last = page.items[-1] if page.next is not None else None
    return ListAnswer(
        items=list(page.items),
        next=None if last is None else cursor((last.queued_at, last.id)),
        as_of=page.as_of,
        verdict=page.verdict,
    )


@get("/runs/{run_id:str}", action="wharfinger:runs:get")
async def show_run(call: TheApiCall, services: TheServices, run_id: FromPath[str]) -> RunRecord:
    """One run."""
    return await services.history.run(call.caller, run_id)


@get("/runs/{run_id:str}/diff/{other_id:str}", action="wharfinger:runs:get")
async def list_differences(
    call: TheApiCall, services: TheServices, run_id: FromPath[str], other_id: FromPath[str]
) -> ListAnswer[Difference]:
    """What changed from the end of one run to the end of another."""
    page = await services.history.diff(
        call.caller, run_id, other_id, after=call.after(int) or 0, limit=call.limit()
    )
    return ListAnswer(
        items=list(page.items),
        next=page.next and cursor(int(page.next)),
        as_of=page.as_of,
        verdict=page.verdict,
    )


@get("/registries", action="hss:imageRegistries:list")
async def list_registry_verdicts(
    call: TheApiCall, services: TheServices
) -> ListAnswer[RegistryItem]:
    """Every registry: its verdict, why, and what to do."""
    page = await services.history.registries(call.caller)
    return ListAnswer(
        items=[registry_item(registry) for registry in page.items],
        next=None,
        as_of=page.as_of,
        verdict=page.verdict,
    )


@get("/registries/{registry_id:str}/repositories", action="hss:imageRegistries:list")
async def list_repository_verdicts(
    call: TheApiCall, services: TheServices, registry_id: FromPath[str]
) -> ListAnswer[RepositoryItem]:
    """Every repository of a registry: its verdict, why, what to do, and what reading it cost."""
    limit = call.limit()
    verdict = call.query.choice("verdict", [v.value for v in VerdictState])
    worth = await services.history.registries(call.caller)
    found = await services.registries.repositories(
        call.caller,
        registry_id,
        verdict=None if verdict is None else VerdictState(verdict),
        after=call.after(int) or 0,
        limit=limit,
    )
    return ListAnswer(
        items=[repository_item(repository) for repository in found],
        next=cursor(found[-1].id) if len(found) == limit else None,
        as_of=worth.as_of,
        verdict=worth.verdict,
    )


@get("/registries/{registry_id:str}/held", action="wharfinger:heldImages:list")
async def list_held(
    call: TheApiCall, services: TheServices, registry_id: FromPath[str]
) -> ListAnswer[HeldImage]:
    """Images that a complete listing lacked and that wait for a person's word."""
    limit = call.limit()
    worth = await services.history.registries(call.caller)
    found = await services.held.list(
        call.caller, registry_id, after=call.after(int) or 0, limit=limit
    )
    return ListAnswer(
        items=found,
        next=cursor(found[-1].id) if len(found) == limit else None,
        as_of=worth.as_of,
        verdict=worth.verdict,
    )


@post(
    "/registries/{registry_id:str}/accept", status_code=200, action="wharfinger:heldImages:accept"
)
async def accept_held(
    call: TheApiCall, services: TheServices, registry_id: FromPath[str]
) -> Accepted:
    """Accept that held images are gone."""
    body = read_body(call.body, AcceptBody)
    if body.all == (body.images is not None):
        raise InvalidParameterError("images", "must name images, or all must be true; not both")
    retired = await services.held.accept(call.caller, registry_id, images=body.images)
    return Accepted(retired=retired)


@post(
    "/registries/{registry_id:str}/examination",
    status_code=200,
    action="wharfinger:registries:examine",
)
async def examine_registry(
    call: TheApiCall, services: TheServices, registry_id: FromPath[str]
) -> Examination:
    """Try every step of a sync once; nothing is stored."""
    return await services.doctor.examine(call.caller, registry_id)


@post("/registries/{registry_id:str}/notifications", status_code=200)
async def receive_notification(
    request: AnyRequest,
    services: TheServices,
    project_id: FromPath[str],
    registry_id: FromPath[str],
) -> Receipt:
    """Take a registry's own word that something happened; its listing decides what."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    receipt = await services.hints.receive(
        token.strip() if scheme.lower() == "bearer" else None,
        project_id,
        registry_id,
        await request.body(),
    )
    # One for every push would bury everything else, so the audit tells how many in a minute.
    services.ledger.notified(project_id, str(uuid.UUID(registry_id)))
    return receipt


def make_api() -> Router:
    """The routes with what they have in common."""
    return Router(
        path="/api/v1/projects/{project_id:str}",
        route_handlers=[
            list_changes,
            list_images,
            list_facets,
            show_life,
            list_runs,
            show_run,
            show_report,
            list_differences,
            list_registry_verdicts,
            list_repository_verdicts,
            list_held,
            accept_held,
            examine_registry,
            receive_notification,
            list_enterprise_projects,
            create_enterprise_project,
            change_enterprise_project,
            list_enterprise_grants,
            grant_enterprise_project,
            revoke_enterprise_project,
            list_audit,
            list_schedules,
            set_schedule,
            list_labels,
            set_label,
            remove_label,
            list_webhooks,
            add_webhook,
            change_webhook,
            remove_webhook,
            rotate_webhook_secret,
            test_webhook,
            replay_webhook,
            list_deliveries,
        ],
        dependencies={"call": Provide(known_call)},
        exception_handlers={
            WharfingerError: answer_api_failure,
            Exception: answer_api_failure,
        },
    )
