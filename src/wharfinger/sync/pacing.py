"""How fast a host is asked, learned from its answers, and how often a call is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import random
import re
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from wharfinger.domain.errors import (
    ListMovedError,
    NotTrustedError,
    TemporarySourceError,
    ThrottledError,
    UnreachableError,
)
from wharfinger.domain.ports import Authorise, Reply, Request, Transport
from wharfinger.sync.limits import quota, stated_rate

T = TypeVar("T")
B = TypeVar("B")

START_CONCURRENCY = 16
MOST_CONCURRENCY = 32
ATTEMPTS = 5
# A refusal for want of patience is an order to wait and no failure: more of them are borne.
REFUSALS_PER_ATTEMPT = 3
DEADLINE_S = 60.0
LONGEST_ATTEMPT_S = 300.0
LONGEST_PAUSE_S = 300.0
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 10.0
# More spellings of hosts than this are a source that makes them up.
MOST_PREFIXES = 1000

# A host that has not answered anything for so long is asked by one call at a time, this often;
# the others fail at once, so that a dead host does not hold a worker's units for hours.
SILENT_AFTER_S = 60.0
PROBE_EVERY_S = 5.0

Clock = Callable[[], float]  # monotonic seconds
Sleep = Callable[[float], Awaitable[None]]


_hinted: contextvars.ContextVar[bool] = contextvars.ContextVar("hinted", default=False)


@contextlib.contextmanager
def hinted() -> Iterator[None]:
    """Let requests made inside, by this task and by those it starts, form a queue of their own.

    Those who wait for a host take turns, so a hint's few requests do not stand behind the
    hundreds of a sync of the same tenant.
    """
    before = _hinted.set(True)
    try:
        yield
    finally:
        _hinted.reset(before)


class Permit(Protocol):
    """Leave to have one request under way; it must be released."""

    def succeeded(self) -> None:
        """Report that the host coped."""

    def troubled(self, *, throttled: bool = False) -> None:
        """Report that the host was asked too much: fewer requests from now on.

        Args:
            throttled: the host said so itself, and may limit requests per second.
        """

    def answered(self) -> None:
        """Report that the host is there, whatever it said."""

    def unanswered(self) -> None:
        """Report that nothing came back."""

    def release(self) -> None:
        """Let the next request go."""


class Budget(Protocol):
    """Permits for one host. In this process, or leased from a store that several share."""

    @property
    def is_silent(self) -> bool:
        """Whether the host has not answered for so long that trying again is pointless."""
        ...

    async def acquire(self, key: str = "") -> Permit:
        """Wait for a permit, and until the host's pause is over.

        Args:
            key: on whose behalf; those who wait are served in turn, one of each key.

        Raises:
            UnreachableError: the host has been silent for long, and another call tries it.
        """
        ...

    def pause(self, seconds: float) -> None:
        """Leave the host alone for so long, as its ``Retry-After`` asked."""

    def slow_down(self, per_second: float) -> None:
        """Ask no faster than this from now on: the host named its limit in a refusal."""


class Budgets(Protocol):
    """Where the budget of a URL's host is found."""

    def of(self, url: str) -> Budget:
        """Return the one budget of that host and port."""
        ...


class Gate:
    """Lets requests begin: in fair turns, so many at once, and none during a pause.

    How many at once is for a subclass to learn: it sets ``_places``.

    Args:
        places: requests under way at once.
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self, places: int, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._places = places
        self._clock = clock
        self._sleep = sleep
        self._in_use = 0
        self._paused_until = 0.0
        # Grows with every lesson: a request that began before it teaches the same one again.
        self._epoch = 0
        self._turns = _Turns()
        self._alarm: asyncio.Task[None] | None = None
        self._silent_since: float | None = None
        self._probed_at = 0.0

    @property
    def concurrency(self) -> int:
        """Requests that may be under way at once, as learned so far."""
        return self._places

    @property
    def in_use(self) -> int:
        """Requests that are under way."""
        return self._in_use

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come back from the host for a minute."""
        since = self._silent_since
        return since is not None and self._clock() - since >= SILENT_AFTER_S

    async def acquire(self, key: str = "") -> _GatePermit:
        """Wait for a permit; see ``Budget``."""
        if self._silent_since is not None:
            self._probe_or_refuse()
        if self._turns or not self._begin():
            await self._wait(key)
        return _GatePermit(self, self._epoch)

    def pause(self, seconds: float) -> None:
        """Leave the host alone for so long, five minutes at most; never shortens a pause."""
        until = self._clock() + min(max(seconds, 0.0), LONGEST_PAUSE_S)
        self._paused_until = max(self._paused_until, until)

    def slow_down(self, per_second: float) -> None:
        """Take a limit that the host named; a budget without a rate has its pauses only."""

    # --- what permits report ---

    def succeeded(self) -> None:
        """Take one success into account."""

    def troubled(self, epoch: int, *, throttled: bool) -> None:
        """Take trouble into account, met by a request that began in this epoch."""

    def answered(self) -> None:
        """Note that the host is there."""
        self._silent_since = None

    def unanswered(self) -> None:
        """Note that nothing came back, and after a minute of that let nobody else wait for it."""
        if self._silent_since is None:
            self._silent_since = self._clock()
        elif self.is_silent:
            self._probed_at = self._clock()
            self._refuse_waiting(self._silence)

    def release(self) -> None:
        """Let the next request go."""
        self._in_use -= 1
        if self._turns:
            self._dispatch()

    # --- turns ---

    def _blocked_s(self) -> float:
        """Seconds until a request may begin if there is a place; infinity if only news can tell."""
        return self._paused_until - self._clock() if self._paused_until else 0.0

    def _begin(self) -> bool:
        if self._in_use >= self._places or self._blocked_s() > 0:
            return False
        self._in_use += 1
        return True

    async def _wait(self, key: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._turns.add(key, turn)
        self._dispatch()
        try:
            await turn
        except asyncio.CancelledError:
            # The turn may have come in the very moment of the cancellation.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release()
            raise

    def _dispatch(self) -> None:
        while self._turns and self._begin():
            turn = self._turns.next()
            if turn is None:
                self._in_use -= 1
            else:
                turn.set_result(None)
        if self._turns and self._alarm is None and 0 < (left_s := self._blocked_s()) < math.inf:
            self._alarm = asyncio.create_task(self._ring(left_s))

    async def _ring(self, seconds: float) -> None:
        try:
            await self._sleep(seconds)
        finally:
            self._alarm = None
        self._dispatch()

    def _refuse_waiting(self, error: Callable[[], Exception]) -> None:
        while (turn := self._turns.next()) is not None:
            turn.set_exception(error())

    def _probe_or_refuse(self) -> None:
        if not self.is_silent:
            return
        if self._clock() - self._probed_at < PROBE_EVERY_S:
            raise self._silence()
        self._probed_at = self._clock()

    def _silence(self) -> UnreachableError:
        since_s = self._clock() - (self._silent_since or 0.0)
        return UnreachableError(f"the host has not answered for {since_s:.0f} s")


class _Turns:
    """Those who wait: one of each key in turn, and in their order within a key."""

    def __init__(self) -> None:
        self._of_key: dict[str, deque[asyncio.Future[None]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: str, turn: asyncio.Future[None]) -> None:
        self._of_key.setdefault(key, deque()).append(turn)
        self._count += 1

    def next(self) -> asyncio.Future[None] | None:
        """Take out the next that still waits."""
        while self._of_key:
            key = next(iter(self._of_key))
            waiting = self._of_key.pop(key)
            turn = waiting.popleft()
            self._count -= 1
            if waiting:
                self._of_key[key] = waiting
            if not turn.done():
                return turn
        return None


class _GatePermit:
    __slots__ = ("_epoch", "_gate")

    def __init__(self, gate: Gate, epoch: int) -> None:
        self._gate = gate
        self._epoch = epoch

    def succeeded(self) -> None:
        self._gate.succeeded()

    def troubled(self, *, throttled: bool = False) -> None:
        self._gate.troubled(self._epoch, throttled=throttled)

    def answered(self) -> None:
        self._gate.answered()

    def unanswered(self) -> None:
        self._gate.unanswered()

    def release(self) -> None:
        self._gate.release()


class HostBudget(Gate):
    """A concurrency that halves on trouble and grows by one per round of successes.

    Args:
        start: requests under way at once, to begin with.
        most: the ceiling that growth ends at.
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        *,
        start: int = START_CONCURRENCY,
        most: int = MOST_CONCURRENCY,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(start, clock=clock, sleep=sleep)
        self._limit = float(start)
        self._most = float(max(start, most))

    def of(self, _url: str) -> HostBudget:
        """Return itself: a single budget for every host."""
        return self

    def succeeded(self) -> None:
        """Take one success into account: a whole round of them adds one to the concurrency."""
        # A host that is asked less than it may be proves nothing about what it can bear.
        if self._in_use >= self._places and self._limit < self._most:
            self._limit = min(self._most, self._limit + 1 / self._limit)
            self._places = int(self._limit)

    def troubled(self, epoch: int, *, throttled: bool) -> None:  # noqa: ARG002 - without a rate to learn, trouble is trouble
        """Halve, once for all the requests that were under way together."""
        if epoch == self._epoch:
            self._epoch += 1
            self._limit = max(1.0, self._limit / 2)
            self._places = int(self._limit)


class BudgetsByHost(ABC, Generic[B]):
    """One budget for each host and port, whatever the scheme, the user and the path of a URL."""

    def __init__(self) -> None:
        self._of_host: dict[str, B] = {}
        self._of_prefix: dict[str, B] = {}

    def of(self, url: str) -> B:
        """Return the budget of the URL's host and port."""
        # The prefix up to the path saves parsing every URL.
        prefix = url[: url.find("/", 8)]
        budget = self._of_prefix.get(prefix)
        if budget is None:
            host = host_and_port(url)
            budget = self._of_host.get(host)
            if budget is None:
                budget = self._of_host[host] = self._new(host)
            if len(self._of_prefix) < MOST_PREFIXES:
                self._of_prefix[prefix] = budget
        return budget

    @abstractmethod
    def _new(self, host: str) -> B: ...


def host_and_port(url: str) -> str:
    """Return ``host:port`` of a URL, in lower case and with the port its scheme implies."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    if re.search(r":\d+$", host):
        return host
    return f"{host.removesuffix(':')}:{443 if parts.scheme == 'https' else 80}"


class ProcessBudgets(BudgetsByHost[HostBudget]):
    """The budgets of this process alone, shared by all its registries."""

    def __init__(
        self,
        *,
        start: int = START_CONCURRENCY,
        most: int = MOST_CONCURRENCY,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__()
        self._settings = (start, most, clock, sleep)

    def _new(self, host: str) -> HostBudget:  # noqa: ARG002 - they are all alike
        start, most, clock, sleep = self._settings
        return HostBudget(start=start, most=most, clock=clock, sleep=sleep)


class PacedHttp:
    """``ports.Http``: permits, credentials, and another try where that may help.

    A permit is never held while credentials are prepared: fetching a token is a call of its own
    to what may be the same host.

    Args:
        transport: one exchange on the wire.
        budgets: the process's budgets, or a single ``HostBudget``.
        key: on whose behalf; those who wait for one host are served in turn, one of each key.
        attempts: tries of one call, the first included.
        deadline_s: after this time, counted from the first failure, no other try begins.
        clock: monotonic seconds.
        sleep: waits so many seconds.
        jitter: a number from 0 to 1 that spreads the waits.
    """

    def __init__(
        self,
        transport: Transport,
        budgets: Budgets,
        *,
        key: str = "",
        attempts: int = ATTEMPTS,
        deadline_s: float = DEADLINE_S,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.requests = 0
        self._transport = transport
        self._budgets = budgets
        self._key = key
        self._attempts = attempts
        self._refusals = 1 + (attempts - 1) * REFUSALS_PER_ATTEMPT
        self._deadline_s = deadline_s
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    async def call(
        self, request: Request, read: Callable[[Reply], T], authorise: Authorise | None = None
    ) -> T:
        """Send the request and return what ``read`` makes of the answer; see ``ports.Http``."""
        first_failure: float | None = None
        failures = refusals = 0
        while True:
            try:
                return await self._attempt(request, read, authorise)
            except ListMovedError:
                # The pages before this one are void as well; only the listing can begin again.
                raise
            except TemporarySourceError as exc:
                if isinstance(exc, ThrottledError):
                    refusals += 1
                else:
                    failures += 1
                wait_s = self._wait_s(failures + refusals, exc)
                now = self._clock()
                first_failure = now if first_failure is None else first_failure
                if failures >= self._attempts or refusals >= self._refusals:
                    raise
                if now - first_failure + wait_s > self._deadline_s:
                    raise
                if self._budgets.of(request.url).is_silent:
                    raise
            await self._sleep(wait_s)

    async def _attempt(
        self, request: Request, read: Callable[[Reply], T], authorise: Authorise | None
    ) -> T:
        if authorise is None:
            return await self._exchange(request, read)

        def unless_refused(reply: Reply) -> T | _Refused:
            return _Refused(reply) if reply.status == 401 else read(reply)

        prepared = await authorise(request, None) or request
        answer = await self._exchange(prepared, unless_refused)
        if not isinstance(answer, _Refused):
            return answer
        better = await authorise(request, answer.reply)
        return read(answer.reply) if better is None else await self._exchange(better, read)

    async def _exchange(self, request: Request, read: Callable[[Reply], T]) -> T:
        budget = self._budgets.of(request.url)
        permit = await budget.acquire(f"{self._key}/hints" if _hinted.get() else self._key)
        reply: Reply | None = None
        try:
            self.requests += 1
            reply = await self._send(request)
            permit.answered()
            value = read(reply)
            permit.succeeded()
        except TemporarySourceError as exc:
            self._learn(budget, permit, exc, reply)
            raise
        else:
            return value
        finally:
            if reply is not None:
                _heed_quota(budget, reply)
            permit.release()

    def _learn(
        self, budget: Budget, permit: Permit, exc: TemporarySourceError, reply: Reply | None
    ) -> None:
        throttled = isinstance(exc, ThrottledError)
        if throttled and reply is not None and (per_second := stated_rate(reply)):
            budget.slow_down(per_second)
        if reply is None and isinstance(exc, UnreachableError):
            permit.unanswered()
        if _is_trouble(exc, reply):
            permit.troubled(throttled=throttled)
        if exc.retry_after_s:
            budget.pause(exc.retry_after_s)

    async def _send(self, request: Request) -> Reply:
        try:
            # The transport gives up on silence; this ends an answer that never ends.
            async with asyncio.timeout(LONGEST_ATTEMPT_S):
                return await self._transport.send(request)
        except TimeoutError as exc:
            raise UnreachableError("the answer took too long; timed out") from exc

    def _wait_s(self, attempt: int, exc: TemporarySourceError) -> float:
        backoff_s = min(FIRST_BACKOFF_S * 2.0 ** (attempt - 1), LONGEST_BACKOFF_S)
        return max(backoff_s * (0.5 + self._jitter() / 2), exc.retry_after_s or 0.0)


class _Refused(NamedTuple):
    """A 401 that better credentials may turn."""

    reply: Reply


def _is_trouble(exc: TemporarySourceError, reply: Reply | None) -> bool:
    if isinstance(exc, NotTrustedError):
        # One registry's certificates say nothing of the host's load, which others share.
        return False
    if isinstance(exc, ThrottledError | UnreachableError):
        return True
    return reply is not None and reply.status in (502, 503, 504)


def _heed_quota(budget: Budget, reply: Reply) -> None:
    """Wait for a new quota when this one is spent, rather than be refused."""
    headers = reply.headers
    if (
        "x-ratelimit-remaining" not in headers
        and "ratelimit" not in headers
        and "ratelimit-remaining" not in headers
    ):
        return
    left = quota(headers)
    if left is not None and left.remaining == 0:
        budget.pause(left.reset_s)
