"""Debian's Chromium, driven by Playwright, and a service for it to visit."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from service import Service
from wharfinger.store.cluster import DATABASE, OWNER
from wharfinger.store.database import DatabaseAddress
from wharfinger.testing.model import World, made_up_world

CHROMIUM = "/usr/bin/chromium"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all that stands here; without the browser it is skipped, which CI forbids."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if shutil.which(CHROMIUM) is None:
                reason = f"needs {CHROMIUM} (apt-get install chromium)"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def world() -> World:
    """What the SWR holds: forty repositories. A module may have another one."""
    return made_up_world(40, 5)


@pytest.fixture(scope="module")
def service(cluster, administrator, tmp_path_factory, world) -> Iterator[Service]:
    """A service with a project, one worker, and an SWR."""
    name = f"test_{uuid.uuid4().hex}"
    administrator.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
            sql.Identifier(name), sql.Identifier(DATABASE), sql.Identifier(OWNER)
        )
    )
    address = DatabaseAddress(
        owner=make_conninfo(cluster.address.owner, dbname=name),
        app=make_conninfo(cluster.address.app, dbname=name),
    )
    with Service(address, tmp_path_factory.mktemp("data"), world) as running:
        yield running
    administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def chromium():
    """One browser for a module: Playwright keeps an event loop, which other tests would meet."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, service):
    """Open a page in a profile of its own; what it complains about fails the test.

    A document that is refused is in the browser's console as well: ``complaints`` of the page may
    be cleared by a test that wants one.
    """
    contexts = []
    pages = []

    def open_one(**options):
        given = {
            "base_url": service.url,
            "locale": "en-GB",
            "viewport": {"width": 1280, "height": 900},
        }
        context = chromium.new_context(**{**given, **options})
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on(
            "console", lambda m: m.type in ("error", "warning") and page.complaints.append(m.text)
        )
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("requestfailed", lambda r: page.complaints.append(f"{r.url} {r.failure}"))
        pages.append(page)
        return page

    yield open_one
    complaints = [text for page in pages for text in page.complaints]
    for context in contexts:
        context.close()
    # A page that is left while its picture or stream is under way gives those up.
    assert [text for text in complaints if "ERR_ABORTED" not in text] == []


@pytest.fixture
def signed_in(open_page, service):
    """Open a page as the project's account."""

    def sign_in(**options):
        page = open_page(**options)
        page.goto("/console/sign-in")
        page.locator("#token").fill(service.token())
        page.locator("form:has(#token) button").click()
        page.wait_for_url("**/console")
        return page

    return sign_in
