from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import wharfinger


def start(*options):
    source = str(Path(wharfinger.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "wharfinger.testing.upstream", *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    )


@pytest.mark.parametrize(
    ("options", "total"), [(["--sample"], 302), (["--repositories", "7", "--tags", "2"], 7)]
)
def test_the_process_tells_where_it_is_and_how_to_get_in(options, total):
    with start("--listen", "127.0.0.1:0", *options) as process:
        try:
            access = json.loads(process.stdout.readline())
            request = urllib.request.Request(
                f"{access['url']}/v2/manage/repos?offset=0&limit=1000",
                headers={"X-Auth-Token": access["token"]},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                rows = json.loads(answer.read())
        finally:
            process.terminate()

    assert len(rows) == total
    assert {"access_key", "secret_key", "project_id", "region"} <= set(access)
