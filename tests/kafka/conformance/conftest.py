from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.brokers import Broker
from tests.kafka.support import CLIENTS, Port


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    """The client library that the test is about."""
    return str(request.param)


@pytest.fixture
async def port(kind: str, kafka_broker: Broker) -> AsyncIterator[Port]:
    """One cluster through that client; what it made is closed afterwards."""
    port = Port(kind, kafka_broker.bootstrap_servers)
    yield port
    await port.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that give up sooner."""
    for module in ("_confluent", "_aiokafka_connection"):
        monkeypatch.setattr(f"streamstate_kafka.{module}.ANSWER_S_MAX", 1.0)
