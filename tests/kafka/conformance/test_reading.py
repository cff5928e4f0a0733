"""What every client behind the port does when it reads, on a real broker."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer, TopicPartition

from streamstate.definitions import Record, Start
from streamstate_kafka import Fault, FaultKind, Reader
from streamstate_kafka._client import ClientError
from tests.brokers import Broker
from tests.kafka.support import Port, by_partition, first_fault, outbox, read_port, send, take, unique, values_of


def numbered(begin: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(begin, end)]


def truncate(broker: Broker, topic: str, offset: int) -> None:
    admin = broker.admin()
    for result in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        result.result(30)


async def test_a_start_is_the_first_record_the_end_or_the_first_one_of_a_moment(
    port: Port, kafka_broker: Broker
) -> None:
    topic, servers = unique("starts"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 2)
    for at_ms in (1_000, 2_000, 3_000, 4_000):
        send(servers, topic, [b"%d" % at_ms], at_ms=at_ms)
    truncate(kafka_broker, topic, 1)
    reader, both = port.reader(), [(topic, 0), (topic, 1)]
    assert await reader.starts(both, Start.earliest()) == {(topic, 0): 1, (topic, 1): 0}
    assert await reader.starts(both, Start.latest()) == {(topic, 0): 4, (topic, 1): 0}
    for moment_s, offset in ((2.5, 2), (3, 2), (9, 4)):
        moment = datetime.fromtimestamp(moment_s, UTC)
        assert await reader.starts(both, Start.at(moment)) == {(topic, 0): offset, (topic, 1): 0}
    assert await reader.bounds((topic, 0)) == (1, 4)


async def test_reading_begins_at_the_positions_given(port: Port, kafka_broker: Broker) -> None:
    topic, servers = unique("positions"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 3)
    for partition in range(3):
        send(servers, topic, numbered(0, 10), partition=partition)
    reader = port.reader()
    await reader.assign({(topic, 0): 7, (topic, 1): 10})
    assert by_partition(await read_port(reader, 3)) == {(topic, 0): numbered(7, 10)}
    send(servers, topic, [b"new"], partition=1)
    send(servers, topic, [b"not assigned"], partition=2)
    assert by_partition(await read_port(reader, 1)) == {(topic, 1): [b"new"]}


async def test_a_partition_that_is_assigned_later_disturbs_no_other(port: Port, kafka_broker: Broker) -> None:
    topic, servers, count = unique("later"), kafka_broker.bootstrap_servers, 3_000
    kafka_broker.create_topic(topic, 4)
    for partition in range(4):
        send(servers, topic, numbered(0, count), partition=partition)
    reader = port.reader()
    await reader.assign({(topic, 0): 0})
    records = (await reader.read()).records
    for partition in range(1, 4):
        await reader.assign({(topic, partition): 0})
        records += (await reader.read()).records
    records += await read_port(reader, 4 * count - len(records))
    assert by_partition(records) == {(topic, partition): numbered(0, count) for partition in range(4)}


async def test_a_partition_that_is_assigned_again_goes_to_its_new_position(port: Port, kafka_broker: Broker) -> None:
    topic, servers = unique("again"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, numbered(0, 5))
    reader = port.reader()
    await reader.assign({(topic, 0): 0})
    assert values_of(await read_port(reader, 5)) == numbered(0, 5)
    await reader.assign({(topic, 0): 3})
    assert values_of(await read_port(reader, 2)) == numbered(3, 5)


async def test_a_position_is_behind_the_last_record_that_was_given_since_the_partition_was_assigned(
    port: Port, kafka_broker: Broker
) -> None:
    topic, servers = unique("behind"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 2)
    send(servers, topic, numbered(0, 5))
    reader = port.reader()
    await reader.assign({(topic, 0): 2, (topic, 1): 0})
    assert await reader.position((topic, 0)) == -1
    await read_port(reader, 3)
    assert [await reader.position((topic, partition)) for partition in range(2)] == [5, -1]
    await reader.assign({(topic, 0): 1})
    assert await reader.position((topic, 0)) == -1
    await read_port(reader, 4)
    await reader.unassign([(topic, 0)])
    assert await reader.position((topic, 0)) == -1


async def test_a_partition_that_is_given_up_is_read_no_more_and_the_others_go_on(
    port: Port, kafka_broker: Broker
) -> None:
    topic, servers, count = unique("given-up"), kafka_broker.bootstrap_servers, 2_500
    kafka_broker.create_topic(topic, 2)
    for partition in range(2):
        send(servers, topic, numbered(0, count), partition=partition)
    reader = port.reader()
    await reader.assign({(topic, 0): 0, (topic, 1): 0})
    before = await _first(reader)
    await reader.unassign([(topic, 0)])
    kept = [record for record in before if record.partition == 1]
    after = await read_port(reader, count - len(kept))
    assert {record.partition for record in after} == {1}
    assert values_of([*kept, *after]) == numbered(0, count)


async def test_records_arrive_as_they_were_sent(port: Port, kafka_broker: Broker) -> None:
    topic, servers = unique("shapes"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    producer = Producer({"bootstrap.servers": servers})
    headers: list[tuple[str, str | bytes | None]] = [("a", b"1"), ("a", b"2"), ("ü", None), ("empty", b"")]
    producer.produce(topic, b"v", b"k", headers=headers, timestamp=1_234)
    producer.produce(topic, None, b"k")
    producer.produce(topic, b"", b"")
    producer.produce(topic, b"v", None)
    assert producer.flush(10) == 0
    reader = port.reader()
    await reader.assign({(topic, 0): 0})
    full, tombstone, empty, keyless = await read_port(reader, 4)
    assert (full.topic, full.partition, full.offset, full.timestamp_ms) == (topic, 0, 0, 1_234)
    assert full.headers == tuple(headers)
    assert (tombstone.key, tombstone.value, tombstone.headers) == (b"k", None, ())
    assert (empty.key, empty.value) == (b"", b"")
    assert (keyless.key, keyless.value, keyless.offset) == (None, b"v", 3)


@pytest.mark.parametrize("codec", ["gzip"])
async def test_compressed_records_are_read(port: Port, kafka_broker: Broker, codec: str) -> None:
    topic, servers = unique(codec), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    writer = port.writer({"compression.type": codec})
    await writer.write(outbox(topic, [b"x" * 1_000] * 50))
    reader = port.reader()
    await reader.assign({(topic, 0): 0})
    assert values_of(await read_port(reader, 50)) == [b"x" * 1_000] * 50
    assert len(take(servers, topic, 50, 1)) == 50


async def test_a_record_larger_than_a_fetch_is_read_all_the_same(port: Port, kafka_broker: Broker) -> None:
    topic = unique("large")
    kafka_broker.create_topic(topic, 1)
    values = [b"small", b"x" * 300_000, b"small"]
    send(kafka_broker.bootstrap_servers, topic, values)
    reader = port.reader({"max.partition.fetch.bytes": 1_000})
    await reader.assign({(topic, 0): 0})
    assert values_of(await read_port(reader, 3)) == values


async def test_a_read_that_is_cancelled_at_any_point_loses_no_record(port: Port, kafka_broker: Broker) -> None:
    topic, servers, count = unique("cancelled"), kafka_broker.bootstrap_servers, 6_000
    kafka_broker.create_topic(topic, 2)
    for partition in range(2):
        send(servers, topic, numbered(0, count), partition=partition)
    reader = port.reader()
    await reader.assign({(topic, 0): 0, (topic, 1): 0})
    records = await _first(reader)  # now there are more at hand
    for turns in (0, 1, 2, 3, 4, 5, 2, 1):
        reading = asyncio.ensure_future(reader.read())
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            records += reading.result().records
    records += await read_port(reader, 2 * count - len(records))
    assert by_partition(records) == {(topic, partition): numbered(0, count) for partition in range(2)}


@pytest.mark.parametrize("offset", [2, 1_000])
async def test_a_position_that_is_not_there_is_a_fault_with_its_place(
    port: Port, kafka_broker: Broker, offset: int
) -> None:
    topic, servers = unique("nowhere"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, numbered(0, 10))
    truncate(kafka_broker, topic, 7)
    reader = port.reader()
    await reader.assign({(topic, 0): offset})
    records, fault = await first_fault(reader)
    assert records == []
    assert (fault.kind, fault.partition, fault.offset) == (FaultKind.OUT_OF_RANGE, (topic, 0), offset)
    await reader.assign({(topic, 0): 7})
    assert values_of(await read_port(reader, 3)) == numbered(7, 10)


async def test_a_fault_of_one_partition_costs_no_record_of_another(port: Port, kafka_broker: Broker) -> None:
    topic, servers, count = unique("neighbours"), kafka_broker.bootstrap_servers, 2_500
    kafka_broker.create_topic(topic, 2)
    send(servers, topic, numbered(0, count), partition=1)
    reader = port.reader()
    await reader.assign({(topic, 0): 99, (topic, 1): 0})
    records: list[Record] = []
    faults: list[Fault] = []
    async with asyncio.timeout(30):
        while len(records) < count or not faults:
            fetched = await reader.read()
            records += fetched.records
            faults += fetched.faults
    assert by_partition(records) == {(topic, 1): numbered(0, count)}
    assert {fault.partition for fault in faults} == {(topic, 0)}


async def test_what_is_not_read_is_not_fetched_without_bound(port: Port, kafka_broker: Broker) -> None:
    topic, total = unique("pressure"), 300
    kafka_broker.create_topic(topic, 1)
    send(kafka_broker.bootstrap_servers, topic, [b"x" * 100_000] * total)
    options = {"max.partition.fetch.bytes": 500_000}
    if port.kind == "confluent":
        options["queued.max.messages.kbytes"] = 1_024
    reader = port.reader(options)
    await reader.assign({(topic, 0): 0})
    records = await _first(reader)
    truncate(kafka_broker, topic, total)  # what is not in the read-ahead now will never come
    rest, fault = await first_fault(reader)
    assert fault.kind is FaultKind.OUT_OF_RANGE
    assert len(records) + len(rest) < total / 4


async def test_with_nothing_assigned_a_read_gives_nothing_and_blocks_nobody(port: Port, kafka_broker: Broker) -> None:
    topic = unique("unassigned")
    kafka_broker.create_topic(topic, 1)
    send(kafka_broker.bootstrap_servers, topic, [b"a"])
    reader = port.reader()
    assert (await reader.read()).records == []
    await reader.assign({(topic, 0): 0})
    await read_port(reader, 1)
    await reader.unassign([(topic, 0)])
    assert (await reader.read()).records == []


async def test_closing_ends_a_read_that_waits_and_a_closed_reader_says_so(port: Port, kafka_broker: Broker) -> None:
    topic = unique("quiet")
    kafka_broker.create_topic(topic, 1)
    reader = port.reader(group="night-shift")
    await reader.assign({(topic, 0): 0})
    reading = asyncio.ensure_future(reader.read())
    for _ in range(3):
        await asyncio.sleep(0)
    await reader.close()
    assert (await reading).records == []
    with pytest.raises(ClientError, match="the reader of consumer group 'night-shift' is closed"):
        await reader.bounds((topic, 0))


async def _first(reader: Reader) -> list[Record]:
    """The first records there are."""
    async with asyncio.timeout(30):
        while not (records := (await reader.read()).records):
            pass
    return records
