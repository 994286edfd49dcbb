"""``make run`` as its user sees it: the walk, the code to paste, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest
from commands import Commands, family, living, until

from wharfinger.testing.quickstart import StepFailedError, WalkThrough

QUICKSTART = [sys.executable, "-m", "wharfinger.testing.quickstart"]


def read_to(stream, wanted):
    """The lines up to the one that holds ``wanted``."""
    lines = []
    for line in stream:
        lines.append(line)
        if wanted in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


@pytest.mark.slow
def test_it_walks_stays_up_and_leaves_no_process(data_dir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = subprocess.Popen(
            QUICKSTART,
            env=Commands(data_dir).environment(listen=address),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        shown = read_to(process.stdout, "Ctrl-C stops it")
        everybody = family(process.pid)
        code = shown[shown.index("from huaweicloudsdkcore") : shown.index("\nLog: ")]
        pasted = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[0]

    assert f"{address}: Address already in use; taking a free port" in shown
    assert "exactly this one was retired; 3605 images stand as they were" in shown
    assert '"total_num": 3605' in pasted.stdout, pasted.stderr
    assert process.returncode == 0
    assert rest == "\nstopped\n"
    assert len(everybody) >= 3
    until(lambda: not living(everybody), within_s=5)
    until(lambda: not postgres_of(data_dir), within_s=5)


def postgres_of(data_dir):
    found = subprocess.run(["pgrep", "-f", data_dir], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_a_service_that_does_not_start_fails_the_walk(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WHARFINGER_")}
    nowhere = "postgresql://me:geheim@127.0.0.1:1/w"

    done = subprocess.run(
        [*QUICKSTART, "--exit"],
        env=environment
        | {"WHARFINGER_DATA_DIR": str(tmp_path), "WHARFINGER_DATABASE_URL": nowhere},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("quickstart: the service ended with code 1: ")
    assert "the database does not answer" in done.stderr
    assert "geheim" not in done.stderr + done.stdout


def test_a_list_that_lost_more_than_the_deleted_tag_fails_the_walk():
    rows = [image(1), image(2), image(3)]

    WalkThrough._compare(rows, [rows[0], rows[2]], rows[1])
    for after in ([rows[0]], rows, [rows[0], image(4), rows[2]], [rows[0], image(3, digest="x")]):
        with pytest.raises(StepFailedError, match="only team/app:2 was deleted"):
            WalkThrough._compare(rows, after, rows[1])


def image(number, digest="d"):
    from wharfinger.testing.quickstart import _Image

    return _Image(
        id=number,
        namespace="team",
        image_name="app",
        image_version=str(number),
        image_digest=digest,
        image_type="private_image",
        image_size=1,
        latest_version=False,
        registry_name="swr",
    )
