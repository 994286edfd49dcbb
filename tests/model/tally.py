"""What a shard has done, as it is printed, and what it should have done and did not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from interruptions import Kind, Point

# What a connection or a task can meet at every kill point.
EVERYWHERE = (Kind.CANCELLED, Kind.CUT, Kind.TERMINATED)
OUTCOMES = ("complete", "held", "partial", "failed")
EVENTS = ("added", "moved", "retired", "restored", "hidden", "shown")


@dataclass
class Tally:
    """Everything that is counted."""

    runs: int = 0  # of syncs, carried out to their end
    runs_of_hints: int = 0
    steps: int = 0
    examples: int = 0
    held: int = 0
    accepted: int = 0
    revived: int = 0  # runs without a job, as the caretaker finds them
    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    interruptions: Counter[tuple[Kind, Point]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, int]:
        """Everything that is counted, by the words in which it is printed."""
        return {
            "runs": self.runs,
            **{f"runs that ended {outcome}": self.outcomes[outcome] for outcome in OUTCOMES},
            "runs of hints": self.runs_of_hints,
            "runs taken up by the caretaker": self.revived,
            "examples": self.examples,
            "steps": self.steps,
            "operations upstream": self.operations.total(),
            "faults": self.faults.total(),
            **{f"faults: {name}": self.faults[name] for name in sorted(self.faults)},
            "interruptions": self.interruptions.total(),
            **{
                f"interruptions {point}: {kind}": self.interruptions[kind, point]
                for point in Point
                for kind in Kind
            },
            **{f"images {kind}": self.events[kind] for kind in EVENTS},
            "images held": self.held,
            "images accepted as gone": self.accepted,
        }

    def never_hit(self) -> tuple[tuple[Kind, Point], ...]:
        """The interruptions that every kill point must have met and has not."""
        pairs = [(kind, point) for point in Point for kind in EVERYWHERE]
        return tuple(pair for pair in pairs if not self.interruptions[pair])

    def zeros(self) -> list[str]:
        """What a run of CI's length must have met and this one has not."""
        needed = {name: n for name, n in self.figures().items() if ":" not in name}
        # Nothing has to be orphaned, and what was hidden need not have been shown again.
        del needed["runs taken up by the caretaker"], needed["images shown"]
        for kind in Kind:
            needed[kind] = sum(self.interruptions[kind, point] for point in Point)
        for point in Point:
            needed |= {f"{kind} {point}": self.interruptions[kind, point] for kind in EVERYWHERE}
        return [name for name, number in needed.items() if not number]
