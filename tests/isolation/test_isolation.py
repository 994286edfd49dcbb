"""Nobody is ever told of another tenant's, or of enterprise projects that are not granted."""

from __future__ import annotations

import os
import random
import re

import pytest
import walls
from burglar import Burglar, LeakError

SEED = int(os.environ.get("ISOLATION_SEED") or random.SystemRandom().randrange(10**9))


@pytest.fixture
def queries(monkeypatch):
    return walls.Queries(monkeypatch)


async def test_no_answer_tells_of_what_its_caller_must_not_see(city, record_property):
    burglar = Burglar(city, SEED)

    await burglar.search_everything(600, people=10)

    assert burglar.never_opened == [], f"seed {SEED}: nobody got through, so they prove nothing"
    assert burglar.never_told == set(), f"seed {SEED}"
    record_property("figures", {"questions": burglar.asked, "doors": len(burglar.doors)})


async def test_row_level_security_alone_keeps_tenants_apart(city, queries):
    queries.rewrite = walls.without_tenant
    walls.forget_tenants_in_functions(city.sql)
    burglar = Burglar(city, SEED)

    await burglar.search_everything(240, people=4)

    assert burglar.never_opened == []
    assert len(queries.changed) > 20
    assert [query for query in queries.sent if walls.TENANT.search(query)] == []


async def test_predicates_alone_keep_tenants_apart(city):
    walls.take_down_row_level_security(city.sql)
    burglar = Burglar(city, SEED)

    await burglar.search_everything(240, people=4)

    assert burglar.never_opened == []


# --- planted leaks: the search itself must find what there is to find -----------------------------


def planted(mark, *changes):
    """Change the query that holds a mark, and no other."""

    def rewrite(query):
        if mark in query:
            for old, new in changes:
                query = query.replace(old, new)
        return query

    return rewrite


async def search_until_found(city):
    """Chance decides how soon; five times as long as the real search takes must be enough."""
    for round_ in range(10):
        await Burglar(city, SEED + round_).search_everything(200, people=10)


def as_owner(query):
    """Read round row-level security, if the query was changed at all."""
    owned = (("registry", "g"), ("repository", "r"), ("run", "r"), ("attachment", "a"))
    for table, alias in owned:
        query = re.sub(rf"\b{table} {alias}\b", f"every_{table}() {alias}", query)
    return query


OF_GRANTED = "g.enterprise_project_id = ANY(%(enterprise_projects)s)"
# What is planted: in which query, what is left out, and how it shows.
LIST = (
    "judged AS",
    (("g.project_id = %(project_id)s", "true"), (OF_GRANTED, "true")),
    "was told",
)
NUMBER = (
    "WITH page AS MATERIALIZED",
    (("c.project_id = %(project_id)s AND c.registry_id = ANY(%(registry_ids)s)", "true"),),
    "has changed the answer",
)
ATTACHED = (
    "JOIN attachment a",
    (
        ("a.project_id = %(project)s", "true"),
        ("a.repository_id = i.repository_id AND", ""),
        ("SELECT DISTINCT a.repository_id", "SELECT DISTINCT i.repository_id"),
    ),
    "was told|has changed the answer",
)
BY_ID = (
    "r.finished_seq, r.reasons",
    (("r.project_id = %(project)s", "true"), (OF_GRANTED, "true")),
    "was told|can tell",
)


@pytest.mark.parametrize("with_rls", [True, False], ids=["with RLS", "without RLS"])
@pytest.mark.parametrize(
    "leak",
    [LIST, NUMBER, BY_ID, ATTACHED],
    ids=["a list", "a number", "by id", "what belongs to an image"],
)
async def test_a_leaking_query_is_found(city, queries, leak, with_rls):
    mark, changes, shows = leak
    careless = planted(mark, *changes)
    if with_rls:
        # Row-level security would stop it, so it goes round by a function of the owner's.
        walls.let_everybody_read_as_the_owner(city.sql)
        queries.rewrite = lambda query: (
            query if careless(query) == query else as_owner(careless(query))
        )
    else:
        walls.take_down_row_level_security(city.sql)
        queries.rewrite = careless

    with pytest.raises(LeakError, match=shows):
        await search_until_found(city)

    assert queries.changed


@pytest.mark.parametrize(
    ("leak", "shows"),
    [
        (("v.artifact_type = ''", (OF_GRANTED, "true")), "was told"),
        (("FROM task_run t JOIN run r", (OF_GRANTED, "true")), "was told|changed the answer"),
        (
            (
                "SELECT id, name FROM registry",
                ("enterprise_project_id = ANY(%(enterprise_projects)s)", "true"),
            ),
            "was told|can tell registry_id",
        ),
    ],
    ids=["past images", "runs of a task", "a registry by id"],
)
async def test_an_enterprise_project_that_is_not_asked_for_is_found(city, queries, leak, shows):
    queries.rewrite = planted(*leak)

    with pytest.raises(LeakError, match=shows):
        await search_until_found(city)

    assert queries.changed
