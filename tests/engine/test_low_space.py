"""Little room on the store's volume: sources pause and clients are refused before a commit can fail (M1, M2)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamstate import App, Context, EngineOptions, ObjectContext, Running, Service, StateKey, VirtualObject, subscribe
from streamstate.engine._room import FREE_BYTES_MIN
from streamstate.errors import CommitFailedError, StorageError, Unavailable
from streamstate.storage import Batch, MemoryStore, SqliteStore, Store
from streamstate.testing import Environment, MemoryTopics
from tests.storage.faults.vfs import Fault, FaultVfs, NoFault, NthCall, Op, faulty

pytestmark = pytest.mark.timeout(20)

COUNT = StateKey[int]("count", default=0)
FREE_MIN = 1_000_000


class SmallVolume(MemoryStore):
    """A store on a volume whose room the test decides."""

    def __init__(self) -> None:
        super().__init__()
        self.free = 10 * FREE_MIN
        self.bytes_per_commit = 0
        self.commits = 0
        self.error: StorageError | None = None

    def free_bytes(self) -> int:
        if self.error is not None:
            raise self.error
        return self.free

    def commit(self, batch: Batch) -> None:
        self.free -= self.bytes_per_commit
        assert self.free >= 0, "a commit failed for lack of room"
        super().commit(batch)
        self.commits += 1


counters = VirtualObject("Counter")
shop = Service("Shop")


@subscribe("events", name="counter")
@counters.handler
async def add(ctx: ObjectContext, by: int) -> None:
    ctx.set(COUNT, await ctx.get(COUNT) + by)


@shop.handler
async def order(ctx: Context) -> str:
    return "done"


awaited: list[str] = []


@shop.handler
async def slow(ctx: Context) -> str:
    answer = ctx.awakeable(str)
    await ctx.run("ask", awaited.append, answer.id)
    return await answer


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamstate.engine._room.LOOK_EVERY_S", 0.001)


@asynccontextmanager
async def running(store: Store, topics: MemoryTopics, free_bytes_min: int = FREE_MIN) -> AsyncIterator[Running]:
    app = App([counters, shop], name="tests", connectors=[topics])
    options = EngineOptions(writes_in_thread=False, free_bytes_min=free_bytes_min)
    async with app.embedded(store, options=options) as run:
        yield run


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # of the engine, which tells only itself
            await asyncio.sleep(0.001)


def count(run: Running) -> int:
    return int(run.engine.object_state("Counter", "k").get("count", b"0"))


async def looked(store: SmallVolume, run: Running) -> None:
    """Wait until the engine has seen how much room there is."""
    low = store.free < FREE_MIN
    await until(lambda: run.engine._room.is_low is low)


async def test_m1_clients_are_refused_by_name_while_there_is_little_room_and_served_again_after() -> None:
    store = SmallVolume()
    async with running(store, MemoryTopics()) as run:
        assert await run.client.call(order) == "done"
        store.free = FREE_MIN - 1
        await looked(store, run)
        commits = store.commits
        message = r"volume has 999,999 bytes free, less than the 1,000,000 .*free_bytes_min.*goes on at 1,250,000"
        with pytest.raises(Unavailable, match=message):
            await run.client.call(order)
        with pytest.raises(Unavailable):
            await run.client.send(order, idempotency_key="once")
        assert store.commits == commits, "something of what was refused was written"
        store.free = 2 * FREE_MIN
        await looked(store, run)
        assert await run.client.call(order) == "done"
        sent = await run.client.send(order, idempotency_key="once")
        assert sent.is_new


async def test_m2_it_ends_only_when_there_is_clearly_more_room(caplog: pytest.LogCaptureFixture) -> None:
    store = SmallVolume()
    caplog.set_level(logging.WARNING, "streamstate.engine")
    async with running(store, MemoryTopics()) as run:
        store.free = FREE_MIN - 1
        await looked(store, run)
        store.free = FREE_MIN + FREE_MIN // 4 - 1
        run.engine._room.look()
        with pytest.raises(Unavailable):
            await run.client.call(order)
        store.free += 1
        run.engine._room.look()
        assert await run.client.call(order) == "done"
        store.free = FREE_MIN
        run.engine._room.look()
        assert await run.client.call(order) == "done"
    said = [record.getMessage() for record in caplog.records if record.name == "streamstate.engine"]
    assert len(said) == 2, "it is said once when it begins and once when it ends"
    assert "sources are paused and clients refused" in said[0]


async def test_m1_sources_pause_before_the_volume_is_full_and_go_on_where_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamstate.engine._room.LOOK_EVERY_S", 3_600.0)  # what commits take is seen by commits
    store, topics = SmallVolume(), MemoryTopics()
    store.free, store.bytes_per_commit = FREE_MIN + 50_000, 20_000
    async with running(store, topics) as run:
        for _ in range(20_000):
            topics.append("events", b"k", b"1")
        await until(lambda: run.engine._room.is_low)
        await run.engine.idle()
        taken = count(run)
        assert 0 < taken < 20_000
        commits = store.commits
        for _ in range(50):
            run.engine._room.look()
            await asyncio.sleep(0)
        assert (count(run), store.commits) == (taken, commits)
        assert store.free > FREE_MIN - 5 * store.bytes_per_commit
        store.bytes_per_commit, store.free = 0, 2 * FREE_MIN
        run.engine._room.look()
        await until(lambda: count(run) == 20_000)
    assert sum(store.reopen().positions().values()) == 20_000


async def test_m1_not_even_the_first_record_is_taken_when_the_start_finds_little_room() -> None:
    store, topics = SmallVolume(), MemoryTopics()
    store.free = 0
    topics.append("events", b"k", b"1")
    async with running(store, topics) as run:
        with pytest.raises(Unavailable):
            await run.client.call(order)
        for _ in range(50):
            await asyncio.sleep(0)
        assert count(run) == 0
        store.free = 2 * FREE_MIN
        await until(lambda: count(run) == 1)


async def test_m1_what_was_accepted_goes_on_while_there_is_little_room() -> None:
    store = SmallVolume()
    async with running(store, MemoryTopics()) as run:
        sent = await run.client.send(slow)
        await run.engine.idle()
        store.free = FREE_MIN - 1
        await looked(store, run)
        assert run.client.resolve_awakeable(awaited[-1], "paid")
        assert await sent.result() == "paid"


async def test_no_volume_and_no_mark_are_never_looked_at() -> None:
    store = SmallVolume()
    store.free = 0
    async with running(store, MemoryTopics(), free_bytes_min=0) as run:
        assert await run.client.call(order) == "done"
    async with running(MemoryStore(), MemoryTopics()) as run:
        assert await run.client.call(order) == "done"


async def test_a_volume_that_does_not_answer_stops_the_engine_by_name() -> None:
    store = SmallVolume()
    with pytest.raises(StorageError, match="does not say"):
        async with running(store, MemoryTopics()) as run:
            store.error = StorageError("the volume does not say how much room it has")
            await run.failed()


async def test_the_sqlite_store_says_how_much_room_its_volume_has(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    free = store.free_bytes()
    assert free > FREE_BYTES_MIN, "these tests need some room"
    async with running(store, MemoryTopics(), free_bytes_min=2 * free) as run:
        with pytest.raises(Unavailable, match="volume has"):
            await run.client.call(order)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_write_without_room_stops_the_engine_by_name_and_a_restart_has_what_was_acknowledged(
    tmp_path: Path, number: int
) -> None:
    def disk_full(disk: FaultVfs) -> None:
        disk.plan = NthCall(Fault.ENOSPC, frozenset({Op.WRITE}), number, lasting=True)

    with faulty() as disk:
        store = SqliteStore.open(tmp_path, vfs=disk.name)
        app = App([counters, shop], name="tests")
        with pytest.raises(CommitFailedError, match="the disk is full; free some space") as failed:
            async with Environment(app, store=store) as env:
                await env.topic("events").send(5, key="k")
                await env.idle()
                disk_full(disk)
                await env.topic("events").send(7, key="k")
                await env.running.failed()
        assert "nothing of it is visible" in str(failed.value)
        disk.plan = NoFault()
    async with Environment(app, store=SqliteStore.open(tmp_path)) as env:
        assert await env.state(counters, "k").get(COUNT) == 5
        assert await env.call(order) == "done"
