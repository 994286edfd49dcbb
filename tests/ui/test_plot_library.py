"""What the library of plots leaves behind in the process that draws them."""

from __future__ import annotations

import subprocess
import sys

AFTER_A_PLOT = """
import importlib.metadata
import sys

from wharfinger.http.ui.charting import charts

charts()
print(importlib.metadata.version("pygal") != "")
print([one for one in sys.meta_path if type(one).__module__ == "pygal"])
"""


def test_installed_packages_are_found_after_a_plot_as_before():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AFTER_A_PLOT],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.split("\n") == ["True", "[]", ""], done.stderr
