"""When a schedule comes next, on paper."""

from __future__ import annotations

import datetime as dt
import uuid
from zoneinfo import ZoneInfo

import pytest

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.schedule import checked_cron, checked_time_zone, next_time

BERLIN = "Europe/Berlin"
ID = str(uuid.UUID(int=0))  # its own offset is none


def due(cron: str, zone: str, *after: int, registry_id: str = ID, jitter_s: int = 0) -> str:
    start = dt.datetime(*after, tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)
    found = next_time(cron, zone, start, registry_id=registry_id, jitter_s=jitter_s)
    return f"{found.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S %z}"


def test_one_o_clock_is_one_o_clock_where_the_project_is():
    assert due("0 1 * * *", "Asia/Shanghai", 2026, 11, 24, 0, 30) == "2026-11-24 01:00:00 +0800"
    assert due("0 1 * * *", "Asia/Shanghai", 2026, 11, 24, 1, 0) == "2026-11-25 01:00:00 +0800"


def test_a_time_that_the_clocks_leave_out_comes_as_much_later_once():
    night = due("30 2 * * *", BERLIN, 2026, 3, 29, 0, 0)

    assert night == "2026-03-29 03:30:00 +0200"
    assert due("30 2 * * *", BERLIN, 2026, 3, 29, 3, 30) == "2026-03-30 02:30:00 +0200"


def test_a_time_that_comes_twice_counts_once():
    assert due("30 2 * * *", BERLIN, 2026, 10, 25, 0, 0) == "2026-10-25 02:30:00 +0200"
    assert due("30 2 * * *", BERLIN, 2026, 10, 25, 2, 30) == "2026-10-26 02:30:00 +0100"


@pytest.mark.parametrize("month", [3, 10])
def test_a_daily_time_comes_once_a_day_through_a_change_of_the_clocks(month):
    at = dt.datetime(2026, month, 20, tzinfo=dt.UTC)
    days = []
    for _ in range(12):
        at = next_time("30 2 * * *", BERLIN, at, registry_id=ID, jitter_s=0)
        days.append(at.astimezone(ZoneInfo(BERLIN)).date())

    assert days == [days[0] + dt.timedelta(days=n) for n in range(12)]


def test_registries_with_one_time_are_spread_and_each_keeps_its_place():
    ids = [str(uuid.uuid4()) for _ in range(50)]

    first = [due("0 1 * * *", "UTC", 2026, 1, 1, registry_id=i, jitter_s=600) for i in ids]
    second = [due("0 1 * * *", "UTC", 2026, 1, 2, registry_id=i, jitter_s=600) for i in ids]

    assert all("01:00:00" <= moment[11:19] <= "01:10:00" for moment in first)
    assert len(set(first)) > 30
    assert [moment[11:] for moment in first] == [moment[11:] for moment in second]


def test_the_spread_takes_no_more_than_a_tenth_of_the_time_between_two():
    ids = [str(uuid.uuid4()) for _ in range(50)]

    found = [due("*/10 * * * *", "UTC", 2026, 1, 1, registry_id=i, jitter_s=3600) for i in ids]

    assert all("00:10:00" <= moment[11:19] <= "00:11:00" for moment in found)


@pytest.mark.parametrize(
    "text",
    ["", "1", "* * * *", "0 1 * * * *", "61 * * * *", "0 0 31 2 *", "@yearly-ish", "x " * 90],
)
def test_what_is_no_time_is_refused_by_name(text):
    with pytest.raises(InvalidParameterError, match="cron: must be five fields"):
        checked_cron(text)


def test_a_time_is_kept_as_it_was_meant():
    assert checked_cron("  0   1 * * mon-fri ") == "0 1 * * mon-fri"
    assert checked_cron("@hourly") == "@hourly"


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "\0"])
def test_what_is_no_time_zone_is_refused_by_name(name):
    with pytest.raises(InvalidParameterError, match="time_zone"):
        checked_time_zone(name)
