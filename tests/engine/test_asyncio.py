"""All of asyncio's combinators work in handlers, and mean the same on every replay."""

import asyncio
import contextvars

import pytest

from streamstate import Context, Service, TerminalError
from tests.engine.world import MINUTE, SECOND, World, double, slow_double

pytestmark = pytest.mark.timeout(10)


async def test_gather_runs_steps_side_by_side_and_keeps_their_order(world: World) -> None:
    work = Service("Work")
    running: list[int] = []
    together = asyncio.Event()

    @work.handler
    async def run(ctx: Context) -> list[int]:
        async def wait_for_all(number: int) -> int:
            running.append(number)
            if len(running) == 3:
                together.set()
            await together.wait()
            return number

        return list(await asyncio.gather(*(ctx.run(f"s{n}", wait_for_all, n) for n in (3, 1, 2))))

    async with world.run(work) as env:
        assert await env.call(run) == [3, 1, 2]


async def test_gather_raises_the_first_failure_or_returns_all(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> list[str]:
        async def fail() -> int:
            raise TerminalError("no")

        found: list[str] = []
        try:
            await asyncio.gather(ctx.run("a", double, 1), ctx.run("b", fail))
        except TerminalError as error:
            found.append(error.message)
        both = await asyncio.gather(ctx.run("c", double, 1), ctx.run("d", fail), return_exceptions=True)
        return [*found, *(str(each) for each in both)]

    async with world.run(work) as env:
        assert await env.call(run) == ["no", "2", "no"]


async def test_wait_gives_the_first_and_leaves_the_others(world: World) -> None:
    work = Service("Work")
    ids: list[str] = []

    @work.handler
    async def run(ctx: Context) -> list[str]:
        yes, no = ctx.awakeable(str), ctx.awakeable(str)
        ids[:] = [yes.id, no.id]
        done, pending = await asyncio.wait({yes, no}, return_when=asyncio.FIRST_COMPLETED)
        first = done.pop().result()
        await asyncio.wait(pending)
        return [first, pending.pop().result()]

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.idle()
        env.resolve_awakeable(ids[1], "no")
        await env.idle()
        env.resolve_awakeable(ids[0], "yes")
        assert await sent.result() == ["no", "yes"]


async def test_as_completed_gives_coroutines_in_the_order_in_which_they_end(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> list[int]:
        return [await each for each in asyncio.as_completed([slow_double(ctx, n) for n in (3, 1, 2)])]

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(MINUTE)
        assert await sent.result() == [2, 4, 6]


async def test_as_completed_gives_futures_in_the_order_in_which_they_end(world: World) -> None:
    work = Service("Work")
    ids: list[str] = []

    @work.handler
    async def run(ctx: Context) -> list[int]:
        waiting = [ctx.awakeable(int) for _ in range(3)]
        ids[:] = [each.id for each in waiting]
        return [await each for each in asyncio.as_completed(waiting)]

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.idle()
        for number in (2, 0, 1):
            env.resolve_awakeable(ids[number], number)
        assert await sent.result() == [2, 0, 1]


async def test_a_task_group_joins_its_tasks(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(slow_double(ctx, n)) for n in (2, 1)]
        return [task.result() for task in tasks]

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(MINUTE)
        assert await sent.result() == [4, 2]


async def test_a_failing_task_of_a_group_cancels_its_siblings_in_order(world: World) -> None:
    work = Service("Work")
    orders: set[str] = set()

    @work.handler
    async def run(ctx: Context) -> str:
        cancelled: list[str] = []

        async def wait(name: str) -> None:
            try:
                await ctx.sleep(MINUTE)
            except asyncio.CancelledError:
                cancelled.append(name)
                raise

        async def fail() -> None:
            await ctx.sleep(SECOND)
            raise TerminalError("group is off")

        try:
            async with asyncio.TaskGroup() as group:
                for name in "abcdef":
                    group.create_task(wait(name))
                group.create_task(fail())
        except* TerminalError as errors:
            cancelled.append(str(errors.exceptions[0]))
        orders.add("".join(cancelled))
        await ctx.sleep(SECOND)
        return "".join(cancelled)

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(2 * SECOND)
        result = await sent.result()
    assert sorted(result.removesuffix("group is off")) == list("abcdef")
    assert orders == {result}


async def test_the_terminal_error_of_a_group_ends_the_invocation(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> None:
        async def fail() -> None:
            await ctx.sleep(SECOND)
            raise TerminalError("no seat", code=410)

        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(SECOND)
        with pytest.raises(TerminalError, match="no seat") as caught:
            await sent.result()
        assert caught.value.code == 410


async def test_events_locks_semaphores_and_conditions_join_the_tasks_of_a_handler(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> list[str]:
        log: list[str] = []
        event, lock, two = asyncio.Event(), asyncio.Lock(), asyncio.Semaphore(2)
        condition = asyncio.Condition()

        async def use(name: str) -> None:
            await event.wait()
            async with two, lock:
                await ctx.sleep(SECOND)
                log.append(name)
            async with condition:
                condition.notify_all()

        tasks = [asyncio.create_task(use(name)) for name in "abc"]
        await ctx.sleep(SECOND)
        log.append("go")
        event.set()
        async with condition:
            await condition.wait_for(lambda: len(log) == 4)
        await asyncio.gather(*tasks)
        return log

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(MINUTE)
        assert await sent.result() == ["go", "a", "b", "c"]


async def test_a_queue_joins_producers_and_consumers(world: World) -> None:
    work = Service("Work")

    @work.handler
    async def run(ctx: Context) -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        taken: list[int] = []

        async def consume() -> None:
            while True:
                taken.append(await ctx.run("double", double, await queue.get()))
                queue.task_done()

        consumer = asyncio.create_task(consume())
        for number in range(4):
            await queue.put(number)
            await ctx.sleep(SECOND)
        await queue.join()
        consumer.cancel()
        return taken

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(MINUTE)
        assert await sent.result() == [0, 2, 4, 6]


async def test_context_variables_of_tasks_are_their_own(world: World) -> None:
    work = Service("Work")
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="outer")

    @work.handler
    async def run(ctx: Context) -> list[str]:
        async def inner() -> str:
            name.set("inner")
            await ctx.sleep(SECOND)
            return name.get()

        found = await asyncio.create_task(inner())
        return [found, name.get()]

    async with world.run(work) as env:
        sent = await env.send(run)
        await env.clock.advance(SECOND)
        assert await sent.result() == ["inner", "outer"]
    assert name.get() == "outer"
