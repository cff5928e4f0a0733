"""The ports that a connector to a cluster of topics fills in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from streamstate.definitions import Record, SubscriptionSpec
from streamstate.engine import Sink


class PartitionId(msgspec.Struct, frozen=True):
    """One partition of one incarnation of a topic; topic_id is empty where the client cannot show it."""

    topic: str
    topic_id: str
    partition: int


class Records(msgspec.Struct, frozen=True):
    """Consecutive records, in order per partition. topic_ids maps each topic seen here to its id."""

    records: Sequence[Record]
    topic_ids: Mapping[str, str]


class SourceStopped(msgspec.Struct, frozen=True):
    """The source cannot go on; the message says what, which, and the next step."""

    message: str


class TakenOver(SourceStopped, frozen=True):
    """Another process has taken the subscription over; this one must stop as a whole, timers and steps included."""


class Owner(msgspec.Struct, frozen=True):
    """Who reads: one start of one data directory.

    Attributes:
        epoch: grows with every start of the directory.
        takes_over: whether what another directory has read before may be read on.
    """

    directory_id: str
    epoch: int
    takes_over: bool = False


class Source(Protocol):
    """The records of one subscription, from where the store says.

    The source assigns itself all partitions of its topics, and new ones as they appear.
    """

    async def open(self, positions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """Start reading. A partition without a position starts where the subscription says.

        Returns where those begin, so that the caller keeps it: a partition that stays quiet until a restart would begin
        anew otherwise, and skip what arrived meanwhile.

        Raises SourceError with the remedy: cluster not reachable, topic not there.
        """
        ...

    async def poll(self) -> Records | SourceStopped:
        """The next records; waits until there are some. Bounded read-ahead: not polling is back-pressure."""
        ...

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        """Tell the consumer group the durable positions, for lag tools. Never blocks."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Owned(Protocol):
    """What a `Source` is, besides, if its cluster can show who reads: at most one data directory may."""

    def own(self, owner: Owner) -> None:
        """Say who reads, before `open`. From then on `open` raises SourceError if another directory reads the same, and
        `poll` gives TakenOver when one does later.
        """
        ...


class Connector(Protocol):
    """One cluster: makes sources and the sink. Building it does no I/O."""

    @property
    def name(self) -> str:
        """The cluster's name, as subscriptions and topics say it."""
        ...

    def source(self, subscription: SubscriptionSpec) -> Source: ...

    def sink(self) -> Sink: ...

    def redacted_options(self) -> Mapping[str, str]:
        """Client options to show; every secret's value is replaced by ${NAME}."""
        ...

    async def check(self, topics: Sequence[str]) -> list[str]:
        """What is wrong with the cluster, a sentence each: not reachable, topics not there."""
        ...
