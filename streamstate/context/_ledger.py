"""What a handler asks for: its commands, and the state that it reads and writes.

The asking half of a session. Nothing is carried out here: a command goes into the journal, its effect into what the
turn has decided, and its answer, now or later, into a future.

E1  A command that is refused leaves nothing behind.
E2  On replay, a command is compared and answered from the journal, and decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from sys import _getframe
from types import CodeType
from typing import Any, TypeAlias

import msgspec

from streamstate.context._failures import error_of
from streamstate.context._loop import HandlerLoop
from streamstate.context._sites import line_of, user_line
from streamstate.context._tasks import HandlerFuture
from streamstate.context._texts import check_texts
from streamstate.context._timers import Timers, milliseconds_until
from streamstate.context._turns import Action, Decode, Setting, Turn
from streamstate.definitions import StateKey
from streamstate.errors import JournalMismatchError, RunawayTurnError
from streamstate.journal import Command, Entry, Failure, Kind, Machine, Option, Outcome, Success, seed_of

COMMANDS_PER_TURN_CUT = 1_000  # then the turn ends at the next read, so that a long handler commits on its way
COMMANDS_PER_TURN_MAX = 100_000  # a handler that never even awaits is stopped here
BYTES_PER_TURN_CUT = 4 * 1024 * 1024  # likewise, so that one commit stays small
NOTE_BYTES_FREE = BYTES_PER_TURN_CUT // COMMANDS_PER_TURN_CUT  # as many as may be noted are within the cut uncounted

_Note: TypeAlias = tuple[str, str, bytes | None, CodeType, int]  # kind, name, value, and where in the user's code


# The interpreter finds a global at once, and a method of a type in C anew each time.
_set_result = HandlerFuture.set_result


class Ledger:
    """See the module, and `Session` for the attributes."""

    # One is made for many events: slots for what each of them uses, defaults in the class for the rest.
    __slots__ = (
        "__dict__",
        "changes",
        "effects",
        "identity",
        "key",
        "loop",
        "notes",
        "setting",
        "started_ms",
        "values",
    )
    is_replaying = False
    actions: dict[int, Action] | None = None
    _machine: Machine | None = None
    _awaiting: dict[int, tuple[HandlerFuture[Any], Decode]] | None = None
    _timers: Timers | None = None
    _cancelled_timers: list[int] | None = None
    _persisted = 0
    _turn_start = 0
    _budget_bytes = BYTES_PER_TURN_CUT
    _counted: list[_Note] | None = None

    def __init__(
        self, setting: Setting, key: str, started_ms: int, values: Mapping[str, bytes], loop: HandlerLoop
    ) -> None:
        self.setting = setting
        self.key = key
        self.started_ms = started_ms
        self.values = values
        self.loop = loop
        self.changes: dict[str, bytes | None] | None = None
        self.effects: list[tuple[int, Command]] | None = None
        self.identity: str | None = None
        self.notes: list[_Note] | None = []

    @property
    def label(self) -> str:
        """The target, as messages name it."""
        spec = self.setting.spec
        return f"{spec.service}/{self.key}.{spec.name}" if spec.is_keyed else spec.target

    @property
    def invocation_id(self) -> str:
        if self.identity is None:
            self.identity = self.setting.identify(self)
        return self.identity

    @property
    def machine(self) -> Machine:
        """The journal; what was only noted so far is written into it first (S3)."""
        machine = self._machine
        return machine if machine is not None and self.notes is None else self._open_journal()

    def _open_journal(self) -> Machine:
        notes, self.notes = self.notes, None
        if notes is None:
            assert self._machine is not None, "there are notes or a journal"
            return self._machine
        self._machine = machine = Machine((), self.label)
        for kind, name, value, code, instruction in notes:
            site = line_of(code, instruction)
            if kind == Kind.GET:
                machine.issue(Command(kind, name, result=Success(value), site=site))
            else:
                machine.issue(Command(kind, name, body=value, site=site))
        return machine

    @property
    def next_index(self) -> int:
        """The index that the next command gets."""
        return self.machine.commands

    # The state. Reads and writes find the user's line two frames up.

    def read(self, name: str, key: StateKey[Any]) -> HandlerFuture[Any]:
        """The state of this name, decoded as that key says."""
        changes, notes = self.changes, self.notes
        raw = self.values.get(name) if changes is None or name not in changes else changes[name]
        if notes is None or len(notes) >= COMMANDS_PER_TURN_CUT:
            return self._read_journaled(name, key, raw)
        frame = _getframe(2)
        notes.append(("get", name, raw, frame.f_code, frame.f_lasti))
        future: HandlerFuture[Any] = HandlerFuture(loop=self.loop)
        decode = key.quick_decode
        try:
            _set_result(future, decode(raw) if raw is not None else key.missing and key.missing())
        except Exception:  # noqa: BLE001  # whatever it was, `decode` says why
            resolve(future, Success(raw), key.decode_optional)
        return future

    def write(self, name: str, value: bytes) -> None:
        """Set the state of this name."""
        notes = self.notes
        if notes is None:
            self._write_journaled(Kind.SET, name, value)
            return
        frame = _getframe(2)
        notes.append(("set", name, value, frame.f_code, frame.f_lasti))
        changes = self.changes
        if changes is None:
            self.changes = {name: value}
            return
        changes[name] = value
        if len(value) > NOTE_BYTES_FREE or len(notes) >= COMMANDS_PER_TURN_CUT:
            self._spend_noted(notes, len(value))

    def erase(self, name: str) -> None:
        """Clear the state of this name."""
        self._write_journaled(Kind.CLEAR, name, None)

    def clear_all(self) -> None:
        is_new = self.machine.is_next_new()
        self._record(Command(Kind.CLEAR_ALL, site=user_line()))
        if is_new:
            self.changes = dict.fromkeys((*self.values, *(self.changes or ())))

    def state_names(self) -> list[str]:
        """The names that have a value now."""
        merged: dict[str, bytes | None] = {**self.values, **(self.changes or {})}
        return sorted(name for name, value in merged.items() if value is not None)

    def _read_journaled(self, name: str, key: StateKey[Any], raw: bytes | None) -> HandlerFuture[Any]:
        machine = self.machine
        decode = key.decode_optional
        index = machine.commands
        result: Outcome | None = None
        if machine.is_next_new():
            if index - self._turn_start >= COMMANDS_PER_TURN_CUT or self._budget_bytes <= 0:
                # No answer yet: the turn ends here, commits, and the answer arrives as the next turn.
                return self.issue(Command(Kind.GET, name), decode)
            result = Success(raw)
        return self._answered(index, self._record(Command(Kind.GET, name, result=result, site=user_line())), decode)

    def _write_journaled(self, kind: str, name: str, value: bytes | None) -> None:
        machine = self.machine
        is_new = machine.is_next_new()
        self._record(Command(kind, name, body=value, site=user_line()))
        if is_new:
            if self.changes is None:
                self.changes = {}
            self.changes[name] = value
            self._spend(machine.commands, value)

    # All other commands.

    def issue(self, command: Command, decode: Decode, action: Action | None = None) -> HandlerFuture[Any]:
        """Issue a command; its answer is the future's result."""
        index, issued = self._submit(command)
        if action is not None:
            if self.actions is None:
                self.actions = {}
            self.actions[index] = action
        return self._answered(index, issued, decode)

    def answer(self, kind: str, name: str, find: Callable[[], Outcome | None], decode: Decode) -> HandlerFuture[Any]:
        """Issue a command whose answer may be known at once; it is looked for only when the command is new."""
        return self.issue(Command(kind, name, result=find() if self.machine.is_next_new() else None), decode)

    def _submit(self, command: Command) -> tuple[int, Command]:
        """Record a command and what follows from it; its index, and the command as it was recorded."""
        machine = self.machine
        index = machine.commands
        is_new = machine.is_next_new()
        issued = self._record(msgspec.structs.replace(command, site=user_line()))
        if is_new:
            if self.effects is None:
                self.effects = []
            self.effects.append((index, command))
            self._spend(index, command.body)
        return index, issued

    def _record(self, command: Command) -> Command:
        loop = self.loop
        if loop.violation is not None:
            raise loop.violation
        check_texts(command)
        try:
            return self.machine.issue(command)
        except JournalMismatchError as error:
            # A handler may catch it; the loop remembers, and the turn ends as a fault all the same.
            loop.condemn(error)
            raise

    def _answered(self, index: int, issued: Command, decode: Decode) -> HandlerFuture[Any]:
        future: HandlerFuture[Any] = HandlerFuture(loop=self.loop)
        if issued.result is not None:
            resolve(future, issued.result, decode)
        elif index not in self.machine.pending:
            resolve(future, Success(None), decode)
        else:
            if self._awaiting is None:
                self._awaiting = {}
            self._awaiting[index] = (future, decode)
            if issued.kind == Kind.SIGNAL:
                self._match_signals()
                if not future.done():
                    # One that is given up must not take the signal that another waits for.
                    future.add_done_callback(lambda _future: self._forget(index))
        return future

    def _complete(self, index: int, outcome: Outcome) -> None:
        if self._timers is not None and (handle := self._timers.fire(index)) is not None:
            self.loop.push(handle)
            return
        if self.actions:
            self.actions.pop(index, None)
        if self._awaiting and (awaiting := self._awaiting.pop(index, None)) is not None:
            resolve(awaiting[0], outcome, awaiting[1])

    def _match_signals(self) -> None:
        while (match := self.machine.match_signal()) is not None:
            self._complete(match[0], match[1].outcome)

    def _forget(self, index: int) -> None:
        if self._awaiting:
            self._awaiting.pop(index, None)
        self.machine.forget(index)

    # The bounds of a turn.

    def _spend(self, index: int, body: bytes | None) -> None:
        if body is not None:
            self._budget_bytes -= len(body)
        if index - self._turn_start >= COMMANDS_PER_TURN_MAX:
            error = RunawayTurnError(
                f"the handler issued {COMMANDS_PER_TURN_MAX:,} commands in one turn, at {self.loop.whereabouts()}. "
                "Await something durable in the loop, or split the work over several invocations"
            )
            self.loop.condemn(error)
            raise error

    def _spend_noted(self, notes: list[_Note], size: int) -> None:
        """Count a large value; past a bound the turn goes on with a journal, whose reads look at the bounds."""
        if self._counted is not notes:
            # Notes of another handler than the last: the session serves many.
            self._counted = notes
            self._budget_bytes = BYTES_PER_TURN_CUT
            size = sum(len(value) for kind, _, value, _, _ in notes if kind == Kind.SET and value is not None)
        self._budget_bytes -= size
        if self._budget_bytes <= 0 or len(notes) >= COMMANDS_PER_TURN_CUT:
            self._spend(self.machine.commands, None)

    # For the loop: what asyncio.sleep, asyncio.timeout and call_later come to.

    @property
    def seed(self) -> int:
        return seed_of(self.invocation_id)

    def start_timer(self, handle: asyncio.TimerHandle) -> None:
        options: dict[str, Option] = {"wake_ms": self.started_ms + milliseconds_until(handle.when())}
        index, _ = self._submit(Command(Kind.SLEEP, options=options))
        if self._timers is None:
            self._timers = Timers()
        self._timers.add(index, handle)

    def cancel_timer(self, handle: asyncio.TimerHandle) -> None:
        index = self._timers.cancel(handle) if self._timers is not None else None
        if index is None:
            return
        self.machine.forget(index)
        if not self.is_replaying:
            if self._cancelled_timers is None:
                self._cancelled_timers = []
            self._cancelled_timers.append(index)

    # What a turn decided.

    def take_turn(self) -> Turn:
        turn = Turn(self.changes, self.effects, self._cancelled_timers)
        self.changes = None
        self.effects = None
        self._cancelled_timers = None
        return turn

    def take_entries(self) -> tuple[int, list[Entry]]:
        """The entries since the last call, and the place of the first."""
        position = self._persisted
        log = self.machine.log
        self._persisted = len(log)
        return position, log[position:]


def resolve(future: HandlerFuture[Any], outcome: Outcome, decode: Decode) -> None:
    """Give a future its outcome, unless it has one."""
    if future.done():
        return
    if isinstance(outcome, Failure):
        future.set_exception(error_of(outcome))
        return
    try:
        value = decode(outcome.value)
    except Exception as error:  # noqa: BLE001  # the handler awaits it
        future.set_exception(error)
    else:
        future.set_result(value)
