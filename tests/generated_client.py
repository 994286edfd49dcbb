"""Writes a Python client of the served APIs, made from their own OpenAPI document.

``make client`` runs it. What generates is openapi-python-client; nothing is asked of the network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from wharfinger.http.app import create_app
from wharfinger.http.openapi import describe

PACKAGE = "wharfinger_client"
CONFIG = {
    "package_name_override": PACKAGE,
    "project_name_override": PACKAGE,
    # Words stay words: `type_="image_sync"`.
    "literal_enums": True,
    # The generator's own formatters would need programs that its users may not have.
    "post_hooks": [],
}


def generate(document: dict[str, Any], folder: Path) -> list[str]:
    """Write a package that pip can install into a folder; returns what the generator warns of.

    Raises:
        subprocess.CalledProcessError: the document could not be read at all.
    """
    with tempfile.TemporaryDirectory() as made:
        source, config = Path(made, "openapi.json"), Path(made, "config.json")
        source.write_text(json.dumps(document), "utf-8")
        config.write_text(json.dumps(CONFIG), "utf-8")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "openapi_python_client", "generate", "--overwrite"),
                *("--path", source, "--config", config),
                *("--meta", "setup", "--output-path", folder),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return [line for line in said if not line.startswith("Generating ")]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("say where the client goes: make client CLIENT=wharfinger-client")
    warnings = generate(describe(create_app(None)._app), Path(sys.argv[1]))
    sys.exit("\n".join(warnings) or None)
