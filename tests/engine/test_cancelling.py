import asyncio

import pytest

from streamstate import CancelledError, Context, ObjectContext, RetryPolicy, Service, VirtualObject
from streamstate.storage import Status
from tests.engine.world import DAY, MINUTE, SECOND, World, status_of

pytestmark = pytest.mark.timeout(10)


async def test_a_pending_invocation_is_cancelled_without_running(world: World) -> None:
    logs = VirtualObject("Log")
    ran: list[str] = []

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        ran.append(text)
        await ctx.sleep(SECOND)

    async with world.run(logs) as env:
        await env.send(note, "first", key="a")
        second = await env.send(note, "second", key="a")
        third = await env.send(note, "third", key="a")
        await env.idle()
        assert second.cancel()
        with pytest.raises(CancelledError):
            await second.result()
        await env.clock.advance(2 * SECOND)
        await third.result()
        assert not third.cancel()
    assert list(dict.fromkeys(ran)) == ["first", "third"]


async def test_a_scheduled_invocation_is_cancelled_without_running(world: World) -> None:
    shop = Service("Shop")
    ran: list[str] = []

    @shop.handler
    async def order(ctx: Context) -> None:
        ran.append("order")

    async with world.run(shop) as env:
        sent = await env.send(order, delay=MINUTE)
        assert sent.cancel()
        with pytest.raises(CancelledError):
            await sent.result()
        await env.clock.advance(2 * MINUTE)
    assert ran == []


async def test_a_suspended_invocation_hears_of_its_cancellation_where_it_waits(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        await ctx.sleep(DAY)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert sent.cancel()
        with pytest.raises(CancelledError) as caught:
            await sent.result()
        assert caught.value.code == 409
        await env.idle()
        assert env.running.engine.store.timers(None, 10) == []


async def test_a_cancellation_is_raised_once_and_the_handler_may_go_on(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> str:
        try:
            await ctx.sleep(DAY)
        except CancelledError:
            await ctx.sleep(SECOND)
            return "cleaned up"
        return "slept"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert sent.cancel()
        assert sent.cancel()
        await env.clock.advance(SECOND)
        assert await sent.result() == "cleaned up"
        assert not sent.cancel()


async def test_a_cancelled_invocation_frees_its_key(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def wait(ctx: ObjectContext) -> None:
        ctx.set("waiting", True)
        await ctx.sleep(DAY)

    @logs.handler
    async def look(ctx: ObjectContext) -> object:
        return await ctx.get("waiting")

    async with world.run(logs) as env:
        sent = await env.send(wait, key="a")
        next_one = await env.send(look, key="a")
        await env.idle()
        sent.cancel()
        assert await next_one.result() is True


async def test_a_running_step_is_awaited_before_the_cancellation_is_raised(world: World) -> None:
    shop = Service("Shop")
    started, gate = asyncio.Event(), asyncio.Event()
    log: list[str] = []

    @shop.handler
    async def order(ctx: Context) -> str:
        async def charge() -> None:
            started.set()
            await gate.wait()
            log.append("charged")

        def refund() -> None:
            log.append("refunded")

        try:
            await ctx.run("charge", charge)
            await ctx.sleep(DAY)
        except CancelledError:
            await ctx.run("refund", refund)
            return "refunded"
        return "charged"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await started.wait()
        assert sent.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert log == []
        gate.set()
        assert await sent.result() == "refunded"
    assert log == ["charged", "refunded"]


async def test_a_step_that_fails_after_the_cancellation_is_not_tried_again(world: World) -> None:
    shop = Service("Shop")
    started, gate = asyncio.Event(), asyncio.Event()
    attempts: list[int] = []

    @shop.handler
    async def order(ctx: Context) -> None:
        async def charge() -> None:
            attempts.append(1)
            started.set()
            await gate.wait()
            raise ConnectionError("bank is down")

        await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await started.wait()
        sent.cancel()
        gate.set()
        with pytest.raises(CancelledError):
            await sent.result()
        await env.clock.advance(MINUTE)
    assert len(attempts) == 1


async def test_a_step_in_backoff_does_not_keep_a_cancelled_invocation_waiting(world: World) -> None:
    shop = Service("Shop")
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
        assert sent.cancel()
        with pytest.raises(CancelledError):
            await sent.result()
        await env.clock.advance(MINUTE)
    assert len(attempts) == 1


async def test_a_handler_in_backoff_is_tried_again_at_once_when_it_is_cancelled(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=MINUTE))
    is_broken = True

    @shop.handler
    async def order(ctx: Context) -> None:
        if is_broken:
            raise ValueError("broken")
        await ctx.sleep(DAY)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        is_broken = False
        assert sent.cancel()
        with pytest.raises(CancelledError):
            await sent.result()


async def test_a_paused_invocation_is_cancelled_when_its_code_lets_it_wait_again(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))
    is_broken = True

    @shop.handler
    async def order(ctx: Context) -> str:
        if is_broken:
            raise ValueError("broken")
        try:
            await ctx.sleep(DAY)
        except CancelledError:
            return "compensated"
        return "slept"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert status_of(env, sent.id) is Status.PAUSED
        is_broken = False
        assert sent.cancel()
        assert await env.invocation(sent.id, str).result() == "compensated"


async def test_a_paused_step_is_cancelled(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))

    @shop.handler
    async def order(ctx: Context) -> None:
        def charge() -> None:
            raise ConnectionError("bank is down")

        await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert status_of(env, sent.id) is Status.PAUSED
        assert sent.cancel()
        with pytest.raises(CancelledError):
            await env.invocation(sent.id, int).result()
