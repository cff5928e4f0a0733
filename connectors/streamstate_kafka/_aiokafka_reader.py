"""One consumer of aiokafka that assigns itself its partitions.

R1: the positions here are those behind the records that were returned. Whenever the consumer raises, it is set back to
    them: it may have taken records of one partition before another one failed, and would go on behind them.
R2: from the consumer's answer to the return of `read` there is no await, so a cancellation loses nothing.

The read-ahead is one fetch, bounded by `fetch.max.bytes` and, for a partition, `max.partition.fetch.bytes`; whoever
does not read stops the fetching.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from aiokafka.errors import (  # type: ignore[import-untyped]  # ships no types
    ConsumerStoppedError,
    KafkaError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
)

from streamstate.definitions import Record, Start
from streamstate_kafka import _aiokafka_parts as parts
from streamstate_kafka._aiokafka_connection import Connection, answered
from streamstate_kafka._aiokafka_group import Group
from streamstate_kafka._aiokafka_logs import Complaints
from streamstate_kafka._aiokafka_options import fetching_settings
from streamstate_kafka._client import ClientError, Fault, FaultKind, Fetched, GroupOffset, Partition
from streamstate_kafka._notices import Notices
from streamstate_kafka._options import Options

T = TypeVar("T")

READ_MAX = 1_000  # records a read; larger ones hold the event loop longer
IDLE_S_MAX = 0.25  # bounds how late a close or a look for new partitions may be
REPORT_S_MAX = 3.0
AFTER_FAULT_S = 0.1  # a fault comes again at once with every fetch

FATAL = {
    UnsupportedCodecError: "its compression needs another package: pip install 'aiokafka[lz4,snappy,zstd]'",
    RecordTooLargeError: "raise max.partition.fetch.bytes in the options of Kafka(...)",
}


class AiokafkaReader:
    """A `Reader` on aiokafka. Connects at the first call."""

    def __init__(self, options: Options, group: str) -> None:
        self._options = options
        self._group = group
        notices = Notices(f"consumer group {group!r} at {options.bootstrap_servers}")
        self._complaints = Complaints(notices, options.scrub)
        self._connection = Connection(options, self._complaints)
        self._offsets = Group(group, self._connection)
        self._consumer: parts.Consumer | None = None
        self._opening = asyncio.Lock()
        self._positions: dict[Partition, int] = {}
        self._given: set[Partition] = set()  # of these a record was returned since they were assigned
        self._closed = asyncio.Event()

    async def starts(self, partitions: Sequence[Partition], start: Start) -> dict[Partition, int]:
        return await self._command(lambda consumer: _starts(consumer, partitions, start))

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        async def both(consumer: parts.Consumer) -> tuple[int, int]:
            low = await consumer.beginning_offsets(parts.partitions([partition]))
            high = await consumer.end_offsets(parts.partitions([partition]))
            return low[partition], high[partition]

        return await self._command(both)

    async def position(self, partition: Partition) -> int:
        if self._closed.is_set():
            raise self._is_closed()
        return self._positions[partition] if partition in self._given else -1

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        await self._give({**self._positions, **positions})
        self._given.difference_update(positions)

    async def unassign(self, partitions: Sequence[Partition]) -> None:
        self._given.difference_update(partitions)
        await self._give({each: position for each, position in self._positions.items() if each not in partitions})

    async def read(self) -> Fetched:
        await asyncio.sleep(0)  # a full buffer never waits, and must not keep the event loop to itself
        if not self._positions or self._closed.is_set():
            await self._pause(IDLE_S_MAX)
            return Fetched([], [])
        try:
            consumer = await self._opened()
            taken = await consumer.getmany(timeout_ms=int(IDLE_S_MAX * 1000), max_records=READ_MAX)
        except (KafkaError, ClientError) as error:
            return await self._failed(error)
        except ConsumerStoppedError:  # by close(), while we waited
            return Fetched([], [])
        records: list[Record] = []
        add = records.append
        for partition, messages in taken.items():
            for message in messages:
                timestamp_ms = message.timestamp
                add(
                    Record(
                        message.topic,
                        message.partition,
                        message.offset,
                        -1 if timestamp_ms is None else timestamp_ms,
                        message.key,
                        message.value,
                        message.headers,
                    )
                )
            self._positions[partition] = messages[-1].offset + 1
            self._given.add(partition)
        if records:
            self._complaints.well()
        elif consumer.has_died:
            await self._discard()
        return Fetched(records, [])

    async def reported(self, partitions: Sequence[Partition]) -> dict[Partition, GroupOffset]:
        return await self._group_command(lambda: self._offsets.offsets(partitions))

    async def report(self, offsets: Mapping[Partition, GroupOffset]) -> None:
        await self._group_command(lambda: self._offsets.commit(offsets), REPORT_S_MAX)

    async def close(self) -> None:
        self._closed.set()
        async with self._opening:
            await self._discard()
        await self._connection.close()

    async def _give(self, positions: dict[Partition, int]) -> None:
        """Only then are they ours: whoever asked for them may be cancelled before there is a consumer."""

        async def give(consumer: parts.Consumer) -> None:
            with self._complaints.heard():
                consumer.give(positions)
            self._positions = positions

        await self._command(give)

    async def _failed(self, error: Exception) -> Fetched:
        if self._closed.is_set():
            return Fetched([], [])
        if self._consumer is not None:
            self._consumer.rewind(self._positions)
        faults = self._faults(error)
        await self._pause(AFTER_FAULT_S)
        return Fetched([], faults)

    def _faults(self, error: Exception) -> list[Fault]:
        if isinstance(error, OffsetOutOfRangeError):
            text = "Offset out of range"
            return [Fault(FaultKind.OUT_OF_RANGE, text, tuple(each), offset) for each, offset in error.args[0].items()]
        text = self._options.scrub(str(error))
        for kind, remedy in FATAL.items():
            if isinstance(error, kind):
                return [Fault(FaultKind.FATAL, f"{text}; {remedy}")]
        if isinstance(error, TopicAuthorizationFailedError):
            text = f"{text}; grant READ on the topic to this user"
        return [Fault(FaultKind.TRANSIENT, text)]

    async def _pause(self, seconds: float) -> None:
        """As long as that, or until we are closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return

    async def _command(self, function: Callable[[parts.Consumer], Awaitable[T]]) -> T:
        async def asked() -> T:
            consumer = await self._opened()
            with self._complaints.heard():
                return await function(consumer)

        return await answered(asked, self._options, self._complaints)

    async def _group_command(self, command: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        if self._closed.is_set():
            raise self._is_closed()
        return await answered(command, self._options, self._complaints, seconds)

    def _is_closed(self) -> ClientError:
        return ClientError(f"the reader of consumer group {self._group!r} is closed")

    async def _opened(self) -> parts.Consumer:
        """Raises KafkaError if no broker answers, and ClientError after close()."""
        if self._consumer is not None:
            return self._consumer
        async with self._opening:
            if self._closed.is_set():
                raise self._is_closed()
            if self._consumer is None:
                await self._connection.check()
                consumer = parts.consumer({**await self._connection.settings(), **fetching_settings(self._options)})
                with self._complaints.heard():
                    try:
                        await consumer.start()
                        consumer.give(self._positions)
                    except BaseException:
                        await consumer.stop()
                        raise
                self._consumer = consumer
            return self._consumer

    async def _discard(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with self._complaints.heard():
                await consumer.stop()


async def _starts(consumer: parts.Consumer, partitions: Sequence[Partition], start: Start) -> dict[Partition, int]:
    asked = parts.partitions(partitions)
    if start.kind == "earliest":
        return _plain(await consumer.beginning_offsets(asked))
    # The ends first: a record that arrives between the two questions must be behind the start, not before it.
    ends = _plain(await consumer.end_offsets(asked))
    if start.moment is None:
        return ends
    moment_ms = int(start.moment.timestamp() * 1000)
    found = await consumer.offsets_for_times(dict.fromkeys(asked, moment_ms))
    return {partition: ends[partition] if (at := found[partition]) is None else at.offset for partition in partitions}


def _plain(offsets: Mapping[Partition, int]) -> dict[Partition, int]:
    return {(topic, number): offset for (topic, number), offset in offsets.items()}
