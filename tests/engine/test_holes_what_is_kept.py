"""What must stay and what must go: results, timers, steps of a killed invocation, answers that came too late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import pytest

from streamstate import App, Context, ObjectContext, Service, VirtualObject, Workflow, WorkflowContext, subscribe
from streamstate.definitions import KeyedHandler
from streamstate.engine import EngineOptions
from streamstate.engine._outbox import Outbox
from streamstate.errors import SinkError
from streamstate.storage import Batch, MemoryStore, OutboxMessage
from streamstate.testing import MemoryTopics
from tests.engine.jumping import JumpingLoop
from tests.engine.world import DAY, MINUTE, SECOND, World, is_known


async def test_a_result_is_kept_for_its_retention_from_the_end_on(world: World) -> None:
    """I2: not from the acceptance."""
    works = Service("Work")

    @works.handler
    async def rest(ctx: Context) -> str:
        await ctx.sleep(2 * DAY)
        return "rested"

    async with world.run(works) as env:
        first = await env.send(rest, idempotency_key="once")
        await env.clock.advance(2 * DAY)
        await env.clock.advance(DAY - 5 * MINUTE)
        assert is_known(env, first.id)
        assert not (await env.send(rest, idempotency_key="once")).is_new
        await env.clock.advance(10 * MINUTE)
        assert not is_known(env, first.id)


async def test_a_timer_that_fired_is_gone_from_the_store(world: World) -> None:
    """I6, I12: or it would fire again at the next start."""
    works = Service("Work")

    @works.handler
    async def rest(ctx: Context) -> None:
        await ctx.sleep(SECOND)
        await ctx.sleep(DAY)

    async with world.run(works) as env:
        await env.send(rest)
        await env.clock.advance(SECOND)
        await env.running.engine.durable()
        due = [row.fire_ms - env.clock.now_ms() for row in env.running.engine.store.timers(None, 10)]
        assert due == [DAY / timedelta(milliseconds=1)]


async def test_a_kill_cancels_an_action_on_the_loop_of_the_application(world: World) -> None:
    shop = Service("Shop")
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def charge() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @shop.handler
    async def order(ctx: Context) -> None:
        await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await started.wait()
        assert sent.kill()
        async with asyncio.timeout(30):
            await cancelled.wait()


async def test_a_second_answer_to_an_awakeable_is_refused_though_the_handler_has_not_seen_the_first(
    world: World,
) -> None:
    works = Service("Work")
    ids: list[str] = []

    @works.handler
    async def wait(ctx: Context) -> str:
        answer = ctx.awakeable(str)
        ids[:] = [answer.id]
        result: str = await answer
        return result

    async with world.run(works) as env:
        sent = await env.send(wait)
        await env.idle()
        assert env.resolve_awakeable(ids[0], "first")
        assert not env.resolve_awakeable(ids[0], "second")
        assert await sent.result() == "first"


async def test_a_killed_invocation_is_no_longer_among_those_who_wait(world: World) -> None:
    """I12: what it waited for may never come."""
    flows = Workflow("Flow")

    @flows.main
    async def run(ctx: WorkflowContext) -> None:
        await ctx.promise("never", str)

    async with world.run(flows) as env:
        sent = await env.send(run, key="k")
        await env.idle()
        waits = env.running.engine.core.waits
        assert any(waits._waiters.values())
        assert sent.kill()
        await env.idle()
        assert not any(waits._waiters.values())


class GatedStore(MemoryStore):
    """A disk that takes as many batches as the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self._permits = threading.Semaphore(0)

    def let(self, batches: int) -> None:
        self._permits.release(batches)

    def commit(self, batch: Batch) -> None:
        self.begun += 1
        assert self._permits.acquire(timeout=60), "the test never let it"
        super().commit(batch)


@pytest.fixture
def gated() -> Iterator[GatedStore]:
    store = GatedStore()
    yield store
    store.let(1_000)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


def counter() -> tuple[VirtualObject, KeyedHandler[None, int]]:
    counters = VirtualObject("Counter")

    @subscribe("events", key=lambda record: "k", max_in_flight=5, name="events")
    @counters.handler
    async def add(ctx: ObjectContext) -> int:
        count = int(await ctx.get("n") or 0) + 1
        ctx.set("n", count)
        return count

    return counters, add


async def test_a_subscription_takes_no_more_than_it_may_have_in_flight(gated: GatedStore) -> None:
    """I12: while the disk is slow."""
    counters, _add = counter()
    topics = MemoryTopics()
    app = App([counters], name="tests", connectors=[topics])
    async with app.embedded(gated, options=EngineOptions()) as run:
        ahead = run.engine.core.commits.records_ahead
        for _ in range(50):
            topics.append("events", b"k", b"")
        await until(lambda: ahead.get("events", 0) >= 5)
        for _ in range(100):
            await asyncio.sleep(0)
        assert ahead["events"] == 5
        gated.let(1_000)
        await until(lambda: run.engine.object_state("Counter", "k").get("n") == b"50")


def test_what_a_failed_hand_over_has_acknowledged_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """§6: a message comes twice only where nobody could know that it had arrived."""
    given: list[list[int]] = []

    class Cluster:
        async def open(self) -> None: ...

        async def publish(self, messages: Sequence[OutboxMessage]) -> None:
            given.append([message.position for message in messages])
            if len(given) == 1:
                raise SinkError("the broker is gone", acknowledged=2)

        async def close(self) -> None: ...

    outbox = Outbox({"main": Cluster()}, MemoryStore(), lambda _cluster, _position: None)
    loop = JumpingLoop()
    try:
        relay = loop.create_task(outbox.relays["main"].run())
        loop.spin(5)
        outbox.release(
            [OutboxMessage(position, "main", "topic", None, b"v", (), f"inv/{position}") for position in (1, 2, 3)]
        )
        for _ in range(100):
            if outbox.is_idle:
                break
            loop.run(asyncio.sleep(0.1))
        relay.cancel()
    finally:
        loop.finish()
    assert given == [[1, 2, 3], [3]]
