"""The world around the engine: topics that deliver again, a sink that is down now and then, a wall clock that jumps."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable, Mapping, Sequence

from streamstate.definitions import Record
from streamstate.engine import OutboxMessage
from streamstate.errors import SinkError
from streamstate.ingress import PartitionId, Records, SourceStopped
from tests.simulation.audit import Audit
from tests.simulation.witness import Witness

PARTITIONS = 3
EPOCH_S = 1_800_000_000.0


class Wall:
    """Stands for the module `time` in the engine's clock: a wall clock that jumps, a monotonic one that does not."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        self.now_s: Callable[[], float] = lambda: 0.0

    def time_ns(self) -> int:
        return int((EPOCH_S + self.now_s() + self.offset_s) * 1_000_000_000)

    def monotonic(self) -> float:
        return self.now_s()


class Topics:
    """Records that have arrived, by topic and partition. They outlive the process."""

    def __init__(self) -> None:
        self._partitions: dict[str, list[list[Record]]] = {}
        self.sources: list[Source] = []

    def append(self, topic: str, key: str, value: bytes) -> Record:
        partitions = self.of(topic)
        number = zlib.crc32(key.encode()) % PARTITIONS
        record = Record(topic, number, len(partitions[number]), 0, key.encode(), value, ())
        partitions[number].append(record)
        for source in self.sources:
            source.wake()
        return record

    def of(self, topic: str) -> list[list[Record]]:
        return self._partitions.setdefault(topic, [[] for _ in range(PARTITIONS)])


class Source:
    """One subscription's records, some of them twice: a source may go back whenever it likes."""

    def __init__(
        self, topic: str, subscription: str, topics: Topics, rng: random.Random, audit: Audit, witness: Witness
    ) -> None:
        self._topic = topic
        self._subscription = subscription
        self._topics = topics
        self._rng = rng
        self._audit = audit
        self._witness = witness
        self._more = asyncio.Event()
        self._next = [0] * PARTITIONS
        self._seen = [0] * PARTITIONS
        topics.sources.append(self)

    def wake(self) -> None:
        self._more.set()

    def rewind(self, records: int) -> None:
        """Deliver the last ones again."""
        self._next = [max(0, offset - records) for offset in self._next]
        self._witness.count("rewinds")
        self.wake()

    @property
    def is_drained(self) -> bool:
        partitions = self._topics.of(self._topic)
        return all(offset == len(records) for offset, records in zip(self._next, partitions, strict=True))

    async def open(self, positions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        known = {each.partition: offset for each, offset in positions.items()}
        self._next = [known.get(number, 0) for number in range(PARTITIONS)]
        self._seen = list(self._next)
        self._more.set()
        return {PartitionId(self._topic, "", number): 0 for number in range(PARTITIONS) if number not in known}

    async def poll(self) -> Records | SourceStopped:
        while True:
            records = self._take()
            if records:
                await asyncio.sleep(self._rng.random() * 0.005)
                return Records(records, {})
            self._more.clear()
            await self._more.wait()

    def _take(self) -> list[Record]:
        taken: list[Record] = []
        order = list(range(PARTITIONS))
        self._rng.shuffle(order)
        for number in order:
            records = self._topics.of(self._topic)[number]
            start = self._next[number]
            end = min(len(records), start + self._rng.randint(1, 8))
            taken.extend(records[start:end])
            again = min(end, self._seen[number]) - start
            self._witness.count("records delivered again", max(0, again))
            self._seen[number] = max(end, self._seen[number])
            self._next[number] = end
        return taken

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        """I10: never ahead of what is durable."""
        for each, offset in positions.items():
            durable = self._audit.positions.get((self._subscription, each.topic, each.topic_id, each.partition), 0)
            if offset > durable:
                self._witness.violate("I10", f"{each} is reported at {offset}, durable is {durable}")
        self._witness.count("positions reported")

    async def close(self) -> None:
        self._topics.sources.remove(self)


class Sink:
    """Takes messages, unless it is down; what it took before an error may not have been acknowledged."""

    def __init__(
        self, rng: random.Random, audit: Audit, witness: Witness, is_down: Callable[[], bool], delay_ms: float
    ) -> None:
        self._rng = rng
        self._delay_s = delay_ms / 1000
        self._audit = audit
        self._witness = witness
        self._is_down = is_down
        self.messages: dict[str, OutboxMessage] = {}
        self.order: list[int] = []

    async def open(self) -> None:
        await asyncio.sleep(self._rng.random() * 0.01)
        self._check_up(0)

    async def publish(self, messages: Sequence[OutboxMessage]) -> None:
        for taken, message in enumerate(messages):
            await asyncio.sleep(self._rng.random() * self._delay_s)
            self._check_up(self._rng.randint(0, taken))
            self._take(message)
        self._check_up(self._rng.randint(0, len(messages)))

    def _check_up(self, acknowledged: int) -> None:
        if self._is_down():
            self._witness.count("sink failures")
            raise SinkError("the cluster is down", acknowledged=acknowledged)

    def _take(self, message: OutboxMessage) -> None:
        """I1, and the order of the outbox: nothing is seen first that was decided later."""
        self._witness.note("published", message.message_id[4:10], message.position, message.value)
        if message.message_id not in self._audit.messages:
            self._witness.violate("I1", f"{message} is published before it is durable")
        before = self.messages.get(message.message_id)
        if before is not None:
            self._witness.count("published again")
            if (before.value, before.position) != (message.value, message.position):
                self._witness.violate("I2", f"{message} was {before} before")
            return
        if self.order and message.position < self.order[-1]:
            self._witness.violate("I4", f"{message} is published behind position {self.order[-1]}")
        self.messages[message.message_id] = message
        self.order.append(message.position)

    async def close(self) -> None:
        """Nothing to disconnect from."""
