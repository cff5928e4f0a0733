import asyncio

import pytest

from streamstate import Context, ObjectContext, ObjectSharedContext, RetryPolicy, Service, StateKey, VirtualObject
from streamstate.errors import UsageError
from streamstate.storage import Status
from tests.engine.world import MINUTE, SECOND, World, status_of

pytestmark = pytest.mark.timeout(10)

COUNT = StateKey[int]("count", default=0)


async def test_exclusive_handlers_of_a_key_run_one_at_a_time_in_the_order_of_acceptance(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        before = await ctx.get("log") or []
        await ctx.sleep(SECOND)
        ctx.set("log", [*before, text])

    async with world.run(logs) as env:
        for text in "abcde":
            await env.send(note, text, key="k")
        await env.clock.advance(5 * SECOND)
        assert await env.state(logs, "k").get("log") == list("abcde")


async def test_keys_do_not_wait_for_each_other(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext) -> str:
        if ctx.key == "slow":
            await ctx.sleep(MINUTE)
        return ctx.key

    async with world.run(logs) as env:
        slow = await env.send(note, key="slow")
        assert await env.call(note, key="quick") == "quick"
        await env.clock.advance(MINUTE)
        assert await slow.result() == "slow"


async def test_the_same_key_of_two_objects_is_two_keys(world: World) -> None:
    one, two = VirtualObject("One"), VirtualObject("Two")

    @one.handler
    async def wait(ctx: ObjectContext) -> None:
        ctx.set("x", 1)
        await ctx.sleep(MINUTE)

    @two.handler
    async def look(ctx: ObjectContext) -> object:
        return await ctx.get("x")

    async with world.run(one, two) as env:
        await env.send(wait, key="k")
        assert await env.call(look, key="k") is None


async def test_a_shared_handler_runs_beside_an_exclusive_one_and_reads_the_latest_end_of_a_turn(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def add(ctx: ObjectContext) -> None:
        ctx.set(COUNT, 1)
        await ctx.sleep(SECOND)
        ctx.set(COUNT, 2)
        await ctx.sleep(SECOND)
        ctx.set(COUNT, 3)

    @counters.shared
    async def look(ctx: ObjectSharedContext) -> int:
        return await ctx.get(COUNT)

    async with world.run(counters) as env:
        await env.send(add, key="k")
        await env.idle()
        seen = []
        for _ in range(3):
            seen.append(await env.call(look, key="k"))
            await env.clock.advance(SECOND)
    assert seen == [1, 2, 3]


async def test_what_a_shared_handler_has_read_stays_so_for_its_replays(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def add(ctx: ObjectContext) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + 1)

    @counters.shared
    async def look(ctx: ObjectSharedContext) -> list[int]:
        first = await ctx.get(COUNT)
        await ctx.sleep(SECOND)
        return [first, await ctx.get(COUNT)]

    async with world.run(counters) as env:
        await env.call(add, key="k")
        sent = await env.send(look, key="k")
        await env.idle()
        await env.call(add, key="k")
        await env.clock.advance(SECOND)
        assert await sent.result() == [1, 2]


async def test_several_shared_handlers_run_side_by_side(world: World) -> None:
    counters = VirtualObject("Counter")
    running: list[int] = []
    together = asyncio.Event()

    @counters.shared
    async def look(ctx: ObjectSharedContext) -> None:
        async def meet() -> None:
            running.append(1)
            if len(running) == 3:
                together.set()
            await together.wait()

        await ctx.run("meet", meet)

    async with world.run(counters) as env:
        await asyncio.gather(*(env.call(look, key="k") for _ in range(3)))


async def test_a_paused_holder_keeps_its_key_and_the_queue_goes_on_in_order_after_resume(world: World) -> None:
    logs = VirtualObject("Log", retry=RetryPolicy(attempts_max=1))
    is_broken = True

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        if is_broken:
            raise ValueError("broken")
        ctx.set("log", [*(await ctx.get("log") or []), text])

    async with world.run(logs) as env:
        sent = [await env.send(note, text, key="k") for text in "abc"]
        await env.idle()
        assert [status_of(env, each.id) for each in sent] == [Status.PAUSED, Status.PENDING, Status.PENDING]
        is_broken = False
        sent[0].resume()
        await env.idle()
        assert await env.state(logs, "k").get("log") == ["a", "b", "c"]


async def test_a_handler_in_backoff_keeps_its_key(world: World) -> None:
    logs = VirtualObject("Log")
    failures = [1]

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        if text == "a" and failures:
            failures.pop()
            raise ValueError("once")
        ctx.set("log", [*(await ctx.get("log") or []), text])

    async with world.run(logs) as env:
        for text in "ab":
            await env.send(note, text, key="k")
        await env.idle()
        assert await env.state(logs, "k").get("log") is None
        await env.clock.advance(SECOND)
        assert await env.state(logs, "k").get("log") == ["a", "b"]


async def test_a_queue_far_longer_than_memory_keeps_its_order(world: World) -> None:
    logs = VirtualObject("Log")
    front = Service("Front")
    count = 1_500

    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        if number == 0:
            await ctx.sleep(SECOND)
        ctx.set("log", [*(await ctx.get("log") or []), number])

    @front.handler
    async def fill(ctx: Context) -> None:
        for number in range(count):
            ctx.send(note, number, key="k")

    async with world.run(logs, front) as env:
        await env.call(fill)
        await env.idle()
        await env.clock.advance(SECOND)
        assert await env.state(logs, "k").get("log") == list(range(count))
        assert not env.running.engine.core.live


async def test_a_state_cannot_be_set_from_outside_while_a_handler_holds_its_object(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def wait(ctx: ObjectContext) -> object:
        await ctx.sleep(SECOND)
        return await ctx.get("x")

    async with world.run(logs) as env:
        await env.state(logs, "k").set("x", 1)
        sent = await env.send(wait, key="k")
        await env.idle()
        with pytest.raises(UsageError, match=r"held by Log/k\.wait"):
            await env.state(logs, "k").set("x", 2)
        await env.clock.advance(SECOND)
        assert await sent.result() == 1
        await env.state(logs, "k").clear("x")
        assert await env.state(logs, "k").all() == {}
