"""What happens is counted here at once, and taken in one go by whoever adds it up elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

# What is counted: a name of ``domain.metrics`` and the values of its labels.
Key = tuple[str, tuple[str, ...]]

# More series than this in one process, between two takings, are somebody's who makes them up.
MOST_KEYS = 2000


class Tally:
    """Counts that only grow, until they are taken. Counting never waits and never fails."""

    def __init__(self) -> None:
        self._counts: defaultdict[Key, float] = defaultdict(float)

    def add(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Count something; the labels are in the order of the metric's own."""
        key = (name, labels)
        if key in self._counts or len(self._counts) < MOST_KEYS:
            self._counts[key] += by

    def add_duration(
        self, name: str, *labels: str, seconds: float, ends: tuple[float, ...]
    ) -> None:
        """Count a duration in the first bucket that it fits in, and in the sum of all."""
        end = next((end for end in ends if seconds <= end), None)
        self.add(f"{name}_bucket", *labels, "+Inf" if end is None else f"{end:g}")
        self.add(f"{name}_sum", *labels, by=seconds)

    def take(self) -> dict[Key, float]:
        """Everything counted since this was last called."""
        taken, self._counts = dict(self._counts), defaultdict(float)
        return taken

    def put_back(self, taken: Mapping[Key, float]) -> None:
        """Count again what could not be added up."""
        for (name, labels), value in taken.items():
            self.add(name, *labels, by=value)
