"""Durable timeouts, and tasks that outlive what waited for them."""

import asyncio

import pytest

from streamstate import Context, Service, TerminalError
from tests.engine.world import MINUTE, SECOND, World, slow_double

pytestmark = pytest.mark.timeout(10)


async def test_wait_with_a_timeout_gives_what_is_done_by_then(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> list[int]:
        tasks = [asyncio.create_task(slow_double(ctx, n)) for n in (1, 5)]
        done, pending = await asyncio.wait(tasks, timeout=2)
        return [len(done), len(pending), await tasks[1]]

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(MINUTE)
        assert await sent.result() == [1, 1, 10]


async def test_a_timeout_that_is_caught_is_durable(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> str:
        try:
            async with asyncio.timeout(60):
                return await ctx.awakeable(str)
        except TimeoutError:
            await ctx.sleep(SECOND)
            return "too late"

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(2 * MINUTE)
        assert await sent.result() == "too late"


async def test_a_timeout_that_nobody_catches_ends_the_invocation_with_408(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> str:
        async with asyncio.timeout(60):
            return await ctx.awakeable(str)

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(MINUTE)
        with pytest.raises(TerminalError) as caught:
            await sent.result()
        assert caught.value.code == 408


async def test_a_timeout_that_is_not_reached_leaves_no_timer(world: World) -> None:
    work = Service("Work")
    ids: list[str] = []

    @work.handler
    async def run(ctx: Context) -> int:
        answer = ctx.awakeable(int)
        ids.append(answer.id)
        async with asyncio.timeout(3600):
            first = await answer
        await ctx.sleep(SECOND)
        return first

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.idle()
        env.resolve_awakeable(ids[0], 3)
        await env.idle()
        assert [timer.fire_ms - env.clock.now_ms() for timer in env.running.engine.store.timers(None, 10)] == [1_000]
        await env.clock.advance(SECOND)
        assert await sent.result() == 3
        assert env.running.engine.store.timers(None, 10) == []


async def test_wait_for_a_step_times_out_at_once_and_joins_the_action_at_the_end(world: World) -> None:
    work = Service("Work")
    started, compensated, gate = asyncio.Event(), asyncio.Event(), asyncio.Event()
    log: list[str] = []

    @work.handler
    async def run(ctx: Context) -> str:
        async def slow() -> int:
            started.set()
            await gate.wait()
            log.append("slow step")
            return 1

        async def quick() -> None:
            log.append("compensated")
            compensated.set()

        try:
            return str(await asyncio.wait_for(ctx.run("slow", slow), 5))
        except TimeoutError:
            await ctx.run("quick", quick)
            return "timed out"

    async with world.run(work) as env:
        sent = await env.send(run)
        result = asyncio.create_task(sent.result())
        await started.wait()
        engine = env.running.engine
        assert engine.core.timers.next_ms() == env.clock.now_ms() + 5_000
        world.clock.skip(5 * SECOND)
        await compensated.wait()
        assert not result.done()
        gate.set()
        assert await result == "timed out"
    assert log == ["compensated", "slow step"]


async def test_a_shield_keeps_the_inner_task_going(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> list[object]:
        inner = asyncio.create_task(slow_double(ctx, 5))
        try:
            async with asyncio.timeout(1):
                await asyncio.shield(inner)
        except TimeoutError:
            return ["timed out", await inner]
        return ["in time"]

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(MINUTE)
        assert await sent.result() == ["timed out", 10]


async def test_a_task_that_is_left_behind_is_cancelled_and_may_clean_up(world: World) -> None:
    work = Service("Work")
    log: list[str] = []

    @work.handler
    async def run(ctx: Context) -> str:
        def note(text: str) -> None:
            log.append(text)

        async def background() -> None:
            try:
                await ctx.sleep(MINUTE)
            finally:
                await ctx.run("clean up", note, "cleaned")

        task = asyncio.create_task(background())
        await ctx.sleep(SECOND)
        assert not task.done()
        return "done"

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(SECOND)
        assert await sent.result() == "done"
    assert log == ["cleaned"]


async def test_a_task_that_a_handler_cancels_hears_of_it(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> list[str]:
        log: list[str] = []

        async def background() -> None:
            try:
                await ctx.awakeable(int)
            except asyncio.CancelledError:
                log.append("cancelled")
                await ctx.sleep(SECOND)
                log.append("cleaned")
                raise

        task = asyncio.create_task(background())
        await ctx.sleep(SECOND)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            log.append("joined")
        return log

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(MINUTE)
        assert await sent.result() == ["cancelled", "cleaned", "joined"]
