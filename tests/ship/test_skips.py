import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
REQUIRE_ALL = "WHARFINGER_TESTS_REQUIRE_ALL"

SKIPPING = """
import pytest

@pytest.mark.skip(reason="needs docker-registry: apt-get install docker-registry")
def test_that_needs_a_package():
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_that_is_known_to_fail():
    assert False
"""


@pytest.mark.parametrize(("required", "code"), [(False, 0), (True, 1)])
def test_a_skip_fails_only_where_everything_is_required(tmp_path, required, code):
    (tmp_path / "test_it.py").write_text(SKIPPING)
    kept = {k: v for k, v in os.environ.items() if k != REQUIRE_ALL}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "conftest", "test_it.py"],
        cwd=tmp_path,
        env=kept
        | {"PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}"}
        | ({REQUIRE_ALL: "1"} if required else {}),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stdout
    assert "apt-get install docker-registry" in done.stdout
