"""Bugs of how events come in, take turns and are kept: the fast path, keys, turns, retries, cancel and kill."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CORE = "streamstate/engine/_core.py"
_EFFECTS = "streamstate/engine/_effects.py"
_EXECUTOR = "streamstate/engine/_executor.py"
_INTAKE = "streamstate/engine/_intake.py"
_KEYS = "streamstate/engine/_keys.py"
_OPERATIONS = "streamstate/engine/_operations.py"
_STEPS = "streamstate/engine/_steps.py"
_WAITS = "streamstate/engine/_waits.py"

_FAST_PATH = [
    Mutant(
        "the position passes a record that was refused",
        _INTAKE,
        "moved[place] = run[-1].offset + 1 if undecided is None else undecided.offset",
        "moved[place] = run[-1].offset + 1",
        "I10: the position is the lowest record not yet decided",
        ("ingress/test_feed.py", "engine/test_position_properties.py"),
    ),
    Mutant(
        "the position is committed after the effects",
        _INTAKE,
        "        self._positions.update(moved)\n",
        "        self._positions.update(moved)\n        commits.touch()\n        commits.commit()\n",
        "I2: the position is in the same commit as the effects",
        ("engine/test_position_properties.py",),
    ),
    Mutant(
        "the position is committed ahead of the effects",
        _INTAKE,
        "                self._undecided = None\n                try:\n",
        "                self._undecided = None\n"
        "                if run:\n"
        "                    self._move({place: run[-1].offset + 1}, 0)\n"
        "                    self._commits.commit()\n"
        "                try:\n",
        "I2: the position is in the same commit as the effects",
        ("engine/test_position_properties.py",),
    ),
    Mutant(
        "what was taken is forgotten at a restart",
        _INTAKE,
        "self._positions = dict(positions)",
        "self._positions = {}",
        "I2: a record delivered again changes nothing",
        ("ingress/test_feed.py",),
    ),
    Mutant(
        "a topic that was made anew is taken for the old one",
        _INTAKE,
        'place = (first.topic, topic_ids.get(first.topic, ""), first.partition)',
        'place = (first.topic, "", first.partition)',
        "I2: the topic id is part of a record's identity",
        ("ingress/test_feed.py",),
    ),
    Mutant(
        "offsets that go back are not seen inside of a chunk",
        _INTAKE,
        "or record.topic != topic or offset <= last:",
        "or record.topic != topic:",
        "I2: a record delivered again changes nothing",
        ("engine/test_holes_fast_path.py",),
    ),
    Mutant(
        "the next event sees the state of another key",
        "streamstate/context/_session.py",
        "        self.values = values\n        self.record = record\n",
        "        self.values = self.values or values\n        self.record = record\n",
        "I4: state belongs to its key",
        ("context/test_at_once.py",),
    ),
    Mutant(
        "what a turn changed is still there in the next one of the session",
        "streamstate/context/_session.py",
        "        self.changes = None\n        self.notes = []\n",
        "        self.notes = []\n",
        "I5: a turn's changes are its own",
        ("context/test_at_once.py",),
    ),
    Mutant(
        "a context is used again while somebody holds it",
        _INTAKE,
        "if session.identity is None and getrefcount(context) == _CONTEXT_REFERENCES:",
        "if session.identity is None:",
        "I4: a context is of one invocation (R3 of the intake)",
        ("engine/test_holes_fast_path.py",),
    ),
    Mutant(
        "a session is used again with the identity of its last event",
        _INTAKE,
        "if session.identity is None and getrefcount(context) == _CONTEXT_REFERENCES:",
        "if getrefcount(context) == _CONTEXT_REFERENCES:",
        "I2: two records are two invocations",
        ("engine/test_holes_fast_path.py",),
    ),
    Mutant(
        "an event of a busy key runs at once",
        _INTAKE,
        "if not self._has_fast_path or (slot is not None and slot.holder is not None):",
        "if not self._has_fast_path:",
        "I4: one exclusive execution per key, in order",
        ("engine/test_subscriptions.py::test_an_event_of_a_busy_key_waits_and_holds_back_no_other",),
    ),
    Mutant(
        "a record that does not decode is dropped in silence",
        _INTAKE,
        "if isinstance(self._subscription.policies.on_undecodable, Skip):",
        "if self._subscription.policies.on_undecodable is not None:",
        "§6: an undecodable record stops the subscription by default",
        ("engine/test_subscription_policies.py::test_an_undecodable_record_stops_the_subscription_in_front_of_it",),
    ),
]

_ONE_KEY = [
    Mutant(
        "a shared handler takes its turn on the key",
        _CORE,
        "lane = spec.kind in (HandlerKind.EXCLUSIVE, HandlerKind.WORKFLOW)",
        "lane = spec.is_keyed",
        "§5: shared handlers run beside the exclusive one",
        ("engine/test_keys.py::test_a_shared_handler_runs_beside_an_exclusive_one_and_reads_the_latest_end_of_a_turn",),
    ),
    Mutant(
        "the youngest of a queue goes first",
        _CORE,
        "inv = slot.queue.popleft()",
        "inv = slot.queue.pop()",
        "I4: in order",
        ("engine/test_keys.py::test_exclusive_handlers_of_a_key_run_one_at_a_time_in_the_order_of_acceptance",),
    ),
    Mutant(
        "a killed invocation keeps its key",
        _OPERATIONS,
        "        self.executor.end(inv, _KILLED)\n        core.kick()\n",
        "        inv.slot = None\n        self.executor.end(inv, _KILLED)\n        core.kick()\n",
        "I9: no key is held by something that ended",
        ("engine/test_killing.py::test_a_kill_ends_at_once_without_compensation_and_frees_the_key",),
    ),
    Mutant(
        "a delayed send takes its key before the delay is over",
        _CORE,
        '            self.add_timer(TimerRow(request.due_ms, inv.id, "start", 0))\n',
        '            self.add_timer(TimerRow(request.due_ms, inv.id, "start", 0))\n            self.admit(inv)\n',
        "I6: not before its moment; I4",
        ("engine/test_sends.py::test_a_delayed_send_takes_its_place_in_the_queue_when_it_is_due",),
    ),
    Mutant(
        "an input that comes while the queue is in the store overtakes it",
        _CORE,
        "elif slot.is_spilled or len(slot.queue) >= QUEUE_IN_MEMORY_MAX:",
        "elif len(slot.queue) >= QUEUE_IN_MEMORY_MAX:",
        "I4: in order",
        ("engine/test_queue_overflow.py",),
    ),
    Mutant(
        "a queue is read on before what was spilled is durable",
        _CORE,
        "if slot.batch <= durable:",
        "if durable >= 0:",
        "I4: in order, none left out",
        ("engine/test_queue_overflow.py", "engine/test_memory_bounds.py"),
    ),
    Mutant(
        "an idempotency key is taken twice",
        _CORE,
        "            if existing is not None:\n                return existing\n",
        "            if existing is not None and existing.status is not Status.COMPLETED:\n"
        "                return existing\n",
        "I2: an idempotency key takes effect once within its retention",
        ("engine/test_identities.py::test_one_idempotency_key_has_one_effect_and_one_result_even_after_completion",),
    ),
]

_TURNS = [
    Mutant(
        "state that was written before a terminal error is lost",
        _EXECUTOR,
        "self._apply(inv, turn, isinstance(outcome, Ended))",
        "has_failed = isinstance(outcome, Ended) and isinstance(outcome.outcome, Failure)\n"
        "        self._apply(inv, turn._replace(changes=None) if has_failed else turn, isinstance(outcome, Ended))",
        "§5: state written before a terminal error stays",
        ("engine/test_state.py::test_state_written_before_a_terminal_error_stays",),
    ),
    Mutant(
        "a failed turn keeps the state it wrote",
        _EXECUTOR,
        "        if isinstance(outcome, Failed):\n            self._fail(",
        "        if isinstance(outcome, Failed):\n"
        "            self._apply(inv, session.take_turn()._replace(effects=None), False)\n"
        "            self._fail(",
        "I5: a turn is visible whole or not at all",
        ("engine/test_state.py::test_a_turn_that_fails_leaves_no_state_behind",),
    ),
    Mutant(
        "an arrival that a failed turn has seen is not delivered again",
        _EXECUTOR,
        "            inv.inbox.appendleft(arrival)\n",
        "            pass\n",
        "X2: the arrival of a failed turn is delivered again",
        (
            "engine/test_cancelling.py",
            "engine/test_steps.py",
            "engine/test_context.py",
        ),
    ),
    Mutant(
        "an arrival that no turn has seen is not stored",
        _CORE,
        "        inv.inbox.append(arrival)\n        self.undelivered[inv.id] = inv\n",
        "        inv.inbox.append(arrival)\n",
        "E3: an arrival is durable together with what caused it",
        ("engine/test_restarts.py::test_what_arrived_but_was_not_seen_is_seen_after_a_restart",),
    ),
    Mutant(
        "the key is free while a step of its last handler runs",
        "streamstate/context/_session.py",
        "return any(command.kind == Kind.RUN for command in machine.pending.values())",
        "return False",
        "X3, I4: steps are joined before the key is free",
        ("engine/test_steps.py::test_a_step_that_was_never_awaited_is_joined_before_the_result",),
    ),
    Mutant(
        "the attempts of a step are forgotten at a restart",
        _CORE,
        'inv.backoff = {timer.index: timer.attempt for timer in timers if timer.kind == "step"}',
        'inv.backoff = {timer.index: 0 for timer in timers if timer.kind == "step"}',
        "§5: at most 70 attempts, restarts included",
        (
            "engine/test_restarts_of_attempts.py::test_a_step_in_backoff_is_tried_again_after_a_restart_and_keeps_its_count",
        ),
    ),
    Mutant(
        "the attempts of a handler are counted from nothing each time",
        _EXECUTOR,
        "attempt, first_ms = inv.row.attempt + 1,",
        "attempt, first_ms = 1,",
        "§5: exponential backoff, at most 70 attempts",
        ("engine/test_faults.py::test_an_attempt_that_fails_is_repeated_with_backoff_and_then_paused",),
    ),
    Mutant(
        "an exhausted event is dropped",
        _EXECUTOR,
        "        if is_fault or policy.is_spent(attempt, now_ms - first_ms):\n            self.pause(inv)\n",
        "        if is_fault or policy.is_spent(attempt, now_ms - first_ms):\n            self.end(inv, failure)\n",
        "§5: an exhausted event is paused, and its key waits",
        ("engine/test_subscriptions.py::test_an_exhausted_event_is_paused_with_its_key_and_resumable",),
    ),
    Mutant(
        "the result of a step that succeeded is thrown away",
        _EXECUTOR,
        "core.arrive(invocation, Completion(index, result, core.clock.now_ms()))\n        else:\n",
        "self.start_step(inv, index)\n        else:\n",
        "I3: an action whose result is there never runs again",
        ("engine/test_steps.py::test_a_step_runs_once_however_often_its_handler_is_replayed",),
    ),
    Mutant(
        "a result is kept from its acceptance on, not from its end",
        _EXECUTOR,
        "expires_ms=None if retention_ms is None else now_ms + retention_ms,",
        "expires_ms=None if retention_ms is None else inv.row.created_ms + retention_ms,",
        "I2: retention is counted from completion",
        ("engine/test_holes_what_is_kept.py::test_a_result_is_kept_for_its_retention_from_the_end_on",),
    ),
    Mutant(
        "what has expired is never purged",
        "streamstate/engine/_upkeep.py",
        "            self._forget(invocation)\n",
        "            pass\n",
        "I12: disk returns to base",
        ("engine/test_retention.py::test_results_failures_and_workflows_are_kept_for_a_day_and_then_purged",),
    ),
    Mutant(
        "an invocation that ended stays in memory",
        _EXECUTOR,
        "        core.live.pop(inv.id, None)\n",
        "        pass\n",
        "I12: memory returns to base",
        ("engine/test_retention.py::test_ended_invocations_leave_nothing_in_memory_and_nothing_in_the_store",),
    ),
]

_STOPPING = [
    Mutant(
        "a cancellation does not reach what the invocation calls",
        _EXECUTOR,
        "            self._cancel(child_identity(inv.id, index))\n",
        "            calls = []\n",
        "§5: cancel reaches calls' children first",
        ("engine/test_cancelling_trees.py::test_a_called_handler_is_cancelled_first_and_its_caller_hears_of_it_once",),
    ),
    Mutant(
        "a cancellation does not wait for running steps",
        _EXECUTOR,
        "if not inv.inbox or inv.running or self._cancel_children(inv):",
        "if not inv.inbox or self._cancel_children(inv):",
        "§2: a compensation must not overtake what it undoes",
        ("engine/test_cancelling.py::test_a_running_step_is_awaited_before_the_cancellation_is_raised",),
    ),
    Mutant(
        "a cancellation is told twice to who heard of it from a child",
        _EXECUTOR,
        "                caller.cancel_heard = True\n",
        "                pass\n",
        "§5: cancel is raised once",
        ("engine/test_cancelling_trees.py::test_a_called_handler_is_cancelled_first_and_its_caller_hears_of_it_once",),
    ),
    Mutant(
        "a kill leaves what the invocation calls",
        _OPERATIONS,
        "            self.kill(child_identity(invocation, index))\n",
        "            pass\n",
        "§5: kill drops the call tree",
        ("engine/test_killing.py::test_a_kill_takes_the_whole_tree_of_calls_with_it",),
    ),
    Mutant(
        "a kill leaves the timers of the invocation",
        _OPERATIONS,
        "            core.drop_timer(*timer)\n",
        "            pass\n",
        "I12: disk returns to base; I6",
        ("engine/test_upkeep.py::test_the_sleep_of_a_second_run_does_not_end_with_that_of_the_run_that_was_killed",),
    ),
    Mutant(
        "a killed invocation that waits is left among the waiters",
        _OPERATIONS,
        "        self.executor.forget_waits(inv, pending)\n",
        "",
        "I12: nothing is left of what ended",
        ("engine/test_holes_what_is_kept.py::test_a_killed_invocation_is_no_longer_among_those_who_wait",),
    ),
    Mutant(
        "a killed invocation's step still runs",
        _STEPS,
        "            self._tasks.pop(key).cancel()\n",
        "            self._tasks.pop(key)\n",
        "§5: a kill abandons running steps",
        ("engine/test_holes_what_is_kept.py::test_a_kill_cancels_an_action_on_the_loop_of_the_application",),
    ),
    Mutant(
        "a step in its pause is tried again after the cancellation",
        _EXECUTOR,
        "and index in session.machine.pending and not inv.is_cancelling:",
        "and index in session.machine.pending:",
        "§5: cancel at the next await",
        (
            "engine/test_cancelling.py",
            "engine/test_cancelling_trees.py",
        ),
    ),
]

_WAITING = [
    Mutant(
        "a promise is completed a second time",
        _EFFECTS,
        "        if core.waits.promise(promise) is not None:\n            return False\n",
        "",
        "I3: what was answered never changes",
        ("engine/test_waiting.py::test_a_promise_is_rejected_and_completed_only_once",),
    ),
    Mutant(
        "only the first waiter is told",
        _WAITS,
        "        return list(waiting)\n",
        "        return list(waiting)[:1]\n",
        "I9: every invocation that waits for what ended goes on",
        (
            "engine/test_identities.py",
            "engine/test_sends.py",
        ),
    ),
    Mutant(
        "waiters are only remembered in memory",
        _WAITS,
        "        self._core.commits.batch.waiters[(awaited, invocation, index)] = True\n",
        "",
        "I1: who waits is durable",
        ("engine/test_restarts.py::test_an_attach_a_promise_and_a_signal_go_on_after_a_restart",),
    ),
    Mutant(
        "waiters of an earlier process are not looked for",
        _WAITS,
        "stored = self._core.store.waiters(awaited) if self._may_be_stored else []",
        "stored = []",
        "I9: every invocation that waits for what ended goes on",
        ("engine/test_restarts.py::test_an_attach_a_promise_and_a_signal_go_on_after_a_restart",),
    ),
    Mutant(
        "an awakeable is resolved twice",
        _WAITS,
        "return not any(isinstance(each, Completion) and each.index == index for each in inv.inbox)",
        "return True",
        "I3: what was answered never changes",
        (
            "engine/test_holes_what_is_kept.py::test_a_second_answer_to_an_awakeable_is_refused_though_the_handler_has_not_seen_the_first",
        ),
    ),
    Mutant(
        "a cycle of calls over two objects is not seen",
        _WAITS,
        "if holder is not None and self._leads_to(holder, goals, path):",
        "if holder is not None and holder.id in goals and not path:",
        "§5: a cycle of calls is found and named",
        (
            "engine/test_call_cycles.py::test_a_cycle_over_two_objects_is_found",
            "engine/test_call_cycles.py::test_two_callers_that_wait_for_each_others_key_are_found",
        ),
    ),
]

MUTANTS = [*_FAST_PATH, *_ONE_KEY, *_TURNS, *_STOPPING, *_WAITING]
