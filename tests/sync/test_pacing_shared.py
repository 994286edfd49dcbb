"""Several processes, one host: they share its budget, heed its wishes, survive each other."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from wharfinger.domain.errors import StoreUnavailableError
from wharfinger.domain.ports import Reply, Request
from wharfinger.sources._addresses import AddressPolicy
from wharfinger.sources._http import AioTransport
from wharfinger.sources._reading import raise_for_status
from wharfinger.store.pacing import SharedBudgets
from wharfinger.sync.pacing import PacedHttp
from wharfinger.sync.shares import LEASE_S, LeasedBudgets
from wharfinger.testing.faults import json_answer
from wharfinger.testing.server import LoopbackServer

SCRIPT = Path(__file__).with_name("asking_process.py")
GET = Request(method="GET", url="http://r.example/v2/")


class Registry(LoopbackServer):
    def respond(self, asked):
        return json_answer({})


@pytest.fixture
async def registry():
    async with Registry() as running:
        yield running


class Process:
    """A process that asks the registry, started together with the others."""

    def __init__(self, running):
        self.running = running
        self.pid = running.pid

    async def go(self):
        self.running.stdin.write(b"\n")
        await self.running.stdin.drain()

    async def result(self):
        out, _ = await self.running.communicate()
        assert self.running.returncode == 0
        return json.loads(out.splitlines()[-1])


@contextlib.asynccontextmanager
async def processes(count, address, url, *, requests, tasks=16, start=16):
    started = []
    try:
        for _ in range(count):
            running = await asyncio.create_subprocess_exec(
                *(sys.executable, str(SCRIPT), address.app, url),
                *(str(number) for number in (requests, tasks, start)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            started.append(Process(running))
        for process in started:
            assert await process.running.stdout.readline() == b"ready\n"
        yield started
    finally:
        for process in started:
            if process.running.returncode is None:
                process.running.kill()
                await process.running.wait()


@contextlib.asynccontextmanager
async def leased(database, *, start=16):
    budgets = LeasedBudgets(SharedBudgets(database, start=start, lease_s=LEASE_S))
    try:
        yield budgets
    finally:
        await budgets.aclose()


async def until(condition, *, within_s):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s
        await asyncio.sleep(0.02)
    return time.monotonic() - began


# --- a limit of requests per second --------------------------------------------------------------


async def ask_a_limited_host(address, count, total, per_s):
    async with Registry() as registry:
        registry.faults.limit_rate("/", per_s)
        url = f"{registry.url}/v2/"
        async with processes(count, address, url, requests=total // count) as asking:
            for process in asking:
                await process.go()
            return await asyncio.gather(*(process.result() for process in asking))


@pytest.mark.slow
async def test_a_limit_of_20_per_second_is_learned_and_used_up_by_1_2_or_4(database_address):
    total, per_s = 600, 20
    ideal_s = (total - per_s) / per_s

    # Half a minute of waiting each; as each has a host of its own, they may do so together.
    crews = await asyncio.gather(
        *(ask_a_limited_host(database_address, count, total, per_s) for count in (1, 2, 4))
    )

    for results in crews:
        first = min(r["began"] for r in results)
        took_s = max(r["began"] + r["took"] for r in results) - first
        late = sum(sum(at > first + 3 for at in r["refused"]) for r in results)
        refused = sum(len(r["refused"]) for r in results)
        told = (
            f"{len(results)} processes: {took_s / ideal_s:.3f} of the ideal time, {refused} refused"
            f" in all, {late / total:.2%} once learned"
        )
        print(f"\n{told}")
        assert took_s <= 1.3 * ideal_s, told
        assert late / total < 0.05, told


async def test_a_host_without_a_limit_pays_nothing(registry, database):
    async with leased(database) as budgets:
        http = PacedHttp(AioTransport(AddressPolicy(allow_private=True)), budgets)
        request = Request(method="GET", url=f"{registry.url}/v2/")
        await http.call(request, raise_for_status)

        assert budgets.of(registry.url + "/").rate is None
        await http._transport.aclose()


# --- concurrency ---------------------------------------------------------------------------------


async def test_four_processes_together_never_exceed_what_one_was_allowed(
    registry, database_address
):
    registry.faults.delay("/", 0.05)

    async with processes(
        4, database_address, f"{registry.url}/v2/", requests=80, tasks=12, start=6
    ) as asking:
        for process in asking:
            await process.go()
        results = await asyncio.gather(*(process.result() for process in asking))

    assert sum(r["requests"] for r in results) == 320
    assert registry.peak <= 6


async def test_a_killed_process_gives_its_places_back_within_ten_seconds(
    registry, database_address
):
    stall = registry.faults.delay("/stuck", 60)
    async with processes(
        1, database_address, f"{registry.url}/stuck", requests=4, tasks=4, start=4
    ) as (stuck,):
        await stuck.go()
        await until(lambda: stall.struck == 4, within_s=10)
        async with processes(
            1, database_address, f"{registry.url}/v2/", requests=4, tasks=4, start=4
        ) as (waiting,):
            await waiting.go()
            await asyncio.sleep(1)
            before = len(registry.requests("/v2/"))

            os.kill(stuck.pid, signal.SIGKILL)
            waited_s = await until(lambda: len(registry.requests("/v2/")) == 4, within_s=10)
            await waiting.result()

    assert before == 0
    assert waited_s < 10


# --- what one hears, all heed --------------------------------------------------------------------


@pytest.mark.hard_case("H12", guard="wharfinger.sync.shares:LeasedBudget.pause")
async def test_a_wish_to_wait_is_obeyed_by_the_process_that_did_not_hear_it(registry, database):
    async with leased(database) as one, leased(database) as other:
        transport = AioTransport(AddressPolicy(allow_private=True))
        request = Request(method="GET", url=f"{registry.url}/v2/")
        # The deadline passes the refusal on at once.
        first = PacedHttp(transport, one, deadline_s=0)
        second = PacedHttp(transport, other)
        await second.call(request, raise_for_status)
        registry.faults.throttle("/", retry_after=3, times=1)
        with pytest.raises(Exception, match="429"):
            await first.call(request, raise_for_status)
        refused_at = time.monotonic()
        await asyncio.sleep(0.8)

        await second.call(request, raise_for_status)

        assert 2.9 <= time.monotonic() - refused_at < 5
        await transport.aclose()


# --- turns ---------------------------------------------------------------------------------------


@pytest.mark.hard_case("H12", guard="wharfinger.sync.pacing:_Turns.next")
async def test_two_tenants_on_one_host_are_served_alike_whatever_their_backlogs(registry, database):
    registry.faults.delay("/", 0.01)
    transport = AioTransport(AddressPolicy(allow_private=True))
    async with leased(database, start=4) as budgets:
        many = PacedHttp(transport, budgets, key="many")
        few = PacedHttp(transport, budgets, key="few")

        async def ask(http, name, count):
            request = Request(method="GET", url=f"{registry.url}/{name}")
            await asyncio.gather(*(http.call(request, raise_for_status) for _ in range(count)))

        backlog = asyncio.ensure_future(ask(many, "many", 400))
        await asyncio.sleep(0.1)
        before = len(registry.requests("/many"))
        await ask(few, "few", 40)
        served = len(registry.requests("/many")) - before
        backlog.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await backlog
        await transport.aclose()

    assert 30 <= served <= 60


# --- without the database ------------------------------------------------------------------------


class Shaky:
    """Shares over a store that can be cut off."""

    def __init__(self, shares):
        self.shares = shares
        self.cut = False

    async def renew(self, host, report):
        if self.cut:
            raise StoreUnavailableError("cut off")
        return await self.shares.renew(host, report)

    async def leave(self, host):
        await self.shares.leave(host)


class Null:
    async def send(self, request):
        return Reply(status=200, headers={}, body=b"", url=request.url)


async def test_without_the_database_the_last_share_holds_until_the_lease_ends(
    database, monkeypatch
):
    monkeypatch.setattr("wharfinger.sync.shares.LEASE_S", 0.8)
    shaky = Shaky(SharedBudgets(database, start=4, lease_s=0.8))
    budgets = LeasedBudgets(shaky)
    http = PacedHttp(Null(), budgets)
    await http.call(GET, raise_for_status)
    shaky.cut = True

    await http.call(GET, raise_for_status)
    await asyncio.sleep(1)
    with pytest.raises(StoreUnavailableError):
        async with asyncio.timeout(3):
            await http.call(GET, raise_for_status)
    shaky.cut = False

    async with asyncio.timeout(3):
        await http.call(GET, raise_for_status)
    await budgets.aclose()
