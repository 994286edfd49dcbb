"""One PostgreSQL per test session, one database per test."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import psycopg
import pytest
import structlog

from clusters import FAST, address_of, await_end, fresh_database, send_away
from hard_case_table import HardCases
from leaks import LeakWatch
from wharfinger.store.cluster import DATABASE
from wharfinger.store.database import Database, DatabaseAddress, connection_options
from wharfinger.store.embedded import Lease, hold
from wharfinger.store.migrate import migrate
from yard import idle_yard, upstream, yard

# Fixtures of a house at work, for whatever folder of tests wants one.
__all__ = ["idle_yard", "upstream", "yard"]

# Set where the machine is meant to have all that tests need: a skip is a failure then.
REQUIRE_ALL = "WHARFINGER_TESTS_REQUIRE_ALL"

_PREFIX = "wharfinger-test-"
_MEMORY = Path("/dev/shm")
_folder = pytest.StashKey[Path]()
_folder_lock = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the hard cases be run alone, with their table at the end."""
    parser.addoption("--hard-cases", action="store_true", help="the hard cases, and their table")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the session's folder: short, for socket paths, and shared by all workers."""
    _let_processes_keep_what_they_compile()
    if config.getoption("--hard-cases"):
        config.option.markexpr = "hard_case"
        config.pluginmanager.register(HardCases(), "hard-cases")
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        config.stash[_folder] = Path(worker["cluster_folder"])
        config.pluginmanager.register(LeakWatch(config.stash[_folder]), "leaks")
        return
    _remove_what_killed_sessions_left()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place()))
    folder.chmod(0o711)
    config.stash[_folder] = folder
    config.stash[_folder_lock] = os.open(folder / "session.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(config.stash[_folder_lock], fcntl.LOCK_EX)
    config.pluginmanager.register(LeakWatch(folder), "leaks")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: at the end it would keep one worker busy, the others idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Tell an xdist worker the folder."""
    node.workerinput["cluster_folder"] = str(node.config.stash[_folder])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder once the keeper is gone, in the process that made it."""
    lock = config.stash.get(_folder_lock, None)
    if lock is None:
        return
    _remove_cluster(config.stash[_folder])
    os.close(lock)


def _let_processes_keep_what_they_compile() -> None:
    """Hundreds of processes begin in a session; each would compile the whole program anew."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def _place() -> Path:
    """Memory, if there is enough, which halves the time of an initdb; else the temporary folder."""
    with contextlib.suppress(OSError):
        facts = os.statvfs(_MEMORY)
        roomy = facts.f_bavail * facts.f_frsize > 2 * 1024**3
        if roomy and not facts.f_flag & os.ST_NOEXEC and os.access(_MEMORY, os.W_OK):
            return _MEMORY
    return Path(tempfile.gettempdir())


def _remove_what_killed_sessions_left() -> None:
    for folder in _place().glob(f"{_PREFIX}*"):
        # Another user's folder, one being made or removed right now: none of our business.
        with contextlib.suppress(OSError):
            lock = os.open(folder / "session.lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_cluster(folder)
            finally:
                os.close(lock)


def _remove_cluster(folder: Path) -> None:
    with contextlib.suppress(AssertionError):
        await_end(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Lease]:
    """The session's PostgreSQL, whose database ``wharfinger`` is the migrated template."""
    folder = pytestconfig.stash[_folder]
    with hold(folder, settings=FAST) as lease:
        with (folder / "template.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Once only: a template that somebody is connected to cannot be copied.
            if not (folder / "template.done").exists():
                migrate(lease.address.owner)
                (folder / "template.done").touch()
        yield lease


@pytest.fixture(scope="session")
def administrator(cluster: Lease) -> Iterator[psycopg.Connection]:
    """A connection as superuser, to make and drop databases and to break things."""
    with psycopg.connect(cluster.superuser_dsn(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def database_address(
    cluster: Lease, administrator: psycopg.Connection
) -> Iterator[DatabaseAddress]:
    """A fresh migrated database of the test's own."""
    with fresh_database(administrator, template=DATABASE) as name:
        yield address_of(cluster, name)


@pytest.fixture
def empty_database_address(
    cluster: Lease, administrator: psycopg.Connection
) -> Iterator[DatabaseAddress]:
    """A fresh database without any schema, owned by the owner's role."""
    with fresh_database(administrator, template="template0") as name:
        yield address_of(cluster, name)


@pytest.fixture
async def database(database_address: DatabaseAddress) -> AsyncIterator[Database]:
    """The application's connections to the test's own database."""
    opened = Database(database_address, max_connections=4)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
def owner_connection(database_address: DatabaseAddress) -> Iterator[psycopg.Connection]:
    """An autocommit connection as the owner, who sees every tenant's rows."""
    options = connection_options(database_address.owner)
    with psycopg.connect(database_address.owner, autocommit=True, options=options) as connection:
        yield connection


# --- a server of the test's own ------------------------------------------------------------------


@pytest.fixture(scope="session")
def initialised_folder(pytestconfig: pytest.Config) -> Path:
    """A data directory that was in use once, stopped, to be copied: that saves an initdb."""
    parent = pytestconfig.stash[_folder]
    model = parent / "model"
    with (parent / "model.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not model.exists():
            with hold(model, settings=FAST):
                pass
            await_end(model)
    return model


@pytest.fixture
def short_folder(pytestconfig: pytest.Config) -> Iterator[Path]:
    """An empty folder with a short path that every account can enter.

    Pytest's own are for their owner only, and too deep for a socket.
    """
    folder = Path(tempfile.mkdtemp(prefix="own-", dir=pytestconfig.stash[_folder]))
    folder.chmod(0o711)
    yield folder
    for keepers in folder.rglob("postgresql"):
        send_away(keepers.parent)
    shutil.rmtree(folder)


@pytest.fixture
def data_dir(initialised_folder: Path, short_folder: Path) -> Path:
    """An initialised data directory of the test's own."""
    subprocess.run(["cp", "-a", f"{initialised_folder}/.", short_folder / "data"], check=True)
    return short_folder / "data"


@pytest.fixture
def own_cluster(data_dir: Path) -> Iterator[Lease]:
    """A server of the test's own, to be broken."""
    with hold(data_dir, settings=FAST) as lease:
        yield lease


# --- logs ----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Take back how a command, or the bench, set up logging in this process."""
    before = structlog.get_config()
    levels = {name: logging.getLogger(name).level for name in ("procrastinate", "psycopg.pool")}
    handlers = list(logging.getLogger().handlers)
    yield
    structlog.configure(**before)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().handlers[:] = handlers


# --- what is skipped -----------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Generator:
    """Count a skipped test as failed where the machine is meant to have everything (CI)."""
    report = yield
    return _refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator:
    """Do so for whole modules, too."""
    report = yield
    return _refuse_skip(report)


def _refuse_skip(report):
    if report.skipped and not hasattr(report, "wasxfail") and REQUIRE_ALL in os.environ:
        report.outcome = "failed"
        report.longrepr = f"skipped, which {REQUIRE_ALL} forbids: {report.longrepr}"
    return report


# --- what was measured ----------------------------------------------------------------------------


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the figures that tests recorded, added up over the cases of one test."""
    figures: dict[str, dict[str, int]] = {}
    cases: dict[str, int] = {}
    for report in [
        r for outcome in ("passed", "failed") for r in terminalreporter.getreports(outcome)
    ]:
        for name, value in report.user_properties:
            if name == "figures" and report.when == "call":
                test = report.nodeid.partition("[")[0]
                cases[test] = cases.get(test, 0) + 1
                total = figures.setdefault(test, {})
                for key, number in value.items():
                    total[key] = total.get(key, 0) + number
    for test, total in figures.items():
        terminalreporter.section(f"{test}, {cases[test]} cases", sep="-")
        for key, number in total.items():
            terminalreporter.line(f"{number:8} {key}")
