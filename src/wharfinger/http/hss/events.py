"""The audit in the shape of HSS: ``container/image/events``."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from litestar import Response, get

from wharfinger.domain.audit import AuditEntry, AuditFilter
from wharfinger.http.hss.call import TheCall
from wharfinger.http.hss.tasks import milliseconds
from wharfinger.http.hss.wire import ImageEvent, ImageEvents
from wharfinger.http.parameters import Parameters
from wharfinger.http.services import TheServices

_MAX_TIME = 4070880000000


@get("/v5/{project_id:str}/container/image/events", action="wharfinger:audit:list")
async def list_container_image_logs(call: TheCall, services: TheServices) -> Response[ImageEvents]:
    """Answer ``ListContainerImageLogs``, newest first."""
    query = call.query
    wanted = AuditFilter(
        kind=query.text("event_type", longest=64),
        action=query.text("event_name", longest=128),
        user=query.text("user_name", longest=256),
        source=query.text("source_ip", longest=64),
        target_type=query.text("resource_type", longest=64),
        target_name=query.text("resource_name", longest=256),
        since=_time(query, "start_time"),
        until=_time(query, "end_time"),
    )
    offset, limit = call.window(smallest_limit=1)
    total, found = await services.trail.page(call.caller, wanted, offset=offset, limit=limit)
    return Response(ImageEvents(total_num=total, data_list=[_event(entry) for entry in found]))


def _time(query: Parameters, name: str) -> dt.datetime | None:
    ms = query.integer(name, smallest=0, largest=_MAX_TIME)
    if ms is None:
        return None
    # What is told in milliseconds was cut there: the last one belongs to it as a whole.
    rest = dt.timedelta(microseconds=999) if name == "end_time" else dt.timedelta()
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC) + rest


def _event(entry: AuditEntry) -> ImageEvent:
    return ImageEvent(
        resource_name=entry.target_name or entry.target.partition(" ")[2],
        resource_type=entry.target_type,
        event_name=entry.action,
        event_id=str(entry.id),
        event_type=entry.kind,
        source_ip=entry.source,
        user_name=entry.user_name or entry.principal,
        time=milliseconds(entry.at),
        content=_content(entry),
    )


def _content(entry: AuditEntry) -> str:
    """The rest, as JSON: the fields have no place of their own in HSS."""
    rest: dict[str, Any] = {
        "outcome": entry.outcome,
        "target": entry.target,
        "principal": entry.principal,
        "user_id": entry.user_id,
        "access_key": entry.access_key,
        "user_agent": entry.user_agent,
        "request_id": entry.request_id,
        "details": entry.details,
    }
    return msgspec.json.encode({key: value for key, value in rest.items() if value}).decode()
