"""Feeds: how records come in, when they stop coming in, and where they go on."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from streamstate import (
    App,
    Context,
    EngineOptions,
    ObjectContext,
    RetryPolicy,
    Running,
    Service,
    Start,
    StateKey,
    Topic,
    VirtualObject,
    subscribe,
)
from streamstate.definitions import SubscriptionSpec
from streamstate.engine import Sink
from streamstate.errors import DefinitionError, InvocationPausedError, SubscriptionStoppedError
from streamstate.ingress import PartitionId, Records, Source, SourceStopped
from streamstate.storage import Batch, MemoryStore, Store
from streamstate.testing import MemoryTopics

pytestmark = pytest.mark.timeout(20)

COUNT = StateKey[int]("count", default=0)
AHEAD_MAX = 1_000


class GatedStore(MemoryStore):
    """A disk that is as slow as the test wants it to be."""

    gate = threading.Event()

    def commit(self, batch: Batch) -> None:
        assert self.gate.wait(15), "the test never opened the gate"
        super().commit(batch)


@pytest.fixture
def store() -> Iterator[GatedStore]:
    GatedStore.gate.set()
    yield GatedStore()
    GatedStore.gate.set()


class CountingSource:
    """A source that hands over its records in small pieces and knows how many it gave."""

    def __init__(self, subscription: SubscriptionSpec, source: Source) -> None:
        self._source = source
        self._left: list[Records] = []
        self.given = 0

    async def open(self, positions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        return await self._source.open(positions)

    async def poll(self) -> Records | SourceStopped:
        if not self._left:
            polled = await self._source.poll()
            assert isinstance(polled, Records)
            records = polled.records
            self._left = [Records(records[at : at + 100], {}) for at in range(0, len(records), 100)]
        piece = self._left.pop(0)
        self.given += len(piece.records)
        return piece

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        self._source.report(positions)

    async def close(self) -> None:
        await self._source.close()


class EndingSource(CountingSource):
    """A source that ends after its first records, with whatever the test gives."""

    def __init__(self, subscription: SubscriptionSpec, source: Source, end: Exception | SourceStopped) -> None:
        super().__init__(subscription, source)
        self._end = end

    async def poll(self) -> Records | SourceStopped:
        if not self.given:
            return await super().poll()
        if isinstance(self._end, Exception):
            raise self._end
        return self._end


class OddTopics:
    """Topics in memory whose sources are replaced, by the name of the subscription."""

    def __init__(self, topics: MemoryTopics, ends: Mapping[str, Exception | SourceStopped]) -> None:
        self._topics = topics
        self._ends = ends
        self.name = topics.name
        self.sources: dict[str, CountingSource] = {}

    def source(self, subscription: SubscriptionSpec) -> Source:
        inner = self._topics.source(subscription)
        end = self._ends.get(subscription.name)
        made = CountingSource(subscription, inner) if end is None else EndingSource(subscription, inner, end)
        self.sources[subscription.name] = made
        return made

    def sink(self) -> Sink:
        return self._topics.sink()

    def redacted_options(self) -> Mapping[str, str]:
        return {}

    async def check(self, topics: Sequence[str]) -> list[str]:
        return []


@asynccontextmanager
async def running(
    definitions: Sequence[Service | VirtualObject], store: Store, *clusters: MemoryTopics | OddTopics
) -> AsyncIterator[Running]:
    app = App(definitions, name="tests", connectors=clusters)
    options = EngineOptions(writes_in_thread=isinstance(store, GatedStore))
    async with app.embedded(store, options=options) as run:
        try:
            yield run
        finally:
            GatedStore.gate.set()


async def until(condition: Callable[[], bool]) -> None:
    """Let the program go on until it is so."""
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


async def settled(run: Running, *clusters: MemoryTopics) -> None:
    """Wait until all records are taken in, nothing is runnable, and all messages are out."""
    while True:
        await run.engine.idle()
        if all(topics.is_drained(()) for topics in clusters) and run.engine.is_idle:
            return
        await asyncio.sleep(0)


def counter(name: str, topic: str | Topic[int], start: Start | None = None) -> VirtualObject:
    """An object that adds up the events of a topic."""
    counters = VirtualObject(name)

    @subscribe(topic, name=name.lower(), start=start, max_in_flight=100_000)
    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + by)

    return counters


def ahead(run: Running) -> int:
    """Records that are decided and not durable."""
    return sum(run.engine.core.commits.records_ahead.values())


def total(run: Running, name: str, keys: str = "k") -> int:
    return sum(int(run.engine.object_state(name, key).get("count", b"0")) for key in keys)


async def test_a_feed_stops_taking_while_the_disk_is_slow_and_loses_nothing(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamstate.engine._engine.RECORDS_AHEAD_MAX", AHEAD_MAX)
    topics = MemoryTopics()
    odd = OddTopics(topics, {})
    async with running([counter("Counter", "events")], store, odd) as run:
        await settled(run, topics)
        store.gate.clear()
        for number in range(5_000):
            topics.append("events", "abcd"[number % 4].encode(), b"1")
        source = odd.sources["counter"]
        await until(lambda: ahead(run) >= AHEAD_MAX)
        given = source.given
        assert AHEAD_MAX <= given < AHEAD_MAX + 100
        for _ in range(100):
            await asyncio.sleep(0)
        assert source.given == given
        assert not run.engine.is_idle
        store.gate.set()
        await until(lambda: source.given >= 5_000)
        await run.engine.durable()
        assert total(run, "Counter", "abcd") == 5_000
        assert ahead(run) == 0
        assert sum(store.positions().values()) == 5_000


async def test_a_slow_disk_does_not_keep_a_stopping_program_from_keeping_what_it_took(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamstate.engine._engine.RECORDS_AHEAD_MAX", AHEAD_MAX)
    topics = MemoryTopics()
    definition = counter("Counter", "events")
    async with running([definition], store, OddTopics(topics, {})) as run:
        await settled(run, topics)
        store.gate.clear()
        for _ in range(3_000):
            topics.append("events", b"k", b"1")
        await until(lambda: ahead(run) >= AHEAD_MAX)
        store.gate.set()
    again = store.reopen()
    kept = sum(again.positions().values())
    assert AHEAD_MAX <= kept <= 3_000
    assert again.state("Counter", "k") == {"count": str(kept).encode()}
    async with running([definition], again, topics) as run:
        await settled(run, MemoryTopics())
        await until(lambda: topics._sources[-1].is_drained)
        assert total(run, "Counter") == 3_000


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (ValueError("a bug of the connector"), "subscription first stopped: ValueError('a bug of the connector')"),
        (SourceStopped("the topic is gone; create it again"), "subscription first stopped: the topic is gone; create"),
    ],
    ids=["raises", "stops"],
)
async def test_a_source_that_ends_stops_its_subscription_by_name_and_the_others_go_on(
    end: Exception | SourceStopped, text: str
) -> None:
    topics = MemoryTopics()
    odd = OddTopics(topics, {"first": end})
    async with running([counter("First", "one"), counter("Second", "two")], MemoryStore(), odd) as run:
        stopped = asyncio.create_task(run.stopped())
        topics.append("one", b"k", b"1")
        with pytest.raises(SubscriptionStoppedError) as caught:
            await stopped
        assert str(caught.value).startswith(text)
        if isinstance(end, Exception):
            assert caught.value.__cause__ is end
        assert run.feeds["first"].error is caught.value
        assert run.feeds["second"].error is None
        topics.append("one", b"k", b"10")
        topics.append("two", b"k", b"5")
        await until(lambda: odd.sources["second"].given == 1)
        await settled(run)
        assert total(run, "First") == 1
        assert total(run, "Second") == 5
        with pytest.raises(SubscriptionStoppedError):
            await run.stopped()


async def test_what_a_stopped_subscription_missed_is_taken_after_a_restart() -> None:
    topics, store = MemoryTopics(), MemoryStore()
    definition = counter("First", "one")
    async with running([definition], store, OddTopics(topics, {"first": SourceStopped("gone")})) as run:
        topics.append("one", b"k", b"1")
        with pytest.raises(SubscriptionStoppedError, match="gone"):
            await run.stopped()
        topics.append("one", b"k", b"10")
    async with running([definition], store.reopen(), topics) as run:
        await settled(run, topics)
        assert total(run, "First") == 11


async def test_nobody_is_told_of_a_stop_while_all_subscriptions_run() -> None:
    topics = MemoryTopics()
    async with running([counter("First", "one")], MemoryStore(), topics) as run:
        stopped = asyncio.create_task(run.stopped())
        topics.append("one", b"k", b"1")
        await settled(run, topics)
        assert not stopped.done()
        stopped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopped


async def test_where_a_quiet_partition_began_is_kept_so_that_nothing_is_skipped_after_a_restart() -> None:
    topics, store = MemoryTopics(), MemoryStore()
    definition = counter("Counter", "events", Start.latest())
    for key in "abcdefgh":
        topics.append("events", key.encode(), b"100")
    async with running([definition], store, topics) as run:
        await settled(run, topics)
        topics.append("events", b"a", b"1")
        await settled(run, topics)
        assert total(run, "Counter", "abcdefgh") == 1
    for key in "abcdefgh":
        topics.append("events", key.encode(), b"10")
    store = store.reopen()
    async with running([definition], store, topics) as run:
        await settled(run, topics)
        assert total(run, "Counter", "abcdefgh") == 81


async def test_a_start_at_the_latest_is_kept_even_if_nothing_ever_came() -> None:
    topics, store = MemoryTopics(), MemoryStore()
    definition = counter("Counter", "events", Start.latest())
    topics.append("events", b"k", b"100")
    async with running([definition], store, topics):
        pass
    topics.append("events", b"k", b"1")
    async with running([definition], store.reopen(), topics) as run:
        await settled(run, topics)
        assert total(run, "Counter") == 1


async def test_subscriptions_read_their_own_cluster_and_messages_go_to_that_of_their_topic() -> None:
    near, far = MemoryTopics("near"), MemoryTopics("far")
    copies = VirtualObject("Copy")
    out_near, out_far = Topic[int]("copies", cluster="near"), Topic[int]("copies", cluster="far")

    @subscribe(Topic[int]("events", cluster="near"), name="from-near")
    @copies.handler
    async def to_far(ctx: ObjectContext, number: int) -> None:
        ctx.publish(out_far, number, key=ctx.key)

    @subscribe("events", cluster="far", name="from-far")
    @copies.handler
    async def to_near(ctx: ObjectContext, number: int) -> None:
        ctx.publish(out_near, number, key=ctx.key)

    store = MemoryStore()
    async with running([copies], store, near, far) as run:
        near.append("events", b"k", b"1")
        far.append("events", b"k", b"2")
        near.append("events", b"k", b"3")
        await settled(run, near, far)
        assert [record.value for record in near.records("copies")] == [b"2"]
        assert [record.value for record in far.records("copies")] == [b"1", b"3"]
    async with running([copies], store.reopen(), near, far) as run:
        far.append("events", b"k", b"4")
        await settled(run, near, far)
        assert [record.value for record in near.records("copies")] == [b"2", b"4"]
        assert [record.value for record in far.records("copies")] == [b"1", b"3"]


async def test_a_publish_without_a_cluster_pauses_when_there_are_two() -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))

    @shop.handler
    async def order(ctx: Context) -> None:
        ctx.publish("orders", 1)

    near, far = MemoryTopics("near"), MemoryTopics("far")
    async with running([shop], MemoryStore(), near, far) as run:
        with pytest.raises(InvocationPausedError, match=r"UsageError.*'orders'.*near.*far.*cluster="):
            await run.client.call(order)
        await settled(run)
        assert near.records("orders") == far.records("orders") == []


def test_a_subscription_without_a_cluster_is_refused_when_there_are_two() -> None:
    with pytest.raises(DefinitionError, match=r"subscription counter names no cluster.*'near', 'far'"):
        App([counter("Counter", "events")], name="tests", connectors=[MemoryTopics("near"), MemoryTopics("far")])
