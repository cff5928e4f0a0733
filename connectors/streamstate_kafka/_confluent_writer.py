"""One idempotent librdkafka producer.

A whole chunk is produced and awaited on one thread, and only failures call back into Python, so that a chunk costs the
event loop one hop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamstate.errors import SinkError
from streamstate.storage import OutboxMessage
from streamstate_kafka._codes import LocalError, told
from streamstate_kafka._notices import LOGGER, Notices
from streamstate_kafka._options import Options

MESSAGE_ID_HEADER = "streamstate-message-id"
WAIT_S = 0.25  # bounds how late a close or a failure is seen
KEY_SHOWN_MAX = 60

# A chunk is flushed at once, so lingering costs no time and only makes its requests larger.
# murmur2_random puts a key into the same partition as the Java clients do, so that topics can be joined by partition.
# A topic that is not there is told after seconds, not after half a minute.
DEFAULTS = {"linger.ms": "5", "partitioner": "murmur2_random", "topic.metadata.propagation.max.ms": "5000"}
OURS: dict[str, str | bool] = {
    "enable.idempotence": "true",
    "acks": "all",
    "message.timeout.ms": "0",
    "delivery.report.only.error": True,
}

REMEDIES = {
    KafkaError.MSG_SIZE_TOO_LARGE: (
        "publish less, or raise message.max.bytes in the options of Kafka(...) and max.message.bytes of the topic"
    ),
    LocalError.UNKNOWN_TOPIC: "create the topic",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic",
    LocalError.UNKNOWN_PARTITION: "create the topic",
    KafkaError.TOPIC_EXCEPTION: "correct the topic's name",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant WRITE on the topic to this user",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant IDEMPOTENT_WRITE on the cluster to this user",
    LocalError.PURGE_QUEUE: "the sink was closed before it was sent",
    LocalError.PURGE_INFLIGHT: "the sink was closed before it was acknowledged",
    LocalError.AUTHENTICATION: "correct the sasl.* options of Kafka(...)",
}
PURGED = frozenset({LocalError.PURGE_QUEUE, LocalError.PURGE_INFLIGHT})
TOLD = frozenset({LocalError.ALL_BROKERS_DOWN, LocalError.AUTHENTICATION, LocalError.SSL})


class _Failed(NamedTuple):
    """A chunk that was not taken whole: how many from its start were, and the message that is to blame."""

    acknowledged: int
    cause: int
    error: KafkaError
    was_queued: bool


class ConfluentWriter:
    """A `Writer` on confluent-kafka. Connects at the first write."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._notices = Notices(f"publishing to {options.bootstrap_servers}")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-writer")
        self._producer: Producer | None = None
        self._closing = threading.Event()

    async def write(self, messages: Sequence[OutboxMessage]) -> None:
        if self._closing.is_set():
            raise SinkError(f"publishing to {self._options.bootstrap_servers} has ended: the sink is closed")
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, messages)

    async def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._discard)
        self._thread.shutdown(wait=False)

    def _write(self, messages: Sequence[OutboxMessage]) -> None:
        """On the writer's thread."""
        failed = self._send(messages)
        if failed is not None and failed.error.code() == KafkaError.MSG_SIZE_TOO_LARGE and failed.was_queued:
            failed = self._send_singly(messages, failed.acknowledged)
        if failed is not None:
            text = self._told(messages[failed.cause], failed.error)
            raise SinkError(text, acknowledged=failed.acknowledged)
        self._notices.well()

    def _send(self, messages: Sequence[OutboxMessage]) -> _Failed | None:
        """Send and wait. What follows a failure is not sent, as far as that is still in our hands."""
        producer = self._connected()
        failures: dict[int, KafkaError] = {}
        queued = 0
        while queued < len(messages) and not failures and self._produce(producer, messages[queued], queued, failures):
            queued += 1
        while producer.flush(WAIT_S):
            # A message that was refused before it was queued holds up none of those before it.
            if self._closing.is_set() or any(index < queued for index in failures):
                producer.purge(in_flight=self._closing.is_set())
        if not failures:
            return None
        # Nothing is under way any more. A new producer forgets what may be wrong with this one: a fatal error, a
        # purge amid a sequence, or a topic that it believes missing for minutes after it was created.
        self._producer = None
        cause = next((index for index, error in failures.items() if error.code() not in PURGED), min(failures))
        return _Failed(min(failures), cause, failures[cause], cause < queued)

    def _send_singly(self, messages: Sequence[OutboxMessage], begin: int) -> _Failed | None:
        """The broker refuses a whole request for its size: find the message, or get by with small requests."""
        self._notices.warn("size", "a topic's max.message.bytes is below batch.size; lower batch.size in Kafka(...)")
        for index in range(begin, len(messages)):
            failed = self._send(messages[index : index + 1])
            if failed is not None:
                return _Failed(index, index, failed.error, failed.was_queued)
        return None

    def _produce(self, producer: Producer, message: OutboxMessage, index: int, failures: dict[int, KafkaError]) -> bool:
        headers: list[tuple[str, str | bytes | None]] = [
            *message.headers,
            (MESSAGE_ID_HEADER, message.message_id.encode()),
        ]
        on_delivery = _failure(index, failures)
        while not self._closing.is_set():
            try:
                producer.produce(message.topic, message.value, message.key, headers=headers, on_delivery=on_delivery)
                return True
            except BufferError:
                producer.poll(WAIT_S)
                if failures:
                    return False
            except KafkaException as error:
                failures[index] = error.args[0]
                return False
        failures[index] = KafkaError(LocalError.PURGE_QUEUE)
        return False

    def _connected(self) -> Producer:
        if self._producer is None:
            settings: dict[str, object] = {**DEFAULTS, **self._options.for_producer(), **OURS}
            settings["error_cb"] = self._on_error
            try:
                self._producer = Producer(settings, logger=LOGGER)
            except KafkaException as error:
                raise SinkError(self._options.scrub(error.args[0].str())) from None
        return self._producer

    def _discard(self) -> None:
        """Give up what is left, so that librdkafka does not go on sending it after us."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(WAIT_S)
            self._producer = None

    def _told(self, message: OutboxMessage, error: KafkaError) -> str:
        key = "without a key" if message.key is None else f"with key {_shown(message.key)}"
        remedy = REMEDIES.get(error.code(), "it is sent again from here")
        size = len(message.value or b"")
        return (
            f"topic {message.topic!r} at {self._options.bootstrap_servers} did not take the message {key} "
            f"({size} bytes, {MESSAGE_ID_HEADER} {message.message_id}): {self._options.scrub(error.str())}; {remedy}"
        )

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in TOLD:
            self._notices.warn("cluster", f"{self._options.scrub(told(error))}; waiting")


def _failure(index: int, failures: dict[int, KafkaError]) -> Callable[[KafkaError | None, Message], None]:
    def failed(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures[index] = error

    return failed


def _shown(key: bytes) -> str:
    text = repr(key)
    return text if len(text) <= KEY_SHOWN_MAX else text[:KEY_SHOWN_MAX] + "…"
