"""The options of aiokafka: one configuration for both clients where that can be, refusals by name where it cannot."""

from __future__ import annotations

import inspect
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiokafka import AIOKafkaClient, AIOKafkaConsumer  # type: ignore[import-untyped]  # ships no types

from streamstate.errors import DefinitionError
from streamstate_kafka import Kafka
from streamstate_kafka._aiokafka_options import (
    CONNECTION,
    FETCHING,
    connection_settings,
    fetching_settings,
    tls_context,
    whole_number,
)
from streamstate_kafka._options import Options, OptionValue
from tests.kafka.support import CLIENTS, subscription

BOTH: dict[str, OptionValue] = {
    "client.id": "shop",
    "security.protocol": "sasl_ssl",
    "sasl.mechanisms": "SCRAM-SHA-512",
    "sasl.username": "alice",
    "sasl.password": "pa55word",
    "socket.timeout.ms": 9_000,
    "topic.metadata.refresh.interval.ms": 1_000,
    "connections.max.idle.ms": 8_000,
    "retry.backoff.ms": 50,
    "fetch.min.bytes": 2,
    "fetch.max.bytes": 3_000,
    "fetch.wait.max.ms": 4,
    "max.partition.fetch.bytes": 5_000,
    "isolation.level": "read_uncommitted",
    "client.rack": "a",
    "check.crcs": False,
}
CONNECTING: dict[str, OptionValue] = {
    "client_id": "shop",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_plain_username": "alice",
    "sasl_plain_password": "pa55word",
    "request_timeout_ms": 9_000,
    "metadata_max_age_ms": 1_000,
    "connections_max_idle_ms": 8_000,
    "retry_backoff_ms": 50,
}
READING: dict[str, OptionValue] = {
    "fetch_min_bytes": 2,
    "fetch_max_bytes": 3_000,
    "fetch_max_wait_ms": 4,
    "max_partition_fetch_bytes": 5_000,
    "isolation_level": "read_uncommitted",
    "client_rack": "a",
    "check_crcs": False,
}


def options(given: Mapping[str, OptionValue]) -> Options:
    return Kafka("broker:9093", options=given, client="aiokafka")._options


@pytest.mark.parametrize("client", CLIENTS)
def test_one_configuration_serves_both_clients(client: str) -> None:
    assert Kafka("broker:9093", options=BOTH, client=client).redacted_options()["sasl.password"] == "${SASL_PASSWORD}"


def test_what_librdkafka_calls_an_option_reaches_aiokafka() -> None:
    settings = connection_settings(options(BOTH), None)
    assert settings == {
        "bootstrap_servers": "broker:9093",
        "ssl_context": None,
        "security_protocol": "SASL_SSL",
        **CONNECTING,
    }
    assert fetching_settings(options(BOTH)) == {"auto_offset_reset": "none", "enable_auto_commit": False, **READING}


def test_what_aiokafka_calls_an_option_means_the_same() -> None:
    own: dict[str, OptionValue] = {**CONNECTING, **READING, "security_protocol": "SASL_SSL"}
    assert options(own) == options(BOTH)


def test_without_options_only_committed_records_are_read() -> None:
    assert fetching_settings(options({}))["isolation_level"] == "read_committed"


@pytest.mark.parametrize(
    ("table", "taker"), [(CONNECTION, AIOKafkaClient), (CONNECTION, AIOKafkaConsumer), (FETCHING, AIOKafkaConsumer)]
)
def test_aiokafka_takes_every_argument(table: Mapping[str, tuple[str, bool]], taker: type) -> None:
    taken = inspect.signature(taker).parameters
    assert [argument for argument, _ in table.values() if argument not in taken] == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("queued.min.messages", 100_000, "aiokafka reads ahead one fetch: see max.partition.fetch.bytes"),
        ("fetch.queue.backoff.ms", 5, "it paces librdkafka's queue"),
        ("linger.ms", 5, "what there is to send is sent at once"),
        ("linger_ms", 5, "what there is to send is sent at once"),
        ("sasl.oauthbearer.method", "oidc", "aiokafka fetches no tokens by itself; client='confluent' can do it"),
        ("ssl.key.pem", "-----BEGIN", "reads keys from files: ssl.key.location; client='confluent' can do it"),
        ("ssl.keystore.location", "store.p12", "ssl.certificate.location and ssl.key.location"),
        ("sasl.pasword", "pa55word", "it is not known; did you mean 'sasl.password'"),
        ("statistics.interval.ms", 1, "it is not known"),
    ],
)
def test_an_option_that_aiokafka_cannot_follow_is_refused_by_name(name: str, value: OptionValue, reason: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        options({name: value})
    assert "Kafka 'kafka': the option" in str(raised.value)
    assert "cannot be set with client='aiokafka'" in str(raised.value)
    assert reason in str(raised.value)
    assert "pa55word" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("sasl.mechanism", "OAUTHBEARER", "'SCRAM-SHA-512', 'GSSAPI'; client='confluent' can do it"),
        ("partitioner", "random", "aiokafka takes 'murmur2_random'; client='confluent' can do it"),
        ("security.protocol", "TLS", "'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT', 'SASL_SSL'"),
        ("fetch.min.bytes", "many", "expected a whole number"),
        ("check.crcs", "perhaps", "'true', 'false'"),
    ],
)
def test_a_value_that_aiokafka_does_not_take_is_refused(name: str, value: str, expected: str) -> None:
    with pytest.raises(DefinitionError, match=f"the option '{name}' is '{value}'") as raised:
        options({name: value})
    assert expected in str(raised.value)


def test_a_value_that_is_a_secret_is_not_shown_when_it_is_refused() -> None:
    with pytest.raises(DefinitionError) as raised:
        options({"sasl.password": "pa55word", "sasl_plain_password": "0ther"})
    assert "'sasl.password' and 'sasl_plain_password' are the same option" in str(raised.value)
    assert "pa55word" not in str(raised.value) and "0ther" not in str(raised.value)


def test_an_option_of_ours_is_refused_under_aiokafkas_name_too() -> None:
    for name in ("group_id", "enable_auto_commit", "auto_offset_reset", "enable_idempotence", "transactional_id"):
        with pytest.raises(DefinitionError, match=r"cannot be set: "):
            options({name: "x"})


def test_a_subscription_has_its_own_options() -> None:
    kafka = Kafka("broker:9092", client="aiokafka")
    with pytest.raises(DefinitionError, match=r"'orders-in' at shop.py:7: the option 'linger.ms' cannot be set with"):
        kafka.source(subscription("orders", name="orders-in", options={"linger.ms": "5"}))


def test_no_repr_shows_a_secret() -> None:
    kafka = Kafka(
        "broker:9093", options={"sasl_plain_username": "alice", "sasl_plain_password": "x"}, client="aiokafka"
    )
    assert "options={'sasl.username': '${SASL_USERNAME}', 'sasl.password': '${SASL_PASSWORD}'}" in repr(kafka)


def test_numbers_of_the_writer_have_defaults() -> None:
    assert whole_number(options({"max_batch_size": 7}), "batch.size", 9) == 7
    assert whole_number(options({}), "batch.size", 9) == 9


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=shop", "-days", "2"]
    protect = ["-passout", "pass:key-pa55"]
    subprocess.run([*command, "-keyout", key, "-out", certificate, *protect], check=True, capture_output=True)
    return certificate, key


def test_tls_is_verified_unless_that_is_switched_off(certificate: tuple[str, str]) -> None:
    authority, _ = certificate
    strict = tls_context(options({"ssl.ca.location": authority}))
    assert (strict.check_hostname, strict.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert len(strict.get_ca_certs()) == 1
    pem = tls_context(
        options({"ssl.ca.pem": Path(authority).read_text(), "ssl.endpoint.identification.algorithm": "none"})
    )
    assert (pem.check_hostname, pem.verify_mode) == (False, ssl.CERT_REQUIRED)
    assert len(pem.get_ca_certs()) == 1
    lax = tls_context(options({"enable.ssl.certificate.verification": False}))
    assert (lax.check_hostname, lax.verify_mode) == (False, ssl.CERT_NONE)


def test_a_clients_certificate_is_loaded_with_its_password_and_nobody_is_asked_for_one(
    certificate: tuple[str, str],
) -> None:
    given = {"ssl.certificate.location": certificate[0], "ssl.key.location": certificate[1]}
    tls_context(options({**given, "ssl.key.password": "key-pa55"}))
    with pytest.raises(ssl.SSLError):
        tls_context(options(given))
