"""Answers that were given before, for as long as they are what would be said again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

MOST_BYTES = 32 * 1024 * 1024
# One long answer must not push out all the short ones.
_LONGEST = 1024 * 1024
# What an entry takes besides its bytes.
_OVERHEAD = 1024


class Remembered:
    """The bytes of answers, those used last first; up to so many bytes in one process.

    The key has to say everything that the answer depends on, the state of the list among it.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._answers: OrderedDict[Hashable, bytes] = OrderedDict()
        self._most_bytes = most_bytes
        self._bytes = 0

    def get(self, key: Hashable) -> bytes | None:
        """The answer, if it is still there."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def keep(self, key: Hashable, answer: bytes) -> None:
        """Keep an answer, and forget those that were not asked for the longest."""
        if len(answer) > _LONGEST:
            return
        self._forget(key)
        self._answers[key] = answer
        self._bytes += len(answer) + _OVERHEAD
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: Hashable) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._bytes -= len(answer) + _OVERHEAD
