"""A database comes back as it was, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
import zipfile

import psycopg
import pytest
from psycopg import sql

from wharfinger.domain.errors import SetupError
from wharfinger.domain.webhooks import NewWebhook
from wharfinger.settings import read_settings
from wharfinger.store import archive
from wharfinger.store.archive import back_up, restore
from wharfinger.store.database import connection_options
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream
from wharfinger.wiring import back_up_database, open_house, restore_database
from yard import Yard


def connected(address):
    return psycopg.connect(
        address.owner, autocommit=True, options=connection_options(address.owner)
    )


def everything(connection):
    """Every row of every table of ours, and where every sequence stands."""
    tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'wharfinger'::regnamespace"
        " AND relkind = 'r' AND relname NOT LIKE 'procrastinate%' AND relname <> 'schema_migration'"
    ).fetchall()
    found = {}
    for (table,) in tables:
        query = sql.SQL("SELECT to_jsonb(t)::text FROM {} t").format(sql.Identifier(table))
        found[table] = sorted(row[0] for row in connection.execute(query).fetchall())
    found["sequences"] = connection.execute(
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'wharfinger'"
        " AND sequencename NOT LIKE 'procrastinate%' ORDER BY 1"
    ).fetchall()
    return found


def guards(connection):
    """What keeps the rows good and apart."""
    keys = connection.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated"
        " FROM pg_constraint WHERE connamespace = 'wharfinger'::regnamespace ORDER BY 1, 2"
    )
    walls = connection.execute(
        "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class"
        " WHERE relnamespace = 'wharfinger'::regnamespace AND relkind = 'r' ORDER BY 1"
    )
    triggers = connection.execute(
        "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger"
        " WHERE NOT tgisinternal ORDER BY 1, 2"
    )
    return [found.fetchall() for found in (keys, walls, triggers)]


async def test_every_table_comes_back_as_it_was(
    yard, upstream, database_address, empty_database_address
):
    await yard.add_swr(upstream)
    await yard.sync()
    await yard.house.webhooks.add(yard.caller, NewWebhook(name="x", url="https://h.example/"))
    await yard.house.callers.create_credential(yard.caller.project_id)
    file = io.BytesIO()

    manifest = back_up(database_address.owner, file)
    before, guarded = everything(yard.owner), guards(yard.owner)
    restore(empty_database_address.owner, file)

    with connected(empty_database_address) as connection:
        after = everything(connection)
        assert guards(connection) == guarded
    for table, rows in before.items():
        assert after[table] == rows, table
    assert manifest.rows == sum(map(len, before.values())) - len(before["sequences"])
    assert len(before["image"]) == 60
    assert len([table for table, rows in before.items() if rows]) > 12


@pytest.fixture
async def large():
    """An SWR of more repositories than are read in one go."""
    async with Upstream(made_up_world(200, 2)) as running:
        running.world.clock.follow_real_time()
        yield running


@pytest.fixture
def lingering(database_address, monkeypatch):
    """Let the sync publish more while the backup is between two tables."""
    write = archive._write_table

    def linger(connection, file, name, columns):
        done = write(connection, file, name, columns)
        if name == "event":
            with connected(database_address) as other:
                count = "SELECT count(*) FROM event"
                deadline = time.monotonic() + 20
                while other.execute(count).fetchone()[0] == done.rows:
                    assert time.monotonic() < deadline, "the sync does not go on"
                    time.sleep(0.02)
        return done

    monkeypatch.setattr(archive, "_write_table", linger)


@pytest.mark.usefixtures("lingering")
async def test_a_backup_taken_while_a_sync_runs_is_of_one_moment(
    yard, large, database_address, empty_database_address, tmp_path
):
    upstream = large
    upstream.faults.delay(r"/tags\?", 0.3)
    await yard.add_swr(upstream)
    task = await yard.house.synchroniser.synchronise_names(yard.caller, (), full=False)
    while not yard.value("SELECT count(*) FROM image"):
        await asyncio.sleep(0.01)
    file = io.BytesIO()

    await asyncio.to_thread(back_up, database_address.owner, file)
    upstream.faults.clear()
    await yard.ended(task)
    await asyncio.to_thread(restore, empty_database_address.owner, file)

    with connected(empty_database_address) as connection:
        restored = Yard(yard.house, connection)
        assert restored.value("SELECT state FROM run") == "running"
        numbers = [row[0] for row in connection.execute("SELECT seq FROM event ORDER BY 1")]
        assert numbers == list(range(1, restored.value("SELECT seq FROM tenant_feed") + 1))
        assert len(numbers) == len(restored.stored()) < 400
        settings = read_settings(environment={"WHARFINGER_DATA_DIR": str(tmp_path)})
        # What was under way goes on, though no job of it was kept.
        async with (
            open_house(settings, empty_database_address) as house,
            house.worker(schedules=False) as worker,
        ):
            running = asyncio.create_task(worker.run())
            restored = Yard(house, connection)
            await restored.quiet(within_s=40)
            worker.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        assert restored.stored() == upstream.world.images()


# --- what is refused ------------------------------------------------------------------------------


@pytest.fixture
def kept(database_address, owner_connection):
    """A backup of a database with one project."""
    owner_connection.execute("INSERT INTO project VALUES ('acme', 'acme')")
    file = io.BytesIO()
    back_up(database_address.owner, file)
    return file


def changed(file, name, change):
    """The same archive with another content of one entry."""
    made = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            new.writestr(entry, change(content) if entry == name else content)
    return made


def projects(address):
    with psycopg.connect(address.owner) as connection:
        (is_there,) = connection.execute("SELECT to_regclass('wharfinger.project')").fetchone()
        if not is_there:
            return 0
        return connection.execute("SELECT count(*) FROM wharfinger.project").fetchone()[0]


def test_a_database_in_use_is_not_written_over(database_address, kept):
    with pytest.raises(SetupError, match="has projects already"):
        restore(database_address.owner, kept)

    assert projects(database_address) == 1


def test_a_damaged_backup_changes_nothing(empty_database_address, kept):
    damaged = changed(kept, "tables/project.copy", lambda rows: rows.replace(b"acme", b"emca"))

    with pytest.raises(SetupError, match="damaged: project is not what it was"):
        restore(empty_database_address.owner, damaged)
    with pytest.raises(SetupError, match="no whole backup"):
        restore(empty_database_address.owner, io.BytesIO(kept.getvalue()[:-100]))

    assert projects(empty_database_address) == 0


def test_rows_that_do_not_belong_together_are_not_kept(empty_database_address, kept, monkeypatch):
    def with_a_stranger(content):
        manifest = json.loads(content)
        for table in manifest["tables"]:
            table["rows"] += table["name"] == "project"
        return json.dumps(manifest).encode()

    with pytest.raises(SetupError, match="1 rows came back of 2; nothing was kept"):
        restore(empty_database_address.owner, changed(kept, archive.MANIFEST, with_a_stranger))

    assert projects(empty_database_address) == 0


def test_a_backup_of_a_newer_version_is_refused(empty_database_address, kept):
    def newer(content):
        manifest = json.loads(content)
        manifest["migrations"]["9999_pre_tomorrow.sql"] = "0"
        return json.dumps(manifest | {"version": "99.0"}).encode()

    with pytest.raises(SetupError, match=r"version 99\.0, which is newer than this"):
        restore(empty_database_address.owner, changed(kept, archive.MANIFEST, newer))


def test_an_empty_place_has_nothing_to_back_up(empty_database_address):
    with pytest.raises(SetupError, match="nothing of Wharfinger's"):
        back_up(empty_database_address.owner, io.BytesIO())


# --- keys -----------------------------------------------------------------------------------------


async def test_keys_come_along_only_when_asked_for(
    yard, database_address, empty_database_address, tmp_path
):
    def settings_of(address, folder):
        return read_settings(
            environment={
                "WHARFINGER_DATA_DIR": str(folder),
                "WHARFINGER_DATABASE_URL": address.owner,
                "WHARFINGER_DATABASE_APP_URL": address.app,
            }
        )

    here, there = settings_of(database_address, tmp_path), tmp_path / "there"
    elsewhere = settings_of(empty_database_address, there)
    await yard.house.callers.create_credential(yard.caller.project_id)
    bare, whole = io.BytesIO(), io.BytesIO()
    back_up_database(here, bare, with_key=False)
    back_up_database(here, whole, with_key=True)
    key = here.secret_key_file.read_bytes()

    _, lacks_keys = restore_database(elsewhere, bare)
    with connected(empty_database_address) as connection:
        tables = connection.execute(
            "SELECT string_agg(format('%I', relname), ', ') FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = 'wharfinger'::regnamespace AND relname <> 'schema_migration'"
        ).fetchone()[0]
        connection.execute(f"TRUNCATE {tables}")
    with_key = restore_database(elsewhere, whole)

    assert key.split()[1] not in bare.getvalue()
    assert (lacks_keys, with_key[1]) == (True, False)
    assert elsewhere.secret_key_file.read_bytes() == key
    assert elsewhere.secret_key_file.stat().st_mode & 0o777 == 0o600
    elsewhere.secret_key_file.write_text("0a0b0c0d " + "A" * 43 + "=\n")
    with pytest.raises(SetupError, match="holds other keys than the backup"):
        restore_database(elsewhere, whole)
