"""How fast a host is asked, and how often a call is tried again."""

import asyncio
from collections import deque

import pytest

from wharfinger.domain.errors import (
    ForbiddenError,
    ListMovedError,
    MalformedAnswerError,
    NotTrustedError,
    ThrottledError,
    UnauthorisedError,
    UnreachableError,
    UpstreamFailureError,
)
from wharfinger.domain.ports import Reply, Request
from wharfinger.sync.pacing import HostBudget, PacedHttp, ProcessBudgets

GET = Request(method="GET", url="http://r.example/v2/")


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0
        self.slept = []

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Script:
    """A transport that answers from a list: statuses or errors, then 200 for ever."""

    def __init__(self, *answers):
        self.answers = deque(answers)
        self.sent = []

    async def send(self, request):
        self.sent.append(request)
        await asyncio.sleep(0)
        answer = self.answers.popleft() if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return Reply(status=answer, headers={}, body=b"", url=request.url)

    async def aclose(self):
        pass


def read(reply):
    if reply.status == 401:
        raise UnauthorisedError("401")
    if reply.status == 403:
        raise ForbiddenError("403")
    if reply.status == 429:
        raise ThrottledError("429", retry_after_s=9)
    if reply.status >= 500:
        raise UpstreamFailureError(str(reply.status))
    return reply.status


def paced(transport, *, time=None, budget=None, **settings):
    time = time or FakeTime()
    budget = budget or HostBudget(clock=time.clock, sleep=time.sleep)
    return PacedHttp(transport, budget, clock=time.clock, sleep=time.sleep, **settings)


@pytest.mark.parametrize(
    "trouble", [429, 500, 503, UnreachableError("timed out"), MalformedAnswerError("html")]
)
async def test_what_is_temporary_is_tried_again(trouble):
    script = Script(trouble, trouble)
    http = paced(script)

    assert await http.call(GET, read) == 200
    assert http.requests == len(script.sent) == 3


async def test_the_fifth_failure_is_the_last():
    script = Script(*[500] * 9)

    with pytest.raises(UpstreamFailureError):
        await paced(script).call(GET, read)

    assert len(script.sent) == 5


@pytest.mark.parametrize("answer", [403, ListMovedError("moved")])
async def test_what_another_try_cannot_mend_ends_the_call(answer):
    script = Script(answer)

    with pytest.raises((ForbiddenError, ListMovedError)):
        await paced(script).call(GET, read)

    assert len(script.sent) == 1


async def test_waits_grow_and_are_spread():
    time = FakeTime()

    with pytest.raises(UpstreamFailureError):
        await paced(Script(*[500] * 5), time=time, jitter=lambda: 0.0).call(GET, read)

    assert time.slept == [0.25, 0.5, 1.0, 2.0]


async def test_a_wish_to_wait_pauses_the_whole_host():
    time = FakeTime()
    budgets = ProcessBudgets(clock=time.clock, sleep=time.sleep)
    first = paced(Script(429), time=time, budget=budgets, attempts=1)
    other = paced(Script(), time=time, budget=budgets)
    elsewhere = Request(method="GET", url="http://elsewhere.example/")

    with pytest.raises(ThrottledError):
        await first.call(GET, read)
    await other.call(elsewhere, read)
    waited_elsewhere = sum(time.slept)
    await other.call(GET, read)

    assert waited_elsewhere == 0
    assert sum(time.slept) == 9


async def test_a_wish_to_wait_beyond_the_deadline_is_passed_on_at_once():
    time = FakeTime()

    with pytest.raises(ThrottledError) as caught:
        await paced(Script(429), time=time, deadline_s=5).call(GET, read)

    assert caught.value.retry_after_s == 9
    assert time.slept == []


async def test_the_concurrency_halves_once_for_all_that_failed_together():
    time = FakeTime()
    budget = HostBudget(start=16, clock=time.clock, sleep=time.sleep)
    http = paced(Script(*[503] * 16), time=time, budget=budget, attempts=1)

    failed = await asyncio.gather(
        *(http.call(GET, read) for _ in range(16)), return_exceptions=True
    )

    assert [type(one) for one in failed] == [UpstreamFailureError] * 16
    assert budget.concurrency == 8


async def test_the_concurrency_never_falls_below_one_and_grows_back():
    time = FakeTime()
    budget = HostBudget(start=4, most=6, clock=time.clock, sleep=time.sleep)
    http = paced(Script(*[503] * 8), time=time, budget=budget, attempts=1)
    for _ in range(8):
        with pytest.raises(UpstreamFailureError):
            await http.call(GET, read)
    lowest = budget.concurrency

    await asyncio.gather(*(http.call(GET, read) for _ in range(200)))

    assert lowest == 1
    assert budget.concurrency == 6
    assert budget.in_use == 0


async def test_no_more_requests_are_under_way_than_the_host_bears():
    under_way, most = 0, 0

    class Counting(Script):
        async def send(self, request):
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            reply = await super().send(request)
            under_way -= 1
            return reply

    http = paced(Counting(), budget=HostBudget(start=3, most=3))

    await asyncio.gather(*(http.call(GET, read) for _ in range(50)))

    assert most == 3


async def test_a_cancelled_call_gives_its_place_back():
    budget = HostBudget(start=1, most=1)
    stuck = asyncio.Event()

    class Stuck(Script):
        async def send(self, request):
            await stuck.wait()
            return await super().send(request)

    http = paced(Stuck(), budget=budget)
    calls = [asyncio.create_task(http.call(GET, read)) for _ in range(3)]
    await asyncio.sleep(0.01)
    calls[0].cancel()
    calls[1].cancel()
    stuck.set()

    assert await calls[2] == 200
    assert budget.in_use == 0


async def test_a_call_cancelled_at_its_very_turn_gives_its_place_back():
    budget = HostBudget(start=1, most=1)
    first = await budget.acquire()
    waiting = asyncio.create_task(budget.acquire())
    await asyncio.sleep(0)

    first.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert budget.in_use == 0


async def test_a_host_that_is_hardly_asked_proves_nothing():
    budget = HostBudget(start=4, most=32)
    http = paced(Script(), budget=budget)

    for _ in range(100):
        await http.call(GET, read)

    assert budget.concurrency == 4


def authorise_with(*tokens):
    seen = []

    async def authorise(request, challenge):
        seen.append(challenge and challenge.status)
        if len(seen) > len(tokens):
            return None
        token = tokens[len(seen) - 1]
        return Request(method="GET", url=request.url, headers={"authorization": token})

    return authorise, seen


async def test_a_challenge_is_answered_once():
    script = Script(401)
    authorise, seen = authorise_with("old", "new")

    assert await paced(script).call(GET, read, authorise) == 200
    assert [request.headers["authorization"] for request in script.sent] == ["old", "new"]
    assert seen == [None, 401]


@pytest.mark.parametrize("tokens", [("old",), ("old", "new")])
async def test_a_401_that_stays_is_told_and_not_tried_again(tokens):
    script = Script(401, 401, 401)
    authorise, _ = authorise_with(*tokens)

    with pytest.raises(UnauthorisedError):
        await paced(script).call(GET, read, authorise)

    assert len(script.sent) == len(tokens)


async def test_credentials_are_prepared_anew_for_every_attempt():
    script = Script(503, 503)
    authorise, seen = authorise_with("a", "b", "c")

    await paced(script).call(GET, read, authorise)

    assert [request.headers["authorization"] for request in script.sent] == ["a", "b", "c"]
    assert seen == [None, None, None]


async def test_fetching_a_token_from_the_same_busy_host_does_not_lock_up():
    budget = HostBudget(start=1, most=1)
    http = paced(Script(), budget=budget)

    async def authorise(request, challenge):
        await http.call(GET, read)
        return request

    async with asyncio.timeout(5):
        await asyncio.gather(*(http.call(GET, read, authorise) for _ in range(5)))


def test_budgets_are_shared_by_host_and_port():
    budgets = ProcessBudgets()

    assert budgets.of("https://R.example/a") is budgets.of("https://user@r.example/b?c")
    assert budgets.of("https://r.example/") is not budgets.of("https://r.example:8443/")


def test_a_port_that_the_scheme_implies_is_the_same_host():
    budgets = ProcessBudgets()

    assert budgets.of("https://r.example/") is budgets.of("https://r.example:443/v2/")
    assert budgets.of("https://r.example/") is not budgets.of("http://r.example/")
    assert budgets.of("https://[::1]/") is budgets.of("https://[::1]:443")


# --- turns -----------------------------------------------------------------------------------


async def test_a_tenant_with_few_requests_does_not_wait_behind_one_with_many():
    budget = HostBudget(start=2, most=2)
    served = []

    class Noting(Script):
        async def send(self, request):
            served.append(request.url)
            return await super().send(request)

    transport = Noting()
    many = PacedHttp(transport, budget, key="many")
    few = PacedHttp(transport, budget, key="few")
    backlog = [
        asyncio.ensure_future(many.call(Request(method="GET", url="http://r.example/many"), read))
        for _ in range(200)
    ]
    await asyncio.sleep(0)
    late = [few.call(Request(method="GET", url="http://r.example/few"), read) for _ in range(10)]

    await asyncio.gather(*late)
    by_then = len(served)
    await asyncio.gather(*backlog)

    # Each tenant is served every other time; a few more were sent before the last was counted.
    assert by_then <= 2 + 2 * 10 + 8
    assert len(served) == 210


async def test_a_failing_tenant_waits_for_its_next_try_without_a_place():
    budget = HostBudget(start=1, most=1)
    failing = PacedHttp(Script(*[500] * 4), budget, key="failing")
    well = PacedHttp(Script(), budget, key="well")

    trying = asyncio.ensure_future(failing.call(GET, read))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(0.2):
        await well.call(GET, read)

    assert not trying.done()
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying


async def test_a_certificate_that_one_registry_does_not_trust_slows_nobody_down():
    time = FakeTime()
    budget = HostBudget(start=8, clock=time.clock, sleep=time.sleep)

    with pytest.raises(NotTrustedError):
        await paced(Script(*[NotTrustedError("TLS")] * 5), time=time, budget=budget).call(GET, read)

    assert budget.concurrency == 8


# --- refusals and silence --------------------------------------------------------------------


async def test_being_told_to_wait_is_borne_longer_than_failure():
    script = Script(*[ThrottledError("429")] * 12)

    assert await paced(script, deadline_s=600).call(GET, read) == 200
    assert len(script.sent) == 13


async def test_a_host_that_is_silent_for_long_is_asked_once_in_a_while_and_the_rest_fails_at_once():
    time = FakeTime()
    budget = HostBudget(clock=time.clock, sleep=time.sleep)
    script = Script(*[UnreachableError("timed out")] * 1000)
    http = paced(script, time=time, budget=budget)
    for _ in range(12):
        with pytest.raises(UnreachableError):
            await http.call(GET, read)
        time.now += 6
    sent_before = len(script.sent)

    began = time.now
    for _ in range(100):
        with pytest.raises(UnreachableError):
            await http.call(GET, read)

    assert budget.is_silent
    assert time.now == began
    assert len(script.sent) - sent_before == 1


async def test_one_answer_ends_the_silence():
    time = FakeTime()
    budget = HostBudget(clock=time.clock, sleep=time.sleep)
    script = Script(*[UnreachableError("timed out")] * 40, 500)
    http = paced(script, time=time, budget=budget, attempts=1)
    for _ in range(40):
        with pytest.raises(UnreachableError):
            await http.call(GET, read)
        time.now += 6
    assert budget.is_silent

    with pytest.raises(UpstreamFailureError):
        await http.call(GET, read)

    assert not budget.is_silent
    assert await http.call(GET, read) == 200


async def test_those_who_wait_behind_a_silent_host_do_not_wait_for_its_every_timeout():
    time = FakeTime()
    budget = HostBudget(start=1, most=1, clock=time.clock, sleep=time.sleep)

    class Dead(Script):
        async def send(self, request):
            self.sent.append(request)
            await time.sleep(70)
            raise UnreachableError("timed out")

    transport = Dead()
    http = paced(transport, time=time, budget=budget, attempts=1)

    failed = await asyncio.gather(
        *(http.call(GET, read) for _ in range(50)), return_exceptions=True
    )

    assert {type(one) for one in failed} == {UnreachableError}
    assert len(transport.sent) == 2
    assert budget.in_use == 0


# --- quotas ------------------------------------------------------------------------------------


async def test_a_spent_quota_is_waited_for_without_being_refused():
    time = FakeTime()
    budget = HostBudget(clock=time.clock, sleep=time.sleep)

    class Spent(Script):
        async def send(self, request):
            reply = await super().send(request)
            left = max(0, 2 - len(self.sent))
            return Reply(
                status=200,
                headers={"ratelimit": f'"default";r={left};t=7'},
                body=reply.body,
                url=reply.url,
            )

    http = paced(Spent(), time=time, budget=budget)
    await http.call(GET, read)
    before = time.now
    await http.call(GET, read)
    unpaused = time.now - before
    await http.call(GET, read)

    assert unpaused == 0
    assert time.now - before == 7
