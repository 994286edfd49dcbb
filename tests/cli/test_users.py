"""Users, policies and keys, by the command line."""

import base64
import json
import re
import stat

import pytest
from commands import PROJECT

POLICY = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["hss:images:list"]}]}


@pytest.fixture
def policy_file(tmp_path):
    def write(document):
        path = tmp_path / "policy.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


def listed(commands, name):
    users = commands.json("user", "list", "--project", PROJECT)
    return next(user for user in users if user["name"] == name)


def test_a_user_is_made_listed_and_closed(commands):
    made = commands(
        *("user", "create", "alice", "--project", PROJECT, "--policy", "read-only"),
        "--password-stdin",
        stdin="correct-horse\n",
    ).stdout

    assert re.fullmatch(r"[0-9a-f]{32}\n", made)
    (user,) = [
        u for u in commands.json("user", "list", "--project", PROJECT) if u["name"] == "alice"
    ]
    assert (user["id"], user["kind"], user["has_password"]) == (made.strip(), "user", True)
    assert user["grants"] == [{"policy": "read-only", "project": PROJECT}]

    commands("user", "disable", "alice", "--project", PROJECT)
    assert "disabled" in commands("user", "list", "--project", PROJECT).stdout
    commands("user", "enable", "alice", "--project", PROJECT)
    assert "disabled" not in commands("user", "list", "--project", PROJECT).stdout
    assert "correct-horse" not in commands("user", "list", "--project", PROJECT, "--json").stdout


def test_a_password_is_changed_and_has_a_length(commands):
    commands("user", "create", "bob", "--project", PROJECT)

    short = commands("user", "password", "bob", "--project", PROJECT, stdin="short\n", code=1)
    assert "8 to 128 characters" in short.stderr
    assert "short" not in short.stderr.replace("shorter", "")
    commands("user", "password", "bob", "--project", PROJECT, stdin="long enough\n")
    assert listed(commands, "bob")["has_password"]


def test_a_policy_that_does_not_exist_makes_no_user(commands):
    line = ("user", "create", "half", "--project", PROJECT, "--policy", "nonsense")

    failed = commands.json(*line, code=1)

    assert failed["error_code"] == "not_found"
    assert "half" not in {u["name"] for u in commands.json("user", "list", "--project", PROJECT)}


def test_a_kind_that_is_none_is_misuse(commands):
    line = ("user", "create", "x", "--project", PROJECT, "--kind", "king")

    assert "account or user" in commands(*line, code=2).stderr


def test_a_policy_is_made_granted_and_deleted(commands, policy_file):
    project = ("--project", PROJECT)
    commands("user", "create", "carol", *project)
    commands("policy", "create", "lister", *project, "--file", str(policy_file(POLICY)))
    commands("user", "grant", "carol", "lister", *project, "--all-projects")

    listed = {p["name"]: p for p in commands.json("policy", "list", *project)}
    assert listed["lister"]["policy"] == POLICY
    assert {n for n, p in listed.items() if p["system"]} == {
        "administrator",
        "full-access",
        "read-only",
    }
    granted = commands("policy", "delete", "lister", *project, code=1)
    assert "is granted; revoke it first" in granted.stderr
    commands("user", "revoke", "carol", "lister", *project, code=1)
    commands("user", "revoke", "carol", "lister", *project, "--all-projects")
    commands("policy", "delete", "lister", *project)
    assert "lister" not in commands("policy", "list", *project).stdout


def test_a_policy_that_is_none_is_refused(commands, policy_file):
    path = policy_file('{"Version": "1.1"}')
    line = ("policy", "create", "bad", "--project", PROJECT, "--file", str(path))

    assert "policy: Object missing required field `Statement`" in commands(*line, code=1).stderr


def test_a_policy_file_that_is_not_there_is_said_to_be_so(commands):
    line = ("policy", "create", "bad", "--project", PROJECT, "--file", "/nonexistent.json")

    assert "/nonexistent.json cannot be read" in commands(*line, code=1).stderr


def test_a_system_policy_is_nobodys_to_change(commands, policy_file):
    line = ("--project", PROJECT, "--file", str(policy_file(POLICY)))

    commands("policy", "create", "read-only", *line, code=1)
    commands("policy", "delete", "read-only", "--project", PROJECT, code=1)


def test_keys_are_listed_rotated_and_revoked(commands):
    project = ("--project", PROJECT)
    commands("user", "create", "dave", *project)
    old = commands.json("credential", "create", *project, "--user", "dave", "--expires", "90d")
    new = commands.json("credential", "rotate", old["access_key"], *project, "--keep", "30m")

    listed = {c["access_key"]: c for c in commands.json("credential", "list", *project)}
    assert listed[new["access_key"]]["user_name"] == "dave"
    assert listed[old["access_key"]]["expires_at"] < old["expires_at"]
    assert new["secret_key"] not in commands("credential", "list", *project).stdout
    commands("credential", "revoke", new["access_key"], *project)
    commands("credential", "revoke", new["access_key"], *project, code=1)


def test_a_key_may_end_at_its_rotation(commands):
    project = ("--project", PROJECT)
    old = commands.json("credential", "create", *project)["access_key"]

    commands("credential", "rotate", old, *project, "--keep", "0")

    again = commands.json("credential", "rotate", old, *project, code=1)
    assert again["error_code"] == "not_found"


def test_a_key_of_nobody_is_refused(commands):
    line = ("credential", "create", "--project", PROJECT, "--user", "nobody")

    assert commands.json(*line, code=1)["error_code"] == "not_found"


def test_users_of_no_project_are_refused(commands):
    failed = commands.json("user", "list", "--project", "nowhere", code=1)

    assert failed["error_code"] == "not_found"


def test_the_key_that_seals_is_replaced(commands, add_registry):
    add_registry("sealed")
    commands.json("credential", "create", "--project", PROJECT)
    path = commands.data_dir / "secret.key"
    before = path.read_text()

    done = commands.json("secret-key", "rotate")

    after = path.read_text()
    assert done["resealed"] >= 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # The key before it can still open; the new one seals.
    assert after.startswith(before.splitlines()[-1])
    assert after.splitlines()[-1].split()[0] == done["key"]
    tested = commands.json("registry", "test", "--project", PROJECT, "--name", "sealed")
    assert tested

    commands("secret-key", "rotate", "--drop-old")
    assert len(path.read_text().splitlines()) == 1
    assert before.split()[1] not in path.read_text()
    assert len(base64.b64decode(path.read_text().split()[1])) == 32
    commands("registry", "test", "--project", PROJECT, "--name", "sealed")
