"""What the engine keeps in memory is bounded, and what it put away comes back as it was."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from streamstate import (
    App,
    CancelledError,
    Context,
    EngineOptions,
    LocalInvocation,
    ObjectContext,
    Running,
    Service,
    StateKey,
    TerminalError,
    VirtualObject,
    subscribe,
)
from streamstate.engine._keys import QUEUE_IN_MEMORY_MAX
from streamstate.storage import Batch, MemoryStore, SqliteStore, Store
from streamstate.testing import MemoryTopics, VirtualClock
from tests.engine.world import MINUTE, MemoryContent

pytestmark = pytest.mark.timeout(60)

COUNT = StateKey[int]("count", default=0)
LIVE_MAX = 10
MANY = 200
LONG = QUEUE_IN_MEMORY_MAX + 300

OpenStore = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the same content again and again."""
    if request.param == "memory":
        return MemoryContent().open
    return lambda: SqliteStore.open(tmp_path / "data")


class GatedStore(MemoryStore):
    """A disk that is as slow as the test wants it to be."""

    gate = threading.Event()

    def commit(self, batch: Batch) -> None:
        assert self.gate.wait(30), "the test never opened the gate"
        super().commit(batch)


@asynccontextmanager
async def running(
    definitions: Sequence[Service | VirtualObject],
    store: Store,
    *,
    clock: VirtualClock | None = None,
    topics: MemoryTopics | None = None,
    live_max: int = 10_000,
    keys_max: int = 10_000,
) -> AsyncIterator[Running]:
    """Run a program with bounds; a stop does not wait for steps."""
    clock = clock or VirtualClock()
    options = EngineOptions(
        writes_in_thread=not isinstance(store, MemoryStore) or isinstance(store, GatedStore),
        live_in_memory_max=live_max,
        keys_in_memory_max=keys_max,
        drain=timedelta(),
        clock=clock,
    )
    app = App(definitions, name="tests", connectors=[topics or MemoryTopics()])
    async with app.embedded(store, options=options) as run:
        clock.attach(run.engine.idle)
        yield run


async def until(condition: Callable[[], bool]) -> None:
    """Let the program go on until it is so."""
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


async def drained(run: Running, topics: MemoryTopics) -> None:
    """Wait until everything in the topics has been taken in and is durable."""
    await until(lambda: topics.is_drained(()))
    await run.engine.durable()


@pytest.mark.parametrize("is_keyed", [True, False], ids=["keyed", "unkeyed"])
async def test_sleeping_invocations_leave_memory_and_all_come_back(open_store: OpenStore, is_keyed: bool) -> None:
    shop, carts = Service("Shop"), VirtualObject("Cart")
    entered: list[int] = []

    @shop.handler
    async def wait(ctx: Context, number: int) -> int:
        entered.append(number)
        await ctx.sleep(MINUTE)
        return number * 2

    @carts.handler
    async def hold(ctx: ObjectContext, number: int) -> int:
        entered.append(number)
        ctx.set(COUNT, number)
        await ctx.sleep(MINUTE)
        return await ctx.get(COUNT) * 2

    clock = VirtualClock()
    async with running([shop, carts], open_store(), clock=clock, live_max=LIVE_MAX) as run:
        core = run.engine.core
        sends = [
            run.client.send(hold, number, key=f"k{number}") if is_keyed else run.client.send(wait, number)
            for number in range(MANY)
        ]
        sent = await asyncio.gather(*sends)
        await run.engine.idle()
        assert len(core.live) <= LIVE_MAX
        assert core.keys.count <= LIVE_MAX
        assert len(entered) == MANY
        await clock.advance(MINUTE)
        assert [await each.result() for each in sent] == [number * 2 for number in range(MANY)]
        assert len(entered) >= 2 * MANY - LIVE_MAX, "most of them must have come back by replay"
        assert core.live == {}


@pytest.mark.parametrize("is_keyed", [True, False], ids=["keyed", "unkeyed"])
async def test_those_that_wait_for_an_awakeable_come_back_one_by_one_within_the_bound(
    open_store: OpenStore, is_keyed: bool
) -> None:
    shop, carts = Service("Shop"), VirtualObject("Cart")
    ids: dict[int, str] = {}

    @shop.handler
    async def ask(ctx: Context, number: int) -> int:
        answer = ctx.awakeable(int)
        ids[number] = answer.id
        return number + await answer

    @carts.handler
    async def order(ctx: ObjectContext, number: int) -> int:
        ctx.set(COUNT, number)
        answer = ctx.awakeable(int)
        ids[number] = answer.id
        total = await answer + await ctx.get(COUNT)
        ctx.set(COUNT, total)
        return total

    async with running([shop, carts], open_store(), live_max=LIVE_MAX) as run:
        sends = [
            run.client.send(order, number, key=f"k{number}") if is_keyed else run.client.send(ask, number)
            for number in range(MANY)
        ]
        sent = await asyncio.gather(*sends)
        await run.engine.idle()
        assert len(run.engine.core.live) <= LIVE_MAX
        for number in reversed(range(MANY)):
            assert run.client.resolve_awakeable(ids[number], 1_000)
            assert await sent[number].result() == 1_000 + number
            assert len(run.engine.core.live) <= LIVE_MAX
        assert not run.client.resolve_awakeable(ids[0], 1_000)
        if is_keyed:
            assert run.engine.object_state("Cart", "k7") == {"count": b"1007"}


async def test_a_handler_that_left_memory_is_cancelled_and_killed_like_any_other(open_store: OpenStore) -> None:
    carts = VirtualObject("Cart")
    undone: list[int] = []

    @carts.handler
    async def hold(ctx: ObjectContext, number: int) -> None:
        try:
            await ctx.sleep(MINUTE)
        except CancelledError:
            undone.append(number)
            raise

    async with running([carts], open_store(), live_max=1) as run:
        sent = await asyncio.gather(*(run.client.send(hold, number, key=f"k{number}") for number in range(20)))
        await run.engine.idle()
        assert len(run.engine.core.live) <= 1
        assert sent[3].cancel()
        assert sent[4].kill()
        with pytest.raises(CancelledError):
            await sent[3].result()
        with pytest.raises(TerminalError, match="killed"):
            await sent[4].result()
        assert undone == [3]


async def test_an_event_behind_a_sleeper_that_left_memory_waits_its_turn(open_store: OpenStore) -> None:
    carts = VirtualObject("Cart")
    order: list[str] = []

    @carts.handler
    async def hold(ctx: ObjectContext, minutes: int) -> None:
        await ctx.sleep(minutes * MINUTE)
        order.append(f"{ctx.key} {minutes}")

    clock = VirtualClock()
    async with running([carts], open_store(), clock=clock, live_max=1) as run:
        for key in "abcdef":
            await run.client.send(hold, 1, key=key)
        await run.engine.idle()
        for key in "abcdef":
            await run.client.send(hold, 0, key=key)
        await run.engine.idle()
        assert order == []
        await clock.advance(MINUTE)
        for key in "abcdef":
            assert [each for each in order if each[0] == key] == [f"{key} 1", f"{key} 0"]


async def test_more_keys_than_fit_in_memory_keep_their_state(open_store: OpenStore) -> None:
    counters = VirtualObject("Counter")

    @subscribe("events")
    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + by)

    topics = MemoryTopics()
    async with running([counters], open_store(), topics=topics, keys_max=LIVE_MAX) as run:
        for by in (1, 10, 100):
            for number in range(MANY):
                topics.append("events", f"k{number}".encode(), str(by + 1_000 * number).encode())
            await drained(run, topics)
            assert run.engine.core.keys.count <= LIVE_MAX
        for number in range(MANY):
            assert run.engine.object_state("Counter", f"k{number}") == {"count": str(111 + 3_000 * number).encode()}


class Queue:
    """An object whose events queue up behind one that waits for the test, and what came out of it."""

    def __init__(self, blocked: int = 0) -> None:
        self.opened = asyncio.Event()
        self.reached = asyncio.Event()
        self.seen: list[int] = []
        self.definition = logs = VirtualObject("Log")

        async def wait() -> None:
            self.reached.set()
            await self.opened.wait()

        @subscribe("events")
        @logs.handler
        async def note(ctx: ObjectContext, number: int) -> None:
            if number == blocked:
                await ctx.run("wait", wait)
            ctx.set(COUNT, await ctx.get(COUNT) + 1)
            self.seen.append(number)

        @logs.handler
        async def look(ctx: ObjectContext, number: int) -> int:
            if number == blocked:
                await ctx.run("wait", wait)
            self.seen.append(number)
            return number

        self.look = look


async def test_a_queue_longer_than_memory_keeps_its_order_and_loses_none(open_store: OpenStore) -> None:
    queue, topics = Queue(), MemoryTopics()
    async with running([queue.definition], open_store(), topics=topics) as run:
        for number in range(LONG):
            topics.append("events", b"k", str(number).encode())
        await drained(run, topics)
        await queue.reached.wait()
        assert len(run.engine.core.live) <= QUEUE_IN_MEMORY_MAX + 1
        assert queue.seen == []
        queue.opened.set()
        await run.engine.idle()
        assert queue.seen == list(range(LONG))
        assert run.engine.object_state("Log", "k") == {"count": str(LONG).encode()}


@pytest.mark.parametrize("blocked", [0, QUEUE_IN_MEMORY_MAX + 100])
async def test_a_queue_longer_than_memory_goes_on_in_order_after_a_restart(
    open_store: OpenStore, blocked: int, caplog: pytest.LogCaptureFixture
) -> None:
    queue, topics = Queue(blocked), MemoryTopics()
    async with running([queue.definition], open_store(), topics=topics) as run:
        for number in range(LONG):
            topics.append("events", b"k", str(number).encode())
        await drained(run, topics)
        await queue.reached.wait()
    assert queue.seen == list(range(blocked))
    assert "1 steps still run" in caplog.text
    queue.opened.set()
    async with running([queue.definition], open_store(), topics=topics) as run:
        topics.append("events", b"k", str(LONG).encode())
        await drained(run, topics)
        await run.engine.idle()
        assert queue.seen == list(range(LONG + 1))
        assert run.engine.object_state("Log", "k") == {"count": str(LONG + 1).encode()}


async def enqueued(run: Running, queue: Queue) -> list[LocalInvocation[int]]:
    """All of them, in order, behind the first one, which runs its step."""
    sent = await asyncio.gather(*(run.client.send(queue.look, number, key="k") for number in range(LONG)))
    await queue.reached.wait()
    assert sent[LONG - 10].id not in run.engine.core.live
    return sent


async def test_one_far_back_in_a_queue_is_cancelled_another_killed_and_the_rest_goes_on(open_store: OpenStore) -> None:
    queue = Queue()
    async with running([queue.definition], open_store()) as run:
        sent = await enqueued(run, queue)
        cancelled, killed = LONG - 10, LONG - 9
        assert sent[cancelled].cancel()
        assert sent[killed].kill()
        with pytest.raises(CancelledError, match="before it started"):
            await sent[cancelled].result()
        with pytest.raises(TerminalError, match="killed"):
            await sent[killed].result()
        assert not sent[killed].kill()
        queue.opened.set()
        await run.engine.idle()
        assert queue.seen == [number for number in range(LONG) if number not in (cancelled, killed)]
        assert await sent[-1].result() == LONG - 1


async def test_one_killed_far_back_does_not_run_although_the_queue_is_read_before_its_end_is_durable() -> None:
    queue, store = Queue(), GatedStore()
    store.gate.set()
    async with running([queue.definition], store) as run:
        try:
            sent = await enqueued(run, queue)
            await run.engine.durable()
            store.gate.clear()
            killed = LONG - 10
            assert sent[killed].kill()
            queue.opened.set()
            await until(lambda: len(queue.seen) >= QUEUE_IN_MEMORY_MAX)
        finally:
            store.gate.set()
        with pytest.raises(TerminalError, match="killed"):
            await sent[killed].result()
        await run.engine.idle()
        assert queue.seen == [number for number in range(LONG) if number != killed]
