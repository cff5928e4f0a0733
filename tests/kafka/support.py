"""What the tests of the Kafka connector share: subscriptions, records in and out, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from confluent_kafka import Consumer, Producer, TopicPartition

from streamstate.definitions import Policies, Record, Start, SubscriptionSpec
from streamstate.ingress import PartitionId, Records, Source, SourceStopped
from streamstate.storage import OutboxMessage
from streamstate_kafka import Kafka

WAIT_S_MAX = 30.0
PROMPT = {"topic.metadata.refresh.interval.ms": "200"}  # look for what is new soon


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def subscription(
    topics: str | tuple[str, ...] | re.Pattern[str],
    *,
    name: str | None = None,
    start: Start | None = None,
    options: Mapping[str, str] | None = None,
) -> SubscriptionSpec:
    return SubscriptionSpec(
        name=name or unique("subscription"),
        topics=(topics,) if isinstance(topics, str) else topics,
        cluster=None,
        service="Driver",
        handler="moved",
        key=None,
        value=None,
        start=start or Start.earliest(),
        policies=Policies(),
        retry=None,
        max_in_flight=1_000,
        site="shop.py:7",
        options=options or {},
    )


@asynccontextmanager
async def opened(
    servers: str, spec: SubscriptionSpec, positions: Mapping[PartitionId, int] | None = None
) -> AsyncIterator[Source]:
    source = Kafka(servers).source(spec)
    try:
        await source.open(positions or {})
        yield source
    finally:
        await source.close()


async def read(source: Source, count: int) -> list[Record]:
    """That many records, and not one more."""
    records: list[Record] = []
    async with asyncio.timeout(WAIT_S_MAX):
        while len(records) < count:
            records += (await batch(source)).records
    assert len(records) == count
    return records


async def batch(source: Source) -> Records:
    polled = await source.poll()
    assert isinstance(polled, Records), polled
    return polled


async def read_until_stopped(source: Source) -> tuple[list[Record], SourceStopped]:
    records: list[Record] = []
    async with asyncio.timeout(WAIT_S_MAX):
        while isinstance(polled := await source.poll(), Records):
            records += polled.records
    return records, polled


def send(servers: str, topic: str, values: Sequence[bytes | None], *, partition: int = 0, at_ms: int = 0) -> None:
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    for value in values:
        producer.produce(topic, value, b"key", partition, timestamp=at_ms)
    assert producer.flush(WAIT_S_MAX) == 0


def take(servers: str, topic: str, count: int, partitions: int = 4) -> list[Record]:
    """That many records of a topic, by a plain consumer."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": unique("taker"), "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    records: list[Record] = []
    deadline = time.monotonic() + WAIT_S_MAX
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records of {topic} after {WAIT_S_MAX} s"
        for message in consumer.consume(count - len(records), 0.2):
            topic_name, number, offset = message.topic(), message.partition(), message.offset()
            assert message.error() is None and topic_name is not None and number is not None and offset is not None
            headers = message.headers() or []
            assert isinstance(headers, list)
            plain = tuple((name, value) for name, value in headers if not isinstance(value, str))
            key, value = message.key(), message.value()
            assert not isinstance(key, str) and not isinstance(value, str)
            records.append(Record(topic_name, number, offset, message.timestamp()[1], key, value, plain))
    consumer.close()
    return records


def outbox(
    topic: str, values: Sequence[bytes | None], *, key: Callable[[int], bytes | None] = lambda _: b"key"
) -> list[OutboxMessage]:
    return [
        OutboxMessage(n, "kafka", topic, key(n), value, (("source", b"test"),), f"id-{n}")
        for n, value in enumerate(values)
    ]


async def until(condition: Callable[[], bool]) -> None:
    """Wait on a condition that lies outside this process."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not await asyncio.to_thread(condition):
            pass


def values_of(records: Sequence[Record]) -> list[bytes | None]:
    return [record.value for record in records]
