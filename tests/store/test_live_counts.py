"""The counts that totals are taken from say what the repositories say, whoever wrote those."""

from __future__ import annotations

import pytest

from rows import Rows

SUMS = (
    "SELECT registry_id, namespace, sum(images) FROM live_count"
    " GROUP BY 1, 2 HAVING sum(images) <> 0 ORDER BY 1, 2"
)
REPOSITORIES = (
    "SELECT registry_id, namespace, sum(live_images) FROM repository"
    " GROUP BY 1, 2 HAVING sum(live_images) <> 0 ORDER BY 1, 2"
)


@pytest.fixture
def rows(owner_connection):
    owner_connection.execute("INSERT INTO project (id, name) VALUES ('mine', 'mine')")
    return Rows("mine", owner_connection)


@pytest.fixture
def registry(rows):
    """One with 150 repositories in three namespaces, each counted by a statement of its own."""
    registry = rows.registry()
    for n in range(150):
        rows.repository(registry, f"team-{n % 3}", f"app-{n}", live_images=n)
    return registry


def test_they_follow_every_change(owner_connection, rows, registry):
    rows.repository(rows.registry("other"), live_images=5)
    owner_connection.execute("UPDATE repository SET live_images = 7 WHERE name LIKE 'app-1%'")
    owner_connection.execute("UPDATE repository SET owner = 'somebody'")
    owner_connection.execute("DELETE FROM repository WHERE namespace = 'team-2'")

    counted = owner_connection.execute(REPOSITORIES).fetchall()
    assert owner_connection.execute(SUMS).fetchall() == counted
    assert len(counted) == 3


def test_many_become_one_by_namespace(owner_connection, registry):
    before = owner_connection.execute(SUMS).fetchall()

    owner_connection.execute("SELECT fold_live_counts(%s)", (registry,))

    assert owner_connection.execute(SUMS).fetchall() == before
    assert owner_connection.execute("SELECT count(*) FROM live_count").fetchone() == (3,)


def test_what_changed_nothing_writes_nothing(owner_connection, registry):
    before = owner_connection.execute("SELECT count(*) FROM live_count").fetchone()

    owner_connection.execute("UPDATE repository SET live_images = live_images, owner = 'x'")

    assert owner_connection.execute("SELECT count(*) FROM live_count").fetchone() == before
