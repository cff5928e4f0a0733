"""A program that stops, and goes on from what is stored."""

import asyncio

import pytest

from streamstate import (
    CancelledError,
    Context,
    ObjectContext,
    RetryPolicy,
    Service,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from streamstate.errors import Unavailable
from streamstate.storage import Status
from tests.engine.world import DAY, MINUTE, SECOND, World, failure_of, status_of

pytestmark = pytest.mark.timeout(10)


async def test_a_sleep_goes_on_after_a_restart_and_its_steps_are_not_run_again(world: World) -> None:
    shop = Service("Shop")
    runs: list[str] = []

    @shop.handler
    async def order(ctx: Context, item: str) -> str:
        def note(text: str) -> str:
            runs.append(text)
            return text.upper()

        first = await ctx.run("first", note, item)
        await ctx.sleep(MINUTE)
        return first + await ctx.run("second", note, "b")

    async with world.run(shop) as env:
        sent = await env.send(order, "a")
        await env.idle()
    async with world.run(shop) as env:
        await env.clock.advance(59 * SECOND)
        assert runs == ["a"]
        again = env.invocation(sent.id, str)
        await env.clock.advance(SECOND)
        assert await again.result() == "AB"
    assert runs == ["a", "b"]


async def test_a_timer_that_came_due_while_nothing_ran_fires_at_the_start(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> str:
        await ctx.sleep(MINUTE)
        return "done"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
    world.clock.skip(DAY)
    async with world.run(shop) as env:
        assert await env.invocation(sent.id, str).result() == "done"


async def test_an_awakeable_is_resolved_after_a_restart(world: World) -> None:
    shop = Service("Shop")
    ids: list[str] = []

    @shop.handler
    async def order(ctx: Context) -> int:
        answer = ctx.awakeable(int)
        ids.append(answer.id)
        return await answer

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
    async with world.run(shop) as env:
        again = env.invocation(sent.id, int)
        assert env.resolve_awakeable(ids[0], 4)
        assert await again.result() == 4


async def test_what_arrived_but_was_not_seen_is_seen_after_a_restart(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))
    ids: list[str] = []
    is_broken = True

    @shop.handler
    async def order(ctx: Context) -> list[int]:
        one, two = ctx.awakeable(int), ctx.awakeable(int)
        ids[:] = [one.id, two.id]
        first = await one
        if is_broken:
            raise ValueError("broken")
        return [first, await two]

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        env.resolve_awakeable(ids[0], 1)
        await env.idle()
        assert status_of(env, sent.id) is Status.PAUSED
        env.resolve_awakeable(ids[1], 2)
        await env.idle()
    is_broken = False
    async with world.run(shop) as env:
        env.invocation(sent.id).resume()
        assert await env.invocation(sent.id, list[int]).result() == [1, 2]


async def test_the_queue_of_a_busy_key_goes_on_in_order_after_a_restart(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        await ctx.sleep(SECOND)
        ctx.set("log", [*(await ctx.get("log") or []), text])

    async with world.run(logs) as env:
        for text in "abc":
            await env.send(note, text, key="k")
        await env.idle()
    async with world.run(logs) as env:
        await env.send(note, "d", key="k")
        await env.clock.advance(10 * SECOND)
        assert await env.state(logs, "k").get("log") == list("abcd")
        assert not env.running.engine.core.live


async def test_a_delayed_send_starts_after_a_restart(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        ctx.set("log", [*(await ctx.get("log") or []), text])

    async with world.run(logs) as env:
        await env.send(note, "late", key="k", delay=MINUTE)
    async with world.run(logs) as env:
        await env.idle()
        assert await env.state(logs, "k").get("log") is None
        await env.clock.advance(MINUTE)
        assert await env.state(logs, "k").get("log") == ["late"]
    async with world.run(logs) as env:
        await env.clock.advance(MINUTE)
        assert await env.state(logs, "k").get("log") == ["late"]


async def test_a_call_goes_on_after_a_restart_on_both_sides(world: World) -> None:
    back, front = VirtualObject("Back"), Service("Front")

    @back.handler
    async def work(ctx: ObjectContext, number: int) -> int:
        await ctx.sleep(MINUTE)
        return number * 2

    @front.handler
    async def ask(ctx: Context) -> list[int]:
        return list(await asyncio.gather(ctx.call(work, 1, key="a"), ctx.call(work, 2, key="a")))

    async with world.run(back, front) as env:
        sent = await env.send(ask)
        await env.idle()
    async with world.run(back, front) as env:
        again = env.invocation(sent.id, list[int])
        await env.clock.advance(MINUTE)
    async with world.run(back, front) as env:
        again = env.invocation(sent.id, list[int])
        await env.clock.advance(MINUTE)
        assert await again.result() == [2, 4]


async def test_an_attach_a_promise_and_a_signal_go_on_after_a_restart(world: World) -> None:
    signup = Workflow("SignUp")
    desk = Service("Desk")

    @signup.main
    async def run(ctx: WorkflowContext) -> str:
        clicked = await ctx.promise("clicked", str)
        return f"{clicked} {await ctx.signal('go', str)}"

    @signup.shared
    async def click(ctx: WorkflowSharedContext, to: str) -> None:
        ctx.promise("clicked", str).resolve("clicked")

    @desk.handler
    async def watch(ctx: Context, invocation: str) -> str:
        found: str = await ctx.invocation(invocation).attach(str)
        return f"saw {found}"

    @desk.handler
    async def tell(ctx: Context, invocation: str) -> None:
        ctx.invocation(invocation).signal("go").resolve("now")

    async with world.run(signup, desk) as env:
        main = await env.send(run, key="u1")
        watching = await env.send(watch, main.id)
        await env.call(tell, main.id)
        await env.idle()
    async with world.run(signup, desk) as env:
        again = env.invocation(watching.id, str)
        await env.call(click, "", key="u1")
        assert await again.result() == "saw clicked now"


async def test_a_cancellation_that_has_not_arrived_arrives_after_a_restart(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        await ctx.sleep(DAY)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        sent.cancel()
    async with world.run(shop) as env:
        with pytest.raises(CancelledError):
            await env.invocation(sent.id).result()


async def test_a_program_that_has_stopped_takes_nothing_in(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None: ...

    async with world.run(shop) as env:
        await env.call(order)
    with pytest.raises(Unavailable):
        await env.call(order)


async def test_an_invocation_whose_handler_is_gone_is_paused_and_named(world: World) -> None:
    shop, other = Service("Shop"), Service("Other")

    @shop.handler
    async def order(ctx: Context) -> str:
        await ctx.sleep(MINUTE)
        return "done"

    @other.handler
    async def nothing(ctx: Context) -> None: ...

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
    async with world.run(other) as env:
        await env.clock.advance(MINUTE)
        assert status_of(env, sent.id) is not Status.COMPLETED
        assert "Shop" in failure_of(env, sent.id)
    async with world.run(shop) as env:
        env.invocation(sent.id).resume()
        assert await env.invocation(sent.id, str).result() == "done"
