"""The pictures that README and docs show: pages after a fortnight of real syncs.

Every sync reads the registries over HTTP and finds what was pushed, moved and deleted since the one
before; only the days between them are not waited for. ``make screenshots`` keeps the pictures.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import socket
import struct
import time
import zlib
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import expect

from service import PROJECT
from wharfinger.domain.model import Caller, RegistryCredential
from wharfinger.store.database import connection_options
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.model import made_up_world
from wharfinger.testing.oci import OciUpstream
from wharfinger.testing.sample import sample_world

CALLER = Caller(project_id=PROJECT, project_name="cn-north-4", principal="test", is_operator=True)
DAYS = 14
READ = ("swr-private", "swr-shared", "depot")
LARGEST_BYTES = 150_000
SIZES = {
    "wide": (1280, 720),
    "short": (1280, 600),
    "tall": (1280, 1250),
    "narrow": (390, 844),
}


@pytest.fixture(scope="module")
def world():
    return sample_world()


@pytest.fixture(scope="module")
def lived(service):
    """A project with three registries that were read every day, and one that nobody reaches."""
    chance = random.Random(7)  # the same fortnight every time
    depot = OciUpstream(made_up_world(25, 4))
    service.run(depot.__aenter__())
    service.run(_attach(service, depot))
    runs = []
    for day in range(DAYS):
        runs.append(service.run(_synced(service, READ)))
        if day < DAYS - 1:
            _live_on(service.upstream.world, chance)
    service.run(_synced(service, ("old-harbor",)))
    _spread_over_days(service, runs)
    yield runs
    service.run(depot.__aexit__(None, None, None))


async def _attach(service, depot) -> None:
    key = service.upstream.key
    swr = RegistryCredential(kind="access_key", identity=key.access_key, secret=key.secret_key)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for name, kind, address, credential in (
        ("swr-private", "SwrPrivate", service.upstream.url, swr),
        ("swr-shared", "SwrShared", service.upstream.url, swr),
        ("depot", "Other", depot.url, RegistryCredential(kind="none")),
        ("old-harbor", "Harbor", nobody, RegistryCredential(kind="none")),
    ):
        new = NewRegistry(name=name, kind=kind, address=address, allow_private_networks=True)
        await service.house.registries.add(CALLER, new, credential)


async def _synced(service, names) -> list[str]:
    """Read registries; the runs' ids."""
    synchroniser = service.house.synchroniser
    task_id = await synchroniser.synchronise_names(CALLER, names)
    while not (task := await synchroniser.task(CALLER, task_id)).finished_at:
        await asyncio.sleep(0.02)
    return [run.id for run in task.runs]


def _live_on(world, chance) -> None:
    """What teams do on a day: mostly releases, some tags that move, some that are cleaned up."""
    repositories = [one for one in world.owned() if len(one.tags) > 2]
    for n, repository in enumerate(chance.sample(repositories, 24)):
        tags = world.tags(repository.path)
        if n % 6 == 0:
            world.move(repository.path, tags[-1].name)
        elif n % 6 == 1:
            world.delete_tag(repository.path, tags[0].name)
        else:
            world.push(repository.path, f"2026.{chance.randrange(1, 12)}.{chance.randrange(99)}")


def _spread_over_days(service, runs) -> None:
    """Move each day's runs and what they changed to where they belong in the fortnight."""
    owner = service.address.owner
    with psycopg.connect(owner, autocommit=True, options=connection_options(owner)) as connection:
        for ago, ids in enumerate(reversed(runs)):
            values = {"ago": ago, "runs": ids}
            connection.execute(
                "UPDATE run SET queued_at = queued_at - %(ago)s * interval '1 day',"
                " started_at = started_at - %(ago)s * interval '1 day',"
                " finished_at = finished_at - %(ago)s * interval '1 day'"
                " WHERE id = ANY(%(runs)s::uuid[])",
                values,
            )
            connection.execute(
                "UPDATE event SET at = at - %(ago)s * interval '1 day'"
                " WHERE run_id = ANY(%(runs)s::uuid[])",
                values,
            )
        connection.execute(
            "UPDATE image SET first_seen_at = e.at FROM event e"
            " WHERE e.image_id = image.id AND e.kind = 'added'"
        )


@pytest.fixture
def keep(tmp_path):
    """Keep what a page shows: where the documentation has it, if that is wanted."""
    folder = Path(os.environ.get("WHARFINGER_SCREENSHOTS") or tmp_path)

    def keep_one(page, name, size="wide"):
        width, height = SIZES[size]
        end = page.locator("main").bounding_box()
        shown = {"x": 0, "y": 0, "width": width, "height": min(height, end["y"] + end["height"])}
        # Nothing moves or blinks in it.
        taken = page.screenshot(animations="disabled", caret="hide", clip=shown)
        picture = packed(taken)
        (folder / f"console-{name}.png").write_bytes(picture)
        assert struct.unpack(">I", picture[16:20]) == (width,), name
        assert 10_000 < len(picture) < LARGEST_BYTES, (name, len(picture))

    return keep_one


def packed(png: bytes) -> bytes:
    """The same picture in fewer bytes: the browser is in a hurry, the documentation is not."""
    data, kept, at = b"", [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        chunk = png[at : at + 12 + length]
        if chunk[4:8] == b"IDAT":
            data += chunk[8:-4]
        else:
            kept.append(chunk)
        at += 12 + length
    body = b"IDAT" + zlib.compress(zlib.decompress(data), 9)
    again = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:8] + b"".join([kept[0], *kept[1:-1], again, kept[-1]])


def window(size="wide") -> dict:
    width, height = SIZES[size]
    return {"viewport": {"width": width, "height": height}}


def drawn(page) -> None:
    """Wait until all plots are there: some are fetched only where they are seen."""
    page.locator("img.plot").first.wait_for()
    for plot in page.locator("img.plot").all():
        plot.scroll_into_view_if_needed()
    whole = "[...document.querySelectorAll('img.plot')].every(i => i.complete && i.naturalWidth)"
    deadline = time.monotonic() + 20
    while not page.evaluate(whole):
        assert time.monotonic() < deadline, "a plot does not come"
        page.wait_for_timeout(50)
    page.evaluate("window.scrollTo(0, 0)")


def registry(page, name) -> None:
    page.goto("/console/registries")
    page.get_by_role("link", name=name, exact=True).click()
    page.get_by_role("heading", name=name).first.wait_for()


def test_the_overview(lived, signed_in, keep):
    page = signed_in(**window("tall"))
    drawn(page)
    assert page.locator("img.plot").count() == 3
    keep(page, "overview", "tall")


def test_the_overview_in_a_narrow_window(lived, signed_in, keep):
    page = signed_in(**window("narrow"))
    drawn(page)
    page.evaluate("document.querySelector('.plots').scrollIntoView()")
    keep(page, "narrow", "narrow")


def test_the_registries(lived, signed_in, keep):
    page = signed_in(**window())
    page.goto("/console/registries")
    expect(page.locator("tbody tr")).to_have_count(4)
    keep(page, "registries")


def test_a_registry_while_it_is_read(lived, signed_in, service, keep):
    page = signed_in(**window("tall"))
    registry(page, "swr-private")
    service.upstream.faults.delay(".*", 0.3)
    page.get_by_role("button", name="Sync and read everything").click()
    page.locator("[data-progress][data-state=running]").wait_for()
    # Some of it is done, and much is not.
    expect(page.locator("[data-told=repositories]")).to_have_text(re.compile("^[12]00 of"))
    drawn(page)
    keep(page, "progress", "tall")
    service.upstream.faults.clear()
    page.get_by_text("ended: complete").first.wait_for()


def test_the_list_of_images(lived, signed_in, keep):
    page = signed_in(**window("short"))
    page.goto("/console/images?text=api-gateway&latest=true")
    expect(page.locator("#found tbody tr").first).to_be_visible()
    keep(page, "images", "short")


def test_an_image_in_the_dark(lived, signed_in, keep):
    page = signed_in(**window(), color_scheme="dark")
    page.goto("/console/changes?what=moved")
    page.locator("#found tbody th a").first.click()
    page.locator(".timeline").first.wait_for()
    keep(page, "image-dark")


def test_a_run(lived, signed_in, keep):
    page = signed_in(**window())
    page.goto("/console/runs")
    page.locator("#found tr:has(a)", has_text="swr-private").first.locator("a").first.click()
    page.locator(".timeline").wait_for()
    keep(page, "run")


def test_the_feed_of_changes_in_chinese(lived, signed_in, keep):
    page = signed_in(**window(), locale="zh-CN")
    page.goto("/console/changes")
    drawn(page)
    keep(page, "changes-chinese")
