"""The values of history: changes, the list of a past moment, the life of an image, runs."""

from __future__ import annotations

import datetime as dt

import msgspec

from wharfinger.domain.model import Reason, VerdictState


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One numbered event of a project.

    ``digest_before`` is ``None`` for an image that is new, ``digest_after`` for one that has gone;
    ``run_id`` is ``None`` where a person decided. ``is_purged`` says that what the event was about
    has been erased; its number stays.
    """

    seq: int
    kind: str
    at: dt.datetime
    run_id: str | None
    registry_id: str
    registry: str | None
    image: int
    namespace: str | None
    name: str | None
    tag: str | None
    digest_before: str | None
    digest_after: str | None
    is_purged: bool


class ChangeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are asked for, by a registry's id and a kind; ``None`` leaves a question out."""

    registry: str | None = None
    kind: str | None = None


class PastImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image as it was listed at a past moment. ``size`` is in bytes."""

    id: int
    registry_id: str
    registry: str
    kind: str
    namespace: str
    name: str
    tag: str | None
    digest: str
    image_id: str
    size: int
    updated_at: dt.datetime
    multi_arch: bool
    since: int  # the number of the event that brought this state
    run_id: str


class PastFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which images of a past moment are asked for; ``None`` leaves a question out."""

    registry: str | None = None
    kind: str | None = None
    namespace: str | None = None
    name_contains: str | None = None
    tag: str | None = None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A past moment: all events up to ``seq``, and the runs that had ended by ``at``."""

    seq: int
    at: dt.datetime


class Advised(msgspec.Struct, frozen=True, kw_only=True):
    """A reason with what to do about it."""

    code: str
    message: str
    repository: str | None
    advice: str


class RegistryVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """How much the list of one registry can be believed, now or at a past moment.

    ``confirmed_at``: everything was right as of then, by reading or by fingerprint; ``read_at``:
    everything was read as of then. ``requests`` and ``seconds`` are the last run's cost.
    """

    id: str
    name: str
    kind: str
    verdict: VerdictState
    confirmed_at: dt.datetime | None
    read_at: dt.datetime | None
    stale_after_s: int
    reasons: tuple[Reason, ...]
    run_id: str | None
    requests: int | None
    seconds: float | None
    repositories: int | None = None
    images: int | None = None
    held: int | None = None


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """What an image was from one event to another; ``to_seq`` is ``None`` for what it is now.

    ``from_at`` and ``how`` are ``None`` where the event lies before the retention horizon.
    """

    from_seq: int
    from_at: dt.datetime | None
    how: str | None
    run_id: str
    to_seq: int | None
    to_at: dt.datetime | None
    ended_by: str | None
    ended_by_run: str | None
    digest: str
    image_id: str
    size: int
    updated_at: dt.datetime


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One image of the list, live or gone, digest by digest."""

    id: int
    registry_id: str
    registry: str
    kind: str
    namespace: str
    name: str
    tag: str | None
    first_seen_at: dt.datetime
    held_since: dt.datetime | None
    retired_at: dt.datetime | None
    versions: tuple[Version, ...]


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run as history keeps it."""

    id: str
    registry_id: str
    registry: str
    kind: str  # "sync", or "hint": only what notifications named was read
    state: str
    outcome: str | None
    full: bool
    repositories_total: int
    repositories_done: int
    repositories_failed: int
    images: int
    requests: int
    added: int
    moved: int
    retired: int
    restored: int
    held: int
    queued_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    seconds: float | None
    finished_seq: int | None
    reasons: tuple[Reason, ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one image between two runs, however often it changed in between."""

    id: int
    change: str  # "added", "moved" or "retired"
    namespace: str
    name: str
    tag: str | None
    digest_before: str | None
    digest_after: str | None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Where a listing goes on, and what it is worth: event number and verdict."""

    next: str | None
    as_of: int
    verdict: VerdictState


class Changes(Turn, frozen=True, kw_only=True):
    """A page of the change feed, oldest first."""

    items: tuple[Change, ...]


class RecentChanges(Turn, frozen=True, kw_only=True):
    """A page of the change feed, newest first: those with numbers above ``low``.

    A page may hold few or none where a filter matches few; ``next`` then still leads further back.
    """

    items: tuple[Change, ...]
    low: int


class PastImages(Turn, frozen=True, kw_only=True):
    """A page of the list of a past moment, with every registry's verdict of then."""

    items: tuple[PastImage, ...]
    at: dt.datetime
    registries: tuple[RegistryVerdict, ...]


class Differences(Turn, frozen=True, kw_only=True):
    """A page of what changed between two runs."""

    items: tuple[Difference, ...]


class RunRecords(Turn, frozen=True, kw_only=True):
    """A page of runs, newest first."""

    items: tuple[RunRecord, ...]


class RegistryVerdicts(Turn, frozen=True, kw_only=True):
    """Every registry with its verdict."""

    items: tuple[RegistryVerdict, ...]
