"""What has ended: kept for its time, then gone from memory and store (I2, I12)."""

import pytest

from streamstate import (
    Context,
    ObjectContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
)
from tests.engine.world import DAY, MINUTE, SECOND, World, is_known

pytestmark = pytest.mark.timeout(10)


async def test_results_failures_and_workflows_are_kept_for_a_day_and_then_purged(world: World) -> None:
    shop, signup = Service("Shop"), Workflow("SignUp")

    @shop.handler
    async def order(ctx: Context) -> str:
        return "done"

    @shop.handler
    async def refuse(ctx: Context) -> None:
        raise TerminalError("no")

    @signup.main
    async def run(ctx: WorkflowContext) -> str:
        ctx.set("x", 1)
        ctx.promise("clicked", str).resolve("yes")
        return "welcome"

    async with world.run(shop, signup) as env:
        plain = await env.send(order)
        kept = [
            (await env.send(order, idempotency_key="k")).id,
            (await env.send(refuse)).id,
            (await env.send(run, key="u1")).id,
        ]
        await env.idle()
        assert not is_known(env, plain.id)
        await env.clock.advance(DAY - MINUTE)
        assert [is_known(env, each) for each in kept] == [True] * 3
    async with world.run(shop, signup) as env:
        assert [is_known(env, each) for each in kept] == [True] * 3
        await env.clock.advance(3 * MINUTE)
        assert [is_known(env, each) for each in kept] == [False] * 3
        assert not env.running.engine.store.invocations.journal(kept[2])
        assert (await env.send(order, idempotency_key="k")).is_new
        assert await env.call(run, key="u1") == "welcome"


async def test_the_state_and_promises_of_a_workflow_go_with_it(world: World) -> None:
    signup = Workflow("SignUp")

    @signup.main
    async def run(ctx: WorkflowContext) -> object:
        before = await ctx.get("x")
        promised = await ctx.promise("clicked", str).peek()
        ctx.set("x", 1)
        ctx.promise("clicked", str).resolve("yes")
        return [before, promised]

    async with world.run(signup) as env:
        assert await env.call(run, key="u1") == [None, None]
        await env.clock.advance(DAY + 2 * MINUTE)
        assert await env.call(run, key="u1") == [None, None]


async def test_ended_invocations_leave_nothing_in_memory_and_nothing_in_the_store(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext) -> None:
        await ctx.run("a", int)
        await ctx.sleep(SECOND)

    async with world.run(logs) as env:
        sent = [await env.send(note, key=str(number)) for number in range(20)]
        await env.clock.advance(SECOND)
        core = env.running.engine.core
        assert (len(core.live), core.stored_count, len(core.replies)) == (0, 0, 0)
        store = env.running.engine.store
        assert [store.invocations.get(each.id) for each in sent] == [None] * 20
        assert [store.invocations.journal(each.id) for each in sent] == [[]] * 20
        assert store.timers(None, 10) == []
