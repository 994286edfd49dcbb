"""The commands of history, run over rows written by SQL."""

from __future__ import annotations

import datetime as dt
import json
import os
import pwd
import uuid

import pytest
from typer.testing import CliRunner

from rows import AT, Rows
from wharfinger.cli import app
from wharfinger.store.sealing import Sealer

RUN = str(uuid.uuid4())


@pytest.fixture
def rows(owner_connection) -> Rows:
    """One image that was added (1), moved (2); another that was added (3) and retired (4)."""
    owner_connection.execute("INSERT INTO project VALUES ('p', 'p')")
    owner_connection.execute("INSERT INTO tenant_feed VALUES ('p', 4)")
    rows = Rows("p", owner_connection)
    registry = rows.registry(created_at=AT - dt.timedelta(days=9))
    repository = rows.repository(registry)
    moved = rows.image(registry, repository, "v1", digest="d2")
    gone = rows.image(registry, repository, "v2", digest="d3", retired_at=AT)
    events = [
        ("added", moved, None, "d1"),
        ("moved", moved, "d1", "d2"),
        ("added", gone, None, "d3"),
        ("retired", gone, "d3", None),
    ]
    for seq, (kind, image, before, after) in enumerate(events, 1):
        owner_connection.execute(
            "INSERT INTO event VALUES ('p', %s, %s, %s, %s, %s, %s, 't', %s, %s, %s)",
            (seq, kind, image, repository, registry, RUN, before, after, day(seq)),
        )
    for image, start, end, digest in [
        (moved, 1, 2, "d1"),
        (moved, 2, None, "d2"),
        (gone, 3, 4, "d3"),
    ]:
        owner_connection.execute(
            "INSERT INTO image_version (image_id, project_id, from_seq, to_seq, digest,"
            " config_digest, size, updated_at, run_id)"
            " VALUES (%s, 'p', %s, %s, %s, 'c', 1, %s, %s)",
            (image, start, end, digest, AT, RUN),
        )
    return rows


@pytest.fixture
def run(rows, database_address, tmp_path):
    # A database in use has a key somewhere; a command without one refuses to make another.
    Sealer.from_file(tmp_path / "secret.key")
    environment = {
        "WHARFINGER_DATA_DIR": str(tmp_path),
        "WHARFINGER_DATABASE_URL": database_address.owner,
        "WHARFINGER_DATABASE_APP_URL": database_address.app,
    }

    def run(*words):
        return CliRunner().invoke(app, [*words, "--project", "p"], env=environment)

    return run


def day(number) -> dt.datetime:
    return AT - dt.timedelta(days=5 - number)


def test_changes_are_listed_after_a_number(run):
    done = run("changes", "--after", "2", "--format", "ndjson")

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(c["seq"], c["kind"], c["digest_after"]) for c in lines] == [
        (3, "added", "d3"),
        (4, "retired", None),
    ]


def test_changes_that_are_followed_have_no_closing_bracket(run):
    assert run("changes", "--follow", "--json").exit_code == 2


def test_images_are_listed_as_of_a_time(run):
    at = f"{day(3):%Y-%m-%dT%H:%M:%S.%fZ}"

    done = run("images", "--at", at, "--format", "ndjson")

    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(i["tag"], i["digest"], i["latest"]) for i in found] == [
        ("v1", "d2", None),
        ("v2", "d3", None),
    ]
    assert run("images", "--at", "yesterday").exit_code == 2


def test_the_life_of_a_tag_is_told(run):
    words = ("--registry", "swr", "--repository", "team/app", "--tag", "v1", "--json")

    done = run("image", "history", *words)

    versions = json.loads(done.stdout)["versions"]
    assert [(v["digest"], v["how"], v["ended_by"]) for v in versions] == [
        ("d1", "added", "moved"),
        ("d2", "moved", None),
    ]
    assert run("image", "history").exit_code == 2


def test_held_images_are_listed_and_accepted(run, rows):
    rows.sql.execute("UPDATE image SET held_at = now() WHERE tag = 'v1'")

    held = json.loads(run("registry", "held", "--name", "swr", "--json").stdout)
    vague = run("registry", "accept", "--name", "swr")
    accepted = run("registry", "accept", "--name", "swr", "--all", "--json")

    assert [h["tag"] for h in held] == ["v1"]
    assert vague.exit_code == 2
    assert json.loads(accepted.stdout) == {"name": "swr", "retired": 1}
    (who,) = rows.sql.execute("SELECT principal, source FROM audit").fetchall()
    user = pwd.getpwuid(os.getuid()).pw_name
    assert who == (f"operating-system user {user}", "command line")


def test_a_purge_asks_for_a_yes_and_for_a_removed_registry(run, rows):
    assert run("registry", "purge", "--name", "swr").exit_code == 2
    assert run("registry", "purge", "--name", "swr", "--yes").exit_code == 1

    run("registry", "remove", "--name", "swr")
    done = run("registry", "purge", "--name", "swr", "--yes", "--json")

    assert json.loads(done.stdout) == {"name": "swr", "purged": 2}
    actions = rows.sql.execute("SELECT action FROM audit ORDER BY id").fetchall()
    assert actions == [("registry.remove",), ("registry.purge",)]


def test_pruning_says_how_much_was_forgotten(run, rows):
    rows.sql.execute("UPDATE event SET at = at - interval '500 days' WHERE seq <= 2")

    done = run("history", "prune", "--json")

    assert json.loads(done.stdout) == {"forgotten": 2}
    assert run("changes", "--after", "1").exit_code == 1


def test_a_list_older_than_its_limit_is_called_stale(run, rows):
    rows.sql.execute("UPDATE registry SET stale_after = '1 second'")

    found = json.loads(run("registry", "list", "--json").stdout)

    assert [r["verdict"] for r in found] == ["stale"]
