"""Every page of the console as a browser shows it: wide, narrow, dark, in Chinese, by keyboard."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from service import PROJECT
from wharfinger.domain.inventory import ImageFilter, RegistryScope
from wharfinger.domain.labels import Place
from wharfinger.domain.model import Caller, RegistryCredential
from wharfinger.domain.webhooks import NewWebhook
from wharfinger.http.ui.routes import PAGES
from wharfinger.identity.users import NewUser
from wharfinger.store.registries import NewRegistry

CALLER = Caller(
    project_id=PROJECT,
    project_name="cn-north-4",
    account_id=PROJECT,
    principal="test",
    sees_every_enterprise_project=True,
    is_operator=True,
)
USER, PASSWORD = "alice of accounts", "correct horse battery staple"
REGISTRY = "depot"
# What is fetched by pages, downloaded or streamed, and is none itself.
NO_PAGES = {
    "show_asset",
    "show_growth",
    "show_share",
    "show_changes_by_day",
    "show_durations",
    "watch_progress",
    "export_images",
}
LOOKS = {
    "wide": {},
    "dark": {"color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}},
    "chinese": {"locale": "zh-CN"},
}


async def _filled(service) -> dict[str, str]:
    """Read a registry twice, with a change in between; what stands in the addresses of pages."""
    house, key = service.house, service.upstream.key
    new = NewRegistry(
        name=REGISTRY,
        kind="SwrPrivate",
        address=service.upstream.url,
        allow_private_networks=True,
    )
    credential = RegistryCredential(
        kind="access_key", identity=key.access_key, secret=key.secret_key
    )
    await house.registries.add(CALLER, new, credential)
    runs = []
    for _ in range(2):
        task_id = await house.synchroniser.synchronise_names(CALLER, (REGISTRY,))
        while not (task := await house.synchroniser.task(CALLER, task_id)).finished_at:
            await asyncio.sleep(0.05)
        runs.append(task.runs[0])
        repository = service.upstream.world.owned()[0]
        service.upstream.world.push(repository.path, "pushed-later")
    made = await house.webhooks.add(
        CALLER, NewWebhook(name="chat", url=service.upstream.url), allow_private=True
    )
    await house.webhooks.test(CALLER, made.webhook.id)
    await house.labels.put(CALLER, Place(registry=REGISTRY), "owner", "payments")
    found = await house.inventory.images_after(
        CALLER,
        ImageFilter(scope=RegistryScope(enterprise_projects=CALLER.enterprise_projects)),
        after_id=0,
        limit=1,
    )
    return {
        "registry_id": runs[0].registry_id,
        "run_id": runs[1].id,
        "earlier": runs[0].id,
        "image_id": str(found[0].id),
        "webhook_id": made.webhook.id,
        **await _peopled(house),
    }


async def _peopled(house) -> dict[str, str]:
    """Make a user with a key, and an enterprise project."""
    await house.users.create(CALLER, NewUser(name=USER, roles=["read-only"], password=PASSWORD))
    await house.access_keys.create(CALLER, USER, None)
    made = await house.enterprise_projects.create(CALLER, "marshes")
    return {"user_name": quote(USER), "enterprise_project_id": made.id}


@pytest.fixture(scope="module")
def places(service):
    """The address of every page, with what is there in the place of its parameters."""
    names = service.run(_filled(service))
    found = {}
    for handler in PAGES:
        name = handler.fn.__name__
        if "GET" in handler.http_methods and name not in NO_PAGES:
            (path,) = handler.paths
            found[name] = "/console" + path.replace(":str", "").format(**names).rstrip("/")
    found["show_differences"] += f"?since={names['earlier']}"
    return found


def problems(page) -> tuple[int, list[str]]:
    """How many rules axe found kept, and what it found that keeps people out."""
    told = Axe().run(page, options={"resultTypes": ["violations", "passes"]}).response
    grave = [
        f"{one['id']}: {one['help']}: {node['html']}"
        for one in told["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    return len(told["passes"]), grave


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_whole_and_keeps_nobody_out(look, places, signed_in):
    page = signed_in(**LOOKS[look])

    for name, address in places.items():
        answer = page.goto(address)
        assert answer.status == 200, (name, address)
        expect(page.locator("h1")).to_have_count(1)
        assert page.locator("html").get_attribute("lang") == (
            "zh-Hans" if look == "chinese" else "en"
        )
        # What is wide scrolls within its own frame.
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wider) <= 0, (name, look)
        if look != "chinese":
            kept, grave = problems(page)
            assert kept > 5, name
            assert grave == [], (name, look)


def test_a_page_knows_the_dark(places, signed_in):
    grounds = []
    for scheme in ("light", "dark"):
        page = signed_in(color_scheme=scheme)
        page.goto(places["show_overview"])
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds.append([int(part) for part in color.strip("rgba()").split(",")[:3]])

    light, dark = map(sum, grounds)
    assert light > 3 * 200 > 3 * 100 > dark


def test_chinese_pages_have_chinese_words_and_letters_for_them(places, signed_in):
    page = signed_in(locale="zh-CN")
    page.goto(places["list_images"])

    heading = page.locator("h1")
    assert all("\u4e00" <= letter <= "\u9fff" for letter in heading.inner_text())
    # A missing letter would be drawn as the same box as any other that is missing.
    drawn = """text => { const c = document.createElement("canvas").getContext("2d");
        c.font = "40px sans-serif"; c.fillText(text, 0, 40);
        return Array.from(c.getImageData(0, 0, 60, 60).data).join() }"""
    assert page.evaluate(drawn, "\u955c") != page.evaluate(drawn, "\U0010fffd")


def test_somebody_signs_in_by_keyboard_alone(open_page, service):
    page = open_page()
    page.goto("/console/sign-in")

    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.get_attribute("href") == "#content"
    assert skip.bounding_box()["y"] >= 0
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "token":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.type(service.token())
    page.keyboard.press("Enter")
    page.wait_for_url("**/console")
    assert outline != "none"


def test_a_wrong_password_is_refused_and_says_so(open_page):
    page = open_page()
    page.goto("/console/sign-in")
    page.locator("#account").fill("cn-north-4")
    page.locator("#user").fill("nobody")
    page.locator("#password").fill("wrong-password")
    page.locator("form:has(#password) button").click()

    page.get_by_role("alert").wait_for()
    assert page.url.endswith("/console/sign-in?next=") or "/console/sign-in" in page.url
    # The browser itself notes that the answer was a 401.
    page.complaints.clear()


def test_images_are_found_as_one_types_and_taken_along(places, signed_in):
    page = signed_in()
    page.goto(places["list_images"])
    page.get_by_role("searchbox").fill("pushed-later")

    expect(page.locator("#found tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile("/console/images\\?text=pushed-later"))
    page.locator("#found tbody th a").click()
    page.get_by_role("heading", name="pushed-later").wait_for()
    page.go_back()
    with page.expect_download() as download:
        page.locator("a[download]", has_text="CSV").click()
    lines = Path(download.value.path()).read_text("utf-8").splitlines()
    assert len(lines) == 2
    assert "pushed-later" in lines[1]


def test_somebody_makes_a_key_of_their_own_and_sees_its_secret_once(places, open_page):
    page = open_page()
    page.goto("/console/sign-in")
    page.locator("#account").fill(PROJECT)
    page.locator("#user").fill(USER)
    page.locator("#password").fill(PASSWORD)
    page.locator("form:has(#password) button").click()
    page.get_by_role("link", name=USER).click()
    _, grave = problems(page)

    page.get_by_label("Ends after so many days").fill("30")
    page.locator("#key_current").fill(PASSWORD)
    page.locator("form:has(#key_current) button").click()
    page.get_by_role("heading", name="The new access key").wait_for()
    made = [code.inner_text() for code in page.locator("main dd code").all()]
    _, grave_too = problems(page)
    page.get_by_role("link", name="I have kept it").click()

    expect(page.locator("tbody th")).to_contain_text([made[0]])
    assert [len(text) for text in made] == [20, 40]
    assert made[1] not in page.content()
    assert grave + grave_too == []


def test_what_a_page_may_load_is_said_without_an_exception(places, signed_in):
    page = signed_in()
    answer = page.goto(places["show_overview"])

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    page.evaluate("document.body.setAttribute('onclick', 'window.ours = 1')")
    page.locator("body").click(position={"x": 2, "y": 2})
    assert page.evaluate("window.ours") is None
    # The browser notes what it has refused.
    assert any("Content Security Policy" in text for text in page.complaints)
    page.complaints.clear()
