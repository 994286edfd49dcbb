"""What stands in the way of an upgrade is told before it begins."""

from __future__ import annotations

import psycopg
import pytest

from wharfinger.store import fitness
from wharfinger.store.migrate import migrations
from wharfinger.store.sealing import Sealer


def told(database_address):
    return {one.check: one for one in fitness.check_database(database_address.owner)}


def test_a_database_of_this_version_has_nothing_against_it(database_address):
    checks = told(database_address)

    assert {one.grade for one in checks.values()} == {"ok"}, checks
    assert list(checks) == ["server", "migrations", "transactions", "extensions", "workers"]


def test_missing_migrations_are_named_with_the_way_to_apply_them(
    database_address, owner_connection
):
    last = migrations()[-1].name
    owner_connection.execute("DELETE FROM schema_migration WHERE name = %s", (last,))

    check = told(database_address)["migrations"]

    assert check.grade == "warn"
    assert last in check.message
    assert "wharfinger migrate --phase pre" in check.advice


def test_a_newer_database_is_no_good(database_address, owner_connection):
    owner_connection.execute("INSERT INTO schema_migration VALUES ('9999_post_next.sql', '0')")

    check = told(database_address)["migrations"]

    assert (check.grade, "9999_post_next.sql" in check.message) == ("fail", True)


def test_an_empty_database_waits_for_its_migrations(empty_database_address):
    checks = told(empty_database_address)

    assert checks["migrations"].grade == "warn"
    assert checks["extensions"].grade == "warn"
    assert checks["workers"].grade == "ok"


def test_long_transactions_and_workers_at_work_are_warned_of(
    database_address, owner_connection, monkeypatch
):
    monkeypatch.setattr(fitness, "LONG_TRANSACTION_S", 0)
    owner_connection.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")

    with psycopg.connect(database_address.owner) as other:
        other.execute("SELECT 1")
        checks = told(database_address)

    assert "1 open for more than five minutes" in checks["transactions"].message
    assert (checks["transactions"].grade, checks["workers"].grade) == ("warn", "warn")


def test_a_file_without_a_key_in_use_is_found(database_address, owner_connection, tmp_path):
    ours, other = Sealer.from_file(tmp_path / "ours"), Sealer.from_file(tmp_path / "other")
    owner_connection.execute("INSERT INTO project VALUES ('acme', 'acme')")
    owner_connection.execute(
        "INSERT INTO registry (project_id, name, kind, address, credential_sealed)"
        " VALUES ('acme', 'r', 'Other', 'https://r.example', %s)",
        (ours.seal("secret", context=b"x"),),
    )

    good = fitness.check_keys(database_address.owner, tmp_path / "ours")
    bad = fitness.check_keys(database_address.owner, tmp_path / "other")
    none = fitness.check_keys(database_address.owner, tmp_path / "none")

    assert (good.grade, bad.grade, none.grade) == ("ok", "fail", "fail")
    assert ours.newest in bad.message
    assert other.newest not in bad.message


@pytest.mark.parametrize(("major", "grade"), [("18", "ok"), ("9", "fail")])
def test_a_data_directory_needs_binaries_of_its_own_version(tmp_path, major, grade):
    data = tmp_path / "postgresql" / "server" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text(major)

    check = fitness.check_binaries(tmp_path, None)

    assert check.grade == grade
    assert ("restore with the new ones" in check.advice) == (grade == "fail")


@pytest.mark.parametrize(("share", "grade"), [(3, "ok"), (1, "warn"), (0, "fail")])
def test_room_on_the_disk_is_measured_by_the_database(
    database_address, tmp_path, monkeypatch, share, grade
):
    with psycopg.connect(database_address.owner) as connection:
        size = connection.execute("SELECT pg_database_size(current_database())").fetchone()[0]
    usage = fitness.shutil.disk_usage(tmp_path)._replace(free=share * size)
    monkeypatch.setattr(fitness.shutil, "disk_usage", lambda _: usage)

    assert fitness.check_disk(database_address.owner, tmp_path).grade == grade
