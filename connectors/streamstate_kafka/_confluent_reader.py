"""One librdkafka consumer that assigns itself its partitions.

While records are there, `read` takes them out of librdkafka's queue on the caller's own thread: handing over batches
from a second Python thread costs a quarter of the throughput in switches of the interpreter lock. Only an empty queue
is waited for on another thread. The read-ahead is librdkafka's queue, bounded by `queued.max.messages.kbytes`; whoever
does not read stops the fetching, and as the consumer is in no group, nobody misses its polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, cast

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamstate.definitions import Record, Start
from streamstate_kafka._client import ClientError, Fault, FaultKind, Fetched, GroupOffset, Partition
from streamstate_kafka._codes import LocalError, told
from streamstate_kafka._confluent_group import ConfluentGroup
from streamstate_kafka._notices import LOGGER
from streamstate_kafka._options import Options

T = TypeVar("T")

READ_MAX = 1_000  # records a read; larger ones measured no faster, and hold the event loop longer
IDLE_S_MAX = 0.25  # bounds how late a close or a look for new partitions may be
ANSWER_S_MAX = 5.0

# librdkafka's own pause after a full queue, 1000 ms, throttles a catch-up to a fifth.
DEFAULTS = {"fetch.queue.backoff.ms": "5", "topic.metadata.refresh.interval.ms": "30000"}
OURS = {
    "auto.offset.reset": "error",
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "enable.partition.eof": "false",
}

OUT_OF_RANGE = frozenset({LocalError.AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, LocalError.LOG_TRUNCATION})
TOLD = frozenset({LocalError.ALL_BROKERS_DOWN, LocalError.AUTHENTICATION, LocalError.SSL, LocalError.RESOLVE})


class _Consumed(Protocol):
    """A `Message` as a consumer gives it: what its stub calls optional is always there if there is no error."""

    def error(self) -> KafkaError | None: ...
    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...


class ConfluentReader:
    """A `Reader` on confluent-kafka. Connects at the first call."""

    def __init__(self, options: Options, group: str) -> None:
        self._options = options
        self._name = group
        self._group = ConfluentGroup(options, group)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-reader")
        self._commands = ThreadPoolExecutor(1, thread_name_prefix="kafka-reader-commands")
        self._consumer: Consumer | None = None
        self._waiting: asyncio.Future[Message | None] | None = None
        self._faults: list[Fault] = []
        self._closed = False

    async def starts(self, partitions: Sequence[Partition], start: Start) -> dict[Partition, int]:
        return await self._command(lambda consumer: self._starts(consumer, partitions, start))

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        return await self._command(lambda consumer: _watermarks(consumer, partition))

    async def position(self, partition: Partition) -> int:
        (found,) = await self._command(lambda consumer: consumer.position([TopicPartition(*partition)]))
        return max(found.offset, -1)  # librdkafka says "none" by a number below

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        await self._command(lambda consumer: _assign(consumer, positions))

    async def unassign(self, partitions: Sequence[Partition]) -> None:
        await self._command(lambda consumer: _unassign(consumer, partitions))
        if self._waiting is not None:
            left_over = await asyncio.shield(self._waiting)
            if left_over is not None and (left_over.topic(), left_over.partition()) in partitions:
                self._waiting = None

    async def read(self) -> Fetched:
        consumer = self._connected()
        await asyncio.sleep(0)  # a full queue must not keep the event loop to itself
        # From taking messages to returning them there is no await: a cancellation there would lose them.
        messages = consumer.consume(READ_MAX, 0) if self._waiting is None and not self._closed else []
        if not messages:
            first = await self._wait_for_one(consumer)
            if first is not None and not self._closed:
                messages = [first, *consumer.consume(READ_MAX - 1, 0)]
        return self._fetched(messages)

    async def reported(self, partitions: Sequence[Partition]) -> dict[Partition, GroupOffset]:
        return await self._group.reported(partitions)

    async def report(self, offsets: Mapping[Partition, GroupOffset]) -> None:
        await self._group.report(offsets)

    async def close(self) -> None:
        self._closed = True
        consumer, self._consumer = self._consumer, None
        if self._waiting is not None:
            await asyncio.wait([self._waiting])
        if consumer is not None:
            await asyncio.get_running_loop().run_in_executor(self._commands, consumer.close)
        await self._group.close()
        self._thread.shutdown(wait=False)
        self._commands.shutdown(wait=False)

    async def _wait_for_one(self, consumer: Consumer) -> Message | None:
        """Kept across a cancellation, so that the message which the other thread takes out is not lost."""
        if self._waiting is None:
            loop = asyncio.get_running_loop()
            self._waiting = loop.run_in_executor(self._thread, consumer.poll, IDLE_S_MAX)
        message = await asyncio.shield(self._waiting)
        self._waiting = None
        return message

    def _fetched(self, messages: list[Message]) -> Fetched:
        records: list[Record] = []
        add = records.append
        faults = self._faults
        for message in cast("list[_Consumed]", messages):
            error = message.error()
            if error is not None:
                faults.append(self._fault(error, message))
                continue
            headers = message.headers()
            add(
                Record(
                    message.topic(),
                    message.partition(),
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    tuple(headers) if headers else (),
                )
            )
        self._faults = []
        return Fetched(records, faults)

    def _fault(self, error: KafkaError, message: _Consumed | None = None) -> Fault:
        kind = FaultKind.TRANSIENT
        if error.fatal():
            kind = FaultKind.FATAL
        elif error.code() in OUT_OF_RANGE:
            kind = FaultKind.OUT_OF_RANGE
        text = self._options.scrub(told(error))
        if message is None or not message.topic():
            return Fault(kind, text)
        return Fault(kind, text, (message.topic(), message.partition()), message.offset())

    def _connected(self) -> Consumer:
        if self._closed:
            raise ClientError(f"the reader of consumer group {self._name!r} is closed")
        if self._consumer is None:
            settings: dict[str, object] = {**DEFAULTS, **self._options.for_consumer(), **OURS, "group.id": self._name}
            settings["error_cb"] = self._on_error
            try:
                self._consumer = Consumer(settings, logger=LOGGER)
            except KafkaException as error:
                raise ClientError(self._options.scrub(error.args[0].str())) from None
        return self._consumer

    async def _command(self, function: Callable[[Consumer], T]) -> T:
        consumer = self._connected()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._commands, function, consumer)
        except KafkaException as error:
            raise ClientError(self._options.scrub(error.args[0].str())) from None

    @staticmethod
    def _starts(consumer: Consumer, partitions: Sequence[Partition], start: Start) -> dict[Partition, int]:
        if start.kind == "earliest":
            return _offsets_at(consumer, partitions, OFFSET_BEGINNING)
        # The ends first: a record that arrives between the two questions must be behind the start, not before it.
        ends = _offsets_at(consumer, partitions, OFFSET_END)
        if start.moment is None:
            return ends
        found = _offsets_at(consumer, partitions, int(start.moment.timestamp() * 1000))
        return {partition: found[partition] if found[partition] >= 0 else ends[partition] for partition in partitions}

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in TOLD:
            self._faults.append(self._fault(error))


def _offsets_at(consumer: Consumer, partitions: Sequence[Partition], moment_ms: int) -> dict[Partition, int]:
    """The first offset at a moment, -1 where there is none; OFFSET_BEGINNING and OFFSET_END count as moments."""
    asked = [TopicPartition(topic, number, moment_ms) for topic, number in partitions]
    found = consumer.offsets_for_times(asked, timeout=ANSWER_S_MAX)
    for answer in found:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return {(answer.topic, answer.partition): answer.offset for answer in found}


def _assign(consumer: Consumer, positions: Mapping[Partition, int]) -> None:
    """Also for partitions that are assigned: whoever asked for them may have been cancelled before the answer."""
    _unassign(consumer, list(positions))
    consumer.incremental_assign(_offsets(positions))


def _unassign(consumer: Consumer, partitions: Sequence[Partition]) -> None:
    assigned = {(partition.topic, partition.partition) for partition in consumer.assignment()}
    unwanted = [TopicPartition(*partition) for partition in partitions if partition in assigned]
    if unwanted:
        consumer.incremental_unassign(unwanted)


def _watermarks(consumer: Consumer, partition: Partition) -> tuple[int, int]:
    found = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=ANSWER_S_MAX)
    if found is None:
        raise KafkaException(KafkaError(LocalError.TIMED_OUT, f"no offsets of {partition[0]}[{partition[1]}]"))
    return found


def _offsets(positions: Mapping[Partition, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, number, offset) for (topic, number), offset in positions.items()]
