"""How fast a host is asked, learned from its answers, and how often a call is tried again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from wharfinger.domain.errors import (
    ListMovedError,
    TemporarySourceError,
    ThrottledError,
    UnreachableError,
)
from wharfinger.domain.ports import Authorise, Reply, Request, Transport

T = TypeVar("T")

START_CONCURRENCY = 16
MOST_CONCURRENCY = 32
ATTEMPTS = 5
DEADLINE_S = 60.0
LONGEST_ATTEMPT_S = 300.0
LONGEST_PAUSE_S = 300.0
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 10.0

Clock = Callable[[], float]  # monotonic seconds
Sleep = Callable[[float], Awaitable[None]]


class Permit(Protocol):
    """Leave to have one request under way; it must be released."""

    def succeeded(self) -> None:
        """Report that the host coped."""

    def troubled(self) -> None:
        """Report that the host was asked too much: fewer requests from now on."""

    def release(self) -> None:
        """Let the next request go."""


class Budget(Protocol):
    """Permits for one host. In this process, or leased from a store that several share."""

    async def acquire(self) -> Permit:
        """Wait for a permit, and until the host's pause is over."""
        ...

    def pause(self, seconds: float) -> None:
        """Leave the host alone for so long, as its ``Retry-After`` asked."""


class Budgets(Protocol):
    """Where the budget of a URL's host is found."""

    def of(self, url: str) -> Budget:
        """Return the one budget of that host and port."""
        ...


class HostBudget:
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
        self._limit = float(start)
        self._most = float(max(start, most))
        self._clock = clock
        self._sleep = sleep
        self._in_use = 0
        self._halvings = 0
        self._paused_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def concurrency(self) -> int:
        """Requests that may be under way at once, as learned so far."""
        return int(self._limit)

    @property
    def in_use(self) -> int:
        """Requests that are under way."""
        return self._in_use

    def of(self, _url: str) -> HostBudget:
        """Return itself: a single budget for every host."""
        return self

    async def acquire(self) -> _HostPermit:
        """Wait for a permit, first come first served, and until a pause is over."""
        await self._take_place()
        try:
            while (left_s := self._paused_until - self._clock()) > 0:
                await self._sleep(left_s)
        except BaseException:
            self._give_back()
            raise
        return _HostPermit(self, self._halvings)

    def pause(self, seconds: float) -> None:
        """Leave the host alone for so long, five minutes at most; never shortens a pause."""
        until = self._clock() + min(max(seconds, 0.0), LONGEST_PAUSE_S)
        self._paused_until = max(self._paused_until, until)

    def grow(self) -> None:
        """Take one success into account: a whole round of them adds one to the concurrency."""
        # A host that is asked less than it may be proves nothing about what it can bear.
        if self._in_use >= self.concurrency:
            self._limit = min(self._most, self._limit + 1 / self._limit)

    def halve(self, halvings_seen: int) -> None:
        """Halve, once for all the requests that were under way together."""
        if halvings_seen == self._halvings:
            self._halvings += 1
            self._limit = max(1.0, self._limit / 2)

    async def _take_place(self) -> None:
        if self._in_use < self.concurrency and not self._waiting:
            self._in_use += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()
            raise

    def _give_back(self) -> None:
        self._in_use -= 1
        while self._waiting and self._in_use < self.concurrency:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_use += 1
                turn.set_result(None)


class _HostPermit:
    def __init__(self, budget: HostBudget, halvings_seen: int) -> None:
        self._budget = budget
        self._halvings_seen = halvings_seen

    def succeeded(self) -> None:
        self._budget.grow()

    def troubled(self) -> None:
        self._budget.halve(self._halvings_seen)

    def release(self) -> None:
        self._budget._give_back()  # noqa: SLF001 - the two are one thing


class ProcessBudgets:
    """The budgets of this process, one for each host and port, shared by all its registries."""

    def __init__(
        self,
        *,
        start: int = START_CONCURRENCY,
        most: int = MOST_CONCURRENCY,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._settings = (start, most, clock, sleep)
        self._of_host: dict[str, HostBudget] = {}

    def of(self, url: str) -> HostBudget:
        """Return the budget of the URL's host and port."""
        host = urlsplit(url).netloc.rpartition("@")[2].lower()
        if host not in self._of_host:
            start, most, clock, sleep = self._settings
            self._of_host[host] = HostBudget(start=start, most=most, clock=clock, sleep=sleep)
        return self._of_host[host]


class PacedHttp:
    """``ports.Http``: permits, credentials, and another try where that may help.

    A permit is never held while credentials are prepared: fetching a token is a call of its own
    to what may be the same host.

    Args:
        transport: one exchange on the wire.
        budgets: the process's budgets, or a single ``HostBudget``.
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
        attempts: int = ATTEMPTS,
        deadline_s: float = DEADLINE_S,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.requests = 0
        self._transport = transport
        self._budgets = budgets
        self._attempts = attempts
        self._deadline_s = deadline_s
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    async def call(
        self, request: Request, read: Callable[[Reply], T], authorise: Authorise | None = None
    ) -> T:
        """Send the request and return what ``read`` makes of the answer; see ``ports.Http``."""
        first_failure: float | None = None
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._attempt(request, read, authorise)
            except ListMovedError:
                # The pages before this one are void as well; only the listing can begin again.
                raise
            except TemporarySourceError as exc:
                wait_s = self._wait_s(attempt, exc)
                now = self._clock()
                first_failure = now if first_failure is None else first_failure
                spent_s = now - first_failure
                if attempt == self._attempts or spent_s + wait_s > self._deadline_s:
                    raise
            await self._sleep(wait_s)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

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
        permit = await budget.acquire()
        reply: Reply | None = None
        try:
            self.requests += 1
            reply = await self._send(request)
            value = read(reply)
            permit.succeeded()
        except TemporarySourceError as exc:
            if _is_trouble(exc, reply):
                permit.troubled()
            if exc.retry_after_s:
                budget.pause(exc.retry_after_s)
            raise
        else:
            return value
        finally:
            permit.release()

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
    if isinstance(exc, ThrottledError | UnreachableError):
        return True
    return reply is not None and reply.status in (502, 503, 504)
