"""The documentation site builds without a warning, fetches nothing, and holds the code's facts."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wharfinger.settings import read_settings

ROOT = Path(__file__).parents[2]


def built(*options):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *options],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site. A link that leads nowhere, or a page that no menu has, ends the build."""
    folder = tmp_path_factory.mktemp("site")
    done = built("--site-dir", folder)
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


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[gone](gone.md)")
    alone = {"docs_dir": "docs", "hooks": [], "nav": [{"Start": "index.md"}]}
    settings = {"INHERIT": str(ROOT / "mkdocs.yml"), **alone, "site_dir": str(tmp_path / "site")}
    (tmp_path / "mkdocs.yml").write_text(json.dumps(settings))  # JSON is YAML.

    done = built("--config-file", tmp_path / "mkdocs.yml")

    assert done.returncode == 1
    assert "contains a link 'gone.md'" in done.stderr


def test_the_picture_shows_the_layers_that_the_build_checks():
    declared = (ROOT / "pyproject.toml").read_text("utf-8").partition("layers = [")[2]
    layers = re.findall(r"\w+", declared.partition("]")[0].replace("__main__", ""))
    picture = (ROOT / "docs" / "img" / "architecture.svg").read_text("utf-8")

    assert re.findall(r'font-weight="bold">(\w+)<', picture) == layers
