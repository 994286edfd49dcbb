"""The documents keep up with the code, and what they show works."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import typer.main
from commands import Commands

from wharfinger.cli import app
from wharfinger.domain import errors
from wharfinger.settings import read_settings
from wharfinger.sources import KINDS

ROOT = Path(__file__).parents[2]
DOCS = {path: path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}


def page(name: str) -> str:
    return DOCS[ROOT / "docs" / name]


def commands_of(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands_of(typer.main.get_command(app)))


@pytest.mark.parametrize("variable", [s.variable for s in read_settings().described])
def test_every_setting_is_described(variable):
    assert f"`{variable}`" in page("settings.md")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_described(command):
    section = page("cli.md").partition(f"## wharfinger {command}\n")[2].partition("\n## ")[0]
    options = [p for p in COMMANDS[command].params if not getattr(p, "hidden", False)]

    assert section
    for option in options:
        assert (
            option.name == "help"
            or any(f"`{name}`" in section for name in option.opts)
            or (f"`{option.name.upper()}`" in section)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described(kind):
    assert f"## {kind}\n" in page("kinds.md")


def test_every_error_code_is_described():
    codes = {
        c.code
        for c in vars(errors).values()
        if inspect.isclass(c) and issubclass(c, errors.WharfingerError)
    }

    assert {code for code in codes if f"| `{code}` |" not in page("errors.md")} == set()


def test_links_between_documents_lead_somewhere():
    for path, text in DOCS.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
            assert (path.parent / target).exists(), (path, target)


def test_commands_that_the_readme_shows_exist():
    shown = re.findall(r"^wharfinger ([a-z]+(?: [a-z]+)?)", DOCS[ROOT / "README.md"], re.MULTILINE)

    assert shown
    for words in shown:
        assert words in COMMANDS or words.split()[0] in COMMANDS, words


@pytest.mark.slow
def test_the_three_lines_of_the_readme_read_the_list(tmp_path, capsys):
    commands = Commands(tmp_path / "data")
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCS[ROOT / "README.md"], re.DOTALL)
    with commands.serving("--sample", workers=0) as service:
        commands("sync", "--project", "sample", "--registry", "swr-private")
        keys = commands.json("credential", "create", "--project", "sample")
        names = {
            "ACCESS_KEY": keys["access_key"],
            "SECRET_KEY": keys["secret_key"],
            "PROJECT_ID": "sample",
            "ENDPOINT": service.url,
        }

        exec(compile(snippet, "README.md", "exec"), names)  # noqa: S102 - our own document

    assert capsys.readouterr().out.strip() == "3555"
