"""One invocation's handler, run against its journal.

The session joins the sans-IO journal to the handler's loop: the verbs of the context become commands, arrivals become
results of futures. It does no I/O; an engine drives it:

    session.start(...)            the first turn, or a whole replay
    session.deliver(arrival)      one more turn
    session.outcome               how the turn ended: Ended, Failed or Blocked
    session.take_turn()           what the turn decided, to be committed

S1  A turn's effects are collected, never carried out here.
S2  What was read or decided in an earlier, committed turn is taken from the journal.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from types import CodeType, FrameType
from typing import Any, NamedTuple, cast

import msgspec

from streamstate.context._failures import error_of, failure_of, is_fault
from streamstate.context._loop import HandlerLoop
from streamstate.context._tasks import HandlerFuture, RootTask
from streamstate.definitions import HandlerSpec, Record, Step
from streamstate.errors import (
    CancelledError,
    ForeignAwaitError,
    InputError,
    JournalMismatchError,
    RunawayTurnError,
    SerdeError,
)
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

_UNDECODED: Any = object()

Decode = Callable[[bytes | None], Any]


class Input(msgspec.Struct, frozen=True):
    """What an invocation starts from.

    Attributes:
        label: the target, as messages name it; `Service/key.handler`.
        argument: decodes the payload; None where the handler takes none.
        identify: gives the invocation's id for this input; deferred, since most events never need it.
        clock: the engine's clock, milliseconds.
        started_ms: the moment of the first turn, the same on every attempt.
        attempt: attempts that failed before this one.
        find: the spec of a handler by name; raises NotFoundError.
    """

    spec: HandlerSpec
    key: str
    payload: bytes
    decode: Callable[[bytes], Any] | None
    headers: Mapping[str, str]
    record: Record | None
    identify: Callable[[Input], str]
    clock: Callable[[], int]
    started_ms: int
    attempt: int
    find: Callable[[str, str], HandlerSpec]


class Action(NamedTuple):
    """What a step runs, outside the handler's loop."""

    step: Step
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    encode: Callable[[Any], bytes]


class Ended(msgspec.Struct, frozen=True):
    """The handler has ended and everything it started was joined."""

    outcome: Outcome


class Failed(msgspec.Struct, frozen=True):
    """The attempt failed; a fault is not to be retried."""

    error: BaseException
    is_fault: bool


class Blocked(msgspec.Struct, frozen=True):
    """The handler waits for something to arrive."""


_BLOCKED = Blocked()
_ENDED_EMPTY = Ended(Success(None))


class Turn(NamedTuple):
    """What a turn decided.

    Attributes:
        changes: state by name; None clears.
        effects: new commands with their index, in order; reads are not among them.
        cancelled_timers: indexes of sleep commands that nobody waits for any more.
    """

    changes: dict[str, bytes | None] | None
    effects: list[tuple[int, Command]] | None
    cancelled_timers: list[int] | None


class Session:
    """See the module."""

    __slots__ = (
        "_awaiting",
        "_budget_bytes",
        "_cancelled_timers",
        "_changes",
        "_effects",
        "_identity",
        "_leftovers_cancelled",
        "_persisted",
        "_sites",
        "_timer_index",
        "_timers",
        "_turn_start",
        "actions",
        "input",
        "loop",
        "machine",
        "outcome",
        "root",
        "values",
    )

    def __init__(self, given: Input, values: Mapping[str, bytes], machine: Machine, loop: HandlerLoop) -> None:
        self.input = given
        self.values = values
        self.machine = machine
        self.loop = loop
        self.root: RootTask | None = None
        self.outcome: Ended | Failed | Blocked = _BLOCKED
        self.actions: dict[int, Action] | None = None
        self._identity: str | None = None
        self._awaiting: dict[int, tuple[HandlerFuture[Any], Decode]] | None = None
        self._timers: dict[int, asyncio.TimerHandle] | None = None
        self._timer_index: dict[int, int] | None = None
        self._changes: dict[str, bytes | None] | None = None
        self._effects: list[tuple[int, Command]] | None = None
        self._cancelled_timers: list[int] | None = None
        self._sites: dict[int, tuple[CodeType, int]] = {}
        self._persisted = len(machine.log)
        self._turn_start = 0
        self._budget_bytes = BYTES_PER_TURN_CUT
        self._leftovers_cancelled = False

    @property
    def invocation_id(self) -> str:
        if self._identity is None:
            self._identity = self.input.identify(self.input)
        return self._identity

    @property
    def is_replaying(self) -> bool:
        return not self.machine.is_next_new()

    @property
    def now_ms(self) -> int:
        """The moment of this turn, the same on every replay."""
        return self.input.started_ms + round(self.loop.now_s * 1000)

    # Driving: the running loop must be `self.loop` in these three.

    def start(self, context: object, argument: Any = _UNDECODED) -> None:
        """Run the first turn; with a journal, run all of it. `argument` is the payload where it is decoded already."""
        given = self.input
        try:
            if given.decode is None:
                coro = given.spec.function(context)
            elif argument is _UNDECODED:
                coro = given.spec.function(context, given.decode(given.payload))
            else:
                coro = given.spec.function(context, argument)
        except SerdeError as error:
            self._fail(InputError(f"{given.spec.target} cannot take this payload: {error}"))
            return
        loop = self.loop
        self.root = root = RootTask(cast(Coroutine[Any, Any, Any], coro), loop)
        loop.adopt(self, root)
        try:
            root.start()
            self._settle()
            if self.machine.phase is Phase.REPLAYING:
                self._replay()
        except SystemExit as error:
            self._fail(error)

    def arrive(self, arrival: Arrival) -> None:
        """Record an arrival and run the turn that it starts."""
        self.machine.arrive(arrival)
        self._turn_start = self.machine.commands
        self._budget_bytes = BYTES_PER_TURN_CUT
        try:
            self._deliver(arrival)
        except SystemExit as error:
            self._fail(error)

    def close(self) -> None:
        """Drop the handler where it stands; its `finally` blocks run, its verbs are refused."""
        self.loop.violation = ForeignAwaitError("the invocation has left memory")
        coros = []
        for task in self.loop.live_tasks():
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  # dropped on purpose
            coros.append(task.get_coro())
        self.loop.tasks.clear()
        if self.root is not None and not self.root.done():
            coros.append(self.root.get_coro())
        for coro in coros:
            try:
                coro.close()
            except RuntimeError as error:
                # It awaits in a `finally`, which it cannot outside its loop; its next replay runs that.
                _logger.debug("%s left memory inside a finally block: %s", self.machine.label, error)

    def _replay(self) -> None:
        machine = self.machine
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
        loop.now_s = max(loop.now_s, (arrival.at_ms - self.input.started_ms) / 1000)
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
        """Raise in every task that awaits something of its own, in task order; those that await tasks hear from them."""
        machine = self.machine
        for index, command in list(machine.pending.items()):
            if command.kind == Kind.RUN:
                # Not running now (a driver waits for those that do), so it will not run again.
                machine.forget(index)
                self._complete(index, failure_of(_cancelled()) or Success())
        if arrival.raised or self.root is None:
            return
        for task in (self.root, *self.loop.live_tasks()):
            waiter = task.waiter if isinstance(task, RootTask) else task._fut_waiter  # type: ignore[attr-defined]  # noqa: SLF001
            if waiter is None or waiter.done() or isinstance(waiter, asyncio.Task) or _awaits_group(task):
                continue
            waiter.set_exception(_cancelled())

    def _settle(self) -> None:
        """Run dry, then say how the turn ended."""
        loop, root, machine = self.loop, self.root, self.machine
        assert root is not None
        try:
            if loop._ready:  # noqa: SLF001  # one attribute read instead of a call, on the hot path
                loop.drain()
            if loop.violation is not None:
                raise loop.violation
            if not root.done():
                self.outcome = _BLOCKED
                if not machine.pending and machine.is_next_new():
                    loop.refuse("await on something that no durable verb will complete")
                return
            if loop.tasks and not self._leftovers_cancelled:
                self._leftovers_cancelled = True
                for task in loop.live_tasks():
                    task.cancel()
                loop.drain()
            if not machine.is_next_new() or (machine.pending and self._has_open_steps()):
                self.outcome = _BLOCKED
                return
            self._finish(root)
        except (ForeignAwaitError, RunawayTurnError, JournalMismatchError) as error:
            self._fail(error)

    def _has_open_steps(self) -> bool:
        return any(command.kind == Kind.RUN for command in self.machine.pending.values())

    def _finish(self, root: RootTask) -> None:
        try:
            value = root.outcome()
        except BaseException as error:  # noqa: BLE001  # kept as the outcome of the attempt
            self._fail(error)
            return
        if value is None and self.input.spec.output.content_type is None:
            self.outcome = _ENDED_EMPTY
            return
        try:
            self.outcome = Ended(Success(self.input.spec.output.encode(value)))
        except Exception as error:  # noqa: BLE001  # as above
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
        turn = Turn(self._changes, self._effects, self._cancelled_timers)
        self._changes = None
        self._effects = None
        self._cancelled_timers = None
        return turn

    def take_entries(self) -> tuple[int, list[Entry]]:
        """The entries since the last call, and the place of the first; their source lines are filled in."""
        position = self._persisted
        log = self.machine.log
        entries = log[position:]
        self._persisted = len(log)
        if self._sites:
            number = self.machine.commands - sum(isinstance(entry, Command) for entry in entries)
            for place, entry in enumerate(entries):
                if isinstance(entry, Command):
                    site = self._sites.pop(number, None)
                    if site is not None and not entry.site:
                        entries[place] = log[position + place] = msgspec.structs.replace(entry, site=_line_of(*site))
                    number += 1
        return position, entries

    # The verbs, for the context.

    def read(self, name: str, decode: Decode) -> HandlerFuture[Any]:
        """The state of this name."""
        machine = self.machine
        index = machine.commands
        frame = sys._getframe(2)
        if not machine.is_next_new():
            return self._issue(Command(Kind.GET, name, site=_line_of(frame.f_code, frame.f_lasti)), decode)
        changes = self._changes
        raw = changes[name] if changes is not None and name in changes else self.values.get(name)
        if index - self._turn_start >= COMMANDS_PER_TURN_CUT or self._budget_bytes < 0:
            # No answer yet: the turn ends here, commits, and the answer arrives as the next turn.
            return self.issue(Command(Kind.GET, name), decode)
        self._sites[index] = (frame.f_code, frame.f_lasti)
        machine.issue(Command(Kind.GET, name, None, None, None, Success(raw)))
        future = self.loop.create_future()
        future.set_result(decode(raw))
        return future

    def write(self, name: str, value: bytes | None) -> None:
        """Set the state of this name; None clears it."""
        machine = self.machine
        index = machine.commands
        frame = sys._getframe(2)
        kind = Kind.SET if value is not None else Kind.CLEAR
        if not machine.is_next_new():
            machine.issue(Command(kind, name, None, value, site=_line_of(frame.f_code, frame.f_lasti)))
            return
        self._sites[index] = (frame.f_code, frame.f_lasti)
        machine.issue(Command(kind, name, None, value))
        if self._changes is None:
            self._changes = {}
        self._changes[name] = value
        self._spend(index, value)

    def clear_all(self) -> None:
        is_new = self.machine.is_next_new()
        self.machine.issue(Command(Kind.CLEAR_ALL, site=_user_line()))
        if is_new:
            self._changes = dict.fromkeys((*self.values, *(self._changes or ())))

    def state_names(self) -> list[str]:
        """The names that have a value now."""
        merged: dict[str, bytes | None] = {**self.values, **(self._changes or {})}
        return sorted(name for name, value in merged.items() if value is not None)

    def issue(self, command: Command, decode: Decode, action: Action | None = None) -> HandlerFuture[Any]:
        """Issue any other command."""
        self._guard()
        index = self.machine.commands
        is_new = self.machine.is_next_new()
        if action is not None:
            if self.actions is None:
                self.actions = {}
            self.actions[index] = action
        future = self._issue(msgspec.structs.replace(command, site=_user_line()), decode)
        if is_new:
            self._add_effect(index, command)
            self._spend(index, command.body)
        return future

    def answer(self, kind: str, name: str, find: Callable[[], Outcome | None], decode: Decode) -> HandlerFuture[Any]:
        """Issue a command whose answer may be known at once; it is looked for only when the command is new."""
        return self.issue(Command(kind, name, result=find() if self.machine.is_next_new() else None), decode)

    @property
    def next_index(self) -> int:
        return self.machine.commands

    def _issue(self, command: Command, decode: Decode) -> HandlerFuture[Any]:
        index = self.machine.commands
        try:
            issued = self.machine.issue(command)
        except JournalMismatchError as error:
            # A handler may catch it; the loop remembers, and the turn ends as a fault all the same.
            self._fail(error)
            self.loop.violation = error
            raise
        future = self.loop.create_future()
        if issued.result is not None:
            _resolve(future, issued.result, decode)
        elif index in self.machine.pending:
            if self._awaiting is None:
                self._awaiting = {}
            self._awaiting[index] = (future, decode)
            if issued.kind == Kind.SIGNAL:
                self._match_signals()
        else:
            _resolve(future, Success(None), decode)
        return future

    def _guard(self) -> None:
        if self.loop.violation is not None:
            raise self.loop.violation

    def _add_effect(self, index: int, command: Command) -> None:
        if self._effects is None:
            self._effects = []
        self._effects.append((index, command))

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
        wake_ms = self.input.started_ms + round(handle.when() * 1000)
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


def _cancelled() -> CancelledError:
    return CancelledError("the invocation was cancelled")


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


def _awaits_group(task: Any) -> bool:
    """True for a task that waits in `TaskGroup.__aexit__`: its children are told, and they tell it."""
    awaited = task.get_coro()
    while (inner := getattr(awaited, "cr_await", None)) is not None:
        awaited = inner
        if getattr(awaited, "cr_code", None) is asyncio.TaskGroup.__aexit__.__code__:
            return True
    return False


def _line_of(code: CodeType, instruction: int) -> str:
    for start, end, line in code.co_lines():
        if start <= instruction < end:
            return f"{code.co_filename}:{line}"
    return f"{code.co_filename}:{code.co_firstlineno}"


def _user_line() -> str:
    """The innermost line outside of the framework and of asyncio."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith(("streamstate.context", "asyncio")):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
