"""A Kafka cluster inside the process, for tests and demonstrations."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from streamstate.errors import DefinitionError

START_S_MAX = 10.0
PARTITIONS = 4  # what the mock cluster gives every topic


class MockCluster:
    """librdkafka's mock cluster: up in milliseconds, reachable on loopback, gone with the `with` block.

    It takes and gives records, headers, tombstones, idempotent producers and committed offsets. It cannot show: topics
    created with a number of partitions (every topic has four), deleted topics, topic ids, `Start.at(...)`, retention or
    compaction (it keeps the last 5 MiB or 100,000 records of a partition), and transactions (aborted records are seen).
    Use a real broker for those.

    Attributes:
        bootstrap_servers: what to give to `Kafka(...)`.

    Example:
        >>> with MockCluster() as cluster:
        ...     cluster.create_topics("orders")
        ...     kafka = Kafka(cluster.bootstrap_servers)
    """

    def __init__(self, brokers: int = 1) -> None:
        self._brokers = brokers
        self.bootstrap_servers = ""

    def __enter__(self) -> Self:
        try:
            from confluent_kafka import Producer
        except ImportError:
            raise DefinitionError("MockCluster needs confluent-kafka: pip install 'streamstate[kafka]'") from None
        # The cluster lives in this producer, and ends with it.
        self._producer = Producer({"test.mock.num.brokers": self._brokers, "bootstrap.servers": "mock", "log_level": 0})
        found = self._producer.list_topics(timeout=START_S_MAX).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in found)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._producer

    def create_topics(self, *names: str) -> None:
        """Create topics, of four partitions each; nothing happens to those that are there."""
        for name in names:
            self._producer.list_topics(name, timeout=START_S_MAX)  # the mock makes what it is asked about
