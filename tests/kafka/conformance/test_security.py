"""TLS and SASL by one configuration for every client, transactions of others, and secrets that nobody sees."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from streamstate_kafka._client import ClientError, GroupOffset
from tests.kafka.conformance.secured import PLAIN_PASSWORD, SCRAM, SCRAM_PASSWORD, Secured, secured_broker
from tests.kafka.support import Port, outbox, read_port, unique, values_of


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_broker(tmp_path_factory.mktemp("certificates")) as broker:
        yield broker


def create_topic(secured: Secured, name: str) -> str:
    admin = secured.admin()
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    return name


@pytest.mark.parametrize(("mechanism", "password"), [("PLAIN", PLAIN_PASSWORD), (SCRAM, SCRAM_PASSWORD)])
async def test_one_configuration_lets_every_client_in_and_no_secret_is_logged(
    kind: str, secured: Secured, mechanism: str, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    options, topic = secured.options(mechanism, password), create_topic(secured, unique("secured"))
    port = Port(kind, secured.bootstrap_servers)
    await port.writer(options).write(outbox(topic, [b"a", b"b"]))
    reader = port.reader(options)
    await reader.assign({(topic, 0): 0})
    assert values_of(await read_port(reader, 2)) == [b"a", b"b"]
    await reader.report({(topic, 0): GroupOffset(2, "told")})
    assert await reader.reported([(topic, 0)]) == {(topic, 0): GroupOffset(2, "told")}
    assert topic in await port.client(options).topics()
    await port.close()
    assert password not in caplog.text


@pytest.mark.usefixtures("impatient")
async def test_a_wrong_password_is_told_and_not_shown(
    kind: str, secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    port = Port(kind, secured.bootstrap_servers)
    with pytest.raises(ClientError, match=r"(?i)authentication") as raised:
        await port.client(secured.options("PLAIN", "wr0ng-pa55word")).topics()
    await port.close()
    assert "wr0ng-pa55word" not in str(raised.value) + caplog.text


@pytest.mark.usefixtures("impatient")
async def test_a_certificate_that_nobody_vouches_for_is_refused(kind: str, secured: Secured) -> None:
    options = secured.options("PLAIN", PLAIN_PASSWORD)
    del options["ssl.ca.location"]
    port = Port(kind, secured.bootstrap_servers)
    with pytest.raises(ClientError, match=r"(?i)certificate"):
        await port.client(options).topics()
    await port.close()


async def test_only_what_is_committed_is_read(kind: str, secured: Secured) -> None:
    options, topic = secured.options("PLAIN", PLAIN_PASSWORD), create_topic(secured, unique("committed"))
    names = {"bootstrap.servers": secured.bootstrap_servers, "transactional.id": unique("transaction")}
    producer = Producer({**options, **names})
    producer.init_transactions(30)
    for value, is_kept in ((b"aborted", False), (b"kept", True), (b"aborted too", False), (b"kept too", True)):
        producer.begin_transaction()
        producer.produce(topic, value, b"k", 0)
        assert producer.flush(10) == 0  # otherwise what is aborted never reaches the log
        if is_kept:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    producer.begin_transaction()
    producer.produce(topic, b"open", b"k", 0)
    assert producer.flush(10) == 0
    port = Port(kind, secured.bootstrap_servers)
    reader = port.reader(options)
    await reader.assign({(topic, 0): 0})
    assert values_of(await read_port(reader, 2)) == [b"kept", b"kept too"]
    assert (await reader.read()).records == []
    await asyncio.to_thread(producer.commit_transaction, 30)
    assert values_of(await read_port(reader, 1)) == [b"open"]
    await port.close()
