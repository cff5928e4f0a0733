from __future__ import annotations

import re
from datetime import UTC, datetime

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from streamstate.definitions import Start
from streamstate.ingress import PartitionId
from tests.brokers import Broker
from tests.kafka.support import (
    PROMPT,
    batch,
    opened,
    read,
    read_until_stopped,
    send,
    subscription,
    unique,
    until,
    values_of,
)


async def test_reading_goes_on_at_the_positions_given(kafka_broker: Broker) -> None:
    topic, servers = unique("positions"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 2)
    for partition in (0, 1):
        send(servers, topic, [b"%d-%d" % (partition, n) for n in range(5)], partition=partition)
    async with opened(servers, subscription(topic)) as source:
        topic_id = (await batch(source)).topic_ids[topic]
    assert topic_id
    positions = {PartitionId(topic, topic_id, 0): 3, PartitionId(topic, topic_id, 1): 5}
    async with opened(servers, subscription(topic), positions) as source:
        send(servers, topic, [b"1-5"], partition=1)
        assert sorted(values_of(await read(source, 3)), key=str) == [b"0-3", b"0-4", b"1-5"]


async def test_a_position_whose_topic_id_was_never_shown_counts_for_the_topic(kafka_broker: Broker) -> None:
    topic, servers = unique("idless"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, [b"0", b"1"])
    async with opened(servers, subscription(topic), {PartitionId(topic, "", 0): 1}) as source:
        assert values_of(await read(source, 1)) == [b"1"]


async def test_latest_starts_behind_what_is_there(kafka_broker: Broker) -> None:
    topic, servers = unique("latest"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, [b"old"])
    async with opened(servers, subscription(topic, start=Start.latest())) as source:
        send(servers, topic, [b"new"])
        assert values_of(await read(source, 1)) == [b"new"]


async def test_at_starts_with_the_first_record_of_that_moment(kafka_broker: Broker) -> None:
    topic, servers = unique("moment"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 2)
    noon = datetime(2026, 11, 1, 12, tzinfo=UTC)
    noon_ms = int(noon.timestamp() * 1000)
    send(servers, topic, [b"before"], at_ms=noon_ms - 1)
    send(servers, topic, [b"then"], at_ms=noon_ms)
    send(servers, topic, [b"only before"], partition=1, at_ms=noon_ms - 1)
    async with opened(servers, subscription(topic, start=Start.at(noon))) as source:
        (record,) = await read(source, 1)
        assert (record.value, record.timestamp_ms) == (b"then", noon_ms)
        send(servers, topic, [b"after"], partition=1, at_ms=noon_ms + 1)
        assert values_of(await read(source, 1)) == [b"after"]


async def test_headers_tombstones_empty_values_and_null_keys_arrive_as_they_are(kafka_broker: Broker) -> None:
    topic, servers = unique("shapes"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    producer = Producer({"bootstrap.servers": servers})
    producer.produce(topic, b"v", b"k", headers=[("a", b"1"), ("a", b"2"), ("none", None), ("empty", b"")])
    producer.produce(topic, None, b"k")
    producer.produce(topic, b"", b"")
    producer.produce(topic, b"v", None)
    assert producer.flush(10) == 0
    async with opened(servers, subscription(topic)) as source:
        full, tombstone, empty, keyless = await read(source, 4)
    assert full.headers == (("a", b"1"), ("a", b"2"), ("none", None), ("empty", b""))
    assert (tombstone.key, tombstone.value, tombstone.headers) == (b"k", None, ())
    assert (empty.key, empty.value) == (b"", b"")
    assert (keyless.key, keyless.value) == (None, b"v")
    assert [full.offset, tombstone.offset, empty.offset, keyless.offset] == [0, 1, 2, 3]
    assert full.topic == topic and full.timestamp_ms > 0


async def test_a_partition_that_is_added_is_read_from_its_beginning(kafka_broker: Broker) -> None:
    topic, servers = unique("grows"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    async with opened(servers, subscription(topic, start=Start.latest(), options=PROMPT)) as source:
        admin = kafka_broker.admin()
        admin.create_partitions([NewPartitions(topic, 2)])[topic].result(30)
        await until(lambda: len(admin.list_topics(timeout=5).topics[topic].partitions) == 2)
        send(servers, topic, [b"first"], partition=1)
        assert values_of(await read(source, 1)) == [b"first"]


async def test_a_pattern_takes_matching_topics_now_and_later(kafka_broker: Broker) -> None:
    prefix, servers = unique("regional"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(f"{prefix}.eu", 1)
    kafka_broker.create_topic(f"{prefix}.eu.dlq", 1)
    send(servers, f"{prefix}.eu", [b"eu"])
    send(servers, f"{prefix}.eu.dlq", [b"dlq"])
    pattern = re.compile(re.escape(prefix) + r"\.[a-z]+")
    async with opened(servers, subscription(pattern, options=PROMPT)) as source:
        assert values_of(await read(source, 1)) == [b"eu"]
        kafka_broker.create_topic(f"{prefix}.us", 1)
        send(servers, f"{prefix}.us", [b"us"])
        assert values_of(await read(source, 1)) == [b"us"]


async def test_a_pattern_that_matches_nothing_yet_waits_for_a_topic(kafka_broker: Broker) -> None:
    topic, servers = unique("awaited"), kafka_broker.bootstrap_servers
    async with opened(servers, subscription(re.compile(topic), options=PROMPT)) as source:
        kafka_broker.create_topic(topic, 1)
        send(servers, topic, [b"here"])
        assert values_of(await read(source, 1)) == [b"here"]


async def test_a_topic_made_anew_is_read_from_its_beginning_under_its_new_id(kafka_broker: Broker) -> None:
    topic, servers = unique("anew"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, [b"old-0", b"old-1", b"old-2"])
    async with opened(servers, subscription(topic, options=PROMPT)) as source:
        first = await batch(source)
        assert values_of(first.records) == [b"old-0", b"old-1", b"old-2"]
        kafka_broker.delete_topic(topic)
        kafka_broker.create_topic(topic, 1)
        send(servers, topic, [b"new-0", b"new-1"])
        second = await batch(source)
        assert values_of(second.records)[0] == b"new-0"
        assert second.topic_ids[topic] not in ("", first.topic_ids[topic])


async def test_a_position_in_a_topic_that_is_gone_does_not_count_for_its_successor(kafka_broker: Broker) -> None:
    topic, servers = unique("successor"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, [b"old-0", b"old-1"])
    async with opened(servers, subscription(topic)) as source:
        old_id = (await batch(source)).topic_ids[topic]
    kafka_broker.delete_topic(topic)
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, [b"new-0", b"new-1"])
    async with opened(servers, subscription(topic), {PartitionId(topic, old_id, 0): 1}) as source:
        assert values_of(await read(source, 2)) == [b"new-0", b"new-1"]


async def test_a_position_that_was_deleted_stops_the_source_with_the_choices(kafka_broker: Broker) -> None:
    topic, servers = unique("truncated"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, [b"%d" % n for n in range(10)])
    async with opened(servers, subscription(topic)) as source:
        topic_id = (await batch(source)).topic_ids[topic]
    _truncate(kafka_broker.admin(), topic, 7)
    async with opened(servers, subscription(topic, name="late"), {PartitionId(topic, topic_id, 0): 2}) as source:
        records, stopped = await read_until_stopped(source)
        assert await source.poll() == stopped
    assert records == []
    assert f"subscription 'late' at shop.py:7: position 2 of topic '{topic}' partition 0" in stopped.message
    assert "offsets 7 to 10: the 5 records from 2 were deleted before they were read" in stopped.message
    assert f"streamstate offsets seek late --topic {topic} --partition 0 --to 7" in stopped.message


async def test_a_position_behind_the_end_stops_the_source(kafka_broker: Broker) -> None:
    topic, servers = unique("short"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, [b"0"])
    async with opened(servers, subscription(topic), {PartitionId(topic, "", 0): 100}) as source:
        _, stopped = await read_until_stopped(source)
    assert "the log is shorter than what was read of it" in stopped.message


async def test_what_is_not_polled_is_not_read_ahead_without_bound(kafka_broker: Broker) -> None:
    topic, servers = unique("pressure"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    total = 400
    send(servers, topic, [b"x" * 100_000] * total)
    small = {"queued.max.messages.kbytes": "1024", "max.partition.fetch.bytes": "500000"}
    async with opened(servers, subscription(topic, options=small)) as source:
        begun = len((await batch(source)).records)
        _truncate(kafka_broker.admin(), topic, total)  # what is not in the read-ahead now will never come
        records, _ = await read_until_stopped(source)
    assert begun + len(records) < total / 4


async def test_reported_positions_are_the_offsets_of_the_consumer_group(kafka_broker: Broker) -> None:
    topic, servers = unique("reported"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 2)
    send(servers, topic, [b"a", b"b"])
    spec = subscription(topic)
    async with opened(servers, spec) as source:
        topic_id = (await batch(source)).topic_ids[topic]
        source.report({PartitionId(topic, topic_id, 0): 1, PartitionId(topic, "another", 1): 9})
        await until(lambda: kafka_broker.group_offsets(spec.name) == {(topic, 0): 1})
        source.report({PartitionId(topic, topic_id, 0): 2})
    assert kafka_broker.group_offsets(spec.name) == {(topic, 0): 2}


def _truncate(admin: AdminClient, topic: str, offset: int) -> None:
    for result in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        result.result(30)
