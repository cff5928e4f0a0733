"""What a person or another handler does to an invocation: cancel, kill, resume."""

from __future__ import annotations

from streamstate.context import failure_of
from streamstate.engine._core import Core
from streamstate.engine._executor import Executor
from streamstate.engine._keys import Live
from streamstate.engine._steps import Steps
from streamstate.errors import CancelledError, NotFoundError
from streamstate.journal import CancelArrived, Failure, Kind, child_identity
from streamstate.storage import Status

_KILLED = Failure(409, "killed")


class Operations:
    """See the module."""

    def __init__(self, core: Core, steps: Steps) -> None:
        self._core = core
        self._steps = steps
        self.executor: Executor

    def cancel(self, invocation: str) -> bool:
        """Ask it to stop: at its next await, after its running steps and the calls it waits for have ended.

        One that has not started ends at once. False when it has ended already.
        """
        core = self._core
        inv = core.load(invocation)
        if inv is None:
            return False
        if inv.is_waiting_to_start():
            failure = failure_of(CancelledError(f"{inv.spec.target} was cancelled before it started"))
            assert failure is not None
            self._end_unstarted(inv, failure)
            return True
        if inv.is_cancelling:
            return True
        if inv.row.status in (Status.PAUSED, Status.BACKING_OFF):
            inv.change(status=Status.READY, due_ms=None)
            core.put(inv)
        return core.arrive(invocation, CancelArrived(core.clock.now_ms()))

    def kill(self, invocation: str) -> bool:
        """End it now, with everything it calls, without compensation; its running steps are not waited for.

        False when it has ended already.
        """
        core = self._core
        inv = core.load(invocation)
        if inv is None:
            return False
        if inv.is_waiting_to_start():
            self._end_unstarted(inv, _KILLED)
            return True
        pending = core.waits.pending_of(inv)
        calls = [index for index, command in pending.items() if command.kind == Kind.CALL]
        self._steps.abandon(invocation)
        inv.running.clear()
        self.executor.forget_waits(inv, pending)
        for timer in core.timers.of(invocation):
            core.drop_timer(*timer)
        self.executor.drop(inv)
        self.executor.end(inv, _KILLED)
        core.kick()
        for index in calls:
            self.kill(child_identity(invocation, index))
        return True

    def resume(self, invocation: str) -> None:
        """Let a paused or backing-off invocation try again now, with its attempts counted anew.

        Raises:
            NotFoundError: it has ended, or never was.
        """
        core = self._core
        inv = core.load(invocation)
        if inv is None:
            raise NotFoundError(f"no invocation {invocation} that could be resumed: it has ended, or never was")
        if inv.row.status not in (Status.PAUSED, Status.BACKING_OFF):
            return
        inv.backoff.clear()
        # Coming back, it begins again the steps that waited for their next attempt.
        self.executor.drop(inv)
        inv.change(status=Status.READY, due_ms=None, attempt=0, first_failed_ms=None)
        core.put(inv)
        core.enqueue(inv)

    def _end_unstarted(self, inv: Live, failure: Failure) -> None:
        if inv.row.status is Status.SCHEDULED:
            self._core.drop_timer(inv.id, "start", 0)
        slot = inv.slot
        if slot is not None and slot.is_waited_for and inv in slot.queue:
            slot.queue.remove(inv)
        self.executor.end(inv, failure)
        self._core.kick()
