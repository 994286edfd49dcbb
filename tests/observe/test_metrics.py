"""What Prometheus is told: true, whole, bounded, and told to the operator alone."""

from __future__ import annotations

import asyncio
import datetime as dt

import aiohttp
import pytest
from scrape import OPEN, scrape

from http_port import serving
from rows import Rows
from wharfinger.domain.metrics import MOST_HOSTS
from wharfinger.domain.tally import MOST_KEYS, Tally
from wharfinger.store.metrics import Metrics
from yard import PROJECT


@pytest.fixture
async def port(yard):
    """The yard's house on a port, and how to read its metrics."""
    token = yard.house.settings.metrics_token_file
    async with serving(yard.house) as url, aiohttp.ClientSession() as session:

        async def read(accept=""):
            return await scrape(session, url, token=token.read_text().strip(), accept=accept)

        async def when(name, value, **labels):
            """The scrape that first tells this: a run is counted a moment after it has ended."""
            async with asyncio.timeout(20):
                while (told := await read())(name, **labels) != value:
                    await asyncio.sleep(0.05)
            return told

        read.url, read.session, read.token_file, read.when = url, session, token, when
        yield read


async def test_a_sync_is_told_in_full(yard, upstream, port):
    await yard.add_swr(upstream)

    run = await yard.sync()
    told = await port.when("runs_total", 1, kind="SwrPrivate", outcome="complete")

    host = upstream.url.removeprefix("http://")
    assert told("images", kind="SwrPrivate") == 60
    assert told("registries", kind="SwrPrivate", verdict="complete") == 1
    assert told("run_duration_seconds_count", kind="SwrPrivate") == 1
    assert told("upstream_requests_total", host=host, status="200") == run.requests
    assert told("upstream_request_seconds_total", host=host) > 0
    assert told("events_total") == 60
    assert told("host_concurrency", host=host) >= 1
    assert 0 <= told("registry_confirmed_age_seconds", kind="SwrPrivate") < 60
    assert told("projects") == 1
    assert told("workers") >= 1
    assert told("database_up") == 1
    assert told("database_pool_connections", state="used") is not None
    assert told.all("runs_open") == {("queued",): 0, ("running",): 0}


async def test_what_goes_wrong_is_told_by_its_name(yard, upstream, port):
    registry = await yard.add_swr(upstream)
    await yard.sync()
    yard.owner.execute("UPDATE registry SET confirmed_at = now() - interval '30 hours'")
    yard.owner.execute("UPDATE registry SET held_images = 7")
    yard.owner.execute(
        "INSERT INTO run (project_id, registry_id, state, queued_at)"
        " VALUES (%s, %s, 'queued', now() - interval '1 hour')",
        (PROJECT, registry),
    )
    async with port.session.get(f"{port.url}/v5/{PROJECT}/image/registries") as refused:
        assert refused.status == 401

    told = await port()

    assert told("registries", kind="SwrPrivate", verdict="stale") == 1
    assert told("registries", kind="SwrPrivate", verdict="complete") is None
    assert 29 * 3600 < told("registry_confirmed_age_seconds", kind="SwrPrivate") < 31 * 3600
    assert told("images_held", kind="SwrPrivate") == 7
    assert told("run_oldest_seconds", state="queued") > 3500
    assert sum(told.all("refusals_total").values()) == 1
    assert told.all("http_requests_total") == {
        ("GET", "/v5/{project_id}/image/registries", "401"): 1
    }
    assert (
        told(
            "http_request_duration_seconds_count",
            method="GET",
            route="/v5/{project_id}/image/registries",
        )
        == 1
    )


async def test_both_forms_say_the_same(yard, upstream, port):
    await yard.add_swr(upstream)
    await yard.sync()

    await port.when("runs_total", 1, kind="SwrPrivate", outcome="complete")
    text, opened = await port(), await port(OPEN)

    assert text.content_type.startswith("text/plain")
    assert opened.content_type.startswith("application/openmetrics-text")
    assert opened.text.endswith("# EOF\n")
    names = {name for name, _ in text.samples}
    assert {name for name, _ in opened.samples} == names
    assert len({name for name in names if name.startswith("wharfinger_")}) > 25


async def test_only_the_monitoring_may_read(yard, port):
    async def status(**headers):
        async with port.session.get(f"{port.url}/metrics", headers=headers) as answer:
            return answer.status

    right = port.token_file.read_text().strip()
    key = await yard.house.callers.create_token(PROJECT, dt.timedelta(minutes=1))

    assert port.token_file.stat().st_mode & 0o777 == 0o600
    assert len(right) >= 40
    assert await status(Authorization=f"Bearer {right}") == 200
    assert await status() == 401
    assert await status(Authorization=f"Bearer {right[:-1]}") == 401
    assert await status(**{"X-Auth-Token": key}) == 401


async def test_no_name_of_a_tenant_is_told(yard, upstream, port):
    yard.owner.execute("UPDATE project SET name = 'confidential'")
    registry = await yard.add_swr(upstream, name="hush-hush")
    await yard.sync()

    told = await port()

    for word in ("confidential", "hush-hush", PROJECT, registry, upstream.key.access_key):
        assert word not in told.text


async def test_a_database_that_is_gone_is_told_too(yard, port):
    await yard.house.database.close()

    told = await port()

    assert told("database_up") == 0
    assert told("images", kind="SwrPrivate") is None
    assert ("process_cpu_seconds_total", ()) in told.samples


async def test_hosts_are_told_apart_up_to_a_number(database, owner_connection):
    metrics = Metrics(database)
    for number in range(MOST_HOSTS + 50):
        await metrics.add({("upstream_requests", (f"h{number}:443", "200")): 2.0})
    await metrics.add({("upstream_requests", ("h0:443", "200")): 1.0})

    rows = dict(owner_connection.execute("SELECT labels[1], value FROM metric_total").fetchall())
    assert len(rows) == MOST_HOSTS + 1
    assert rows["other"] == 100
    assert rows["h0:443"] == 3


def test_a_process_that_cannot_report_keeps_so_much_and_no_more():
    tally = Tally()

    for number in range(MOST_KEYS + 500):
        tally.add("upstream_requests", f"h{number}", "200")

    assert len(tally.take()) == MOST_KEYS
    assert tally.take() == {}


async def test_a_scrape_costs_as_much_at_twenty_thousand_images_as_at_ten(
    database, owner_connection
):
    owner_connection.execute("INSERT INTO project VALUES ('p', 'p')")
    rows = Rows("p", owner_connection)
    registry = rows.registry()
    repository = rows.repository(registry)

    def buffers():
        total = 0
        for function in (
            "list_totals",
            "observe_registries",
            "observe_runs",
            "observe_budgets",
            "observe_projects",
        ):
            plan = owner_connection.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM {function}()"
            ).fetchone()[0][0]["Plan"]
            total += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        return total

    def fill(images):
        owner_connection.execute(
            "INSERT INTO image (project_id, registry_id, repository_id, tag, digest, image_id,"
            " size, updated_at) SELECT 'p', %s, %s, 't' || n, 'd' || n, 'c', 1, now()"
            " FROM generate_series(1, %s) n ON CONFLICT DO NOTHING",
            (registry, repository, images),
        )
        owner_connection.execute("UPDATE registry SET live_images = %s", (images,))
        owner_connection.execute("ANALYZE")

    fill(10)
    buffers()
    few = buffers()
    fill(20_000)
    buffers()
    many = buffers()

    print(f"a scrape reads {few} buffers at 10 images, {many} at 20,000")
    pages = owner_connection.execute("SELECT pg_relation_size('image') / 8192").fetchone()[0]
    assert pages > 100
    assert many <= few + 10
