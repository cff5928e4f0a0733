"""Cancellation of what consists of parts: calls, sends, sagas, tasks."""

import asyncio

import pytest

from streamstate import CancelledError, Context, Service, TerminalError
from tests.engine.world import DAY, SECOND, World

pytestmark = pytest.mark.timeout(10)


async def test_a_called_handler_is_cancelled_first_and_its_caller_hears_of_it_once(world: World) -> None:
    back, front = Service("Back"), Service("Front")
    log: list[str] = []

    def note(text: str) -> None:
        log.append(text)

    @back.handler
    async def work(ctx: Context) -> None:
        try:
            await ctx.sleep(DAY)
        except CancelledError:
            await ctx.run("undo", note, "child undone")
            raise

    @front.handler
    async def ask(ctx: Context) -> str:
        try:
            await ctx.call(work)
        except TerminalError as error:
            await ctx.run("undo", note, "parent undone")
            await ctx.sleep(SECOND)
            return type(error).__name__
        return "done"

    async with world.run(back, front) as env:
        sent = await env.send(ask)
        await env.idle()
        assert sent.cancel()
        await env.clock.advance(SECOND)
        assert await sent.result() == "CancelledError"
    assert log == ["child undone", "parent undone"]


async def test_a_called_handler_that_swallows_its_cancellation_leaves_it_to_the_caller(world: World) -> None:
    back, front = Service("Back"), Service("Front")

    @back.handler
    async def work(ctx: Context) -> str:
        try:
            await ctx.sleep(DAY)
        except CancelledError:
            return "finished anyway"
        return "slept"

    @front.handler
    async def ask(ctx: Context) -> str:
        answer = await ctx.call(work)
        try:
            await ctx.sleep(DAY)
        except CancelledError:
            return f"cancelled after: {answer}"
        return answer

    async with world.run(back, front) as env:
        sent = await env.send(ask)
        await env.idle()
        sent.cancel()
        assert await sent.result() == "cancelled after: finished anyway"


async def test_what_was_sent_is_not_cancelled_with_its_sender(world: World) -> None:
    back, front = Service("Back"), Service("Front")

    @back.handler
    async def work(ctx: Context) -> str:
        await ctx.sleep(SECOND)
        return "done"

    @front.handler
    async def ask(ctx: Context) -> str:
        return await ctx.send(work, idempotency_key="w").attach()

    async with world.run(back, front) as env:
        sent = await env.send(ask)
        await env.idle()
        sent.cancel()
        with pytest.raises(CancelledError):
            await sent.result()
        await env.clock.advance(SECOND)
        assert await env.call(work, idempotency_key="w") == "done"


async def test_a_saga_undoes_what_it_did_in_reverse(world: World) -> None:
    trips = Service("Trips")
    log: list[str] = []

    def note(text: str) -> None:
        log.append(text)

    @trips.handler
    async def book(ctx: Context) -> None:
        undo: list[str] = []
        try:
            for part in ("flight", "car"):
                undo.append(part)
                await ctx.run(f"book {part}", note, f"book {part}")
            await ctx.awakeable(bool)
        except TerminalError:
            for part in reversed(undo):
                await ctx.run(f"cancel {part}", note, f"cancel {part}")
            raise

    async with world.run(trips) as env:
        sent = await env.send(book)
        await env.idle()
        sent.cancel()
        with pytest.raises(CancelledError):
            await sent.result()
    assert log == ["book flight", "book car", "cancel car", "cancel flight"]


async def test_a_cancellation_reaches_the_tasks_of_a_gather(world: World) -> None:
    trips = Service("Trips")

    @trips.handler
    async def book(ctx: Context) -> list[str]:
        log: list[str] = []

        async def one(name: str) -> None:
            try:
                await ctx.sleep(DAY)
            except CancelledError:
                log.append(name)
                raise

        try:
            await asyncio.gather(one("a"), one("b"))
        except CancelledError:
            log.append("all")
        return log

    async with world.run(trips) as env:
        sent = await env.send(book)
        await env.idle()
        sent.cancel()
        assert sorted(await sent.result()) == ["a", "all", "b"]


async def test_a_cancellation_reaches_a_task_group(world: World) -> None:
    trips = Service("Trips")

    @trips.handler
    async def book(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(asyncio.sleep(600))

    async with world.run(trips) as env:
        sent = await env.send(book)
        await env.idle()
        sent.cancel()
        with pytest.raises(TerminalError) as caught:
            await sent.result()
        assert caught.value.code == 409
