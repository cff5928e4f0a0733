"""The journal of one invocation: a state machine without I/O, clock, randomness or tasks.

The journal is one linear log of commands (what the handler asked for) and arrivals (what came back), in the order in
which they happened. Whoever drives the handler does, over and over: let it run dry; `advance`; deliver what that gives.

J1  A command takes its index when it is issued, never when it is awaited.
J2  Replay reads the log in order: at a command it waits for the handler to issue it and compares the two; at an arrival
    it delivers that one and lets the handler run dry before the next entry. Live execution obeys the same rule.
J3  A recorded arrival is never replaced, and an index is completed at most once.
J4  After a mismatch the machine stays BROKEN: it accepts nothing more and changes nothing.

All transitions of the machine's phase are in `TRANSITIONS`; a pair that is not there is illegal.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NoReturn

from streamstate.errors import JournalMismatchError
from streamstate.journal._entries import Arrival, Command, Completion, Entry, Kind, SignalArrived


class Phase(enum.Enum):
    REPLAYING = "replaying"
    LIVE = "live"
    ENDED = "ended"
    BROKEN = "broken"


class Step(enum.Enum):
    """What can happen to a machine."""

    CAUGHT_UP = "catch up"
    ISSUED = "issue a command"
    ARRIVED = "take an arrival"
    ENDED = "end"
    MISMATCHED = "mismatch"


TRANSITIONS: dict[tuple[Phase, Step], Phase] = {
    (Phase.REPLAYING, Step.ISSUED): Phase.REPLAYING,
    (Phase.REPLAYING, Step.CAUGHT_UP): Phase.LIVE,
    (Phase.REPLAYING, Step.MISMATCHED): Phase.BROKEN,
    (Phase.LIVE, Step.ISSUED): Phase.LIVE,
    (Phase.LIVE, Step.ARRIVED): Phase.LIVE,
    (Phase.LIVE, Step.ENDED): Phase.ENDED,
}

# Commands that get their outcome later, by a completion of their index.
# A get without an answer is one that had to wait for the next turn, because its turn was cut.
_DEFERRED = frozenset(
    {
        Kind.RUN,
        Kind.GET,
        Kind.SLEEP,
        Kind.CALL,
        Kind.AWAKEABLE,
        Kind.PROMISE,
        Kind.PEEK_PROMISE,
        Kind.ATTACH,
        Kind.SIGNAL,
    }
)
_COMPARED = ("kind", "name", "key", "body", "options")
_SHOWN_BYTES_MAX = 80  # enough to recognise a payload in a message


def pending_in(log: Sequence[Entry]) -> dict[int, Command]:
    """The commands of a log that have no outcome in it; timers that were cancelled are still among them."""
    pending: dict[int, Command] = {}
    number = 0
    for entry in log:
        if isinstance(entry, Command):
            if entry.result is None and entry.kind in _DEFERRED:
                pending[number] = entry
            number += 1
        elif isinstance(entry, Completion):
            pending.pop(entry.index, None)
    return pending


class Machine:
    """The journal of one invocation.

    Args:
        recorded: the log so far; empty for a new invocation.
        label: the invocation, as messages name it.
    """

    __slots__ = ("_cursor", "_phase", "_signals", "_waiting_signals", "commands", "label", "log", "pending")

    def __init__(self, recorded: Sequence[Entry] = (), label: str = "") -> None:
        self.log: list[Entry] = list(recorded)
        self.label = label
        self.commands = 0
        self.pending: dict[int, Command] = {}
        self._cursor = 0
        self._phase = Phase.REPLAYING if self.log else Phase.LIVE
        self._signals: dict[str, list[SignalArrived]] | None = None
        self._waiting_signals: dict[str, list[int]] | None = None

    @property
    def phase(self) -> Phase:
        return self._phase

    def is_next_new(self) -> bool:
        """True when the next command is not in the log, so that its answer must be found now."""
        if self._phase is Phase.REPLAYING and self._cursor == len(self.log):
            self._move(Step.CAUGHT_UP)
        return self._phase is Phase.LIVE

    def issue(self, command: Command) -> Command:
        """Take the handler's next command; its index is the value of `commands` before this call.

        Live, the command is recorded as it is, its `result` included. On replay the recorded command is returned, so
        that the caller reads the answer of then.

        Raises:
            JournalMismatchError: the log holds another command, or none, at this place.
        """
        index = self.commands
        if self._phase is Phase.LIVE:
            self.log.append(command)
            issued = command
        else:
            issued = self._replay(command)
        self.commands = index + 1
        if issued.result is None and issued.kind in _DEFERRED:
            self.pending[index] = issued
            if issued.kind == Kind.SIGNAL:
                self._await_signal(index, issued)
        return issued

    def advance(self) -> Arrival | None:
        """The handler ran dry: the next recorded arrival to deliver, or None when the log is used up.

        Raises:
            JournalMismatchError: the log goes on with a command that the handler did not issue.
        """
        if self._phase is not Phase.REPLAYING:
            return None
        if self._cursor == len(self.log):
            self._move(Step.CAUGHT_UP)
            return None
        entry = self.log[self._cursor]
        if isinstance(entry, Command):
            self._mismatch(entry, None)
        self._cursor += 1
        self._take(entry)
        return entry

    def arrive(self, arrival: Arrival) -> None:
        """Record something that came back, live."""
        self._move(Step.ARRIVED)
        self.log.append(arrival)
        self._take(arrival)

    def match_signal(self) -> tuple[int, SignalArrived] | None:
        """A signal that has arrived and the first command that waits for it, or None."""
        if not self._signals or not self._waiting_signals or self._phase is Phase.BROKEN:
            return None
        for name, waiting in self._waiting_signals.items():
            if waiting and (arrived := self._signals.get(name)):
                index = waiting.pop(0)
                self.pending.pop(index, None)
                return index, arrived.pop(0)
        return None

    def forget(self, index: int) -> None:
        """Nobody waits for this command any more (a timer or a wait for a signal that was cancelled)."""
        if self._phase is Phase.BROKEN:
            return
        command = self.pending.pop(index, None)
        if command is not None and command.kind == Kind.SIGNAL and self._waiting_signals:
            self._waiting_signals[command.name].remove(index)

    def end(self) -> None:
        """The handler has ended and everything it started was joined.

        Raises:
            JournalMismatchError: the log holds more than the handler did.
        """
        if self._phase is Phase.REPLAYING:
            if self._cursor < len(self.log):
                entry = self.log[self._cursor]
                self._mismatch(entry if isinstance(entry, Command) else None, None)
            self._move(Step.CAUGHT_UP)
        self._move(Step.ENDED)

    def _replay(self, command: Command) -> Command:
        if self._phase is not Phase.REPLAYING:
            self._move(Step.ISSUED)
        if self._cursor == len(self.log):
            self._move(Step.CAUGHT_UP)
            self.log.append(command)
            return command
        recorded = self.log[self._cursor]
        if not isinstance(recorded, Command) or any(getattr(recorded, f) != getattr(command, f) for f in _COMPARED):
            self._mismatch(recorded if isinstance(recorded, Command) else None, command)
        self._cursor += 1
        return recorded

    def _take(self, arrival: Arrival) -> None:
        if isinstance(arrival, Completion):
            self.pending.pop(arrival.index, None)
        elif isinstance(arrival, SignalArrived):
            if self._signals is None:
                self._signals = {}
            self._signals.setdefault(arrival.name, []).append(arrival)

    def _await_signal(self, index: int, command: Command) -> None:
        if self._waiting_signals is None:
            self._waiting_signals = {}
        self._waiting_signals.setdefault(command.name, []).append(index)

    def _move(self, step: Step) -> None:
        try:
            self._phase = TRANSITIONS[self._phase, step]
        except KeyError:
            raise RuntimeError(f"cannot {step.value}: the journal of {self.label} is {self._phase.value}") from None

    def _mismatch(self, recorded: Command | None, attempted: Command | None) -> NoReturn:
        self._move(Step.MISMATCHED)
        raise JournalMismatchError(
            f"the code of {self.label} does not fit its journal, at command {self.commands}.\n"
            f"  recorded:  {_show(recorded, 'nothing more here: it went on only when the next result arrived')}\n"
            f"  attempted: {_show(attempted, 'nothing: the handler ended or waits for something else')}\n"
            "A handler must issue the same commands in the same order on every attempt. Usual causes: code changed "
            "under a suspended invocation, or a branch on time, randomness or outside data read without ctx.run. "
            "Run the old code again and resume the invocation, or kill it."
        )


def _show(command: Command | None, otherwise: str) -> str:
    if command is None:
        return otherwise
    parts = [command.kind]
    if command.name:
        parts.append(repr(command.name))
    if command.key is not None:
        parts.append(f"key {command.key!r}")
    if command.body is not None:
        body = command.body[:_SHOWN_BYTES_MAX].decode("utf-8", "backslashreplace")
        parts.append(f"with {body}" + ("…" if len(command.body) > _SHOWN_BYTES_MAX else ""))
    if command.options:
        parts.append(f"options {command.options}")
    if command.site:
        parts.append(f"at {command.site}")
    return " ".join(parts)
