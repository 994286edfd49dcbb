import datetime as dt
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def changes():
    spec = importlib.util.spec_from_file_location("collect", ROOT / "changes" / "collect.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path):
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes" / "README.md").write_text("how")
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\nIntro.\n\n## 0.1.0, 2026-01-01\n\nOld.\n")
    return tmp_path


def test_fragments_become_the_newest_section(changes, project):
    (project / "changes" / "b.fixed.md").write_text("A fix.\n")
    (project / "changes" / "a.added.md").write_text("A thing.\n")

    changes.collect(project, "0.2.0", dt.date(2026, 11, 24))

    assert (project / "CHANGELOG.md").read_text() == (
        "# Changes\n\nIntro.\n\n## 0.2.0, 2026-11-24\n\n### Added\n\n- A thing.\n\n"
        "### Fixed\n\n- A fix.\n\n## 0.1.0, 2026-01-01\n\nOld.\n"
    )
    assert [p.name for p in (project / "changes").iterdir()] == ["README.md"]


def test_a_fragment_of_an_unknown_kind_changes_nothing(changes, project):
    (project / "changes" / "a.other.md").write_text("?")
    before = (project / "CHANGELOG.md").read_text()

    with pytest.raises(ValueError, match=r"a\.other\.md"):
        changes.collect(project, "0.2.0", dt.date(2026, 11, 24))

    assert (project / "CHANGELOG.md").read_text() == before


def test_the_projects_own_fragments_can_be_collected(changes):
    assert "### Added" in changes.section(ROOT / "changes", "9.9.9", dt.date(2026, 1, 1))
