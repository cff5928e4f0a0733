"""Where the writer's messages go: the partitions of their topics, their leaders, and the partition of a key."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from functools import lru_cache

from aiokafka.errors import (  # type: ignore[import-untyped]  # ships no types
    InvalidTopicError,
    KafkaError,
    NoError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]  # ships no types
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]  # ships no types

from streamstate_kafka._aiokafka_connection import Connection
from streamstate_kafka._client import Partition

RETRY_S = 0.1
HASHES_KEPT = 20_000  # murmur2 in Python costs as much as all the rest of a message
NO_LEADER = -1

hashed: Callable[[bytes], int] = lru_cache(HASHES_KEPT)(murmur2)


class Topics:
    """What is known of the topics that are written to."""

    def __init__(self, connection: Connection, missing_s_max: float) -> None:
        self._connection = connection
        self._missing_s_max = missing_s_max
        self._leaders: dict[str, list[int]] = {}

    async def know(self, names: Iterable[str]) -> dict[str, KafkaError]:
        """Wait until each of these is known, or the cluster says for long enough that it is not there; tells why."""
        refused: dict[str, KafkaError] = {}
        for name in set(names) - self._leaders.keys():
            try:
                await self._find(name)
            except KafkaError as error:
                refused[name] = error
        return refused

    async def leader(self, partition: Partition) -> int:
        """The broker that takes the messages of a partition. Raises KafkaError if the topic is not there any more."""
        topic, number = partition
        while True:
            if topic not in self._leaders:
                await self._find(topic)
            leaders = self._leaders[topic]
            if number < len(leaders) and leaders[number] != NO_LEADER:
                return leaders[number]
            del self._leaders[topic]
            await asyncio.sleep(RETRY_S)

    def forget(self, topic: str) -> None:
        """Something has changed about it: ask again."""
        self._leaders.pop(topic, None)

    def partition(self, topic: str, key: bytes | None) -> int:
        """As the Java clients do it, so that topics can be joined by partition; any partition for no key."""
        count = len(self._leaders[topic])
        return random.randrange(count) if key is None else (hashed(key) & 0x7FFFFFFF) % count

    async def _find(self, topic: str) -> None:
        """Raises KafkaError if the cluster answers, and has no such topic. Waits as long as no broker answers."""
        deadline = time.monotonic() + self._missing_s_max
        while True:
            try:
                metadata = await self._connection.ask(MetadataRequest([topic]))
            except KafkaError as error:
                if not error.retriable:
                    raise
                deadline = time.monotonic() + self._missing_s_max
                await asyncio.sleep(RETRY_S)
                continue
            (await self._connection.connected()).cluster.update_metadata(metadata)
            ((code, _, _, partitions),) = metadata.topics
            error_type = for_code(code)
            if error_type is NoError and partitions:
                leaders = {number: leader for _, number, leader, *_ in partitions}
                self._leaders[topic] = [leaders.get(number, NO_LEADER) for number in range(len(leaders))]
                return
            if error_type in (InvalidTopicError, TopicAuthorizationFailedError):
                raise error_type
            if time.monotonic() > deadline:
                raise UnknownTopicOrPartitionError
            await asyncio.sleep(RETRY_S)
