"""asyncio in handlers of records: what the first turn starts and ends is as good there as in a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from streamstate import ObjectContext, StateKey, VirtualObject, subscribe
from tests.engine.world import SECOND, World

pytestmark = pytest.mark.timeout(10)

COUNT = StateKey[int]("count", default=0)
Body = Callable[[ObjectContext], Coroutine[object, object, None]]


async def add(ctx: ObjectContext) -> None:
    before = await ctx.get(COUNT)
    await asyncio.sleep(0)
    ctx.set(COUNT, before + 1)


async def one_after_the_other(ctx: ObjectContext) -> None:
    await add(ctx)
    await add(ctx)


async def gathered(ctx: ObjectContext) -> None:
    await asyncio.gather(add(ctx), asyncio.sleep(0))
    await add(ctx)


async def in_a_group(ctx: ObjectContext) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(add(ctx))
    assert first.done()
    await add(ctx)


async def in_a_task(ctx: ObjectContext) -> None:
    await asyncio.create_task(add(ctx))
    await add(ctx)


async def within_a_limit(ctx: ObjectContext) -> None:
    async with asyncio.timeout(5):
        await asyncio.gather(add(ctx))
        await add(ctx)


async def failed_and_caught(ctx: ObjectContext) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("no")

    done = await asyncio.gather(add(ctx), fail(), return_exceptions=True)
    assert isinstance(done[1], LookupError)
    await add(ctx)


async def by_way_of_a_future(ctx: ObjectContext) -> None:
    loop = asyncio.get_running_loop()
    told = loop.create_future()
    loop.call_soon(told.set_result, 2)
    ctx.set(COUNT, await ctx.get(COUNT) + await told)


async def with_a_step(ctx: ObjectContext) -> None:
    one, other = await asyncio.gather(ctx.run("one", int, "1"), ctx.run("other", int, "1"))
    ctx.set(COUNT, await ctx.get(COUNT) + one + other)


BODIES: list[Body] = [
    one_after_the_other,
    gathered,
    in_a_group,
    in_a_task,
    within_a_limit,
    failed_and_caught,
    by_way_of_a_future,
]


@pytest.mark.parametrize("body", [pytest.param(body, id=body.__name__) for body in BODIES])
async def test_a_handler_of_records_may_use_all_of_asyncio(world: World, body: Body) -> None:
    counters = VirtualObject("Counter")

    @subscribe("events")
    @counters.handler
    async def take(ctx: ObjectContext, number: int) -> None:
        await body(ctx)

    @counters.handler
    async def call(ctx: ObjectContext) -> None:
        await body(ctx)

    async with world.run(counters) as env:
        await env.call(call, key="called")
        for _ in range(2):  # the second one finds a session that may have been used
            for key in ("a", "b"):
                await env.topic("events").send(1, key=key)
        await env.idle()
        await env.clock.advance(SECOND)
        assert [await env.state(counters, key).get(COUNT) for key in ("called", "a", "b")] == [2, 4, 4]
        assert env.running.engine.core.live == {}


async def test_a_handler_of_records_may_gather_steps(world: World) -> None:
    counters = VirtualObject("Counter")

    @subscribe("events")
    @counters.handler
    async def take(ctx: ObjectContext, number: int) -> None:
        await with_a_step(ctx)

    async with world.run(counters) as env:
        for _ in range(2):
            await env.topic("events").send(1, key="a")
        await env.idle()
        assert await env.state(counters, "a").get(COUNT) == 4
