"""Where aiokafka has traps of its own: what was taken when a fetch fails, lost acknowledgements, its log, its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiokafka.codec  # type: ignore[import-untyped]  # ships no types
import pytest
from aiokafka import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection  # type: ignore[import-untyped]  # ships no types
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords  # type: ignore[import-untyped]  # ships no types
from aiokafka.errors import (  # type: ignore[import-untyped]  # ships no types
    CorruptRecordException,
    KafkaConnectionError,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
)

from streamstate.errors import SinkError
from streamstate_kafka import Fault, FaultKind
from streamstate_kafka._aiokafka_connection import Connection
from tests.brokers import Broker
from tests.kafka.support import Port, by_partition, first_fault, outbox, read_port, send, take, unique, values_of

Ask = Callable[[Connection, int, object], Awaitable[Any]]


@pytest.fixture(params=["aiokafka"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Ask], None]:
    """Put something between the writer and its broker."""

    def put(ask: Ask) -> None:
        monkeypatch.setattr(Connection, "ask_broker", ask)

    return put


async def test_a_lost_acknowledgement_makes_no_message_twice(
    port: Port, kafka_broker: Broker, asked: Callable[[Ask], None]
) -> None:
    topic, servers, count = unique("unacknowledged"), kafka_broker.bootstrap_servers, 3_000
    kafka_broker.create_topic(topic, 2)
    ask_broker, answers = Connection.ask_broker, 0

    async def lose_every_third_answer(connection: Connection, node: int, request: object) -> Any:
        nonlocal answers
        answer = await ask_broker(connection, node, request)
        if type(request).__name__ == "ProduceRequest":
            answers += 1
            if answers % 3:
                raise KafkaConnectionError("the answer was lost")
        return answer

    asked(lose_every_third_answer)
    writer = port.writer({"batch.size": 20_000})
    await writer.write(outbox(topic, [b"%d" % n for n in range(count)], key=lambda n: b"%d" % (n % 2)))
    assert answers >= 6
    written = by_partition(take(servers, topic, count, 2))
    await writer.write(outbox(topic, [b"end"] * 2, key=lambda n: b"%d" % n))
    assert len(take(servers, topic, count + 2, 2)) == count + 2
    for values in written.values():
        numbers = [int(value or b"") for value in values]
        assert numbers == sorted(set(numbers))


async def test_nothing_overtakes_a_batch_that_is_refused(
    port: Port, kafka_broker: Broker, asked: Callable[[Ask], None]
) -> None:
    topic, servers = unique("refused"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    ask_broker, requests = Connection.ask_broker, 0

    async def refuse_the_second(connection: Connection, node: int, request: object) -> Any:
        nonlocal requests
        if type(request).__name__ == "ProduceRequest":
            requests += 1
            if requests == 2:
                raise OutOfOrderSequenceNumber
        return await ask_broker(connection, node, request)

    asked(refuse_the_second)
    writer, messages = port.writer({"batch.size": 1_000}), outbox(topic, [b"%d" % n for n in range(100)])
    with pytest.raises(SinkError, match="OutOfOrderSequenceNumber; it is sent again from here") as raised:
        await writer.write(messages)
    assert requests == 2
    assert 0 < raised.value.acknowledged < 50
    await writer.write(messages[raised.value.acknowledged :])
    assert values_of(take(servers, topic, 100, 1)) == [b"%d" % n for n in range(100)]


async def test_records_that_were_taken_before_another_partition_failed_are_read_again(
    port: Port, kafka_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, servers, count = unique("taken"), kafka_broker.bootstrap_servers, 600
    kafka_broker.create_topic(topic, 4)
    for partition in range(4):
        send(servers, topic, [b"%d" % n for n in range(count)], partition=partition)
    iterate, is_armed, failures = PartitionRecords.__next__, False, 0

    def fail_behind_another(records: PartitionRecords) -> object:
        nonlocal is_armed, failures
        if is_armed and failures < 3 and records.next_fetch_offset == 300:
            is_armed, failures = False, failures + 1
            raise CorruptRecordException("Invalid CRC")
        is_armed = is_armed or records.next_fetch_offset == count
        return iterate(records)

    monkeypatch.setattr(PartitionRecords, "__next__", fail_behind_another)
    reader = port.reader()
    await reader.assign({(topic, partition): 0 for partition in range(4)})
    records = await read_port(reader, 4 * count)
    assert failures > 0
    expected = [b"%d" % n for n in range(count)]
    assert by_partition(records) == {(topic, partition): expected for partition in range(4)}


async def test_a_reader_asks_for_no_topic_by_name_so_that_none_is_made_by_asking(
    port: Port, kafka_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = unique("unnamed")
    kafka_broker.create_topic(topic, 1)
    send(kafka_broker.bootstrap_servers, topic, [b"0"])
    asked: list[set[str]] = []
    update = AIOKafkaClient._metadata_update

    async def noted(client: AIOKafkaClient, cluster: object, topics: set[str]) -> object:
        asked.append(set(topics))
        return await update(client, cluster, topics)

    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", noted)
    reader = port.reader({"topic.metadata.refresh.interval.ms": 50})
    await reader.assign({(topic, 0): 0})
    await read_port(reader, 1)
    async with asyncio.timeout(30):
        while len(asked) < 4:
            await reader.read()
    assert asked == [set()] * len(asked)


async def test_a_consumer_whose_fetching_has_died_is_replaced(
    port: Port, kafka_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, servers = unique("died"), kafka_broker.bootstrap_servers
    kafka_broker.create_topic(topic, 1)
    send(servers, topic, [b"0", b"1"])
    reader = port.reader()
    await reader.assign({(topic, 0): 0})
    assert values_of(await read_port(reader, 2)) == [b"0", b"1"]
    with monkeypatch.context() as patched:
        patched.setattr(Fetcher, "_get_actions_per_node", None)
        async with asyncio.timeout(30):
            while reader._consumer is not None:  # type: ignore[attr-defined]  # of aiokafka's reader
                assert (await reader.read()).records == []
    send(servers, topic, [b"2"])
    assert values_of(await read_port(reader, 1)) == [b"2"]


async def test_a_codec_that_is_not_installed_ends_reading_with_the_way_to_install_it(
    port: Port, kafka_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = unique("zstd")
    kafka_broker.create_topic(topic, 1)
    other = Port("confluent", kafka_broker.bootstrap_servers)
    await other.writer({"compression.type": "zstd"}).write(outbox(topic, [b"x" * 1_000] * 10))
    await other.close()
    monkeypatch.setattr(aiokafka.codec, "cramjam", None, raising=False)  # installed or not
    reader = port.reader()
    await reader.assign({(topic, 0): 0})
    records, fault = await first_fault(reader)
    assert (records, fault.kind) == ([], FaultKind.FATAL)
    assert "pip install 'aiokafka[lz4,snappy,zstd]'" in fault.text


async def test_what_aiokafka_logs_for_us_is_told_once_and_what_it_logs_for_others_stays(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = Port("aiokafka", "127.0.0.1:1")
    caplog.set_level(logging.DEBUG)
    attempts = 0

    async def counted(connection: AIOKafkaConnection) -> object:
        nonlocal attempts
        attempts += 1
        return await connect(connection)

    connect = AIOKafkaConnection.connect
    monkeypatch.setattr(AIOKafkaConnection, "connect", counted)
    writing = asyncio.ensure_future(port.writer().write(outbox("orders", [b"a"])))
    async with asyncio.timeout(30):
        while attempts < 5:  # noqa: ASYNC110 - what is waited for is in another's hands
            await asyncio.sleep(0.01)
    logging.getLogger("aiokafka").error("not ours")
    await port.close()
    with pytest.raises(SinkError):
        await writing
    assert [line.message for line in caplog.records if line.name.startswith("aiokafka")] == ["not ours"]
    (complaint,) = (line.message for line in caplog.records if line.name == "streamstate.kafka")
    assert "publishing to 127.0.0.1:1: no broker answers: 127.0.0.1:1: " in complaint


async def test_no_task_and_no_connection_is_left_behind(port: Port, kafka_broker: Broker) -> None:
    topic = unique("clean")
    kafka_broker.create_topic(topic, 1)
    before = asyncio.all_tasks()
    for _ in range(3):
        reader, writer = port.reader(), port.writer()
        await writer.write(outbox(topic, [b"a"]))
        await reader.assign({(topic, 0): 0})
        reading = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        await reader.close()
        await writer.close()
    await port.close()
    async with asyncio.timeout(10):
        while asyncio.all_tasks() != before:  # noqa: ASYNC110 - tasks end without telling us
            await asyncio.sleep(0)


async def test_a_fault_that_passes_is_told_with_what_can_be_done(port: Port) -> None:
    (fault,) = port.reader()._faults(TopicAuthorizationFailedError("orders"))  # type: ignore[attr-defined]  # of this one
    assert fault == Fault(FaultKind.TRANSIENT, fault.text)
    assert "grant READ on the topic to this user" in fault.text
