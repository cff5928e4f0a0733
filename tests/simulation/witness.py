"""What is seen of a run from outside of the engine: the trace, what broke a rule, and how much of it was put to work.

Handlers and actions tell their witness here. One run at a time has the stage: `current` is its witness.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import NamedTuple


class Violation(NamedTuple):
    """A rule that was broken: its number in the architecture (I1 to I12), and how."""

    rule: str
    text: str


class Promised(NamedTuple):
    """A completion of an awakeable that the outside world owes: when, and which value."""

    due_s: float
    value: str


class Witness:
    """See the module.

    Attributes:
        now_ms: the engine's clock as this run knows it, reckoned without the engine.
        durable: results of steps that are on disk, by tag and step; kept by the audit.
        asked: steps whose command is on disk, by tag and step; kept by the audit.
        runs: how often each action was begun. active: actions that run now, by object and then by tag.
        owed: completions of awakeables to come, by id.
        struck: invocations that somebody cancelled or killed, by tag.
        fails_left: failures that are still to be raised, by tag and place.
        dues: when delayed ones may begin, by tag. delayed: all that were.
        refused: calls that would have been cycles: caller, service, key.
    """

    def __init__(self, is_tracing: bool) -> None:
        self.is_tracing = is_tracing
        self.trace: list[str] = []
        self.violations: list[Violation] = []
        self.exercised: Counter[str] = Counter()
        self.now_ms: Callable[[], float] = lambda: 0.0
        self.now_s: Callable[[], float] = lambda: 0.0
        self.durable: dict[tuple[str, str], bytes | None] = {}
        self.asked: set[tuple[str, str]] = set()
        self.runs: Counter[tuple[str, str]] = Counter()
        self.active: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.owed: dict[str, Promised] = {}
        self.struck: dict[str, str] = {}
        self.fails_left: dict[tuple[str, str], int] = {}
        self.begun: Counter[str] = Counter()
        self.timers: dict[tuple[str, str], float] = {}
        self.dues: dict[str, float] = {}
        self.delayed: set[str] = set()
        self.refused: set[tuple[str, str, str]] = set()
        self.handed_out: Callable[[str], None] = lambda awakeable: None

    def note(self, what: str, *details: object) -> None:
        """One line of the trace."""
        if self.is_tracing:
            text = " ".join(str(detail) for detail in details)
            self.trace.append(f"{self.now_s():10.4f}  {what:<10} {text}")

    def violate(self, rule: str, text: str) -> None:
        self.note("VIOLATION", rule, text)
        self.violations.append(Violation(rule, text))

    def count(self, what: str, number: int = 1) -> None:
        self.exercised[what] += number

    def digest(self) -> str:
        """The trace in short: the same for the same run."""
        return hashlib.blake2b("\n".join(self.trace).encode(), digest_size=12).hexdigest()

    def _beside(self, ident: tuple[str, str] | None, tag: str) -> list[str]:
        """Whose actions run on this object too; only a kill does not wait for actions, those of its calls too."""
        if ident is None:
            return []
        return [other for other in self.active[ident] if other != tag and not self._is_killed(other)]

    def _is_killed(self, tag: str) -> bool:
        parts = tag.split(".")
        return any(self.struck.get(".".join(parts[:n])) == "kill" for n in range(1, len(parts) + 1))

    # Told by handlers.

    def begin(self, ident: tuple[str, str] | None, tag: str) -> None:
        """A handler begins, or is replayed from its beginning."""
        self.begun[tag] += 1
        if self.begun[tag] > 1:
            self.count("replays")
        self.note("handler", tag, "begins")
        if self.now_ms() < self.dues.get(tag, 0.0) - 1:  # both clocks round to a millisecond
            self.violate("I6", f"{tag} begins {self.dues[tag] - self.now_ms():.1f} ms before its delay is over")
        others = self._beside(ident, tag)
        if others:
            self.violate("I4", f"{tag} begins on {ident} while an action of {others} runs")

    def fail_again(self, tag: str, at: str, times: int) -> bool:
        """Whether the failure at this place is to be raised once more."""
        left = self.fails_left.setdefault((tag, at), times)
        if left:
            self.fails_left[tag, at] = left - 1
            self.count("failures raised")
        return left > 0

    def start_timer(self, tag: str, at: str) -> None:
        self.timers[tag, at] = self.now_ms()

    def delay(self, tag: str, ms: int, is_shared: bool) -> None:
        """It must not begin earlier, unless others ask for it by the same idempotency key, perhaps without delay."""
        self.delayed.add(tag)
        if not is_shared:
            self.dues[tag] = self.now_ms() + ms

    def end_timer(self, tag: str, at: str, ms: int) -> None:
        """I6: a timer fires never before its time."""
        started = self.timers.get((tag, at))
        self.count("timers")
        if started is None:
            self.violate("I6", f"a timer of {tag} at {at} fired that was never set")
        elif self.now_ms() - started < ms - 1:  # both clocks round to a millisecond
            self.violate("I6", f"a timer of {tag} at {at} over {ms} ms fired after {self.now_ms() - started:.1f}")

    # Told by actions.

    def start_action(self, ident: tuple[str, str] | None, tag: str, at: str) -> int:
        """I1 and I3: only what is decided on disk runs, and nothing whose result is."""
        self.runs[tag, at] += 1
        number = self.runs[tag, at]
        self.note("action", tag, at, "run", number)
        self.count("actions")
        if number > 1:
            self.count("actions run again")
        if (tag, at) in self.durable:
            self.violate(
                "I3", f"the action of {tag} at {at} runs again, its result is durable: {self.durable[tag, at]!r}"
            )
        if (tag, at) not in self.asked:
            self.violate("I1", f"the action of {tag} at {at} runs before the turn that decided it is durable")
        if ident is not None:
            others = self._beside(ident, tag)
            if others:
                self.violate("I4", f"an action of {tag} runs on {ident} beside one of {others}")
            self.active[ident][tag] += 1
        return number

    def end_action(self, ident: tuple[str, str] | None, tag: str) -> None:
        if ident is not None:
            running = self.active[ident]
            running[tag] -= 1
            if running[tag] <= 0:
                del running[tag]

    def check_result(self, tag: str, at: str, value: str) -> None:
        """I3: a handler sees the result of its own step, and always the one that is durable."""
        if not value.startswith(f"{tag}/{at}#"):
            self.violate("I3", f"the step of {tag} at {at} gave {value!r}, a result of another")
        kept = self.durable.get((tag, at))
        if kept is not None and kept != f'"{value}"'.encode():
            self.violate("I3", f"the step of {tag} at {at} gave {value!r}, durable is {kept!r}")

    def hand_out(self, awakeable: str, value: str, ms: int) -> None:
        """The outside world has been told of an awakeable, and is to complete it."""
        self.owed.setdefault(awakeable, Promised(self.now_s() + ms / 1000, value))
        self.handed_out(awakeable)

    def crash(self) -> None:
        """What ran, runs no more."""
        self.active.clear()


_stage: list[Witness] = []


def current() -> Witness:
    """The witness of the run that is on."""
    return _stage[-1]


def enter(witness: Witness) -> None:
    _stage.append(witness)


def leave() -> None:
    _stage.pop()
