"""What happens without anybody asking: timers, retention, recovery, and making room in memory."""

from __future__ import annotations

from streamstate.definitions import ServiceKind
from streamstate.engine._core import Core
from streamstate.engine._executor import Executor
from streamstate.engine._keys import Live
from streamstate.journal import Completion, Success
from streamstate.storage import InvocationRow, Status, TimerRow

PURGE_EVERY_MS = 60_000
PURGE_ON_MS = 100  # while there is more
PAGE = 1_000


class Upkeep:
    """See the module.

    Args:
        live_max: suspended invocations kept in memory.
    """

    def __init__(self, core: Core, executor: Executor, live_max: int) -> None:
        self._core = core
        self._executor = executor
        self._live_max = live_max

    def fire(self, timer: TimerRow) -> None:
        core = self._core
        if timer.kind == "purge":
            self._purge()
            return
        if timer.kind == "trial":
            core.trials.expire(timer.invocation)
            return
        inv = core.load(timer.invocation)
        if inv is not None and _is_outdated(inv, timer):
            return
        core.commits.batch.timers[timer.id] = None
        core.commits.touch()
        if core.trials.is_wary:
            core.trials.suspect(timer.invocation, timer.fire_ms)
        if inv is None:
            return
        if timer.kind == "sleep":
            core.arrive(inv.id, Completion(timer.index, Success(None), max(timer.fire_ms, self._core.clock.now_ms())))
        elif timer.kind == "step":
            if inv.backoff.get(timer.index) == timer.attempt:
                self._executor.retry_step(inv, timer.index)
        elif timer.kind == "start":
            # Its place in the queue is that of now, not that of its acceptance.
            inv.change(status=Status.PENDING, seq=core.next_seq(), due_ms=None)
            core.put(inv)
            core.admit(inv)
        elif inv.row.status is Status.BACKING_OFF and inv.row.due_ms == timer.fire_ms:
            inv.change(status=Status.READY, due_ms=None)
            core.put(inv)
            core.enqueue(inv)

    def _purge(self) -> None:
        core = self._core
        now_ms = core.clock.now_ms()
        expired = core.store.invocations.expired(now_ms, PAGE)
        for invocation in expired:
            self._forget(invocation)
        if expired:
            core.commits.touch()
        # The next page is there to be seen when this one is durable.
        pause_ms = PURGE_EVERY_MS if len(expired) < PAGE else PURGE_ON_MS
        core.timers.add(TimerRow(now_ms + pause_ms, "", "purge", 0))

    def _forget(self, invocation: str) -> None:
        """Past its retention; the state and the promises of a workflow go with its run, not with who spoke to it."""
        core = self._core
        row = self._core.store.invocations.get(invocation)
        core.commits.batch.invocations[invocation] = None
        if row is None or row.service not in self._core.program.services:
            return
        if row.lane and self._core.program.services[row.service].kind is ServiceKind.WORKFLOW:
            core.forget_object(row.service, row.key)

    def recover(self) -> None:
        """Queue everything that was pending, ready or running."""
        after = 0
        while page := self._core.store.invocations.runnable(after, PAGE):
            for row in page:
                after = row.seq
                self._recover_row(row)

    def _recover_row(self, row: InvocationRow) -> None:
        core = self._core
        core.trials.suspect(row.id)
        if row.lane:
            core.slot_of(row.service, row.key)
        else:
            core.enqueue(core.adopt(row))

    def evict(self) -> None:
        """Suspended invocations whose everything is durable leave memory, the longest untouched first."""
        core = self._core
        if len(core.live) <= self._live_max:
            return
        durable = core.commits.durable
        resting = [inv for inv in core.live.values() if self._is_resting(inv) and inv.batch <= durable]
        for inv in resting[: len(core.live) - self._live_max // 2]:
            self._executor.drop(inv)
            del core.live[inv.id]
            if inv.slot is not None and inv.slot.holder is inv:
                core.keys.forget(inv.slot)

    def _is_resting(self, inv: Live) -> bool:
        if inv.row.status not in (Status.SUSPENDED, Status.SCHEDULED, Status.BACKING_OFF, Status.PAUSED):
            return False
        if inv.is_queued or inv.running or inv.inbox:
            return False
        slot = inv.slot
        if slot is None or slot.holder is not inv:
            return True
        return not slot.is_waited_for and max(slot.batch, slot.spilled_batch) <= self._core.commits.durable


def _is_outdated(inv: Live, timer: TimerRow) -> bool:
    """Whether a newer timer has taken the place of this one: the row in the store is the newer one's then."""
    if timer.kind == "retry":
        return inv.row.status is Status.BACKING_OFF and inv.row.due_ms not in (None, timer.fire_ms)
    return timer.kind == "step" and inv.backoff.get(timer.index, timer.attempt) != timer.attempt
