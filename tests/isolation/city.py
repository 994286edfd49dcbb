"""A made-up city of tenants, in which everything bears the mark of where it belongs."""

from __future__ import annotations

import copy
import datetime as dt
import functools
import json
import uuid
from dataclasses import dataclass, field

import psycopg

from wharfinger.domain.model import Origin
from wharfinger.domain.webhooks import SealedParts, new_secret
from wharfinger.identity.authentication import Authenticator
from wharfinger.identity.passwords import hash_password
from wharfinger.identity.sessions import Sessions
from wharfinger.store.sealing import Sealer
from wharfinger.store.sessions import SessionRows
from wharfinger.store.webhooks import sealed_parts
from wharfinger.wiring import House

AT = dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)
# Longer than any session of tests: the tests share what is issued once.
LIFE = dt.timedelta(days=1)
PASSWORD = "correct horse"
LOGS_IN = "alice-north"
SPARE_TOKENS = 8
DOOMED = 5
KEYS = 5
# Everybody has an image of it; what belongs to it is everybody's own.
COMMON = "sha256:" + "5" * 64


@dataclass
class Cell:
    """What one enterprise project holds in one project. Its marks are in all of its rows.

    Ids and numbers begin alike (``number``), hexadecimal ids do too (``hexadecimal``), and every
    text and digest holds the word.
    """

    index: int
    word: str
    project: str
    enterprise_project: str
    registry: str = ""
    other_registry: str = ""  # of a kind that sends notifications
    doomed: list[str] = field(default_factory=list)  # registries to be removed
    runs: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    hint_token: str = ""
    keys: list[str] = field(default_factory=list)  # access keys of the project, to be ended

    @property
    def webhook(self) -> str:
        return self.uuid(20)

    @property
    def registries(self) -> list[str]:
        return [self.registry, self.other_registry]

    @property
    def marks(self) -> list[str]:
        return [self.word, self.word.encode().hex(), self.number, f"{self.hexadecimal}-0000"]

    @property
    def number(self) -> str:
        return f"7{self.index}3131317"

    @property
    def hexadecimal(self) -> str:
        return f"c0ffee{self.index:02x}"

    def id(self, n: int) -> int:
        return int(f"{self.number}{n:04d}")

    def uuid(self, n: int) -> str:
        return str(uuid.UUID(f"{self.hexadecimal}{n:024x}"))

    def digest(self, n: int) -> str:
        return "sha256:" + (self.word.encode() + b"%d" % n).hex().ljust(64, "0")


@dataclass
class Person:
    """Somebody who calls, and what must never be seen of all others.

    ``marks`` are of what is outside: other accounts, and what the person is not granted.
    """

    name: str
    account: str
    project: str
    token: str
    sees: list[Cell]
    hidden: list[Cell]
    marks: list[str]
    spare_tokens: list[str]
    enterprise_projects: list[str]
    is_account: bool
    session: str  # of the console
    spare_sessions: list[str]
    keys: list[str]  # access keys of their own, to be ended

    def __repr__(self) -> str:
        return f"{self.name} of {self.account} in {self.project}"


# account: its projects, and its enterprise projects by word.
ACCOUNTS = {
    "northland": (["northland", "northland-two"], ["marshes", "orchard"]),
    "southland": (["southland"], ["lighthouse"]),
}
# (project, enterprise project): the word of the cell
WORDS = {
    ("northland", "0"): "aardvark",
    ("northland", "marshes"): "bandicoot",
    ("northland", "orchard"): "cassowary",
    ("northland-two", "0"): "dugongs",
    ("northland-two", "marshes"): "echidnas",
    ("southland", "0"): "fossas",
    ("southland", "lighthouse"): "gharials",
}
# name, account, project, enterprise projects (None: the account's own key), policy
PEOPLE = [
    ("norbert-north", "northland", "northland", None, ""),
    ("nora-north", "northland", "northland-two", None, ""),
    ("alice-north", "northland", "northland", ["0"], "administrator"),
    ("bob-north", "northland", "northland", ["marshes"], "administrator"),
    ("carol-north", "northland", "northland", ["0", "orchard"], "full-access"),
    ("dave-north", "northland", "northland", ["*"], "administrator"),
    ("erin-north", "northland", "northland", [], "administrator"),
    ("frank-north", "northland", "northland-two", ["marshes"], "read-only"),
    ("stella-south", "southland", "southland", None, ""),
    ("steve-south", "southland", "southland", ["lighthouse"], "administrator"),
]


class City:
    """The house, the rows in its database, and who calls."""

    def __init__(self, house: House, sql: psycopg.Connection) -> None:
        self.house = house
        self.sql = sql
        self.cells: list[Cell] = []
        self.people: list[Person] = []
        self.enterprise_projects: dict[str, str] = {"0": "0"}  # word: id
        self.shakes = 0

    @functools.cached_property
    def app(self):
        return self.house.http_app()

    def copied(self, house: House, sql: psycopg.Connection) -> City:
        """The same city in a house over a copy of its database."""
        again = City(house, sql)
        known = (self.cells, self.people, self.enterprise_projects)
        again.cells, again.people, again.enterprise_projects = copy.deepcopy(known)
        return again

    async def build(self) -> None:
        for account, (projects, words) in ACCOUNTS.items():
            for project in projects:
                of = None if project == account else account
                await self.house.callers.create_project(
                    f"region-of-{project}", project, account_id=of
                )
            for word in words:
                self._enterprise_project(account, word)
            spare = self._user(account, f"spare-{account}")
            for word in ("0", *words):
                self._grant(account, spare, word)
        for (project, word), mark in WORDS.items():
            cell = Cell(len(self.cells), mark, project, self.enterprise_projects[word])
            cell.keys = self._keys(project, None, f"AK-{mark}-of-{project}")
            self.cells.append(cell)
            _fill(self.sql, cell, self.house.keys)
        self._tasks_over_several()
        for row in PEOPLE:
            await self._person(*row)

    def _enterprise_project(self, account: str, word: str) -> None:
        given = str(uuid.uuid5(uuid.NAMESPACE_OID, word))
        self.enterprise_projects[word] = given
        self.sql.execute(
            "INSERT INTO enterprise_project (id, project_id, name) VALUES (%s, %s, %s)",
            (given, account, word),
        )

    def _user(self, account: str, name: str, password: str | None = None) -> str:
        return self.sql.execute(
            "INSERT INTO principal (id, project_id, name, kind, password_hash,"
            " password_changed_at)"
            " VALUES (replace(gen_random_uuid()::text, '-', ''), %s, %s, 'user', %s,"
            " now() - interval '1 day') RETURNING id",
            (account, name, password),
        ).fetchone()[0]

    def _grant(self, account: str, user_id: str, word: str) -> None:
        self.sql.execute(
            "INSERT INTO enterprise_project_grant VALUES (%s, %s, %s)",
            (account, user_id, None if word == "*" else self.enterprise_projects[word]),
        )

    def _keys(self, project: str, user_id: str | None, name: str) -> list[str]:
        """Access keys that nobody can use: what was sealed is nothing."""
        names = [f"{name}-{n}" for n in range(KEYS)]
        for access_key in names:
            self.sql.execute(
                "INSERT INTO credential (access_key, project_id, principal_id, secret_sealed)"
                " VALUES (%s, %s, %s, '')",
                (access_key, project, user_id),
            )
        return names

    def _tasks_over_several(self) -> None:
        """One task per project, over the registries of all of its enterprise projects."""
        for project in {cell.project for cell in self.cells}:
            (task,) = self.sql.execute(
                "INSERT INTO task (project_id, name, sync_type)"
                " VALUES (%s, 'image-sync-of-several', 'manualSync') RETURNING id::text",
                (project,),
            ).fetchone()
            for cell in [cell for cell in self.cells if cell.project == project]:
                self.sql.execute(
                    "INSERT INTO task_run (task_id, run_id, project_id) VALUES (%s, %s, %s)",
                    (task, cell.runs[0], project),
                )

    async def _person(self, name, account, project, granted, policy) -> None:
        user_id, own_keys = None, ["AK-of-nobody"]
        every = granted is None or "*" in granted
        if granted is not None:
            user_id = self._user(
                account, name, hash_password(PASSWORD) if name == LOGS_IN else None
            )
            await self.house.principals.grant(account, name, policy, project)
            for word in granted:
                self._grant(account, user_id, word)
            own_keys = self._keys(project, user_id, f"AK-of-{name}")
        words = ["0", *ACCOUNTS[account][1]] if every else granted
        ids = [self.enterprise_projects[word] for word in words]
        sees = [c for c in self.cells if c.project == project and c.enterprise_project in ids]
        hidden = [c for c in self.cells if c not in sees]
        issue = self.house.callers.issue_token
        sessions = [
            await self._session((await issue(project, user_id, LIFE)).token)
            for _ in range(1 + SPARE_TOKENS)
        ]
        self.people.append(
            Person(
                name=name,
                account=account,
                project=project,
                token=(await issue(project, user_id, LIFE)).token,
                sees=sees,
                hidden=hidden,
                marks=self._marks(account, project, words, hidden, knows_all=granted is None),
                spare_tokens=[
                    (await issue(project, user_id, LIFE)).token for _ in range(SPARE_TOKENS)
                ],
                enterprise_projects=ids,
                is_account=granted is None,
                session=sessions[0],
                spare_sessions=sessions[1:],
                keys=own_keys,
            )
        )

    async def _session(self, token: str) -> str:
        authenticator = Authenticator(self.house.callers)
        sessions = Sessions(SessionRows(self.house.database), authenticator, login=None)
        return (await sessions.by_token(token, origin=Origin())).id

    def _marks(self, account, project, words, hidden, *, knows_all) -> list[str]:
        marks = [mark for cell in hidden for mark in cell.marks]
        for word in set(self.enterprise_projects) - {"0", *words}:
            marks += [word, self.enterprise_projects[word]]
        for other, (projects, _) in ACCOUNTS.items():
            if other != account:
                marks += projects
                marks += [p[0] for p in PEOPLE if p[1] == other and p[3] is not None]
            elif not knows_all:
                # The name of a project that the user may not enter.
                marks += [f"region-of-{p}" for p in projects if p not in (project, account)]
        return marks

    def shake(self, cells: list[Cell]) -> None:
        """Change whatever can change in some cells: words, counts, rows, verdicts."""
        self.shakes += 1
        for cell in cells:
            _shake(self.sql, cell, self.shakes)


def _fill(sql: psycopg.Connection, cell: Cell, keys: Sealer) -> None:
    word = cell.word
    reasons = json.dumps(
        [
            {"code": "timeout", "message": f"{word} did not answer"},
            {"code": "forbidden", "message": f"no {word}", "repository": f"{word}/{word}-app"},
        ]
    )
    cell.hint_token = f"hints of {word}"
    registries = [("SwrPrivate", 1), ("Other", 2)]
    for kind, n in registries:
        _insert(
            sql,
            "registry",
            id=cell.uuid(n),
            project_id=cell.project,
            name=f"{word}-{kind}",
            kind=kind,
            address=f"https://127.0.0.1:1/{word}/{n}",
            region=word,
            enterprise_project_id=cell.enterprise_project,
            credential_kind="basic" if n == 1 else "none",
            credential_identity=f"user-{word}" if n == 1 else "",
            verdict="partial" if n == 1 else "complete",
            verdict_reasons=reasons if n == 1 else "[]",
            confirmed_at=AT,
            stale_after="366 days",
            created_at=AT - dt.timedelta(days=9),
            live_images=cell.id(60),
            held_images=cell.id(61),
        )
    cell.registry, cell.other_registry = (cell.uuid(n) for _, n in registries)
    cell.doomed = [cell.uuid(n) for n in range(10, 10 + DOOMED)]
    for n, given in enumerate(cell.doomed):
        _insert(
            sql,
            "registry",
            id=given,
            project_id=cell.project,
            name=f"{word}-doomed-{n}",
            kind="Other",
            address=f"https://127.0.0.1:1/{word}",
            enterprise_project_id=cell.enterprise_project,
        )
    for namespace in (None, word):
        _insert(
            sql,
            "label",
            project_id=cell.project,
            registry_id=cell.registry,
            namespace=namespace,
            key="team",
            value=word,
        )
    sql.execute(
        "UPDATE registry SET hint_token = sha256(%s::bytea) WHERE id = %s",
        (cell.hint_token.encode(), cell.other_registry),
    )
    _fill_webhook(sql, cell, keys)
    _fill_images(sql, cell, reasons)
    _fill_runs(sql, cell, reasons)


def _fill_webhook(sql: psycopg.Connection, cell: Cell, keys: Sealer) -> None:
    word, webhook = cell.word, cell.webhook
    parts = SealedParts(url=f"https://127.0.0.1:1/{word}", secret=new_secret())
    _insert(
        sql,
        "webhook",
        id=webhook,
        project_id=cell.project,
        name=f"{word}-hook",
        address=parts.url,
        sealed=sealed_parts(keys, cell.project, webhook, parts),
        enterprise_projects=[cell.enterprise_project],
        pattern=f"{word}/*",
        change_seq=0,
        notice_seq=0,
    )
    _insert(
        sql,
        "webhook_delivery",
        project_id=cell.project,
        webhook_id=webhook,
        kind="events",
        event_id=f"change-{cell.id(70)}",
        events=1,
        attempt=1,
        status=500,
        error=word,
        latency_ms=1,
        excerpt=f"no {word}",
        change_seq=0,
        notice_seq=0,
    )


def _fill_images(sql: psycopg.Connection, cell: Cell, reasons: str) -> None:
    word = cell.word
    (feed,) = sql.execute(
        "SELECT seq FROM tenant_feed WHERE project_id = %s", (cell.project,)
    ).fetchone()
    for n in (1, 2):
        _insert(
            sql,
            "repository",
            overriding=True,
            id=cell.id(n),
            project_id=cell.project,
            registry_id=cell.registry,
            namespace=word,
            name=f"{word}-app-{n}",
            owner=f"owner-{word}",
            shared_status="effective",
            listed_at=AT,
            verdict="partial" if n == 1 else "complete",
            verdict_reason=json.dumps(json.loads(reasons)[1]) if n == 1 else None,
            live_images=3,
            held_images=2,
            requests=int(cell.number),
        )
        for m in range(3):
            image = cell.id(n * 10 + m)
            held = AT if m else None
            cell.images.append(image)
            cell.held += [image] if held else []
            digest = COMMON if (n, m) == (2, 2) else cell.digest(n * 10 + m)
            values = {"project_id": cell.project, "size": image, "digest": digest}
            _insert(
                sql,
                "image",
                overriding=True,
                id=image,
                registry_id=cell.registry,
                repository_id=cell.id(n),
                tag=f"{word}-{m}",
                image_id=cell.digest(m),
                is_index=m == 0,
                updated_at=AT,
                held_at=held,
                first_seen_at=AT,
                **values,
            )
            feed += 1
            _insert(
                sql,
                "image_version",
                image_id=image,
                from_seq=feed,
                config_digest=cell.digest(m),
                updated_at=AT,
                run_id=cell.uuid(101),
                **values,
            )
            _insert(
                sql,
                "event",
                project_id=cell.project,
                seq=feed,
                kind="added",
                image_id=image,
                repository_id=cell.id(n),
                registry_id=cell.registry,
                run_id=cell.uuid(101),
                tag=f"{word}-{m}",
                digest_after=digest,
                at=AT - dt.timedelta(hours=1) + dt.timedelta(seconds=feed),
            )
            _insert(
                sql,
                "platform",
                project_id=cell.project,
                registry_id=cell.registry,
                index_digest=digest,
                position=0,
                digest=cell.digest(n),
                os=f"os-{word}",
                architecture=word,
                variant="",
                size=image,
                image_id=cell.digest(77),
            )
            _insert(
                sql,
                "attachment",
                project_id=cell.project,
                registry_id=cell.registry,
                repository_id=cell.id(n),
                subject=digest,
                digest=cell.digest(80 + m),
                kind="signature" if cell.index % 2 else "sbom",
                artifact_type=f"application/{word}",
            )
    sql.execute(
        "UPDATE tenant_feed SET seq = %s WHERE project_id = %s",
        (feed, cell.project),
    )


def _fill_runs(sql: psycopg.Connection, cell: Cell, reasons: str) -> None:
    for n, outcome, seq in ((101, "complete", 0), (102, "partial", 6)):
        run = cell.uuid(n)
        cell.runs.append(run)
        _insert(
            sql,
            "run",
            id=run,
            project_id=cell.project,
            registry_id=cell.registry,
            state="finished",
            outcome=outcome,
            images=cell.id(n),
            requests=cell.id(n),
            added=cell.id(n),
            repositories_failed=cell.id(n),
            reasons=reasons,
            finished_seq=seq,
            queued_at=AT - dt.timedelta(minutes=n),
            started_at=AT - dt.timedelta(minutes=n),
            finished_at=AT - dt.timedelta(minutes=n) + dt.timedelta(seconds=5),
        )
        task = cell.uuid(n + 100)
        cell.tasks.append(task)
        _insert(
            sql,
            "task",
            id=task,
            project_id=cell.project,
            name=f"sync-of-{cell.word}-{n}",
            sync_type="manualSync",
            requested_by=cell.word,
            created_at=AT,
        )
        _insert(sql, "task_run", task_id=task, run_id=run, project_id=cell.project)


def _shake(sql: psycopg.Connection, cell: Cell, n: int) -> None:
    changed = (cell.registry,)
    sql.execute(
        "UPDATE registry SET verdict = CASE verdict WHEN 'never' THEN 'complete' ELSE 'never' END,"
        " address = address || '/x', verdict_reasons = '[]', name = name || 'x' WHERE id = %s",
        changed,
    )
    sql.execute(
        "UPDATE repository SET live_images = live_images + 5, verdict = 'never', requests = 1,"
        " latest_image_id = NULL WHERE registry_id = %s",
        changed,
    )
    sql.execute(
        "UPDATE image SET retired_at = CASE WHEN retired_at IS NULL THEN now() END, size = 5,"
        " held_at = CASE WHEN held_at IS NULL THEN now() END WHERE registry_id = %s",
        changed,
    )
    sql.execute(
        "UPDATE run SET images = images + 3, outcome = 'failed', reasons = '[]', added = 5,"
        " started_at = started_at - interval '1 hour' WHERE registry_id = %s",
        changed,
    )
    sql.execute(
        "UPDATE attachment SET artifact_type = artifact_type || 'x', kind = 'attestation'"
        " WHERE registry_id = %s",
        changed,
    )
    sql.execute("UPDATE label SET value = value || 'x' WHERE registry_id = %s", changed)
    sql.execute(
        "UPDATE webhook SET name = name || 'x', failures = 3, last_status = 500 WHERE id = %s",
        (cell.webhook,),
    )
    more = cell.uuid(1000 + n)
    _insert(
        sql,
        "registry",
        id=more,
        project_id=cell.project,
        name=f"{cell.word}-{n}",
        kind="SwrPrivate",
        address=f"https://{cell.word}.example",
        enterprise_project_id=cell.enterprise_project,
        created_at=AT - dt.timedelta(days=9),
    )
    repository = cell.id(2000 + n)
    _insert(
        sql,
        "repository",
        overriding=True,
        id=repository,
        project_id=cell.project,
        registry_id=more,
        namespace=cell.word,
        name=cell.word,
        live_images=11,
    )
    _insert(
        sql,
        "image",
        overriding=True,
        id=cell.id(3000 + n),
        project_id=cell.project,
        registry_id=more,
        repository_id=repository,
        tag="v1",
        digest=cell.digest(n),
        image_id=cell.digest(n),
        size=cell.id(n),
        updated_at=AT,
    )
    run, task = cell.uuid(4000 + n), cell.uuid(5000 + n)
    _insert(sql, "run", id=run, project_id=cell.project, registry_id=more)
    _insert(sql, "task", id=task, project_id=cell.project, name=cell.word, sync_type="manualSync")
    _insert(sql, "task_run", task_id=task, run_id=run, project_id=cell.project)


def _insert(sql: psycopg.Connection, table: str, *, overriding=False, **columns) -> None:
    marks = ", ".join(["%s"] * len(columns))
    override = " OVERRIDING SYSTEM VALUE" if overriding else ""
    sql.execute(
        f"INSERT INTO {table} ({', '.join(columns)}){override} VALUES ({marks})",
        tuple(columns.values()),
    )
