"""What every client behind the port does while the broker is away: nothing is lost, and order is kept.

All clients go through the same outage, since to restart a broker is what takes the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from streamstate.errors import SinkError
from streamstate_kafka import Reader, Writer
from streamstate_kafka._client import ClientError, GroupOffset
from tests.brokers import Broker
from tests.kafka.support import CLIENTS, Port, by_partition, outbox, read_port, send, unique, values_of

CHUNKS, CHUNK = 40, 500
KILLED_AFTER = 10
OUTAGE_S_MAX = 90
CLOSE_S_MAX = 10


@pytest.fixture
def restartable(kafka_broker: Broker) -> Broker:
    if not kafka_broker.can_restart:
        pytest.skip("the broker that KAFKA_BOOTSTRAP names is not ours to stop")
    return kafka_broker


@pytest.fixture
async def ports(restartable: Broker) -> AsyncIterator[list[Port]]:
    ports = [Port(kind, restartable.bootstrap_servers) for kind in CLIENTS]
    yield ports
    for port in ports:
        await port.close()


async def test_a_broker_that_is_killed_while_it_is_read_and_written_costs_nothing(
    ports: list[Port], restartable: Broker
) -> None:
    total = CHUNKS * CHUNK
    has_begun, is_back = asyncio.Event(), asyncio.Event()

    async def write(port: Port, topic: str) -> None:
        messages = outbox(topic, [b"%d" % n for n in range(total)], key=lambda n: b"%d" % (n % 7))
        writer = port.writer()
        for number in range(CHUNKS):
            writing = asyncio.ensure_future(writer.write(messages[number * CHUNK : (number + 1) * CHUNK]))
            await asyncio.sleep(0)
            if number == KILLED_AFTER:
                has_begun.set()
                await is_back.wait()
            await writing

    async with asyncio.TaskGroup() as group:
        readings = []
        for port in ports:
            topic = unique(port.kind)
            restartable.create_topic(topic, 2)
            reader = port.reader()
            await reader.assign({(topic, 0): 0, (topic, 1): 0})
            readings.append(group.create_task(read_port(reader, total, seconds=OUTAGE_S_MAX)))
            group.create_task(write(port, topic))
        await has_begun.wait()
        await asyncio.to_thread(restartable.kill)
        await asyncio.to_thread(restartable.start)
        is_back.set()
    for reading in readings:
        found = [[int(value or b"") for value in values] for values in by_partition(reading.result()).values()]
        assert sorted(number for numbers in found for number in numbers) == list(range(total))
        assert all(numbers == sorted(numbers) for numbers in found)


async def test_closing_during_an_outage_is_bounded_and_fails_what_was_not_sent(
    ports: list[Port], restartable: Broker
) -> None:
    opened = [await _in_use(port, restartable) for port in ports]
    await asyncio.to_thread(restartable.stop)
    try:
        async with asyncio.TaskGroup() as group:
            for reader, writer in opened:
                group.create_task(_close(reader, writer))
    finally:
        await asyncio.to_thread(restartable.start)


async def _in_use(port: Port, broker: Broker) -> tuple[Reader, Writer]:
    topic = unique("closing")
    broker.create_topic(topic, 1)
    send(broker.bootstrap_servers, topic, [b"0"])
    reader, writer = port.reader(), port.writer()
    await writer.write(outbox(topic, [b"1"]))
    await reader.assign({(topic, 0): 0})
    assert values_of(await read_port(reader, 2)) == [b"0", b"1"]
    await reader.report({(topic, 0): GroupOffset(1)})
    return reader, writer


async def _close(reader: Reader, writer: Writer) -> None:
    with pytest.raises(ClientError):
        await reader.report({("closing", 0): GroupOffset(2)})
    writing = asyncio.ensure_future(writer.write(outbox("closing", [b"2"])))
    reading = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    async with asyncio.timeout(CLOSE_S_MAX):
        await writer.close()
        await reader.close()
    with pytest.raises(SinkError, match="the sink was closed before it was"):
        await writing
    assert (await reading).records == []
