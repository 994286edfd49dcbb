"""What is written off the path of a call: bounded whatever comes, lost to no outage or shutdown."""

from __future__ import annotations

import contextlib
import datetime as dt

import pytest

from wharfinger.domain.errors import (
    NotAllowedError,
    NotAuthenticatedError,
    OverRateError,
    StoreUnavailableError,
    TokenExpiredError,
)
from wharfinger.domain.model import Caller, Origin
from wharfinger.service import ledger as module
from wharfinger.service.ledger import Ledger, RefusedCall, network_of

ALICE = Caller(project_id="acme", project_name="acme", principal="user alice, token")
BOB = Caller(project_id="other", project_name="other", principal="user bob, token")
DENIED = NotAllowedError("hss:images:list")
UNKNOWN = NotAuthenticatedError("no", reason="unknown_key")


class Clock:
    """A time that passes when it is told to."""

    now = dt.datetime(2026, 11, 24, 1, 2, 3, tzinfo=dt.UTC)

    def __call__(self):
        return self.now


class Doors:
    """A database that is away while it is shut."""

    def __init__(self, database):
        self._database = database
        self.shut = False
        self.broken = ""  # the project whose transactions fail for a reason of ours

    @contextlib.asynccontextmanager
    async def tenant(self, project_id):
        self._check()
        async with self._database.tenant(project_id) as tx:
            yield tx
            if project_id == self.broken:
                raise ValueError("a fault of ours")

    @contextlib.asynccontextmanager
    async def system(self):
        self._check()
        async with self._database.system() as tx:
            yield tx

    def _check(self):
        if self.shut:
            raise StoreUnavailableError("the database does not answer")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def doors(database):
    return Doors(database)


@pytest.fixture
def ledger(doors, clock):
    return Ledger(doors, clock=clock, pause_s=0.01)


def a_call(source="192.0.2.1", number=0):
    origin = Origin(source=source, user_agent="curl", request_id=f"request {number}")
    return RefusedCall(method="GET", route="/v5/{project_id}/x", action="", origin=origin)


def counted(sql):
    return dict(
        sql.execute("SELECT reason, sum(calls)::int FROM refusal_count GROUP BY 1").fetchall()
    )


def value(sql, query):
    return sql.execute(query).fetchone()[0]


async def test_a_flood_of_strangers_is_counted_to_the_last_and_fills_nothing(
    ledger, owner_connection
):
    for number in range(30_000):
        reason = ("unknown_key", "unknown_token", "locked")[number % 3]
        source = f"198.{number % 250}.{number % 241}.7" if number % 2 else f"2001:db8:{number:x}::1"
        ledger.refused(NotAuthenticatedError("no", reason=reason), None, a_call(source, number))
    await ledger.aclose()

    assert counted(owner_connection) == dict.fromkeys(
        ("unknown_key", "unknown_token", "locked"), 10_000
    )
    assert value(owner_connection, "SELECT count(*) FROM refusal_count") <= 23
    assert value(owner_connection, "SELECT count(*) FROM refusal_sample") == 10
    assert value(owner_connection, "SELECT count(*) FROM audit") == 0


async def test_each_minute_has_its_own_count_and_samples(ledger, clock, owner_connection):
    for _ in range(3):
        for number in range(12):
            ledger.refused(UNKNOWN, None, a_call(number=number))
        clock.now += dt.timedelta(minutes=1)
    await ledger.aclose()

    rows = owner_connection.execute("SELECT minute, network, calls FROM refusal_count ORDER BY 1")
    first = Clock.now.replace(second=0)
    assert rows.fetchall() == [
        (first + dt.timedelta(minutes=n), "192.0.2.0/24", 12) for n in range(3)
    ]
    assert value(owner_connection, "SELECT count(*) FROM refusal_sample") == 30


async def test_an_outage_loses_no_refusal_and_tells_when_it_was_seen(
    ledger, doors, clock, owner_connection
):
    doors.shut = True
    for number in range(5):
        ledger.refused(DENIED, ALICE, a_call(number=number))
        ledger.refused(UNKNOWN, None, a_call(number=number))
    clock.now += dt.timedelta(minutes=3)
    doors.shut = False
    await ledger.aclose()

    rows = owner_connection.execute(
        "SELECT request_id, outcome, details ->> 'seen_at' FROM audit ORDER BY id"
    ).fetchall()
    seen = Clock.now.isoformat()
    assert rows == [(f"request {number}", "not_allowed", seen) for number in range(5)]
    assert counted(owner_connection) == {"unknown_key": 5}


async def test_a_project_whose_entries_cannot_be_written_keeps_nobody_elses_out(
    ledger, doors, owner_connection
):
    doors.broken = "acme"
    ledger.refused(DENIED, ALICE, a_call())
    ledger.refused(DENIED, BOB, a_call())

    await ledger.aclose()

    query = "SELECT project_id FROM audit"
    assert owner_connection.execute(query).fetchall() == [("other",)]

    doors.broken = ""
    await ledger.aclose()

    assert set(owner_connection.execute(query).fetchall()) == {("other",), ("acme",)}


async def test_what_a_long_outage_has_no_room_for_is_counted(
    ledger, doors, owner_connection, monkeypatch
):
    monkeypatch.setattr(module, "MOST_WAITING", 50)
    doors.shut = True
    for number in range(80):
        ledger.refused(DENIED, ALICE, a_call(number=number))
    doors.shut = False
    await ledger.aclose()

    assert value(owner_connection, "SELECT count(*) FROM audit") == 50
    assert counted(owner_connection) == {"not_written": 30}


async def test_hours_of_an_outage_keep_their_counts_in_little_room(
    ledger, doors, clock, owner_connection, monkeypatch
):
    monkeypatch.setattr(module, "MOST_WAITING", 200)
    doors.shut = True
    for number in range(120):
        ledger.refused(UNKNOWN, None, a_call(f"198.51.{number}.1"))
        ledger.notified("acme", "a-registry")
        clock.now += dt.timedelta(minutes=1)
    doors.shut = False
    await ledger.aclose()

    assert counted(owner_connection) == {"unknown_key": 120}
    assert value(owner_connection, "SELECT count(*) FROM refusal_count") <= 12
    told = "SELECT sum((details ->> 'count')::int) FROM audit WHERE action = 'registry.notify'"
    assert value(owner_connection, told) == 120


async def test_it_is_written_by_itself_a_moment_later(ledger, owner_connection):
    import asyncio

    ledger.refused(DENIED, ALICE, a_call())
    async with asyncio.timeout(10):
        while not value(owner_connection, "SELECT count(*) FROM audit"):
            await asyncio.sleep(0.01)
    await ledger.aclose()

    assert value(owner_connection, "SELECT count(*) FROM audit") == 1


async def test_what_anybody_can_bring_about_is_kept_up_to_a_limit(ledger, clock, owner_connection):
    ended = TokenExpiredError("ended", caller=ALICE)
    for number in range(100):
        ledger.refused(ended, None, a_call(number=number))
        ledger.refused(DENIED, ALICE, a_call(number=number))
        ledger.refused(OverRateError("user", 1, 1), BOB, a_call(number=number))
    clock.now += dt.timedelta(minutes=1)
    ledger.refused(ended, None, a_call())
    await ledger.aclose()

    rows = owner_connection.execute(
        "SELECT outcome, count(*) FROM audit GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert rows == [("not_allowed", 100), ("over_rate", 60), ("token_expired", 61)]
    assert counted(owner_connection) == {"over_rate": 40, "token_expired": 40}


@pytest.mark.parametrize(
    ("source", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", "unknown"),
        ("not an address", "unknown"),
    ],
)
def test_addresses_are_counted_by_their_network(source, network):
    assert network_of(source) == network
