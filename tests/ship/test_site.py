"""The documentation site builds without a warning, fetches nothing, and holds the code's facts."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.config import load_config

from wharfinger.settings import read_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site. A link that leads nowhere, or a page that no menu has, ends the build."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def pages(site):
    found = {path.relative_to(site): path.read_text("utf-8") for path in site.rglob("*.html")}
    assert len(found) > 40
    return found


def test_a_page_fetches_nothing_from_anywhere_else(site):
    for path, text in pages(site).items():
        fetched = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"(.*?)\"", text)
        outside = [one for one in fetched if re.match(r"(https?:)?//", one)]
        assert outside == [], path


def test_the_reference_names_every_setting_command_and_route(site):
    reference = {
        p.name: html.unescape(text) for p, text in pages(site).items() if "reference" in p.parts
    }

    for setting in read_settings({}, {}).described:
        assert setting.variable in reference["settings.html"]
    assert "wharfinger registry add" in reference["commands.html"]
    assert "/v5/{project_id}/image/synchronize" in reference["http.html"]
    assert "list_moved" in reference["errors.html"]


def test_a_link_that_leads_nowhere_ends_the_build():
    validation = load_config(str(ROOT / "mkdocs.yml")).validation

    assert load_config(str(ROOT / "mkdocs.yml")).strict
    assert {validation.links.anchors, validation.links.not_found, validation.nav.omitted_files} == {
        30
    }


def test_the_picture_shows_the_layers_that_the_build_checks():
    declared = (ROOT / "pyproject.toml").read_text("utf-8").partition("layers = [")[2]
    layers = re.findall(r"\w+", declared.partition("]")[0].replace("__main__", ""))
    picture = (ROOT / "docs" / "img" / "architecture.svg").read_text("utf-8")

    assert re.findall(r'font-weight="bold">(\w+)<', picture) == layers
