"""What the tests of the Kafka connector share: subscriptions, clients, records in and out, waiting with a deadline."""

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
from streamstate_kafka import Fault, FaultKind, Kafka, KafkaClient, Reader, Writer
from streamstate_kafka._client import Partition
from streamstate_kafka._options import OptionValue

CLIENTS = ("confluent", "aiokafka")
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
    servers: str,
    spec: SubscriptionSpec,
    positions: Mapping[PartitionId, int] | None = None,
    *,
    client: str = "confluent",
) -> AsyncIterator[Source]:
    source = Kafka(servers, client=client).source(spec)
    try:
        await source.open(positions or {})
        yield source
    finally:
        await source.close()


class Port:
    """The client port to one cluster, through one client library."""

    def __init__(self, kind: str, servers: str) -> None:
        self.kind = kind
        self._servers = servers
        self._readers: list[Reader] = []
        self._writers: list[Writer] = []
        self._clients: list[KafkaClient] = []

    def client(self, options: Mapping[str, OptionValue] | None = None) -> KafkaClient:
        kafka = Kafka(self._servers, options=options, client=self.kind)
        self._clients.append(kafka._connect(kafka._options))
        return self._clients[-1]

    def reader(self, options: Mapping[str, OptionValue] | None = None, *, group: str | None = None) -> Reader:
        self._readers.append(self.client(options).reader(group or unique("group"), {}))
        return self._readers[-1]

    def writer(self, options: Mapping[str, OptionValue] | None = None) -> Writer:
        self._writers.append(self.client(options).writer())
        return self._writers[-1]

    async def close(self) -> None:
        made: list[Reader | Writer | KafkaClient] = [*self._readers, *self._writers, *self._clients]
        for each in made:
            await each.close()


async def read_port(reader: Reader, count: int, *, seconds: float = WAIT_S_MAX) -> list[Record]:
    """That many records, and not one more; no fault but those that pass."""
    records: list[Record] = []
    async with asyncio.timeout(seconds):
        while len(records) < count:
            fetched = await reader.read()
            assert [fault for fault in fetched.faults if fault.kind is not FaultKind.TRANSIENT] == []
            records += fetched.records
    assert len(records) == count
    return records


async def first_fault(reader: Reader) -> tuple[list[Record], Fault]:
    """The first fault, and the records before it."""
    records: list[Record] = []
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            fetched = await reader.read()
            records += fetched.records
            if fetched.faults:
                return records, fetched.faults[0]


def by_partition(records: Sequence[Record]) -> dict[Partition, list[bytes | None]]:
    values: dict[Partition, list[bytes | None]] = {}
    for record in records:
        values.setdefault((record.topic, record.partition), []).append(record.value)
    return values


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
