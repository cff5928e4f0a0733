import asyncio

import pytest

from streamstate import (
    Context,
    ObjectContext,
    RetryPolicy,
    Service,
    StateKey,
    TerminalError,
    VirtualObject,
)
from streamstate.errors import InvocationPausedError
from streamstate.storage import Status
from tests.engine.world import SECOND, World, status_of

pytestmark = pytest.mark.timeout(10)


COUNT = StateKey[int]("count", default=0)


async def test_a_call_gives_the_typed_result_and_passes_headers(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> dict[str, str]:
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        count = await ctx.get(COUNT)
        return {"key": ctx.key, "count": str(count), **ctx.headers}

    @front.handler
    async def twice(ctx: Context, by: int) -> list[dict[str, str]]:
        first = await ctx.call(add, by, key="a", headers={"trace": "t1"})
        second = await ctx.call(add, by, key="a")
        return [first, second]

    async with world.run(counters, front) as env:
        assert await env.call(twice, 2) == [{"key": "a", "count": "2", "trace": "t1"}, {"key": "a", "count": "4"}]


async def test_a_call_by_name_needs_no_import_and_decodes_what_is_asked_for(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        return await ctx.get(COUNT)

    @front.handler
    async def work(ctx: Context) -> list[int]:
        called = await ctx.call_by_name("Counter", "add", 3, key="a", returns=int)
        attached = await ctx.send_by_name("Counter", "add", 4, key="a").attach()
        return [called, attached]

    async with world.run(counters, front) as env:
        assert await env.call(work) == [3, 7]


async def test_the_terminal_error_of_a_called_handler_reaches_its_caller(world: World) -> None:
    back, front = Service("Back"), Service("Front")

    @back.handler
    async def refuse(ctx: Context) -> None:
        raise TerminalError("sold out", code=410, metadata={"left": "0"})

    @front.handler
    async def work(ctx: Context) -> str:
        try:
            await ctx.call(refuse)
        except TerminalError as error:
            return f"{error.code} {error.message} {error.metadata}"
        return "sold"

    async with world.run(back, front) as env:
        assert await env.call(work) == "410 sold out {'left': '0'}"
        with pytest.raises(TerminalError, match="sold out") as caught:
            await env.call(refuse)
        assert caught.value.code == 410


async def test_a_call_waits_for_a_slow_handler_and_for_a_busy_key(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        await ctx.sleep(SECOND)
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        return await ctx.get(COUNT)

    @front.handler
    async def work(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*(ctx.call(add, by, key="a") for by in (1, 2, 3))))

    async with world.run(counters, front) as env:
        sent = await env.send(work)
        await env.clock.advance(3 * SECOND)
        assert await sent.result() == [1, 3, 6]


async def test_a_call_that_was_never_awaited_still_happens(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + 1)

    @front.handler
    async def work(ctx: Context) -> str:
        ctx.call(add, key="a")
        return "done"

    async with world.run(counters, front) as env:
        assert await env.call(work) == "done"
        await env.idle()
        assert await env.state(counters, "a").get(COUNT) == 1


async def test_the_caller_of_a_handler_that_pauses_is_told_and_gets_the_result_after_resume(world: World) -> None:
    back, front = Service("Back", retry=RetryPolicy(attempts_max=1)), Service("Front")
    is_broken = True

    @back.handler
    async def work(ctx: Context) -> str:
        if is_broken:
            raise ValueError("not yet")
        return "done"

    @front.handler
    async def ask(ctx: Context) -> str:
        return await ctx.call(work)

    async with world.run(back, front) as env:
        sent = await env.send(ask)
        with pytest.raises(InvocationPausedError, match="not yet"):
            await sent.result()
        assert status_of(env, sent.id) is Status.SUSPENDED
        is_broken = False
        paused = [inv.id for inv in env.running.engine.core.live.values() if inv.row.status is Status.PAUSED]
        again = env.invocation(sent.id, str)
        env.invocation(paused[0]).resume()
        assert await again.result() == "done"
