"""A report of an error of our own says where it happened, and nothing of what was at hand."""

import subprocess
import sys

import pytest

FAILING = """
import asyncio, logging, structlog
from wharfinger.cli.common import set_up_logging
from wharfinger.domain.model import RegistryCredential
from wharfinger.settings import read_settings
from wharfinger.domain.ports import Reply, Request

def fails():
    password, header = "in-a-variable", {{"Authorization": "in-a-header"}}
    credential = RegistryCredential(kind="basic", identity="u", secret="in-a-credential")
    url = "http://h/p?q=in-a-query"
    request = Request(method="GET", url=url, headers=header, body=b"in-a-body")
    reply = Reply(status=201, headers=header, body=b"in-a-body", url=url)
    raise RuntimeError(f"it failed with {{credential}} {{request}} {{reply}}")

set_up_logging(read_settings(environment={{"WHARFINGER_LOG_FORMAT": "{format}"}}))
try:
    fails()
except RuntimeError as error:
    structlog.get_logger().exception("one.way")
    structlog.get_logger().error("another", exc_info=error)
    logging.getLogger("a.library").exception("third")
fails()
"""


@pytest.mark.parametrize("shape", ["text", "json"])
def test_a_report_of_an_error_shows_no_variables(shape):
    done = subprocess.run(
        [sys.executable, "-c", FAILING.format(format=shape)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr.count("Traceback (most recent call last)") == 4
    assert done.stderr.count("it failed with RegistryCredential(kind='basic'") >= 4
    for hidden in ("a-variable", "a-header", "a-credential", "a-query", "a-body"):
        assert f"in-{hidden}" not in done.stderr
