"""When a registry is read without anybody asking: times of day, in a project's own time zone."""

from __future__ import annotations

import datetime as dt
import uuid
import zoneinfo

import msgspec
from croniter import CroniterError, croniter

from wharfinger.domain.errors import InvalidParameterError

# Every day at one o'clock, as HSS does.
USUAL_CRON = "0 1 * * *"
# Which scheduled syncs read everything, fingerprint or not.
FULL_SYNCS = ("daily", "always", "never")
# Registries with the same time begin spread over so much of it, and over no more than this share
# of the time between two.
JITTER_S = 600
JITTER_SHARE = 10
LONGEST_CRON = 128
# Every so many days, as HSS counts, and no longer in between: a day of the month comes a little
# early where the month ends.
CYCLES = {3: "0 1 */3 * *", 7: "0 1 * * 1", 14: "0 1 1,15,29 * *"}


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a registry is read. ``next_at`` is ``None`` while it is paused."""

    registry_id: str
    registry: str
    cron: str
    full_syncs: str
    paused_at: dt.datetime | None
    next_at: dt.datetime | None
    last_at: dt.datetime | None
    last_task_id: str | None


class ScheduleChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be changed; ``None`` leaves it as it is."""

    cron: str | None = None
    full_syncs: str | None = None
    paused: bool | None = None


def cycle_of(cron: str) -> int | None:
    """After how many days a schedule comes again, if it is one of HSS's cycles."""
    return next((days for days, cycle in CYCLES.items() if cycle == cron), None)


def checked_cron(text: str) -> str:
    """Return a cron expression of five fields, or one of the names such as ``@daily``.

    Raises:
        InvalidParameterError: it is something else, or names a time that never comes.
    """
    rule = (
        "must be five fields (minute hour day month weekday) like '0 1 * * *', or @hourly, "
        "@daily, @weekly, @monthly"
    )
    cron = " ".join(text.split())
    names = ("@hourly", "@daily", "@weekly", "@monthly")
    if len(cron) > LONGEST_CRON or (cron not in names and len(cron.split()) != 5):
        raise InvalidParameterError("cron", rule)
    try:
        croniter(cron, dt.datetime(2026, 1, 1)).get_next(dt.datetime)  # noqa: DTZ001 - local time
    except (CroniterError, ValueError, KeyError) as exc:
        raise InvalidParameterError("cron", f"{rule}; {cron!r} never comes or is not one") from exc
    return cron


def checked_time_zone(name: str) -> str:
    """Return the name of a time zone of the IANA database.

    Raises:
        InvalidParameterError: there is none of that name.
    """
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise InvalidParameterError(
            "time_zone", "must be a name of the IANA database, like Asia/Shanghai"
        ) from exc
    return name


def next_time(
    cron: str, time_zone: str, after: dt.datetime, *, registry_id: str, jitter_s: int = JITTER_S
) -> dt.datetime:
    """Return when a registry is due next, in UTC.

    A time of day that a change of the clocks leaves out comes as much later; one that comes twice
    counts once. The offset within the jitter is a registry's own and stays the same.
    """
    zone = zoneinfo.ZoneInfo(time_zone)
    first = _tick(cron, zone, after)
    second = _tick(cron, zone, first)
    room_s = min(jitter_s, int((second - first).total_seconds()) // JITTER_SHARE)
    offset = dt.timedelta(seconds=uuid.UUID(registry_id).int % (room_s + 1))
    # The tick that has just passed may still lie ahead with its offset; it counts as had.
    return first + offset


def _tick(cron: str, zone: zoneinfo.ZoneInfo, after: dt.datetime) -> dt.datetime:
    local = after.astimezone(zone).replace(tzinfo=None)
    times = croniter(cron, local)
    while True:
        wanted: dt.datetime = times.get_next(dt.datetime)
        found = wanted.replace(tzinfo=zone).astimezone(dt.UTC)
        if found > after:
            return found
