"""Bugs of replay: the journal, the identities, and what a handler is answered."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CONTEXT = "streamstate/context/_context.py"
_DURABLE = "streamstate/context/_durable.py"
_LEDGER = "streamstate/context/_ledger.py"
_MACHINE = "streamstate/journal/_machine.py"
_SESSION = "streamstate/context/_session.py"

MUTANTS = [
    Mutant(
        "a command takes its index when it is awaited",
        _CONTEXT,
        "        return self._session.issue(Command(Kind.RUN, bound.step.name), optional_decode(decode), bound)\n",
        "        async def later() -> Any:\n"
        "            command = Command(Kind.RUN, bound.step.name)\n"
        "            return await self._session.issue(command, optional_decode(decode), bound)\n"
        "        return later()\n",
        "J1: a command takes its index when it is issued",
        ("context/test_combinators.py::test_what_is_awaited_late_has_the_index_of_when_it_was_called",),
    ),
    Mutant(
        "replay delivers arrivals before the handler has run dry",
        _SESSION,
        "            self._cancel(arrival)\n        self._settle()\n",
        "            self._cancel(arrival)\n        if not self.is_replaying:\n            self._settle()\n",
        "J2, I8: one arrival, run dry, then the next entry",
        ("context/test_combinators.py",),
    ),
    Mutant(
        "replay does not compare what is sent to",
        _MACHINE,
        '_COMPARED = ("kind", "name", "key", "body", "options")',
        '_COMPARED = ("kind", "body", "options")',
        "I8: replay issues the same commands",
        ("journal/test_mismatch.py",),
    ),
    Mutant(
        "replay does not compare payloads",
        _MACHINE,
        '_COMPARED = ("kind", "name", "key", "body", "options")',
        '_COMPARED = ("kind", "name", "key", "options")',
        "I8: replay issues the same commands",
        ("journal/test_mismatch.py",),
    ),
    Mutant(
        "a handler that ends too early is not seen",
        _MACHINE,
        "            if self._cursor < len(self.log):\n                entry",
        "            if False:\n                entry",
        "I8: replay issues the same commands",
        ("journal/test_mismatch.py",),
    ),
    Mutant(
        "an index is completed twice",
        _MACHINE,
        "        if isinstance(arrival, Completion):\n            self.pending.pop(arrival.index, None)\n",
        "        if isinstance(arrival, Completion):\n            pass\n",
        "J3: an index is completed at most once",
        ("journal/test_machine.py",),
    ),
    Mutant(
        "a second outcome replaces the first",
        _LEDGER,
        "        if self._awaiting and (awaiting := self._awaiting.pop(index, None)) is not None:\n",
        "        if self._awaiting and (awaiting := self._awaiting.get(index)) is not None:\n"
        "            awaiting[0]._state = 'PENDING'\n",
        "I3: a journaled result never changes",
        ("context/test_combinators.py::test_a_second_outcome_of_a_command_changes_nothing",),
    ),
    Mutant(
        "replay reads the state of now",
        _LEDGER,
        "        if issued.result is not None:\n            resolve(future, issued.result, decode)\n",
        "        if issued.result is not None:\n"
        "            now = self.values.get(issued.name) if issued.kind == Kind.GET else None\n"
        "            resolve(future, issued.result if now is None else Success(now), decode)\n",
        "S2, I8: what was read in a committed turn is taken from the journal",
        ("engine/test_keys.py::test_what_a_shared_handler_has_read_stays_so_for_its_replays",),
    ),
    Mutant(
        "replay sends again",
        _LEDGER,
        "        if is_new:\n            if self.effects is None:\n",
        "        if is_new or command.kind == Kind.SEND:\n            if self.effects is None:\n",
        "E2, I2: a replayed command decides nothing",
        (
            "engine/test_sends.py",
            "engine/test_restarts.py",
        ),
    ),
    Mutant(
        "replay writes state again",
        _LEDGER,
        "        self._record(Command(kind, name, body=value, site=user_line()))\n        if is_new:\n",
        "        self._record(Command(kind, name, body=value, site=user_line()))\n        if is_new or name:\n",
        "E2, I5: a replayed command decides nothing",
        ("context/test_combinators.py", "engine/test_state.py", "engine/test_restarts.py"),
    ),
    Mutant(
        "random numbers are new on every attempt",
        _CONTEXT,
        "random.Random(seed_of(self.invocation_id))",
        "random.Random()",
        "I8: replay issues the same commands",
        (
            "context/test_verbs.py::test_random_numbers_and_uuids_are_the_same_on_every_attempt_and_differ_between_each_other",
        ),
    ),
    Mutant(
        "tasks hash by their address",
        "streamstate/context/_tasks.py",
        "        return self._inner\n\n    def __hash__(self) -> int:\n        return self._number\n",
        "        return self._inner\n\n    def __hash__(self) -> int:\n        return id(self) >> 4\n",
        "I8: order does not depend on memory addresses",
        ("context/test_determinism.py", "context/test_combinators.py"),
    ),
    Mutant(
        "the moment of a timer is counted from every attempt anew",
        _SESSION,
        "loop.now_s = max(loop.now_s, (arrival.at_ms - self.started_ms) / 1000)",
        "loop.now_s = loop.now_s",
        "I6, I8: timers are durable moments",
        ("context/test_combinators.py",),
    ),
    Mutant(
        "two topics of one name have one identity",
        "streamstate/journal/_identity.py",
        'return _joined("record", app, subscription, topic, topic_id, str(partition))',
        'return _joined("record", app, subscription, topic, str(partition))',
        "I2: the topic id is part of a record's identity",
        ("journal/test_identity.py",),
    ),
    Mutant(
        "parts of an identity run into each other",
        "streamstate/journal/_identity.py",
        'return "".join([f"{len(part)}:{part}" for part in parts])',
        'return "".join([f"{part}:" for part in parts])',
        "I2: two inputs are two invocations",
        ("journal/test_identity.py",),
    ),
    Mutant(
        "a turn is never cut",
        _LEDGER,
        "COMMANDS_PER_TURN_CUT = 1_000 ",
        "COMMANDS_PER_TURN_CUT = 1_000_000 ",
        "§2: a handler that never blocks still commits",
        ("engine/test_state.py::test_a_handler_that_writes_without_end_commits_on_its_way",),
    ),
    Mutant(
        "a handler that never blocks is never stopped",
        "streamstate/context/_loop.py",
        "            if not left:\n                raise RunawayTurnError(",
        "            if left == -9_000_000:\n                raise RunawayTurnError(",
        "§2: a handler that spins is cut",
        ("context/test_refusals.py::test_a_handler_that_never_blocks_is_cut",),
    ),
    Mutant(
        "a live result is not what a replay gives",
        "streamstate/engine/_steps.py",
        "            result = Success(action.encode(await self._call(action)))\n",
        "            result = Success(str(await self._call(action)).encode())\n",
        "I3: the result is what the action returned",
        ("engine/test_steps.py",),
    ),
]
