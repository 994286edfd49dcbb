"""Somebody opens the console for the first time, adds a registry and watches it being read."""

from __future__ import annotations

from playwright.sync_api import expect


def test_a_registry_is_added_and_its_sync_watched_from_click_to_done(signed_in, service):
    page = signed_in()
    key = service.upstream.key
    page.get_by_role("link", name="Add a registry").click()
    page.get_by_role("link", name="SwrPrivate").click()
    page.get_by_label("Name", exact=True).fill("our SWR")
    page.get_by_label("Address", exact=True).fill(service.upstream.url)
    page.get_by_label("How it is asked").select_option("access_key")
    page.get_by_label("User name or access key", exact=True).fill(key.access_key)
    page.get_by_label("Password, secret key or token").fill(key.secret_key)
    page.get_by_role("button", name="Add a registry").click()
    page.get_by_role("heading", name="our SWR").wait_for()

    # Slow enough to be seen while it goes.
    service.upstream.faults.delay(".*", 1)
    page.get_by_role("button", name="Sync now").click()

    page.locator("[data-progress][data-state=running]").wait_for()
    page.get_by_text("is being read").wait_for()
    told = page.locator("[data-told=requests]")
    first = told.inner_text()
    expect(told).not_to_have_text(first)
    expect(page.locator("[data-told=budget]")).to_contain_text("at once")
    service.upstream.faults.clear()
    page.locator("[data-told=state]", has_text="ended: complete").wait_for()
    assert page.locator("[data-told=repositories]").inner_text() == "40 of 40"
    assert page.locator("[data-told=images]").inner_text() == "200"
    assert page.locator("h1 .verdict").inner_text() == "complete"
