"""Names for a shell that completes a command: what a database that is up already says at once."""

from __future__ import annotations

from pathlib import Path

import psycopg

from wharfinger.store.cluster import APP, Layout, is_free
from wharfinger.store.database import connection_options

# Somebody has pressed a key and waits; nothing is better than something late.
_CONNECT_S, _ANSWER_MS = 1, 1000
_MOST = 200


def running_database(data_dir: Path) -> str | None:
    """The embedded database of a data directory, if it is up; neither starts nor makes anything."""
    layout = Layout(data_dir.absolute() / "postgresql")
    state = layout.read_state()
    if state is None or state.phase != "ready" or is_free(layout.keeper_lock):
        return None
    return layout.dsn(APP, socket=state.socket)


def project_ids(address: str) -> list[str]:
    """The ids of all projects."""
    return _column(address, "SELECT id FROM list_projects() ORDER BY id LIMIT %(most)s", "")


def registry_names(address: str, project_id: str) -> list[str]:
    """The names of a project's registries."""
    query = "SELECT name FROM registry WHERE removed_at IS NULL ORDER BY name LIMIT %(most)s"
    return _column(address, query, project_id)


def _column(address: str, query: str, project_id: str) -> list[str]:
    options = f"{connection_options(address)} -c statement_timeout={_ANSWER_MS}"
    try:
        with psycopg.connect(address, connect_timeout=_CONNECT_S, options=options) as connection:
            connection.execute("SELECT set_config('wharfinger.tenant', %s, true)", (project_id,))
            rows = connection.execute(query.encode(), {"most": _MOST}).fetchall()
    except psycopg.Error:
        return []
    return [str(row[0]) for row in rows]
