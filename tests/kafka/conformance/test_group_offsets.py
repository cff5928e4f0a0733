"""What every client behind the port does with the offsets of a consumer group, on a real broker."""

from __future__ import annotations

import asyncio

import pytest

from streamstate_kafka._client import ClientError, GroupOffset
from tests.brokers import Broker
from tests.kafka.support import Port, read_port, send, unique


async def test_offsets_and_their_metadata_are_there_when_the_report_returns(port: Port, kafka_broker: Broker) -> None:
    topic, group = unique("reported"), unique("group")
    kafka_broker.create_topic(topic, 3)
    reader, partitions = port.reader(group=group), [(topic, 0), (topic, 1), (topic, 2)]
    assert await reader.reported(partitions) == {}
    told = {(topic, 0): GroupOffset(7, "directory ä 1"), (topic, 2): GroupOffset(0)}
    await reader.report(told)
    assert await reader.reported(partitions) == told
    assert kafka_broker.group_offsets(group) == {(topic, 0): 7, (topic, 2): 0}
    await reader.report({(topic, 0): GroupOffset(3, "went back")})
    assert await port.reader(group=group).reported(partitions) == told | {(topic, 0): GroupOffset(3, "went back")}


async def test_offsets_are_reported_while_a_read_waits(port: Port, kafka_broker: Broker) -> None:
    topic = unique("meanwhile")
    kafka_broker.create_topic(topic, 2)
    reader = port.reader()
    await reader.assign({(topic, 0): 0})
    reading = asyncio.ensure_future(read_port(reader, 1))
    for offset in range(1, 6):
        await reader.report({(topic, 0): GroupOffset(offset), (topic, 1): GroupOffset(offset)})
    assert not reading.done()
    assert await reader.reported([(topic, 1)]) == {(topic, 1): GroupOffset(5)}
    send(kafka_broker.bootstrap_servers, topic, [b"a"])
    assert [record.offset for record in await reading] == [0]


async def test_one_group_knows_nothing_of_another(port: Port, kafka_broker: Broker) -> None:
    topic = unique("apart")
    kafka_broker.create_topic(topic, 1)
    await port.reader(group=unique("one")).report({(topic, 0): GroupOffset(5)})
    assert await port.reader(group=unique("other")).reported([(topic, 0)]) == {}


async def test_a_closed_reader_says_so_and_may_be_closed_again(port: Port, request: pytest.FixtureRequest) -> None:
    if port.kind == "confluent":
        reason = "ConfluentGroup hands calls to the threads that it has ended"
        request.applymarker(pytest.mark.xfail(strict=True, raises=RuntimeError, reason=reason))
    reader = port.client().reader("night-shift", {})
    await reader.close()
    with pytest.raises(ClientError, match="the reader of consumer group 'night-shift' is closed"):
        await reader.report({("orders", 0): GroupOffset(1)})
    await reader.close()
