"""What the world outside the application knows of Kafka: publish, listen, and read a topic to its end.

Plain confluent-kafka, with nothing of streamstate: the simulators and the checker must not share its mistakes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic  # admin has it too, but not for a strict type checker

MESSAGE_ID_HEADER = "streamstate-message-id"  # the same on every attempt to publish one message
PARTITIONS = 4
CONNECT_S_MAX = 5.0  # a cluster that is there answers in milliseconds, also one far away
ANSWER_S_MAX = 10.0
POLL_S = 0.02  # `consume` waits this long for a full batch

Options: TypeAlias = dict[str, str | int | bool]
# A mock cluster answers a fetch that found nothing when this is over, and not when something comes.
PROMPT: Options = {"fetch.wait.max.ms": 20}
# What matters is raised; that the broker of a demo ends before its clients is no news.
QUIET: Options = {"log_level": 2, "log.connection.close": False}


class Event(NamedTuple):
    """One record; `message_id` is empty where a simulator wrote it."""

    topic: str
    key: str
    value: bytes
    message_id: str


class Wire:
    """The connection of all simulators: one producer, one consumer. `run` feeds the listeners.

    Args:
        bootstrap: `host:port` of the cluster.
        prefix: stands before the name of every topic.

    Attributes:
        repeated: messages that arrived again, under an id that was seen before; listeners get each once.
    """

    def __init__(self, bootstrap: str, prefix: str = "") -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        settings: Options = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2}
        self._producer = Producer({**settings, **QUIET})
        self._listeners: dict[str, list[asyncio.Queue[Event]]] = {}
        self._seen: set[str] = set()
        self._undelivered: KafkaError | None = None
        self.repeated = 0

    def publish(self, topic: str, value: msgspec.Struct, *, key: str) -> None:
        """Publish in the order of the calls.

        Raises:
            KafkaException: this message, or one before it, was not taken.
        """
        self._producer.produce(
            self._prefix + topic, msgspec.json.encode(value), key=key.encode(), on_delivery=self._delivered
        )
        self._producer.poll(0)
        if self._undelivered is not None:
            raise KafkaException(self._undelivered)

    async def flush(self) -> None:
        """Return when everything published has been taken."""
        left = await asyncio.to_thread(self._producer.flush, ANSWER_S_MAX)
        if self._undelivered is not None:
            raise KafkaException(self._undelivered)
        if left:
            raise TimeoutError(f"{left} messages were not taken by {self._bootstrap} in {ANSWER_S_MAX:.0f} s")

    def listen(self, topic: str) -> asyncio.Queue[Event]:
        """All events of a topic from its beginning, each once; to be called before `run`."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._listeners.setdefault(self._prefix + topic, []).append(queue)
        return queue

    async def run(self) -> None:
        """Feed the listeners until cancelled."""
        # All calls of a consumer on one thread of its own: it must not be closed while another thread polls it.
        with ThreadPoolExecutor(1, thread_name_prefix="wire") as thread:
            loop = asyncio.get_running_loop()
            consumer = await loop.run_in_executor(thread, _reader, self._bootstrap, list(self._listeners))
            try:
                while True:
                    for event in await loop.run_in_executor(thread, _poll, consumer):
                        self._hand_out(event)
            finally:
                thread.submit(consumer.close)

    def _hand_out(self, event: Event) -> None:
        if event.message_id:
            if event.message_id in self._seen:
                self.repeated += 1
                return
            self._seen.add(event.message_id)
        for queue in self._listeners[event.topic]:
            queue.put_nowait(event)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None and self._undelivered is None:
            self._undelivered = error


def read_to_end(bootstrap: str, topics: Sequence[str]) -> list[Event]:
    """Every record of these topics that is there now, in order per partition, repetitions included."""
    consumer = _reader(bootstrap, topics, {"enable.partition.eof": True})
    open_partitions = {(partition.topic, partition.partition) for partition in consumer.assignment()}
    events: list[Event] = []
    deadline_s = time.monotonic() + ANSWER_S_MAX
    try:
        while open_partitions:
            messages = consumer.consume(1_000, POLL_S)
            if messages:
                deadline_s = time.monotonic() + ANSWER_S_MAX
            elif time.monotonic() > deadline_s:
                raise TimeoutError(f"{bootstrap} sent nothing for {ANSWER_S_MAX:.0f} s of {sorted(open_partitions)}")
            for message in messages:
                error = message.error()
                if error is not None and error.name() == "_PARTITION_EOF":
                    open_partitions.discard((str(message.topic()), int(message.partition() or 0)))
                else:
                    events.extend(_events([message]))
    finally:
        consumer.close()
    return events


def create_topics(bootstrap: str, topics: Sequence[str]) -> None:
    """Make topics on a real cluster, and return when clients see all of their partitions.

    Raises:
        KafkaException: the cluster does not answer, or refuses.
        TimeoutError: the topics do not appear.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    admin.list_topics(timeout=CONNECT_S_MAX)  # an address with nobody behind it is told early
    for made in admin.create_topics([NewTopic(topic, PARTITIONS) for topic in topics]).values():
        made.result(ANSWER_S_MAX)
    deadline_s = time.monotonic() + ANSWER_S_MAX
    while not _are_there(admin, topics):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{bootstrap} took the topics, and did not show them in {ANSWER_S_MAX:.0f} s")
        time.sleep(POLL_S)


def remove_topics(bootstrap: str, topics: Sequence[str]) -> None:
    """Delete topics from a real cluster, with everything in them.

    Raises:
        KafkaException: the cluster does not answer, or refuses.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    for removed in admin.delete_topics(list(topics)).values():
        removed.result(ANSWER_S_MAX)


def _are_there(admin: AdminClient, topics: Sequence[str]) -> bool:
    there = admin.list_topics(timeout=ANSWER_S_MAX).topics
    return all(topic in there and len(there[topic].partitions) == PARTITIONS for topic in topics)


def _reader(bootstrap: str, topics: Sequence[str], options: Options | None = None) -> Consumer:
    settings: Options = {"bootstrap.servers": bootstrap, "group.id": "food-ordering-world", "enable.auto.commit": False}
    consumer = Consumer({**settings, **QUIET, **PROMPT, **(options or {})})
    try:
        partitions = [
            TopicPartition(topic, number, OFFSET_BEGINNING)
            for topic in topics
            for number in consumer.list_topics(topic, ANSWER_S_MAX).topics[topic].partitions
        ]
        consumer.assign(partitions)
    except KafkaException:
        consumer.close()
        raise
    return consumer


def _poll(consumer: Consumer) -> list[Event]:
    return _events(consumer.consume(500, POLL_S))


def _events(messages: Sequence[Message]) -> list[Event]:
    events = []
    for message in messages:
        error = message.error()
        if error is not None:
            if error.retriable():
                continue
            raise KafkaException(error)
        headers = dict(message.headers() or [])
        events.append(
            Event(
                topic=message.topic() or "",
                key=_text(message.key()),
                value=_raw(message.value()),
                message_id=_text(headers.get(MESSAGE_ID_HEADER)),
            )
        )
    return events


def _raw(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def _text(value: str | bytes | None) -> str:
    return _raw(value).decode()
