"""A process's share of every host's budget, renewed from the store behind the requests' backs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
from collections import deque
from typing import Literal, Protocol

import structlog

from wharfinger.domain.errors import StoreUnavailableError
from wharfinger.store.pacing import Report, Share
from wharfinger.sync.pacing import BudgetsByHost, Clock, Gate, Sleep
from wharfinger.sync.together import end

log = structlog.get_logger()

# A share outlives its process by LEASE_S at most. It is renewed often, because that is also how
# soon a process hears of what others met.
LEASE_S = 6.0
RENEW_S = 0.5
# While there is nothing to be had, and at most this often whatever happens.
ASK_AGAIN_S = 0.1
LEAST_GAP_S = 0.02
# A renewal that hangs is given up in time for another before the lease ends.
PATIENCE_S = 2.5
# Longer than a pause between two pages, shorter than a person waits for another process.
IDLE_S = 2.0
# A time to begin that nobody used is lost; used late, it would make a burst.
SLOT_LASTS_S = 0.25
# More successes per second than this need no rate.
MOST_COUNTED = 4096


class Shares(Protocol):
    """Where shares are leased; ``store.pacing.SharedBudgets``.

    Raises:
        StoreUnavailableError: from every method.
    """

    async def renew(self, host: str, report: Report) -> Share:
        """Report, and lease a share of the host until ``LEASE_S`` from now."""
        ...

    async def leave(self, host: str) -> None:
        """Give the share of a host back."""
        ...


class LeasedBudget(Gate):
    """This process's share of one host's budget.

    Requests begin from memory. A task of its own reports and renews every half second, and at
    once on trouble; it ends, and gives the share back, when nobody asks for the host any more.
    Without the store the last share holds until its lease ends; after that, those who wait get
    the store's error.
    """

    def __init__(
        self,
        host: str,
        shares: Shares,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(0, clock=clock, sleep=sleep)
        self._host = host
        self._shares = shares
        self._leased_until = -math.inf
        self._rate: float | None = None
        self._slots: deque[float] = deque()
        self._news = _News()
        self._answered: deque[float] = deque(maxlen=MOST_COUNTED)
        self._used_at = clock()
        self._wanted = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def rate(self) -> float | None:
        """Requests per second over all processes; ``None`` when the host never limited them."""
        return self._rate

    async def aclose(self) -> None:
        """Give the share back."""
        if self._keeper is None:
            return
        await end(self._keeper)
        await self._leave()

    # --- what permits report ---

    def pause(self, seconds: float) -> None:
        """Leave the host alone for so long, and let every process know."""
        super().pause(seconds)
        left_s = self._paused_until - self._clock()
        if left_s > self._news.pause_s:
            self._news.pause_s = left_s
            self._tell()

    def slow_down(self, per_second: float) -> None:
        """Ask no faster than this once the refusal that named it is reported."""
        self._news.stated_rate = min(per_second, self._news.stated_rate or math.inf)

    def succeeded(self) -> None:
        """Count a success; the store's count over all processes is what growth goes by."""
        self._answered.append(self._clock())
        if self._in_use >= self._places:
            self._news.grown += 1

    def troubled(self, epoch: int, *, throttled: bool) -> None:
        """Slow down at once, and let every process know."""
        if epoch != self._epoch:
            return
        news = self._news
        if not news.trouble:
            # The answer to the report brings the share as it is then.
            self._places = max(1, self._places // 2)
            self._slots.clear()
        if throttled or not news.trouble:
            news.trouble = "throttled" if throttled else "trouble"
            news.trouble_epoch = epoch
        self._tell()

    # --- whether a request may begin ---

    def _blocked_s(self) -> float:
        now = self._clock()
        self._used_at = now
        if now >= self._leased_until:
            self._tell()
            return math.inf
        left_s = self._paused_until - now
        if self._rate is None:
            return left_s
        while self._slots and self._slots[0] < now - SLOT_LASTS_S:
            self._slots.popleft()
        if not self._slots:
            self._tell()
            return math.inf
        return max(left_s, self._slots[0] - now)

    def _begin(self) -> bool:
        began = super()._begin()
        if began and self._rate is not None:
            self._slots.popleft()
        return began

    def _tell(self) -> None:
        self._wanted.set()
        if self._keeper is None:
            # It serves whoever asks for the host, and is no part of the call that came first.
            self._keeper = asyncio.create_task(self._keep(), context=contextvars.Context())

    # --- the keeper ---

    async def _keep(self) -> None:
        try:
            while not self._is_idle():
                self._wanted.clear()
                await self._renew()
                await self._sleep(LEAST_GAP_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._next_s()):
                        await self._wanted.wait()
        finally:
            self._keeper = None
        await self._leave()

    def _is_idle(self) -> bool:
        return not (self._in_use or self._turns) and self._clock() - self._used_at > IDLE_S

    def _next_s(self) -> float:
        return ASK_AGAIN_S if self._turns and self._places == 0 else RENEW_S

    async def _renew(self) -> None:
        began = self._clock()
        news, self._news = self._news, _News()
        try:
            async with asyncio.timeout(PATIENCE_S):
                share = await self._shares.renew(self._host, self._report(news, began))
        except (StoreUnavailableError, TimeoutError) as exc:
            self._news = news.before(self._news)
            log.warning("pacing.share_not_renewed", error=type(exc).__name__)
            if self._clock() >= self._leased_until:
                self._refuse_waiting(lambda: StoreUnavailableError("the database does not answer"))
            return
        # The lease began somewhere between the question and the answer; the question is safe.
        self._leased_until = began + LEASE_S
        self._take(share)

    def _report(self, news: _News, now: float) -> Report:
        waiting = len(self._turns)
        return Report(
            asks=self._in_use + waiting,
            holds=self._in_use,
            allowed=self._places if now < self._leased_until else 0,
            answered=self._answered_since(now - 1.0),
            grown=news.grown,
            trouble=news.trouble,
            trouble_epoch=news.trouble_epoch,
            stated_rate=news.stated_rate,
            pause_s=news.pause_s,
            slots=max(0, waiting - len(self._slots)),
        )

    def _answered_since(self, then: float) -> int:
        while self._answered and self._answered[0] < then:
            self._answered.popleft()
        return len(self._answered)

    def _take(self, share: Share) -> None:
        now = self._clock()
        shrinks = share.places < self._places
        if not self._news.trouble:
            self._places = share.places
        self._epoch = share.epoch
        if share.paused_s:
            self._paused_until = max(self._paused_until, now + share.paused_s)
        if share.rate != self._rate and (share.rate is None or self._rate is None):
            log.info("pacing.rate", per_second=share.rate)
        self._rate = share.rate
        if share.rate is None:
            self._slots.clear()
        else:
            first = now + share.first_slot_s
            self._slots.extend(first + n / share.rate for n in range(share.slots))
        if self._turns:
            self._dispatch()
            if shrinks:
                # Others wait for what was given up, until it is reported.
                self._wanted.set()

    async def _leave(self) -> None:
        self._leased_until = -math.inf
        # What is not given back now is free when the lease ends.
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._shares.leave(self._host)


class _News:
    """What there is to report."""

    def __init__(self) -> None:
        self.grown = 0
        self.trouble: Literal["", "trouble", "throttled"] = ""
        self.trouble_epoch = 0
        self.stated_rate: float | None = None
        self.pause_s = 0.0

    def before(self, later: _News) -> _News:
        """This, which could not be told, with what happened meanwhile."""
        self.grown += later.grown
        if not self.trouble or later.trouble == "throttled":
            self.trouble, self.trouble_epoch = later.trouble, later.trouble_epoch
        self.stated_rate = self.stated_rate or later.stated_rate
        self.pause_s = max(self.pause_s, later.pause_s)
        return self


class LeasedBudgets(BudgetsByHost[LeasedBudget]):
    """This process's shares, one budget for each host and port; for one event loop."""

    def __init__(
        self, shares: Shares, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        super().__init__()
        self._shares = shares
        self._clock = clock
        self._sleep = sleep

    async def aclose(self) -> None:
        """Give every share back."""
        await asyncio.gather(*(budget.aclose() for budget in self._of_host.values()))

    def _new(self, host: str) -> LeasedBudget:
        return LeasedBudget(host, self._shares, clock=self._clock, sleep=self._sleep)
