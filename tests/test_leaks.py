"""The watch for leaks sees them: in each place one is planted, and a session of its own fails."""

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import structlog

from leaks import LEAKS, watched
from wharfinger.domain.model import RegistryCredential
from wharfinger.store import registries
from wharfinger.store.registries import NewRegistry
from wharfinger.store.sealing import Sealer

# Not the word of all others: what is planted here must not fail the session that plants it.
WORD = "okapis"
SECRET = f"of-the-registry-{WORD}"


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"AccessKey {SECRET}".encode().hex(),
        "Basic dXNlcjpva2FwaXM=",
        "Basic dXNlcnM6b2thcGlz",
        "Basic dTpva2FwaXM=",
    ],
    ids=["plain", "hexadecimal", "base64", "base64, moved", "base64, moved again"],
)
def test_a_planted_word_is_found_however_it_is_written(text):
    with LEAKS.planting(WORD) as found:
        LEAKS.look(f"before {text} after", "a text")
        LEAKS.look("nothing to see, not even oka pis", "another text")

    assert [one.partition(":")[0] for one in found] == ["a text"]


def test_a_secret_is_known_once_it_was_sealed(tmp_path):
    secret = "nothing-special-but-sealed"
    with LEAKS.planting(WORD) as found:
        Sealer.from_file(tmp_path / "key").seal(secret, context=b"x")
        LEAKS.look(f"it says {secret}", "a text")

    assert found == ["a text: b'it says ' and then a secret"]


def test_a_log_is_looked_at_whoever_writes_it_and_whatever_reads_it(capfd):
    with LEAKS.planting(WORD) as found:
        structlog.get_logger().info("an.event", credential={"secret": SECRET})
        structlog.get_logger().error("a.failure", exc_info=ValueError(SECRET))
        logging.getLogger("some.library").warning("said %s", SECRET)
        logging.getLogger("procrastinate.worker").debug("job", extra={"job": [SECRET]})
        capfd.readouterr()

    assert len(found) == 4
    assert all(WORD in one for one in found)


async def test_a_table_is_looked_at(database, database_address, owner_connection, tmp_path):
    owner_connection.execute("INSERT INTO project VALUES ('p', 'p')")
    new = NewRegistry(name="r", kind="Other", address="https://r.example")
    user = RegistryCredential(kind="basic", identity="u", secret=SECRET)
    seals = Sealer.from_file(tmp_path / "key")
    with LEAKS.planting(WORD) as sealed:
        async with database.tenant("p") as tx:
            await registries.add_registry(tx, "p", new, user, seals=seals)
        LEAKS.look_at_tables(database_address.owner)

    with LEAKS.planting(WORD) as found, psycopg.connect(database_address.owner) as connection:
        connection.execute("SET search_path TO wharfinger")
        connection.execute("UPDATE registry SET credential_sealed = %s", (SECRET.encode(),))
        connection.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
            " VALUES ('q', 't', jsonb_build_object('password', %s::text))",
            (SECRET,),
        )
        connection.commit()
        LEAKS.look_at_tables(database_address.owner)
        connection.execute("UPDATE registry SET credential_sealed = NULL")
        connection.execute("DELETE FROM procrastinate_jobs")

    assert sealed == []
    assert {one.partition(":")[0].rpartition(".")[2] for one in found} == {
        "registry",
        "procrastinate_jobs",
    }


@pytest.mark.parametrize("place", ["header", "body"])
def test_an_answer_is_looked_at_except_where_secrets_are_issued(place):
    async def app(scope, receive, send):
        headers = [(b"x", SECRET.encode())] if place == "header" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = SECRET.encode() if place == "body" else b""
        await send({"type": "http.response.body", "body": body})

    async def send(_message):
        pass

    with LEAKS.planting(WORD) as found:
        for path in ("/v5/p/images", "/v3/auth/tokens"):
            asyncio.run(watched(app)({"path": path}, None, send))

    assert [one.partition(":")[0] for one in found] == ["the answer to /v5/p/images"]


LEAKING = """
import logging, pathlib, pytest

def test_one_that_prints():
    print("{secret}")

def test_one_that_is_read(capsys):
    logging.getLogger("x").warning("{secret}")
    capsys.readouterr()

def test_one_that_leaves_a_file(tmp_path):
    (tmp_path / "server.log").write_text("{secret}")

def test_an_honest_one():
    print("nothing")
"""


def test_a_session_with_leaks_fails_and_says_where(tmp_path):
    """In processes of their own, two workers and the one they report to."""
    (tmp_path / "test_leaking.py").write_text(LEAKING.format(secret=SECRET))
    here = Path(__file__).parent
    (tmp_path / "conftest.py").write_text(
        "import pathlib\n"
        "from leaks import LEAKS, LeakWatch\n"
        f"LEAKS.word = {WORD!r}\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(LeakWatch(pathlib.Path('nowhere')), 'leaks')\n"
    )
    python_path = os.pathsep.join([str(here), *sys.path])

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist", "-n2", "-q", "--basetemp=t", "."],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": python_path,
            "PYTEST_ADDOPTS": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stdout
    assert "2 failed, 2 passed" in done.stdout
    for told in ("Captured stdout call: ", "the log x: ", "server.log: ", "secrets where none"):
        assert told in done.stdout
