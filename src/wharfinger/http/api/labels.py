"""Labels over our own API."""

from __future__ import annotations

import msgspec
from litestar import delete, get, put
from litestar.params import FromPath

from wharfinger.domain.labels import Label, Place
from wharfinger.http.api.call import ApiCall, TheApiCall
from wharfinger.http.api.wire import ListAnswer
from wharfinger.http.hss.call import read_body
from wharfinger.http.services import TheServices


class LabelBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A label's value, and where in the registry it is put; all of it without ``namespace``."""

    value: str
    namespace: str | None = None
    repository: str | None = None


@get("/labels", action="wharfinger:labels:list")
async def list_labels(call: TheApiCall, services: TheServices) -> ListAnswer[Label]:
    """Every label, where it was put."""
    worth = await services.history.registries(call.caller)
    found = await services.labels.list(call.caller)
    return ListAnswer(items=found, next=None, as_of=worth.as_of, verdict=worth.verdict)


@put(
    "/registries/{registry_id:str}/labels/{key:str}",
    status_code=204,
    action="wharfinger:labels:set",
)
async def set_label(
    call: TheApiCall, services: TheServices, registry_id: FromPath[str], key: FromPath[str]
) -> None:
    """Put a label on a registry, a namespace of it, or a repository."""
    body = read_body(call.body, LabelBody)
    place = Place(registry=registry_id, namespace=body.namespace, repository=body.repository)
    await services.labels.put(call.caller, place, key, body.value)


@delete(
    "/registries/{registry_id:str}/labels/{key:str}",
    status_code=204,
    action="wharfinger:labels:set",
)
async def remove_label(
    call: TheApiCall, services: TheServices, registry_id: FromPath[str], key: FromPath[str]
) -> None:
    """Take a label away from where it was put."""
    await services.labels.remove(call.caller, _place(call, registry_id), key)


def _place(call: ApiCall, registry_id: str) -> Place:
    return Place(
        registry=registry_id,
        namespace=call.query.text("namespace", longest=255, shortest=0),
        repository=call.query.text("repository", longest=255),
    )
