"""The parts of aiokafka that are used here, and the types of them, since aiokafka ships none.

Of its classes for users only the client and the consumer are taken. `AIOKafkaProducer` goes on sending behind a batch
that failed, tries a topic that was deleted for ever, and cannot be stopped while the cluster is away; so the writer
sends its batches itself, through the client.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from aiokafka import AIOKafkaClient, AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # ships no types
from aiokafka.codec import has_gzip, has_lz4, has_snappy, has_zstd  # type: ignore[import-untyped]  # ships no types
from aiokafka.conn import AIOKafkaConnection  # type: ignore[import-untyped]  # ships no types
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # ships no types

from streamstate_kafka._client import Partition

CODECS = {
    "none": (0, None),
    "gzip": (1, has_gzip),
    "snappy": (2, has_snappy),
    "lz4": (3, has_lz4),
    "zstd": (4, has_zstd),
}


has_gssapi = importlib.util.find_spec("gssapi") is not None

# Of a client's arguments those that a connection takes too.
SINGLE = frozenset(
    {"client_id", "request_timeout_ms", "ssl_context", "security_protocol", "sasl_mechanism", "sasl_plain_username"}
    | {"sasl_plain_password", "sasl_kerberos_service_name"}
)

Response: TypeAlias = Any  # of aiokafka's own making, with the attributes of the request's answer


class Broker(NamedTuple):
    """One broker of the cluster's metadata."""

    nodeId: int | str  # noqa: N815 - aiokafka's name
    host: str
    port: int
    rack: str | None


class Cluster(Protocol):
    """What is known of the cluster."""

    def brokers(self) -> set[Broker]: ...
    def update_metadata(self, metadata: object) -> None: ...


class Client(Protocol):
    """An `AIOKafkaClient`: connections to the brokers of one cluster."""

    cluster: Cluster

    async def bootstrap(self) -> None: ...
    async def send(self, node_id: int | str, request: object) -> Response: ...
    async def coordinator_lookup(self, kind: int, key: str) -> int: ...
    async def close(self) -> None: ...


class SingleConnection(Protocol):
    """An `AIOKafkaConnection`: to one broker."""

    async def connect(self) -> object: ...
    def close(self) -> asyncio.Future[None] | None: ...


class Message(Protocol):
    """A `ConsumerRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class OffsetAt(NamedTuple):
    """An `OffsetAndTimestamp`."""

    offset: int
    timestamp: int | None


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]  # its base has no types
    """An `AIOKafkaConsumer` that asks for no topic by name, tells when it has died, and always ends."""

    def give(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions, from these offsets, and no others."""
        self.assign([TopicPartition(*partition) for partition in positions])
        # All topics: a broker that creates topics would make a deleted one anew, just by being asked for its name.
        self._client.set_topics(())
        self.rewind(positions)

    def rewind(self, positions: Mapping[Partition, int]) -> None:
        for partition, offset in positions.items():
            self.seek(TopicPartition(*partition), offset)

    @property
    def has_died(self) -> bool:
        """Its fetching has ended although nobody closed it; it would give nothing any more, in silence."""
        return bool(self._fetcher is not None and self._fetcher.error_future.done() and not self._closed)

    async def stop(self) -> None:
        try:
            await super().stop()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # A fetch that sleeps before its next attempt lets its own cancellation out.
        except KafkaError:
            pass  # what its fetching died of, and has told then
        finally:
            await self._client.close()  # again does no harm; and it was left out if we are here by an error


def consumer(settings: Mapping[str, object]) -> Consumer:
    return Consumer(**settings)


def client(settings: Mapping[str, object]) -> Client:
    made: Client = AIOKafkaClient(**settings)
    return made


def single_connection(host: str, port: int, settings: Mapping[str, object]) -> SingleConnection:
    taken = {name: settings[name] for name in SINGLE if name in settings}
    made: SingleConnection = AIOKafkaConnection(host, port, **taken)
    return made


def partitions(given: Collection[Partition]) -> list[Any]:
    """The same as `TopicPartition`s."""
    return [TopicPartition(*partition) for partition in given]


def by_topic(given: Sequence[tuple[Partition, tuple[Any, ...]]]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """Partitions and what goes with them, as requests want them."""
    topics: dict[str, list[tuple[Any, ...]]] = {}
    for (topic, number), rest in given:
        topics.setdefault(topic, []).append((number, *rest))
    return list(topics.items())
