"""The page of the audit: who changed what, and which calls were refused."""

from __future__ import annotations

import datetime as dt
from urllib.parse import urlencode

import msgspec
from litestar import Response, get

from wharfinger.domain.audit import AuditEntry, AuditFilter
from wharfinger.domain.errors import InvalidParameterError
from wharfinger.http.parameters import MAX_INT64, Parameters
from wharfinger.http.services import TheServices
from wharfinger.http.ui.pages import page
from wharfinger.http.ui.visit import TheVisit, Visit
from wharfinger.http.ui.words import Words

HERE = "/console/settings/audit"
KINDS = ("change", "refusal")
# The texts that entries are chosen by, with what fits into each.
TEXTS = {
    "user": 256,
    "action": 128,
    "target_type": 64,
    "target_name": 256,
    "outcome": 64,
    "source": 64,
    "request_id": 64,
}
TIMES = ("since", "until")
FILTERS = ("kind", *TEXTS, *TIMES)
_ENTRIES = 50


@get("/settings/audit", action="wharfinger:audit:list")
async def list_audit(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show what was changed and refused, the newest first."""
    query = visit.query.without_blanks()
    found: list[AuditEntry] = []
    problem: InvalidParameterError | None = None
    try:
        before = query.integer("before", smallest=0, largest=MAX_INT64)
        wanted = _wanted(visit, query)
        found = await services.trail.entries(visit.caller, wanted, before=before, limit=_ENTRIES)
    except InvalidParameterError as error:
        problem = error
    kept = [(name, value) for name, value in query.pairs() if name in FILTERS]
    more = [("before", str(found[-1].id))] if len(found) == _ENTRIES else []
    return page(
        visit,
        "audit.html",
        found=found,
        problem=problem,
        given=dict.fromkeys(FILTERS, "") | dict(kept) | _picked(visit, query),
        kinds=KINDS,
        texts=TEXTS,
        actions=_known(visit.words, "audit.action_"),
        types=_known(visit.words, "audit.type_"),
        told=_told,
        first=None if query.raw("before") is None else urlencode(kept),
        next=urlencode([*kept, *more]) if more else None,
    )


def _wanted(visit: Visit, query: Parameters) -> AuditFilter:
    texts = {name: query.text(name, longest=longest) for name, longest in TEXTS.items()}
    return AuditFilter(
        kind=query.choice("kind", KINDS),
        since=_time(visit, query, "since"),
        until=_time(visit, query, "until"),
        **texts,
    )


def _time(visit: Visit, query: Parameters, name: str) -> dt.datetime | None:
    text = query.raw(name)
    return None if text is None else visit.moment(name, text)


def _picked(visit: Visit, query: Parameters) -> dict[str, str]:
    """The times as the form's fields take them; what is no time is left out."""
    found = {}
    for name in TIMES:
        try:
            moment = _time(visit, query, name)
        except InvalidParameterError:
            moment = None
        found[name] = "" if moment is None else visit.picked(moment)
    return found


def _known(words: Words, beginning: str) -> dict[str, str]:
    """What there are words for, by name; a key has no dot in a name."""
    found = {key.removeprefix(beginning): words(key) for key in words.keys(beginning)}
    return {name.replace("__", "."): text for name, text in found.items()}


def _told(value: object) -> str:
    """A detail as text: what is no text as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
