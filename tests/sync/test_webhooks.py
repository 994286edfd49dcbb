"""Receivers over real HTTP: told everything, in order, signed, until they have taken it."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from psycopg.rows import dict_row

from leaks import LEAKS
from wharfinger.domain.errors import InvalidParameterError, NotFoundError
from wharfinger.domain.model import Caller, Origin
from wharfinger.domain.webhooks import NewWebhook, WebhookChange, checked_url
from wharfinger.service import telling
from wharfinger.settings import read_settings
from wharfinger.store.resealing import Resealing
from wharfinger.testing.faults import Answer
from wharfinger.testing.model import made_up_world
from wharfinger.testing.server import LoopbackServer
from wharfinger.testing.upstream import Upstream
from wharfinger.wiring import open_house
from yard import PROJECT, Yard

OK = Answer(status=204)


def held(seconds):
    """An answer whose body does not come."""
    return Answer(body=b"taken", sent=0, stall_s=seconds)


class Receiver(LoopbackServer):
    """Takes events, or answers what it is told to first; ``events`` are those it has taken."""

    def __init__(self):
        super().__init__()
        self.answers = []
        self.events = []

    def respond(self, asked):
        answer = self.answers.pop(0) if self.answers else OK
        if answer.status < 300:
            found = json.loads(asked.body)
            self.events += found if isinstance(found, list) else [found]
        return answer

    @property
    def ids(self):
        return [event["id"] for event in self.events]

    async def until(self, holds, within_s=15):
        for _ in range(within_s * 50):
            if holds(self):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not within {within_s} s; taken: {self.ids}")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(telling, "POLL_S", 0.02)


@pytest.fixture
async def upstream():
    """Two repositories of three tags."""
    async with Upstream(made_up_world(2, 3)) as running:
        running.world.clock.follow_real_time()
        yield running


@pytest.fixture
async def receiver():
    async with Receiver() as running:
        yield running


async def add(yard, receiver, *, path="/hook", **given):
    new = NewWebhook(name=given.pop("name", "hook"), url=receiver.url + path, **given)
    made = await yard.house.webhooks.add(yard.caller, new, allow_private=True)
    LEAKS.learn(made.secret)
    return made


async def only(yard):
    (webhook,) = await yard.house.webhooks.list(yard.caller)
    return webhook


def is_signed(logged, secret):
    """As a receiver checks it that has only read Standard Webhooks."""
    key = base64.b64decode(secret.split("_", 1)[1])
    said = f"{logged.headers['webhook-id']}.{logged.headers['webhook-timestamp']}.".encode()
    mac = base64.b64encode(hmac.new(key, said + logged.body, hashlib.sha256).digest()).decode()
    return f"v1,{mac}" in logged.headers["webhook-signature"].split()


CHANGES = [f"change-{n}" for n in range(1, 7)]


async def test_everything_is_told_in_order_as_signed_cloudevents(yard, upstream, receiver):
    made = await add(yard, receiver)
    await yard.add_swr(upstream)

    run = await yard.sync()
    await receiver.until(lambda r: len(r.events) == 8)

    assert receiver.ids == [*CHANGES, "notice-1", "notice-2"]
    for logged in receiver.log:
        event = from_structured(HTTPMessage(dict(logged.headers), logged.body), JSONFormat())
        assert logged.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
        assert logged.headers["webhook-id"] == event.get_id()
        assert event.get_source() == f"/api/v1/projects/{PROJECT}/changes"
        assert event.get_time().tzinfo is not None
        assert is_signed(logged, made.secret)
    feed = await yard.house.history.changes(yard.caller, after=0, limit=100)
    for event, change in zip(receiver.events, feed.items, strict=False):
        assert event["type"] == f"wharfinger.image.{change.kind}"
        assert event["data"]["digest_after"] == change.digest_after
        assert event["subject"] == f"swrprivate/{change.namespace}/{change.name}:{change.tag}"
    verdict, ended = receiver.events[6:]
    assert (verdict["type"], verdict["data"]["verdict"]) == (
        "wharfinger.registry.verdict",
        "complete",
    )
    assert ended["type"] == "wharfinger.run.finished"
    assert (ended["data"]["run_id"], ended["data"]["added"]) == (run.id, 6)
    webhook = await only(yard)
    assert (webhook.state, webhook.delivered, webhook.behind) == ("active", 6, 0)


async def test_a_batch_carries_several_at_once(yard, upstream, receiver):
    made = await add(yard, receiver, batch=4)
    await yard.add_swr(upstream)

    await yard.sync()
    await receiver.until(lambda r: len(r.events) == 8)

    assert receiver.ids == [*CHANGES, "notice-1", "notice-2"]
    assert len(receiver.log) < 8
    for logged in receiver.log:
        assert logged.headers["content-type"].startswith("application/cloudevents-batch+json")
        assert len(json.loads(logged.body)) <= 4
        assert is_signed(logged, made.secret)


async def test_what_is_refused_is_told_again_and_nothing_overtakes_it(
    yard, upstream, receiver, monkeypatch
):
    monkeypatch.setattr("wharfinger.domain.webhooks.FIRST_WAIT_S", 0.02)
    receiver.answers = [OK, Answer(status=500, body=b"oh\x1b no" * 500), Answer(reset=True), OK]
    await add(yard, receiver)
    await yard.add_swr(upstream)

    await yard.sync()
    await receiver.until(lambda r: len(r.events) == 9)

    # What was reset counts as taken by the receiver, and came again under the same id.
    assert list(dict.fromkeys(receiver.ids)) == [*CHANGES, "notice-1", "notice-2"]
    asked = [logged.headers["webhook-id"] for logged in receiver.log]
    assert asked[:4] == ["change-1", "change-2", "change-2", "change-2"]
    log = await yard.house.webhooks.deliveries(yard.caller, "hook", limit=100)
    tried = [one for one in reversed(log) if one.event_id == "change-2"]
    assert [(one.attempt, one.status) for one in tried] == [(1, 500), (2, None), (3, 204)]
    assert tried[0].excerpt.startswith("oh no")
    assert len(tried[0].excerpt) == 500
    assert "connection" in tried[1].error


async def test_a_receiver_says_itself_when_to_come_again(yard, upstream, receiver):
    receiver.answers = [Answer(status=503, headers={"Retry-After": "300"})]
    await add(yard, receiver)
    await yard.add_swr(upstream)

    await yard.sync()
    await receiver.until(lambda r: r.log)
    while (webhook := await only(yard)).state != "failing":
        await asyncio.sleep(0.02)

    wait = webhook.next_at - dt.datetime.now(dt.UTC)
    assert dt.timedelta(seconds=240) < wait <= dt.timedelta(seconds=300)
    assert len(receiver.log) == 1


async def test_a_slow_receiver_keeps_nobody_waiting(yard, upstream, receiver):
    async with Receiver() as slow:
        slow.answers = [held(30)] * 9
        await add(yard, slow, name="slow")
        await add(yard, receiver, name="quick")
        await yard.add_swr(upstream)

        run = await yard.sync(within_s=10)
        await receiver.until(lambda r: len(r.events) == 8, within_s=10)

    assert run.outcome == "complete"
    assert len(slow.log) <= 1


async def test_a_redirect_is_a_refusal(yard, upstream, receiver):
    receiver.answers = [Answer(status=307, headers={"Location": receiver.url + "/elsewhere"})]
    await add(yard, receiver)

    done = await yard.house.webhooks.test(yard.caller, "hook")

    assert (done.status, done.is_taken) == (307, False)
    assert [logged.path for logged in receiver.log] == ["/hook"]


async def test_filters_keep_what_they_name(yard, upstream, receiver):
    async with Receiver() as runs, Receiver() as labelled, Receiver() as elsewhere:
        await yard.add_swr(upstream)
        registry = await yard.add_swr(upstream, kind="SwrShared", name="other")
        await yard.house.registries.remove(yard.caller, "other")
        paths = sorted({path for path, _, _ in upstream.world.images()})
        namespace, _, name = paths[0].partition("/")
        yard.owner.execute(
            "INSERT INTO label (project_id, registry_id, namespace, repository, key, value)"
            " SELECT %s, id, %s, %s, 'owner', 'me' FROM registry WHERE name = 'swrprivate'",
            (PROJECT, namespace, name),
        )
        await add(yard, receiver, name="one", pattern=paths[1], types=("image.added",))
        await add(yard, runs, name="runs", types=("run.finished",), registries=("swrprivate",))
        await add(yard, labelled, name="labelled", labels={"owner": "me"}, types=("image.added",))
        await add(yard, elsewhere, name="elsewhere")
        yard.owner.execute(
            "UPDATE webhook SET registries = %s WHERE name = 'elsewhere'", ([registry],)
        )

        await yard.sync()
        await runs.until(lambda r: r.events)
        await receiver.until(lambda r: len(r.events) == 3)
        await labelled.until(lambda r: len(r.events) == 3)
        while any(one.behind for one in await yard.house.webhooks.list(yard.caller)):
            await asyncio.sleep(0.02)

        assert {e["data"]["name"] for e in receiver.events} == {paths[1].partition("/")[2]}
        assert [e["type"] for e in runs.events] == ["wharfinger.run.finished"]
        assert {e["data"]["name"] for e in labelled.events} == {name}
        assert elsewhere.events == []


async def test_everything_can_be_told_again(yard, upstream, receiver):
    await add(yard, receiver)
    await yard.add_swr(upstream)
    await yard.sync()
    await receiver.until(lambda r: len(r.events) == 8)
    log = await yard.house.webhooks.deliveries(yard.caller, "hook", limit=100)
    last_change = next(one for one in log if one.event_id == "change-6")

    await yard.house.webhooks.replay(yard.caller, "hook", from_number=5)
    await receiver.until(lambda r: len(r.events) == 12)
    await yard.house.webhooks.replay(yard.caller, "hook", delivery=last_change.id)
    await receiver.until(lambda r: len(r.events) == 15)

    again = ["change-5", "change-6", "notice-1", "notice-2"]
    assert receiver.ids[8:] == again + again[1:]
    with pytest.raises(InvalidParameterError, match="must be 1 to 7"):
        await yard.house.webhooks.replay(yard.caller, "hook", from_number=8)
    with pytest.raises(NotFoundError, match="no delivery 999"):
        await yard.house.webhooks.replay(yard.caller, "hook", delivery=999)


async def test_a_paused_webhook_misses_nothing_and_may_begin_in_the_past(yard, upstream, receiver):
    await yard.add_swr(upstream)
    await yard.sync()
    await add(yard, receiver, from_number=4)
    await receiver.until(lambda r: len(r.events) == 5)
    await yard.house.webhooks.change(yard.caller, "hook", WebhookChange(paused=True))
    upstream.world.delete_tag(*tag_of(upstream))

    await yard.sync()
    before = list(receiver.ids)
    await yard.house.webhooks.change(yard.caller, "hook", WebhookChange(paused=False))
    await receiver.until(lambda r: len(r.events) == 7)

    assert before == ["change-4", "change-5", "change-6", "notice-1", "notice-2"]
    assert receiver.ids[5:] == ["change-7", "notice-3"]
    assert receiver.events[5]["type"] == "wharfinger.image.retired"


def tag_of(upstream):
    path, tag, _ = min(upstream.world.images())
    return path, tag


async def test_who_never_answers_is_given_up_for_all_to_see(yard, upstream, receiver):
    receiver.answers = [Answer(status=500)]
    await add(yard, receiver)
    yard.owner.execute("UPDATE webhook SET failing_since = now() - interval '4 days', failures = 9")
    await yard.add_swr(upstream)

    await yard.sync()
    while (given_up := await only(yard)).state != "given_up":
        await asyncio.sleep(0.02)
    await yard.house.webhooks.change(yard.caller, "hook", WebhookChange(paused=False))
    await receiver.until(lambda r: len(r.events) == 8)

    assert given_up.paused_at is not None
    assert receiver.ids[0] == "change-1"
    told = yard.value("SELECT details FROM audit WHERE action = 'webhook.give_up'")
    assert told == {"reason": "given_up"}


async def test_forgotten_changes_are_told_to_be_forgotten(yard, upstream, receiver):
    await yard.add_swr(upstream)
    await yard.sync()
    await add(yard, receiver, from_number=1, types=("run.finished",), name="late")
    await yard.house.webhooks.change(yard.caller, "late", WebhookChange(paused=True))
    yard.owner.execute("UPDATE tenant_feed SET horizon_seq = 4")
    yard.owner.execute("UPDATE webhook SET change_seq = 0, notice_seq = 2")
    receiver.events.clear()

    await yard.house.webhooks.change(yard.caller, "late", WebhookChange(paused=False))
    await receiver.until(lambda r: r.events)

    (event,) = receiver.events
    assert (event["id"], event["type"]) == ("forgotten-1-4", "wharfinger.changes.forgotten")
    assert event["data"] == {"from": 1, "to": 4}


# --- secrets, addresses, tenants ------------------------------------------------------------------


async def test_two_secrets_sign_while_one_replaces_the_other(yard, receiver):
    made = await add(yard, receiver)

    await yard.house.webhooks.rotate(yard.caller, "hook", keep_old=dt.timedelta(hours=1))
    rotated = await yard.house.webhooks.rotate(yard.caller, "hook", keep_old=dt.timedelta(hours=1))
    await yard.house.webhooks.test(yard.caller, "hook")
    last = await yard.house.webhooks.rotate(yard.caller, "hook", keep_old=dt.timedelta(0))
    await yard.house.webhooks.test(yard.caller, "hook")

    both, one = receiver.log
    assert is_signed(both, rotated.secret)
    assert len(both.headers["webhook-signature"].split()) == 2
    assert not is_signed(both, made.secret)
    assert is_signed(one, last.secret)
    assert len(one.headers["webhook-signature"].split()) == 1


async def test_neither_secret_nor_query_is_found_anywhere(yard, receiver):
    made = await add(yard, receiver, path="/hook?key=planted-in-the-query")
    LEAKS.learn("planted-in-the-query")
    await yard.house.webhooks.test(yard.caller, "hook")
    await yard.house.webhooks.change(yard.caller, "hook", WebhookChange(batch=2))
    receiver.answers = [Answer(reset=True)]
    failed = await yard.house.webhooks.test(yard.caller, "hook")

    shown = repr(await only(yard)) + repr(failed) + repr(made.webhook)
    with yard.owner.cursor(row_factory=dict_row) as cursor:
        for table in ("webhook", "webhook_delivery", "audit"):
            shown += repr(cursor.execute(f"SELECT * FROM {table}").fetchall())

    assert receiver.log[0].target == "/hook?key=planted-in-the-query"
    assert "planted-in-the-query" not in shown
    assert made.secret not in shown
    assert made.secret not in repr(made)


async def test_secrets_are_sealed_again_under_a_new_key(yard, receiver, tmp_path):
    made = await add(yard, receiver)
    resealing = Resealing(yard.house.database, yard.house.callers, yard.house.keys)

    assert await resealing.rotate(drop_old=True) == 1
    await yard.house.webhooks.test(yard.caller, "hook")

    assert is_signed(receiver.log[0], made.secret)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "ftp://hooks.example/",
        "https://user:pw@hooks.example/",
        "https://hooks.example/#x",
        "https://hooks.example:port/",
        "https://hooks.example/a b",
    ],
)
def test_what_is_no_good_url_is_refused(url):
    with pytest.raises(InvalidParameterError, match="must"):
        checked_url(url, allow_private=False)


async def test_a_tenant_reaches_nothing_inside(yard):
    for host in ("127.0.0.1", "169.254.169.254", "[::1]", "10.0.0.1"):
        new = NewWebhook(name=host, url=f"https://{host}/")
        await yard.house.webhooks.add(yard.caller, new)

        done = await yard.house.webhooks.test(yard.caller, host)

        assert done.status is None
        assert "may not reach" in done.error


async def test_a_tenant_who_moves_the_operators_webhook_loses_the_way_inside(yard, receiver):
    await add(yard, receiver)
    tenant = Caller(
        project_id=PROJECT,
        project_name="",
        principal="somebody",
        sees_every_enterprise_project=True,
        origin=Origin(source="127.0.0.1"),
    )

    with pytest.raises(InvalidParameterError, match="must begin with https"):
        await yard.house.webhooks.change(tenant, "hook", WebhookChange(url=receiver.url + "/x"))
    await yard.house.webhooks.change(
        tenant, "hook", WebhookChange(url=receiver.url.replace("http:", "https:"))
    )

    assert "may not reach" in (await yard.house.webhooks.test(tenant, "hook")).error


async def test_who_sees_less_than_a_webhook_tells_does_not_see_it(yard, receiver):
    await add(yard, receiver)
    narrow = Caller(project_id=PROJECT, project_name="", principal="narrow")
    own = await yard.house.webhooks.add(narrow, NewWebhook(name="own", url="https://h.example/"))

    seen = await yard.house.webhooks.list(narrow)

    assert [one.id for one in seen] == [own.webhook.id]
    for attempt in (
        yard.house.webhooks.remove(narrow, "hook"),
        yard.house.webhooks.test(narrow, "hook"),
        yard.house.webhooks.deliveries(narrow, "hook", limit=1),
    ):
        with pytest.raises(NotFoundError):
            await attempt


async def test_a_turn_that_a_dead_worker_left_runs_out(yard, upstream, receiver):
    await add(yard, receiver)
    yard.owner.execute(
        "UPDATE webhook SET lease = gen_random_uuid(), leased_until = now() + interval '1 second'"
    )
    await yard.add_swr(upstream)

    await yard.sync()
    await receiver.until(lambda r: len(r.events) == 8)

    assert receiver.ids == [*CHANGES, "notice-1", "notice-2"]


# --- sudden death ---------------------------------------------------------------------------------


async def test_a_killed_worker_loses_nothing_and_repeats_under_the_same_id(
    database_address, owner_connection, tmp_path, upstream, receiver
):
    owner_connection.execute("INSERT INTO project VALUES (%s, 'acme')", (PROJECT,))
    owner_connection.execute("INSERT INTO tenant_feed VALUES (%s)", (PROJECT,))
    settings = read_settings(environment={"WHARFINGER_DATA_DIR": str(tmp_path)})
    # The third event is held by the receiver, who has it, when the worker dies.
    receiver.answers = [OK, OK, held(60)]
    async with open_house(settings, database_address) as house:
        yard = Yard(house, owner_connection)
        await add(yard, receiver)
        # Told only once the sync has ended: an attempt that is held while a slow sync goes on is
        # given up after a while, and the worker would tell on before it dies.
        await yard.house.webhooks.change(yard.caller, "hook", WebhookChange(paused=True))
        await yard.add_swr(upstream)
        worker = start_worker(database_address, tmp_path)
        try:
            await yard.sync()
            await yard.house.webhooks.change(yard.caller, "hook", WebhookChange(paused=False))
            await receiver.until(lambda r: len(r.events) == 3, within_s=60)
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.wait(10)
        # As if its turn had run out meanwhile.
        owner_connection.execute("UPDATE webhook SET leased_until = now()")
        async with house.worker():
            await receiver.until(lambda r: len(r.events) == 9, within_s=60)

    assert receiver.ids == [*CHANGES[:3], *CHANGES[2:], "notice-1", "notice-2"]


def start_worker(address, data_dir):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHARFINGER_", "PG"))}
    ours = {
        "WHARFINGER_DATA_DIR": str(data_dir),
        "WHARFINGER_DATABASE_URL": address.owner,
        "WHARFINGER_DATABASE_APP_URL": address.app,
        "WHARFINGER_SCHEDULES": "false",
    }
    return subprocess.Popen([sys.executable, "-m", "wharfinger", "worker"], env=kept | ours)
