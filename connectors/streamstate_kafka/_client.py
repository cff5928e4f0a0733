"""The port to a Kafka client library: what the source and the sink need of one, and no more.

C1: a reader never joins its group; it reads what it is told to. The group's offsets are there for others to see, and
their metadata for those who would read the same.
C2: `Reader.read` loses nothing when it is cancelled: the next call goes on with the record after the last one returned.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from streamstate.definitions import Record, Start
from streamstate.errors import StreamstateError
from streamstate.storage import OutboxMessage

Partition: TypeAlias = tuple[str, int]  # topic, number


class Capability(enum.Enum):
    """What a client, together with the cluster it is connected to, is able to do."""

    TOPIC_IDS = "topic ids"
    OFFSETS_FOR_TIMES = "offsets for times"
    TRANSACTIONS = "transactions"
    KIP_447 = "fencing by group metadata (KIP-447)"
    ADMIN = "topic administration"


class FaultKind(enum.Enum):
    """Whether a fault passes by itself, needs another position, or ends the reader."""

    TRANSIENT = "transient"
    OUT_OF_RANGE = "out of range"
    FATAL = "fatal"


class Fault(msgspec.Struct, frozen=True):
    """Something that is wrong with reading; partition is None where it is the whole cluster."""

    kind: FaultKind
    text: str
    partition: Partition | None = None
    offset: int = -1


class Fetched(msgspec.Struct, frozen=True):
    """What one read gave: records in order per partition, and faults met on the way."""

    records: list[Record]
    faults: list[Fault]


class GroupOffset(msgspec.Struct, frozen=True):
    """What a consumer group says of one partition."""

    offset: int
    metadata: str = ""


class ClientError(Exception):
    """The client could not do what was asked; the text says why and holds no secret."""


class Group(Protocol):
    """The offsets of one consumer group."""

    async def reported(self, partitions: Sequence[Partition]) -> dict[Partition, GroupOffset]:
        """The group's offsets now, without partitions that have none; within a bounded time. Raises ClientError."""
        ...

    async def report(self, offsets: Mapping[Partition, GroupOffset]) -> None:
        """Commit offsets to the group; returns, within a bounded time, when they are there. Raises ClientError."""
        ...


class Reader(Group, Protocol):
    """Reads the partitions it is given, on behalf of its group."""

    async def starts(self, partitions: Sequence[Partition], start: Start) -> dict[Partition, int]:
        """The offset at which each partition starts. Raises ClientError."""
        ...

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset there is, and the one after the last. Raises ClientError."""
        ...

    async def position(self, partition: Partition) -> int:
        """The offset after the last record that `read` gave of it, -1 if it gave none. Raises ClientError."""
        ...

    async def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions too, from these offsets. Raises ClientError."""
        ...

    async def unassign(self, partitions: Sequence[Partition]) -> None:
        """Stop reading these partitions. Raises ClientError."""
        ...

    async def read(self) -> Fetched:
        """What is there now; waits a moment if that is nothing, and may return nothing."""
        ...

    async def close(self) -> None: ...


class Writer(Protocol):
    """Sends messages, idempotently and in order per key."""

    async def write(self, messages: Sequence[OutboxMessage]) -> None:
        """Send all and wait for every acknowledgement, however long the cluster is away. Raises SinkError."""
        ...

    async def close(self) -> None:
        """Stop; what a running `write` has not sent by then fails."""
        ...


class KafkaClient(Protocol):
    """One cluster, seen through one client library."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What can be done here; known for certain once `topics` has answered."""
        ...

    async def topics(self) -> Mapping[str, int]:
        """Every topic of the cluster and its number of partitions; creates none. Raises ClientError."""
        ...

    async def topic_ids(self, topics: Sequence[str]) -> Mapping[str, str]:
        """The id of each topic that is there; empty where the cluster shows none. Raises ClientError."""
        ...

    def reader(self, group: str, options: Mapping[str, str]) -> Reader: ...

    def writer(self) -> Writer: ...

    async def close(self) -> None: ...


def require(client: KafkaClient, capability: Capability, what: str, error: type[StreamstateError]) -> None:
    """Raise `error` by name if the client lacks what `what` needs."""
    if capability not in client.capabilities:
        raise error(f"{what} needs {capability.value}, which this Kafka client or cluster cannot do")
