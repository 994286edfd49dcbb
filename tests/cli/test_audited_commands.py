"""Every command that changes something leaves an entry, told apart from those that only look."""

from __future__ import annotations

import json
import os
import pwd
import re

import pytest
import typer.main
from typer.testing import CliRunner

from rows import Rows
from wharfinger.cli import app

PROJECT = ("--project", "acme")
SWR = (*PROJECT, "--name", "swr")
SIGNING = ("--secret-key-stdin", "--access-key")
NOBODY = "http://127.0.0.1:9"
USER = pwd.getpwuid(os.getuid()).pw_name

# What changes nothing that is anybody's: commands that look, and those that only work.
READING = {
    "serve",
    "worker",
    "migrate",
    "images",
    "export",
    # Into an empty database only, where there is nobody yet: it brings its own audit.
    "backup",
    "restore",
    "upgrade-check",
    "changes",
    "settings",
    "project list",
    "credential list",
    "user list",
    "policy list",
    "audit list",
    "audit strangers",
    "image history",
    "registry list",
    "report",
    "registry repositories",
    "registry held",
    "registry test",
    "schedule list",
    "label list",
    "webhook list",
    "webhook deliveries",
    "doctor",
    "swr instances",
    "enterprise-project list",
}
# In the order in which each finds what it needs: words, standard input, and the entry it leaves.
CHANGING = {
    "project create": (("acme name", "--id", "acme"), "", "project.create"),
    "policy create": (("mine", *PROJECT, "--file", "POLICY"), "", "policy.create"),
    "user create": (
        ("alice", *PROJECT, "--policy", "mine", "--password-stdin"),
        "planted-password-1",
        "user.create",
    ),
    "user password": (("alice", *PROJECT), "planted-password-2", "user.password"),
    "user disable": (("alice", *PROJECT), "", "user.disable"),
    "user enable": (("alice", *PROJECT), "", "user.enable"),
    "user grant": (("alice", "read-only", *PROJECT), "", "user.grant"),
    "user revoke": (("alice", "mine", *PROJECT), "", "user.revoke"),
    "enterprise-project create": (("web", *PROJECT), "", "enterprise_project.create"),
    "enterprise-project rename": (("WEB", "shop", *PROJECT), "", "enterprise_project.change"),
    "enterprise-project disable": (("WEB", *PROJECT), "", "enterprise_project.change"),
    "enterprise-project enable": (("WEB", *PROJECT), "", "enterprise_project.change"),
    "enterprise-project grant": (("alice", "WEB", *PROJECT), "", "enterprise_project.grant"),
    "enterprise-project revoke": (("alice", "WEB", *PROJECT), "", "enterprise_project.revoke"),
    "policy delete": (("mine", *PROJECT), "", "policy.delete"),
    "credential create": ((*PROJECT, "--user", "alice"), "", "credential.create"),
    "credential rotate": (("KEY", *PROJECT), "", "credential.rotate"),
    "credential revoke": (("KEY", *PROJECT), "", "credential.revoke"),
    "token create": (PROJECT, "", "token.create"),
    "registry add": (
        (*SWR, "--kind", "SwrPrivate", "--address", NOBODY, *SIGNING, "AKREGISTRY"),
        "planted-registry-secret-1",
        "registry.add",
    ),
    "registry set": (
        (*SWR, "--exclude", "team/*", *SIGNING, "AKNEW"),
        "planted-registry-secret-2",
        "registry.set",
    ),
    "schedule set": (("swr", *PROJECT, "--cron", "@hourly"), "", "schedule.set"),
    "schedule pause": (("swr", *PROJECT), "", "schedule.set"),
    "schedule resume": (("swr", *PROJECT), "", "schedule.set"),
    "project time-zone": (("Asia/Shanghai", *PROJECT), "", "project.set"),
    "label set": (("swr", "team=payments", *PROJECT), "", "label.set"),
    "label remove": (("swr", "team", *PROJECT), "", "label.remove"),
    "webhook add": (
        (f"{NOBODY}/hook?key=planted", *PROJECT, "--name", "hook", "--allow-private-networks"),
        "",
        "webhook.add",
    ),
    "webhook set": (("hook", *PROJECT, "--new-secret"), "", "webhook.rotate_secret"),
    "webhook replay": (("hook", *PROJECT, "--from-number", "1"), "", "webhook.replay"),
    "webhook test": (("hook", *PROJECT), "", "webhook.test"),
    "webhook remove": (("hook", *PROJECT), "", "webhook.remove"),
    "sync": (PROJECT, "", "image.synchronize"),
    "registry accept": ((*SWR, "--all"), "", "registry.accept"),
    "registry hint-token": ((*PROJECT, "--name", "docker"), "", "registry.hint_token"),
    "secret-key rotate": ((), "", "secret_key.rotate"),
    "history prune": (PROJECT, "", "history.prune"),
    "registry remove": (SWR, "", "registry.remove"),
    "registry purge": ((*SWR, "--yes"), "", "registry.purge"),
    "swr configure": (
        (*PROJECT, "--region", "cn-north-4", "--address", NOBODY, *SIGNING, "AKSWR"),
        "planted-registry-secret-3",
        "registry.add",
    ),
}
# Nobody can be reached, which is all that these need here.
EXIT_CODES = {"sync": 1, "webhook test": 1}


def leaves(command, path=()):
    children = getattr(command, "commands", None)
    if not children:
        yield " ".join(path)
    for name, child in (children or {}).items():
        yield from leaves(child, (*path, name))


COMMANDS = set(leaves(typer.main.get_command(app)))


class Terminal:
    """Runs commands in this process, over the test's own database."""

    def __init__(self, sql, address, folder):
        self.sql = sql
        self.policy = folder / "policy.json"
        self.policy.write_text(
            '{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["hss:images:list"]}]}'
        )
        self.key = ""
        self.web = ""
        self.shown = set()
        self._environment = {
            "WHARFINGER_DATA_DIR": str(folder),
            "WHARFINGER_DATABASE_URL": address.owner,
            "WHARFINGER_DATABASE_APP_URL": address.app,
            "WHARFINGER_RETRY_DEADLINE_S": "0",
        }

    def run(self, command, words, stdin=""):
        places = {"POLICY": str(self.policy), "KEY": self.key, "WEB": self.web}
        filled = [places.get(word, word) for word in words]
        done = CliRunner().invoke(
            app, [*command.split(), *filled], input=stdin, env=self._environment
        )
        assert done.exit_code == EXIT_CODES.get(command, 0), (command, done.output, done.exception)
        self._remember(command, done.stdout)
        return done.stdout

    def _remember(self, command, text):
        if command == "enterprise-project create":
            self.web = text.strip()
        if found := re.search(r"^access_key  (\S+)$", text, re.MULTILINE):
            self.key = found[1]
        # Every secret that is shown once: a secret key, or a token.
        self.shown |= set(
            re.findall(r"^(?:secret_key  |token  )?([\w-]{40,})$", text, re.MULTILINE)
        )

    def entries(self, after=0):
        rows = self.sql.execute(
            "SELECT to_jsonb(a) FROM audit a WHERE id > %s ORDER BY id", (after,)
        ).fetchall()
        return [row[0] for row in rows]


@pytest.fixture
def terminal(database_address, owner_connection, tmp_path):
    return Terminal(owner_connection, database_address, tmp_path)


def test_every_command_is_known_to_change_something_or_not():
    unknown = COMMANDS - READING - CHANGING.keys()

    assert unknown == set(), "say above whether it changes something, and what it leaves"
    assert CHANGING.keys() | READING == COMMANDS


def test_every_command_that_changes_something_leaves_an_entry_and_no_secret(terminal):
    last = 0
    for command, (words, stdin, action) in CHANGING.items():
        if command == "registry set":
            Rows("acme", terminal.sql).registry("docker", "Other")
        terminal.run(command, words, stdin and stdin + "\n")

        left = [entry for entry in terminal.entries(last) if entry["action"] == action]
        assert left, (command, terminal.entries(last))
        assert left[0]["project_id"] == "acme"
        assert left[0]["principal"] == f"operating-system user {USER}", command
        assert (left[0]["user_name"], left[0]["source"]) == (USER, "command line")
        assert left[0]["kind"] == "change"
        last = terminal.entries()[-1]["id"]

    kept = json.dumps(terminal.entries())
    # Two secret keys, a token and a token of notifications.
    assert len(terminal.shown) == 4
    assert {secret for secret in terminal.shown if secret in kept} == set()
    assert "planted" not in kept


def test_the_audit_is_listed(terminal):
    for command in ("project create", "policy create", "user create", "user grant"):
        words, stdin, _ = CHANGING[command]
        terminal.run(command, words, stdin and stdin + "\n")
    terminal.sql.execute(
        "INSERT INTO audit (project_id, at, principal, action, target, outcome, kind)"
        " VALUES ('acme', now() - interval '3 days', 'eve', 'call.refuse', 'route', '', 'refusal')"
    )

    def actions(*options):
        found = json.loads(terminal.run("audit list", (*PROJECT, *options, "--json")))
        return [entry["action"] for entry in found]

    newest = ["user.grant", "user.create", "policy.create", "project.create"]
    assert actions() == ["call.refuse", *newest]
    assert actions("--since", "1d") == newest
    assert actions("--limit", "2") == ["call.refuse", "user.grant"]
    assert actions("--kind", "refusal") == ["call.refuse"]
    assert actions("--action", "user.create") == ["user.create"]
    assert actions("--user", USER) == newest
    table = terminal.run("audit list", PROJECT)
    assert "user alice" in table
    assert "command line" in table


def test_calls_of_nobody_we_know_are_listed(terminal):
    terminal.sql.execute(
        "INSERT INTO refusal_count (minute, reason, network, calls) VALUES"
        " (now(), 'unknown_key', '192.0.2.0/24', 3), (now(), 'unknown_key', '192.0.2.0/24', 4)"
    )
    terminal.sql.execute(
        "INSERT INTO refusal_sample (reason, source, method, route, user_agent, request_id)"
        " VALUES ('unknown_key', '192.0.2.7', 'GET', '/v3', 'curl', 'r1')"
    )

    told = json.loads(terminal.run("audit strangers", ("--json",)))
    shown = terminal.run("audit strangers", ("--since", "7d"))

    assert [(c["reason"], c["network"], c["calls"]) for c in told["counts"]] == [
        ("unknown_key", "192.0.2.0/24", 7)
    ]
    assert [(s["source"], s["request_id"]) for s in told["samples"]] == [("192.0.2.7", "r1")]
    assert "192.0.2.0/24" in shown
