"""Takes down one wall between tenants at a time: predicates of queries, or row-level security."""

from __future__ import annotations

import re
from collections.abc import Callable

import psycopg

TENANT = re.compile(r"\b(?:\w+\.)?project_id\s*=\s*%\((?:project|project_id|account)\)s")
ENTERPRISE_PROJECT = re.compile(
    r"\b(?:\w+\.)?enterprise_project_id\s*=\s*ANY\(%\(enterprise_projects\)s\)"
)


class Queries:
    """Every query that the application sends, and what is made of it on its way."""

    def __init__(self, monkeypatch) -> None:
        self.sent: set[str] = set()
        self.changed: set[str] = set()
        self.rewrite: Callable[[str], str] = lambda query: query
        execute = psycopg.AsyncCursor.execute

        async def rewritten(cursor, query, params=None, **options):
            text = query if isinstance(query, str) else query.as_string(None)
            made = self.rewrite(text)
            self.sent.add(made)
            if made != text:
                self.changed.add(text)
            return await execute(cursor, made, params, **options)

        monkeypatch.setattr(psycopg.AsyncCursor, "execute", rewritten)


def without_tenant(query: str) -> str:
    """The query as if nobody had thought of tenants."""
    return TENANT.sub("true", query)


def forget_tenants_in_functions(sql: psycopg.Connection) -> None:
    """The same for the one function that finds rows of a list by itself, as their owner."""
    (text,) = sql.execute("SELECT pg_get_functiondef('search_repositories'::regproc)").fetchone()
    assert "r.project_id = tenant()" in text.replace("wharfinger.", "")
    sql.execute(re.sub(r"r\.project_id = (wharfinger\.)?tenant\(\)", "true", text))


def take_down_row_level_security(sql: psycopg.Connection) -> None:
    """Leave the predicates alone to keep tenants apart."""
    tables = sql.execute(
        "SELECT c.oid::regclass::text FROM pg_class c"
        " WHERE c.relnamespace = 'wharfinger'::regnamespace AND c.relrowsecurity"
    ).fetchall()
    assert len(tables) > 15
    for (table,) in tables:
        sql.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")


def let_everybody_read_as_the_owner(sql: psycopg.Connection) -> None:
    """Functions that go round row-level security, as a careless one would."""
    for table in ("registry", "repository", "run", "attachment"):
        sql.execute(
            f"CREATE FUNCTION every_{table}() RETURNS SETOF {table}"
            f" LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT * FROM wharfinger.{table}'"
        )
