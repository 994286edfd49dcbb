"""Tries every door of every house: random calls, and what their answers must never hold."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
import re
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode

from city import AT, LOGS_IN, PASSWORD, Cell, City, Person

from wharfinger.http.hss.not_offered import NOT_OFFERED
from wharfinger.http.ui.assets import ASSETS, DIGEST
from wharfinger.identity.sessions import form_token

API = "/api/v1/projects/{project_id}"
HSS = "/v5/{project_id}"
CONSOLE = "/console"
# What differs between two answers to one question, whoever asks.
_PASSING = {"x-request-id", "date"}
_REQUEST_ID = re.compile(r'"request_id":"\w*"|Request id: <code>\w*</code>')


# It tells of the whole installation, so no tenant may open it, whatever they bring.
MONITORING = "GET /metrics"
# It would end all sessions of whoever gets through; tests/ui has somebody do so.
OWN_PASSWORD = f"POST {CONSOLE}/me/password"


class LeakError(AssertionError):
    """An answer told something of what the caller must not see."""


@dataclass(frozen=True)
class Question:
    """One call, as it is sent."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.path}?{self.query} {self.body.decode()}"

    @property
    def values(self) -> list[str]:
        """What was asked about, the longest first."""
        asked = [*self.path.split("/"), *(value for _, value in parse_qsl(self.query))]
        asked += re.findall(r'"([^"]+)"', self.body.decode())
        asked += [value for _, value in parse_qsl(self.body.decode())]
        return sorted((value for value in asked if len(value) > 3), key=len, reverse=True)


@dataclass(frozen=True)
class Answer:
    """What came back, without what differs from call to call."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str

    @property
    def text(self) -> str:
        return "\n".join([*(f"{name}: {value}" for name, value in self.headers), self.body])


@dataclass(frozen=True)
class Door:
    """One method of one route."""

    method: str
    path: str
    offered: bool = True  # or only refused, whatever is asked

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"\{(\w+)\}", self.path)


DELETION = Door("DELETE", f"{HSS}/image/registries/{{registry_id}}")
REMOVAL = Door("POST", f"{CONSOLE}/registries/{{registry_id}}/remove")
HOOKS = f"{CONSOLE}/settings/webhooks"
UNHOOKING = Door("POST", f"{HOOKS}/{{webhook_id}}/remove")
# What grows with every question, refused ones too.
AUDIT = {
    f"{API}/audit",
    f"{HSS}/container/image/events",
    f"{CONSOLE}/settings/audit",
}
LOGIN = Door("POST", "/v3/auth/tokens")


def doors(app) -> list[Door]:
    """Every door there is, as the framework knows them: a new route is tried without being told."""
    found = [
        Door(method, re.sub(r":\w+\}", "}", route.path), NOT_OFFERED not in handler.opt)
        for route in app._app.routes
        for handler in route.route_handlers
        for method in handler.http_methods - {"OPTIONS"}
    ]
    return sorted(found, key=lambda door: (door.path, door.method))


async def ask(app, question: Question) -> Answer:
    """Call the application as a server does."""
    sent: list[dict] = []
    path = quote(question.path, safe="/%")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": question.method,
        "scheme": "http",
        "path": question.path,
        "raw_path": path.encode(),
        "query_string": question.query.encode(),
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1:8080"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(question.body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in question.headers),
        ],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }

    unsent = [{"type": "http.request", "body": question.body, "more_body": False}]

    ended = asyncio.Event()

    async def receive():
        if unsent:
            return unsent.pop()
        # Whoever streams listens for the end of the connection beside it.
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            ended.set()

    async with asyncio.timeout(30):
        await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    headers = [(name.decode().lower(), value.decode()) for name, value in sent[0]["headers"]]
    kept = sorted((name, value) for name, value in headers if name not in _PASSING)
    return Answer(sent[0]["status"], tuple(kept), _REQUEST_ID.sub('"request_id":""', body))


# --- what may stand in a path, a query, a body ---------------------------------------------------


def _text(of: Callable[[Cell], object]):
    return lambda b, cells: str(of(b.random.choice(cells))) if cells else ""


# What names something, by the name of the parameter: made of some cells.
NAMES: dict[str, Callable[[Burglar, list[Cell]], str]] = {
    "registry_id": lambda b, cells: b.random.choice(b.random.choice(cells).registries),
    "webhook_id": _text(lambda c: c.webhook),
    "run_id": lambda b, cells: b.random.choice(b.random.choice(cells).runs),
    "other_id": lambda b, cells: b.random.choice(b.random.choice(cells).runs),
    "image_id": lambda b, cells: str(b.random.choice(b.random.choice(cells).images)),
    "task_id": lambda b, cells: b.random.choice(b.random.choice(cells).tasks),
    "enterprise_project_id": _text(lambda c: c.enterprise_project),
    "key": lambda b, cells: b.random.choice(["team", "purpose"]),
    "digest": lambda b, cells: DIGEST,
    "name": lambda b, cells: b.random.choice(sorted(ASSETS)),
    "user_name": lambda b, cells: f"spare-{b.random.choice(cells).project.removesuffix('-two')}",
}

# Values of query parameters, whichever route they are for: others ignore them.
QUERY: dict[str, Callable[[Burglar, list[Cell]], str]] = {
    "enterprise_project_id": lambda b, cells: b.random.choice(
        ["all_granted_eps", "all_granted_eps", "0", NAMES["enterprise_project_id"](b, cells)]
    ),
    "registry_id": NAMES["registry_id"],
    "registry_name": _text(lambda c: f"{c.word}-SwrPrivate"),
    "registry": _text(lambda c: f"{c.word}-SwrPrivate"),
    "registry_addr": _text(lambda c: f"127.0.0.1:1/{c.word}/1"),
    "label": _text(lambda c: f"team={c.word}"),
    "namespace": _text(lambda c: c.word),
    "image_name": _text(lambda c: c.word[:4]),
    "name": _text(lambda c: c.word[:4]),
    "image_version": _text(lambda c: f"{c.word}-1"),
    "tag": _text(lambda c: f"{c.word}-1"),
    "image_size": _text(lambda c: c.images[0] % 2147483547),
    "task_id": NAMES["task_id"],
    "task_name": lambda b, cells: b.random.choice(["sync", b.random.choice(cells).word]),
    "tag_contains": _text(lambda c: c.word[:4]),
    "text": _text(lambda c: c.word[:4]),
    "digest": _text(lambda c: c.digest(10)),
    "image_id": _text(lambda c: c.digest(0)),
    "multi_arch": lambda b, cells: b.random.choice(["true", "false"]),
    "is_multarch": lambda b, cells: b.random.choice(["true", "false"]),
    "latest_version": lambda b, cells: "true",
    "latest": lambda b, cells: "true",
    "signed": lambda b, cells: b.random.choice(["true", "false"]),
    "has_sbom": lambda b, cells: b.random.choice(["true", "false"]),
    "has_attestation": lambda b, cells: b.random.choice(["true", "false"]),
    "verdict": lambda b, cells: b.random.choice(["partial", "complete", "never"]),
    "status": lambda b, cells: b.random.choice(["success", "fail", "accessing"]),
    "sync_status": lambda b, cells: b.random.choice(["finished", "running", "failed"]),
    "task_status": lambda b, cells: b.random.choice(["scanning", "finished"]),
    "at": lambda b, cells: f"{AT - dt.timedelta(minutes=30):%Y-%m-%dT%H:%M:%SZ}",
    "as_of": lambda b, cells: str(b.random.randrange(0, 6)),
    "after": lambda b, cells: str(b.random.randrange(0, 6)),
    "limit": lambda b, cells: str(b.random.choice([10, 20, 200])),
    "offset": lambda b, cells: str(b.random.choice([0, 1, 5])),
}
# The console's own, which the APIs would refuse.
CONSOLE_QUERY: dict[str, Callable[[Burglar, list[Cell]], str]] = {
    "since": NAMES["run_id"],
    "before": lambda b, cells: str(b.random.randrange(1, 9)),
    "what": lambda b, cells: b.random.choice(["added", "retired"]),
    "facets": lambda b, cells: "true",
    "format": lambda b, cells: b.random.choice(["csv", "ndjson"]),
}
# Without these a list is refused, whatever else is asked.
NEEDED = {
    "/v5/{project_id}/image/scanner-policies": {"type": "image_scan"},
    "/v5/{project_id}/image/registries/image-upload-command": {
        "registry_addr": "here.example",
        "namespace": "n",
        "username": "u",
        "password": "p",
    },
    "/v5/{project_id}/image/tasks": {"type": "image_sync"},
    f"{CONSOLE}/registries/{{registry_id}}/progress": {"seconds": "0"},
    f"{CONSOLE}/registries/add": {"kind": "Harbor"},
    "/v5/{project_id}/image/swr-repository": {"image_type": "private_image"},
}

# How often a list is asked for as a stream of lines.
STREAMED = 0.1
# What leads a door's question to other queries is asked there more often than elsewhere.
LIKELY = {f"{API}/images": {"as_of", "at"}}


def _json(make):
    return lambda b, person, cells, chosen: json.dumps(make(b, person, cells, chosen)).encode()


def _login(b: Burglar, person: Person, cells: list[Cell], chosen) -> dict:
    name, account = b.random.choice(
        [(LOGS_IN, "northland"), ("steve-south", "southland"), ("nobody", "southland")]
    )
    user = {"name": name, "password": PASSWORD, "domain": {"name": account}}
    scope = {"project": {"id": b.random.choice(b.projects)}}
    identity = {"methods": ["password"], "password": {"user": user}}
    return {"auth": {"identity": identity, "scope": scope}}


def _notification(b: Burglar, person: Person, cells: list[Cell], chosen) -> dict:
    target = {"repository": f"{chosen['registry_id']}/pushed", "tag": "latest"}
    return {"events": [{"action": "push", "target": target}]}


def _made_name(b: Burglar, person: Person, cells, chosen) -> dict:
    return {"name": f"made-in-{person.account}-{b.count()}"}


def _form(make):
    """A form of the console, as its page sends it."""

    def body(b: Burglar, person: Person, cells: list[Cell], chosen) -> bytes:
        session = b.session_of(person)
        return urlencode(
            make(b, person, cells, chosen) | {"form_token": form_token(session)}
        ).encode()

    return body


def _own_password(b: Burglar, person: Person, cells, chosen) -> dict:
    # Not the same twice: another password would end every session of the person's.
    return {"current": PASSWORD, "password": "long enough", "password_again": "long"}


def _edit(b: Burglar, person: Person, cells: list[Cell], chosen) -> dict:
    n, cell = next(
        (n, cell)
        for cell in b.city.cells
        for n, one in enumerate(cell.registries, 1)
        if one == chosen["registry_id"]
    )
    address = f"https://127.0.0.1:1/{cell.word}/{n}"
    login = {"credential": "basic", "identity": f"user-{cell.word}"} if n == 1 else {}
    return {"address": address, "stale_after_hours": "8784", **login}


def _removal(b: Burglar, person: Person, cells: list[Cell], chosen) -> dict:
    cell = next(cell for cell in b.city.cells if chosen["registry_id"] in cell.doomed)
    return {"name": f"{cell.word}-doomed-{cell.doomed.index(chosen['registry_id'])}"}


def _hook_name(b: Burglar, chosen) -> str:
    """What a webhook is called, whoever asks."""
    return next(f"{c.word}-hook" for c in b.city.cells if c.webhook == chosen["webhook_id"])


def _label(b: Burglar, person: Person, cells: list[Cell], chosen) -> dict:
    registry_id = b.random.choice(b.random.choice(cells).registries)
    place = {"registry_id": registry_id, "level": "registry"}
    return {**place, "key": NAMES["key"](b, cells), "value": f"of {registry_id}"}


# The bodies of the doors that need one. A new one is refused by the tests until it is here.
BODIES = {
    ("POST", f"{HSS}/image/synchronize"): _json(
        lambda b, p, c, _: {"image_type": b.random.choice(["private_image", "shared_image"])}
    ),
    ("POST", f"{HSS}/image/image-sync/tasks"): _json(
        lambda b, p, cells, _: b.random.choice(
            [
                {"sync_all_registries": True},
                {"registry_info": [{"registry_id": b.random.choice(cells).registry}]},
            ]
        )
    ),
    ("PUT", f"{HSS}/image/scanner-policies"): _json(
        lambda b, p, cells, _: {
            "enabled": True,
            "scan_cycle": b.random.choice([3, 7, 14]),
            "registry_info": [{"registry_id": b.random.choice(cells).registry}],
        }
    ),
    ("POST", f"{API}/registries/{{registry_id}}/accept"): _json(
        lambda b, p, cells, _: b.random.choice(
            [{"all": True}, {"images": [b.random.choice(b.random.choice(cells).held)]}]
        )
    ),
    ("POST", f"{API}/registries/{{registry_id}}/notifications"): _json(_notification),
    # No address is reached from here: all are in a network that is closed to these registries.
    ("POST", f"{API}/registries/{{registry_id}}/examination"): lambda b, p, c, _: b"",
    ("POST", f"{API}/webhooks"): _json(
        lambda b, p, cells, _: {
            **_made_name(b, p, cells, _),
            "url": "https://127.0.0.1:1/made",
            "registries": [b.random.choice(b.random.choice(cells).registries)],
        }
    ),
    ("PUT", f"{API}/webhooks/{{webhook_id}}"): _json(
        lambda b, p, c, chosen: {"pattern": f"of {chosen['webhook_id']}"}
    ),
    ("POST", f"{API}/webhooks/{{webhook_id}}/secret"): _json(lambda b, p, c, _: {"keep_old_s": 60}),
    ("POST", f"{API}/webhooks/{{webhook_id}}/test"): lambda b, p, c, _: b"",
    ("POST", f"{API}/webhooks/{{webhook_id}}/replay"): _json(
        lambda b, p, c, _: b.random.choice([{"from_number": 1}, {"delivery": 1}])
    ),
    ("PUT", f"{API}/registries/{{registry_id}}/labels/{{key}}"): _json(
        lambda b, p, c, chosen: {"value": f"of {chosen['registry_id']}"}
    ),
    ("PUT", f"{API}/registries/{{registry_id}}/schedule"): _json(
        lambda b, p, c, _: {"full_syncs": b.random.choice(["daily", "never"])}
    ),
    ("POST", f"{HSS}/image/registries"): _json(
        lambda b, p, c, _: {
            "registry_name": f"made-in-{p.account}-{b.count()}",
            "registry_type": "Other",
            "registry_addr": "registry.example",
        }
    ),
    ("PUT", f"{HSS}/image/registries/{{registry_id}}"): _json(
        lambda b, p, c, chosen: {"namespace": f"of {chosen['registry_id']}"}
    ),
    ("POST", f"{HSS}/image/registries/batch-delete"): _json(
        lambda b, p, cells, _: {"ids": [b.random.choice(b.random.choice(cells).doomed)]}
    ),
    ("POST", f"{API}/enterprise-projects"): _json(_made_name),
    # The new name holds the id, which is the mark that is looked for.
    ("PUT", f"{API}/enterprise-projects/{{enterprise_project_id}}"): _json(
        lambda b, p, c, chosen: {"name": f"{b.count()} {chosen['enterprise_project_id']}"[:64]}
    ),
    ("POST", f"{API}/enterprise-projects/{{enterprise_project_id}}/grants"): _json(
        lambda b, p, cells, _: {"user": NAMES["user_name"](b, cells)}
    ),
    ("POST", f"{CONSOLE}/sign-in"): _form(lambda b, p, c, _: {"way": "token", "token": p.token}),
    ("POST", f"{CONSOLE}/sign-out"): _form(lambda b, p, c, _: {}),
    ("POST", f"{CONSOLE}/look"): _form(
        lambda b, p, c, _: {"language": b.random.choice(["en", "zh"]), "theme": "dark"}
    ),
    ("POST", f"{CONSOLE}/registries/add"): _form(
        lambda b, p, c, _: {
            "kind": "Other",
            "name": f"made-in-{p.account}-{b.count()}",
            "address": "https://registry.example",
        }
    ),
    ("POST", f"{CONSOLE}/registries/sync"): _form(lambda b, p, c, _: {}),
    ("POST", f"{CONSOLE}/registries/{{registry_id}}/sync"): _form(lambda b, p, c, _: {}),
    ("POST", f"{CONSOLE}/registries/{{registry_id}}/edit"): _form(_edit),
    (REMOVAL.method, REMOVAL.path): _form(_removal),
    ("POST", f"{CONSOLE}/registries/{{registry_id}}/schedule"): _form(
        lambda b, p, c, _: {"paused": b.random.choice(["true", "false"])}
    ),
    ("POST", f"{CONSOLE}/registries/{{registry_id}}/examination"): _form(lambda b, p, c, _: {}),
    ("POST", f"{CONSOLE}/registries/{{registry_id}}/accept"): _form(
        lambda b, p, cells, _: b.random.choice(
            [{"all": "true"}, {"image": b.random.choice(b.random.choice(cells).held)}]
        )
    ),
    ("POST", f"{HOOKS}/add"): _form(
        lambda b, p, cells, _: {
            **_made_name(b, p, cells, _),
            "url": "https://127.0.0.1:1/made",
            "registries": b.random.choice(b.random.choice(cells).registries),
        }
    ),
    ("POST", f"{HOOKS}/{{webhook_id}}/edit"): _form(
        lambda b, p, c, chosen: {
            "name": _hook_name(b, chosen),
            "pattern": f"of {chosen['webhook_id']}",
        }
    ),
    ("POST", f"{HOOKS}/{{webhook_id}}/state"): _form(
        lambda b, p, c, _: {"paused": b.random.choice(["true", "false"])}
    ),
    ("POST", f"{HOOKS}/{{webhook_id}}/secret"): _form(lambda b, p, c, _: {"keep_old_hours": "1"}),
    ("POST", f"{HOOKS}/{{webhook_id}}/test"): _form(lambda b, p, c, _: {}),
    ("POST", f"{HOOKS}/{{webhook_id}}/replay"): _form(
        lambda b, p, c, _: b.random.choice([{"from_number": "1"}, {"delivery": "1"}])
    ),
    # Once is enough to get through this door; the others need webhooks to be left.
    (UNHOOKING.method, UNHOOKING.path): _form(
        lambda b, p, c, chosen: {"name": "" if b.opened[UNHOOKING] else _hook_name(b, chosen)}
    ),
    ("POST", f"{CONSOLE}/settings/schedules/time-zone"): _form(
        lambda b, p, c, _: {"time_zone": b.random.choice(["UTC", "Asia/Shanghai"])}
    ),
    ("POST", f"{CONSOLE}/settings/schedules/{{registry_id}}"): _form(
        lambda b, p, c, _: {"cron": "@daily", "full_syncs": b.random.choice(["daily", "never"])}
    ),
    ("POST", f"{CONSOLE}/settings/labels/put"): _form(_label),
    ("POST", f"{CONSOLE}/settings/labels/remove"): _form(_label),
    ("POST", f"{CONSOLE}/settings/users/add"): _form(
        lambda b, p, c, _: {
            "name": f"made-in-{p.account}-{b.count()}",
            "role": "read-only",
            "enterprise_project": b.random.choice([*p.enterprise_projects, "0"]),
        }
    ),
    ("POST", f"{CONSOLE}/settings/users/{{user_name}}/roles"): _form(
        lambda b, p, c, _: {"role": b.random.choice(["read-only", "full-access"])}
    ),
    # The same password each time, and sometimes none that is taken: a hash costs much.
    ("POST", f"{CONSOLE}/settings/users/{{user_name}}/password"): _form(
        lambda b, p, c, _: {"password": "long enough" if b.random.random() < 0.3 else "short"}
    ),
    ("POST", f"{CONSOLE}/settings/users/{{user_name}}/disabled"): _form(
        lambda b, p, c, _: {"disabled": b.random.choice(["true", "false"])}
    ),
    ("POST", f"{CONSOLE}/settings/credentials"): _form(
        lambda b, p, cells, _: {
            "user": b.random.choice(["", NAMES["user_name"](b, cells)]),
            "days": "1",
        }
    ),
    ("POST", f"{CONSOLE}/settings/credentials/replace"): _form(
        lambda b, p, cells, _: {"access_key": b.random.choice(b.random.choice(cells).keys)}
    ),
    ("POST", f"{CONSOLE}/settings/credentials/revoke"): _form(
        lambda b, p, cells, _: {"access_key": b.random.choice(b.random.choice(cells).keys)}
    ),
    ("POST", f"{CONSOLE}/settings/enterprise-projects"): _form(_made_name),
    ("POST", f"{CONSOLE}/settings/enterprise-projects/{{enterprise_project_id}}"): _form(
        lambda b, p, c, chosen: {"name": f"{b.count()} {chosen['enterprise_project_id']}"[:64]}
    ),
    ("POST", f"{CONSOLE}/settings/enterprise-projects/{{enterprise_project_id}}/grants"): _form(
        lambda b, p, cells, _: {"user": NAMES["user_name"](b, cells)}
    ),
    (
        "POST",
        f"{CONSOLE}/settings/enterprise-projects/{{enterprise_project_id}}/grants/revoke",
    ): _form(lambda b, p, cells, _: {"user": NAMES["user_name"](b, cells)}),
    ("POST", f"{CONSOLE}/me/password"): _form(_own_password),
    ("POST", f"{CONSOLE}/me/keys"): _form(lambda b, p, c, _: {"current": PASSWORD, "days": "1"}),
    ("POST", f"{CONSOLE}/me/keys/revoke"): _form(
        lambda b, p, c, _: {"access_key": b.random.choice(p.keys)}
    ),
    ("POST", "/v3/auth/tokens"): _json(_login),
    ("POST", "/v3.0/OS-CREDENTIAL/securitytokens"): _json(
        lambda b, p, c, _: {"auth": {"identity": {"methods": ["token"], "token": {}}}}
    ),
}


@dataclass
class Burglar:
    """Asks at random. The same seed asks the same."""

    city: City
    seed: int
    opened: Counter = field(default_factory=Counter)
    told: set[tuple[str, str]] = field(default_factory=set)
    asked: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        found = doors(self.city.app)
        self.doors = [door for door in found if door.offered]
        self.walled_up = [door for door in found if not door.offered]
        self.projects = sorted({cell.project for cell in self.city.cells})
        self._numbers = 0
        self._door_asked: Door | None = None

    def count(self) -> int:
        self._numbers += 1
        return self._numbers

    # --- random calls ----------------------------------------------------------------------------

    async def roam(self, calls: int, *, at_once: int = 4) -> None:
        """Ask so many random questions, several people at a time."""
        for _ in range(0, calls, at_once):
            people = [self.random.choice(self.city.people) for _ in range(at_once)]
            asked = [(p, self._door()) for p in people]
            await asyncio.gather(*(self._try(person, door) for person, door in asked))

    async def open_the_rest(self) -> None:
        """See that somebody gets through every door: a door that nobody tried proves nothing."""
        # An account has no password and no keys of its own, which some doors ask for.
        able = [p for p in self.city.people if p.is_account or p.name == LOGS_IN]
        for door in self.doors:
            for _ in range(100):
                if self.opened[door]:
                    break
                person = self.random.choice(able)
                await self.put(person, door, self.question(person, door, cells=person.sees))
        overview = Door("GET", f"{API}/registries")
        for person in self.city.people:
            path = overview.path.format(project_id=person.project)
            headers = (("X-Auth-Token", person.token),)
            await self.put(person, overview, Question("GET", path, headers=headers))

    async def knock_at_what_is_not_offered(self) -> None:
        """See that nothing is told there, either."""
        for door in self.walled_up:
            person = self.random.choice(self.city.people)
            values = dict.fromkeys(door.parameters, "1") | {"project_id": person.project}
            path = door.path.format(**values)
            token = (("X-Auth-Token", person.token),)
            answer = await self.put(person, door, Question(door.method, path, headers=token))
            assert answer.status >= 400, f"seed {self.seed}: {door}: {answer}"

    def _door(self) -> Door:
        door = self.random.choice(self.doors)
        # A password costs as much as thirty other questions.
        return self.random.choice(self.doors) if door == LOGIN else door

    async def _try(self, person: Person, door: Door) -> None:
        await self.put(person, door, self.question(person, door))

    async def put(self, person: Person, door: Door, question: Question) -> Answer:
        """Ask, and look for what the answer must not hold."""
        answer = await ask(self.city.app, question)
        self.asked += 1
        if door == LOGIN:
            # Whoever has the password is that person.
            person = next(one for one in self.city.people if one.name == LOGS_IN)
        self.opened[door] += answer.status < 300 or _leads_on(answer)
        self._search(person, question, answer)
        return answer

    def _search(self, person: Person, question: Question, answer: Answer) -> None:
        text = answer.text
        if answer.status >= 400:
            # An error may repeat what it complains about, and that is all it may hold of it.
            for value in question.values:
                text = text.replace(value, "…")
        else:
            text = _without_filters(question, text)
            self.told |= {(person.name, c.word) for c in person.sees if c.word in text}
        for mark in person.marks:
            if mark in text:
                self._tell(f"{person} was told {mark!r}", question, answer)
        assert answer.status < 500, f"seed {self.seed}: {question}: {answer}"

    def _tell(self, what: str, question: Question, *answers: Answer) -> None:
        shown = "\n".join(f"{a.status} {a.text}"[:1500] for a in answers)
        raise LeakError(f"seed {self.seed}: {what}\nby {question}\n{shown}")

    def question(self, person: Person, door: Door, *, cells: list[Cell] | None = None) -> Question:
        """A question at a door: about what the person sees, or about what is hidden."""
        cells = cells or self._cells(person)
        chosen = {
            name: self._project(person) if name == "project_id" else NAMES[name](self, cells)
            for name in door.parameters
        }
        self._door_asked = door
        if door in (DELETION, REMOVAL):
            chosen["registry_id"] = self.random.choice(self.random.choice(cells).doomed)
        method = door.method
        if method == "GET" and self.random.random() < 0.03:
            method = "HEAD"
        body = b""
        if door.method in ("POST", "PUT"):
            body = BODIES[door.method, door.path](self, person, cells, chosen)
        return Question(
            method=method,
            path=door.path.format(**chosen),
            query=self._query(door, cells),
            headers=self._headers(person, door),
            body=body,
        )

    def _cells(self, person: Person) -> list[Cell]:
        about = person.sees if self.random.random() < 0.6 else person.hidden
        return about or person.hidden

    def _project(self, person: Person) -> str:
        return person.project if self.random.random() < 0.9 else self.random.choice(self.projects)

    def _query(self, door: Door, cells: list[Cell]) -> str:
        likely = {"enterprise_project_id", *LIKELY.get(door.path, ())}
        known = QUERY | (CONSOLE_QUERY if door.path.startswith(CONSOLE) else {})
        # Of many filters some nearly always leave nothing: half of the questions have none.
        seldom = self.random.choice([0.0, 0.1])
        given = {
            name: value(self, cells)
            for name, value in known.items()
            if self.random.random() < (0.4 if name in likely else seldom)
        }
        return urlencode(NEEDED.get(door.path, {}) | given)

    def session_of(self, person: Person) -> str:
        """The session a person visits a page with; one to spare where it will end."""
        leaving = self._door_asked is not None and self._door_asked.path.endswith("/sign-out")
        return (
            person.spare_sessions[self.asked % len(person.spare_sessions)]
            if leaving
            else (person.session)
        )

    def _headers(self, person: Person, door: Door):
        if door.path.startswith(CONSOLE):
            return (("Cookie", f"wharfinger_session={self.session_of(person)}"),)
        if door.path.endswith("/notifications"):
            # It is a credential by itself: who brings another's is that registry, no burglar.
            own = [cell.hint_token for cell in person.sees] or ["a guess"]
            return (("Authorization", f"Bearer {self.random.choice(own)}"),)
        if door.path == "/v3/auth/tokens" and door.method != "POST":
            whose = self.random.choice([person, self.random.choice(self.city.people)])
            token = self.random.choice(whose.spare_tokens)
            return (("X-Auth-Token", person.token), ("X-Subject-Token", token))
        if door.path.startswith("/v3/auth/tokens"):
            return ()
        token = ("X-Auth-Token", person.token)
        if self.random.random() < STREAMED:
            return (token, ("Accept", "application/x-ndjson"))
        return (token,)

    # --- one question twice ----------------------------------------------------------------------

    @property
    def never_opened(self) -> list[str]:
        """Doors that let nobody in, but for two of which it has to be so."""
        closed = [f"{door.method} {door.path}" for door in self.doors if not self.opened[door]]
        closed.remove(MONITORING)
        closed.remove(OWN_PASSWORD)
        return closed

    @property
    def never_told(self) -> set[tuple[str, str]]:
        """What people may see and have not: then it proves nothing that they saw nothing else."""
        may = {(p.name, cell.word) for p in self.city.people for cell in p.sees}
        return may - self.told

    async def search_everything(self, calls: int, *, people: int) -> None:
        """All three ways in."""
        await self.roam(calls)
        await self.open_the_rest()
        await self.knock_at_what_is_not_offered()
        await self.compare_ids(people=min(people, 3))
        await self.compare_before_and_after(people=people)

    async def compare_ids(self, *, people: int) -> None:
        """By its id, what is another's is answered like what does not exist."""
        for door in self.doors:
            for name in sorted(set(door.parameters) - {"user_name", "key", "digest", "name"}):
                for person in self.random.sample(self.city.people, people):
                    await self._compare(person, door, name)

    async def _compare(self, person: Person, door: Door, name: str) -> None:
        if name == "project_id":
            hidden = self.random.choice([p for p in self.projects if p != person.project])
        else:
            where = [c for c in person.hidden if self._is_hidden(person, c, name)]
            if not where:
                return
            hidden = NAMES[name](self, [self.random.choice(where)])
        about = person.sees or person.hidden
        asked = self.question(person, door, cells=about)
        chosen = {
            n: person.project if n == "project_id" else NAMES[n](self, about)
            for n in door.parameters
        }
        # All else alike, and nothing that would make the two differ by itself.
        query = urlencode(NEEDED.get(door.path, {}))
        answers = []
        for value in (hidden, _like(hidden)):
            path = door.path.format(**chosen | {name: value})
            question = Question(door.method, path, query, asked.headers, asked.body)
            answer = await self.put(person, door, question)
            answers.append((answer.status, answer.text.replace(value, "ID")))
        if answers[0] != answers[1]:
            shown = "\n".join(f"{status} {text}" for status, text in answers)
            raise LeakError(
                f"seed {self.seed}: {person} can tell {name} {hidden!r} from one that does not"
                f" exist, at {door.method} {door.path}\n{shown}"
            )

    @staticmethod
    def _is_hidden(person: Person, cell: Cell, name: str) -> bool:
        if name == "enterprise_project_id":
            return cell.enterprise_project not in {"0", *person.enterprise_projects}
        return True

    async def compare_before_and_after(self, *, people: int) -> None:
        """Whatever becomes of what a person must not see, the person's answers stay the same."""
        reading = [d for d in self.doors if d.method == "GET" and d.path not in AUDIT]
        for person in self.random.sample(self.city.people, people):
            asked = [(door, self.question(person, door)) for door in reading]
            before = [await self.put(person, door, question) for door, question in asked]
            self.city.shake(person.hidden)
            for (door, question), then in zip(asked, before, strict=True):
                now = await self.put(person, door, question)
                if now != then:
                    self._tell(
                        f"what {person} must not see has changed the answer", question, then, now
                    )


def _without_filters(question: Question, text: str) -> str:
    """A page of the console without what its own form and links repeat of the question."""
    if not question.path.startswith(CONSOLE):
        return text
    for name, value in parse_qsl(question.query):
        text = text.replace(f'<option value="{value}" selected>{value}</option>', "")
        text = text.replace(f'name="{name}" value="{value}"', "")
        text = text.replace(urlencode({name: value}), "")
    return text


def _leads_on(answer: Answer) -> bool:
    """Whether a form was taken: whoever is not signed in is sent to the door and back."""
    location = dict(answer.headers).get("location", "")
    return answer.status == 303 and "next=" not in location


def _like(known: str) -> str:
    """What looks like an id, and is none."""
    if re.fullmatch(r"[0-9a-f-]{36}", known):
        return str(uuid.uuid4())
    if known.isdigit():
        return known[0] + "".join(random.choice("123456789") for _ in known[1:])
    return "".join(random.choice("bcdfghjk") for _ in known)
