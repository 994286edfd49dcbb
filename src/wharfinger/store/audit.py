"""The audit: who decided what, and with which effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from wharfinger.domain.model import Caller
from wharfinger.store.database import Connection
from wharfinger.store.named_sql import queries

_SQL = queries("held")


async def record(
    tx: Connection,
    caller: Caller,
    action: str,
    *,
    target: str,
    outcome: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry in the transaction of what it tells of: both happen, or neither."""
    await tx.execute(
        _SQL["audit"],
        {
            "project": caller.project_id,
            "principal": caller.principal,
            "action": action,
            "target": target,
            "outcome": outcome,
            "details": Jsonb(dict(details or {})),
        },
    )
