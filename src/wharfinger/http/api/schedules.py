"""When registries are read without anybody asking, over our own API."""

from __future__ import annotations

from litestar import get, put
from litestar.params import FromPath

from wharfinger.domain.schedule import Schedule, ScheduleChange
from wharfinger.http.api.call import TheApiCall
from wharfinger.http.api.wire import ListAnswer
from wharfinger.http.hss.call import read_body
from wharfinger.http.services import TheServices


@get("/schedules", action="wharfinger:schedules:list")
async def list_schedules(call: TheApiCall, services: TheServices) -> ListAnswer[Schedule]:
    """Every registry's schedule, and when it is due next."""
    worth = await services.history.registries(call.caller)
    found = await services.schedules.list(call.caller)
    return ListAnswer(items=found, next=None, as_of=worth.as_of, verdict=worth.verdict)


@put("/registries/{registry_id:str}/schedule", action="wharfinger:schedules:set")
async def set_schedule(
    call: TheApiCall, services: TheServices, registry_id: FromPath[str]
) -> Schedule:
    """Change when a registry is read, pause that, or resume it; the rest stays as it is."""
    change = read_body(call.body, ScheduleChange)
    return await services.schedules.change(call.caller, registry_id, change)
