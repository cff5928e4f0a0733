"""What each client says that it can do, and that it can; what it cannot is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]  # ships no types
from aiokafka.protocol.transaction import TxnOffsetCommitRequest  # type: ignore[import-untyped]  # ships no types

from streamstate.definitions import Start
from streamstate.errors import SourceError
from streamstate_kafka import Capability
from streamstate_kafka._client import ClientError
from streamstate_kafka.testing import MockCluster
from tests.brokers import Broker
from tests.kafka.support import Port, batch, opened, send, subscription, unique

ON_A_REAL_CLUSTER = {
    "confluent": frozenset(Capability),
    "aiokafka": frozenset({Capability.OFFSETS_FOR_TIMES}),
}
TOPIC_IDS_SINCE = 10  # versions of the protocol's requests
FENCED_OFFSETS_SINCE = 3


@pytest.fixture(scope="module")
def mock() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create_topics("orders")
        yield cluster


async def test_a_real_cluster_has_the_capabilities_of_the_client(port: Port) -> None:
    client = port.client()
    await client.topics()
    assert client.capabilities == ON_A_REAL_CLUSTER[port.kind]


async def test_topics_are_told_with_their_partitions_and_none_is_made(port: Port, kafka_broker: Broker) -> None:
    topic, client = unique("told"), port.client()
    kafka_broker.create_topic(topic, 3)
    assert (await client.topics())[topic] == 3
    missing = unique("missing")
    await client.topic_ids([missing])
    assert missing not in await client.topics()


async def test_topic_ids_are_shown_by_a_client_that_can_and_empty_by_another(port: Port, kafka_broker: Broker) -> None:
    topic, client = unique("identified"), port.client()
    kafka_broker.create_topic(topic, 1)
    await client.topics()
    first = (await client.topic_ids([topic]))[topic]
    kafka_broker.delete_topic(topic)
    kafka_broker.create_topic(topic, 1)
    second = (await client.topic_ids([topic]))[topic]
    if Capability.TOPIC_IDS in client.capabilities:
        assert first and second and first != second
    else:
        assert (first, second) == ("", "")


async def test_the_mock_cluster_has_no_capability_and_what_needs_one_is_refused_by_name(
    kind: str, mock: MockCluster
) -> None:
    port = Port(kind, mock.bootstrap_servers)
    client = port.client()
    assert (await client.topics())["orders"] == 4
    assert client.capabilities == frozenset()
    await port.close()
    spec = subscription("orders", start=Start.at(datetime(2026, 1, 1, tzinfo=UTC)))
    with pytest.raises(SourceError, match=r"Start.at\(...\) needs offsets for times, which this Kafka client"):
        async with opened(mock.bootstrap_servers, spec, client=kind):
            pass


def test_aiokafka_still_has_no_requests_for_what_is_not_among_its_capabilities() -> None:
    """Goes red with a version that learned them: then they belong among the capabilities."""
    assert max(each.API_VERSION for each in MetadataRequest._CLASSES) < TOPIC_IDS_SINCE
    assert max(each.API_VERSION for each in TxnOffsetCommitRequest._CLASSES) < FENCED_OFFSETS_SINCE


async def test_without_topic_ids_a_topic_made_anew_stops_the_source_by_name(kafka_broker: Broker) -> None:
    topic, servers = unique("anew"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, [b"old-0", b"old-1", b"old-2"])
    async with opened(servers, subscription(topic), client="aiokafka") as source:
        assert (await batch(source)).topic_ids == {topic: ""}
        kafka_broker.delete_topic(topic)
        kafka_broker.create_topic(topic, 1)
        send(servers, topic, [b"new-0"])
        stopped = await source.poll()
    assert "the log is shorter than what was read of it" in getattr(stopped, "message", repr(stopped))


@pytest.mark.usefixtures("impatient")
async def test_a_cluster_that_is_not_there_is_told_within_seconds(kind: str) -> None:
    port = Port(kind, "127.0.0.1:1")
    with pytest.raises(ClientError, match=r"no answer within 1 s \(.*127\.0\.0\.1.*\); check the address, that the b"):
        await port.client().topics()
    await port.close()
