from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.brokers import Broker, BrokerUnavailableError, start_broker


@pytest.fixture(scope="session")
def own_broker() -> Iterator[Broker]:
    """A broker that may be killed, since the shared one may be at work for others; tests leave it running."""
    try:
        broker = start_broker()
    except BrokerUnavailableError as error:
        pytest.skip(str(error))
    if not broker.can_restart:
        pytest.skip("the broker that KAFKA_BOOTSTRAP names is not ours to kill")
    yield broker
    broker.close()
