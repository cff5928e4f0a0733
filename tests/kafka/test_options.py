from __future__ import annotations

import subprocess
import sys

import pytest
from confluent_kafka import KafkaError

from streamstate.errors import DefinitionError
from streamstate_kafka import Kafka
from streamstate_kafka._codes import LocalError
from streamstate_kafka._options import QUIET, REFUSED, Options
from tests.kafka.support import CLIENTS, subscription

SECRETS = {
    "sasl.username": "alice-of-shop",
    "sasl.password": "pa55word",
    "ssl.key.pem": "-----BEGIN KEY-----",
    "ssl.key.password": "key-pa55",
    "ssl.keystore.password": "store-pa55",
    "sasl.oauthbearer.client.secret": "client-s3cret",
    "sasl.jaas.config": "jaas-s3cret",
    "sasl.oauthbearer.config": "oauth-s3cret",
}


def test_redacted_options_show_a_placeholder_for_each_secret_and_the_rest_as_it_is() -> None:
    kafka = Kafka("broker:9093", options={"security.protocol": "SASL_SSL", "check.crcs": True, **SECRETS})
    shown = kafka.redacted_options()
    assert shown["bootstrap.servers"] == "broker:9093"
    assert shown["security.protocol"] == "SASL_SSL"
    assert shown["check.crcs"] == "true"
    assert shown["sasl.password"] == "${SASL_PASSWORD}"
    assert {shown[name] for name in SECRETS} == {"${" + name.upper().replace(".", "_") + "}" for name in SECRETS}


def test_no_repr_shows_a_secret() -> None:
    kafka = Kafka("broker:9093", options=SECRETS)
    shown = repr(kafka) + repr(Options.checked("broker:9093", SECRETS, "Kafka 'kafka'"))
    assert "${SASL_PASSWORD}" in shown
    assert not [secret for secret in SECRETS.values() if secret in shown]


def test_the_text_of_a_client_library_loses_our_secrets() -> None:
    options = Options.checked("broker:9093", SECRETS, "Kafka 'kafka'")
    assert options.scrub("login of alice-of-shop by pa55word failed") == (
        "login of ${SASL_USERNAME} by ${SASL_PASSWORD} failed"
    )


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_option_of_ours_is_refused_by_name_with_the_reason(name: str, client: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        Kafka("broker:9092", name="main", options={name: "x"}, client=client)
    assert "Kafka 'main'" in str(raised.value)
    assert repr(name) in str(raised.value)
    assert REFUSED[name] in str(raised.value)


def test_an_option_of_ours_is_refused_on_a_subscription_with_its_place() -> None:
    spec = subscription("orders", name="orders-in", options={"enable.auto.commit": "true"})
    with pytest.raises(DefinitionError, match=r"'orders-in' at shop.py:7: the option 'enable.auto.commit'"):
        Kafka("broker:9092").source(spec)


def test_a_value_that_is_no_plain_one_is_refused() -> None:
    with pytest.raises(DefinitionError, match="'on_commit' is of type function"):
        Kafka("broker:9092", options={"on_commit": lambda: None})  # type: ignore[dict-item]  # what is tested


def test_servers_must_be_given() -> None:
    with pytest.raises(DefinitionError, match="has no bootstrap servers"):
        Kafka("  ")


def test_each_kind_of_client_gets_only_the_options_that_it_knows() -> None:
    options = Options.checked("b:1", {"linger.ms": 1, "fetch.min.bytes": 1, "client.id": "x"}, "Kafka 'kafka'")
    common = {"bootstrap.servers", "client.id", *QUIET}
    assert set(options.for_consumer()) == common | {"fetch.min.bytes"}
    assert set(options.for_producer()) == common | {"linger.ms"}
    assert set(options.common()) == common


@pytest.mark.parametrize(
    ("client", "package", "text"),
    [
        ("confluent", "confluent_kafka", "Kafka needs confluent-kafka: pip install 'streamstate[kafka]'"),
        (
            "aiokafka",
            "aiokafka",
            "Kafka(..., client='aiokafka') needs aiokafka: pip install 'streamstate[aiokafka]'",
        ),
    ],
)
def test_a_client_library_that_is_not_there_is_named_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch, client: str, package: str, text: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DefinitionError) as raised:
        Kafka("broker:9092", client=client)
    assert str(raised.value) == text


def test_aiokafka_does_without_confluent_kafka() -> None:
    program = (
        "import sys; sys.modules['confluent_kafka'] = None\n"
        "import asyncio\n"
        "from streamstate_kafka import Kafka\n"
        "asyncio.run(Kafka('127.0.0.1:1', client='aiokafka').sink().close())\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_an_unknown_client_is_refused() -> None:
    with pytest.raises(DefinitionError, match="there is no client 'pykafka'; expected 'confluent' or 'aiokafka'"):
        Kafka("broker:9092", client="pykafka")


def test_the_client_is_shown() -> None:
    assert repr(Kafka("broker:9092", client="aiokafka")).endswith(", client='aiokafka')")


@pytest.mark.parametrize("code", LocalError)
def test_the_codes_are_those_of_the_client_library(code: LocalError) -> None:
    assert getattr(KafkaError, f"_{code.name}") == code
