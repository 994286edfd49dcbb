"""The audit: who decided what, from where, and with which effect."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from psycopg.types.json import Jsonb

from wharfinger.domain.audit import (
    AuditEntry,
    AuditFilter,
    Kind,
    RefusalCount,
    RefusalSample,
    Strangers,
)
from wharfinger.domain.model import Caller
from wharfinger.store.database import Connection, all_rows
from wharfinger.store.named_sql import queries

log = structlog.get_logger()

_SQL = queries("audit")

# What an entry may tell beyond who and what. Nothing that may be a secret stands here, so that
# one which is handed over by mistake is left out.
DETAILS = frozenset(
    {
        "account",
        "action",
        "address",
        "all",
        "count",
        "credential",
        "cron",
        "description",
        "disabled",
        "enterprise_project",
        "enterprise_project_id",
        "eps",
        "exclude",
        "expires_at",
        "forgotten",
        "full",
        "full_syncs",
        "grants",
        "granted",
        "hidden",
        "id",
        "images",
        "include",
        "key",
        "kind",
        "moved_from",
        "name",
        "names",
        "namespace",
        "options",
        "paused",
        "policy",
        "project",
        "reason",
        "region",
        "registries",
        "replaced_by",
        "repository",
        "resealed",
        "retired",
        "scope",
        "seen_at",
        "stale_after",
        "statements",
        "time_zone",
        "two_strikes",
        "user",
        "value",
    }
)
_LONGEST = 256
_MOST = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


async def record(
    tx: Connection,
    caller: Caller,
    action: str,
    *,
    target: str,
    outcome: str = "done",
    name: str = "",
    details: Mapping[str, Any] | None = None,
    kind: Kind = "change",
) -> None:
    """Write an entry in the transaction of what it tells of: both happen, or neither.

    It lies with the tenant of the transaction. Details that ``DETAILS`` does not name are left
    out.

    Args:
        tx: the transaction.
        caller: who asked for it, and from where.
        action: what was done, such as ``registry.remove``.
        target: a type and an id: ``registry 4f2c…``.
        outcome: ``done``, or the code of the error.
        name: what people call the target; ``details["name"]`` by default.
        details: what else there is to tell; never a secret.
        kind: whether it was done or refused.
    """
    told = dict(details or {})
    await tx.execute(
        _SQL["record"],
        {
            "kind": kind,
            "principal": plain(caller.principal),
            "user_id": plain(caller.user_id),
            "user_name": plain(caller.user_name),
            "access_key": plain(caller.access_key),
            "source": plain(caller.origin.source),
            "user_agent": plain(caller.origin.user_agent),
            "request_id": plain(caller.origin.request_id),
            "action": action,
            "target": plain(target),
            "name": plain(str(name or told.get("name") or "")),
            "outcome": outcome,
            "details": Jsonb(_whitelisted(action, told)),
        },
    )


def plain(text: str) -> str:
    """Text as it is kept: on one line, storable, and not too long."""
    return _CONTROL.sub("?", text)[:_LONGEST]


def _whitelisted(action: str, details: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(details.keys() - DETAILS):
        log.warning("audit.details_left_out", action=action, names=unknown)
    return {key: _kept(value) for key, value in details.items() if key in DETAILS}


def _kept(value: Any, depth: int = 3) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return plain(value)
    if depth and isinstance(value, Mapping):
        pairs = list(value.items())[:_MOST]
        return {plain(str(key)): _kept(one, depth - 1) for key, one in pairs}
    if depth and isinstance(value, Sequence):
        return [_kept(one, depth - 1) for one in list(value)[:_MOST]]
    # Times as JSON writes them; of nested values too deep to be of use, their type.
    return value.isoformat() if isinstance(value, dt.datetime) else type(value).__name__


# --- reading --------------------------------------------------------------------------------------


async def entries(
    tx: Connection,
    caller: Caller,
    wanted: AuditFilter,
    *,
    before: int | None = None,
    offset: int = 0,
    limit: int,
) -> list[AuditEntry]:
    """Entries that the caller may see, whose ids are below ``before``, newest first."""
    values = _values(caller, wanted, before)
    query = _SQL["list"] + "\n" + _SQL["matching"] + "\n" + _SQL["newest"]
    rows = await all_rows(tx, query, {**values, "offset": offset, "limit": limit})
    return [msgspec.convert(row, AuditEntry) for row in rows]


async def count(tx: Connection, caller: Caller, wanted: AuditFilter) -> int:
    """How many entries there are that the caller may see."""
    query = "SELECT count(*)\n" + _SQL["matching"]
    cursor = await tx.execute(query, _values(caller, wanted, None))
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


def _values(caller: Caller, wanted: AuditFilter, before: int | None) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(wanted),
        "project": caller.project_id,
        "enterprise_projects": list(caller.enterprise_projects),
        "everything": caller.sees_every_enterprise_project,
        "me": caller.user_id,
        "before": before,
    }


async def prune(tx: Connection, before: dt.datetime, *, most: int) -> int:
    """Forget the tenant's entries from before a moment; returns how many."""
    return await _pruned(tx, "prune", before, most)


async def prune_refusals(tx: Connection, before: dt.datetime, *, most: int) -> int:
    """Forget refused calls of nobody we know from before a moment; returns how many rows."""
    return await _pruned(tx, "prune_refusals", before, most)


async def _pruned(tx: Connection, query: str, before: dt.datetime, most: int) -> int:
    cursor = await tx.execute(_SQL[query], {"before": before, "most": most})
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


# --- calls of nobody we know ----------------------------------------------------------------------


async def count_refused(
    tx: Connection, *, minute: dt.datetime, reason: str, network: str, calls: int
) -> None:
    """Keep how many calls were refused in a minute, for one reason and from one network."""
    values = {"minute": minute, "reason": reason, "network": plain(network), "calls": calls}
    await tx.execute(_SQL["count_refused"], values)


async def sample_refused(tx: Connection, sample: RefusalSample) -> None:
    """Keep one of them; its time is that of the database."""
    values = msgspec.structs.asdict(sample)
    await tx.execute(
        _SQL["sample_refused"],
        {key: plain(value) for key, value in values.items() if isinstance(value, str)},
    )


async def strangers(tx: Connection, since: dt.datetime, *, limit: int) -> Strangers:
    """What was counted and sampled since a moment."""
    values = {"since": since, "limit": limit}
    counts = await all_rows(tx, _SQL["refusal_counts"], values)
    samples = await all_rows(tx, _SQL["refusal_samples"], values)
    return Strangers(
        counts=[RefusalCount(**row) for row in counts],
        samples=[RefusalSample(**row) for row in samples],
    )
