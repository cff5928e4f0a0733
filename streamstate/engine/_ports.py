"""The engine's ports to the world outside: topics to publish to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from streamstate.storage import OutboxMessage


class Sink(Protocol):
    """Publishes to the topics of one cluster, in order per key."""

    async def open(self) -> None:
        """Connect. Raises SinkError with the remedy if the cluster cannot be used."""
        ...

    async def publish(self, messages: Sequence[OutboxMessage]) -> None:
        """Publish all, in order; return when every one is acknowledged.

        Raises SinkError with the number acknowledged from the start; the caller sends the rest again.
        """
        ...

    async def close(self) -> None: ...
