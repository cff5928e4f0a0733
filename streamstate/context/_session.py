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

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from streamstate.context._cancelling import cancel_waiters, cancelled
from streamstate.context._closing import drop_tasks
from streamstate.context._failures import failure_of, is_fault
from streamstate.context._ledger import BYTES_PER_TURN_CUT, Ledger
from streamstate.context._loop import HandlerLoop
from streamstate.context._tasks import RootTask
from streamstate.context._turns import BLOCKED, ENDED_EMPTY, Blocked, Ended, Failed, Setting, TurnOutcome
from streamstate.definitions import Record
from streamstate.errors import ForeignAwaitError, InputError, JournalMismatchError, RunawayTurnError, SerdeError
from streamstate.journal import (
    Arrival,
    CancelArrived,
    Completion,
    Entry,
    Kind,
    Machine,
    SignalArrived,
    Success,
)

_logger = logging.getLogger("streamstate.handler")

_NO_HEADERS: Mapping[str, str] = {}


class Session(Ledger):
    """See the module.

    Args:
        setting: what all invocations of the handler share.
        key: the object's key; empty for services.
        started_ms: the moment of the first turn, the same on every attempt.
        values: the state; changes of this turn are kept beside it.
        recorded: the journal to replay.

    Attributes:
        record, headers: what came with the input. attempt: attempts that failed before this one.
        is_replaying: the handler is brought back to where its journal ends; all of that has happened before.
        notes: commands not yet in the journal (S3); None when there is a journal.
        changes, effects: what the present turn has decided so far; see `Turn`.
    """

    __slots__ = ("_is_silent", "outcome", "record", "root")
    headers: Mapping[str, str] = _NO_HEADERS
    attempt = 0
    is_replaying = False
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
        super().__init__(setting, key, started_ms, values, loop)
        self.root = RootTask(loop)
        self.record: Record | None = None
        self.outcome: TurnOutcome = BLOCKED
        self._is_silent = setting.is_silent
        loop.host = self
        loop.root = self.root
        if recorded:
            self.notes = None
            self.is_replaying = True
            self._machine = Machine(recorded, self.label)
            self._persisted = len(recorded)

    # Driving: the running loop must be `self.loop` in these.

    def run_at_once(
        self, handler: Coroutine[Any, Any, Any], key: str, values: Mapping[str, bytes], record: Record
    ) -> bool:
        """Run a handler in a session that was used before and left no trace; `root` must be the current task.

        True when it ended in this turn, returned nothing, and did nothing but read and write state: then only `changes`
        is to be looked at.
        """
        self.key = key
        self.values = values
        self.record = record
        self.changes = None
        self.notes = []
        root, loop = self.root, self.loop
        loop.number = 0
        try:
            has_ended = root.start(handler)
        except SystemExit as error:
            self._fail(error)
            return False
        if has_ended and not loop.is_touched:
            if self.notes is not None:
                self.outcome = ENDED_EMPTY
                return self._is_silent
            if not self.machine.pending:
                self.outcome = ENDED_EMPTY
                return False
        # What runs on the loop now, the handler's own tasks or itself, is the current task while it does.
        root.leave()
        try:
            self._settle()
        finally:
            root.enter()
        if root.was_cancelled:
            # A session with a journal is not used again.
            self._open_journal()
        loop.is_touched = False
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
        if self.is_replaying:
            self._replay(self.machine)
            self.is_replaying = False

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
        # The journal is where verbs are refused; one that was only noted would not be.
        self._open_journal()
        self.loop.condemn(ForeignAwaitError(f"{self.label} has left memory; its next replay does this"))
        drop_tasks(self.loop, self.root, self.label)

    def let_go(self) -> None:
        """Not used any more: break the cycles of references, so that all is freed now and not at some collection."""
        self.root.let_go()
        self.loop.let_go()

    def _replay(self, machine: Machine) -> None:
        while isinstance(self.outcome, Blocked):
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
            self._drain()
            if not root.is_done:
                self._block()
            elif root.exception is not None and failure_of(root.exception) is None:
                # The attempt has failed and is discarded: nothing that it began is waited for.
                self._fail(root.exception)
            elif (loop.tasks or self.notes is None) and self._has_more():
                self.outcome = BLOCKED
            else:
                self._finish(root)
        except (ForeignAwaitError, RunawayTurnError, JournalMismatchError, SystemExit) as error:
            self._fail(error)

    def _drain(self) -> None:
        loop = self.loop
        if loop.ready:
            loop.drain()
        if loop.violation is not None:
            raise loop.violation

    def _block(self) -> None:
        self.outcome = BLOCKED
        machine = self.machine
        if not machine.pending and machine.is_next_new():
            self.loop.refuse("awaits something that no durable verb will complete")

    def _has_more(self) -> bool:
        """The handler has returned: cancel the tasks it leaves behind; True while they or its steps go on."""
        loop, machine = self.loop, self.machine
        if loop.tasks and not self._leftovers_cancelled:
            self._leftovers_cancelled = True
            for task in loop.live_tasks():
                task.cancel()
            self._drain()
        if not machine.is_next_new():
            return True
        if loop.live_tasks():
            if machine.pending:
                return True
            # They wait for what never comes.
            self.close()
            self.loop.violation = None
        return any(command.kind == Kind.RUN for command in machine.pending.values())

    def _finish(self, root: RootTask) -> None:
        if root.exception is not None:
            self._fail(root.exception)
            return
        result = root.take_result()
        if result is None and self.setting.is_silent:
            self._end(ENDED_EMPTY)
            return
        try:
            data = self.setting.spec.output.encode(result)
        except Exception as error:  # noqa: BLE001  # kept as the outcome of the attempt
            self._fail(error)
        else:
            self._end(Ended(Success(data)))

    def _end(self, outcome: Ended) -> None:
        self.outcome = outcome
        if self.notes is None:
            self.machine.end()

    def _fail(self, error: BaseException) -> None:
        violation = self.loop.violation
        if violation is not None:
            error = violation
        failure = failure_of(error)
        if failure is not None and self.machine.is_next_new():
            self._end(Ended(failure))
        else:
            self.outcome = Failed(error, is_fault(error))
