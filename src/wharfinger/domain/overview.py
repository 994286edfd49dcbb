"""What people see first: how each registry stands, what has changed, how far a sync has come."""

from __future__ import annotations

import datetime as dt

import msgspec

from wharfinger.domain.model import Reason, RunOutcome, VerdictState


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How one registry stands. ``run_id`` is of the run that is going or waits."""

    id: str
    name: str
    kind: str
    address: str
    verdict: VerdictState
    reasons: tuple[Reason, ...]
    confirmed_at: dt.datetime | None
    images: int
    held: int
    paused_at: dt.datetime | None
    run_id: str | None


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What runs have changed."""

    added: int
    moved: int
    retired: int
    restored: int


class ChangedOn(Changed, frozen=True, kw_only=True):
    """What the runs that ended on a day have changed."""

    day: dt.date


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """How long a sync took that has ended."""

    registry_id: str
    registry: str
    outcome: RunOutcome
    started_at: dt.datetime
    seconds: float


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """How many images were listed at the last runs of a day."""

    day: dt.date
    images: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A registry's run as it stands.

    ``listing`` is true while the list of repositories is not known whole. ``concurrency`` are the
    requests at once that its host is known to bear, ``rate`` those a second; ``None`` where nothing
    is known. ``paused_s``: the host asked to be left alone so long.
    """

    run_id: str
    kind: str
    state: str
    outcome: str | None
    listing: bool
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
    concurrency: float | None = None
    ceiling: int | None = None
    rate: float | None = None
    paused_s: float | None = None

    @property
    def per_second(self) -> float | None:
        """Requests a second since the run began."""
        return self.requests / self.seconds if self.seconds else None

    @property
    def left_s(self) -> float | None:
        """Seconds it will take, going by what is done; ``None`` while nobody can tell."""
        known = self.state == "running" and not self.listing and self.repositories_done
        if not known or not self.seconds:
            return None
        left = self.repositories_total - self.repositories_done
        return max(0.0, left * self.seconds / self.repositories_done)
