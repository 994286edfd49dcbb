"""What the shell is offered, over the protocol that it speaks; what commands exit with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from commands import PROJECT, Commands
from typer.testing import CliRunner

from wharfinger.cli import app

ROOT = Path(__file__).parents[2]
# As the installed program calls itself.
PROGRAM = "import sys; sys.argv[0] = 'wharfinger'; from wharfinger.cli import main; main()"
SHELLS = {
    "bash": lambda line: {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)},
    "zsh": lambda line: {"_TYPER_COMPLETE_ARGS": line},
    "fish": lambda line: {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


def offered(commands, shell, line) -> str:
    asked = {"_WHARFINGER_COMPLETE": f"complete_{shell}", **SHELLS[shell](line)}
    ours = {k: v for k, v in commands.environment().items() if k.startswith("WHARFINGER_")}
    done = CliRunner().invoke(app, prog_name="wharfinger", env={**ours, **asked})
    assert not isinstance(done.exception, Exception), done.exception
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_is_offered_commands_kinds_projects_and_registries(commands, add_registry, shell):
    add_registry(f"swr-{shell}")

    line = f"wharfinger registry test --project {PROJECT} --name swr-{shell[:1]}"
    assert f"swr-{shell}" in offered(commands, shell, line)
    assert "registry" in offered(commands, shell, "wharfinger reg")
    assert "SwrEnterprise" in offered(commands, shell, "wharfinger registry add --kind Swr")
    assert PROJECT in offered(commands, shell, "wharfinger sync --project a")
    other = "wharfinger registry test --project nobody --name swr-"
    assert "swr-" not in offered(commands, shell, other)


def test_the_program_itself_speaks_it_and_gives_the_script_that_asks_for_it(commands):
    def run(program, **asked):
        environment = commands.environment() | asked
        return subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )

    line = SHELLS["bash"]("wharfinger enterp")
    completed = run(PROGRAM, _WHARFINGER_COMPLETE="complete_bash", **line)
    script = run(
        PROGRAM.replace("main()", "sys.argv[1:] = ['--show-completion', 'fish']; main()"),
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )

    assert completed.stdout.split() == ["enterprise-project"]
    assert "_WHARFINGER_COMPLETE=complete_fish" in script.stdout


def test_a_database_that_is_down_is_not_started_for_a_key_press(tmp_path):
    line = "wharfinger registry test --project acme --name s"

    assert offered(Commands(tmp_path / "data"), "bash", line).strip() == ""
    assert list(tmp_path.iterdir()) == []


def test_every_command_that_lists_can_answer_in_json():
    def leaves(command, path=()):
        children = getattr(command, "commands", None) or {}
        if not children:
            yield " ".join(path), {o for p in command.params for o in p.opts}
        for name, child in children.items():
            yield from leaves(child, (*path, name))

    lists = re.compile(
        r"(list|held|repositories|instances|deliveries|strangers|history)$|^(images|changes|settings|report)$"
    )
    found = {name: opts for name, opts in leaves(typer.main.get_command(app)) if lists.search(name)}
    assert len(found) > 15
    assert {name for name, options in found.items() if "--json" not in options} == set()


def test_exit_codes_are_those_of_the_page(commands):
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    documented = set(map(int, re.findall(r"^\| (\d+) \|", page, re.MULTILINE)))
    source = "\n".join(p.read_text() for p in (ROOT / "src/wharfinger/cli").glob("*.py"))
    written = set(map(int, re.findall(r"(?:Exit|sys\.exit)\((\d+)\)", source)))

    assert documented == {0, 1, 2, 3}
    assert written <= documented
    commands("images", "--project", "nobody", code=1)
    commands("images", "--nonsense", "--json", code=2)
