"""The App: the one place that knows all parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

from streamstate.definitions import Program, Service, SubscriptionSpec, VirtualObject, Workflow, freeze
from streamstate.engine import Engine, EngineOptions, LocalClient
from streamstate.errors import DefinitionError, UsageError
from streamstate.ingress import Connector, Feed, PartitionId
from streamstate.storage import BackupFacts, PositionId, SqliteStore, Store

Lifespan = Callable[["App"], AbstractAsyncContextManager[Any]]

DATA_DEFAULT = Path(".streamstate")


class Running:
    """An App that runs.

    Attributes:
        client: calls its handlers in this process.
        engine: the embedded engine. feeds: its subscriptions at work, by name.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.client = LocalClient(engine)
        self.feeds: dict[str, Feed] = {}

    def committed(self, positions: dict[PositionId, int]) -> None:
        """These source positions are durable: tell the consumer groups."""
        by_feed: dict[str, dict[PartitionId, int]] = {}
        for (subscription, topic, topic_id, partition), offset in positions.items():
            by_feed.setdefault(subscription, {})[PartitionId(topic, topic_id, partition)] = offset
        for name, reported in by_feed.items():
            feed = self.feeds.get(name)
            if feed is not None:
                feed.report(reported)

    async def stopped(self) -> NoReturn:
        """Wait for a subscription to stop; raises its SubscriptionStoppedError. The others go on meanwhile."""
        waits = [asyncio.create_task(feed.stopped.wait()) for feed in self.feeds.values()]
        try:
            if not waits:
                await asyncio.Event().wait()
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        raise next(feed.error for feed in self.feeds.values() if feed.error is not None)

    async def backup(self, destination: Path) -> BackupFacts:
        """Write a backup of the data directory into a new file, while everything goes on; see `streamstate backup`.

        Raises:
            UsageError: the data is not in a directory.
            StorageError: the destination is there already, or cannot be written.
        """
        store = self.engine.store
        if not isinstance(store, SqliteStore):
            raise UsageError("only a data directory can be backed up; this App keeps its data in memory")
        return await asyncio.to_thread(store.backup, destination)

    async def failed(self) -> NoReturn:
        """Wait for the engine to fail; raises what it failed with."""
        await self.engine.failed()


class App:
    """A program: definitions, and the clusters that its events come from.

    Args:
        definitions: services, virtual objects and workflows; what is not here does not exist.
        name: the identity of the program's subscriptions; never change it while data is kept.
        connectors: one per cluster; each has a name of its own.
        lifespan: an async context manager around the run, for clients that steps share.

    Raises:
        DefinitionError: a mistake in the definitions, or a subscription whose cluster is not there.
    """

    def __init__(
        self,
        definitions: Sequence[Service | VirtualObject | Workflow],
        *,
        name: str,
        connectors: Sequence[Connector] = (),
        lifespan: Lifespan | None = None,
    ) -> None:
        self.name = name
        self.program: Program = freeze(name, definitions)
        self.connectors: dict[str, Connector] = {}
        for connector in connectors:
            if connector.name in self.connectors:
                raise DefinitionError(
                    f"App {name!r} has two connectors named {connector.name!r}; give one of them another name"
                )
            self.connectors[connector.name] = connector
        self.lifespan = lifespan
        for subscription in self.program.subscriptions:
            if self.connectors:
                self.connector_of(subscription)

    def connector_of(self, subscription: SubscriptionSpec) -> Connector:
        """The cluster that a subscription reads.

        Raises:
            DefinitionError: it is not there, or there are several and the subscription does not say which.
        """
        return self._cluster_of(subscription, self.connectors)

    def _cluster_of(self, subscription: SubscriptionSpec, clusters: Mapping[str, Connector]) -> Connector:
        if subscription.cluster is None and len(clusters) == 1:
            return next(iter(clusters.values()))
        if subscription.cluster is not None and subscription.cluster in clusters:
            return clusters[subscription.cluster]
        there = ", ".join(repr(name) for name in clusters) or "none"
        wanted = "names no cluster" if subscription.cluster is None else f"is on cluster {subscription.cluster!r}"
        raise DefinitionError(
            f"subscription {subscription.name} {wanted}; App {self.name!r} has: {there}. Pass "
            f"App(…, connectors=[Kafka(…)]) or @subscribe(…, cluster=…) — at {subscription.site}"
        )

    @asynccontextmanager
    async def embedded(
        self,
        data: Path | Store = DATA_DEFAULT,
        *,
        options: EngineOptions | None = None,
        connectors: Sequence[Connector] | None = None,
        take_over: bool = False,
    ) -> AsyncIterator[Running]:
        """Run on the embedded engine, in this process.

        Args:
            data: the data directory; made if it is not there. Or an open store.
            options: of the engine.
            connectors: used instead of the App's own.
            take_over: read on subscriptions that another data directory has read, or a newer copy of this one, which
                is refused otherwise. Positions are always those of this directory. A process that still runs on the
                other one stops, by name, at its next report of offsets; until then both handle records.

        Raises:
            StorageError: the data directory cannot be used.
            SourceError: a cluster or a topic of a subscription cannot be read, or another data directory reads it.
        """
        async with AsyncExitStack() as stack:
            clusters = self.connectors if connectors is None else {each.name: each for each in connectors}
            for subscription in self.program.subscriptions:
                self._cluster_of(subscription, clusters)
            # The lock first: a second process is refused before it opens the user's clients.
            store = SqliteStore.open(data, self.name) if isinstance(data, Path) else data
            stack.callback(store.close)
            if self.lifespan is not None:
                await stack.enter_async_context(self.lifespan(self))
            engine = Engine(
                self.program,
                store,
                options=options or EngineOptions(),
                sinks={name: connector.sink() for name, connector in clusters.items()},
                committed=lambda positions: running.committed(positions),
            )
            running = Running(engine)
            # On the way out: feeds stop, the engine drains, the last positions are reported, sources close.
            for subscription in self.program.subscriptions:
                connector = self._cluster_of(subscription, clusters)
                source = connector.source(subscription)
                feed = running.feeds[subscription.name] = Feed(engine, subscription, source, take_over=take_over)
                stack.push_async_callback(feed.close)
            await engine.start()
            stack.push_async_callback(engine.stop)
            await asyncio.gather(*(feed.open() for feed in running.feeds.values()))
            tasks = [
                asyncio.create_task(feed.run(), name=f"streamstate {name}") for name, feed in running.feeds.items()
            ]
            stack.push_async_callback(_cancelled, tasks)
            yield running


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
