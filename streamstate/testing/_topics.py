"""Topics in memory: a connector for tests, with partitions, offsets and order, and without a network."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from streamstate.definitions import Record, SubscriptionSpec, Topic
from streamstate.engine import OutboxMessage
from streamstate.errors import SourceError
from streamstate.ingress import PartitionId, Records, SourceStopped
from streamstate.serde import serde_for

PARTITIONS = 4


class MemoryTopics:
    """A cluster in memory. Topics are made when they are named first; a key's records share a partition.

    Args:
        name: the cluster's name.
        now_ms: gives the timestamps.
    """

    def __init__(self, name: str = "memory", now_ms: Any = None) -> None:
        self.name = name
        self._now_ms = now_ms
        self._partitions: dict[str, list[list[Record]]] = {}
        self._order: dict[str, list[Record]] = {}
        self._sources: list[MemorySource] = []

    def append(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] = ()
    ) -> Record:
        """Append a record; it is there for every source at once."""
        partitions = self.partitions(topic)
        order = self._order[topic]
        number = zlib.crc32(key) % PARTITIONS if key is not None else len(order) % PARTITIONS
        timestamp_ms = self._now_ms() if self._now_ms is not None else 0
        record = Record(topic, number, len(partitions[number]), timestamp_ms, key, value, tuple(headers))
        partitions[number].append(record)
        order.append(record)
        for source in self._sources:
            source.wake()
        return record

    def partitions(self, topic: str) -> list[list[Record]]:
        if topic not in self._partitions:
            self._partitions[topic] = [[] for _ in range(PARTITIONS)]
            self._order[topic] = []
        return self._partitions[topic]

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, in the order of their arrival."""
        return list(self._order.get(topic, ()))

    def matching(self, topics: tuple[str, ...] | re.Pattern[str]) -> Iterator[str]:
        if isinstance(topics, tuple):
            yield from topics
        else:
            yield from [name for name in self._partitions if topics.match(name)]

    def is_drained(self, stopped: Collection[str]) -> bool:
        """True when every source has handed over everything and asks for more, or its subscription has stopped."""
        return all(source.is_drained or source.name in stopped for source in self._sources)

    # Connector.

    def source(self, subscription: SubscriptionSpec) -> MemorySource:
        source = MemorySource(self, subscription)
        self._sources.append(source)
        return source

    def sink(self) -> MemorySink:
        return MemorySink(self)

    def redacted_options(self) -> Mapping[str, str]:
        return {"bootstrap.servers": "memory"}

    async def check(self, topics: Sequence[str]) -> list[str]:
        return []


class MemorySource:
    """The records of one subscription, from memory."""

    def __init__(self, topics: MemoryTopics, subscription: SubscriptionSpec) -> None:
        self._topics = topics
        self._subscription = subscription
        self._next: dict[tuple[str, int], int] = {}
        self._more = asyncio.Event()
        self._is_polled = False
        self._is_closed = False
        self.reported: dict[PartitionId, int] = {}

    @property
    def name(self) -> str:
        """That of its subscription."""
        return self._subscription.name

    @property
    def is_drained(self) -> bool:
        return self._is_closed or (self._is_polled and not self._more.is_set())

    def wake(self) -> None:
        self._more.set()

    async def open(self, positions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        self._next = {(each.topic, each.partition): offset for each, offset in positions.items()}
        started: dict[PartitionId, int] = {}
        for topic in self._topics.matching(self._subscription.topics):
            for number, partition in enumerate(self._topics.partitions(topic)):
                if (topic, number) not in self._next:
                    start = len(partition) if self._subscription.start.kind == "latest" else 0
                    started[PartitionId(topic, "", number)] = self._next[topic, number] = start
        self._more.set()
        return started

    async def poll(self) -> Records | SourceStopped:
        if self._is_closed:
            raise SourceError(f"the source of {self._subscription.name} is closed")
        while True:
            self._more.clear()
            records = list(self._take())
            if records:
                self._is_polled = False
                self._more.set()
                return Records(records, {})
            self._is_polled = True
            await self._more.wait()

    def _take(self) -> Iterator[Record]:
        for topic in self._topics.matching(self._subscription.topics):
            for number, partition in enumerate(self._topics.partitions(topic)):
                start = self._next.get((topic, number), 0)
                yield from partition[start:]
                self._next[topic, number] = len(partition)

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        self.reported.update(positions)

    async def close(self) -> None:
        self._is_closed = True


class MemorySink:
    """Publishes into memory."""

    def __init__(self, topics: MemoryTopics) -> None:
        self._topics = topics

    async def open(self) -> None:
        """Nothing to connect to."""

    async def publish(self, messages: Sequence[OutboxMessage]) -> None:
        for message in messages:
            headers = (*message.headers, ("streamstate-message-id", message.message_id.encode()))
            self._topics.append(message.topic, message.key, message.value, headers)

    async def close(self) -> None:
        """Nothing to disconnect from."""


class TestTopic:
    """One topic, from a test's side."""

    __test__ = False  # not a class of tests, whatever pytest thinks of its name

    def __init__(self, topics: MemoryTopics, topic: Topic[Any]) -> None:
        self._topics = topics
        self._topic = topic

    async def send(
        self, value: Any, *, key: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Record:
        """Append a record; None as the value is a tombstone, bytes go as they are, anything else as JSON."""
        raw = value if isinstance(value, bytes) else self._topic.encode_value(value)
        pairs = [(name, text.encode()) for name, text in (headers or {}).items()]
        return self._topics.append(self._topic.name, self._topic.encode_key(key), raw, pairs)

    def records(self) -> list[Record]:
        """What is in the topic."""
        return self._topics.records(self._topic.name)

    def values(self, returns: type[Any] | None = None) -> list[Any]:
        """The values in the topic, decoded."""
        serde = self._topic.value if returns is None else serde_for(returns)
        return [None if record.value is None else serde.decode(record.value) for record in self.records()]
