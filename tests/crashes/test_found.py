"""What the scenarios found that needs no crash to be seen."""

import asyncio

import pytest

from streamstate import App, CancelledError, Context, ObjectContext, Service, StateKey, VirtualObject
from streamstate.testing import Environment, VirtualClock
from tests.crashes.outside import MINUTE

COUNT = StateKey[int]("count", default=0)


async def test_a_signal_to_an_invocation_that_has_just_ended_does_not_bring_it_back() -> None:
    front, counters = Service("Front"), VirtualObject("Counter")

    @counters.handler
    async def count_on(ctx: ObjectContext, back: str) -> None:
        ctx.invocation(back).signal("begun").resolve("")
        await ctx.signal("go", str)
        ctx.set(COUNT, await ctx.get(COUNT) + 1)
        ctx.invocation(back).signal("ended").resolve("")

    @front.handler
    async def work(ctx: Context) -> None:
        sent = ctx.send(count_on, ctx.invocation_id, key="k")
        await ctx.signal("begun", str)
        await ctx.sleep(MINUTE)
        # Its end and this signal are in one batch.
        sent.signal("go").resolve("")
        await ctx.signal("ended", str)
        sent.signal("go").resolve("")
        await ctx.sleep(MINUTE)

    async with Environment(App([front, counters], name="tests"), clock=VirtualClock()) as env:
        worked = await env.send(work)
        await env.clock.advance(5 * MINUTE)
        await worked.result()
        assert await env.state(counters, "k").get(COUNT) == 1


@pytest.mark.xfail(strict=True, reason="what arrives at a cancelled caller cancels its child again")
async def test_a_child_hears_once_of_the_cancellation_of_its_caller() -> None:
    front, rooms = Service("Front"), VirtualObject("Room")
    freed: list[str] = []
    may_free = asyncio.Event()
    ids: list[str] = []

    @rooms.handler
    async def reserve(ctx: ObjectContext) -> None:
        async def free() -> None:
            await may_free.wait()
            freed.append(ctx.key)

        try:
            await ctx.sleep(10 * MINUTE)
        except CancelledError:
            await ctx.run("free", free)
            await ctx.run("say so", freed.append, "said")
            raise

    @front.handler
    async def book(ctx: Context) -> None:
        paid = ctx.awakeable(bool)
        ids.append(paid.id)
        await asyncio.gather(ctx.call(reserve, key="r"), paid)

    async with Environment(App([front, rooms], name="tests"), clock=VirtualClock()) as env:
        sent = await env.send(book)
        await env.idle()
        sent.cancel()
        await env.running.engine.durable()
        env.resolve_awakeable(ids[0], True)
        await env.running.engine.durable()
        may_free.set()
        with pytest.raises(CancelledError):
            await sent.result()
    assert freed == ["r", "said"]


@pytest.mark.xfail(strict=True, reason="a stop that hears of a failure outside of our tree leaves its tasks behind")
async def test_a_stop_that_is_overtaken_by_a_failure_leaves_no_task_behind() -> None:
    shop = Service("Shop")
    begun = asyncio.Event()

    @shop.handler
    async def order(ctx: Context) -> None:
        async def never_ends() -> None:
            begun.set()
            await asyncio.Event().wait()

        await ctx.run("wait", never_ends)

    there = asyncio.all_tasks()
    env = Environment(App([shop], name="tests"), clock=VirtualClock())
    await env.__aenter__()
    await env.send(order)
    await begun.wait()
    stopping = asyncio.create_task(env.__aexit__())
    await asyncio.sleep(0)
    env.running.engine.fail(ValueError("of a connector"))
    with pytest.raises(ValueError, match="of a connector"):
        await stopping
    left = asyncio.all_tasks() - there
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert left == set()
