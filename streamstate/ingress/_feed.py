"""Feeds one subscription's records from its source into the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from streamstate.definitions import SubscriptionSpec
from streamstate.engine import Engine
from streamstate.errors import StreamstateError, SubscriptionStoppedError
from streamstate.ingress._ports import PartitionId, Records, Source, SourceStopped

_logger = logging.getLogger("streamstate.subscription")

CHUNK = 500  # records decided before the application's loop gets its turn; about 3 ms


class Feed:
    """One subscription at work.

    Attributes:
        error: why it stopped, or None while it runs.
    """

    def __init__(self, engine: Engine, subscription: SubscriptionSpec, source: Source) -> None:
        self._engine = engine
        self._source = source
        self.subscription = subscription
        self.error: SubscriptionStoppedError | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            SourceError: the cluster or a topic cannot be read; the message has the remedy.
        """
        name = self.subscription.name
        positions = {
            PartitionId(topic, topic_id, partition): offset
            for (owner, topic, topic_id, partition), offset in self._engine.store.positions().items()
            if owner == name
        }
        await self._source.open(positions)

    async def run(self) -> None:
        """Feed until cancelled, or until a record stops the subscription; other subscriptions go on."""
        intake = self._engine.intake(self.subscription)
        try:
            while True:
                match await self._source.poll():
                    case Records(records=records, topic_ids=topic_ids):
                        for start in range(0, len(records), CHUNK):
                            intake.take(records[start : start + CHUNK], topic_ids)
                            self._engine.pump()
                            await self._engine.capacity()
                            await asyncio.sleep(0)
                    case SourceStopped(message=message):
                        raise SubscriptionStoppedError(f"subscription {self.subscription.name} stopped: {message}")
        except SubscriptionStoppedError as error:
            self._stop(error)
        except StreamstateError:
            raise
        except Exception as error:  # noqa: BLE001  # a bug of a connector: seen like any other stop, not at the exit
            stopped = SubscriptionStoppedError(f"subscription {self.subscription.name} stopped: {error!r}")
            stopped.__cause__ = error
            self._stop(stopped)

    def _stop(self, error: SubscriptionStoppedError) -> None:
        self.error = error
        self._engine.pump()
        _logger.error("%s", error, exc_info=error.__cause__)

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        """These positions are durable (I10)."""
        self._source.report(positions)

    async def close(self) -> None:
        await self._source.close()
