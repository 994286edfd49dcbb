"""Pages about webhooks: who is told what, how that goes, and what became of each attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath

from wharfinger.domain.errors import (
    CallerError,
    ConflictError,
    InvalidParameterError,
    NotFoundError,
)
from wharfinger.domain.webhooks import TYPES, Delivery, Webhook, WebhookChange
from wharfinger.http.parameters import MAX_INT64
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui import webhook_form
from wharfinger.http.ui.choices import registry_names
from wharfinger.http.ui.pages import go, page, status_of
from wharfinger.http.ui.visit import TheVisit, Visit
from wharfinger.http.ui.webhook_form import Filled
from wharfinger.service.webhooks import NewSecret

LIST = "wharfinger:webhooks:list"
SET = "wharfinger:webhooks:set"
_HERE = "/console/settings/webhooks"
_DELIVERIES = 50
# What a status says of an attempt that was not taken; ``webhooks.came_WORD`` says it in words.
_CAME = {
    401: "forbidden",
    403: "forbidden",
    404: "elsewhere",
    405: "elsewhere",
    410: "gone",
    429: "busy",
    503: "busy",
}
CAME = ("taken", "nothing", "redirected", "refused", *sorted(set(_CAME.values())))
STATES = ("active", "failing", "paused", "given_up", "gone")


@get("/settings/webhooks", action=LIST)
async def list_webhooks(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show every webhook, and how it goes."""
    return page(visit, "webhooks.html", webhooks=await services.webhooks.list(visit.caller))


@get("/settings/webhooks/{webhook_id:str}", action=LIST)
async def show_webhook(
    visit: TheVisit, services: TheServices, webhook_id: FromPath[str]
) -> Response[str]:
    """Show one webhook: how it stands, what can be done, and its attempts, newest first."""
    return await _webhook_page(visit, services, await _one(visit, services, webhook_id))


async def _webhook_page(
    visit: Visit,
    services: Services,
    one: Webhook,
    *,
    problem: InvalidParameterError | None = None,
    tested: Delivery | None = None,
) -> Response[str]:
    query = visit.query.without_blanks()
    before = query.integer("before", smallest=1, largest=MAX_INT64)
    found = await services.webhooks.deliveries(
        visit.caller, one.id, before=before, limit=_DELIVERIES
    )
    return page(
        visit,
        "webhook.html",
        one=one,
        deliveries=found,
        is_newest=before is None,
        next=_next(found),
        came=came,
        tested=tested,
        problem=problem,
    )


def _next(found: Sequence[Delivery]) -> int | None:
    return found[-1].id if len(found) == _DELIVERIES else None


def came(one: Delivery) -> str:
    """What came back, as one of ``CAME``."""
    if one.status is None:
        return "nothing"
    if one.is_taken:
        return "taken"
    if 300 <= one.status < 400:
        return "redirected"
    return _CAME.get(one.status, "refused")


async def _one(visit: Visit, services: Services, webhook_id: str) -> Webhook:
    for one in await services.webhooks.list(visit.caller):
        if one.id == webhook_id:
            return one
    raise NotFoundError(f"there is no webhook {webhook_id}")


# --- adding, changing, removing ------------------------------------------------------------------


@get("/settings/webhooks/add", action=SET)
async def show_webhook_form(visit: TheVisit, services: TheServices) -> Response[str]:
    """Ask for what a webhook needs."""
    return await _form(visit, services, webhook_form.empty())


@post("/settings/webhooks/add", status_code=200, action=SET)
async def add_webhook(visit: TheVisit, services: TheServices) -> Response[str]:
    """Add a webhook, and show its secret: in this answer, and in no other."""
    try:
        made = await services.webhooks.add(visit.caller, webhook_form.read_new(visit.form))
    except (InvalidParameterError, ConflictError, NotFoundError) as error:
        return await _form(visit, services, webhook_form.given(visit.form), refused=error)
    return _secret_page(visit, made)


@get("/settings/webhooks/{webhook_id:str}/edit", action=SET)
async def show_webhook_change(
    visit: TheVisit, services: TheServices, webhook_id: FromPath[str]
) -> Response[str]:
    """Show what a webhook tells, to change it."""
    before = await _one(visit, services, webhook_id)
    return await _form(visit, services, webhook_form.filled(before), before=before)


@post("/settings/webhooks/{webhook_id:str}/edit", status_code=303, action=SET)
async def change_webhook(
    visit: TheVisit, services: TheServices, webhook_id: FromPath[str]
) -> Response[Any]:
    """Change what a webhook is called, where it goes and what it tells."""
    before = await _one(visit, services, webhook_id)
    try:
        change = webhook_form.read_change(visit.form, before)
        await services.webhooks.change(visit.caller, before.id, change)
    except (InvalidParameterError, ConflictError, NotFoundError) as error:
        given = webhook_form.given(visit.form)
        return await _form(visit, services, given, before=before, refused=error)
    return go(f"{_HERE}/{before.id}", note="webhook_changed")


@post("/settings/webhooks/{webhook_id:str}/remove", status_code=303, action=SET)
async def remove_webhook(
    visit: TheVisit, services: TheServices, webhook_id: FromPath[str]
) -> Response[Any]:
    """Remove a webhook, whose name has to be typed: the log of its deliveries goes with it."""
    one = await _one(visit, services, webhook_id)
    if visit.form.text("name") != one.name:
        problem = InvalidParameterError("name", f"must be {one.name}")
        return await _webhook_page(visit, services, one, problem=problem)
    await services.webhooks.remove(visit.caller, one.id)
    return go(_HERE, note="webhook_removed")


async def _form(
    visit: Visit,
    services: Services,
    form: Filled,
    *,
    before: Webhook | None = None,
    refused: CallerError | None = None,
) -> Response[str]:
    problem = None if refused is None else webhook_form.on_the_form(refused)
    names = (await registry_names(visit, services)).values()
    return page(
        visit,
        "webhook_form.html",
        status=status_of(refused),
        form=form,
        types=TYPES,
        # Those that the webhook is about stay ticked for those, too, who may not list registries.
        registries=sorted({*names, *(() if before is None else before.registries)}),
        before=before,
        problem=problem,
        refused=refused,
    )


# --- what can be done with one --------------------------------------------------------------------


@post("/settings/webhooks/{webhook_id:str}/state", status_code=303, action=SET)
async def pause_or_resume_webhook(
    visit: TheVisit, services: TheServices, webhook_id: FromPath[str]
) -> Response[Any]:
    """Tell nothing for a while, or go on from where it stopped."""
    one = await _one(visit, services, webhook_id)
    paused = visit.form.text("paused") == "true"
    await services.webhooks.change(visit.caller, one.id, WebhookChange(paused=paused))
    return go(f"{_HERE}/{one.id}", note="webhook_paused" if paused else "webhook_resumed")


@post("/settings/webhooks/{webhook_id:str}/secret", status_code=200, action=SET)
async def rotate_webhook_secret(
    visit: TheVisit, services: TheServices, webhook_id: FromPath[str]
) -> Response[str]:
    """Make a new secret, and show it: in this answer, and in no other."""
    one = await _one(visit, services, webhook_id)
    try:
        keep_old = webhook_form.read_keep_old(visit.form)
    except InvalidParameterError as problem:
        return await _webhook_page(visit, services, one, problem=problem)
    made = await services.webhooks.rotate(visit.caller, one.id, keep_old=keep_old)
    return _secret_page(visit, made, keep_old_hours=int(keep_old.total_seconds()) // 3600)


def _secret_page(visit: Visit, made: NewSecret, *, keep_old_hours: int = 0) -> Response[str]:
    return page(
        visit,
        "webhook_secret.html",
        one=made.webhook,
        secret=made.secret,
        keep_old_hours=keep_old_hours,
    )


@post("/settings/webhooks/{webhook_id:str}/test", status_code=200, action=SET)
async def test_webhook(
    visit: TheVisit, services: TheServices, webhook_id: FromPath[str]
) -> Response[str]:
    """Send an event that says nothing, and show what came back."""
    one = await _one(visit, services, webhook_id)
    tested = await services.webhooks.test(visit.caller, one.id)
    return await _webhook_page(visit, services, one, tested=tested)


@post("/settings/webhooks/{webhook_id:str}/replay", status_code=303, action=SET)
async def replay_webhook(
    visit: TheVisit, services: TheServices, webhook_id: FromPath[str]
) -> Response[Any]:
    """Have everything told again, from a delivery or from an image change on."""
    one = await _one(visit, services, webhook_id)
    try:
        await services.webhooks.replay(
            visit.caller,
            one.id,
            from_number=visit.form.number("from_number", smallest=0, largest=MAX_INT64),
            delivery=visit.form.number("delivery", smallest=0, largest=MAX_INT64),
        )
    except InvalidParameterError as problem:
        return await _webhook_page(visit, services, one, problem=problem)
    return go(f"{_HERE}/{one.id}", note="webhook_replayed")
