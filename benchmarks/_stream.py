"""Records without a broker, handed over as a Kafka source hands them: in batches, by partition, from stored positions.

Record number `n` of a stream is offset `n // PARTITIONS` of partition `n % PARTITIONS`. Records are made when they are
asked for, so that a long stream costs no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from streamstate.app import Running
from streamstate.definitions import Record, SubscriptionSpec
from streamstate.engine import OutboxMessage, Sink
from streamstate.ingress import PartitionId, Records, Source, SourceStopped

PARTITIONS = 4
BATCH_RECORDS_MAX = 1_000  # what the Kafka source takes at a time

POLL_S = 0.005  # how late the end may be seen; a run takes more than a second

Make: TypeAlias = Callable[[int], tuple[bytes, bytes]]


class Stream:
    """A cluster of one endless topic, read up to a limit.

    Args:
        make: key and value of the record of this number.
        limit: how many records there are; may grow, see `extend`.
        rate_per_s: how many become readable a second; None is all of them at once.
    """

    def __init__(self, make: Make, limit: int, rate_per_s: float | None = None) -> None:
        self.name = "stream"
        self.make = make
        self.limit = limit
        self.rate_per_s = rate_per_s
        self.published = 0
        self._more = asyncio.Event()

    def extend(self, limit: int) -> None:
        """Let the topic have so many records in all."""
        self.limit = limit
        self._more.set()

    async def wait_for_more(self) -> None:
        self._more.clear()
        await self._more.wait()

    def source(self, subscription: SubscriptionSpec) -> Source:
        return _StreamSource(self, subscription)

    def sink(self) -> Sink:
        return _CountingSink(self)

    def redacted_options(self) -> Mapping[str, str]:
        return {}

    async def check(self, _topics: Sequence[str]) -> list[str]:
        return []


class _StreamSource:
    """One subscription's reading of a stream: of its first topic."""

    def __init__(self, stream: Stream, subscription: SubscriptionSpec) -> None:
        assert isinstance(subscription.topics, tuple), "a stream has topics by name only"
        self._stream = stream
        self._topic = subscription.topics[0]
        self._next = 0
        self._opened_s = 0.0

    async def open(self, positions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        # What is durable is a prefix of the stream, so the sum of the offsets is the number of the next record.
        self._next = sum(positions.values())
        self._opened_s = asyncio.get_running_loop().time()
        there = {each.partition for each in positions}
        return {PartitionId(self._topic, "", number): 0 for number in range(PARTITIONS) if number not in there}

    async def poll(self) -> Records | SourceStopped:
        stream = self._stream
        while True:
            end = min(self._next + BATCH_RECORDS_MAX, stream.limit)
            if stream.rate_per_s is not None:
                elapsed_s = asyncio.get_running_loop().time() - self._opened_s
                end = min(end, int(elapsed_s * stream.rate_per_s))
            if end > self._next:
                return Records(self._take(end), {})
            if self._next >= stream.limit:
                await stream.wait_for_more()
            else:
                await asyncio.sleep(POLL_S)

    def _take(self, end: int) -> list[Record]:
        topic, make = self._topic, self._stream.make
        records = []
        for number in range(self._next, end):
            key, value = make(number)
            records.append(Record(topic, number % PARTITIONS, number // PARTITIONS, 0, key, value))
        self._next = end
        return records

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        """There is no consumer group."""

    async def close(self) -> None:
        """There is nothing to close."""


class _CountingSink:
    """Takes messages and counts them."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def open(self) -> None:
        """There is nothing to open."""

    async def publish(self, messages: Sequence[OutboxMessage]) -> None:
        self._stream.published += len(messages)

    async def close(self) -> None:
        """There is nothing to close."""


async def until_taken(running: Running, stream: Stream) -> None:
    """Wait until every record of the stream is decided, and that is durable."""
    store = running.engine.store
    while sum(store.positions().values()) < stream.limit:  # noqa: ASYNC110 - a commit is no event of this loop
        await asyncio.sleep(POLL_S)
