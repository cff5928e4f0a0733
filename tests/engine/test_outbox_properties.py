"""The outbox under any failures of its sink, and crashes: nothing is dropped or overtaken, ids stay (I1, I6)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamstate.engine._outbox import Outbox
from streamstate.errors import SinkError
from streamstate.storage import Batch, MemoryStore, OutboxMessage
from tests.engine.jumping import JumpingLoop
from tests.properties import examples

CLUSTERS = ("main", "other")


class Cluster:
    """A cluster of topics that fails as planned.

    Attributes:
        log: what it has, in the order in which it came.
        plan: of the next hand-overs, how many messages arrive, and how many of these the cluster says it has.
        refusals: how many attempts to connect fail.
    """

    def __init__(self, outbox: Outboxes, name: str) -> None:
        self._outbox = outbox
        self._name = name
        self.log: list[OutboxMessage] = []
        self.plan: deque[tuple[int, int]] = deque()
        self.refusals = 0

    async def open(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise SinkError("no broker answers")

    async def publish(self, messages: Sequence[OutboxMessage]) -> None:
        arrive, acknowledged = self.plan.popleft() if self.plan else (len(messages), -1)
        for message in messages[:arrive]:
            await asyncio.sleep(0)  # a crash may come here
            assert message.position > self._outbox.done[self._name], "what is acknowledged is not sent again"
            self.log.append(message)
        if acknowledged >= 0:
            raise SinkError("the broker is gone", acknowledged=min(acknowledged, arrive, len(messages) - 1))

    async def close(self) -> None: ...


class Outboxes(RuleBasedStateMachine):
    """The relays of two clusters over one store, process after process."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("streamstate.engine._outbox.CHUNK_MAX", 2)
        self.patch.setattr("streamstate.engine._outbox.IN_MEMORY_MAX", 3)
        self.loop = JumpingLoop()
        self.store = MemoryStore()
        self.clusters = {name: Cluster(self, name) for name in CLUSTERS}
        self.done = dict.fromkeys(CLUSTERS, 0)
        self.published: dict[str, list[OutboxMessage]] = {name: [] for name in CLUSTERS}
        self.relays: list[asyncio.Task[None]] = []
        self.outbox: Outbox

    @initialize()
    def starts(self) -> None:
        self.outbox = Outbox(self.clusters, self.store, self._acknowledged)
        self.relays = [self.loop.create_task(relay.run()) for relay in self.outbox.relays.values()]

    @rule(turns=st.lists(st.tuples(st.sampled_from(CLUSTERS), st.sampled_from("ab")), min_size=1, max_size=6))
    def a_batch_is_durable(self, turns: list[tuple[str, str]]) -> None:
        messages = []
        for cluster, key in turns:
            position = self.outbox.next_position()
            message = OutboxMessage(position, cluster, "topic", key.encode(), b"v", (), f"inv/{position}")
            messages.append(message)
            self.published[cluster].append(message)
        self.store.commit(Batch(outbox=messages))
        self.outbox.release(messages)

    @rule(cluster=st.sampled_from(CLUSTERS), arrive=st.integers(0, 2), told=st.integers(0, 2))
    def the_next_hand_over_fails(self, cluster: str, arrive: int, told: int) -> None:
        self.clusters[cluster].plan.append((arrive, told))

    @rule(rounds=st.integers(1, 6))
    def goes_on(self, rounds: int) -> None:
        self.loop.spin(rounds)

    @rule(cluster=st.sampled_from(CLUSTERS), refusals=st.integers(0, 2))
    def crashes_and_starts_again(self, cluster: str, refusals: int) -> None:
        for relay in self.relays:
            relay.cancel()
        self.loop.run(_ended(self.relays))
        self.store = self.store.reopen()
        self.clusters[cluster].refusals = refusals
        self.starts()

    @rule()
    def settles(self) -> None:
        """Nothing is dropped: when nothing waits, the clusters have everything, and the store nothing more."""

        for _ in range(1_000):
            if self.outbox.is_idle:
                break
            self.loop.run(asyncio.sleep(0.1))
        assert self.outbox.is_idle
        for name, cluster in self.clusters.items():
            assert {each.position for each in cluster.log} == {each.position for each in self.published[name]}
            assert self.store.outbox(name, 0, 100) == []
            assert self.outbox.relays[name].last_error is None

    @invariant()
    def nothing_is_overtaken_or_altered(self) -> None:
        """Each cluster gets its messages in their order, without a gap, whole, however often one comes again."""
        for name, cluster in self.clusters.items():
            seen: list[OutboxMessage] = []
            for message in cluster.log:
                if message in seen:
                    continue
                assert message == self.published[name][len(seen)]
                seen.append(message)

    def teardown(self) -> None:
        try:
            self.settles()
        finally:
            self.patch.undo()
            self.loop.finish()

    def _acknowledged(self, cluster: str, position: int) -> None:
        assert position > self.done[cluster]
        there = {each.position for each in self.clusters[cluster].log}
        assert there >= {each.position for each in self.published[cluster] if each.position <= position}
        self.done[cluster] = position
        self.store.commit(Batch(outbox_done={cluster: position}))


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError), result


TestOutboxes = Outboxes.TestCase
TestOutboxes.settings = examples(25, steps=25)
