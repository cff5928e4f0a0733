"""Steps and handlers that were under way, or waited for their next attempt, when the process ended (I3)."""

import asyncio
from datetime import timedelta

import pytest

from streamstate import (
    App,
    Context,
    EngineOptions,
    ObjectContext,
    RetryPolicy,
    Service,
    StateKey,
    VirtualObject,
)
from streamstate.errors import InvocationPausedError
from streamstate.storage import MemoryStore, Status
from tests.engine.world import DAY, MINUTE, SECOND, World, failure_of, status_of

pytestmark = pytest.mark.timeout(10)


COUNT = StateKey[int]("count", default=0)


async def test_a_step_in_backoff_is_tried_again_after_a_restart_and_keeps_its_count(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=SECOND, attempts_max=3))
    attempts: list[int] = []

    @shop.handler
    async def order(ctx: Context) -> None:
        def charge() -> None:
            attempts.append(1)
            raise ConnectionError("bank is down")

        await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert status_of(env, sent.id) is Status.BACKING_OFF
    async with world.run(shop) as env:
        await env.idle()
        assert len(attempts) == 1
        await env.clock.advance(SECOND)
        assert len(attempts) == 2
    async with world.run(shop) as env:
        await env.clock.advance(DAY)
        assert len(attempts) == 3
        assert status_of(env, sent.id) is Status.PAUSED


async def test_a_step_that_runs_again_is_under_way_also_when_something_else_arrives(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=SECOND))
    attempts: list[int] = []
    runs_again, may_end = asyncio.Event(), asyncio.Event()
    ids: list[str] = []

    @shop.handler
    async def order(ctx: Context) -> None:
        async def charge() -> None:
            attempts.append(1)
            if len(attempts) == 1:
                raise ConnectionError("bank is down")
            runs_again.set()
            await may_end.wait()

        charged = ctx.run("charge", charge)
        approved = ctx.awakeable(bool)
        ids.append(approved.id)
        await approved
        await charged

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        env.clock.skip(SECOND)
        await runs_again.wait()
        env.resolve_awakeable(ids[0], True)
        await env.running.engine.durable()
        stored = env.running.engine.store.invocations.get(sent.id)
        assert stored is not None
        assert stored.status is Status.RUNNING, "a start after a crash must find it"
        may_end.set()
        await sent.result()
        assert len(attempts) == 2


async def test_a_handler_in_backoff_is_tried_again_after_a_restart(world: World) -> None:
    logs = VirtualObject("Log", retry=RetryPolicy(initial=MINUTE))
    failures = [1]

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> str:
        if failures:
            failures.pop()
            raise ValueError("once")
        ctx.set("log", [*(await ctx.get("log") or []), text])
        return text

    async with world.run(logs) as env:
        sent = await env.send(note, "a", key="k")
        await env.send(note, "b", key="k")
        await env.idle()
    async with world.run(logs) as env:
        await env.idle()
        assert status_of(env, sent.id) is Status.BACKING_OFF
        await env.clock.advance(MINUTE)
        assert await env.state(logs, "k").get("log") == ["a", "b"]


async def test_a_paused_invocation_stays_paused_and_is_resumed_on_new_code(world: World) -> None:
    def program(answer: str) -> tuple[VirtualObject, object]:
        logs = VirtualObject("Log", retry=RetryPolicy(attempts_max=1))

        @logs.handler
        async def note(ctx: ObjectContext) -> str:
            if not answer:
                raise ValueError("no answer yet")
            ctx.set("answer", answer)
            return answer

        @logs.handler
        async def look(ctx: ObjectContext) -> object:
            return await ctx.get("answer")

        return logs, (note, look)

    old, _ = program("")
    async with world.run(old) as env:
        spec = env.app.program.handler("Log", "note")
        invocation, _, _ = await env.running.engine.submit(spec, "k", b"")
        waiting, _, _ = await env.running.engine.submit(env.app.program.handler("Log", "look"), "k", b"")
        await env.idle()
    new, _ = program("42")
    async with world.run(new) as env:
        await env.clock.advance(DAY)
        assert status_of(env, invocation) is Status.PAUSED
        assert "no answer yet" in failure_of(env, invocation)
        assert status_of(env, waiting) is Status.PENDING
        env.invocation(invocation).resume()
        again, next_one = env.invocation(invocation, str), env.invocation(waiting, str)
        assert await again.result() == "42"
        assert await next_one.result() == "42"


async def test_who_asks_for_a_paused_invocation_after_a_restart_is_told(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))

    @shop.handler
    async def order(ctx: Context) -> None:
        raise ValueError("broken")

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
    async with world.run(shop) as env:
        async with asyncio.timeout(2):
            with pytest.raises(InvocationPausedError, match="broken"):
                await env.invocation(sent.id).result()


async def test_a_step_that_was_cut_off_runs_again_after_a_restart(world: World) -> None:
    shop = Service("Shop")
    started: list[int] = []
    is_first = asyncio.Event()

    @shop.handler
    async def order(ctx: Context) -> str:
        async def charge() -> str:
            started.append(1)
            if len(started) == 1:
                is_first.set()
                await asyncio.Event().wait()
            return "charged"

        return await ctx.run("charge", charge)

    app = App([shop], name="tests")
    store = world.open_store()
    options = EngineOptions(clock=world.clock, drain=timedelta(), writes_in_thread=not isinstance(store, MemoryStore))
    async with app.embedded(store, options=options, connectors=[]) as running:
        sent = await running.client.send(order)
        await is_first.wait()
    async with world.run(shop) as env:
        assert await env.invocation(sent.id, str).result() == "charged"
    assert len(started) == 2


async def test_a_handler_that_was_cut_in_the_middle_of_a_long_turn_goes_on_where_it_was(world: World) -> None:
    counters = VirtualObject("Counter")
    failures = [1]

    @counters.handler
    async def fill(ctx: ObjectContext) -> int:
        for number in range(2_500):
            ctx.set(COUNT, await ctx.get(COUNT) + 1)
            if number == 2_200 and failures:
                failures.pop()
                raise ValueError("once")
        return await ctx.get(COUNT)

    async with world.run(counters) as env:
        sent = await env.send(fill, key="a")
        await env.idle()
        assert await env.state(counters, "a").get(COUNT) > 0
    async with world.run(counters) as env:
        again = env.invocation(sent.id, int)
        await env.clock.advance(SECOND)
        assert await again.result() == 2_500
