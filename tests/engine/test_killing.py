"""Kill: at once, with everything that is called, and the key is free."""

import asyncio

import pytest

from streamstate import Context, ObjectContext, RetryPolicy, Service, TerminalError, VirtualObject
from streamstate.storage import Status
from tests.engine.world import DAY, MINUTE, SECOND, World, failure_of, is_known, status_of

pytestmark = pytest.mark.timeout(10)


async def test_a_cancelled_handler_that_fails_before_it_waits_stays_visible_and_a_kill_ends_it(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=SECOND))

    @shop.handler
    async def order(ctx: Context) -> None:
        raise ValueError("broken")

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert sent.cancel()
        await env.clock.advance(MINUTE)
        assert "broken" in failure_of(env, sent.id)
        assert sent.kill()
        with pytest.raises(TerminalError, match="kill"):
            await sent.result()


async def test_a_kill_ends_at_once_without_compensation_and_frees_the_key(world: World) -> None:
    logs = VirtualObject("Log")
    log: list[str] = []

    def note(text: str) -> None:
        log.append(text)

    @logs.handler
    async def wait(ctx: ObjectContext) -> None:
        try:
            await ctx.sleep(DAY)
        except TerminalError:
            await ctx.run("undo", note, "undone")

    @logs.handler
    async def look(ctx: ObjectContext) -> str:
        return "free"

    async with world.run(logs) as env:
        sent = await env.send(wait, key="a")
        next_one = await env.send(look, key="a")
        await env.idle()
        assert sent.kill()
        with pytest.raises(TerminalError, match="kill"):
            await sent.result()
        assert await next_one.result() == "free"
        assert not sent.kill()
        await env.idle()
        assert env.running.engine.store.timers(None, 10) == []
    assert log == []


async def test_a_kill_does_not_wait_for_a_running_step(world: World) -> None:
    shop = Service("Shop")
    started, gate = asyncio.Event(), asyncio.Event()

    @shop.handler
    async def order(ctx: Context) -> None:
        async def charge() -> None:
            started.set()
            await gate.wait()

        await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await started.wait()
        assert sent.kill()
        with pytest.raises(TerminalError, match="kill"):
            await sent.result()


async def test_a_kill_takes_the_whole_tree_of_calls_with_it(world: World) -> None:
    leaves, back, front = VirtualObject("Leaf"), Service("Back"), Service("Front")

    @leaves.handler
    async def wait(ctx: ObjectContext) -> None:
        await ctx.sleep(DAY)

    @leaves.handler
    async def look(ctx: ObjectContext) -> str:
        return "free"

    @back.handler
    async def work(ctx: Context) -> None:
        await ctx.call(wait, key="a")

    @front.handler
    async def ask(ctx: Context) -> None:
        await ctx.call(work)

    async with world.run(leaves, back, front) as env:
        sent = await env.send(ask)
        await env.idle()
        next_one = await env.send(look, key="a")
        await env.idle()
        assert sent.kill()
        await env.idle()
        assert [inv.label for inv in env.running.engine.core.live.values()] == []
        assert await next_one.result() == "free"


async def test_a_kill_after_a_restart_takes_the_whole_tree_too(world: World) -> None:
    leaves, front = VirtualObject("Leaf"), Service("Front")

    @leaves.handler
    async def wait(ctx: ObjectContext) -> None:
        await ctx.sleep(DAY)

    @leaves.handler
    async def look(ctx: ObjectContext) -> str:
        return "free"

    @front.handler
    async def ask(ctx: Context) -> None:
        await ctx.call(wait, key="a")

    async with world.run(leaves, front) as env:
        sent = await env.send(ask)
        await env.idle()
    async with world.run(leaves, front) as env:
        assert env.invocation(sent.id).kill()
        await env.idle()
        assert await env.call(look, key="a") == "free"


async def test_a_killed_caller_is_not_known_after_its_retention_but_its_key_is_free_at_once(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        await ctx.sleep(DAY)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        sent.kill()
        await env.idle()
        assert "kill" in failure_of(env, sent.id)
        await env.clock.advance(DAY + 2 * MINUTE)
        assert not is_known(env, sent.id)


async def test_a_paused_invocation_is_killed_and_frees_its_key(world: World) -> None:
    logs = VirtualObject("Log", retry=RetryPolicy(attempts_max=1))

    @logs.handler
    async def fail(ctx: ObjectContext) -> None:
        raise ValueError("broken")

    @logs.handler
    async def look(ctx: ObjectContext) -> str:
        return "free"

    async with world.run(logs) as env:
        sent = await env.send(fail, key="a")
        next_one = await env.send(look, key="a")
        await env.idle()
        assert status_of(env, next_one.id) is Status.PENDING
        assert sent.kill()
        assert await next_one.result() == "free"
