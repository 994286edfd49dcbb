"""What the docs say is there is there, and what is there is in the docs."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest
import typer.main
from commands import Commands

from clusters import send_away
from wharfinger.cli import app as command_line
from wharfinger.domain.errors import WharfingerError
from wharfinger.http.app import create_app
from wharfinger.http.failures import UnreadableBodyError
from wharfinger.settings import read_settings
from wharfinger.sources import KINDS, kind_options
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def text_of(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def leaves(command, path=()):
    """Every command that does something: its words, and itself."""
    children = getattr(command, "commands", None)
    if not children:
        yield " ".join(path), command
    for name, child in (children or {}).items():
        yield from leaves(child, (*path, name))


def options_of(command) -> set[str]:
    return {
        text
        for parameter in command.params
        if not getattr(parameter, "hidden", False)
        for text in parameter.opts
        if text.startswith("--")
    }


COMMANDS = dict(leaves(typer.main.get_command(command_line)))


# --- what is there is in the docs ----------------------------------------------------------------


def test_every_setting_is_documented_with_its_flag():
    page = text_of("settings.md")

    rows = {s.variable for s in read_settings({}, {}).described}
    assert rows == set(re.findall(r"^\| `((?:WHARFINGER|OTEL)_\w+)`", page, re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented_with_its_options(command):
    page = text_of("cli.md")

    assert f"wharfinger {command}" in page
    assert {o for o in options_of(COMMANDS[command]) if f"{o}" not in page} <= {"--help"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_documented_with_its_options(kind):
    page = text_of("kinds.md")

    assert f"## {kind}\n" in page
    for option in dataclasses.fields(kind_options(kind)):
        assert f"| `{option.name}` |" in page


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_needs_what_it_shows_and_what_is_guessed(kind):
    section = text_of("kinds.md").partition(f"\n## {kind}\n")[2].partition("\n## ")[0]

    said = ("Address", "Credentials", "Permissions", "Sees", "Cannot see", "Cost", "Guesses")
    assert [word for word in said if f"**{word}**" not in section] == []
    assert [
        one.name
        for one in dataclasses.fields(kind_options(kind))
        if f"| `{one.name}` |" not in section
    ] == []


def descendants(error):
    yield error
    for child in error.__subclasses__():
        yield from descendants(child)


def test_every_error_code_is_documented():
    page = text_of("errors.md")
    ours = {
        e.code for e in descendants(WharfingerError) if e.__module__ == "wharfinger.domain.errors"
    }

    assert len(ours) > 20
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert (ours | {UnreadableBodyError.code}) - documented == set()


def test_every_reason_that_is_no_error_is_documented():
    page = text_of("errors.md")
    source = (ROOT / "src" / "wharfinger").rglob("*.py")
    reasons = {
        code
        for path in source
        for code in re.findall(r'Reason\(\s*code="(\w+)"', path.read_text("utf-8"))
    }

    assert reasons
    assert {code for code in reasons if f"| `{code}` |" not in page} == set()


def test_every_route_is_documented():
    pages = ("hss.md", "hss-coverage.md", "api.md", "identity.md", "console.md")
    page = "".join(map(text_of, pages))
    asgi = create_app(None)
    routes = {route.path for route in asgi._app.routes}

    assert len(routes) > 8
    nameless = re.sub(r"\{\w+\}", "{}", page)
    for route in routes:
        path = re.sub(r":str", "", route).removeprefix("/v5/{project_id}/")
        path = path.removeprefix("/api/v1/projects/{project_id}")
        assert re.sub(r"\{\w+\}", "{}", path) in nameless, path


@pytest.mark.parametrize(("page", "least"), [("identity.md", 20), ("reaching-out.md", 15)])
def test_every_threat_has_a_test_that_exists(page, least):
    section = text_of(page).partition("## Threats")[2]
    named = set(re.findall(r"`(test_\w+)`", section))
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))

    assert len(named) > least
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_every_guarantee_has_tests_that_exist():
    named = set(re.findall(r"`(test_\w+)`", text_of("guarantees.md")))
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))

    assert len(named) > 30
    assert {name for name in named if f"def {name}(" not in tests} == set()


# --- what is in the docs is there ----------------------------------------------------------------


def lines_of_shell():
    for page in PAGES:
        for block in blocks(page.read_text("utf-8"), "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip():
                    yield pytest.param(line, id=f"{page.name}: {line[:40]}")


@pytest.mark.parametrize("line", list(lines_of_shell()))
def test_every_command_in_the_docs_exists(line):
    words = shlex.split(line, comments=True)
    program = Path(words[0]).name

    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert words[1] in targets
    elif program == "wharfinger":
        name = next(n for n in COMMANDS if words[1:][: len(n.split())] == n.split())
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options_of(COMMANDS[name])
    else:
        assert program in {"curl", "export"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_decision_is_in_the_index():
    index = text_of("decisions/README.md")

    for page in (DOCS / "decisions").glob("[0-9]*.md"):
        title = page.read_text("utf-8").splitlines()[0].partition(": ")[2]
        assert f"]({page.name}) {title}" in index


def test_every_make_target_says_what_it_is_for():
    shown = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True
    ).stdout

    for target in (
        "run",
        "setup",
        "test",
        "hard-cases",
        "mutants",
        "coverage-hss",
        "check",
        "lock",
        "bench",
        "clean",
    ):
        assert re.search(rf"^  make {target} +\S", shown, re.MULTILINE), target


# --- the README's code runs ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(initialised_folder):
    """A running service whose project ``prod`` holds a complete list, and a key to it."""
    folder = Path(tempfile.mkdtemp(prefix="wharfinger-docs-"))
    folder.chmod(0o711)
    data_dir = folder / "data"
    subprocess.run(["cp", "-a", f"{initialised_folder}/.", data_dir], check=True)
    commands = Commands(data_dir)
    with (
        Upstream(made_up_world(2, 3)).running_in_thread() as upstream,
        commands.serving() as serving,
    ):
        commands("project", "create", "cn-north-4", "--id", "prod")
        commands(
            *("registry", "add", "--project", "prod", "--name", "swr", "--kind", "SwrPrivate"),
            *("--address", upstream.url, "--access-key", upstream.key.access_key),
            "--secret-key-stdin",
            stdin=upstream.key.secret_key,
        )
        commands("sync", "--project", "prod")
        key = commands.json("credential", "create", "--project", "prod")
        token = commands.json("token", "create", "--project", "prod")["token"]
        yield {
            "ACCESS_KEY": key["access_key"],
            "SECRET_KEY": key["secret_key"],
            "http://127.0.0.1:8080": serving.url,
            "$TOKEN": token,
        }
    send_away(data_dir)
    shutil.rmtree(folder)


def filled_in(text, values):
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_in_the_readme_reads_the_list(served):
    readme = (ROOT / "README.md").read_text("utf-8")
    (snippet,) = blocks(readme, "python")

    printed = run_python(filled_in(snippet, served))

    assert '"total_num": 6' in printed

    # The same call by a client that is turned here by its environment alone.
    (exports,) = (b for b in blocks(readme, "bash") if "HUAWEICLOUD_SDK_AK" in b)
    environment = dict(
        re.findall(r"^export (\w+)=(\S+)$", filled_in(exports, served), re.MULTILINE)
    )
    unmodified = run_python(
        "from huaweicloudsdkhss.v5 import HssClient, ListRegistryImagesRequest\n"
        "from huaweicloudsdkhss.v5.region.hss_region import HssRegion\n"
        "hss = HssClient.new_builder().with_region(HssRegion.value_of('cn-north-4')).build()\n"
        "print(hss.list_registry_images(ListRegistryImagesRequest(limit=10)))\n",
        **environment,
    )
    assert '"total_num": 6' in unmodified


def test_the_code_for_people_from_the_cloud_reads_the_list(served):
    (snippet,) = blocks(text_of("coming-from.md"), "python")

    assert run_python(filled_in(snippet, served)).startswith("6 [")


def test_the_curl_calls_in_the_readme_work(served):
    readme = (ROOT / "README.md").read_text("utf-8")
    (block,) = (b for b in blocks(readme, "bash") if b.startswith("curl"))
    calls = block.replace("\\\n", " ").strip().splitlines()

    for line in calls:
        words = shlex.split(filled_in(line, served))[1:]
        headers = dict(w.split(": ", 1) for w in after(words, "-H"))
        body = "".join(after(words, "-d")).encode() or None
        request = urllib.request.Request(words[-1], body, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    assert len(calls) == 2


def after(words, option):
    return [words[i + 1] for i, word in enumerate(words) if word == option]
