from __future__ import annotations

import asyncio

import pytest

from streamstate.errors import SinkError
from streamstate.ingress import PartitionId
from streamstate_kafka import Kafka
from tests.brokers import Broker
from tests.kafka.support import batch, opened, outbox, read, send, subscription, take, unique, values_of

CLOSE_S_MAX = 10


@pytest.fixture
def restartable(kafka_broker: Broker) -> Broker:
    if not kafka_broker.can_restart:
        pytest.skip("the broker that KAFKA_BOOTSTRAP names is not ours to stop")
    return kafka_broker


async def test_a_source_goes_on_where_it_was_when_the_broker_is_back(restartable: Broker) -> None:
    topic, servers = unique("outage"), restartable.bootstrap_servers
    restartable.create_topic(topic, 1)
    send(servers, topic, [b"0", b"1", b"2"])
    async with opened(servers, subscription(topic)) as source:
        assert values_of(await read(source, 3)) == [b"0", b"1", b"2"]
        reading = asyncio.ensure_future(read(source, 2))
        await asyncio.to_thread(restartable.kill)
        await asyncio.to_thread(restartable.start)
        await asyncio.to_thread(send, servers, topic, [b"3", b"4"])
        assert values_of(await reading) == [b"3", b"4"]


async def test_publishing_waits_for_the_broker_and_then_delivers_once_and_in_order(restartable: Broker) -> None:
    topic, servers, count = unique("waiting"), restartable.bootstrap_servers, 20_000
    restartable.create_topic(topic, 1)
    sink = Kafka(servers).sink()
    await sink.open()
    publishing = asyncio.ensure_future(sink.publish(outbox(topic, [b"%d" % n for n in range(count)])))
    await asyncio.to_thread(restartable.kill)
    await asyncio.to_thread(restartable.start)
    await publishing
    await sink.publish(outbox(topic, [b"last"]))
    await sink.close()
    records = await asyncio.to_thread(take, servers, topic, count + 1, 1)
    assert values_of(records) == [*(b"%d" % n for n in range(count)), b"last"]


async def test_closing_during_an_outage_is_bounded_and_fails_what_was_not_sent(restartable: Broker) -> None:
    topic, servers = unique("closing"), restartable.bootstrap_servers
    restartable.create_topic(topic, 1)
    send(servers, topic, [b"0"])
    sink = Kafka(servers).sink()
    await sink.open()
    await sink.publish(outbox(topic, [b"1"]))
    async with opened(servers, subscription(topic)) as source:
        polled = await batch(source)
        await asyncio.to_thread(restartable.stop)
        source.report({PartitionId(topic, polled.topic_ids[topic], 0): 1})
        try:
            publishing = asyncio.ensure_future(sink.publish(outbox(topic, [b"2"])))
            await asyncio.sleep(0)
            async with asyncio.timeout(CLOSE_S_MAX):
                await sink.close()
                await source.close()
            with pytest.raises(SinkError):
                await publishing
        finally:
            await asyncio.to_thread(restartable.start)
