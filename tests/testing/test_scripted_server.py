from __future__ import annotations

import aiohttp
import pytest

from wharfinger.testing.faults import Answer
from wharfinger.testing.scripted import Scripted, UnexpectedRequestError


async def fetch(url, **options):
    async with aiohttp.ClientSession() as session, session.get(url, **options) as answer:
        return answer.status, await answer.text()


async def test_steps_are_answered_in_order():
    async with Scripted() as server:
        server.expect("GET /v2/", Answer(status=401)).expect("GET /v2/", {"ok": True})

        first, second = [await fetch(f"{server.url}/v2/") for _ in range(2)]

    assert (first[0], second) == (401, (200, '{"ok":true}'))
    assert server.requests_made == ["GET /v2/", "GET /v2/"]


async def test_a_route_may_be_asked_for_at_any_time():
    async with Scripted() as server:
        server.route("GET re:/v2/.*/tags/list", lambda asked: Answer(body=asked.path.encode()))
        server.expect("GET /first", [])

        texts = [(await fetch(server.url + path))[1] for path in ("/v2/a/b/tags/list", "/first")]

    assert texts == ["/v2/a/b/tags/list", "[]"]


async def test_an_unexpected_request_fails_at_the_end():
    async def scenario():
        async with Scripted() as server:
            server.expect("GET /v2/", {})
            assert (await fetch(f"{server.url}/else"))[0] == 599

    with pytest.raises(UnexpectedRequestError, match="unexpected: GET /else; the next step is GET"):
        await scenario()


async def test_a_step_nobody_asked_for_fails_at_the_end():
    with pytest.raises(UnexpectedRequestError, match="never asked: GET /v2/"):
        async with Scripted() as server:
            server.expect("GET /v2/", {})


async def test_headers_belong_to_the_expectation():
    async def scenario():
        async with Scripted() as server:
            server.route("GET /", {}, headers={"authorization": "Bearer .+"})
            assert (await fetch(server.url, headers={"Authorization": "Bearer t"}))[0] == 200
            assert (await fetch(server.url))[0] == 599

    with pytest.raises(UnexpectedRequestError):
        await scenario()


async def test_the_tests_own_error_is_not_covered_up():
    async def scenario():
        async with Scripted() as server:
            server.expect("GET /v2/", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await scenario()


def test_it_serves_callers_without_a_loop():
    import urllib.request

    with Scripted().running_in_thread() as server:
        server.route("GET /", {"ok": 1})
        with urllib.request.urlopen(server.url, timeout=5) as answer:
            assert answer.read() == b'{"ok":1}'


def test_a_thread_is_checked_too():
    with pytest.raises(UnexpectedRequestError), Scripted().running_in_thread() as server:
        server.expect("GET /", {})
