from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator

import pytest

from streamstate.errors import SinkError, SourceError
from streamstate.ingress import Connector, Source, SourceStopped
from streamstate_kafka import Kafka
from streamstate_kafka.testing import MockCluster
from tests.kafka.support import PROMPT, batch, opened, outbox, read, send, subscription, take, unique, values_of

FAIL_S_MAX = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        yield cluster


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_kafka_is_a_connector() -> None:
    connector: Connector = Kafka("broker:9092", name="main")
    assert connector.name == "main"


async def test_check_finds_nothing_wrong_where_the_topics_are(cluster: MockCluster) -> None:
    cluster.create_topics("orders", "payments")
    assert await Kafka(cluster.bootstrap_servers).check(["orders", "payments"]) == []


async def test_check_names_a_missing_topic_its_nearest_names_and_how_to_create_it(cluster: MockCluster) -> None:
    cluster.create_topics("driver-updates")
    (wrong,) = await Kafka(cluster.bootstrap_servers, name="main").check(["driver-updates", "driver-update"])
    assert "topic 'driver-update' is not on Kafka 'main'" in wrong
    assert "did you mean 'driver-updates'?" in wrong
    assert f"kafka-topics.sh --bootstrap-server {cluster.bootstrap_servers} --create --topic driver-update" in wrong


async def test_check_names_the_address_where_nothing_answers(nobody: str) -> None:
    async with asyncio.timeout(FAIL_S_MAX):
        (wrong,) = await Kafka(nobody).check(["orders"])
    assert nobody in wrong
    assert "no answer within 5 s" in wrong


async def test_a_source_without_a_cluster_fails_to_open_by_name_and_soon(nobody: str) -> None:
    with pytest.raises(SourceError, match=re.escape(nobody)):
        async with asyncio.timeout(FAIL_S_MAX), opened(nobody, subscription("orders")):
            pass


async def test_a_sink_without_a_cluster_fails_to_open_by_name_and_soon(nobody: str) -> None:
    sink = Kafka(nobody).sink()
    async with asyncio.timeout(FAIL_S_MAX):
        with pytest.raises(SinkError, match=re.escape(nobody)):
            await sink.open()
        await sink.close()


async def test_a_source_of_a_topic_that_is_not_there_fails_with_the_remedy(cluster: MockCluster) -> None:
    cluster.create_topics("invoices")
    with pytest.raises(SourceError) as raised:
        async with opened(cluster.bootstrap_servers, subscription("invoice", name="billing")):
            pass
    assert "subscription 'billing' at shop.py:7: topic 'invoice' is not on Kafka 'kafka'" in str(raised.value)
    assert "did you mean 'invoices'?" in str(raised.value)


async def test_an_option_that_the_client_does_not_know_is_named_without_showing_secrets(cluster: MockCluster) -> None:
    options = {"sasl.pasword": "pa55word"}
    cluster.create_topics("orders")
    with pytest.raises(SourceError, match=r"sasl\.pasword") as raised:
        async with opened(cluster.bootstrap_servers, subscription("orders", options=options)):
            pass
    assert "pa55word" not in str(raised.value)


async def test_the_mock_cluster_carries_records_from_a_sink_to_a_source(cluster: MockCluster) -> None:
    topic = unique("trips")
    cluster.create_topics(topic)
    sink = Kafka(cluster.bootstrap_servers).sink()
    await sink.open()
    await sink.publish(outbox(topic, [b"one", b"", None]))
    await sink.close()
    async with opened(cluster.bootstrap_servers, subscription(topic)) as source:
        records = await read(source, 3)
    assert values_of(records) == [b"one", b"", None]
    assert records[0].headers == (("source", b"test"), ("streamstate-message-id", b"id-0"))
    assert values_of(take(cluster.bootstrap_servers, topic, 3)) == [b"one", b"", None]


@pytest.mark.parametrize("turns", range(6))
async def test_a_poll_that_is_cancelled_at_any_point_loses_no_record(cluster: MockCluster, turns: int) -> None:
    topic, values = unique("cancelled"), [b"%d" % n for n in range(2_400)]
    cluster.create_topics(topic)
    got: list[bytes | None] = []
    async with opened(cluster.bootstrap_servers, subscription(topic, options=PROMPT)) as source, asyncio.timeout(30):
        for begin in (0, 1_200):
            await _cancelled_after(turns, source)
            send(cluster.bootstrap_servers, topic, values[begin : begin + 1_200])
        while len(got) < len(values):
            got += await _cancelled_after(turns, source)
            if len(got) < len(values):
                got += values_of((await batch(source)).records)
    assert got == values


async def _cancelled_after(turns: int, source: Source) -> list[bytes | None]:
    """What a poll gave that was cancelled after so many turns of the event loop, if it was faster than that."""
    polling = asyncio.ensure_future(batch(source))
    for _ in range(turns):
        await asyncio.sleep(0)
    polling.cancel()
    await asyncio.wait([polling])
    return [] if polling.cancelled() else values_of(polling.result().records)


async def test_closing_ends_a_poll_that_waits(cluster: MockCluster) -> None:
    cluster.create_topics("quiet")
    async with opened(cluster.bootstrap_servers, subscription("quiet", name="idle")) as source:
        polling = asyncio.ensure_future(source.poll())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await source.close()
        assert await polling == SourceStopped("subscription 'idle' at shop.py:7: the source is closed")


async def test_where_there_are_no_topic_ids_records_come_with_an_empty_one(cluster: MockCluster) -> None:
    topic = unique("nameless")
    cluster.create_topics(topic)
    send(cluster.bootstrap_servers, topic, [b"a"])
    async with opened(cluster.bootstrap_servers, subscription(topic)) as source:
        assert (await batch(source)).topic_ids == {topic: ""}
