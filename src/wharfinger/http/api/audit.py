"""Who changed what in a project, and whose calls were refused, over our own API."""

from __future__ import annotations

from litestar import get

from wharfinger.domain.audit import AuditFilter
from wharfinger.http.api.call import ApiCall, TheApiCall, cursor
from wharfinger.http.api.wire import AuditAnswer
from wharfinger.http.services import TheServices


@get("/audit", action="wharfinger:audit:list")
async def list_audit(call: TheApiCall, services: TheServices) -> AuditAnswer:
    """What was changed and refused in the project, newest first."""
    limit = call.limit()
    found = await services.trail.entries(
        call.caller, _audit_filter(call), before=call.after(int), limit=limit
    )
    return AuditAnswer(items=found, next=cursor(found[-1].id) if len(found) == limit else None)


def _audit_filter(call: ApiCall) -> AuditFilter:
    query = call.query
    return AuditFilter(
        kind=query.choice("kind", ("change", "refusal")),
        action=query.text("action", longest=128),
        outcome=query.text("outcome", longest=64),
        user=query.text("user", longest=256),
        source=query.text("source", longest=64),
        request_id=query.text("request_id", longest=64),
        target_type=query.text("target_type", longest=64),
        target_name=query.text("target_name", longest=256),
        since=call.moment("since"),
        until=call.moment("until"),
    )
