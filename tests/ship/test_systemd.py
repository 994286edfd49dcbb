"""The units of systemd say what is there, and let the service do no more than it needs."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from wharfinger.cli import app as command_line
from wharfinger.settings import read_settings

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))
# systemd's own measure of what a service might do: 100 for everything.
MOST_EXPOSED = 25


def sections(unit):
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(unit.read_text("utf-8"))
    return parser


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_that_exists_with_settings_that_exist(unit):
    service = sections(unit)["Service"]

    program, command, *options = service["ExecStart"].split()

    known = typer.main.get_command(command_line).commands[command]
    assert program.endswith("/bin/wharfinger")
    assert set(options) <= {name for one in known.params for name in one.opts}
    named = set(re.findall(r"WHARFINGER_\w+", unit.read_text("utf-8")))
    assert named <= {setting.variable for setting in read_settings({}, {}).described}
    assert service["User"] != "root"
    assert service["StateDirectory"] == "wharfinger"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_no_fault_in_a_unit(unit, tmp_path):
    analyze = shutil.which("systemd-analyze")
    # Where there is no systemd, what it would say was looked at where there was.
    hardened = "ProtectSystem=strict" in unit.read_text("utf-8")
    assert hardened
    if analyze is None:
        return
    # The program is not installed here.
    made = tmp_path / unit.name
    made.write_text(unit.read_text("utf-8").replace("/opt/wharfinger/bin/wharfinger", "/bin/true"))

    said = subprocess.run([analyze, "verify", made], capture_output=True, text=True, check=False)
    measured = subprocess.run(
        [analyze, "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", made],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (said.returncode, said.stdout + said.stderr) == (0, "")
    assert measured.returncode == 0, measured.stdout
