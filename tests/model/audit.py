"""What must hold of the store after every run, told by SQL and a chronicle of the upstream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg
from chronicle import Chronicle
from psycopg.rows import namedtuple_row

from wharfinger.store import runs
from wharfinger.store.writing import FLICKERS

_PATH = "CASE WHEN r.namespace = '' THEN r.name ELSE r.namespace || '/' || r.name END"
_IMAGES = f"""
SELECT i.id, {_PATH} AS path, i.tag, i.digest, i.image_id, i.size, i.retired_at IS NULL AS live,
    i.held_at IS NOT NULL AS held, i.missing_since IS NOT NULL AS struck,
    i.xmin::text::bigint AS written
FROM image i JOIN repository r ON r.id = i.repository_id WHERE i.project_id = %s ORDER BY i.id
"""
_REPOSITORIES = f"""
SELECT r.id, {_PATH} AS path, r.live_images, r.held_images, r.verdict, r.latest_image_id,
    r.retired_at IS NULL AS live, r.xmin::text::bigint AS written
FROM repository r WHERE r.project_id = %s ORDER BY r.id
"""
_REGISTRY = """
SELECT g.verdict, g.live_images, g.held_images, g.fingerprint_lies, g.config_generation,
    g.flickers,
    (SELECT seq FROM tenant_feed f WHERE f.project_id = g.project_id) AS seq
FROM registry g WHERE g.project_id = %s
"""
_RUNS = """
SELECT id::text, state, outcome, listing, is_full, added, moved, retired, restored, held,
    repositories_failed, reasons, kind
FROM run WHERE project_id = %s AND id = ANY(%s::uuid[])
"""
_OPEN = """
SELECT id::text, state FROM run WHERE project_id = %s AND state <> 'finished'
ORDER BY state = 'queued'
"""
_EVENTS = f"""
SELECT e.seq, e.kind, e.image_id, e.run_id::text AS run, {_PATH} AS path, e.tag, e.digest_before,
    e.digest_after
FROM event e JOIN repository r ON r.id = e.repository_id
WHERE e.project_id = %s AND e.seq > %s ORDER BY e.seq
"""
_VERSIONS = """
SELECT image_id, from_seq, to_seq, digest FROM image_version WHERE project_id = %s
"""
_LEFT = """
SELECT (SELECT count(*) FROM unit WHERE project_id = %(p)s) AS units,
    (SELECT count(*) FROM listing WHERE project_id = %(p)s) AS listings,
    (SELECT count(*) FROM listing_row WHERE project_id = %(p)s) AS rows,
    (SELECT count(*) FROM run_page WHERE project_id = %(p)s) AS pages,
    (SELECT count(*) FROM run WHERE project_id = %(p)s AND state <> 'finished') AS open_runs
"""


class Span(NamedTuple):
    """A version of an image as the events tell it."""

    image: int
    since: int
    until: int | None
    digest: str


@dataclass
class Seen:
    """The store at one moment."""

    images: list
    repositories: list
    registry: object

    @property
    def live(self) -> dict[tuple[str, str], str]:
        return {(i.path, i.tag): i.digest for i in self.images if i.live}

    @property
    def held(self) -> set[tuple[str, str]]:
        return {(i.path, i.tag) for i in self.images if i.live and i.held}

    @property
    def struck(self) -> set[tuple[str, str]]:
        """Absent once, from a registry that has contradicted itself."""
        return {(i.path, i.tag) for i in self.images if i.live and i.struck}

    @property
    def doubted(self) -> set[tuple[str, str]]:
        """Listed, although a complete listing lacked it."""
        return self.held | self.struck

    @property
    def written(self) -> list[tuple[int, int]]:
        """Which transaction last wrote each row."""
        return [(row.id, row.written) for row in [*self.images, *self.repositories]]


@dataclass
class Course:
    """What is known of one run from outside."""

    id: str
    began: int  # moment
    ended: int
    seq: int  # of the feed when it began
    shown: int  # how often lists had come up empty before
    changed_configuration: bool
    was_quiet: bool = True  # Nothing moved upstream while it went.
    was_faultless: bool = True
    was_hinted: bool = False  # A notification may name what is not there.
    was_accepted: bool = False  # What it held was accepted before it ended.


@dataclass
class Books:
    """The events so far, replayed."""

    seq: int = 0
    digests: dict[int, str] = field(default_factory=dict)
    ever: set[int] = field(default_factory=set)
    hidden: set[int] = field(default_factory=set)
    spans: list[Span] = field(default_factory=list)
    open: dict[int, Span] = field(default_factory=dict)
    live_at: dict[int, int] = field(default_factory=lambda: {0: 0})

    def replay(self, event) -> None:
        """Take one event in, if it fits what came before."""
        image = event.image_id
        assert event.seq == self.seq + 1, f"the feed has a gap before {event}"
        self.seq = event.seq
        before = self.digests.get(image)
        if event.kind == "added":
            assert image not in self.ever, f"{event} adds what was there"
        elif event.kind in ("restored", "shown"):
            assert before is None, f"{event} restores what was not gone"
            assert image in self.ever, f"{event} restores what was never there"
            assert event.kind == "restored" or image in self.hidden, f"{event} was not hidden"
        else:
            assert before == event.digest_before, f"{event} changes {before}"
        (self.hidden.add if event.kind == "hidden" else self.hidden.discard)(image)
        if before is not None:
            self.spans.append(self.open.pop(image)._replace(until=event.seq))
            del self.digests[image]
        if event.kind not in ("retired", "hidden"):
            self.digests[image] = event.digest_after
            self.open[image] = Span(image, event.seq, None, event.digest_after)
        self.ever.add(image)
        self.live_at[self.seq] = len(self.digests)


class Auditor:
    """Reads the store as its owner, and compares it with what it may be."""

    def __init__(self, project: str, owner: psycopg.Connection, chronicle: Chronicle) -> None:
        self.books = Books()
        self._project = project
        self._owner = owner
        self._chronicle = chronicle

    def look(self) -> Seen:
        return Seen(
            images=self._rows(_IMAGES, self._project),
            repositories=self._rows(_REPOSITORIES, self._project),
            registry=self._rows(_REGISTRY, self._project)[0],
        )

    def open_runs(self) -> list[str]:
        """Runs that somebody has to carry on: a running one, else a queued one."""
        rows = self._rows(_OPEN, self._project)
        return [row.id for row in rows][:1]

    def runs(self, ids: Iterable[str]) -> list:
        """The rows of runs, in the order asked for."""
        ids = list(ids)
        rows = {row.id: row for row in self._rows(_RUNS, self._project, ids)}
        return [rows[i] for i in ids]

    def _rows(self, query: str, *parameters) -> list:
        with self._owner.cursor(row_factory=namedtuple_row) as cursor:
            return cursor.execute(query, parameters).fetchall()

    # --- always -----------------------------------------------------------------------------

    def check_books(self, seen: Seen) -> list:
        """The feed has no gap and tells the list, now and then; returns the new events."""
        events = self._rows(_EVENTS, self._project, self.books.seq)
        for event in events:
            self.books.replay(event)
        assert seen.registry.seq == self.books.seq, (
            "the feed's number is not that of its last event"
        )
        live = {i.id: i.digest for i in seen.images if i.live}
        assert live == self.books.digests, "the events do not replay to the list"
        versions = {Span(*row) for row in self._rows(_VERSIONS, self._project)}
        assert versions == {*self.books.spans, *self.books.open.values()}, (
            "the versions are not what the events tell"
        )
        return events

    def check_rest(self, seen: Seen) -> None:
        """Nothing of a run is left behind, and what is counted is there."""
        with self._owner.cursor(row_factory=namedtuple_row) as cursor:
            left = cursor.execute(_LEFT, {"p": self._project}).fetchone()
        assert not any(left), f"left behind: {left}"
        keys = [(i.path, i.tag) for i in seen.images]
        assert len(keys) == len(set(keys)), "an image has two rows"
        live = Counter(i.path for i in seen.images if i.live)
        held = Counter(i.path for i in seen.images if i.live and i.held)
        for row in seen.repositories:
            counts = (row.live_images, row.held_images)
            assert counts == (live[row.path], held[row.path]), f"{row} is counted wrong"
            assert row.live or not live[row.path], f"{row} is retired with images"
        counts = (seen.registry.live_images, seen.registry.held_images)
        assert counts == (live.total(), held.total()), f"{seen.registry} is counted wrong"

    # --- one run ----------------------------------------------------------------------------

    def check_run(self, course: Course, row, events: list) -> None:
        """What a run did it may do, and is what its row says."""
        mine = [event for event in events if event.run == course.id]
        kinds = Counter(event.kind for event in mine)
        counts = {kind: getattr(row, kind) for kind in ("added", "moved", "retired", "restored")}
        kinds["restored"] += kinds.pop("shown", 0)
        assert counts == {kind: kinds[kind] for kind in counts}, f"{row} counts {kinds} wrong"
        self._check_retirements(course, row, [e for e in mine if e.kind == "retired"])
        for event in mine:
            if event.kind == "hidden":
                assert self._chronicle.was_left_out(event.path, course.began, course.ended), (
                    f"{event} hides what no filter leaves out"
                )
            elif event.kind != "retired":
                assert self._chronicle.was_there(
                    event.path, event.tag, event.digest_after, course.began, course.ended
                ), f"{event} tells of what was not there"
        if course.was_quiet and course.was_faultless and not course.was_hinted:
            assert row.outcome in ("complete", "held"), f"{row} on a day without trouble"

    def _check_retirements(self, course: Course, row, retired: list) -> None:
        failed = {r["repository"] for r in row.reasons if r.get("repository")}
        for event in retired:
            assert self._chronicle.was_absent(event.path, event.tag, course.began, course.ended), (
                f"{event} by {row}, but it was there all the time"
            )
            assert self._chronicle.was_gone(
                event.path, event.tag, course.began, course.ended
            ) or not self._chronicle.is_first_sight(
                event.path, course.shown, course.began, course.ended
            ), f"{event} because of the first list that came up empty"
            assert event.path not in failed or row.listing == "complete" or course.was_hinted, (
                f"{event} although its repository could not be read"
            )
        assert not retired or not course.changed_configuration, (
            f"{row} retired after a change of configuration"
        )
        budget = max(runs.RETIRE_LEAST, self.books.live_at[course.seq] // 5)
        assert len(retired) <= budget, f"{row} retired more than its budget of {budget}"

    # --- the last run -----------------------------------------------------------------------

    def check_list(self, course: Course, row, before: Seen, after: Seen) -> None:
        """The list is one that the run can have read; if nothing happened, the one there is."""
        if row.outcome in ("complete", "held"):
            if not course.was_accepted and not course.was_hinted:
                assert (row.outcome == "held") == bool(after.held), f"{row} with {after.held}"
            self._check_complete(course, row, before, after)
        if course.was_hinted:
            return
        if course.was_quiet and course.was_faultless and row.outcome in ("complete", "held"):
            self._check_equal(course, row, before, after)

    def _check_complete(self, course: Course, row, before: Seen, after: Seen) -> None:
        live = after.live
        for path, tag in self._chronicle.names() | live.keys():
            if self._chronicle.was_left_out(path, course.began, course.ended):
                continue
            if self._is_excused(path, course, row) and before.live.get((path, tag)) == live.get(
                (path, tag)
            ):
                continue
            digest = live.get((path, tag))
            if digest is None or (path, tag) in after.doubted:
                fits = self._chronicle.was_absent(path, tag, course.began, course.ended)
            else:
                fits = self._chronicle.was_there(path, tag, digest, course.began, course.ended)
            assert fits, (
                f"{path}:{tag} is {digest} after a complete {row}"
                f" ({'held' if (path, tag) in after.held else 'not held'})"
            )

    def _check_equal(self, course: Course, row, before: Seen, after: Seen) -> None:
        truth = {(p, t): d for p, t, d in self._chronicle.images()}
        excused = {p for p in self._chronicle.lies if self._is_excused(p, course, row)}
        listed = {
            k: d for k, d in after.live.items() if k not in after.doubted and k[0] not in excused
        }
        assert listed == {k: d for k, d in truth.items() if k[0] not in excused}, (
            f"the list is not what is there after a quiet {row}"
        )
        for image in after.images:
            if (image.path, image.tag) in listed:
                content = self._chronicle.contents[image.digest]
                told = (image.image_id.removeprefix("sha256:"), image.size)
                assert told == (content.image_id.removeprefix("sha256:"), content.size), image

    def check_needless(self, course: Course, row, before: Seen, after: Seen) -> None:
        """What is within the budget is not held."""
        truth = {(p, t) for p, t, _ in self._chronicle.images()}
        gone = {k for k in before.live if k not in truth}
        new = gone - before.held
        budget = max(runs.RETIRE_LEAST, len(before.live) // 5)
        emptied = {p for p, _ in before.live} - {p for p, _ in truth}
        if course.changed_configuration or emptied or len(new) > budget:
            return
        assert after.held <= before.held, f"{row} held {after.held - before.held} within its budget"

    def check_strikes(self, events: list, before: Seen) -> None:
        """Of a registry that has contradicted itself an absence is believed the second time."""
        if before.registry.flickers < FLICKERS or not self._chronicle.world.repositories:
            return
        for event in events:
            if event.kind == "retired":
                assert (event.path, event.tag) in before.doubted, f"{event} at the first sight"

    def _is_excused(self, path: str, course: Course, row) -> bool:
        """Whether a listing's row hid a change, and nothing made the run look behind it."""
        return path in self._chronicle.lies and not row.is_full
