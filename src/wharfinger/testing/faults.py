"""Faults on demand: what a server answers instead of the truth, and when."""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import msgspec

HTML_PAGE = (
    b"<!DOCTYPE html><html><head><title>Login</title></head><body>Please sign in</body></html>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it came over the wire; ``path`` and ``query`` are raw, names lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    header_pairs: Sequence[tuple[str, str]] = ()

    @property
    def target(self) -> str:
        """Path and query as they stood in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, and how it breaks off.

    ``sent`` is the number of body bytes after which the connection closes, ``None`` for all.
    ``stall_s`` is how long the connection stays open and silent before that. ``reset`` closes the
    connection with a TCP reset and sends nothing at all. ``chunked`` sends the body without a
    Content-Length.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: int | None = None
    stall_s: float = 0.0
    reset: bool = False
    chunked: bool = False

    def with_headers(self, **headers: str) -> Answer:
        """The same answer with more headers; ``_`` in a name stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return dataclasses.replace(self, headers={**self.headers, **named})


def json_answer(value: object, *, status: int = 200, **headers: str) -> Answer:
    """An answer with this value as its JSON body; ``_`` in a header's name stands for ``-``."""
    answer = Answer(
        status=status,
        body=msgspec.json.encode(value),
        headers={"Content-Type": "application/json"},
    )
    return answer.with_headers(**headers)


class When(TypedDict, total=False):
    """Which requests a fault strikes. What is left out does not narrow.

    ``method``: regular expression the whole method matches. ``times``: strikes so often, then
    never again. ``skip``: lets so many matching requests pass first. ``probability``: 0.0 to 1.0,
    drawn from a generator seeded with the server's fault seed. ``above``: strikes only while more
    than so many requests are in flight at once, this one included.
    """

    method: str
    times: int
    skip: int
    probability: float
    above: int


Rule = Callable[[Asked], Answer]


@dataclass(kw_only=True)
class Fault:
    """One rule in force. ``struck`` counts the requests it has changed so far."""

    path: re.Pattern[str]
    method: re.Pattern[str]
    times: int | None
    skip: int
    probability: float
    above: int = 0
    instead: Rule | None = None
    change: Callable[[Asked, Answer], Answer] | None = None
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    delay_s: float = 0.0
    gate: threading.Event | None = None
    struck: int = 0
    seen: int = 0

    def release(self) -> None:
        """Answer what ``Faults.hold`` keeps waiting, and whatever it would keep from now on."""
        if self.gate is not None:
            self.gate.set()


class Faults:
    r"""The faults of one server, in the order they were declared.

    Every method takes the regular expression to be *found* in the raw path with its query
    (``r"/tags\?"``) and the narrowing of ``When``, and returns the ``Fault``, whose ``struck``
    tells how often it has been used. Of several that replace the answer, the first one wins.
    """

    def __init__(self, *, seed: int = 7) -> None:
        self._rules: list[Fault] = []
        self._chance = random.Random(seed)  # noqa: S311 - repeatable chance, not a secret

    def clear(self) -> None:
        """Tell the truth again."""
        self._rules.clear()

    def remove(self, fault: Fault) -> None:
        """Take one fault back."""
        self._rules.remove(fault)

    # --- instead of the answer --------------------------------------------------------------

    def answer(
        self,
        path: str,
        status: int,
        *,
        body: bytes | str | object = b"",
        headers: Mapping[str, str] | None = None,
        **when: Unpack[When],
    ) -> Fault:
        """Answer with this status and body; what is neither bytes nor text goes out as JSON."""
        if isinstance(body, str):
            raw, kind = body.encode(), "text/plain; charset=utf-8"
        elif isinstance(body, bytes):
            raw, kind = body, "application/octet-stream"
        else:
            raw, kind = msgspec.json.encode(body), "application/json"
        ready = Answer(status=status, body=raw, headers={"Content-Type": kind, **(headers or {})})
        return self.instead(path, lambda _: ready, **when)

    def instead(self, path: str, rule: Rule, **when: Unpack[When]) -> Fault:
        """Answer with whatever ``rule(asked)`` returns."""
        return self._add(path, when, instead=rule)

    def html(self, path: str, *, status: int = 200, **when: Unpack[When]) -> Fault:
        """Answer with a proxy's HTML page."""
        return self.answer(
            path, status, body=HTML_PAGE, headers={"Content-Type": "text/html"}, **when
        )

    def reset(self, path: str, **when: Unpack[When]) -> Fault:
        """Reset the connection without an answer."""
        return self.instead(path, lambda _: Answer(reset=True), **when)

    def throttle(
        self,
        path: str,
        *,
        retry_after: float | str | dt.datetime | None = None,
        **when: Unpack[When],
    ) -> Fault:
        """Answer as the API gateway throttles: 429 ``APIGW.0308``.

        Args:
            path: which requests.
            retry_after: seconds, a time (sent as an HTTP date), text sent as it is, or no header.
            **when: see ``When``.
        """
        refusal = _throttled(retry_after)
        return self.instead(path, lambda _: refusal, **when)

    def limit_rate(
        self,
        path: str,
        per_second: int,
        *,
        window_s: float = 1.0,
        retry_after: float | str | dt.datetime | None = None,
        **when: Unpack[When],
    ) -> Fault:
        """Let so many requests pass within any window and answer the others as ``throttle`` does.

        Args:
            path: which requests.
            per_second: as many times ``window_s`` pass within ``window_s``.
            window_s: the length of the sliding window.
            retry_after: see ``throttle``.
            **when: see ``When``.
        """
        refusal = _throttled(retry_after)
        passed: deque[float] = deque()

        def limit(_: Asked, answer: Answer) -> Answer:
            now = time.monotonic()
            while passed and passed[0] <= now - window_s:
                passed.popleft()
            if len(passed) >= per_second * window_s:
                return refusal
            passed.append(now)
            return answer

        return self.change(path, limit, **when)

    # --- a changed answer -------------------------------------------------------------------

    def change(
        self, path: str, how: Callable[[Asked, Answer], Answer], **when: Unpack[When]
    ) -> Fault:
        """Send what ``how(asked, true_answer)`` returns."""
        return self._add(path, when, change=how)

    def truncate(
        self, path: str, *, keep: float = 0.5, chunked: bool = False, **when: Unpack[When]
    ) -> Fault:
        """Close the connection after this share of the body, announced in full."""

        def cut(_: Asked, answer: Answer) -> Answer:
            sent = int(len(answer.body) * keep)
            return dataclasses.replace(answer, sent=sent, chunked=chunked)

        return self.change(path, cut, **when)

    def stall(self, path: str, seconds: float, *, keep: float = 0.5, **when: Unpack[When]) -> Fault:
        """Send this share of the body, then nothing for so long, then close the connection."""

        def hang(_: Asked, answer: Answer) -> Answer:
            sent = int(len(answer.body) * keep)
            return dataclasses.replace(answer, sent=sent, stall_s=seconds)

        return self.change(path, hang, **when)

    def cut_body(self, path: str, *, keep: float = 0.5, **when: Unpack[When]) -> Fault:
        """Send only this share of the body with a Content-Length that fits: broken JSON, 200."""

        def cut(_: Asked, answer: Answer) -> Answer:
            return dataclasses.replace(answer, body=answer.body[: int(len(answer.body) * keep)])

        return self.change(path, cut, **when)

    def wrong_length(self, path: str, *, by: int = 64, **when: Unpack[When]) -> Fault:
        """Announce ``by`` bytes more (or fewer, when negative) than the body has."""

        def lie(_: Asked, answer: Answer) -> Answer:
            length = str(max(len(answer.body) + by, 0))
            return answer.with_headers(Content_Length=length)

        return self.change(path, lie, **when)

    def wrong_total(self, path: str, total: int, **when: Unpack[When]) -> Fault:
        """Claim this total: in ``Content-Range``, every row's ``total_range``, or ``total``."""
        return self.change(path, lambda _, answer: _with_total(answer, total), **when)

    def no_total(self, path: str, **when: Unpack[When]) -> Fault:
        """Leave out ``Content-Range``, ``total_range`` and ``total``."""
        return self.change(path, lambda _, answer: _with_total(answer, None), **when)

    def empty_list(self, path: str, **when: Unpack[When]) -> Fault:
        """Answer 200 with the same shape and nothing in it, and a total of 0."""
        return self.change(path, lambda _, answer: _emptied(answer), **when)

    def rows(
        self, path: str, how: Callable[[list[dict[str, object]]], object], **when: Unpack[When]
    ) -> Fault:
        """Send the list ``how(rows)`` returns, of a bare array or an object's only array."""
        return self.change(path, lambda _, answer: _with_rows(answer, how), **when)

    def repeat(self, path: str, **when: Unpack[When]) -> Fault:
        """Send again what the request before got, of those that match ``path``: a stuck page.

        The first of them, before which there was none, gets its own answer.
        """
        before: list[Answer] = []

        def stuck(_: Asked, answer: Answer) -> Answer:
            return before[-1] if before else answer

        def remember(_: Asked, answer: Answer) -> Answer:
            before[:] = [answer]
            return answer

        fault = self.change(path, stuck, **when)
        self.change(path, remember)
        return fault

    # --- around the answer ------------------------------------------------------------------

    def delay(self, path: str, seconds: float, **when: Unpack[When]) -> Fault:
        """Answer late."""
        return self._add(path, when, delay_s=seconds)

    def hold(self, path: str, **when: Unpack[When]) -> Fault:
        """Answer when the fault is released, or never: ``struck`` tells how many wait.

        A fault that was taken back goes on holding what it holds; later requests pass.
        """
        fault = self._add(path, when)
        fault.gate = threading.Event()
        return fault

    def before(self, path: str, do: Callable[[], None], **when: Unpack[When]) -> Fault:
        """Call ``do()`` just before the answer is made: a push between two pages."""
        return self._add(path, when, before=do)

    def after(self, path: str, do: Callable[[], None], **when: Unpack[When]) -> Fault:
        """Call ``do()`` just after the answer was made, before it is sent."""
        return self._add(path, when, after=do)

    # --- for the server ---------------------------------------------------------------------

    def striking(self, asked: Asked, *, in_flight: int = 1) -> list[Fault]:
        """The faults that strike this request; each is counted.

        One that would replace an answer replaced already does not strike and stays for later, so
        that "first a reset, then a 429" is two faults of ``times=1``.
        """
        striking: list[Fault] = []
        replaced = False
        for fault in list(self._rules):
            beside = (replaced and fault.instead is not None) or in_flight <= fault.above
            if not beside and self._strikes(fault, asked):
                striking.append(fault)
                replaced = replaced or fault.instead is not None
        return striking

    def _strikes(self, fault: Fault, asked: Asked) -> bool:
        if not (fault.method.fullmatch(asked.method) and fault.path.search(asked.target)):
            return False
        fault.seen += 1
        spent = fault.times is not None and fault.struck >= fault.times
        if spent or fault.seen <= fault.skip or self._chance.random() >= fault.probability:
            return False
        fault.struck += 1
        return True

    def _add(
        self,
        path: str,
        when: When,
        *,
        instead: Rule | None = None,
        change: Callable[[Asked, Answer], Answer] | None = None,
        before: Callable[[], None] | None = None,
        after: Callable[[], None] | None = None,
        delay_s: float = 0.0,
    ) -> Fault:
        fault = Fault(
            path=re.compile(path),
            method=re.compile(when.get("method", ".*")),
            times=when.get("times"),
            skip=when.get("skip", 0),
            probability=when.get("probability", 1.0),
            above=when.get("above", 0),
            instead=instead,
            change=change,
            before=before,
            after=after,
            delay_s=delay_s,
        )
        self._rules.append(fault)
        return fault


def _throttled(retry_after: float | str | dt.datetime | None) -> Answer:
    message = "The throttling threshold has been reached: policy ip over ratelimit"
    body = {"error_msg": message, "error_code": "APIGW.0308", "request_id": "0" * 32}
    refusal = json_answer(body, status=429)
    return (
        refusal
        if retry_after is None
        else refusal.with_headers(Retry_After=_retry_after(retry_after))
    )


def _retry_after(wish: float | str | dt.datetime) -> str:
    if isinstance(wish, dt.datetime):
        return email.utils.format_datetime(wish.astimezone(dt.UTC), usegmt=True)
    return str(wish)


def _is_a_list(answer: Answer) -> bool:
    """Whether there is a list to change: another fault may have put something else in its place."""
    if answer.status != 200:
        return False
    try:
        return isinstance(msgspec.json.decode(answer.body), list | dict)
    except msgspec.DecodeError:
        return False


def _with_total(answer: Answer, total: int | None) -> Answer:
    headers = {k: v for k, v in answer.headers.items() if k.lower() != "content-range"}
    said = next((v for k, v in answer.headers.items() if k.lower() == "content-range"), None)
    if said is not None and total is not None:
        headers["Content-Range"] = f"{said.split('/')[0]}/{total}"

    def claim(rows: list[dict[str, object]]) -> object:
        for row in rows:
            if "total_range" in row and total is None:
                del row["total_range"]
            elif "total_range" in row:
                row["total_range"] = total
        return rows

    claimed = dataclasses.replace(_with_rows(answer, claim), headers=headers)
    value = msgspec.json.decode(claimed.body) if _is_a_list(claimed) else None
    if not isinstance(value, dict) or "total" not in value:
        return claimed
    value = {k: v for k, v in value.items() if k != "total"}
    if total is not None:
        value["total"] = total
    return dataclasses.replace(claimed, body=msgspec.json.encode(value))


def _emptied(answer: Answer) -> Answer:
    if not _is_a_list(answer):
        return answer
    value = msgspec.json.decode(answer.body)
    if isinstance(value, dict):
        value = {k: [] if isinstance(v, list) else v for k, v in value.items()}
        for marker in ("nextMarker", "next_marker"):
            value.pop(marker, None)
        if "total" in value:
            value["total"] = 0
    else:
        value = []
    dropped = {"content-range", "link"}
    headers = {k: v for k, v in answer.headers.items() if k.lower() not in dropped}
    said = next((v for k, v in answer.headers.items() if k.lower() == "content-range"), None)
    if said is not None:
        headers["Content-Range"] = f"{said.split('-')[0]}-0/0"
    return dataclasses.replace(answer, body=msgspec.json.encode(value), headers=headers)


def _with_rows(answer: Answer, how: Callable[[list[dict[str, object]]], object]) -> Answer:
    if not _is_a_list(answer):
        return answer
    value = msgspec.json.decode(answer.body)
    if isinstance(value, list):
        value = how(value)
    else:
        (name,) = (key for key, inner in value.items() if isinstance(inner, list))
        value[name] = how(value[name])
    return dataclasses.replace(answer, body=msgspec.json.encode(value))
