"""The offsets of one consumer group, through a librdkafka consumer that reads nothing.

Not through the one that reads: all calls on one consumer exclude each other across threads, so that the event loop
would stand still for as long as a call about offsets takes. And not through the admin client: librdkafka 2.16 crashes
in its ListConsumerGroupOffsets when the coordinator has moved.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streamstate_kafka._client import ClientError, GroupOffset, Partition
from streamstate_kafka._codes import LocalError
from streamstate_kafka._notices import LOGGER
from streamstate_kafka._options import Options

T = TypeVar("T")

ANSWER_S_MAX = 3.0  # also of the last report of a close; lag tools are not worth a longer wait
POLL_S = 0.05

OURS = {
    # Without a membership the session's timeout only says how long a commit waits for a coordinator, 45 s otherwise.
    "session.timeout.ms": "2000",
    "heartbeat.interval.ms": "500",
    "enable.auto.commit": "false",
}


class ConfluentGroup:
    """One consumer group that we are no member of. Connects at the first call."""

    def __init__(self, options: Options, name: str) -> None:
        self._options = options
        self._name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-group")
        self._consumer: Consumer | None = None
        self._answers: list[tuple[KafkaError | None, list[TopicPartition]]] = []

    async def reported(self, partitions: Sequence[Partition]) -> dict[Partition, GroupOffset]:
        return await self._call(lambda consumer: _reported(consumer, partitions))

    async def report(self, offsets: Mapping[Partition, GroupOffset]) -> None:
        await self._call(lambda consumer: self._report(consumer, offsets))

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, consumer.close)
        self._thread.shutdown(wait=False)

    async def _call(self, function: Callable[[Consumer], T]) -> T:
        try:
            consumer = self._connected()
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, consumer)
        except KafkaException as error:
            raise ClientError(self._options.scrub(error.args[0].str())) from None

    def _connected(self) -> Consumer:
        if self._consumer is None:
            settings: dict[str, object] = {**self._options.for_consumer(), **OURS, "group.id": self._name}
            self._consumer = Consumer({**settings, "on_commit": self._on_commit}, logger=LOGGER)
        return self._consumer

    def _report(self, consumer: Consumer, offsets: Mapping[Partition, GroupOffset]) -> None:
        """On the thread. Not by a synchronous commit, which waits for ever where a broker does not answer."""
        sent = {(topic, number, each.offset) for (topic, number), each in offsets.items()}
        self._answers.clear()
        told = [TopicPartition(topic, number, each.offset, each.metadata) for (topic, number), each in offsets.items()]
        consumer.commit(offsets=told, asynchronous=True)
        deadline = time.monotonic() + ANSWER_S_MAX
        while time.monotonic() < deadline:
            consumer.poll(POLL_S)
            for error, partitions in self._answers:
                if {(each.topic, each.partition, each.offset) for each in partitions} != sent:
                    continue  # of an earlier one that was given up
                for failure in (error, *(each.error for each in partitions)):
                    if failure is not None:
                        raise KafkaException(failure)
                return
        raise KafkaException(KafkaError(LocalError.TIMED_OUT, f"no answer within {ANSWER_S_MAX:.0f} s"))

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._answers.append((error, partitions))


def _reported(consumer: Consumer, partitions: Sequence[Partition]) -> dict[Partition, GroupOffset]:
    asked = [TopicPartition(topic, number) for topic, number in partitions]
    found = consumer.committed(asked, timeout=ANSWER_S_MAX)
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
    return {
        (each.topic, each.partition): GroupOffset(each.offset, each.metadata or "")
        for each in found
        if each.offset >= 0
    }
