"""Where a process can crash, and how many of them were tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from tests.crashes.perform import Crash
from tests.crashes.process import CrashPoint, Event, Moment


class Places(Enum):
    """Which places are tried.

    FEW: after everything that happens. Where a commit is not made of statements, a crash in front of it finds what one
        behind the event before it finds.
    USUAL: before, in the middle of and after each commit that holds something, and after all that it released.
    ALL: before and after each commit, in front of each of its statements, and after all that it released.
    """

    FEW = "few"
    USUAL = "usual"
    ALL = "all"


def points_of(events: Sequence[Event], places: Places) -> Iterator[CrashPoint]:
    """The places of this life."""
    for number, event in enumerate(events):
        if event.kind == "commit" and not event.what and places is not Places.ALL:
            # Made for its releases alone, and those are places of their own.
            continue
        if event.kind == "commit" and (places is not Places.FEW or number == 0):
            yield CrashPoint(number, Moment.BEFORE)
            one = range(event.statements // 2, event.statements // 2 + 1)
            for statement in one if places is not Places.ALL else range(1, event.statements):
                yield CrashPoint(number, Moment.MIDDLE, statement)
        yield CrashPoint(number, Moment.AFTER)


@dataclass(slots=True)
class Tally:
    """Counts for the summary.

    Attributes:
        tried: by depth. places: by the kind of the event and the moment. torn: crashes that left a torn log.
    """

    scenarios: set[str] = field(default_factory=set)
    tried: Counter[int] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    unfinished: int = 0
    waiting: int = 0
    torn: int = 0

    def add(self, scenario: str, crashes: Sequence[Crash], events: Sequence[Event]) -> None:
        """A run with these crashes; the last of them was at the last of these events, or in the one behind them."""
        self.scenarios.add(scenario)
        self.tried[len(crashes)] += 1
        last = crashes[-1]
        kind = "commit" if last.point.moment is not Moment.AFTER else events[last.point.event].kind
        self.places[f"{_WHERE[last.point.moment]} {_KINDS[kind]}"] += 1
        self.unfinished += last.unfinished > 0
        self.waiting += last.is_waiting

    def lines(self) -> Iterator[str]:
        """For a person."""
        tried = ", ".join(f"{count:,} {_DEPTHS[depth]}" for depth, count in sorted(self.tried.items()))
        yield f"{sum(self.tried.values()):,} crash points in {len(self.scenarios)} scenarios: {tried}"
        yield ", ".join(f"{count:,} {place}" for place, count in sorted(self.places.items()))
        yield (
            f"{self.unfinished:,} interrupted durable invocations or messages, {self.waiting:,} a waiting caller; "
            f"{self.torn:,} left a torn transaction in the log"
        )


_DEPTHS = {1: "one deep", 2: "two deep"}
_WHERE = {Moment.BEFORE: "before a", Moment.MIDDLE: "in the middle of a", Moment.AFTER: "after a"}
_KINDS = {
    "commit": "commit",
    "step": "step's effect",
    "message": "message left",
    "report": "position was reported",
    "answer": "caller heard an answer",
}
