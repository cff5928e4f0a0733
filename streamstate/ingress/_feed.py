"""Feeds one subscription's records from its source into the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from streamstate.definitions import SubscriptionSpec
from streamstate.engine import Engine, Intake
from streamstate.errors import SourceError, SubscriptionStoppedError
from streamstate.ingress._ports import Owned, Owner, PartitionId, Records, Source, SourceStopped, TakenOver

_logger = logging.getLogger("streamstate.subscription")

CHUNK = 500  # records decided before the application's loop gets its turn; about 3 ms


class Feed:
    """One subscription at work.

    Attributes:
        error: why it stopped, or None while it runs. stopped: set then.
    """

    def __init__(
        self, engine: Engine, subscription: SubscriptionSpec, source: Source, *, take_over: bool = False
    ) -> None:
        self._engine = engine
        self._source = source
        self._take_over = take_over
        self.subscription = subscription
        self.error: SubscriptionStoppedError | None = None
        self.stopped = asyncio.Event()
        self._intake: Intake

    async def open(self) -> None:
        """Connect.

        Raises:
            SourceError: the cluster or a topic cannot be read, or another data directory reads it; the message has the
                remedy.
        """
        if isinstance(self._source, Owned):
            header = self._engine.store.header
            self._source.own(Owner(header.directory_id, header.epoch, self._take_over))
        name = self.subscription.name
        positions = {
            PartitionId(topic, topic_id, partition): offset
            for (owner, topic, topic_id, partition), offset in self._engine.store.positions().items()
            if owner == name
        }
        self._intake = self._engine.intake(self.subscription)
        started = await self._source.open(positions)
        # Durable with the next commit, at the latest when the engine stops.
        self._intake.begin({(each.topic, each.topic_id, each.partition): offset for each, offset in started.items()})

    async def run(self) -> None:
        """Feed until cancelled, or until a record stops the subscription; other subscriptions go on.

        Where another process has taken over, the engine stops as a whole: it would do the same work a second time.
        """
        intake = self._intake
        size = min(CHUNK, self.subscription.max_in_flight)
        try:
            while True:
                match await self._poll():
                    case Records(records=records, topic_ids=topic_ids):
                        for start in range(0, len(records), size):
                            # Room may have gone while the source waited for them.
                            await self._engine.capacity(self.subscription)
                            intake.take(records[start : start + size], topic_ids)
                            self._engine.pump()
                            await self._engine.capacity(self.subscription)
                            await asyncio.sleep(0)
                    case TakenOver(message=message):
                        raise SourceError(message)
                    case SourceStopped(message=message):
                        raise SubscriptionStoppedError(f"subscription {self.subscription.name} stopped: {message}")
        except SubscriptionStoppedError as error:
            self.error = error
            self.stopped.set()
            self._engine.pump()
            _logger.error("%s", error, exc_info=error.__cause__)
        except Exception as error:  # noqa: BLE001  # or it is of the engine: what is in memory cannot be trusted any more
            self._engine.fail(error)

    async def _poll(self) -> Records | SourceStopped:
        try:
            return await self._source.poll()
        except Exception as error:
            # A bug of a connector is seen like any other stop, not at the exit; the other subscriptions go on.
            raise SubscriptionStoppedError(f"subscription {self.subscription.name} stopped: {error!r}") from error

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        """These positions are durable (I10)."""
        self._source.report(positions)

    async def close(self) -> None:
        await self._source.close()
