"""A service full of planted secrets has a bad day; none of them is found where none belongs."""

import asyncio
import base64
import contextlib
import json
import threading
import urllib.error
import urllib.request
import uuid
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from commands import Commands, await_end, family
from reaching import Authority, Echo

from wharfinger.domain.model import Caller, RegistryCredential
from wharfinger.settings import read_settings
from wharfinger.store.embedded import hold
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.faults import Answer
from wharfinger.testing.model import made_up_world
from wharfinger.testing.oci import OciBehaviour, OciUpstream
from wharfinger.testing.upstream import Upstream
from wharfinger.wiring import open_house

PROJECT = "acme"
# Every failure that is meant to happen, by what is said of it.
HAPPENED = {"unauthorised", "forbidden", "unreachable", "malformed"}


class Planted(dict):
    """Secrets by what they are; each is unlike any other on the machine."""

    def __missing__(self, what: str) -> str:
        # Short, because what is long is hidden from a registry's words for being long.
        self[what] = f"pw{uuid.uuid4().hex[:12]}"
        return self[what]

    def found_in(self, text: str | bytes, *, besides: str = "") -> set[str]:
        """Which stand in a text, in the clear or as the bytes of a column are written."""
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        # A copy, because secrets are added while others are looked for.
        forms = {what: (secret, secret.encode().hex()) for what, secret in list(self.items())}
        return {
            what
            for what, written in forms.items()
            if what != besides and any(one in text for one in written)
        }


class Watcher:
    """Reads every command line of the machine, and the environments of the database's processes."""

    def __init__(self, planted: Planted, data_dir: Path) -> None:
        self._planted = planted
        self._data_dir = str(data_dir).encode()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.found: set[tuple[str, str]] = set()
        self.servers = 0
        self._looks: Counter[str] = Counter()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                # More than once, because a process has its parent's line before it has its own.
                if self._looks[process.name] < 5:
                    self._looks[process.name] += 1
                    with contextlib.suppress(OSError):
                        self._look(process)

    def _look(self, process: Path) -> None:
        line = (process / "cmdline").read_bytes()
        self._note(line, line)
        if self._data_dir in line and (b"keeper" in line or b"postgres" in line):
            self.servers += 1
            self._note((process / "environ").read_bytes(), line)

    def _note(self, text: bytes, line: bytes) -> None:
        self.found |= {(what, line.decode()) for what in self._planted.found_in(text)}


def parrot(asked):
    """Says back all it was told, the password in the clear as well."""
    if "authorization" not in asked.headers:
        return Answer(status=401, body=b"", headers={"WWW-Authenticate": 'Basic realm="x"'})
    said = " ".join(f"{name}: {value}" for name, value in asked.header_pairs)
    pair = base64.b64decode(asked.headers["authorization"].partition(" ")[2]).decode()
    body = {"errors": [{"code": "DENIED", "message": f"{pair} may not: {said}"}]}
    return Answer(status=403, body=json.dumps(body).encode(), headers={})


@pytest.fixture
def registries(planted):
    """One that works and some that do not, each with a secret of its own."""
    oci = OciBehaviour(auth="basic", username="reader", password=planted["password of the echo"])
    with contextlib.ExitStack() as stack:

        def running(server):
            return stack.enter_context(server.running_in_thread())

        good, echoing = running(Upstream(made_up_world(3, 2))), running(OciUpstream(behaviour=oci))
        untrusted, babbling = Echo(), running(Echo())
        untrusted.tls = Authority("nobody").server("127.0.0.1")
        echoing.world.push("team/app", "v1")
        echoing.faults.instead("/tags/list", parrot)
        babbling.faults.answer("/", 200, body=b"<html>")
        yield good, echoing, running(untrusted), babbling


@pytest.fixture
def planted():
    return Planted()


class Day:
    """Everything that is said to anybody, while the service runs."""

    def __init__(self, commands, planted) -> None:
        self._commands = commands
        self.planted = planted
        self.said: dict[str, str] = {}

    def run(self, *arguments, stdin="", code=0, issues=""):
        done = self._commands(*arguments, stdin=stdin and stdin + "\n", code=code)
        printed = f"{done.stdout}\n{done.stderr}"
        if issues:
            found = json.loads(done.stdout)[issues]
            self.planted[f"issued {issues} of {arguments[0]}"] = found
            assert printed.count(found) == 1, "what is shown once is shown once"
            printed = printed.replace(found, "")
        self.said[f"{' '.join(arguments[:2])} {len(self.said)}"] = printed
        return done

    def ask(self, url, *, body=None, issues=False, **headers):
        """Returns the status; what is issued is a secret from then on."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json", **names})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, told, text = answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                status, told, text = refused.code, dict(refused.headers), refused.read()
        if issues:
            self.planted["issued token"] = told.pop("x-subject-token")
        self.said[f"the answer to {request.selector} {len(self.said)}"] = f"{told} {text.decode()}"
        return status


def login(user, password):
    who = {"name": user, "domain": {"name": PROJECT}, "password": password}
    identity = {"methods": ["password"], "password": {"user": who}}
    return {"auth": {"identity": identity, "scope": {"project": {"id": PROJECT}}}}


def settle_in(day, registries, address, data_dir):
    good, echoing, untrusted, babbling = registries
    plant = day.planted
    asyncio.run(make_project(address, data_dir))
    user = ("--project", PROJECT, "--policy", "full-access", "--password-stdin")
    day.run("user", "create", "alice", *user, stdin=plant["password of alice"])
    day.run("credential", "create", "--project", PROJECT, "--json", issues="secret_key")
    day.run(
        *("registry", "add", "--project", PROJECT, "--name", "echo", "--kind", "Other"),
        *("--address", echoing.url, "--username", "reader", "--password-stdin"),
        stdin=plant["password of the echo"],
    )
    hinted = ("--project", PROJECT, "--name", "echo", "--json")
    day.run("registry", "hint-token", *hinted, issues="token")
    plant["secret key of the registry"] = good.key.secret_key
    key, user = ("access_key", good.key.access_key), ("basic", "reader")
    others = {
        "good": ("SwrPrivate", good.url, key, good.key.secret_key),
        "badkey": ("SwrShared", good.url, key, plant["wrong secret key"]),
        "wrong": ("Other", echoing.url, user, plant["wrong password"]),
        "untrusted": ("Other", untrusted.url, user, plant["password without trust"]),
        "babble": ("Other", babbling.url, user, plant["password for the babble"]),
        "gone": ("Other", "http://127.0.0.1:9", user, plant["password of the gone"]),
    }
    asyncio.run(add_all(others, address, data_dir))


async def make_project(address, data_dir):
    settings = read_settings(environment={"WHARFINGER_DATA_DIR": str(data_dir)})
    async with open_house(settings, address) as house:
        await house.callers.create_project(PROJECT, PROJECT)


async def add_all(others, address, data_dir):
    settings = read_settings(environment={"WHARFINGER_DATA_DIR": str(data_dir)})
    operator = Caller(project_id=PROJECT, project_name="", principal="test", is_operator=True)
    async with open_house(settings, address) as house:
        for name, (kind, url, (login, identity), secret) in others.items():
            new = NewRegistry(name=name, kind=kind, address=url, allow_private_networks=True)
            credential = RegistryCredential(kind=login, identity=identity, secret=secret)
            await house.registries.add(operator, new, credential)


def have_a_bad_day(day, url, database):
    plant = day.planted
    day.run("sync", "--project", PROJECT, code=1)
    tokens, images = f"{url}/v3/auth/tokens", f"{url}/v5/{PROJECT}/image/registries/images"
    good = login("alice", plant["password of alice"])
    assert day.ask(tokens, body=good, issues=True) == 201
    token = plant["issued token"]
    assert day.ask(images, X_Auth_Token=token) == 200
    assert day.ask(tokens, body=login("alice", plant["wrong password of alice"])) == 401
    assert day.ask(tokens, body=login("alice", [plant["password in a list"]])) == 400
    assert day.ask(tokens, body=f'{{"auth": "{plant["cut short"]}'.encode()) == 400
    assert day.ask(images, X_Auth_Token=plant["made-up token"]) == 503
    signed = f"SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature={plant['signature']}"
    assert day.ask(images, Authorization=signed) == 401
    assert day.ask(f"{images}?token={plant['query']}&limit=x", X_Auth_Token=token) == 400
    for table in ("image", "principal"):
        database.execute(f"ALTER TABLE {table} RENAME TO gone")
        try:
            assert day.ask(tokens, body=good) in (201, 500)
            assert day.ask(images, X_Auth_Token=token) in (200, 500)
        finally:
            database.execute(f"ALTER TABLE gone RENAME TO {table}")


def everything_stored(database):
    tables = database.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname !~ '^(pg_|information_schema)'"
    ).fetchall()
    for (table,) in tables:
        with database.cursor().copy(f"COPY {table} TO STDOUT") as rows:
            yield f"the table {table}", b"".join(rows)


@pytest.mark.timeout(400)
def test_no_planted_secret_is_found_where_none_belongs(data_dir, planted, registries):
    commands = Commands(data_dir)
    day = Day(commands, planted)
    settings = {
        "iam_url": "http://127.0.0.1:9",
        "iam_user": "wharfinger",
        "iam_password": planted["password of the service account"],
        "log_level": "debug",
        "log_format": "json",
    }
    with (
        Watcher(planted, data_dir) as watcher,
        commands.serving(**settings) as serving,
        hold(data_dir) as lease,
        psycopg.connect(lease.superuser_dsn("wharfinger"), autocommit=True) as database,
    ):
        database.execute("SET search_path TO wharfinger, public")
        settle_in(day, registries, lease.address, data_dir)
        have_a_bad_day(day, serving.url, database)
        (worker,) = (
            p for p in family(serving.process.pid) if b"worker" in _bytes(p, "cmdline").split(b"\0")
        )
        day.said["the environment of the worker"] = _bytes(worker, "environ").decode()
        day.said.update((name, text.decode()) for name, text in everything_stored(database))
        codes = {
            c
            for (c,) in database.execute(
                "SELECT r ->> 'code' FROM run, jsonb_array_elements(reasons) r"
            )
        }
        day.said["the log"] = serving.log.read_text()
    await_end(data_dir)
    for file in (data_dir / "postgresql").rglob("*.log"):
        day.said[f"the log {file.name}"] = file.read_text(errors="replace")

    assert codes >= HAPPENED
    assert "DENIED reader:… may not" in day.said["the table wharfinger.run"]
    assert "Traceback" in day.said["the log"]
    assert "does not exist" in "".join(
        v for k, v in day.said.items() if k.startswith("the log postgresql")
    )
    assert "iam.unavailable" in day.said["the log"]
    assert watcher.servers > 0
    assert len(planted) >= 18
    assert {
        (where, what) for where, text in day.said.items() for what in planted.found_in(text)
    } == set()
    assert watcher.found == set()


def _bytes(process, name):
    return Path(f"/proc/{process}/{name}").read_bytes()
