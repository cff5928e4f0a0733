"""Source positions: at every single commit, what is behind the stored position is decided, and nothing else is.

R1, R2, I2, I5 and I10, for any interleaving of records that end, block, queue, fail and are skipped, with commits and
crashes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from streamstate import ObjectContext, Skip, TerminalError, VirtualObject, subscribe
from streamstate.errors import SubscriptionStoppedError
from streamstate.storage import Batch, MemoryStore, Status
from tests.engine.process import Process
from tests.engine.world import MINUTE, SECOND
from tests.properties import examples

ACTIONS = ("end", "sleep", "step", "fail once", "fail for good", "publish", "no JSON", "no key")
BOUNDS = {
    "streamstate.ingress._feed.CHUNK": 2,
    "streamstate.engine._engine.RECORDS_AHEAD_MAX": 4,
    "streamstate.engine._core.QUEUE_IN_MEMORY_MAX": 2,
}
KEYS = ("a", "b", "c")
Places = dict[tuple[str, int], int]


class Event(msgspec.Struct):
    number: int
    action: str


class Positions(RuleBasedStateMachine):
    """One subscription over several partitions, in process after process."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0
        self.failed: set[int] = set()
        logs = VirtualObject("Log")

        @subscribe("events", name="events", on_undecodable=Skip(), on_null_key=Skip(), max_in_flight=3)
        @logs.handler
        async def note(ctx: ObjectContext, event: Event) -> None:
            log = await ctx.get("log") or []
            if event.action == "sleep":
                await ctx.sleep(SECOND)
            elif event.action == "step":
                await ctx.run("look", asyncio.sleep, 0)
            elif event.action == "fail once" and event.number not in self.failed:
                self.failed.add(event.number)
                raise ConnectionError("no route")
            ctx.set("log", [*log, event.number])
            if event.action == "publish":
                ctx.publish("out", event.number, key=ctx.key)
            elif event.action == "fail for good":
                raise TerminalError("no such order")

        self.patch = pytest.MonkeyPatch()
        for name, bound in BOUNDS.items():
            self.patch.setattr(name, bound)
        commit = MemoryStore.commit

        def witnessed(store: MemoryStore, batch: Batch) -> None:
            commit(store, batch)
            self._check(store)

        self.patch.setattr(MemoryStore, "commit", witnessed)
        self.process = Process([logs], self.patch, live_max=3, keys_max=2)
        self.expected: dict[str, list[int]] = {key: [] for key in KEYS}
        self.published: list[int] = []
        self.decidable: dict[tuple[int, int], tuple[str, int] | None] = {}

    @initialize()
    def starts(self) -> None:
        self.process.start()

    @rule(records=st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(ACTIONS)), min_size=1, max_size=6))
    def records_come(self, records: list[tuple[str, str]]) -> None:
        for key, action in records:
            self.numbers += 1
            value = b"?" if action == "no JSON" else msgspec.json.encode(Event(self.numbers, action))
            raw = None if action == "no key" else key.encode()
            record = self.process.topics.append("events", raw, value)
            is_skipped = action in ("no JSON", "no key")
            self.decidable[record.partition, record.offset] = None if is_skipped else (key, self.numbers)
            if not is_skipped:
                self.expected[key].append(self.numbers)
            if action == "publish":
                self.published.append(self.numbers)

    @rule(rounds=st.integers(1, 4), is_written=st.booleans())
    def goes_on(self, rounds: int, is_written: bool) -> None:
        self.process.loop.spin(rounds)
        if is_written:
            self.process.writer.write()

    @rule()
    def time_passes(self) -> None:
        self.process.loop.run(self.process.clock.advance(SECOND))

    @rule()
    def comes_to_rest(self) -> None:
        self.process.settle()
        behind = sum(self._positions(self.process.store).values())
        assert behind == len(self.decidable), "R2: no key holds back its partition"

    @rule()
    def crashes(self) -> None:
        self.process.crash()

    @rule()
    def is_stopped_and_started(self) -> None:
        self.process.restart()

    def teardown(self) -> None:
        """I2: in the end every record has taken effect once, in the order of its key, whatever happened."""
        try:
            self.comes_to_rest()
            self.process.loop.run(self.process.clock.advance(10 * MINUTE))
            assert {key: self._log(self.process.store, key) for key in KEYS} == self.expected
            first_seen = dict.fromkeys(record.value or b"" for record in self.process.topics.records("out"))
            by_key = [self._by_key(map(int, first_seen)), self._by_key(self.published)]
            assert by_key[0] == by_key[1]
            assert self.process.running.engine.core.live == {}
        finally:
            self.process.close()

    def _check(self, store: MemoryStore) -> None:
        """What is durable now: in front of the position all is decided, behind it nothing has left a trace."""
        positions = self._positions(store)
        rows = {(row.origin.partition, row.origin.offset): row for row in store._content.invocations.values()}
        logs = {key: self._log(store, key) for key in KEYS}
        for place, event in self.decidable.items():
            partition, offset = place
            row = rows.get(place)
            is_waiting = row is not None and row.status is not Status.COMPLETED
            has_taken_effect = event is not None and event[1] in logs[event[0]]
            assert not (is_waiting and has_taken_effect), "I5: ended and still there"
            if offset < positions.get(("events", partition), 0):
                assert event is None or is_waiting or has_taken_effect, f"{event} at {place} was passed undecided"
            else:
                assert row is None, f"{event} at {place} is behind the position"
                assert not has_taken_effect, f"{event} at {place} would take effect again"
        for source in self.process.topics._sources:
            for reported, offset in source.reported.items():
                assert offset <= positions.get((reported.topic, reported.partition), 0), "I10"

    def _by_key(self, numbers: Any) -> dict[str, list[int]]:
        there = list(numbers)
        return {key: [number for number in there if number in self.expected[key]] for key in KEYS}

    @staticmethod
    def _positions(store: MemoryStore) -> Places:
        return {(topic, partition): offset for (_, topic, _, partition), offset in store.positions().items()}

    @staticmethod
    def _log(store: MemoryStore, key: str) -> list[int]:
        return msgspec.json.decode(store.state("Log", key).get("log", b"[]"), type=list[int])


TestPositions = Positions.TestCase
TestPositions.settings = examples(25, steps=25)


class Stopping:
    """A subscription that stops at the first record that it cannot read."""

    def __init__(self, patch: pytest.MonkeyPatch, chunk: int) -> None:
        patch.setattr("streamstate.ingress._feed.CHUNK", chunk)
        logs = VirtualObject("Log")

        @subscribe("events", name="events")
        @logs.handler
        async def note(ctx: ObjectContext, number: int) -> None:
            log = await ctx.get("log") or []
            if number % 3 == 0:
                await ctx.sleep(SECOND)
            ctx.set("log", [*log, number])

        self.process = Process([logs], patch)


@examples(20)
@given(st.lists(st.sampled_from(KEYS), min_size=1, max_size=12), st.integers(0, 99), st.integers(1, 4))
def test_a_subscription_stops_in_front_of_the_record_that_stops_it_and_again_after_each_restart(
    keys: list[str], choice: int, chunk: int
) -> None:
    """R1: those before it are decided, it and those behind it in its partition are not, however often it starts."""
    process = Stopping(pytest.MonkeyPatch(), chunk).process
    try:
        bad = choice % len(keys)
        appended = [
            process.topics.append("events", key.encode(), b"?" if number == bad else b"%d" % number)
            for number, key in enumerate(keys)
        ]
        stop = appended[bad]
        process.start()
        for _ in range(3):
            process.settle()
            error = process.running.feeds["events"].error
            assert isinstance(error, SubscriptionStoppedError)
            assert f"partition {stop.partition}, offset {stop.offset}" in str(error)
            positions = {place[3]: offset for place, offset in process.store.positions().items()}
            assert positions[stop.partition] == stop.offset
            process.loop.run(process.clock.advance(len(keys) * SECOND))
            process.restart()
        for key in KEYS:
            log = msgspec.json.decode(process.store.state("Log", key).get("log", b"[]"), type=list[int])
            mine = [number for number, each in enumerate(keys) if each == key]
            assert log == mine[: len(log)], "in order, each once"
            if key == keys[bad]:
                assert log == [number for number in mine if number < bad]
    finally:
        process.close()
