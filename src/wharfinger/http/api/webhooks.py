"""Webhooks over our own API."""

from __future__ import annotations

import datetime as dt

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath

from wharfinger.domain.webhooks import Delivery, NewWebhook, Webhook, WebhookChange
from wharfinger.http.api.call import TheApiCall, cursor
from wharfinger.http.hss.call import read_body
from wharfinger.http.services import TheServices
from wharfinger.service.webhooks import NewSecret


class WebhookList(msgspec.Struct, frozen=True, kw_only=True):
    """Webhooks, by name."""

    items: list[Webhook]


class DeliveryList(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts, newest first. ``next`` is the ``after`` of the next page."""

    items: list[Delivery]
    next: str | None


class RotationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long the secret before the new one signs, too."""

    keep_old_s: int = 86_400


class ReplayBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where on everything is told again: an image change, or a delivery."""

    from_number: int | None = None
    delivery: int | None = None


@get("/webhooks", action="wharfinger:webhooks:list")
async def list_webhooks(call: TheApiCall, services: TheServices) -> WebhookList:
    """Every webhook, how it stands, and how far its receiver has been told."""
    return WebhookList(items=await services.webhooks.list(call.caller))


@post("/webhooks", status_code=201, action="wharfinger:webhooks:set")
async def add_webhook(call: TheApiCall, services: TheServices) -> NewSecret:
    """Add one; its secret is shown this once."""
    return await services.webhooks.add(call.caller, read_body(call.body, NewWebhook))


@put("/webhooks/{webhook_id:str}", action="wharfinger:webhooks:set")
async def change_webhook(
    call: TheApiCall, services: TheServices, webhook_id: FromPath[str]
) -> Webhook:
    """Change one, pause it, or let it go on; what is left out stays as it is."""
    change = read_body(call.body, WebhookChange)
    return await services.webhooks.change(call.caller, webhook_id, change)


@delete("/webhooks/{webhook_id:str}", status_code=204, action="wharfinger:webhooks:set")
async def remove_webhook(
    call: TheApiCall, services: TheServices, webhook_id: FromPath[str]
) -> None:
    """Remove one with the log of its deliveries."""
    await services.webhooks.remove(call.caller, webhook_id)


@post("/webhooks/{webhook_id:str}/secret", status_code=200, action="wharfinger:webhooks:set")
async def rotate_webhook_secret(
    call: TheApiCall, services: TheServices, webhook_id: FromPath[str]
) -> NewSecret:
    """Make a new secret, shown this once; the one before it signs beside it for a while."""
    body = read_body(call.body, RotationBody)
    keep_old = dt.timedelta(seconds=max(-1, min(body.keep_old_s, 10**9)))
    return await services.webhooks.rotate(call.caller, webhook_id, keep_old=keep_old)


@post("/webhooks/{webhook_id:str}/test", status_code=200, action="wharfinger:webhooks:set")
async def test_webhook(
    call: TheApiCall, services: TheServices, webhook_id: FromPath[str]
) -> Delivery:
    """Send an event that says nothing, and tell what came back."""
    return await services.webhooks.test(call.caller, webhook_id)


@post("/webhooks/{webhook_id:str}/replay", status_code=200, action="wharfinger:webhooks:set")
async def replay_webhook(
    call: TheApiCall, services: TheServices, webhook_id: FromPath[str]
) -> Webhook:
    """Tell everything again from an image change on, or from a delivery on."""
    body = read_body(call.body, ReplayBody)
    return await services.webhooks.replay(
        call.caller, webhook_id, from_number=body.from_number, delivery=body.delivery
    )


@get("/webhooks/{webhook_id:str}/deliveries", action="wharfinger:webhooks:list")
async def list_deliveries(
    call: TheApiCall, services: TheServices, webhook_id: FromPath[str]
) -> DeliveryList:
    """Every attempt that is still remembered, newest first, and what came back."""
    limit = call.limit()
    found = list(
        await services.webhooks.deliveries(
            call.caller, webhook_id, before=call.after(int), limit=limit
        )
    )
    following = cursor(found[-1].id) if len(found) == limit else None
    return DeliveryList(items=found, next=following)
