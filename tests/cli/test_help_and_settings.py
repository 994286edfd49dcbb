import json

import pytest
import typer.main

import wharfinger
from wharfinger.cli import app


def every_command(group=None, path=()):
    group = group or typer.main.get_command(app)
    yield path
    for name, command in sorted(getattr(group, "commands", {}).items()):
        yield from every_command(command, (*path, name))


@pytest.mark.parametrize("path", list(every_command()), ids=" ".join)
def test_every_command_explains_itself_and_its_options(path):
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]

    assert command.help or command.short_help
    undocumented = [p.name for p in command.params if not getattr(p, "help", None)]
    assert undocumented == []


def test_help_is_printed_by_either_flag(commands):
    long = commands("registry", "add", "--help", COLUMNS=200).stdout

    assert long == commands("registry", "add", "-h").stdout
    assert "--secret-key-stdin" in long
    assert "Traceback" not in long


def test_the_version_is_one_line(commands):
    assert commands("--version").stdout == f"{wharfinger.__version__}\n"


def test_settings_are_listed_with_where_they_come_from(commands):
    shown = json.loads(commands("--log-level", "error", "settings", "--json", workers=3).stdout)
    found = {setting["name"]: (setting["value"], setting["source"]) for setting in shown}

    assert found["workers"] == ("3", "environment")
    assert found["log_level"] == ("error", "flag")
    assert found["listen"] == ("127.0.0.1:8080", "default")
    assert found["data_dir"] == (str(commands.data_dir), "environment")
    table = commands("settings").stdout
    assert all(setting["variable"] in table for setting in shown)


def test_a_password_in_a_database_address_is_not_shown(commands):
    address = "postgresql://me:geheim@127.0.0.1:1/w"

    shown = commands("settings", database_url=address).stdout

    assert "geheim" not in shown
    assert "postgresql://me:***@127.0.0.1:1/w" in shown


def test_a_setting_out_of_range_is_named_with_its_range(commands):
    failed = commands("project", "list", code=1, workers=65)

    assert failed.stderr == "wharfinger: WHARFINGER_WORKERS: must be a whole number from 0 to 64\n"


def test_a_database_that_does_not_answer_is_one_line_without_its_password(commands):
    address = "postgresql://me:geheim@127.0.0.1:1/w?connect_timeout=2"

    failed = commands.json("project", "list", code=1, database_url=address)

    assert failed["error_code"] == "store_unavailable"
    assert "geheim" not in failed["error_msg"]


@pytest.mark.parametrize(
    "misuse", [("frob",), ("project", "create"), ("images", "--limit", "0"), ("sync",)]
)
def test_misuse_is_one_json_document_as_well(commands, misuse):
    done = commands(*misuse, "--json", code=2)

    assert json.loads(done.stdout)["error_code"] == "usage"
    assert done.stderr == ""
