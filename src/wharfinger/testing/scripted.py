"""A scripted HTTP server: it answers what the test wrote down, and anything else fails the test."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

from wharfinger.testing.faults import Answer, Asked, json_answer
from wharfinger.testing.server import Logged, LoopbackServer

Reply = Answer | Callable[[Asked], Answer]


class UnexpectedRequestError(AssertionError):
    """The client asked for what the script does not have, or left a step out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One expected request and its answer; a route when it may be asked any number of times."""

    method: str
    target: re.Pattern[str]
    reply: Reply
    headers: Mapping[str, re.Pattern[str]]

    def fits(self, asked: Asked) -> bool:
        """Whether this is the request the step expects."""
        return (
            self.method == asked.method
            and self.target.fullmatch(asked.target) is not None
            and all(
                pattern.fullmatch(asked.headers.get(name, "")) is not None
                for name, pattern in self.headers.items()
            )
        )

    def answer(self, asked: Asked) -> Answer:
        """The step's answer to that request."""
        return self.reply(asked) if callable(self.reply) else self.reply

    def __str__(self) -> str:
        return f"{self.method} {self.target.pattern}"


class Scripted(LoopbackServer):
    """A real HTTP server that follows a script.

    ``expect`` adds a step, used once and in order; ``route`` adds an answer that may be asked for
    any number of times, looked up when the next step does not fit. A request that fits neither
    gets a 599, and leaving the context raises ``UnexpectedRequestError`` with all of them and with
    the steps nobody asked for. An error of the test's own is not covered up by this.

    ``requests_made`` tells what came, as ``"GET /v2/?n=1"``.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host=host, port=port)
        self._steps: deque[Step] = deque()
        self._routes: list[Step] = []
        self._unexpected: list[str] = []

    @property
    def requests_made(self) -> list[str]:
        """Method and target of every request, in order."""
        return [f"{line.method} {line.target}" for line in self.log]

    def expect(
        self,
        request: str,
        answer: Reply | object,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Add the next step.

        Args:
            request: ``"GET /v2/_catalog?n=2"``, matched whole and raw; ``re:`` before the target
                (``"GET re:/v2/.*"``) makes it a regular expression.
            answer: an ``Answer``, a function from ``Asked`` to one, or a value to send as JSON.
            headers: regular expressions that named headers (lower case) must match whole.
        """
        self._steps.append(_step(request, answer, headers))
        return self

    def route(
        self,
        request: str,
        answer: Reply | object,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Add an answer that may be asked for at any time; the newest that fits wins."""
        self._routes.insert(0, _step(request, answer, headers))
        return self

    def respond(self, asked: Asked) -> Answer:
        """The script's answer."""
        if self._steps and self._steps[0].fits(asked):
            return self._steps.popleft().answer(asked)
        for route in self._routes:
            if route.fits(asked):
                return route.answer(asked)
        wanted = f"; the next step is {self._steps[0]}" if self._steps else ""
        self._unexpected.append(f"{asked.method} {asked.target}{wanted}")
        return json_answer({"unexpected": asked.target}, status=599)

    def check(self) -> None:
        """Fail unless every request was expected and every step was asked for.

        Raises:
            UnexpectedRequestError: with all that went otherwise.
        """
        lines = [f"unexpected: {line}" for line in self._unexpected]
        lines += [f"never asked: {step}" for step in self._steps]
        if lines:
            raise UnexpectedRequestError("\n".join(lines))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if error is None:
            self.check()

    @contextlib.contextmanager
    def running_in_thread(self) -> Iterator[Self]:
        """Serve from a thread; the check comes when the context ends without an error."""
        with super().running_in_thread():
            yield self
        self.check()


def _step(request: str, answer: Reply | object, headers: Mapping[str, str] | None) -> Step:
    method, _, target = request.partition(" ")
    pattern = target.removeprefix("re:") if target.startswith("re:") else re.escape(target)
    ready = isinstance(answer, Answer) or callable(answer)
    reply = cast("Reply", answer if ready else json_answer(answer))
    return Step(
        method=method,
        target=re.compile(pattern),
        reply=reply,
        headers={name: re.compile(value) for name, value in (headers or {}).items()},
    )


__all__ = ["Answer", "Asked", "Logged", "Scripted", "Step", "UnexpectedRequestError", "json_answer"]
