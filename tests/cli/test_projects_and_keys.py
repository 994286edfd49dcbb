import datetime as dt
import json
import re

from commands import PROJECT


def test_the_id_of_a_new_project_is_all_that_is_printed(commands):
    created = commands("project", "create", "eu-west-101").stdout

    assert re.fullmatch(r"[0-9a-f]{32}\n", created)
    listed = commands.json("project", "list")
    assert created.strip() in {project["id"] for project in listed}
    assert created.strip() in commands("project", "list").stdout


def test_a_project_keeps_the_id_it_is_given(commands):
    made = commands.json("project", "create", "given", "--id", "team-7")

    assert (made["id"], made["name"]) == ("team-7", "given")


def test_a_second_project_of_the_same_id_is_refused(commands):
    failed = commands.json("project", "create", "again", "--id", PROJECT, code=1)

    assert failed["error_code"] == "conflict"
    assert PROJECT in failed["error_msg"]


def test_a_credential_shows_both_keys_once(commands):
    shown = commands("credential", "create", "--project", PROJECT).stdout
    again = commands.json("credential", "create", "--project", PROJECT)

    assert re.fullmatch(r"access_key  \S{20}\nsecret_key  \S{40}\n", shown)
    assert set(again) == {"access_key", "secret_key"}
    assert again["access_key"] not in shown


def test_the_bare_token_is_the_last_line(commands):
    lines = commands("token", "create", "--project", PROJECT, "--ttl", "30m").stdout.splitlines()

    assert re.fullmatch(r"expires at \S+Z", lines[0])
    assert re.fullmatch(r"[\w-]{20,}", lines[-1])


def test_a_token_lives_as_long_as_it_is_told(commands):
    made = commands.json("token", "create", "--project", PROJECT, "--ttl", "7d")

    life = dt.datetime.fromisoformat(made["expires_at"]) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=6, hours=23) < life < dt.timedelta(days=7, minutes=1)


def test_a_lifetime_without_a_unit_is_refused_with_an_example(commands):
    failed = commands("token", "create", "--project", PROJECT, "--ttl", "24", code=2)

    assert "24h" in failed.stderr
    assert failed.stdout == ""


def test_keys_for_no_project_are_refused(commands):
    for what in ("credential", "token"):
        failed = commands(what, "create", "--project", "nowhere", "--json", code=1)

        assert json.loads(failed.stdout)["error_code"] == "not_found"
        assert failed.stderr == ""
