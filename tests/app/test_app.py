"""The App: what it refuses when it is made, and the order in which its parts start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamstate import App, EngineOptions, ObjectContext, StateKey, VirtualObject, subscribe
from streamstate.definitions import SubscriptionSpec
from streamstate.engine import Sink
from streamstate.errors import DefinitionError, SourceError, StorageInUseError, SubscriptionStoppedError, UsageError
from streamstate.ingress import PartitionId, Source
from streamstate.storage import Batch, MemoryStore
from streamstate.testing import MemoryTopics

COUNT = StateKey[int]("count", default=0)


def counter(cluster: str | None = None, name: str = "Counter") -> VirtualObject:
    counters = VirtualObject(name)

    @subscribe("events", name=name.lower(), cluster=cluster)
    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + by)

    return counters


class Noted(MemoryStore):
    """A store that notes when it is closed, and fails to commit when it is told to."""

    notes: list[str]
    is_full = False

    def commit(self, batch: Batch) -> None:
        if self.is_full:
            raise OSError("no space left on device")
        super().commit(batch)

    def close(self) -> None:
        self.notes.append("the store is closed")
        super().close()


class NotedSource:
    """A source that notes when it is opened and closed."""

    def __init__(self, source: Source, notes: list[str], refusal: Exception | None) -> None:
        self._source = source
        self._notes = notes
        self._refusal = refusal

    async def open(self, positions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        self._notes.append("a source is opened")
        if self._refusal is not None:
            raise self._refusal
        return await self._source.open(positions)

    async def poll(self) -> Any:
        return await self._source.poll()

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        self._notes.append(f"reported {sum(positions.values())}")
        self._source.report(positions)

    async def close(self) -> None:
        self._notes.append("a source is closed")
        await self._source.close()


class NotedTopics:
    """Topics in memory with such sources."""

    def __init__(self, notes: list[str], name: str = "main", refusal: Exception | None = None) -> None:
        self.topics = MemoryTopics(name)
        self.name = name
        self._notes = notes
        self._refusal = refusal

    def source(self, subscription: SubscriptionSpec) -> Source:
        return NotedSource(self.topics.source(subscription), self._notes, self._refusal)

    def sink(self) -> Sink:
        return self.topics.sink()

    def redacted_options(self) -> Mapping[str, str]:
        return {}

    async def check(self, topics: Sequence[str]) -> list[str]:
        return []


def noted_store(notes: list[str]) -> Noted:
    store = Noted()
    store.notes = notes
    return store


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


INLINE = EngineOptions(writes_in_thread=False)


def test_two_connectors_of_one_name_are_refused() -> None:
    with pytest.raises(DefinitionError, match="App 'shop' has two connectors named 'main'"):
        App([], name="shop", connectors=[MemoryTopics("main"), MemoryTopics("main")])


@pytest.mark.parametrize(
    ("cluster", "clusters", "text"),
    [
        ("far", ["near"], "subscription counter is on cluster 'far'; App 'shop' has: 'near'"),
        (None, ["near", "far"], "subscription counter names no cluster; App 'shop' has: 'near', 'far'"),
    ],
)
def test_a_subscription_whose_cluster_is_not_clear_is_refused_with_its_line(
    cluster: str | None, clusters: list[str], text: str
) -> None:
    with pytest.raises(DefinitionError, match=text) as caught:
        App([counter(cluster)], name="shop", connectors=[MemoryTopics(name) for name in clusters])
    assert "tests/app/test_app.py:" in str(caught.value)


async def test_a_subscription_without_any_connector_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    app = App([counter()], name="shop")
    with pytest.raises(DefinitionError, match="App 'shop' has: none"):
        async with app.embedded(tmp_path / "data"):
            raise AssertionError("not reached")
    assert not (tmp_path / "data").exists()


def test_the_connector_of_a_subscription_is_the_one_it_names_or_the_only_one() -> None:
    near, far = MemoryTopics("near"), MemoryTopics("far")
    app = App([counter("far")], name="shop", connectors=[near, far])
    assert app.connector_of(app.program.subscriptions[0]) is far
    app = App([counter()], name="shop", connectors=[near])
    assert app.connector_of(app.program.subscriptions[0]) is near


async def test_parts_start_and_stop_in_the_order_that_keeps_what_was_taken() -> None:
    notes: list[str] = []
    topics = NotedTopics(notes)

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        notes.append(f"{app.name} begins")
        yield
        notes.append(f"{app.name} ends")

    app = App([counter()], name="shop", connectors=[topics], lifespan=lifespan)
    async with app.embedded(noted_store(notes), options=INLINE) as running:
        topics.topics.append("events", b"k", b"2")
        await until(lambda: running.engine.object_state("Counter", "k") == {"count": b"2"})
        await until(lambda: "reported 1" in notes)
        notes.append("it ran")
    reported = [note for note in notes if note.startswith("reported")]
    assert reported[-1] == "reported 1"
    assert [note for note in notes if note not in reported] == [
        "shop begins",
        "a source is opened",
        "it ran",
        "a source is closed",
        "shop ends",
        "the store is closed",
    ]


async def test_a_source_that_cannot_be_opened_leaves_nothing_open() -> None:
    notes: list[str] = []
    app = App([counter()], name="shop", connectors=[NotedTopics(notes, refusal=SourceError("no such topic"))])
    with pytest.raises(SourceError, match="no such topic"):
        async with app.embedded(noted_store(notes), options=INLINE):
            raise AssertionError("not reached")
    assert notes == ["a source is opened", "a source is closed", "the store is closed"]


async def test_connectors_of_a_run_go_before_those_of_the_app() -> None:
    notes: list[str] = []
    app = App([counter()], name="shop", connectors=[NotedTopics(notes, refusal=SourceError("not this one"))])
    async with app.embedded(noted_store(notes), options=INLINE, connectors=[NotedTopics(notes)]) as running:
        assert set(running.feeds) == {"counter"}


async def test_a_second_run_on_a_directory_is_refused_before_the_lifespan(tmp_path: Path) -> None:
    """S4: the user's clients are not opened for a run that cannot be."""
    begun: list[str] = []

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        begun.append(app.name)
        yield

    app = App([counter()], name="shop", connectors=[MemoryTopics()], lifespan=lifespan)
    async with app.embedded(tmp_path / "data"):
        with pytest.raises(StorageInUseError):
            async with app.embedded(tmp_path / "data"):
                raise AssertionError("not reached")
    assert begun == ["shop"]


async def test_whoever_waits_is_told_of_a_subscription_that_stopped_while_the_others_go_on() -> None:
    topics = MemoryTopics()
    app = App([counter(name="One"), counter(name="Two")], name="shop", connectors=[topics])
    async with app.embedded(MemoryStore(), options=INLINE) as running:
        stopped = asyncio.create_task(running.stopped())
        topics.append("events", b"k", b"1")
        await until(lambda: running.engine.object_state("Two", "k") == {"count": b"1"})
        assert not stopped.done()
        topics.append("events", b"k", b"?")
        with pytest.raises(SubscriptionStoppedError):
            await stopped


async def test_nobody_is_told_of_a_stop_where_there_is_no_subscription() -> None:
    async with App([], name="shop").embedded(MemoryStore(), options=INLINE) as running:
        stopped = asyncio.create_task(running.stopped())
        await running.engine.idle()
        await asyncio.sleep(0)
        assert not stopped.done()
        stopped.cancel()
        await asyncio.gather(stopped, return_exceptions=True)


async def test_whoever_waits_for_a_failure_gets_it_and_everything_is_closed() -> None:
    notes: list[str] = []
    topics = NotedTopics(notes)
    app, store = App([counter()], name="shop", connectors=[topics]), noted_store(notes)
    async with app.embedded(store, options=INLINE) as running:
        await running.engine.idle()
        store.is_full = True
        topics.topics.append("events", b"k", b"1")
        with pytest.raises(Exception, match="no space left on device"):
            await running.failed()
    assert notes[-2:] == ["a source is closed", "the store is closed"]
    assert "reported 1" not in notes, "I10"


async def test_data_in_a_directory_can_be_backed_up_while_it_runs_and_data_in_memory_cannot(tmp_path: Path) -> None:
    app = App([counter()], name="shop", connectors=[MemoryTopics()])
    async with app.embedded(tmp_path / "data") as running:
        await running.backup(tmp_path / "backup")
        assert (tmp_path / "backup").exists()
    async with app.embedded(MemoryStore(), options=INLINE) as running:
        with pytest.raises(UsageError, match="only a data directory can be backed up"):
            await running.backup(tmp_path / "other")
