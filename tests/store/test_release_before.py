"""The release before works on while this one's first phase of migrations is applied.

Whoever makes a release moves ``COMMIT`` and ``NEWEST`` to it. What its code is shown to do needs
the history of the repository; where that is not at hand, as in a shallow clone or a source
archive, there remains what can be said of the schema alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import psycopg
import pytest

from wharfinger.store import migrate as module
from wharfinger.store.database import connection_options
from wharfinger.store.migrate import Migration, migrate, migrations
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream

ROOT = Path(__file__).parents[2]
COMMIT, NEWEST = "5f573b3", "0012_pre_labels"

COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable = 'YES' OR column_default IS NOT NULL
    OR is_identity = 'YES' OR is_generated <> 'NEVER'
FROM information_schema.columns WHERE table_schema = 'wharfinger'
"""
FUNCTIONS = """
SELECT p.proname, pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid)
FROM pg_proc p WHERE p.pronamespace = 'wharfinger'::regnamespace
"""
GRANTS = """
SELECT table_name, privilege_type FROM information_schema.role_table_grants
WHERE table_schema = 'wharfinger' AND grantee = 'wharfinger_app'
"""


class Schema:
    """What code of a release relies on."""

    def __init__(self, owner: str) -> None:
        with psycopg.connect(owner, options=connection_options(owner)) as connection:
            rows = connection.execute(COLUMNS).fetchall()
            self.optional = {(table, column): optional for table, column, _, optional in rows}
            self.columns = {row[:3] for row in rows}
            self.functions = set(connection.execute(FUNCTIONS).fetchall())
            self.grants = set(connection.execute(GRANTS).fetchall())
        self.tables = {table for table, _ in self.optional}

    def hindrances(self, later: Schema) -> list[str]:
        """What of this schema's release a later schema would break."""
        gone = [
            *(f"column {'.'.join(one)}" for one in self.columns - later.columns),
            *(f"function {name}({arguments})" for name, arguments, _ in self.missing(later)),
            *(f"grant {' '.join(one)}" for one in self.grants - later.grants),
        ]
        needed = [
            f"column {table}.{column} must be filled in"
            for (table, column), optional in later.optional.items()
            if table in self.tables and (table, column) not in self.optional and not optional
        ]
        return sorted(gone + needed)

    def missing(self, later: Schema) -> set[tuple[str, str, str]]:
        return self.functions - later.functions


@pytest.fixture
def upgraded(empty_database_address, monkeypatch):
    """Migrates as the release before would, then this one's first phase with further files."""

    def upgrade(*further: Migration) -> tuple[Schema, Schema]:
        ours = migrations()
        before = [step for step in ours if step.name <= NEWEST]
        monkeypatch.setattr(module, "migrations", lambda: before)
        migrate(empty_database_address.owner)
        schema = Schema(empty_database_address.owner)
        monkeypatch.setattr(module, "migrations", lambda: [*ours, *further])
        migrate(empty_database_address.owner, "pre")
        return schema, Schema(empty_database_address.owner)

    return upgrade


def test_the_first_phase_takes_nothing_away(upgraded):
    before, after = upgraded()

    assert len(before.columns) > 100
    assert before.hindrances(after) == []


@pytest.mark.parametrize(
    ("text", "hindrance"),
    [
        ("ALTER TABLE image DROP COLUMN size", "column image.size.bigint"),
        ("ALTER TABLE image ADD COLUMN c text NOT NULL", "column image.c must be filled in"),
        ("REVOKE UPDATE ON unit FROM wharfinger_app", "grant unit UPDATE"),
    ],
)
def test_a_migration_that_takes_something_away_is_noticed(upgraded, text, hindrance):
    before, after = upgraded(Migration("9999_pre_careless", text))

    assert before.hindrances(after) == [hindrance]


# --- its own code --------------------------------------------------------------------------------


def archive() -> bytes | None:
    """The sources of the release before, if the history is at hand."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return None
    done = subprocess.run(
        [git, "-C", ROOT, "archive", COMMIT, "src"], capture_output=True, check=False
    )
    return done.stdout if done.returncode == 0 else None


RELEASE_BEFORE = archive()

if RELEASE_BEFORE is not None:

    def test_the_code_of_the_release_before_does_its_main_job_on_it(
        upgraded, empty_database_address, tmp_path
    ):
        """And its processes may be started, too: one that crashes meanwhile has to come back."""
        (tmp_path / "release.tar").write_bytes(RELEASE_BEFORE)
        with tarfile.open(tmp_path / "release.tar") as sources:
            sources.extractall(tmp_path, filter="data")
        more = "ALTER TABLE image ADD COLUMN more text; CREATE TABLE more (id bigint)"
        before, after = upgraded(Migration("9999_pre_more", more))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHARFINGER_", "PG"))}
        environment = {
            **kept,
            "PYTHONPATH": str(tmp_path / "src"),
            "WHARFINGER_DATABASE_URL": empty_database_address.owner,
            "WHARFINGER_DATABASE_APP_URL": empty_database_address.app,
            "WHARFINGER_DATA_DIR": str(tmp_path / "data"),
        }

        def released(*arguments, stdin=""):
            done = subprocess.run(
                [sys.executable, "-m", "wharfinger", *arguments],
                env=environment,
                cwd=tmp_path,
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        with Upstream(made_up_world(5, 4)).running_in_thread() as upstream:
            released("project", "create", "acme", "--id", "acme")
            released(
                *("registry", "add", "--project", "acme", "--name", "swr", "--kind", "SwrPrivate"),
                *("--address", upstream.url, "--access-key", upstream.key.access_key),
                "--secret-key-stdin",
                stdin=upstream.key.secret_key,
            )
            released("sync", "--project", "acme")
            upstream.world.push("bench-00/service-00000", "v2.0")
            released("sync", "--project", "acme")
            listed = json.loads(released("images", "--project", "acme", "--json"))

        assert len(listed) == 5 * 4 + 1
        assert after.columns > before.columns
