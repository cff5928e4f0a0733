"""A feed: where it begins, what it hands over, when it stops, and what it reports (I10)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from streamstate import EngineOptions, ObjectContext, Record, StateKey, VirtualObject, subscribe
from streamstate.definitions import freeze
from streamstate.engine import Engine
from streamstate.errors import SourceError, SubscriptionStoppedError
from streamstate.ingress import Feed, PartitionId, Records, SourceStopped
from streamstate.storage import MemoryStore, PositionId

COUNT = StateKey[int]("count", default=0)
counters = VirtualObject("Counter")
Given = Records | SourceStopped | Exception


@subscribe("events", name="events", max_in_flight=3)
@counters.handler
async def add(ctx: ObjectContext, by: int) -> None:
    ctx.set(COUNT, await ctx.get(COUNT) + by)


class Scripted:
    """A source that gives what it is told to give, and remembers what it was asked."""

    def __init__(self, *given: Given, started: Mapping[PartitionId, int] | Exception = {}) -> None:  # noqa: B006  # read only
        self.given = list(given)
        self.started = started
        self.opened: dict[PartitionId, int] | None = None
        self.reported: dict[PartitionId, int] = {}
        self.is_closed = False
        self.is_dry = asyncio.Event()

    async def open(self, positions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        self.opened = dict(positions)
        if isinstance(self.started, Exception):
            raise self.started
        return self.started

    async def poll(self) -> Records | SourceStopped:
        if not self.given:
            self.is_dry.set()
            await asyncio.Event().wait()
        given = self.given.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        self.reported.update(positions)

    async def close(self) -> None:
        self.is_closed = True


def records(*values: bytes, first: int = 0, partition: int = 0) -> Records:
    made = [Record("events", partition, first + number, 0, b"k", value) for number, value in enumerate(values)]
    return Records(made, {"events": "id"})


def position(partition: int = 0) -> PositionId:
    return ("events", "events", "id", partition)


@asynccontextmanager
async def fed(store: MemoryStore, source: Scripted) -> AsyncIterator[tuple[Engine, Feed]]:
    """A feed on an engine of its own, opened and running."""
    program = freeze("tests", [counters])

    def committed(positions: dict[PositionId, int]) -> None:
        feed.report(
            {PartitionId(topic, topic_id, number): at for (_, topic, topic_id, number), at in positions.items()}
        )

    options = EngineOptions(writes_in_thread=False)
    engine = Engine(program, store, options=options, sinks={}, committed=committed)
    feed = Feed(engine, program.subscriptions[0], source)
    await engine.start()
    try:
        await feed.open()
        task = asyncio.create_task(feed.run())
        yield engine, feed
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        await feed.close()
        await engine.stop()
    assert source.is_closed


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


async def test_records_are_decided_and_their_positions_reported_when_durable() -> None:
    store, source = MemoryStore(), Scripted(records(b"1", b"2"), records(b"3", first=2), records(b"4", partition=1))
    async with fed(store, source):
        await source.is_dry.wait()
        assert store.state("Counter", "k") == {"count": b"10"}
        assert store.positions() == {position(): 3, position(1): 1}
    assert source.reported == {PartitionId("events", "id", 0): 3, PartitionId("events", "id", 1): 1}
    assert source.opened == {}


async def test_a_feed_goes_on_where_the_store_says_and_skips_what_comes_again() -> None:
    store = MemoryStore()
    async with fed(store, source := Scripted(records(b"1", b"2"))):
        await source.is_dry.wait()
    store = store.reopen()
    async with fed(store, source := Scripted(records(b"1", b"2", b"4"))):
        await source.is_dry.wait()
        assert source.opened == {PartitionId("events", "id", 0): 2}
        assert store.state("Counter", "k") == {"count": b"7"}


async def test_where_a_partition_begins_is_kept_though_nothing_came() -> None:
    store, source = MemoryStore(), Scripted(started={PartitionId("events", "id", 0): 40})
    async with fed(store, source):
        await source.is_dry.wait()
        await until(lambda: store.positions() == {position(): 40})


async def test_more_records_than_may_be_in_flight_are_taken_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamstate.ingress._feed.CHUNK", 1_000)
    sizes: list[int] = []
    store = MemoryStore()
    async with fed(store, source := Scripted(records(*[b"1"] * 10))) as (_, feed):
        take = feed._intake.take

        def counted(some: list[Record], topic_ids: Mapping[str, str]) -> None:
            sizes.append(len(some))
            take(some, topic_ids)

        monkeypatch.setattr(feed._intake, "take", counted)
        await source.is_dry.wait()
        assert sizes == [3, 3, 3, 1]
        assert store.state("Counter", "k") == {"count": b"10"}


async def test_a_record_that_stops_the_subscription_is_told_and_those_before_it_are_durable() -> None:
    store = MemoryStore()
    async with fed(store, source := Scripted(records(b"1", b"?", b"3"))) as (_, feed):
        await asyncio.wait_for(feed.stopped.wait(), 10)
        assert isinstance(feed.error, SubscriptionStoppedError)
        assert "offset 1" in str(feed.error)
        assert store.positions() == {position(): 1}
        assert store.state("Counter", "k") == {"count": b"1"}
        assert not source.is_dry.is_set(), "it asks for no more"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (SourceStopped("the topic is gone"), "subscription events stopped: the topic is gone"),
        (ValueError("a bug"), "subscription events stopped: ValueError('a bug')"),
    ],
)
async def test_a_source_that_ends_stops_its_subscription_and_not_the_engine(given: Given, text: str) -> None:
    async with fed(MemoryStore(), Scripted(given)) as (engine, feed):
        await asyncio.wait_for(feed.stopped.wait(), 10)
        assert str(feed.error) == text
        assert engine.is_idle


async def test_an_error_of_the_engine_stops_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory cannot be trusted any more, so nothing of it may be committed."""

    def broken(*_: object) -> None:
        raise AssertionError("a bug of the engine")

    with pytest.raises(AssertionError, match="a bug of the engine"):
        async with fed(MemoryStore(), Scripted(records(b"1"))) as (engine, feed):
            monkeypatch.setattr(feed._intake, "take", broken)
            await engine.failed()


async def test_a_source_that_cannot_be_opened_says_why() -> None:
    with pytest.raises(SourceError, match="no such topic"):
        async with fed(MemoryStore(), Scripted(started=SourceError("no such topic"))):
            raise AssertionError("not reached")
