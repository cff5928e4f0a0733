"""An idempotent producer on aiokafka's connections.

W1: of a partition one batch is on its way at a time, and is sent until it is acknowledged or refused; the next one
    follows only on an acknowledgement. So order holds, and nothing overtakes what was refused.
W2: a batch keeps its producer id and sequence on every attempt, so the broker takes it once. After a refusal the
    sequence has a gap; a new producer id begins without one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka.errors import (  # type: ignore[import-untyped]  # ships no types
    ClusterAuthorizationFailedError,
    DuplicateSequenceNumber,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    NoError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.produce import ProduceRequest  # type: ignore[import-untyped]  # ships no types
from aiokafka.protocol.transaction import InitProducerIdRequest  # type: ignore[import-untyped]  # ships no types
from aiokafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]  # ships no types

from streamstate.errors import SinkError
from streamstate.storage import OutboxMessage
from streamstate_kafka import _messages
from streamstate_kafka._aiokafka_connection import Connection
from streamstate_kafka._aiokafka_logs import Complaints
from streamstate_kafka._aiokafka_options import whole_number
from streamstate_kafka._aiokafka_parts import CODECS
from streamstate_kafka._aiokafka_topics import RETRY_S, Topics
from streamstate_kafka._client import ClientError, Partition
from streamstate_kafka._notices import Notices
from streamstate_kafka._options import Options

ACKS_OF_ALL = -1
FORMAT = 2
SEQUENCES = 2**31  # then they begin at zero again
FOREVER_MS = 2**31 - 1

# As librdkafka has them.
BATCH_BYTES = 1_000_000
MESSAGE_BYTES_MAX = 1_000_000
ACKNOWLEDGED_MS_MAX = 30_000
MISSING_MS_MAX = 5_000

REMEDIES = {
    MessageSizeTooLargeError: _messages.TOO_LARGE,
    RecordListTooLargeError: _messages.TOO_LARGE,
    UnknownTopicOrPartitionError: _messages.NO_TOPIC,
    InvalidTopicError: _messages.BAD_TOPIC_NAME,
    TopicAuthorizationFailedError: _messages.TOPIC_NOT_GRANTED,
    ClusterAuthorizationFailedError: _messages.CLUSTER_NOT_GRANTED,
}


@dataclass(slots=True)
class _Identity:
    """A producer id, and the next sequence of each partition."""

    producer_id: int
    epoch: int
    sequences: dict[Partition, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(slots=True)
class _Failure:
    """The message that is to blame, and whether it was alone in its batch."""

    index: int
    error: KafkaError
    is_alone: bool = True


class _Chunk:
    """Messages, which of them are acknowledged, and the first of them that was refused."""

    def __init__(self, messages: Sequence[OutboxMessage]) -> None:
        self.messages = messages
        self.failure: _Failure | None = None
        self._is_acknowledged = [False] * len(messages)

    @property
    def acknowledged(self) -> int:
        """How many from the start."""
        count = len(self.messages)
        return next((index for index in range(count) if not self._is_acknowledged[index]), count)

    def acknowledge(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._is_acknowledged[index] = True

    def fail(self, failure: _Failure) -> None:
        if self.failure is None or failure.index < self.failure.index:
            self.failure = failure

    def unacknowledged(self, limit: int) -> list[int]:
        return [index for index in range(limit) if not self._is_acknowledged[index]]


class AiokafkaWriter:
    """A `Writer` on aiokafka. Connects at the first write."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._notices = Notices(f"publishing to {options.bootstrap_servers}")
        self._complaints = Complaints(self._notices, options.scrub)
        self._connection = Connection(options, self._complaints)
        missing_s_max = whole_number(options, "topic.metadata.propagation.max.ms", MISSING_MS_MAX) / 1000
        self._topics = Topics(self._connection, missing_s_max)
        self._identity: _Identity | None = None
        self._codec = CODECS[options.values.get("compression.type", "none")][0]
        self._batch_bytes = whole_number(options, "batch.size", BATCH_BYTES)
        self._message_bytes_max = whole_number(options, "message.max.bytes", MESSAGE_BYTES_MAX)
        self._acknowledged_ms_max = whole_number(options, "request.timeout.ms", ACKNOWLEDGED_MS_MAX)
        self._closing = asyncio.Event()
        self._writing = asyncio.Lock()

    async def write(self, messages: Sequence[OutboxMessage]) -> None:
        if self._closing.is_set():
            raise SinkError(f"publishing to {self._options.bootstrap_servers} has ended: the sink is closed")
        chunk = _Chunk(messages)
        async with self._writing:
            writing = asyncio.ensure_future(self._write(chunk))
            closing = asyncio.ensure_future(self._closing.wait())
            try:
                await asyncio.wait([writing, closing], return_when=asyncio.FIRST_COMPLETED)
            finally:
                writing.cancel()
                closing.cancel()
                await asyncio.wait([writing, closing])
        if writing.cancelled():
            raise self._refused(chunk, chunk.acknowledged, "not acknowledged", _messages.CLOSED_UNACKNOWLEDGED)
        try:
            writing.result()
        except ClientError as error:
            raise SinkError(f"cannot publish to {self._options.bootstrap_servers}: {error}") from None

    async def close(self) -> None:
        self._closing.set()
        async with self._writing:
            await self._connection.close()

    async def _write(self, chunk: _Chunk) -> None:
        limit, refusal = await self._sendable(chunk.messages)
        await self._send(chunk, limit, self._batch_bytes)
        failure = chunk.failure
        if failure is not None and _is_too_large(failure.error) and not failure.is_alone:
            # The broker refuses a whole batch for its size: find the message, or get by with small batches.
            self._notices.warn(
                "size", "a topic's max.message.bytes is below batch.size; lower batch.size in Kafka(...)"
            )
            chunk.failure = None
            await self._send(chunk, limit, 0)
        failure = chunk.failure or refusal
        if failure is not None:
            remedy = next((text for kind, text in REMEDIES.items() if isinstance(failure.error, kind)), "")
            raise self._refused(chunk, failure.index, str(failure.error), remedy or _messages.SENT_AGAIN)
        self._complaints.well()

    async def _sendable(self, messages: Sequence[OutboxMessage]) -> tuple[int, _Failure | None]:
        """How many messages from the start may be sent, and why no more."""
        missing = await self._topics.know({message.topic for message in messages})
        for index, message in enumerate(messages):
            if message.topic in missing:
                return index, _Failure(index, missing[message.topic])
            size = len(message.key or b"") + len(message.value or b"")
            if size > self._message_bytes_max:
                return index, _Failure(index, MessageSizeTooLargeError("it is larger than message.max.bytes"))
        return len(messages), None

    async def _send(self, chunk: _Chunk, limit: int, batch_bytes: int) -> None:
        """Send what is not acknowledged yet; end when all is, or when one was refused and nothing is on its way."""
        lanes: dict[Partition, deque[int]] = defaultdict(deque)
        keyless: dict[str, int] = {}  # together, so that they make one batch and keep their order
        for index in chunk.unacknowledged(limit):
            if index % 500 == 0:
                await asyncio.sleep(0)  # keys are hashed by Python
            topic, key = chunk.messages[index].topic, chunk.messages[index].key
            if key is None and topic not in keyless:
                keyless[topic] = self._topics.partition(topic, None)
            number = keyless[topic] if key is None else self._topics.partition(topic, key)
            lanes[topic, number].append(index)
        try:
            identity = await self._identified()
        except KafkaError as error:
            chunk.fail(_Failure(chunk.acknowledged, error))
            return
        async with asyncio.TaskGroup() as group:
            for partition, indices in lanes.items():
                group.create_task(self._send_in_order(chunk, partition, indices, identity, batch_bytes))
        if chunk.failure is not None:
            self._identity = None

    async def _send_in_order(
        self, chunk: _Chunk, partition: Partition, indices: deque[int], identity: _Identity, batch_bytes: int
    ) -> None:
        while indices and chunk.failure is None:
            await asyncio.sleep(0)  # to make a batch takes milliseconds
            batch, taken = self._batch(chunk.messages, partition, indices, identity, batch_bytes)
            # Compressing lets go of the interpreter.
            payload = bytes(batch.build() if self._codec == 0 else await asyncio.to_thread(batch.build))
            try:
                await self._deliver(partition, payload)
            except KafkaError as error:
                chunk.fail(_Failure(taken[0], error, len(taken) == 1))
            else:
                chunk.acknowledge(taken)

    def _batch(
        self,
        messages: Sequence[OutboxMessage],
        partition: Partition,
        indices: deque[int],
        identity: _Identity,
        batch_bytes: int,
    ) -> tuple[DefaultRecordBatchBuilder, list[int]]:
        """As many messages as it takes; the first always fits."""
        sequence = identity.sequences[partition]
        batch = DefaultRecordBatchBuilder(
            FORMAT, self._codec, False, identity.producer_id, identity.epoch, sequence, batch_bytes
        )
        taken: list[int] = []
        while indices:
            message = messages[indices[0]]
            headers = [*message.headers, (_messages.MESSAGE_ID_HEADER, message.message_id.encode())]
            if batch.append(len(taken), None, message.key, message.value, headers) is None:
                break
            taken.append(indices.popleft())
        identity.sequences[partition] = (sequence + len(taken)) % SEQUENCES
        return batch, taken

    async def _deliver(self, partition: Partition, payload: bytes) -> None:
        """Until it is acknowledged, however long that takes. Raises KafkaError if it is refused."""
        topic, number = partition
        request = ProduceRequest(None, ACKS_OF_ALL, self._acknowledged_ms_max, [(topic, [(number, payload)])])
        while True:
            leader = await self._topics.leader(partition)
            try:
                answer = await self._connection.ask_broker(leader, request)
                (((_, ((_, code, *_),)),)) = answer.topics
                error = for_code(code)
                if error in (NoError, DuplicateSequenceNumber):
                    return
                raise error
            except KafkaError as error:
                if not error.retriable:
                    raise
                self._complaints.tell("deliver", f"a batch is not acknowledged: {error}")
            self._topics.forget(topic)
            await asyncio.sleep(RETRY_S)

    async def _identified(self) -> _Identity:
        """Raises KafkaError if the cluster refuses to give a producer id."""
        while self._identity is None:
            try:
                answer = await self._connection.ask(InitProducerIdRequest(None, FOREVER_MS))
                error = for_code(answer.error_code)
                if error is not NoError:
                    raise error
                self._identity = _Identity(answer.producer_id, answer.producer_epoch)
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(RETRY_S)
        return self._identity

    def _refused(self, chunk: _Chunk, index: int, reason: str, remedy: str) -> SinkError:
        servers = self._options.bootstrap_servers
        text = _messages.refused(chunk.messages[index], servers, self._options.scrub(reason), remedy)
        return SinkError(text, acknowledged=chunk.acknowledged)


def _is_too_large(error: KafkaError) -> bool:
    return isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError)
