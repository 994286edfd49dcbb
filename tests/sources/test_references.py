"""Secrets that are kept outside: where they may be, and what is told when they are not there."""

import os
import time

import pytest
import structlog

from wharfinger.domain.errors import CredentialsNeededError, InvalidParameterError
from wharfinger.domain.model import RegistryCredential
from wharfinger.sources._references import MOST_BYTES, References, check_reference

SECRET = "correct-horse-battery"


@pytest.fixture
def commands(tmp_path):
    folder = tmp_path / "commands"
    folder.mkdir(mode=0o755)
    return folder


def program(folder, text, name="tell", mode=0o755):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def references(commands=None, variables=None, **changes):
    return References(
        variable=(variables or {}).get,
        environment={"PATH": os.defpath},
        commands=commands,
        **changes,
    )


async def secret_of(reader, reference):
    credential = RegistryCredential(kind="basic", identity="robot", reference=reference)
    return (await reader(credential)).secret


async def failure_of(reader, reference):
    with pytest.raises(CredentialsNeededError) as caught:
        await secret_of(reader, reference)
    assert caught.value.code == "credentials_needed"
    # Whoever sees a run's reasons does not learn where the operator keeps secrets.
    assert reference.partition(":")[2] not in str(caught.value)
    return str(caught.value)


async def test_a_secret_is_read_where_it_is_kept(commands, tmp_path):
    program(commands, "printf '%s\\n' \"$1-$2\"")
    place = tmp_path / "secret.txt"
    place.write_text(SECRET + "\n")
    reader = references(commands, {"HARBOR": SECRET})

    assert await secret_of(reader, "env:HARBOR") == SECRET
    assert await secret_of(reader, f"file:{place}") == SECRET
    assert await secret_of(reader, "exec:tell 'two words' x") == "two words-x"


async def test_what_needs_no_place_is_left_as_it_is():
    for credential in (
        RegistryCredential(kind="none"),
        RegistryCredential(kind="basic", identity="robot", secret=SECRET),
    ):
        assert await references()(credential) == credential
    with pytest.raises(CredentialsNeededError, match="is not stored"):
        await references()(RegistryCredential(kind="basic", identity="robot"))


async def test_a_command_sees_nothing_of_our_own_environment(commands, monkeypatch):
    monkeypatch.setenv("WHARFINGER_DATABASE_URL", "postgresql://secret")
    program(commands, "env | grep -c WHARFINGER || true")

    assert await secret_of(references(commands), "exec:tell") == "0"


async def test_a_program_is_run_without_a_shell(commands):
    program(commands, "printf '%s' \"$*\"")

    assert await secret_of(references(commands), "exec:tell $(id); x > y") == "$(id); x > y"


async def test_places_that_give_nothing_are_told_apart(tmp_path, commands):
    empty, lines, pipe = tmp_path / "empty", tmp_path / "lines", tmp_path / "pipe"
    empty.write_text("\n")
    lines.write_text("a\nb\n")
    os.mkfifo(pipe)
    large = tmp_path / "large"
    large.write_text("x" * (MOST_BYTES + 1))
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    reader = references(commands)

    told = [
        await failure_of(reader, f"file:{path}")
        for path in (empty, lines, pipe, large, binary, commands, tmp_path / "nowhere")
    ]

    assert [one.partition(": ")[2] for one in told] == [
        "it is empty",
        "what is there is more than one line",
        "the file is none",
        f"there are more than {MOST_BYTES} bytes where it should be",
        "what is there is no UTF-8 text",
        "the file is none",
        "the file cannot be read (FileNotFoundError)",
    ]
    assert (await failure_of(reader, "env:NOWHERE")).endswith("variable is not set")


async def test_no_command_is_run_unless_a_folder_is_set(commands):
    program(commands, "echo x")

    told = await failure_of(references(None), "exec:tell")

    assert "WHARFINGER_SECRET_COMMANDS" in told


async def test_only_what_the_operator_alone_may_write_is_run(commands):
    program(commands, "echo x", name="open", mode=0o777)
    (commands / "inner").mkdir()
    program(commands, "echo x", name="plain", mode=0o644)
    reader = references(commands)

    assert "others may write" in await failure_of(reader, "exec:open")
    assert "is no file" in await failure_of(reader, "exec:inner")
    assert "cannot be run (PermissionError)" in await failure_of(reader, "exec:plain")
    assert "there is no such command" in await failure_of(reader, "exec:nowhere")
    commands.chmod(0o777)
    program(commands, "echo x")
    assert "others may write" in await failure_of(references(commands), "exec:tell")


@pytest.mark.parametrize("text", ["sleep 20", "sleep 20 & exit 0"], ids=["itself", "a child"])
async def test_a_command_that_does_not_end_is_ended_with_all_it_started(commands, text):
    program(commands, text)
    began = time.monotonic()

    told = await failure_of(references(commands, timeout_s=0.3), "exec:tell")

    assert "took more than 0.3 seconds" in told
    assert time.monotonic() - began < 10


async def test_a_command_that_talks_for_ever_is_ended(commands):
    program(commands, "yes")

    told = await failure_of(references(commands), "exec:tell")

    assert told.endswith(f"prints more than {MOST_BYTES} bytes")


async def test_neither_secrets_nor_arguments_are_logged(commands):
    program(commands, f"echo {SECRET}; echo complaint-{SECRET} >&2; exit 3")

    with structlog.testing.capture_logs() as logs:
        told = await failure_of(references(commands), f"exec:tell --token {SECRET}")

    assert told.endswith("the command ended with 3")
    assert [one["reference"] for one in logs] == ["exec:tell"]
    assert SECRET not in str(logs)


async def test_a_place_is_asked_once_for_all_who_need_it_and_again_later(commands, tmp_path):
    count = tmp_path / "count"
    program(commands, f"echo x >> {count}; wc -l < {count} | tr -d ' '")
    kept, fresh = references(commands), references(commands, keep_s=0)

    assert [await secret_of(kept, "exec:tell") for _ in range(3)] == ["1", "1", "1"]
    assert [await secret_of(fresh, "exec:tell") for _ in range(2)] == ["2", "3"]


@pytest.mark.parametrize(
    "reference",
    [
        "env:HARBOR_PASSWORD",
        "file:/run/secrets/harbor",
        "exec:vault-read kv/harbor 'field name'",
        "exec:tell",
    ],
)
def test_the_forms_of_a_reference(reference):
    check_reference(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "password",
        "env:",
        "env:A B",
        "env:1",
        "file:relative",
        "file:",
        "exec:",
        "exec:/bin/sh -c id",
        "exec:../sh",
        "exec:..",
        "exec:'unclosed",
        "vault:x",
        "ENV:A",
        "file:/a\nb",
        "file:/" + "x" * 1024,
    ],
)
def test_what_is_no_reference_is_refused(reference):
    with pytest.raises(InvalidParameterError, match="secret_from: must be"):
        check_reference(reference)
