"""Runs turns, and decides what follows from how they end.

X1  A turn's changes and effects reach the batch together, at its end, or not at all (I5).
X2  Of a failed turn only the attempt and the time of the next one are kept; its arrival will be delivered again.
X3  A key is free only when the invocation that held it has ended and its steps were joined (I4).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec

from streamstate.context import (
    Blocked,
    Context,
    Ended,
    Failed,
    HandlerLoop,
    ObjectContext,
    ObjectSharedContext,
    Session,
    Setting,
    Turn,
    WorkflowContext,
    WorkflowSharedContext,
    describe,
    is_cancellation,
    running,
    summarize,
)
from streamstate.definitions import HandlerKind, RetryPolicy, ServiceKind
from streamstate.engine._core import Core, record_of
from streamstate.engine._effects import Effects, Sender, promise_topic
from streamstate.engine._keys import Live
from streamstate.engine._periods import kept_ms, pause_ms
from streamstate.engine._steps import Steps
from streamstate.errors import UsageError
from streamstate.journal import (
    Arrival,
    CancelArrived,
    Command,
    Completion,
    Failure,
    Kind,
    Outcome,
    Success,
    child_identity,
)
from streamstate.storage import Status, TimerRow

_logger = logging.getLogger("streamstate.engine")

CONTEXTS: Mapping[tuple[ServiceKind, HandlerKind], type[Context]] = {
    (ServiceKind.SERVICE, HandlerKind.SERVICE): Context,
    (ServiceKind.OBJECT, HandlerKind.EXCLUSIVE): ObjectContext,
    (ServiceKind.OBJECT, HandlerKind.SHARED): ObjectSharedContext,
    (ServiceKind.WORKFLOW, HandlerKind.WORKFLOW): WorkflowContext,
    (ServiceKind.WORKFLOW, HandlerKind.SHARED): WorkflowSharedContext,
}
_NO_STATE: Mapping[str, bytes] = {}


class Executor:
    """See the module.

    Args:
        cancel: asks an invocation to stop.
        always_replay: drop every handler from memory when it blocks, so that each turn is a replay.
    """

    def __init__(
        self, core: Core, effects: Effects, steps: Steps, cancel: Callable[[str], object], always_replay: bool
    ) -> None:
        self._core = core
        self._effects = effects
        self._steps = steps
        self._cancel = cancel
        self._always_replay = always_replay
        self._policies = {each.name: each.retry for each in core.program.subscriptions}
        self.subscription_decoders: dict[str, Callable[[bytes], object]] = {}

    def run(self, inv: Live) -> None:
        """Do what there is to do for an invocation: start it, replay it, deliver what arrived."""
        inv.is_queued = False
        if inv.row.status in (Status.COMPLETED, Status.PAUSED) or inv.id not in self._core.live:
            return
        if inv.row.status is Status.BACKING_OFF and inv.row.due_ms is not None:
            return
        if self._core.trials.suspects and not self._may_run(inv):
            return
        if inv.session is None and not self._enter(inv):
            return
        while inv.session is not None and (arrival := self._next_arrival(inv)) is not None:
            inv.inbox.remove(arrival)
            # The handler hears of it now, and its timers count from now.
            arrival = msgspec.structs.replace(arrival, at_ms=self._core.clock.now_ms())
            with running(inv.session.loop):
                inv.session.arrive(arrival)
            self.conclude(inv, arrival)
            if isinstance(arrival, CancelArrived) and arrival.raised and inv.session is not None:
                # Steps that were held back by the cancellation, of which the handler had heard already.
                self._restart(inv, inv.session)
        self.drop_if_asked(inv)

    def _may_run(self, inv: Live) -> bool:
        verdict = self._core.trials.may_run(inv)
        if isinstance(verdict, Failure):
            inv.change(failure=verdict)
            self.pause(inv)
            return False
        return verdict

    def conclude(self, inv: Live, arrival: Arrival | None = None) -> None:
        """The turn is over: commit what it decided, or put off the attempt."""
        self._conclude(inv, arrival)
        if self._core.trials.suspects:
            self._core.trials.turned(inv)

    def _conclude(self, inv: Live, arrival: Arrival | None) -> None:
        session = inv.session
        assert session is not None
        outcome = session.outcome
        if isinstance(outcome, Failed):
            self._fail(inv, outcome.error, outcome.is_fault, arrival)
            return
        turn = session.take_turn()
        if turn.effects:
            try:
                self._effects.check(turn.effects)
            except UsageError as error:
                self._fail(inv, error, True, arrival)
                return
        self._persist(inv, session, isinstance(outcome, Blocked))
        self._apply(inv, turn, isinstance(outcome, Ended))
        if isinstance(outcome, Ended):
            self.end(inv, outcome.outcome)
        else:
            self._suspend(inv, session)

    def end(self, inv: Live, outcome: Outcome) -> None:
        """The invocation has ended: tell who waits, keep what is to be kept, pass the key on."""
        core = self._core
        now_ms = core.clock.now_ms()
        self._leave(inv, now_ms, outcome)
        core.trials.ended(inv.id)
        origin = inv.row.origin
        if origin.caller:
            caller = core.live.get(origin.caller)
            if caller is not None and caller.is_cancelling and is_cancellation(outcome):
                caller.cancel_heard = True
            core.arrive(origin.caller, Completion(origin.caller_index, outcome, now_ms))
        for invocation, index in core.waits.take_waiters(inv.id):
            core.arrive(invocation, Completion(index, outcome, now_ms))
        replies = core.replies.pop(inv.id, ())
        core.commits.releases.replies.extend((reply, outcome) for reply in replies)
        core.commits.touch()
        slot = inv.slot
        if slot is not None and slot.holder is inv:
            slot.batch = core.commits.number
            core.pass_on(slot)

    def step_finished(self, invocation: str, index: int, result: Outcome | BaseException) -> None:
        """An action has ended."""
        core = self._core
        inv = core.live.get(invocation)
        if inv is None:
            return
        inv.running.discard(index)
        if not isinstance(result, BaseException):
            inv.backoff.pop(index, None)
            core.arrive(invocation, Completion(index, result, core.clock.now_ms()))
        else:
            self._retry_step(inv, index, result)
        core.enqueue(inv)

    def start_step(self, inv: Live, index: int) -> None:
        """The turn that decided a step is durable, or its pause is over: run it."""
        session = inv.session
        if session is None or session.actions is None or index in inv.running or inv.row.status is Status.PAUSED:
            return
        action = session.actions.get(index)
        if action is not None and index in session.machine.pending and not inv.is_cancelling:
            inv.running.add(index)
            self._steps.start(inv.id, index, action)
            self.drop_if_asked(inv)

    def retry_step(self, inv: Live, index: int) -> None:
        """The pause of a step that failed is over."""
        if inv.row.status is Status.PAUSED or inv.row.due_ms is not None or inv.is_cancelling:
            # It does not run now; if the handler goes on to wait for it, it is begun again.
            inv.backoff.pop(index, None)
            if inv.row.status is Status.BACKING_OFF and inv.row.due_ms is None:
                # No timer of it is left: a start after a crash must look at it.
                inv.change(status=Status.RUNNING)
                self._core.put(inv)
            return
        if inv.session is None and not self._enter(inv):
            return
        self.start_step(inv, index)
        if inv.row.status is Status.BACKING_OFF:
            inv.change(status=Status.RUNNING)
            self._core.put(inv)

    def drop(self, inv: Live) -> None:
        """Take the handler out of memory; its journal brings it back."""
        session = inv.session
        if session is not None:
            inv.recorded = session.machine.log[: inv.journal_length]
            inv.session = None
            with running(session.loop):
                session.close()
            session.let_go()

    def _setting_of(self, inv: Live) -> Setting:
        return Setting.of(inv.spec, lambda _session: inv.row.id, self._core.clock.now_ms, self._core.program.handler)

    def _enter(self, inv: Live) -> bool:
        """Make the handler's session and run it up to where its journal ends; False when that ended or failed."""
        recorded = inv.recorded or ()
        if not recorded:
            inv.change(started_ms=self._core.clock.now_ms())
        spec = inv.spec
        if spec.is_keyed and inv.slot is None:
            inv.slot = self._core.slot_of(inv.row.service, inv.row.key)
        values = inv.slot.values if inv.slot is not None else _NO_STATE
        row = inv.row
        session = Session(self._setting_of(inv), row.key, row.started_ms or 0, values, HandlerLoop(), recorded)
        session.record, session.headers, session.attempt = record_of(row), row.origin.headers, row.attempt
        inv.session, inv.recorded = session, None
        context = CONTEXTS[spec.service_kind, spec.kind](session)
        with running(session.loop):
            if spec.takes_input:
                decode = self.subscription_decoders.get(row.origin.subscription, spec.input.decode)
                session.start_encoded(context, row.input, decode)
            else:
                session.start(spec.function(context))
        self.conclude(inv)
        if inv.session is None:
            return False
        if recorded:
            self._restart(inv, session)
        return True

    def _restart(self, inv: Live, session: Session) -> None:
        """After a replay: what was under way when the handler left memory, and is not now, begins again."""
        releases = self._core.commits.releases
        arrived = {each.index for each in inv.inbox if isinstance(each, Completion)}
        for index, command in session.machine.pending.items():
            if index in arrived:
                continue  # its result is there, and will be delivered
            if command.kind == Kind.RUN and index not in inv.backoff and index not in inv.running:
                releases.steps.append((inv, index))
            elif command.kind == Kind.GET:
                releases.reads.append((inv, index, command.name))
        self._core.commits.touch()

    def _next_arrival(self, inv: Live) -> Arrival | None:
        """The next one to deliver: a cancellation waits for running steps and for children that were cancelled."""
        for arrival in inv.inbox:
            if not isinstance(arrival, CancelArrived):
                return arrival
        if not inv.inbox or inv.running or self._cancel_children(inv):
            return None
        arrival = inv.inbox[0]
        assert isinstance(arrival, CancelArrived)
        if inv.cancel_heard:
            inv.cancel_heard = False
            inv.inbox[0] = arrival = CancelArrived(arrival.at_ms, raised=True)
        return arrival

    def _cancel_children(self, inv: Live) -> bool:
        """Cancel what the invocation calls; True while there is any."""
        session = inv.session
        pending = session.machine.pending if session is not None else {}
        calls = [index for index, command in pending.items() if command.kind == Kind.CALL]
        for index in calls:
            self._cancel(child_identity(inv.id, index))
        return bool(calls)

    def _persist(self, inv: Live, session: Session, is_blocked: bool) -> None:
        """The turn's entries go into the journal; an invocation that ends without one never gets one."""
        if not is_blocked and not inv.journal_length:
            return
        position, entries = session.take_entries()
        if entries:
            batch = self._core.commits.batch
            first, earlier = batch.journal.get(inv.id, (position, []))
            batch.journal[inv.id] = (first, [*earlier[: position - first], *entries])
            inv.journal_length = position + len(entries)

    def _apply(self, inv: Live, turn: Turn, is_ended: bool) -> None:
        core = self._core
        if turn.changes and inv.slot is not None:
            inv.slot.apply(turn.changes, core.commits.batch, core.commits.touch())
        effects = turn.effects
        if turn.cancelled_timers:
            # One that this very turn has set was never armed.
            new = {index for index, _ in effects or ()}
            for index in turn.cancelled_timers:
                if index not in new:
                    core.drop_timer(inv.id, "sleep", index)
            effects = [each for each in effects or () if each[0] not in turn.cancelled_timers]
        if effects:
            sender = Sender(inv.id, inv.row.service, inv.row.key, None if is_ended else inv)
            self._effects.apply(sender, effects)

    def _suspend(self, inv: Live, session: Session) -> None:
        pending = session.machine.pending
        runs = [index for index, command in pending.items() if command.kind == Kind.RUN]
        is_under_way = any(index in inv.running or index not in inv.backoff for index in runs)
        if is_under_way or any(command.kind == Kind.GET for command in pending.values()):
            # Outside of the handler: a start after a crash must look at it.
            status = Status.RUNNING
        else:
            status = Status.BACKING_OFF if runs else Status.SUSPENDED
        inv.change(status=status, due_ms=None, undelivered=0)
        if inv.row.attempt:
            inv.change(attempt=0, first_failed_ms=None, failure=None)
        if not inv.inbox:
            self._core.undelivered.pop(inv.id, None)
        else:
            self._core.undelivered[inv.id] = inv
        self._core.put(inv)

    def drop_if_asked(self, inv: Live) -> None:
        session = inv.session
        if not self._always_replay or session is None or inv.inbox:
            return
        pending = session.machine.pending
        if all(i in inv.running or i in inv.backoff for i, c in pending.items() if c.kind in (Kind.RUN, Kind.GET)):
            self.drop(inv)

    def forget_waits(self, inv: Live, pending: Mapping[int, Command]) -> None:
        """It waits no more for other invocations and promises."""
        for index, command in pending.items():
            if command.kind == Kind.ATTACH:
                self._core.waits.drop_waiter(command.name, inv.id, index)
            elif command.kind == Kind.PROMISE:
                self._core.waits.drop_waiter(promise_topic((inv.row.service, inv.row.key, command.name)), inv.id, index)

    def _policy_of(self, inv: Live) -> RetryPolicy:
        return self._policies.get(inv.row.origin.subscription) or inv.spec.retry

    def _leave(self, inv: Live, now_ms: int, outcome: Outcome) -> None:
        """Out of memory, and out of the store unless it is to be kept."""
        core = self._core
        session, inv.session = inv.session, None
        if session is not None:
            for index, command in session.machine.pending.items():
                if command.kind == Kind.SLEEP:
                    core.drop_timer(inv.id, "sleep", index)
            self.forget_waits(inv, session.machine.pending)
            session.let_go()
        core.live.pop(inv.id, None)
        core.undelivered.pop(inv.id, None)
        retention_ms = kept_ms(inv, outcome)
        inv.change(
            status=Status.COMPLETED,
            completed_ms=now_ms,
            expires_ms=None if retention_ms is None else now_ms + retention_ms,
            failure=outcome if isinstance(outcome, Failure) else None,
            result=outcome.value if isinstance(outcome, Success) else None,
            undelivered=0,
            due_ms=None,
        )
        if retention_ms is not None:
            core.put(inv)
        else:
            core.remove(inv)
        if inv.is_stored:
            # Also of one that leaves nothing: until that is durable, the store shows it as it was.
            core.ended[inv.id] = (core.commits.number, inv.row)
            core.stored_count -= 1
            inv.is_stored = False
        core.commits.touch()

    def _fail(self, inv: Live, error: BaseException, is_fault: bool, arrival: Arrival | None) -> None:
        """X2: drop the turn; back off, or pause."""
        core = self._core
        session = inv.session
        assert session is not None
        self.drop(inv)
        if arrival is not None:
            inv.inbox.appendleft(arrival)
        if inv.inbox:
            core.undelivered[inv.id] = inv
        self.put_off(inv, error, Failure(500, summarize(error), {}, describe(error)), is_fault)

    def put_off(self, inv: Live, error: BaseException, failure: Failure, is_fault: bool) -> None:
        """An attempt failed: the next one after a pause, or none until a person resumes it."""
        now_ms = self._core.clock.now_ms()
        attempt, first_ms = inv.row.attempt + 1, inv.row.first_failed_ms or now_ms
        inv.change(attempt=attempt, first_failed_ms=first_ms, failure=failure)
        policy = self._policy_of(inv)
        if is_fault or policy.is_spent(attempt, now_ms - first_ms):
            self.pause(inv)
            return
        due_ms = now_ms + pause_ms(error, policy.pause_ms(attempt))
        inv.change(status=Status.BACKING_OFF, due_ms=due_ms)
        self._core.put(inv)
        self._core.add_timer(TimerRow(due_ms, inv.id, "retry", 0, attempt))
        _logger.warning(
            "%s failed, attempt %d follows in %d ms: %s", inv.label, attempt + 1, due_ms - now_ms, failure.message
        )

    def pause(self, inv: Live) -> None:
        """It waits for a person, and its key with it."""
        inv.change(status=Status.PAUSED, due_ms=None)
        self._core.put(inv)
        self._core.tell_paused(inv)
        message = inv.row.failure.message if inv.row.failure is not None else "paused by a person"
        _logger.error("%s is paused after attempt %d: %s", inv.label, inv.row.attempt, message)

    def _retry_step(self, inv: Live, index: int, error: BaseException) -> None:
        if inv.row.status is Status.PAUSED:
            return
        attempt = inv.backoff.get(index, 0) + 1
        inv.backoff[index] = attempt
        if inv.session is None and not self._enter(inv):
            return
        session = inv.session
        if session is None or session.actions is None or index not in session.actions:
            return
        step = session.actions[index].step
        core = self._core
        now_ms = core.clock.now_ms()
        policy = step.retry or self._policy_of(inv)
        first_ms = inv.row.first_failed_ms or now_ms
        message = f"step {step.name!r} failed: {summarize(error)}"
        if policy.is_spent(attempt, now_ms - first_ms):
            inv.backoff.pop(index, None)
            if step.retry is not None:
                spent = Failure(500, f"{message} (attempt {attempt} was the last)", {}, describe(error))
                core.arrive(inv.id, Completion(index, spent, now_ms))
                return
            inv.change(failure=Failure(500, message, {}, describe(error)), attempt=attempt)
            self.drop(inv)
            self.pause(inv)
            return
        due_ms = now_ms + pause_ms(error, policy.pause_ms(attempt))
        failure = Failure(500, message, {}, describe(error))
        inv.change(
            failure=failure, first_failed_ms=first_ms, status=Status.BACKING_OFF if not inv.running else inv.row.status
        )
        core.put(inv)
        core.add_timer(TimerRow(due_ms, inv.id, "step", index, attempt))
        self.drop_if_asked(inv)
        _logger.warning("%s: %s; attempt %d follows in %d ms", inv.label, message, attempt + 1, due_ms - now_ms)
