import asyncio
from datetime import timedelta

import pytest

from streamstate import Context, RetryPolicy, Service, TerminalError, Workflow, WorkflowContext, WorkflowSharedContext
from streamstate.errors import UsageError
from tests.engine.world import DAY, MINUTE, SECOND, World, failure_of

pytestmark = pytest.mark.timeout(10)


async def test_a_sleep_takes_its_time_and_no_more(world: World) -> None:
    naps = Service("Naps")
    started = world.clock.now()

    @naps.handler
    async def nap(ctx: Context) -> list[float]:
        await ctx.sleep(timedelta(days=30))
        first = await ctx.time() - started
        await asyncio.sleep(90)
        second = await ctx.time() - started
        return [first / DAY, (second - first) / SECOND]

    async with world.run(naps) as env:
        sent = await env.send(nap)
        await env.clock.advance(timedelta(days=29))
        assert env.running.engine.core.live
        await env.clock.advance(timedelta(days=2))
        assert await sent.result() == [30, 90]


async def test_a_plain_number_is_no_duration(world: World) -> None:
    naps = Service("Naps", retry=RetryPolicy(attempts_max=1))

    @naps.handler
    async def nap(ctx: Context) -> None:
        await ctx.sleep(5)  # type: ignore[arg-type]  # the mistake that the test is about

    async with world.run(naps) as env:
        sent = await env.send(nap)
        await env.idle()
        assert "timedelta" in failure_of(env, sent.id)


async def test_an_awakeable_is_resolved_from_outside(world: World) -> None:
    desk = Service("Desk")
    ids: list[str] = []

    @desk.handler
    async def ask(ctx: Context) -> dict[str, int]:
        answer = ctx.awakeable(dict[str, int])
        ids.append(answer.id)
        return await answer

    async with world.run(desk) as env:
        sent = await env.send(ask)
        await env.idle()
        assert env.resolve_awakeable(ids[0], {"a": 1})
        assert await sent.result() == {"a": 1}
        assert not env.resolve_awakeable(ids[0], {"a": 2})
    assert len(set(ids)) == 1


async def test_an_awakeable_is_rejected_from_outside(world: World) -> None:
    desk = Service("Desk")
    ids: list[str] = []

    @desk.handler
    async def ask(ctx: Context) -> int:
        answer = ctx.awakeable(int)
        ids.append(answer.id)
        return await answer

    async with world.run(desk) as env:
        sent = await env.send(ask)
        await env.idle()
        assert env.reject_awakeable(ids[0], "nobody in")
        with pytest.raises(TerminalError, match="nobody in"):
            await sent.result()
        with pytest.raises(UsageError, match="awakeable"):
            env.resolve_awakeable("something else")


async def test_an_awakeable_that_is_resolved_twice_keeps_the_first_value(world: World) -> None:
    desk = Service("Desk")
    ids: list[str] = []

    @desk.handler
    async def ask(ctx: Context) -> list[int]:
        answer = ctx.awakeable(int)
        ids.append(answer.id)
        first = await answer
        await ctx.sleep(SECOND)
        return [first, await answer]

    async with world.run(desk) as env:
        sent = await env.send(ask)
        await env.idle()
        env.resolve_awakeable(ids[0], 1)
        env.resolve_awakeable(ids[0], 2)
        await env.idle()
        assert not env.resolve_awakeable(ids[0], 3)
        await env.clock.advance(SECOND)
        assert await sent.result() == [1, 1]


async def test_a_handler_resolves_and_rejects_the_awakeables_of_another(world: World) -> None:
    desk = Service("Desk")

    @desk.handler
    async def answer(ctx: Context, ids: list[str]) -> None:
        ctx.resolve_awakeable(ids[0], "yes")
        ctx.reject_awakeable(ids[1], "no")

    @desk.handler
    async def ask(ctx: Context) -> list[str]:
        good, bad = ctx.awakeable(str), ctx.awakeable(str)
        ctx.send(answer, [good.id, bad.id])
        try:
            return [await good, await bad]
        except TerminalError as error:
            return [await good, error.message]

    async with world.run(desk) as env:
        assert await env.call(ask) == ["yes", "no"]


async def test_a_promise_is_shared_by_the_handlers_of_a_workflow(world: World) -> None:
    signup = Workflow("SignUp")

    @signup.main
    async def run(ctx: WorkflowContext, user: str) -> str:
        return f"{user} clicked {await ctx.promise('clicked', str)}"

    @signup.shared
    async def click(ctx: WorkflowSharedContext, secret: str) -> str | None:
        promise = ctx.promise("clicked", str)
        before = await promise.peek()
        promise.resolve(secret)
        return before

    @signup.shared
    async def wait(ctx: WorkflowSharedContext) -> str:
        return await ctx.promise("clicked", str)

    async with world.run(signup) as env:
        main = await env.send(run, "ann", key="u1")
        other = await env.send(wait, key="u1")
        await env.idle()
        assert await env.call(click, "s1", key="u1") is None
        assert await main.result() == "ann clicked s1"
        assert await other.result() == "s1"
        assert await env.call(click, "s2", key="u1") == "s1"
        assert await env.call(wait, key="u1") == "s1"


async def test_a_promise_that_is_resolved_before_the_main_handler_starts_counts(world: World) -> None:
    signup = Workflow("SignUp")

    @signup.main
    async def run(ctx: WorkflowContext) -> str:
        return await ctx.promise("clicked", str)

    @signup.shared
    async def click(ctx: WorkflowSharedContext) -> None:
        ctx.promise("clicked", str).resolve("early")

    async with world.run(signup) as env:
        await env.call(click, key="u1")
        assert await env.call(run, key="u1") == "early"


async def test_a_promise_is_rejected_and_completed_only_once(world: World) -> None:
    signup = Workflow("SignUp")

    @signup.main
    async def run(ctx: WorkflowContext) -> str:
        try:
            return await ctx.promise("clicked", str)
        except TerminalError as error:
            return f"rejected: {error.message}"

    @signup.shared
    async def complete(ctx: WorkflowSharedContext) -> str:
        promise = ctx.promise("clicked", str)
        promise.reject("expired")
        promise.resolve("too late")
        try:
            return str(await promise.peek())
        except TerminalError as error:
            return error.message

    async with world.run(signup) as env:
        main = await env.send(run, key="u1")
        await env.idle()
        assert await env.call(complete, key="u1") == "expired"
        assert await main.result() == "rejected: expired"


async def test_a_signal_before_and_a_signal_after_the_wait_both_arrive_in_order(world: World) -> None:
    desk = Service("Desk")

    @desk.handler
    async def listen(ctx: Context) -> list[int]:
        await ctx.sleep(MINUTE)
        early = await ctx.signal("go", int)
        second = await ctx.signal("go", int)
        late = await ctx.signal("go", int)
        return [early, second, late]

    @desk.handler
    async def shout(ctx: Context, message: tuple[str, int]) -> None:
        ctx.invocation(message[0]).signal("go").resolve(message[1])

    async with world.run(desk) as env:
        sent = await env.send(listen)
        await env.idle()
        await env.call(shout, (sent.id, 1))
        await env.call(shout, (sent.id, 2))
        await env.clock.advance(MINUTE)
        await env.call(shout, (sent.id, 3))
        assert await sent.result() == [1, 2, 3]


async def test_signals_of_other_names_wait_for_their_own_reader(world: World) -> None:
    desk = Service("Desk")

    @desk.handler
    async def listen(ctx: Context) -> list[str]:
        stop, go = ctx.signal("stop", str), ctx.signal("go", str)
        return [await go, await stop]

    @desk.handler
    async def shout(ctx: Context, to: str) -> None:
        other = ctx.invocation(to)
        other.signal("nobody listens").resolve()
        other.signal("stop").resolve("s")
        other.signal("go").resolve("g")

    async with world.run(desk) as env:
        sent = await env.send(listen)
        await env.idle()
        await env.call(shout, sent.id)
        assert await sent.result() == ["g", "s"]


async def test_a_rejected_signal_raises_at_its_reader(world: World) -> None:
    desk = Service("Desk")

    @desk.handler
    async def listen(ctx: Context) -> str:
        return await ctx.signal("go", str)

    @desk.handler
    async def shout(ctx: Context, to: str) -> None:
        ctx.invocation(to).signal("go").reject("no way")

    async with world.run(desk) as env:
        sent = await env.send(listen)
        await env.idle()
        await env.call(shout, sent.id)
        with pytest.raises(TerminalError, match="no way"):
            await sent.result()


async def test_an_id_that_is_made_up_completes_nothing_but_awakeables(world: World) -> None:
    desk = Service("Desk")
    ids: list[str] = []

    @desk.handler
    async def ask(ctx: Context) -> str:
        await ctx.sleep(SECOND)
        answer = ctx.awakeable(str)
        ids.append(answer.id)
        return await answer

    async with world.run(desk) as env:
        sent = await env.send(ask)
        await env.idle()
        made_up = f"sign_{sent.id.removeprefix('inv_')}_0"
        assert not env.resolve_awakeable(made_up, "now")
        assert ids == []
        await env.clock.advance(SECOND)
        assert env.resolve_awakeable(ids[0], "later")
        assert await sent.result() == "later"
