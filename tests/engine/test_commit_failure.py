"""A commit that fails stops the engine by name, lets nothing out, and a start on what is stored goes on from there."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from streamstate import (
    App,
    Context,
    EngineOptions,
    ObjectContext,
    Running,
    Service,
    StateKey,
    VirtualObject,
    subscribe,
)
from streamstate.errors import CommitFailedError
from streamstate.journal import Outcome
from streamstate.storage import (
    Batch,
    Header,
    InvocationReader,
    OutboxMessage,
    PositionId,
    PromiseId,
    SqliteStore,
    Store,
    TimerRow,
)
from streamstate.testing import MemoryTopics
from tests.engine.world import MemoryContent

pytestmark = pytest.mark.timeout(20)

COUNT = StateKey[int]("count", default=0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the program go on until it is so."""
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


class FaultyStore:
    """A store whose disk fails when the test says so; a batch that fails is lost whole."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._error: Exception | None = None
        self._left = 0
        self.refused: list[Batch] = []

    def fail(self, error: Exception, *, after: int = 0) -> None:
        """Let so many commits pass, and fail from then on."""
        self._error, self._left = error, after

    def commit(self, batch: Batch) -> None:
        if self._error is not None:
            if not self._left:
                self.refused.append(batch)
                raise self._error
            self._left -= 1
        self._store.commit(batch)

    @property
    def header(self) -> Header:
        return self._store.header

    @property
    def invocations(self) -> InvocationReader:
        return self._store.invocations

    def state(self, service: str, key: str) -> dict[str, bytes]:
        return self._store.state(service, key)

    def states(self, service: str, keys: Sequence[str]) -> dict[str, dict[str, bytes]]:
        return self._store.states(service, keys)

    def positions(self) -> dict[PositionId, int]:
        return self._store.positions()

    def timers(self, after: tuple[int, str, str, int] | None, limit: int) -> list[TimerRow]:
        return self._store.timers(after, limit)

    def trials(self) -> dict[str, int]:
        return self._store.trials()

    def outbox(self, cluster: str, after: int, limit: int) -> list[OutboxMessage]:
        return self._store.outbox(cluster, after, limit)

    def promise(self, promise: PromiseId) -> Outcome | None:
        return self._store.promise(promise)

    def waiters(self, awaited: str) -> list[tuple[str, int]]:
        return self._store.waiters(awaited)

    def close(self) -> None:
        self._store.close()


class Site:
    """A store that outlives the programs that run on it, and how they write to it."""

    def __init__(self, open_store: Callable[[], Store], writes_in_thread: bool) -> None:
        self._open_store = open_store
        self._options = EngineOptions(writes_in_thread=writes_in_thread, drain=timedelta())
        self.topics = MemoryTopics()
        self.store: FaultyStore

    @asynccontextmanager
    async def run(self, *definitions: Service | VirtualObject) -> AsyncIterator[Running]:
        self.store = FaultyStore(self._open_store())
        app = App(definitions, name="tests", connectors=[self.topics])
        async with app.embedded(self.store, options=self._options) as run:
            yield run

    @asynccontextmanager
    async def run_to_failure(self, *definitions: Service | VirtualObject) -> AsyncIterator[Running]:
        """The exit raises, for clients that were told do not stand for the owner of the process."""
        is_whole = False
        with pytest.raises(CommitFailedError, match="the disk is full"):
            async with self.run(*definitions) as run:
                yield run
                is_whole = True
        assert is_whole, "the error came from the block, not from its end"

    async def settled(self, run: Running) -> None:
        """Wait until all records are taken in and nothing is runnable."""
        while True:
            await run.engine.idle()
            if self.topics.is_drained(()) and run.engine.is_idle:
                return
            await asyncio.sleep(0)


@pytest.fixture(params=["memory", "memory-thread", "sqlite", "sqlite-thread"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    store, _, thread = request.param.partition("-")
    if store == "memory":
        return Site(MemoryContent().open, bool(thread))
    return Site(lambda: SqliteStore.open(tmp_path / "data"), bool(thread))


@pytest.fixture(params=["named", "plain"])
def error(request: pytest.FixtureRequest) -> Exception:
    """What the store itself raises, and what it should not raise but might."""
    return CommitFailedError("the disk is full") if request.param == "named" else OSError("the disk is full")


async def test_a_call_that_waits_gets_the_error(site: Site, error: Exception) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> str:
        return "done"

    async with site.run_to_failure(shop) as run:
        site.store.fail(error)
        with pytest.raises(CommitFailedError, match="the disk is full"):
            async with asyncio.timeout(5):
                await run.client.call(order)
        with pytest.raises(CommitFailedError, match="the disk is full"):
            await run.client.call(order)


async def test_a_call_whose_handler_is_in_the_middle_gets_the_error(site: Site, error: Exception) -> None:
    shop = Service("Shop")
    reached = asyncio.Event()

    @shop.handler
    async def wait(ctx: Context) -> None:
        answer = ctx.awakeable(str)
        await ctx.run("reach", reached.set)
        await answer

    @shop.handler
    async def order(ctx: Context) -> None:
        pass

    async with site.run_to_failure(shop) as run:
        waiting = asyncio.create_task(run.client.call(wait))
        await reached.wait()
        await run.engine.idle()
        site.store.fail(error)
        with pytest.raises(CommitFailedError):
            async with asyncio.timeout(5):
                await run.client.send(order)
        with pytest.raises(CommitFailedError, match="the disk is full"):
            async with asyncio.timeout(5):
                await waiting


async def test_a_send_that_waits_to_be_durable_gets_the_error(site: Site, error: Exception) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        await ctx.awakeable(str)

    async with site.run_to_failure(shop) as run:
        site.store.fail(error)
        sends = [asyncio.create_task(run.client.send(order)) for _ in range(3)]
        for send in sends:
            with pytest.raises(CommitFailedError, match="the disk is full"):
                async with asyncio.timeout(5):
                    await send


async def test_who_waits_for_a_failure_is_told_and_the_exit_is_quiet_then(site: Site, error: Exception) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        pass

    async with site.run(shop) as run:
        failed = asyncio.create_task(run.failed())
        site.store.fail(error)
        with suppress(CommitFailedError, TimeoutError):
            async with asyncio.timeout(1):
                await run.client.call(order)
        with pytest.raises(CommitFailedError, match="the disk is full"):
            async with asyncio.timeout(5):
                await failed
        with pytest.raises(CommitFailedError):
            await run.failed()


async def test_the_exit_raises_what_nobody_was_told(site: Site, error: Exception) -> None:
    logs = VirtualObject("Log")

    @subscribe("events")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(COUNT, number)

    async def go() -> None:
        async with site.run(logs) as run:
            await site.settled(run)
            site.store.fail(error)
            site.topics.append("events", b"k", b"1")
            await until(lambda: bool(site.store.refused) and run.engine._failure is not None)

    with pytest.raises(CommitFailedError, match="the disk is full"):
        await go()


async def test_nothing_of_a_failed_batch_leaves_and_a_restart_does_it_all(site: Site, error: Exception) -> None:
    logs = VirtualObject("Log")
    steps: list[int] = []

    @subscribe("events")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + number)
        ctx.publish("notes", number)
        await ctx.run("step", steps.append, number)

    async with site.run(logs) as run:
        site.topics.append("events", b"a", b"1")
        await site.settled(run)
        assert steps == [1]
        source = site.topics._sources[-1]
        reported = dict(source.reported)
        failed = asyncio.create_task(run.failed())
        site.store.fail(error)
        site.topics.append("events", b"a", b"2")
        site.topics.append("events", b"b", b"3")
        with pytest.raises(CommitFailedError):
            async with asyncio.timeout(5):
                await failed
        assert any(batch.outbox for batch in site.store.refused)
    assert steps == [1]
    assert [record.value for record in site.topics.records("notes")] == [b"1"]
    assert source.reported == reported
    async with site.run(logs) as run:
        await site.settled(run)
        assert run.engine.object_state("Log", "a") == {"count": b"3"}
        assert run.engine.object_state("Log", "b") == {"count": b"3"}
    assert sorted(steps) == [1, 2, 3]
    assert sorted(record.value or b"" for record in site.topics.records("notes")) == [b"1", b"2", b"3"]


async def test_after_a_failure_no_further_batch_is_written(site: Site, error: Exception) -> None:
    logs = VirtualObject("Log")

    @subscribe("events")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(COUNT, number)

    async with site.run(logs) as run:
        await site.settled(run)
        failed = asyncio.create_task(run.failed())
        site.store.fail(error)
        site.topics.append("events", b"a", b"1")
        with pytest.raises(CommitFailedError):
            async with asyncio.timeout(5):
                await failed
        for number in range(5):
            site.topics.append("events", b"a", str(number).encode())
            await asyncio.sleep(0)
        with pytest.raises(CommitFailedError):
            await run.engine.durable()
    assert len(site.store.refused) == 1


def ordering(total: Sequence[int]) -> tuple[Service, VirtualObject]:
    """Events that call a service, sleep a moment, take steps and publish: a batch of each sort."""
    prices, carts = Service("Prices"), VirtualObject("Cart")

    @prices.handler
    async def price(ctx: Context, number: int) -> int:
        return await ctx.run("look up", total.__getitem__, number)

    @subscribe("events")
    @carts.handler
    async def add(ctx: ObjectContext, number: int) -> None:
        found = await ctx.call(price, number)
        await ctx.sleep(timedelta(milliseconds=1))
        ctx.set(COUNT, await ctx.get(COUNT) + found)
        ctx.publish("added", number, key=ctx.key)

    return prices, carts


@pytest.mark.parametrize("after", range(5))
async def test_whichever_commit_fails_a_restart_ends_with_the_same_state(site: Site, after: int) -> None:
    definitions = ordering([10, 20, 30, 40])
    async with site.run(*definitions) as run:
        failed = asyncio.create_task(run.failed())
        site.store.fail(CommitFailedError("the disk is full"), after=after)
        for number in range(4):
            site.topics.append("events", b"ab"[number % 2 :][:1], str(number).encode())
        with pytest.raises(CommitFailedError):
            async with asyncio.timeout(10):
                await failed
    async with site.run(*definitions) as run:
        async with asyncio.timeout(10):
            await until(lambda: not (len({record.value for record in site.topics.records("added")}) < 4))
        await site.settled(run)
        assert run.engine.object_state("Cart", "a") == {"count": b"40"}
        assert run.engine.object_state("Cart", "b") == {"count": b"60"}
        assert run.engine.core.live == {}
    ids = [dict(record.headers)["streamstate-message-id"] for record in site.topics.records("added")]
    assert len(set(ids)) == 4, "a message that leaves again after a failed acknowledgement has the same id"
