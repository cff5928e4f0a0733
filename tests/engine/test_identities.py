"""One identity has one effect: idempotency keys and workflow keys (I2)."""

import pytest

from streamstate import (
    Context,
    ObjectContext,
    Service,
    StateKey,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
)
from tests.engine.world import SECOND, World

pytestmark = pytest.mark.timeout(10)


COUNT = StateKey[int]("count", default=0)


async def test_one_idempotency_key_has_one_effect_and_one_result_even_after_completion(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        await ctx.sleep(SECOND)
        return await ctx.get(COUNT)

    async with world.run(counters) as env:
        first = await env.send(add, 5, key="a", idempotency_key="evt-1")
        second = await env.send(add, 5, key="a", idempotency_key="evt-1")
        assert (first.is_new, second.is_new) == (True, False)
        assert first.id == second.id
        await env.clock.advance(SECOND)
        assert [await first.result(), await second.result()] == [5, 5]
        assert await env.call(add, 5, key="a", idempotency_key="evt-1") == 5
        other = await env.send(add, 1, key="a", idempotency_key="evt-2")
        await env.clock.advance(SECOND)
        assert await other.result() == 6
    async with world.run(counters) as env:
        assert await env.call(add, 5, key="a", idempotency_key="evt-1") == 5
        assert await env.state(counters, "a").get(COUNT) == 6


async def test_calls_and_sends_of_handlers_share_an_idempotency_key(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        await ctx.sleep(SECOND)
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        return await ctx.get(COUNT)

    @front.handler
    async def work(ctx: Context) -> list[int]:
        one = ctx.call(add, 2, key="a", idempotency_key="k")
        two = ctx.call(add, 2, key="a", idempotency_key="k")
        three = ctx.send(add, 2, key="a", idempotency_key="k")
        results = [await one, await two, await three.attach()]
        return [*results, await ctx.call(add, 2, key="a", idempotency_key="k")]

    async with world.run(counters, front) as env:
        sent = await env.send(work)
        await env.clock.advance(SECOND)
        assert await sent.result() == [2, 2, 2, 2]
        assert await env.state(counters, "a").get(COUNT) == 2


async def test_a_workflow_runs_once_for_its_key(world: World) -> None:
    signup = Workflow("SignUp")
    front = Service("Front")
    runs: list[str] = []

    @signup.main
    async def run(ctx: WorkflowContext, user: str) -> str:
        runs.append(user)
        return f"welcome {user}"

    @front.handler
    async def again(ctx: Context) -> str:
        try:
            return await ctx.call(run, "ann", key="u1")
        except TerminalError as error:
            return f"{error.code} {await ctx.send(run, 'ann', key='u1').attach()}"

    async with world.run(signup, front) as env:
        assert await env.call(run, "ann", key="u1") == "welcome ann"
        with pytest.raises(TerminalError) as caught:
            await env.call(run, "ann", key="u1")
        assert caught.value.code == 409
        assert "u1" in caught.value.message
        second = await env.send(run, "bob", key="u1")
        assert not second.is_new
        assert await second.result() == "welcome ann"
        assert await env.call(again) == "409 welcome ann"
        assert await env.call(run, "cyd", key="u2") == "welcome cyd"
    assert runs == ["ann", "cyd"]
