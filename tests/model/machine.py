"""The machine: operations upstream, faults, interruptions and runs, against an oracle."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from dataclasses import dataclass
from typing import ClassVar

import hypothesis.strategies as st
import msgspec
from audit import Auditor, Course
from chronicle import PATHS, Chronicle, Operation, Showing
from driver import Driver, Job
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from interruptions import Kind, Point, Reaper, Strike, WatchedDatabase
from tally import Tally

from wharfinger.domain.model import RegistryCredential, RepositoryFilter, RepositoryName
from wharfinger.store import held, hints, registries, runs
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.faults import Fault, Faults
from wharfinger.testing.oci import OciUpstream
from wharfinger.testing.upstream import Upstream

COMMON = (
    "push",
    "push",
    "push_the_same",
    "move",
    "move",
    "delete_tag",
    "delete_tag",
    "delete_repository",
    "bring_back",
    "add_repository",
    "move_all",
    "delete_all_tags",
)
GOING = ("delete_tag", "delete_tag", "delete_repository")
QUIET = ("push_quietly", "move_quietly", "delete_tag_quietly")
RARE = ("delete_everything",)
# What happens to the installation between two jobs of a run.
OURS = ("accept", "relocate", "refilter", "queue_another", "hint")

FILTERS = ((), (), ("team-a/*",), ("team-b/db/*", "team-c/*"), ("*/app", "*/cache"))

_numbers = st.integers(0, 5)


def _operations(*names: str) -> st.SearchStrategy[Operation]:
    return st.builds(Operation, st.sampled_from(names), _numbers, _numbers)


operations = _operations(*COMMON, *COMMON, *QUIET, *RARE)


BAD_ANSWERS = (
    *("500", "503", "429", "401", "403", "404", "truncate", "cut_body", "html", "reset"),
    *("empty_list", "empty_list", "repeat", "wrong_total", "drop_row"),
)


@dataclass(frozen=True)
class BadAnswer:
    """A fault of the upstream's during one run."""

    name: str
    target: str
    skip: int
    times: int | None


bad_answers = st.builds(
    BadAnswer,
    st.sampled_from(BAD_ANSWERS),
    st.sampled_from(["list", "tags", "tags", "one repository"]),
    st.integers(0, 2),
    st.sampled_from([1, 2, 3, None]),
)


@dataclass(frozen=True)
class Plan:
    """One run, and what happens meanwhile."""

    full: bool = False
    bad: tuple[BadAnswer, ...] = ()
    strikes: tuple[Strike, ...] = ()
    during: tuple[tuple[int, Operation], ...] = ()
    between: tuple[tuple[int, Operation], ...] = ()
    order: tuple[int, ...] = (0,)
    width: int = 1


def _several(of, most: int) -> st.SearchStrategy[tuple]:
    """At least one, unless there is to be none."""
    return st.lists(of, min_size=min(most, 1), max_size=most).map(tuple)


def _strikes(points: tuple[Point, ...]) -> st.SearchStrategy[Strike]:
    return st.builds(
        Strike,
        st.sampled_from(list(Kind)),
        st.sampled_from(points),
        st.integers(0, 2),
        st.integers(1, 5),
    )


def plans(
    *, bad: int = 0, hits: int = 0, moves: int = 0, points: tuple[Point, ...] = tuple(Point)
) -> st.SearchStrategy[Plan]:
    """Runs with at most so many faults, interruptions and changes."""
    at = st.tuples(st.integers(1, 12), operations)
    step = st.tuples(st.integers(0, 6), _operations(*OURS, *COMMON, *COMMON))
    return st.builds(
        Plan,
        full=st.booleans(),
        bad=_several(bad_answers, bad),
        strikes=_several(_strikes(points), hits),
        during=_several(at, moves),
        between=st.lists(step, max_size=1 if moves else 0).map(tuple),
        order=st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple),
        width=st.sampled_from([1, 1, 2, 3]),
    )


class Wharf(RuleBasedStateMachine):
    """A registry of one kind, synchronised again and again."""

    # The same throughout a search, or its examples could not be played again.
    aims: ClassVar[tuple[tuple[Kind, Point], ...]] = ()
    shard: ClassVar
    loop: ClassVar[asyncio.Runner]
    database: ClassVar[WatchedDatabase]
    tally: ClassVar[Tally]
    kind: ClassVar[str] = "SwrPrivate"
    options: ClassVar[dict] = {}

    def __init__(self) -> None:
        super().__init__()
        self.project = f"model-{uuid.uuid4().hex}"
        self.chronicle = Chronicle()
        self.reaper = Reaper(self.shard.administrator)
        self.database.reaper = self.reaper
        self.upstream = self._upstream()
        self.driver = Driver(
            self.project, self.database, self.shard.seals, self.shard.owner, self.reaper
        )
        self.driver.began = self._note_beginning
        self.auditor = Auditor(self.project, self.shard.owner, self.chronicle)
        self.listed_generation: int | None = None
        self.settled = False
        self.hinted = False
        self.verdict = "never"
        self.chances = 0  # of runs to retire something, since the configuration changed
        self.courses: dict[str, Course] = {}
        self.faults: list[tuple[str, Fault]] = []
        self.loop.run(self._open())
        self.tally.examples += 1

    def _upstream(self) -> Upstream | OciUpstream:
        if self.kind == "Other":
            return OciUpstream(self.chronicle.world)
        upstream = Upstream(self.chronicle.world)
        upstream.world_date = True
        return upstream

    async def _open(self) -> None:
        self.shard.owner.execute("INSERT INTO project VALUES (%s, 'model')", (self.project,))
        self.shard.owner.execute("INSERT INTO tenant_feed VALUES (%s)", (self.project,))
        await self.upstream.start()
        self.upstream.witness = self._witness
        new = NewRegistry(
            name="wharf",
            kind=self.kind,
            address=self.upstream.url,
            options=self.options,
            allow_private_networks=True,
        )
        credential = RegistryCredential(kind="none")
        if self.kind != "Other":
            key = self.upstream.key
            credential = RegistryCredential(
                kind="access_key", identity=key.access_key, secret=key.secret_key
            )
        async with self.database.tenant(self.project) as tx:
            self.registry = await registries.add_registry(
                tx, self.project, new, credential, seals=self.shard.seals
            )

    def teardown(self) -> None:
        self.loop.run(self._close())

    async def _close(self) -> None:
        await self.driver.aclose()
        await self.upstream.stop()

    # --- the upstream -----------------------------------------------------------------------

    def _witness(self, asked, answer) -> None:
        self.chronicle.witness(asked, answer)
        self._requests += 1
        for number, operation in self._during:
            if number == self._requests:
                self._apply(operation)

    _requests = 0
    _during: tuple[tuple[int, Operation], ...] = ()

    def _apply(self, operation: Operation) -> None:
        self.settled = False
        self.tally.operations[operation.name] += 1
        self.chronicle.apply(operation)

    @initialize(tags=st.lists(st.integers(0, 6), min_size=2, max_size=len(PATHS)))
    def begin(self, tags) -> None:
        """Fill the world: so many tags in each repository."""
        for repository, number in enumerate(tags):
            self._apply(Operation("add_repository", repository))
            for tag in range(number):
                self._apply(Operation("push", repository, tag))

    @rule(changes=st.lists(operations, min_size=1, max_size=3))
    def change(self, changes) -> None:
        """Work upstream while nobody looks."""
        self.tally.steps += 1
        for operation in changes:
            self._apply(operation)

    @rule()
    def time_passes(self) -> None:
        """Let a minute go by: second looks are due, fingerprints settle."""
        self.tally.steps += 1
        self.settled = False
        self.chronicle.world.clock.advance(61)
        for table in ("registry", "repository"):
            self.shard.owner.execute(
                f"UPDATE {table} SET empty_seen_at = empty_seen_at - interval '61 s'"
                " WHERE project_id = %s AND empty_seen_at IS NOT NULL",
                (self.project,),
            )

    # --- people -----------------------------------------------------------------------------

    @rule()
    def accept(self) -> None:
        """Let what is held go."""
        self.tally.steps += 1
        before = self.auditor.look()
        self.loop.run(self._accept())
        after = self.auditor.look()
        events = self.auditor.check_books(after)
        self.auditor.check_rest(after)
        gone = {(e.path, e.tag) for e in events if e.kind == "retired"}
        assert gone == before.held, "what was accepted is not what was held"
        assert len(events) == len(gone), [(e.kind, e.path, e.tag) for e in events]

    async def _accept(self) -> None:
        self.settled = False
        async with self.database.tenant(self.project) as tx:
            some = await held.accept_some(
                tx,
                self.project,
                self.registry,
                after=0,
                until=await held.time_of(tx),
                most=10_000,
            )
        self.tally.accepted += some.retired

    # What follows a change is held, which would leave little to be retired.
    @precondition(lambda self: self.chances >= 3)
    @rule(exclude=st.sampled_from((None, *FILTERS)))
    def reconfigure(self, exclude) -> None:
        """Change the filter, or else the address: a new generation of the configuration."""
        self.tally.steps += 1
        self.chances = 0
        if exclude is None:
            self.loop.run(self._relocate())
        else:
            # What was hidden is to be shown again, too.
            self._change_filter(() if self.chronicle.excluded else exclude)

    async def _relocate(self) -> None:
        self._slash = "" if self._slash else "/"
        await self._configure(address=self.upstream.url + self._slash)

    def _change_filter(self, exclude) -> None:
        before = self.auditor.look()
        self.loop.run(self._filter(exclude))
        after = self.auditor.look()
        events = self.auditor.check_books(after)
        self.auditor.check_rest(after)
        assert {e.kind for e in events} <= {"hidden"}, "a filter does more than hide"
        hidden = {(e.path, e.tag) for e in events}
        outside = {k for k in before.live if not self.chronicle.covers(k[0])}
        assert hidden == outside, "a filter hides what it leaves out"
        self.tally.events.update(event.kind for event in events)

    async def _filter(self, exclude: tuple[str, ...]) -> None:
        self.chronicle.filter(exclude)
        await self._configure(exclude=exclude)

    async def _configure(self, **changes) -> None:
        self.settled = False
        async with self.database.tenant(self.project) as tx:
            before = await registries.settings_of(tx, self.registry)
            after = msgspec.structs.replace(before, **changes)
            wanted = RepositoryFilter(exclude=tuple(after.exclude))
            await registries.change_registry(
                tx, self.project, self.registry, after, generations=1, wanted=wanted
            )

    _slash = ""

    # --- runs -------------------------------------------------------------------------------

    @rule(plan=plans())
    def synchronise(self, plan: Plan) -> None:
        """Synchronise on a day without trouble."""
        self._synchronise(plan)

    @rule(plan=plans(hits=3))
    def synchronise_interrupted(self, plan: Plan) -> None:
        """Synchronise while workers and connections die."""
        self._synchronise(plan)

    @rule(plan=plans(bad=2))
    def synchronise_on_a_bad_day(self, plan: Plan) -> None:
        """Synchronise with an upstream that does not answer well."""
        self._synchronise(plan)

    @rule(plan=plans(moves=3))
    def synchronise_while_it_moves(self, plan: Plan) -> None:
        """Synchronise while people work."""
        self._synchronise(plan)

    @rule(
        gone=st.lists(_operations(*GOING), min_size=1, max_size=3),
        plan=plans(hits=2, points=(Point.RETIREMENT, Point.END)),
    )
    def synchronise_what_is_gone(self, gone, plan: Plan) -> None:
        """Synchronise when something has to be retired, and be interrupted there."""
        for operation in gone:
            self._apply(operation)
        self._synchronise(plan)

    @rule(plan=plans(bad=2, hits=3, moves=3))
    def synchronise_in_a_storm(self, plan: Plan) -> None:
        """Synchronise with everything at once."""
        self._synchronise(plan)

    def _aimed(self, strike: Strike) -> Strike:
        """A copy to be used up; in a search for what was never met, it hits there and at once."""
        if not self.aims:
            return Strike(strike.kind, strike.point, strike.skip, strike.depth)
        kind, point = self.aims[strike.depth % len(self.aims)]
        return Strike(kind, point, 0, strike.depth)

    def _synchronise(self, plan: Plan, *, hinted=()) -> None:
        self.tally.steps += 1
        self.hinted = False
        self.chances += 1
        before = self.auditor.look()
        was_settled, moment = self.settled, self.chronicle.moment
        self.courses = {}
        self._install(plan)
        self.reaper.due = [self._aimed(strike) for strike in plan.strikes]
        self._requests, self._during = 0, plan.during
        try:
            self.loop.run(self._carry_out(plan, hinted))
        finally:
            self._during = ()
            self.reaper.due = []
            self.tally.interruptions.update(self.reaper.struck)
            self.reaper.struck.clear()
            self.reaper.gave_up = False
        stuck = sum(fault.struck for name, fault in self.faults if name == "repeat")
        struck = self._remove_faults()
        if stuck:
            self._note_stuck_pages(moment)
        self._audit(before, was_settled=was_settled, moment=moment, struck=struck)

    async def _carry_out(self, plan: Plan, hinted) -> None:
        if hinted:
            await self._hint(hinted)
        else:
            await self._queue(full=plan.full)
        order, step = list(plan.order), 0
        while jobs := self.driver.jobs() or await self._revive():
            for number, operation in plan.between:
                if number == step:
                    await self._interject(operation, plan)
            chosen: list[Job] = []
            for turn in range(min(plan.width, len(jobs))):
                job = jobs.pop(order[(step + turn) % len(order)] % len(jobs))
                if job.kind != "plan" or all(other.kind != "plan" for other in chosen):
                    chosen.append(job)
            await self.driver.carry_out(chosen)
            for job in chosen:
                if job.kind == "finish" and job.run in self.courses:
                    self._note_end(job.run)
            step += 1
            assert step < 200, "the run never ends"

    async def _revive(self) -> list[Job]:
        """Do what the caretaker does for a run that has no job any more.

        A copy that was given up for dead, took the run over all the same and died leaves one: its
        successor is fenced, and calls that the end of the job. Nothing else may.
        """
        orphans = self.auditor.open_runs()
        assert not orphans or self.reaper.gave_up, f"no job is left for {orphans}"
        async with self.database.tenant(self.project) as tx:
            for run in orphans:
                self.tally.revived += 1
                await self.driver.jobs_table.plan(
                    tx, project_id=self.project, run_id=run, registry_id=self.registry
                )
        return self.driver.jobs()

    async def _interject(self, operation: Operation, plan: Plan) -> None:
        if operation.name == "accept":
            await self._accept()
            for course in self.courses.values():
                course.was_accepted = True
        elif operation.name == "relocate":
            await self._relocate()
        elif operation.name == "refilter":
            await self._filter(FILTERS[operation.repository % len(FILTERS)])
        elif operation.name == "queue_another":
            await self._queue(full=plan.full)
        elif operation.name == "hint":
            await self._hint([operation.repository, operation.tag])
        else:
            self._apply(operation)

    async def _queue(self, *, full: bool) -> None:
        async with self.database.tenant(self.project) as tx:
            _, queued = await runs.queue_task(
                tx,
                self.project,
                [self.registry],
                name="model",
                requested={},
                requested_by="model",
                full=full,
            )
            for run in queued:
                if run.start:
                    await self.driver.jobs_table.plan(
                        tx, project_id=self.project, run_id=run.id, registry_id=self.registry
                    )

    @rule(repositories=st.lists(_numbers, min_size=1, max_size=3), plan=plans(hits=2, moves=1))
    def hint(self, repositories, plan: Plan) -> None:
        """Have repositories read that a notification names."""
        self._synchronise(plan, hinted=repositories)

    async def _hint(self, repositories) -> None:
        self.settled = False
        self.hinted = True
        paths = sorted({PATHS[number % len(PATHS)] for number in repositories})
        names = [
            RepositoryName(namespace=namespace, name=name)
            for namespace, name in (p.split("/", 1) for p in paths if self.chronicle.covers(p))
        ]
        scope = {"project_id": self.project}
        async with self.database.tenant(self.project) as tx:
            run = await hints.receive(tx, self.project, self.registry, names)
            if run is not None and run.start:
                await self.driver.jobs_table.plan(
                    tx, **scope, run_id=run.id, registry_id=self.registry
                )
            if run is not None and run.units:
                await self.driver.jobs_table.read(tx, **scope, run_id=run.id, units=run.units)

    def _note_beginning(self, run: str) -> None:
        if run in self.courses:
            return
        seen = self.auditor.look().registry
        self.courses[run] = Course(
            id=run,
            began=self.chronicle.moment,
            ended=-1,
            seq=seen.seq,
            shown=len(self.chronicle.shown),
            changed_configuration=self.listed_generation != seen.config_generation,
        )
        self._generations[run] = seen.config_generation

    def _note_end(self, run: str) -> None:
        row = self.auditor.runs([run])[0]
        if row.state == "finished" and self.courses[run].ended < 0:
            self.courses[run].ended = self.chronicle.moment
            if row.listing == "complete" and row.kind == "sync":
                self.listed_generation = self._generations[run]

    _generations: ClassVar[dict[str, int]] = {}

    # --- faults -----------------------------------------------------------------------------

    def _install(self, plan: Plan) -> None:
        for bad in plan.bad:
            fault = self._fault(bad)
            if fault is not None:
                self.faults.append((bad.name, fault))

    def _remove_faults(self) -> int:
        struck = 0
        for name, fault in self.faults:
            self.tally.faults[name] += fault.struck
            struck += fault.struck
        self.faults.clear()
        self.upstream.faults.clear()
        self.driver.opener.forget()
        return struck

    def _fault(self, bad: BadAnswer) -> Fault | None:
        faults: Faults = self.upstream.faults
        path = self._target(bad)
        if bad.name == "repeat" and bad.target == "tags":
            # One repository's page in another one's place is beyond what anybody could notice.
            path = self._target(dataclasses.replace(bad, target="one repository"))
        when = {"skip": bad.skip} | ({"times": bad.times} if bad.times else {})
        if bad.name == "429":
            return faults.throttle(path, retry_after=1, **when)
        if bad.name.isdigit():
            body = {"error_code": "X", "error_msg": "a bad day"}
            return faults.answer(path, int(bad.name), body=body, **when)
        if bad.name == "wrong_total":
            return faults.wrong_total(path, 40, **when) if self._counts else None
        if bad.name == "drop_row":
            return faults.rows(path, lambda rows: rows[1:], **when) if self._counts else None
        return getattr(faults, bad.name)(path, **when)

    def _note_stuck_pages(self, since: int) -> None:
        """Take old pages for what they are: they show what was, and hide what has come since.

        Where a total says how many rows there are, nothing can hide.
        """
        for course in self.courses.values():
            course.began = min(course.began, since)
        if not self._counts:
            moments = range(since, self.chronicle.moment + 1)
            self.chronicle.shown += [Showing(moment, None, whole=False) for moment in moments]

    @property
    def _counts(self) -> bool:
        """Whether lists tell how many rows they have."""
        return self.kind == "SwrPrivate" and self.options.get("api") == "v2"

    def _target(self, bad: BadAnswer) -> str:
        if self.kind == "Other":
            return {"list": "/_catalog", "tags": "/tags/list"}.get(
                bad.target, rf"/v2/{PATHS[bad.skip]}/tags/list"
            )
        namespace, name = PATHS[bad.skip].split("/", 1)
        name = name.replace("/", "%24")
        return {"list": r"/manage/repos\?", "tags": r"/tags\?"}.get(
            bad.target, rf"/namespaces/{namespace}/repos/{name}/tags\?"
        )

    # --- the oracle -------------------------------------------------------------------------

    def _audit(self, before, *, was_settled: bool, moment: int, struck: int) -> None:
        after = self.auditor.look()
        events = self.auditor.check_books(after)
        self.auditor.check_rest(after)
        courses = list(self.courses.values())
        rows = self.auditor.runs(self.courses)
        for course, row in zip(courses, rows, strict=True):
            course.was_quiet = self.chronicle.moment == course.began
            course.was_faultless = not struck
            course.was_hinted = self.hinted
            assert row.state == "finished", f"{row} is running for ever"
            assert course.ended >= 0, f"{row} ended by itself"
            assert self.driver.ends[course.id] <= 1, f"{row} ended twice"
            self.auditor.check_run(course, row, events)
            self._count(row)
        self.tally.events.update(event.kind for event in events)
        if not courses:
            return
        last, row = courses[-1], rows[-1]
        syncs = [row.outcome for row in rows if row.kind == "sync"]
        self._check_verdict(syncs, after)
        if row.kind == "hint":
            return
        self.auditor.check_list(last, row, before, after)
        still = len(courses) == 1 and self.chronicle.moment == moment and last.was_faultless
        if still and not self.chronicle.lies and not self.hinted:
            self.auditor.check_needless(last, row, before, after)
            self.auditor.check_strikes(events, before)
            if was_settled and not row.is_full:
                assert after.written == before.written, "an unchanged registry was written"
        if row.is_full and row.outcome in ("complete", "held") and last.was_quiet:
            self.chronicle.lies.clear()
        # What a run finds out it may still note of the repository once.
        is_plain = not events and not after.doubted and not self.chronicle.lies
        self.settled = still and is_plain and not self.hinted

    def _count(self, row) -> None:
        if row.kind == "hint":
            self.tally.runs_of_hints += 1
        else:
            self.tally.runs += 1
        self.tally.outcomes[row.outcome] += 1
        self.tally.held += row.held

    def _check_verdict(self, outcomes, after) -> None:
        for outcome in outcomes:
            if outcome in ("complete", "held"):
                self.verdict = "complete"
            elif outcome == "partial" or self.verdict != "never":
                self.verdict = "partial"
        assert after.registry.verdict == self.verdict, f"{after.registry} after {outcomes}"
