from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from procrastinate import App, PsycopgConnector
from psycopg.conninfo import make_conninfo

from wharfinger.domain.errors import SetupError, StoreUnavailableError
from wharfinger.store import migrate as module
from wharfinger.store.database import Database, DatabaseAddress, connection_options
from wharfinger.store.migrate import Migration, migrate, migrations

ROOT = Path(__file__).parents[2]


@pytest.fixture
def app_connection(database_address):
    options = connection_options(database_address.app)
    with psycopg.connect(database_address.app, autocommit=True, options=options) as connection:
        yield connection


def work_as(connection, project_id):
    connection.execute("SELECT set_config('wharfinger.tenant', %s, false)", (project_id,))


def an_event(project_id, seq=1):
    return (
        "INSERT INTO event (project_id, seq, kind, image_id, repository_id, registry_id, at)"
        f" VALUES ('{project_id}', {seq}, 'added', 1, 1, gen_random_uuid(), now())"
    )


# --- applying --------------------------------------------------------------


def test_a_second_migration_finds_nothing_to_do(empty_database_address):
    first = migrate(empty_database_address.owner)
    second = migrate(empty_database_address.owner)

    assert first[0] == "procrastinate"
    assert first[1:] == [step.name for step in migrations()]
    assert second == []


def test_of_several_that_start_at_once_one_migrates(empty_database_address):
    results = []
    start = threading.Barrier(4)

    def begin():
        start.wait()
        results.append(migrate(empty_database_address.owner))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(bool, results)) == [False, False, False, True]


def test_a_migration_that_fails_leaves_those_before_it(empty_database_address, monkeypatch):
    broken = Migration("9998_pre_broken", "CREATE TABLE half (id bigint); SELECT nonsense")
    ours = migrations()
    monkeypatch.setattr(module, "migrations", lambda: [*ours, broken])

    with pytest.raises(psycopg.errors.UndefinedColumn):
        migrate(empty_database_address.owner)

    mended = Migration("9998_pre_broken", "CREATE TABLE half (id bigint)")
    monkeypatch.setattr(module, "migrations", lambda: [*ours, mended])
    assert migrate(empty_database_address.owner) == ["9998_pre_broken"]


def test_users_from_before_enterprise_projects_keep_what_they_saw(
    empty_database_address, monkeypatch
):
    ours = migrations()
    before = [step for step in ours if step.name < "0007"]
    monkeypatch.setattr(module, "migrations", lambda: before)
    migrate(empty_database_address.owner)
    options = connection_options(empty_database_address.owner)
    with psycopg.connect(empty_database_address.owner, options=options) as connection:
        connection.execute("INSERT INTO project (id, name) VALUES ('p', 'p')")
        connection.execute(
            "INSERT INTO principal (id, project_id, name, kind)"
            " VALUES ('u', 'p', 'alice', 'user'), ('a', 'p', 'boss', 'account')"
        )

    monkeypatch.setattr(module, "migrations", lambda: ours)
    migrate(empty_database_address.owner)

    with psycopg.connect(empty_database_address.app, options=options) as connection:
        found = connection.execute(
            "SELECT enterprise_projects_of('u', 'p'), enterprise_projects_of('a', 'p'),"
            " enterprise_projects_of(NULL, 'p'), enterprise_projects_of('nobody', 'p')"
        ).fetchone()
    assert found == (["0"], ["*", "0"], ["*", "0"], [])


def test_an_edited_file_is_refused(database_address, monkeypatch):
    first, *others = migrations()
    edited = Migration(first.name, first.text + "\n-- edited")
    monkeypatch.setattr(module, "migrations", lambda: [edited, *others])

    with pytest.raises(SetupError, match=r"0001_pre_foundation was edited"):
        migrate(database_address.owner)


@pytest.mark.parametrize("name", ["9999_post_future", "procrastinate/99.00.00_50_post_future"])
def test_a_database_newer_than_the_code_is_refused(owner_connection, database_address, name):
    owner_connection.execute("INSERT INTO schema_migration (name, sha256) VALUES (%s, '')", (name,))

    with pytest.raises(SetupError, match="newer than this version of Wharfinger"):
        migrate(database_address.owner)


def test_what_a_newer_release_has_only_added_is_no_hindrance(owner_connection, database_address):
    owner_connection.execute(
        "INSERT INTO schema_migration (name, sha256) VALUES ('9999_pre_future', ''),"
        " ('procrastinate/99.00.00_01_pre_future', '')"
    )

    assert refusal(database_address) is None


def refusal(address):
    try:
        migrate(address.owner)
    except SetupError as error:
        return str(error)
    return None


# --- before and after the release before has gone ------------------------------------------------


def steps(*names):
    return [Migration(name, f'CREATE TABLE "{name}" ()') for name in names]


@pytest.fixture
def released(database_address, monkeypatch):
    """Migrates in a phase as a release with these further files would."""
    ours = migrations()

    def migrate_as(*names, phase="all"):
        monkeypatch.setattr(module, "migrations", lambda: [*ours, *steps(*names)])
        return migrate(database_address.owner, phase)

    return migrate_as


def test_the_first_phase_leaves_out_what_the_release_before_cannot_live_with(released):
    release = ("9001_pre_adds", "9002_pre_adds_more", "9003_post_drops")

    assert released(*release, phase="pre") == ["9001_pre_adds", "9002_pre_adds_more"]
    assert released(*release, phase="pre") == []
    assert released(*release) == ["9003_post_drops"]


def test_what_the_release_before_left_over_is_made_up_for_first(released):
    before = ("9001_pre_adds", "9002_post_drops")
    released(*before, phase="pre")

    assert released(*before, "9003_pre_next", "9004_post_next", phase="pre") == [
        "9002_post_drops",
        "9003_pre_next",
    ]


def test_several_releases_at_once_have_no_first_phase(released):
    releases = ("9001_pre_adds", "9002_post_drops", "9003_pre_next")

    with pytest.raises(SetupError, match="9003_pre_next belongs to a later release"):
        released(*releases, phase="pre")

    assert released(*releases) == list(releases)


def test_an_empty_database_gets_everything_in_the_first_phase(empty_database_address, monkeypatch):
    ours = [*migrations(), *steps("9001_post_drops", "9002_pre_adds")]
    monkeypatch.setattr(module, "migrations", lambda: ours)

    applied = migrate(empty_database_address.owner, "pre")

    assert applied[1:] == [step.name for step in ours]


def test_a_job_engine_migration_that_came_later_is_applied(database_address, monkeypatch):
    engine = module._job_engine_migrations()
    later = Migration("procrastinate/99.00.00_01_pre_new", "CREATE TABLE procrastinate_new ()")
    monkeypatch.setattr(module, "_job_engine_migrations", lambda: [*engine, later])

    applied = migrate(database_address.owner)

    assert applied == [later.name]
    with psycopg.connect(database_address.app) as connection:
        connection.execute("SELECT FROM wharfinger.procrastinate_new")


def test_a_migration_does_not_wait_for_ever_behind_a_busy_table(
    database_address, owner_connection, monkeypatch
):
    ours = migrations()
    alter = Migration("9997_pre_alter", "ALTER TABLE project ADD COLUMN more text")
    monkeypatch.setattr(module, "migrations", lambda: [*ours, alter])
    monkeypatch.setattr(module, "_WAIT_FOR_TABLE", "100ms")

    with owner_connection.transaction():
        owner_connection.execute("LOCK TABLE project IN ACCESS SHARE MODE")
        with pytest.raises(StoreUnavailableError, match="waiting for other sessions"):
            migrate(database_address.owner)

    assert migrate(database_address.owner) == ["9997_pre_alter"]


def test_an_old_server_is_refused(empty_database_address, monkeypatch):
    monkeypatch.setattr(module, "OLDEST_VERSION", 99)

    with pytest.raises(SetupError, match="PostgreSQL 99 or newer is needed, the database runs 1"):
        migrate(empty_database_address.owner)


def test_no_answer_and_no_address_are_told_without_the_password(tmp_path):
    with pytest.raises(StoreUnavailableError) as silent:
        migrate(f"host={tmp_path} user=u password=s3cret")
    with pytest.raises(SetupError) as unreadable:
        migrate("host=h s3cret")

    assert "s3cret" not in str(silent.value)
    assert "s3cret" not in str(unreadable.value)


def test_trigrams_installed_elsewhere_are_used_from_there(
    cluster, empty_database_address, administrator
):
    name = psycopg.conninfo.conninfo_to_dict(empty_database_address.owner)["dbname"]
    with psycopg.connect(cluster.superuser_dsn(name), autocommit=True) as superuser:
        superuser.execute("CREATE SCHEMA extensions")
        superuser.execute("GRANT USAGE ON SCHEMA extensions TO PUBLIC")
        superuser.execute("CREATE EXTENSION pg_trgm SCHEMA extensions")

    migrate(empty_database_address.owner)

    options = connection_options(empty_database_address.app)
    with psycopg.connect(empty_database_address.app, options=options) as connection:
        assert connection.execute("SELECT * FROM search_repositories('%x%')").fetchall() == []


def test_squawk_finds_nothing_wrong():
    squawk = Path(sys.executable).parent / "squawk"
    if not squawk.exists():
        pytest.skip("needs squawk (pip install squawk-cli)")
    files = sorted((ROOT / "src/wharfinger/store/migrations").glob("*.sql"))

    done = subprocess.run(
        [squawk, f"--config={ROOT / '.squawk.toml'}", "--reporter=gcc", *files],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert files


# --- one tenant and another --------------------------------------------------------------


def test_every_table_of_tenants_forces_row_level_security(owner_connection):
    rows = owner_connection.execute(
        """
        SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity,
               EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid
                       AND p.polroles = ARRAY['wharfinger_app'::regrole::oid])
        FROM pg_class c
        WHERE c.relnamespace = 'wharfinger'::regnamespace AND c.relkind IN ('r', 'p')
        AND (c.relname = 'project' OR EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'project_id'))
        """
    ).fetchall()

    assert {"project", "registry", "image", "event", "token"} <= {name for name, _, _ in rows}
    assert [name for name, forced, has_policy in rows if not (forced and has_policy)] == []


def test_a_tenant_sees_and_writes_its_own_rows_only(app_connection, owner_connection):
    for project_id in ("ours", "theirs"):
        owner_connection.execute("INSERT INTO project VALUES (%s, %s)", (project_id, project_id))
        owner_connection.execute(an_event(project_id))

    work_as(app_connection, "ours")

    assert app_connection.execute("SELECT id FROM project").fetchall() == [("ours",)]
    assert app_connection.execute("SELECT project_id FROM event").fetchall() == [("ours",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app_connection.execute(an_event("theirs", 2))


def test_without_a_tenant_nothing_is_seen(app_connection, owner_connection):
    owner_connection.execute("INSERT INTO project VALUES ('ours', 'ours')")
    owner_connection.execute(an_event("ours"))

    assert app_connection.execute("SELECT * FROM project").fetchall() == []
    assert app_connection.execute("SELECT * FROM event").fetchall() == []


@pytest.mark.parametrize(
    "attempt",
    [
        "SET ROLE wharfinger_owner",
        "ALTER TABLE event DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON event",
        "SET LOCAL row_security = off; SELECT * FROM event",
        "CREATE TABLE wharfinger.mine ()",
        "UPDATE schema_migration SET sha256 = ''",
        "COPY event TO PROGRAM 'cat'",
    ],
)
def test_the_application_cannot_lift_the_wall(app_connection, owner_connection, attempt):
    owner_connection.execute(an_event("theirs"))
    work_as(app_connection, "ours")

    with pytest.raises(psycopg.errors.InsufficientPrivilege), app_connection.transaction():
        app_connection.execute(attempt)


@pytest.mark.parametrize("attempt", ["UPDATE event SET kind = 'moved'", "DELETE FROM event"])
def test_nobody_rewrites_history(app_connection, owner_connection, attempt):
    owner_connection.execute(an_event("ours"))
    work_as(app_connection, "ours")

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app_connection.execute(attempt)

    assert owner_connection.execute("SELECT kind FROM event").fetchall() == [("added",)]


def test_a_temporary_table_does_not_stand_in_for_ours(app_connection):
    app_connection.execute(
        "CREATE TEMPORARY TABLE credential AS SELECT 'AK' AS access_key, 'p' AS project_id,"
        " ''::bytea AS secret_sealed, NULL::timestamptz AS revoked_at"
    )
    app_connection.execute("CREATE TEMPORARY TABLE project AS SELECT 'p' AS id, 'p' AS name")
    app_connection.execute("GRANT SELECT ON pg_temp.credential, pg_temp.project TO PUBLIC")

    assert app_connection.execute("SELECT * FROM find_credential('AK')").fetchall() == []


async def test_the_application_can_enqueue_jobs(database_address, owner_connection):
    options = connection_options(database_address.app)
    jobs = App(
        connector=PsycopgConnector(conninfo=database_address.app, kwargs={"options": options})
    )

    async with jobs.open_async():
        await jobs.configure_task("sync", queue="q").defer_async(registry="r")
        workers = await jobs.job_manager.get_stalled_jobs()

    assert list(workers) == []
    rows = owner_connection.execute("SELECT task_name, args FROM procrastinate_jobs").fetchall()
    assert rows == [("sync", {"registry": "r"})]


async def test_the_application_connects_and_the_owner_is_refused(database, database_address):
    async with database.tenant("p") as connection:
        await connection.execute("INSERT INTO project (id, name) VALUES ('p', 'p')")

    above = Database(DatabaseAddress(owner="", app=database_address.owner))
    with pytest.raises(SetupError, match="owns the tables"):
        await above.open()
    await above.close()


# --- a PostgreSQL of one's own, without superuser ------------------------------------------------


@pytest.fixture
def foreign_server(own_cluster):
    """A server on which nobody has heard of Wharfinger, and an administrator's connection to it."""
    with psycopg.connect(own_cluster.superuser_dsn(), autocommit=True) as administrator:
        administrator.execute("DROP ROLE wharfinger_app")
        administrator.execute("CREATE ROLE boss LOGIN PASSWORD 'made-up'")
        administrator.execute("CREATE DATABASE theirs OWNER boss")
        dsn = make_conninfo(
            own_cluster.superuser_dsn("theirs"), user="boss", password="made-up", passfile=""
        )
        yield administrator, dsn


async def test_an_owner_who_may_create_roles_needs_one_login_only(foreign_server):
    administrator, dsn = foreign_server
    administrator.execute("ALTER ROLE boss CREATEROLE")

    applied = migrate(dsn)

    assert "0001_pre_foundation" in applied
    app = make_conninfo(dsn, options="-c role=wharfinger_app")
    database = Database(DatabaseAddress(owner=dsn, app=app))
    await database.open()
    async with database.tenant("p") as connection:
        await connection.execute("INSERT INTO project (id, name) VALUES ('p', 'p')")
        cursor = await connection.execute("SELECT current_user::text")
        assert await cursor.fetchone() == ("wharfinger_app",)
    await database.close()


def test_an_owner_who_may_not_create_roles_is_told_what_to_run(foreign_server):
    administrator, dsn = foreign_server

    with pytest.raises(SetupError, match="CREATE ROLE wharfinger_app NOLOGIN"):
        migrate(dsn)

    administrator.execute("CREATE ROLE wharfinger_app NOLOGIN")
    assert "0001_pre_foundation" in migrate(dsn)
