"""What every client behind the port does when it writes, on a real broker."""

from __future__ import annotations

from collections import defaultdict

import pytest
from confluent_kafka.admin import NewPartitions

from streamstate.errors import SinkError
from streamstate_kafka import Writer
from tests.brokers import Broker
from tests.kafka.support import CLIENTS, Port, outbox, take, unique, until, values_of

MORE_THAN_A_BROKER_TAKES = 2_000_000
IMPATIENT = {"topic.metadata.propagation.max.ms": 500}  # a topic that is not there is told at once


@pytest.fixture
def writer(port: Port) -> Writer:
    return port.writer(IMPATIENT)


async def test_messages_of_a_key_keep_their_order(kafka_broker: Broker, writer: Writer) -> None:
    topic, count = unique("ordered"), 12_000
    kafka_broker.create_topic(topic, 4)
    messages = outbox(topic, [b"%d" % n for n in range(count)], key=lambda n: b"key-%d" % (n % 17))
    for begin in range(0, count, 4_000):
        await writer.write(messages[begin : begin + 4_000])
    by_key = defaultdict(list)
    for record in take(kafka_broker.bootstrap_servers, topic, count):
        by_key[record.key].append(int(record.value or b""))
    assert len(by_key) == 17
    assert sorted(n for numbers in by_key.values() for n in numbers) == list(range(count))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def test_all_is_there_when_the_write_returns(kafka_broker: Broker, writer: Writer) -> None:
    topics = [unique("acknowledged") for _ in range(3)]
    for topic in topics:
        kafka_broker.create_topic(topic, 2)
    messages = [message for topic in topics for message in outbox(topic, [b"x"] * 50, key=lambda n: b"%d" % n)]
    await writer.write(messages)
    for topic in topics:
        assert len(take(kafka_broker.bootstrap_servers, topic, 50, 2)) == 50


async def test_keys_values_headers_and_the_message_id_arrive(kafka_broker: Broker, writer: Writer) -> None:
    topic = unique("shapes")
    kafka_broker.create_topic(topic, 1)
    await writer.write(outbox(topic, [b"v", b"", None], key=lambda n: None if n == 0 else b"k"))
    full, empty, tombstone = take(kafka_broker.bootstrap_servers, topic, 3, partitions=1)
    assert (full.key, full.value) == (None, b"v")
    assert (empty.key, empty.value) == (b"k", b"")
    assert (tombstone.key, tombstone.value) == (b"k", None)
    assert tombstone.headers == (("source", b"test"), ("streamstate-message-id", b"id-2"))


async def test_every_client_puts_a_key_into_the_same_partition(kafka_broker: Broker) -> None:
    topic, count, servers = unique("partitions"), 200, kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 7)
    for kind in CLIENTS:
        port = Port(kind, servers)
        await port.writer().write(outbox(topic, [b""] * count, key=lambda n: b"k" * (n % 5) + b"%d" % n))
        await port.close()
    where = defaultdict(list)
    for record in take(servers, topic, count * len(CLIENTS), 7):
        where[record.key].append(record.partition)
    assert len(where) == count
    assert all(len(found) == len(CLIENTS) and len(set(found)) == 1 for found in where.values())


async def test_a_message_that_is_too_large_is_refused_by_name_and_what_follows_is_not_sent(
    kafka_broker: Broker, writer: Writer
) -> None:
    topic = unique("large")
    kafka_broker.create_topic(topic, 1)
    with pytest.raises(SinkError) as raised:
        await writer.write(outbox(topic, [b"a", b"b", b"x" * MORE_THAN_A_BROKER_TAKES, b"d"]))
    assert raised.value.acknowledged == 2
    assert f"topic '{topic}'" in str(raised.value)
    assert "with key b'key' (2000000 bytes, streamstate-message-id id-2)" in str(raised.value)
    assert "raise message.max.bytes in the options of Kafka(...) and max.message.bytes" in str(raised.value)
    await writer.write(outbox(topic, [b"e"]))
    assert values_of(take(kafka_broker.bootstrap_servers, topic, 3, partitions=1)) == [b"a", b"b", b"e"]


async def test_one_message_that_a_topic_finds_too_large_lets_those_before_it_pass(
    kafka_broker: Broker, writer: Writer
) -> None:
    topic = unique("between")
    kafka_broker.create_topic(topic, 1, {"max.message.bytes": "2000"})
    messages = outbox(topic, [b"0", b"1", b"x" * 5_000, b"3", b"4"])
    with pytest.raises(SinkError, match=r"\(5000 bytes, streamstate-message-id id-2\).*raise message\.max") as raised:
        await writer.write(messages)
    assert raised.value.acknowledged == 2
    await writer.write(messages[3:])
    assert values_of(take(kafka_broker.bootstrap_servers, topic, 4, partitions=1)) == [b"0", b"1", b"3", b"4"]


async def test_a_topic_whose_limit_is_below_the_size_of_a_request_gets_all_messages(
    kafka_broker: Broker, writer: Writer
) -> None:
    topic = unique("small-requests")
    kafka_broker.create_topic(topic, 2, {"max.message.bytes": "2000"})
    values = [b"%d" % n * 500 for n in range(10)]
    await writer.write(outbox(topic, values, key=lambda n: b"%d" % n))
    assert sorted(values_of(take(kafka_broker.bootstrap_servers, topic, 10, 2)), key=str) == sorted(values, key=str)


async def test_a_topic_that_is_not_there_is_refused_by_name_and_taken_once_it_is(
    kafka_broker: Broker, writer: Writer
) -> None:
    topic, other = unique("unmade"), unique("made")
    kafka_broker.create_topic(other, 1)
    messages = [*outbox(other, [b"first"]), *outbox(topic, [b"a", b"b"])]
    with pytest.raises(SinkError, match=f"topic '{topic}'.*create the topic") as raised:
        await writer.write(messages)
    assert raised.value.acknowledged <= 1
    kafka_broker.create_topic(topic, 1)
    await writer.write(messages[raised.value.acknowledged :])
    assert values_of(take(kafka_broker.bootstrap_servers, topic, 2, partitions=1)) == [b"a", b"b"]
    assert values_of(take(kafka_broker.bootstrap_servers, other, 1, partitions=1)) == [b"first"]


async def test_a_topic_that_was_deleted_is_refused_by_name(kafka_broker: Broker, writer: Writer) -> None:
    topic = unique("deleted")
    kafka_broker.create_topic(topic, 1)
    await writer.write(outbox(topic, [b"a"]))
    kafka_broker.delete_topic(topic)
    with pytest.raises(SinkError, match=f"topic '{topic}'.*create the topic") as raised:
        await writer.write(outbox(topic, [b"b"]))
    assert raised.value.acknowledged == 0


async def test_a_topic_that_has_grown_still_takes_every_message(kafka_broker: Broker, writer: Writer) -> None:
    topic = unique("grown")
    kafka_broker.create_topic(topic, 1)
    await writer.write(outbox(topic, [b"a"]))
    admin = kafka_broker.admin()
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result(30)
    await until(lambda: len(admin.list_topics(timeout=5).topics[topic].partitions) == 4)
    await writer.write(outbox(topic, [b"b"] * 20, key=lambda n: b"%d" % n))
    assert len(take(kafka_broker.bootstrap_servers, topic, 21, 4)) == 21


async def test_a_name_that_no_topic_can_have_is_refused(writer: Writer) -> None:
    with pytest.raises(SinkError, match=r"topic 'no/topic'.*correct the topic's name"):
        await writer.write(outbox("no/topic", [b"a"]))


async def test_a_closed_writer_refuses(writer: Writer) -> None:
    await writer.close()
    with pytest.raises(SinkError, match="the sink is closed"):
        await writer.write(outbox("orders", [b"a"]))
