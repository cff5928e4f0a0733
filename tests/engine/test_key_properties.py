"""Key queues under any order of inputs, ends, cancels, kills, pauses, crashes: K1 to K3, I4, I9."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from streamstate import ObjectContext, ObjectSharedContext, Record, RetryPolicy, VirtualObject, subscribe
from streamstate.definitions import HandlerSpec
from streamstate.journal import Success, awakeable_id
from streamstate.storage import Status
from tests.engine.process import Process
from tests.engine.world import SECOND
from tests.properties import examples

KEYS = st.sampled_from("ab")
CHOICES = st.integers(0, 99)
BOUNDS = {"streamstate.engine._core.QUEUE_IN_MEMORY_MAX": 2}


class Input(msgspec.Struct):
    """What an event asks of its handler: to end at once, or to wait for an answer first."""

    number: int
    is_quick: bool


@dataclass
class Waiting:
    """An invocation that has been accepted and has not ended, as the model knows it."""

    id: str
    event: Input
    is_paused: bool = False


@dataclass
class Model:
    """What must be true of one key when everything is at rest."""

    queue: list[Waiting] = field(default_factory=list)
    log: list[int] = field(default_factory=list)

    def settle(self) -> None:
        """The heads that need no answer end."""
        while self.queue and self.queue[0].event.is_quick:
            self.log.append(self.queue.pop(0).event.number)


class Keys(RuleBasedStateMachine):
    """Two keys of one object; between two rests anything may happen in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[int] = set()
        self.gates = VirtualObject("Gate", retry=RetryPolicy(attempts_max=1))

        @subscribe("events", name="events")
        @self.gates.handler
        async def enter(ctx: ObjectContext, event: Input) -> None:
            log = await ctx.get("log") or []
            if not event.is_quick:
                await ctx.awakeable(str)
                if event.number in self.broken:
                    raise ValueError("broken")
            ctx.set("log", [*log, event.number])  # what was read in the first turn: nobody may have come between

        @self.gates.shared
        async def look(ctx: ObjectSharedContext) -> list[int]:
            return await ctx.get("log") or []

        patch = pytest.MonkeyPatch()
        for name, bound in BOUNDS.items():
            patch.setattr(name, bound)
        self.process = Process([self.gates], patch, live_max=2, keys_max=1)
        self.enter: HandlerSpec = enter.spec
        self.look: HandlerSpec = look.spec
        self.models = {key: Model() for key in "ab"}
        self.scheduled: dict[int, tuple[str, Waiting]] = {}
        self.numbers = 0
        self.at_rest = {key: Model() for key in "ab"}

    @initialize()
    def starts(self) -> None:
        self.process.start()
        self._begin()

    @rule(key=KEYS, is_quick=st.booleans())
    def is_called(self, key: str, is_quick: bool) -> None:
        event = self._event(is_quick)
        self._enqueue(key, Waiting(self._accept(key, event, None), event))

    @rule(key=KEYS, is_quick=st.booleans())
    def takes_a_record(self, key: str, is_quick: bool) -> None:
        event = self._event(is_quick)
        offset = self.intake._positions.get(("test", "", 0), 0)
        record = Record("test", 0, offset, 0, key.encode(), msgspec.json.encode(event))
        self.intake.take([record], {})
        self.process.running.engine._kick()  # a feed pumps then; here it is one of the things that happen later
        invocation = self.intake._identity(record)
        self._enqueue(key, Waiting(invocation, event))

    @rule(key=KEYS, is_quick=st.booleans())
    def is_scheduled(self, key: str, is_quick: bool) -> None:
        self.process.clock.skip(SECOND / 1_000)  # so that no two become due in the same moment
        event = self._event(is_quick)
        due_ms = self.process.clock.now_ms() + 5_000
        self.scheduled[due_ms] = key, Waiting(self._accept(key, event, due_ms), event)

    @precondition(lambda self: self._answerable())
    @rule(choice=CHOICES, breaks=st.booleans())
    def gets_its_answer(self, choice: int, breaks: bool) -> None:
        heads = self._answerable()
        key, head = heads[choice % len(heads)]
        if breaks:
            self.broken.add(head.event.number)
            head.is_paused = True
        else:
            self.models[key].queue.remove(head)
            self.models[key].log.append(head.event.number)
        engine = self.process.running.engine
        assert engine.complete_awakeable(awakeable_id(head.id, 1), Success(b'"go"'))
        assert not engine.complete_awakeable(awakeable_id(head.id, 1), Success(b'"again"'))

    @precondition(lambda self: self._slow())
    @rule(choice=CHOICES)
    def is_killed(self, choice: int) -> None:
        victims = self._slow()
        key, victim = victims[choice % len(victims)]
        operations = self.process.running.engine.operations
        assert operations.kill(victim.id)
        assert not operations.kill(victim.id)
        self._drop(key, victim)

    @precondition(lambda self: self._cancellable())
    @rule(choice=CHOICES)
    def is_cancelled(self, choice: int) -> None:
        victims = self._cancellable()
        key, victim = victims[choice % len(victims)]
        assert self.process.running.engine.operations.cancel(victim.id)
        self._drop(key, victim)

    @precondition(lambda self: self._paused())
    @rule(choice=CHOICES)
    def is_resumed(self, choice: int) -> None:
        paused = self._paused()
        key, head = paused[choice % len(paused)]
        self.broken.discard(head.event.number)
        self.process.running.engine.operations.resume(head.id)
        self.models[key].queue.remove(head)
        self.models[key].log.append(head.event.number)

    @rule(rounds=st.integers(1, 3), is_written=st.booleans())
    def goes_on(self, rounds: int, is_written: bool) -> None:
        self.process.loop.spin(rounds)
        if is_written:
            self.process.writer.write()

    @rule()
    def comes_to_rest(self) -> None:
        self.process.settle()
        self._check()
        self._begin()

    @rule(seconds=st.sampled_from([1, 5]))
    def time_passes(self, seconds: int) -> None:
        self.comes_to_rest()
        self.process.loop.run(self.process.clock.advance(seconds * SECOND))
        now_ms = self.process.clock.now_ms()
        for due_ms in sorted(due_ms for due_ms in self.scheduled if due_ms <= now_ms):
            key, waiting = self.scheduled.pop(due_ms)
            self._enqueue(key, waiting)
        self.comes_to_rest()

    @rule(key=KEYS)
    def is_looked_at(self, key: str) -> None:
        """A shared handler waits for nobody, and sees the latest end of a turn."""
        self.comes_to_rest()
        seen = self.process.loop.create_task(self.process.running.engine.call(self.look, key, b""))
        self.process.settle()
        assert seen.done(), "a shared handler waited for an exclusive one"
        assert seen.result() == Success(msgspec.json.encode(self.models[key].log))

    @rule(is_crash=st.booleans())
    def starts_again_at_rest(self, is_crash: bool) -> None:
        """Everything that was acknowledged is there again, in its order."""
        self.comes_to_rest()
        if is_crash:
            self.process.crash()
        else:
            self.process.restart()
        self.comes_to_rest()

    @rule()
    def crashes_in_the_middle(self) -> None:
        """I7: what comes back is a prefix: nothing that was at rest is lost, nothing is moved or made up."""
        self.process.crash()
        self.process.settle()
        for key, model in self.models.items():
            before = self.at_rest[key]
            rows = {row.id: row for row in self.process.store.invocations.lane("Gate", key, 0, 1_000)}
            log = self._log_of(key)
            assert log[: len(before.log)] == before.log
            assert len(set(log)) == len(log)
            assert set(log) <= {each.event.number for each in self.accepted[key]}
            queue = [each for each in self.accepted[key] if each.id in rows]
            assert list(rows) == [each.id for each in queue], "in the order of acceptance"
            for each in before.queue:
                assert each in queue or each.event.number in {*log, *self.dropped}
            for each in queue:
                each.is_paused = rows[each.id].status is Status.PAUSED
            model.queue, model.log = queue, log
        self.broken = {each.event.number for _key, each in self._paused()}  # an answer that was lost breaks nothing
        timers = {each.fire_ms for each in self.process.store.timers(None, 1_000)}
        assert timers >= self.scheduled_at_rest
        self.scheduled = {due_ms: each for due_ms, each in self.scheduled.items() if due_ms in timers}
        self._check()
        self._begin()

    def teardown(self) -> None:
        try:
            self.time_passes(10)
            self._end_everything()
        finally:
            self.process.close()

    def _end_everything(self) -> None:
        """I9: whatever happened, everything ends, and no key is held by what has ended."""
        while paused := self._paused():
            self.is_resumed(paused.index(paused[0]))
            self.comes_to_rest()
        while self._answerable():
            self.gets_its_answer(0, breaks=False)
            self.comes_to_rest()
        core = self.process.running.engine.core
        assert [model.queue for model in self.models.values()] == [[], []]
        assert core.live == {}
        assert all(slot.holder is None for slot in core.keys.services["Gate"].values())
        assert self.process.store.invocations.runnable(0, 10) == []

    def _begin(self) -> None:
        """At rest: what is so now must be so after any crash."""
        self.intake = self.process.intake(self.process.running.engine.program.subscriptions[0])
        self.at_rest = {key: Model(list(model.queue), list(model.log)) for key, model in self.models.items()}
        self.accepted = {key: list(model.queue) for key, model in self.models.items()}
        for key, model in self.models.items():
            self.accepted[key] += [Waiting("", Input(number, True)) for number in model.log]
        self.scheduled_at_rest = set(self.scheduled)
        self.heads = [(key, model.queue[0]) for key, model in self.models.items() if model.queue]
        self.dropped: set[int] = set()

    def _check(self) -> None:
        core = self.process.running.engine.core
        assert not core.work
        for key, model in self.models.items():
            model.settle()
            ids = [each.id for each in model.queue]
            rows = self.process.store.invocations.lane("Gate", key, 0, 1_000)
            assert [row.id for row in rows] == ids, "K1: in the order of acceptance"
            held = [Status.PAUSED if each.is_paused else Status.SUSPENDED for each in model.queue[:1]]
            assert [row.status for row in rows] == [*held, *([Status.PENDING] * (len(ids) - 1))][: len(ids)]
            assert self._log_of(key) == model.log
            slot = core.keys.find("Gate", key)
            if slot is not None:
                assert slot.values == self.process.store.state("Gate", key), "K3"
                assert (slot.holder.id if slot.holder is not None else None) == (ids[0] if ids else None), "K1"
                assert [inv.id for inv in slot.queue] == ids[1 : 1 + len(slot.queue)], "K1"
        alive = {each.id for model in self.models.values() for each in model.queue}
        assert set(core.live) <= alive | {each.id for _key, each in self.scheduled.values()}

    def _log_of(self, key: str) -> list[int]:
        raw = self.process.store.state("Gate", key).get("log", b"[]")
        return msgspec.json.decode(raw, type=list[int])

    def _event(self, is_quick: bool) -> Input:
        self.numbers += 1
        return Input(self.numbers, is_quick)

    def _accept(self, key: str, event: Input, due_ms: int | None) -> str:
        engine = self.process.running.engine
        invocation, is_new = engine._accept(self.enter, key, msgspec.json.encode(event), None, None, due_ms)
        assert is_new
        engine._kick()  # as whoever waits for it to be durable does
        return invocation

    def _enqueue(self, key: str, waiting: Waiting) -> None:
        self.models[key].queue.append(waiting)
        self.accepted[key].append(waiting)

    def _drop(self, key: str, victim: Waiting) -> None:
        self.models[key].queue.remove(victim)
        self.dropped.add(victim.event.number)

    def _slow(self) -> list[tuple[str, Waiting]]:
        """Those that are surely there: they do not end by themselves."""
        return [(key, each) for key, model in self.models.items() for each in model.queue if not each.event.is_quick]

    def _paused(self) -> list[tuple[str, Waiting]]:
        return [(key, each) for key, each in self._slow() if each.is_paused]

    def _cancellable(self) -> list[tuple[str, Waiting]]:
        return [(key, each) for key, each in self._slow() if not each.is_paused]

    def _answerable(self) -> list[tuple[str, Waiting]]:
        """Those that wait for their answer since the last rest."""
        there = self._cancellable()
        return [head for head in self.heads if head in there]


TestKeys = Keys.TestCase
TestKeys.settings = examples(25, steps=30)
