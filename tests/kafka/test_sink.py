from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator

import pytest

from streamstate.engine import Sink
from streamstate.errors import SinkError
from streamstate_kafka import Kafka
from tests.brokers import Broker
from tests.kafka.support import outbox, take, unique, values_of

MORE_THAN_A_BROKER_TAKES = 2_000_000


@pytest.fixture
async def sink(kafka_broker: Broker) -> AsyncIterator[Sink]:
    # Finding out that a topic is not there takes 30 s otherwise.
    sink = Kafka(kafka_broker.bootstrap_servers, options={"topic.metadata.propagation.max.ms": 500}).sink()
    await sink.open()
    yield sink
    await sink.close()


async def test_messages_of_a_key_keep_their_order(kafka_broker: Broker, sink: Sink) -> None:
    topic, count = unique("ordered"), 5_000
    kafka_broker.create_topic(topic, 4)
    messages = outbox(topic, [b"%d" % n for n in range(count)], key=lambda n: b"key-%d" % (n % 17))
    for begin in range(0, count, 1_000):
        await sink.publish(messages[begin : begin + 1_000])
    by_key = defaultdict(list)
    for record in take(kafka_broker.bootstrap_servers, topic, count):
        by_key[record.key].append(int(record.value or b""))
    assert len(by_key) == 17
    assert sorted(n for numbers in by_key.values() for n in numbers) == list(range(count))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def test_keys_values_headers_and_the_message_id_arrive(kafka_broker: Broker, sink: Sink) -> None:
    topic = unique("shapes")
    kafka_broker.create_topic(topic, 1)
    await sink.publish(outbox(topic, [b"v", b"", None], key=lambda n: None if n == 0 else b"k"))
    full, empty, tombstone = take(kafka_broker.bootstrap_servers, topic, 3, partitions=1)
    assert (full.key, full.value) == (None, b"v")
    assert (empty.key, empty.value) == (b"k", b"")
    assert (tombstone.key, tombstone.value) == (b"k", None)
    assert tombstone.headers == (("source", b"test"), ("streamstate-message-id", b"id-2"))


async def test_a_message_that_is_too_large_is_refused_by_name_and_what_follows_is_not_sent(
    kafka_broker: Broker, sink: Sink
) -> None:
    topic = unique("large")
    kafka_broker.create_topic(topic, 1)
    with pytest.raises(SinkError) as raised:
        await sink.publish(outbox(topic, [b"a", b"b", b"x" * MORE_THAN_A_BROKER_TAKES, b"d"]))
    assert raised.value.acknowledged == 2
    assert f"topic '{topic}'" in str(raised.value)
    assert "with key b'key' (2000000 bytes, streamstate-message-id id-2)" in str(raised.value)
    assert "raise message.max.bytes in the options of Kafka(...) and max.message.bytes" in str(raised.value)
    await sink.publish(outbox(topic, [b"e"]))
    assert values_of(take(kafka_broker.bootstrap_servers, topic, 3, partitions=1)) == [b"a", b"b", b"e"]


async def test_a_message_that_only_the_topic_finds_too_large_is_refused_and_the_sink_goes_on(
    kafka_broker: Broker, sink: Sink
) -> None:
    topic = unique("strict")
    kafka_broker.create_topic(topic, 1, {"max.message.bytes": "1000"})
    with pytest.raises(SinkError, match=r"raise message\.max\.bytes") as raised:
        await sink.publish(outbox(topic, [b"x" * 5_000]))
    assert raised.value.acknowledged == 0
    await sink.publish(outbox(topic, [b"small"]))
    assert values_of(take(kafka_broker.bootstrap_servers, topic, 1, partitions=1)) == [b"small"]


async def test_one_message_that_a_topic_finds_too_large_lets_those_before_it_pass(
    kafka_broker: Broker, sink: Sink
) -> None:
    topic = unique("between")
    kafka_broker.create_topic(topic, 1, {"max.message.bytes": "2000"})
    messages = outbox(topic, [b"0", b"1", b"x" * 5_000, b"3", b"4"])
    with pytest.raises(SinkError, match=r"\(5000 bytes, streamstate-message-id id-2\)") as raised:
        await sink.publish(messages)
    assert raised.value.acknowledged == 2
    await sink.publish(messages[3:])
    assert values_of(take(kafka_broker.bootstrap_servers, topic, 4, partitions=1)) == [b"0", b"1", b"3", b"4"]


async def test_a_topic_whose_limit_is_below_the_size_of_a_request_gets_all_messages(
    kafka_broker: Broker, sink: Sink
) -> None:
    topic = unique("small-requests")
    kafka_broker.create_topic(topic, 1, {"max.message.bytes": "2000"})
    await sink.publish(outbox(topic, [b"x" * 500] * 20))
    assert len(take(kafka_broker.bootstrap_servers, topic, 20, partitions=1)) == 20


async def test_a_topic_that_is_not_there_is_refused_by_name_and_taken_once_it_is(
    kafka_broker: Broker, sink: Sink
) -> None:
    topic = unique("unmade")
    with pytest.raises(SinkError, match=f"topic '{topic}'.*create the topic") as raised:
        await sink.publish(outbox(topic, [b"a", b"b"]))
    assert raised.value.acknowledged == 0
    kafka_broker.create_topic(topic, 1)
    await sink.publish(outbox(topic, [b"a", b"b"]))
    assert values_of(take(kafka_broker.bootstrap_servers, topic, 2, partitions=1)) == [b"a", b"b"]


async def test_a_closed_sink_refuses(sink: Sink) -> None:
    await sink.close()
    with pytest.raises(SinkError, match="the sink is closed"):
        await sink.publish(outbox("orders", [b"a"]))


async def test_publishing_nothing_does_nothing(sink: Sink) -> None:
    await sink.publish([])
