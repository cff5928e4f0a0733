"""One invocation's handler, run against its journal.

The session joins the sans-IO journal to the handler's loop: the verbs of the context become commands, arrivals become
results of futures. It does no I/O; an engine drives it:

    session.start(...)            the first turn, or a whole replay
    session.arrive(arrival)       one more turn
    session.outcome               how the turn ended: Ended, Failed or Blocked
    session.take_turn()           what the turn decided, to be committed

S1  A turn's effects are collected, never carried out here.
S2  What was read or decided in an earlier, committed turn is taken from the journal.
S3  Until a handler does more than read and write state, its commands are only noted: most handlers end like that, and
    then no journal is ever made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from sys import _getframe
from types import CodeType
from typing import Any, TypeAlias

import msgspec

from streamstate.context._cancelling import cancel_waiters, cancelled
from streamstate.context._failures import error_of, failure_of, is_fault
from streamstate.context._loop import HandlerLoop
from streamstate.context._sites import line_of, user_line
from streamstate.context._tasks import HandlerFuture, RootTask
from streamstate.context._turns import BLOCKED, ENDED_EMPTY, Action, Decode, Ended, Failed, Setting, Turn, TurnOutcome
from streamstate.definitions import Record, StateKey
from streamstate.errors import ForeignAwaitError, InputError, JournalMismatchError, RunawayTurnError, SerdeError
from streamstate.journal import (
    Arrival,
    CancelArrived,
    Command,
    Completion,
    Entry,
    Failure,
    Kind,
    Machine,
    Option,
    Outcome,
    Phase,
    SignalArrived,
    Success,
)

_logger = logging.getLogger("streamstate.handler")

COMMANDS_PER_TURN_CUT = 1_000  # then the turn ends at the next read, so that a long handler commits on its way
COMMANDS_PER_TURN_MAX = 100_000  # a handler that never even awaits is stopped here
BYTES_PER_TURN_CUT = 4 * 1024 * 1024  # likewise, so that one commit stays small

_NO_HEADERS: Mapping[str, str] = {}
_Note: TypeAlias = tuple[str, str, bytes | None, CodeType, int]  # kind, name, value, and where in the user's code


class Session:
    """See the module.

    Args:
        setting: what all invocations of the handler share.
        key: the object's key; empty for services.
        started_ms: the moment of the first turn, the same on every attempt.
        values: the state; changes of this turn are kept beside it.
        recorded: the journal to replay.

    Attributes:
        record, headers: what came with the input. attempt: attempts that failed before this one.
        notes: commands not yet in the journal (S3); None when there is a journal.
        changes, effects: what the present turn has decided so far; see `Turn`.
    """

    # A session is made for every event: slots for what each of them uses, defaults in the class for the rest.
    __slots__ = (
        "__dict__",
        "changes",
        "effects",
        "identity",
        "key",
        "loop",
        "notes",
        "outcome",
        "record",
        "root",
        "setting",
        "started_ms",
        "values",
    )
    headers: Mapping[str, str] = _NO_HEADERS
    attempt = 0
    actions: dict[int, Action] | None = None
    _machine: Machine | None = None
    _awaiting: dict[int, tuple[HandlerFuture[Any], Decode]] | None = None
    _timers: dict[int, asyncio.TimerHandle] | None = None
    _timer_index: dict[int, int] | None = None
    _cancelled_timers: list[int] | None = None
    _persisted = 0
    _turn_start = 0
    _budget_bytes = BYTES_PER_TURN_CUT
    _leftovers_cancelled = False

    def __init__(
        self,
        setting: Setting,
        key: str,
        started_ms: int,
        values: Mapping[str, bytes],
        loop: HandlerLoop,
        recorded: Sequence[Entry] = (),
    ) -> None:
        self.setting = setting
        self.key = key
        self.started_ms = started_ms
        self.values = values
        self.loop = loop
        self.root = RootTask(loop)
        self.record: Record | None = None
        self.outcome: TurnOutcome = BLOCKED
        self.changes: dict[str, bytes | None] | None = None
        self.effects: list[tuple[int, Command]] | None = None
        self.identity: str | None = None
        self.notes: list[_Note] | None = []
        loop.timers = self
        loop.root = self.root
        if recorded:
            self.notes = None
            self._machine = Machine(recorded, self.label)
            self._persisted = len(recorded)

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
        notes = self.notes
        if notes is not None:
            self.notes = None
            self._machine = machine = Machine((), self.label)
            for kind, name, value, code, instruction in notes:
                site = line_of(code, instruction)
                if kind == Kind.GET:
                    machine.issue(Command(kind, name, result=Success(value), site=site))
                else:
                    machine.issue(Command(kind, name, body=value, site=site))
        assert self._machine is not None
        return self._machine

    @property
    def is_replaying(self) -> bool:
        return self.notes is None and not self.machine.is_next_new()

    @property
    def next_index(self) -> int:
        """The index that the next command gets."""
        return self.machine.commands

    # Driving: the running loop must be `self.loop` in these.

    def run_at_once(
        self,
        handler: Coroutine[Any, Any, Any],
        key: str,
        started_ms: int,
        values: Mapping[str, bytes],
        record: Record,
    ) -> bool:
        """Run a handler in a session that was used before and left no trace; `root` must be the current task.

        True when it ended in this turn, returned nothing, and did nothing but read and write state, or issue commands
        that nobody waits for: then only `changes` and `effects` are to be looked at.
        """
        self.key = key
        self.started_ms = started_ms
        self.values = values
        self.record = record
        self.changes = None
        self.notes = []
        root, loop = self.root, self.loop
        loop.number = 0
        try:
            root.start(handler)
        except SystemExit as error:
            self._fail(error)
            return False
        if root.is_done and root.exception is None and root.result is None and not loop.is_touched:
            if self.notes is not None or self._is_finished():
                self.outcome = ENDED_EMPTY
                return self.setting.is_silent
        self._settle()
        return False

    def start(self, handler: Coroutine[Any, Any, Any]) -> None:
        """Run the handler's first turn; with a journal, run all of it."""
        root = self.root
        root.enter()
        try:
            root.start(handler)
        except SystemExit as error:
            self._fail(error)
            return
        finally:
            root.leave()
        self._settle()
        if self._machine is not None and self._machine.phase is Phase.REPLAYING:
            self._replay(self._machine)

    def _is_finished(self) -> bool:
        return not self.machine.pending

    def start_encoded(self, context: object, payload: bytes, decode: Callable[[bytes], Any]) -> None:
        """Like `start`, with a payload still to be decoded; one that does not fit ends the invocation."""
        try:
            argument = decode(payload)
        except SerdeError as error:
            self._fail(InputError(f"{self.setting.spec.target} cannot take this payload: {error}"))
            return
        self.start(self.setting.spec.function(context, argument))

    def arrive(self, arrival: Arrival) -> None:
        """Record an arrival and run the turn that it starts."""
        machine = self.machine
        machine.arrive(arrival)
        self._turn_start = machine.commands
        self._budget_bytes = BYTES_PER_TURN_CUT
        self._deliver(arrival)

    def close(self) -> None:
        """Drop the handler where it stands; its `finally` blocks run, its verbs are refused."""
        self.loop.violation = ForeignAwaitError("the invocation has left memory")
        closing: list[Callable[[], object]] = []
        for task in self.loop.live_tasks():
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  # dropped on purpose
            closing.append(task.get_coro().close)
        self.loop.tasks.clear()
        if not self.root.is_done:
            closing.append(self.root.close)
        for close in closing:
            try:
                close()
            except RuntimeError as error:
                # It awaits in a `finally`, which it cannot outside its loop; its next replay runs that.
                _logger.debug("%s left memory inside a finally block: %s", self.label, error)

    def _replay(self, machine: Machine) -> None:
        while not isinstance(self.outcome, Failed):
            try:
                arrival = machine.advance()
            except JournalMismatchError as error:
                self._fail(error)
                return
            if arrival is None:
                self._settle()
                return
            self._deliver(arrival)

    def _deliver(self, arrival: Arrival) -> None:
        loop = self.loop
        loop.now_s = max(loop.now_s, (arrival.at_ms - self.started_ms) / 1000)
        if isinstance(arrival, Completion):
            self._complete(arrival.index, arrival.outcome)
        elif isinstance(arrival, SignalArrived):
            self._match_signals()
        else:
            self._cancel(arrival)
        self._settle()

    def _complete(self, index: int, outcome: Outcome) -> None:
        if self._timers and (handle := self._timers.pop(index, None)) is not None:
            if self._timer_index is not None:
                self._timer_index.pop(id(handle), None)
            self.loop.push(handle)
            return
        if self.actions:
            self.actions.pop(index, None)
        if self._awaiting and (awaiting := self._awaiting.pop(index, None)) is not None:
            _resolve(awaiting[0], outcome, awaiting[1])

    def _match_signals(self) -> None:
        while (match := self.machine.match_signal()) is not None:
            self._complete(match[0], match[1].outcome)

    def _cancel(self, arrival: CancelArrived) -> None:
        if arrival.raised:
            # A call has told the handler already; what it began since then, a compensation say, is not touched.
            return
        machine = self.machine
        for index, command in list(machine.pending.items()):
            if command.kind == Kind.RUN:
                # Not running now (a driver waits for those that do), so it will not run again.
                machine.forget(index)
                self._complete(index, failure_of(cancelled()) or Success())
        cancel_waiters(self.loop)

    def _settle(self) -> None:
        """Run dry, then say how the turn ended."""
        loop, root = self.loop, self.root
        try:
            if loop.ready:
                loop.drain()
            if loop.violation is not None:
                raise loop.violation
            if not root.is_done:
                self._block()
            elif (loop.tasks or self.notes is None) and self._has_more():
                self.outcome = BLOCKED
            else:
                self._finish(root)
        except (ForeignAwaitError, RunawayTurnError, JournalMismatchError, SystemExit) as error:
            self._fail(error)

    def _block(self) -> None:
        self.outcome = BLOCKED
        machine = self.machine
        if not machine.pending and machine.is_next_new():
            self.loop.refuse("await on something that no durable verb will complete")

    def _has_more(self) -> bool:
        """The handler has returned: cancel the tasks it leaves behind; True while they or its steps go on."""
        loop, machine = self.loop, self.machine
        if loop.tasks and not self._leftovers_cancelled:
            self._leftovers_cancelled = True
            for task in loop.live_tasks():
                task.cancel()
            loop.drain()
        if not machine.is_next_new():
            return True
        return any(command.kind == Kind.RUN for command in machine.pending.values())

    def _finish(self, root: RootTask) -> None:
        if root.exception is not None:
            self._fail(root.exception)
        elif root.result is None and self.setting.is_silent:
            self.outcome = ENDED_EMPTY
        else:
            try:
                self.outcome = Ended(Success(self.setting.spec.output.encode(root.result)))
            except Exception as error:  # noqa: BLE001  # kept as the outcome of the attempt
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        violation = self.loop.violation
        if violation is not None:
            error = violation
        failure = failure_of(error)
        if failure is not None and self.machine.is_next_new():
            self.outcome = Ended(failure)
        else:
            self.outcome = Failed(error, is_fault(error))

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

    # The verbs, for the context. Those of the state find the user's line two frames up.

    def read(self, name: str, key: StateKey[Any]) -> HandlerFuture[Any]:
        """The state of this name, decoded as that key says."""
        changes = self.changes
        raw = changes[name] if changes is not None and name in changes else self.values.get(name)
        notes = self.notes
        if notes is None or len(notes) >= COMMANDS_PER_TURN_CUT:
            return self._read_journaled(name, key, raw)
        frame = _getframe(2)
        notes.append(("get", name, raw, frame.f_code, frame.f_lasti))
        loop = self.loop
        future: HandlerFuture[Any] = HandlerFuture(loop=loop)
        loop.number = future.number = loop.number + 1
        try:
            future.set_result(key.quick_decode(raw) if raw is not None else key.missing and key.missing())
        except Exception:  # noqa: BLE001  # whatever it was, `decode` says why
            _resolve(future, Success(raw), key.decode_optional)
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
        if len(notes) >= COMMANDS_PER_TURN_CUT:
            self._spend(self.machine.commands, value)

    def erase(self, name: str) -> None:
        """Clear the state of this name."""
        self._write_journaled(Kind.CLEAR, name, None)

    def _read_journaled(self, name: str, key: StateKey[Any], raw: bytes | None) -> HandlerFuture[Any]:
        machine = self.machine
        decode = key.decode_optional
        if machine.is_next_new():
            if machine.commands - self._turn_start < COMMANDS_PER_TURN_CUT and self._budget_bytes > 0:
                return self._issue(Command(Kind.GET, name, result=Success(raw), site=user_line()), decode)
            # No answer yet: the turn ends here, commits, and the answer arrives as the next turn.
            return self.issue(Command(Kind.GET, name), decode)
        return self._issue(Command(Kind.GET, name, site=user_line()), decode)

    def _write_journaled(self, kind: str, name: str, value: bytes | None) -> None:
        machine = self.machine
        is_new = machine.is_next_new()
        self._issue(Command(kind, name, body=value, site=user_line()), _no_value)
        if is_new:
            if self.changes is None:
                self.changes = {}
            self.changes[name] = value
            self._spend(machine.commands, value)

    def clear_all(self) -> None:
        is_new = self.machine.is_next_new()
        self._issue(Command(Kind.CLEAR_ALL, site=user_line()), _no_value)
        if is_new:
            self.changes = dict.fromkeys((*self.values, *(self.changes or ())))

    def state_names(self) -> list[str]:
        """The names that have a value now."""
        merged: dict[str, bytes | None] = {**self.values, **(self.changes or {})}
        return sorted(name for name, value in merged.items() if value is not None)

    def issue(self, command: Command, decode: Decode, action: Action | None = None) -> HandlerFuture[Any]:
        """Issue any other command."""
        if self.loop.violation is not None:
            raise self.loop.violation
        machine = self.machine
        index = machine.commands
        is_new = machine.is_next_new()
        if action is not None:
            if self.actions is None:
                self.actions = {}
            self.actions[index] = action
        future = self._issue(msgspec.structs.replace(command, site=user_line()), decode)
        if is_new:
            if self.effects is None:
                self.effects = []
            self.effects.append((index, command))
            self._spend(index, command.body)
        return future

    def answer(self, kind: str, name: str, find: Callable[[], Outcome | None], decode: Decode) -> HandlerFuture[Any]:
        """Issue a command whose answer may be known at once; it is looked for only when the command is new."""
        return self.issue(Command(kind, name, result=find() if self.machine.is_next_new() else None), decode)

    def _issue(self, command: Command, decode: Decode) -> HandlerFuture[Any]:
        machine = self.machine
        index = machine.commands
        try:
            issued = machine.issue(command)
        except JournalMismatchError as error:
            # A handler may catch it; the loop remembers, and the turn ends as a fault all the same.
            self.loop.violation = error
            raise
        future = self.loop.create_future()
        if issued.result is not None:
            _resolve(future, issued.result, decode)
        elif index in machine.pending:
            if self._awaiting is None:
                self._awaiting = {}
            self._awaiting[index] = (future, decode)
            if issued.kind == Kind.SIGNAL:
                self._match_signals()
        else:
            _resolve(future, Success(None), decode)
        return future

    def _spend(self, index: int, body: bytes | None) -> None:
        if body is not None:
            self._budget_bytes -= len(body)
        if index - self._turn_start >= COMMANDS_PER_TURN_MAX:
            self.loop.violation = RunawayTurnError(
                f"the handler issued {COMMANDS_PER_TURN_MAX:,} commands in one turn, at {self.loop.whereabouts()}. "
                "Await something durable in the loop, or split the work over several invocations"
            )
            raise self.loop.violation

    # TimerHost: what asyncio.sleep, asyncio.timeout and call_later come to.

    def start_timer(self, handle: asyncio.TimerHandle) -> None:
        index = self.machine.commands
        wake_ms = self.started_ms + round(handle.when() * 1000)
        options: dict[str, Option] = {"wake_ms": wake_ms}
        if self._timers is None:
            self._timers, self._timer_index = {}, {}
        assert self._timer_index is not None
        self._timers[index] = handle
        self._timer_index[id(handle)] = index
        self.issue(Command(Kind.SLEEP, options=options), _no_value)

    def cancel_timer(self, handle: asyncio.TimerHandle) -> None:
        index = self._timer_index.pop(id(handle), None) if self._timer_index else None
        if index is None or self._timers is None:
            return
        del self._timers[index]
        if self._awaiting:
            self._awaiting.pop(index, None)
        self.machine.forget(index)
        if self.machine.is_next_new():
            if self._cancelled_timers is None:
                self._cancelled_timers = []
            self._cancelled_timers.append(index)


def _no_value(_raw: bytes | None) -> None:
    return None


def _resolve(future: HandlerFuture[Any], outcome: Outcome, decode: Decode) -> None:
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
