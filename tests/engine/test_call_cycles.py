"""Calls that would wait for ever are found and named; those that would not are left alone."""

import pytest

from streamstate import (
    ObjectContext,
    ObjectSharedContext,
    StateKey,
    TerminalError,
    VirtualObject,
)
from tests.engine.world import SECOND, World

pytestmark = pytest.mark.timeout(10)


COUNT = StateKey[int]("count", default=0)


async def test_a_call_to_the_callers_own_key_is_found_and_named(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def inner(ctx: ObjectContext) -> int:
        return 1

    @counters.handler
    async def outer(ctx: ObjectContext) -> str:
        try:
            await ctx.call(inner, key="a")
        except TerminalError as error:
            return f"{type(error).__name__} {error.code} {error.message}"
        return "no cycle"

    async with world.run(counters) as env:
        sent = await env.send(outer, key="a")
        await env.idle()
        message = await sent.result()
    assert message.startswith("CallCycleError 409")
    assert "Counter/a.outer" in message


async def test_a_cycle_over_two_objects_is_found(world: World) -> None:
    ping, pong = VirtualObject("Ping"), VirtualObject("Pong")

    @pong.handler
    async def back(ctx: ObjectContext) -> str:
        try:
            await ctx.call_by_name("Ping", "start", key="p", returns=str)
        except TerminalError as error:
            return error.message
        return "no cycle"

    @ping.handler
    async def start(ctx: ObjectContext) -> str:
        return await ctx.call(back, key="q")

    async with world.run(ping, pong) as env:
        sent = await env.send(start, key="p")
        await env.idle()
        message = await sent.result()
    assert "Ping/p.start" in message
    assert "Pong/q.back" in message


async def test_two_callers_that_wait_for_each_others_key_are_found(world: World) -> None:
    accounts = VirtualObject("Account")

    @accounts.handler
    async def touch(ctx: ObjectContext) -> str:
        return "touched"

    @accounts.handler
    async def move(ctx: ObjectContext, other: str) -> str:
        await ctx.sleep(SECOND)
        try:
            return await ctx.call(touch, key=other)
        except TerminalError as error:
            return type(error).__name__

    async with world.run(accounts) as env:
        one = await env.send(move, "b", key="a")
        two = await env.send(move, "a", key="b")
        await env.clock.advance(SECOND)
        await env.idle()
        assert {await one.result(), await two.result()} == {"touched", "CallCycleError"}


async def test_a_chain_of_calls_without_a_cycle_is_left_alone(world: World) -> None:
    accounts = VirtualObject("Account")

    @accounts.shared
    async def look(ctx: ObjectSharedContext) -> int:
        return await ctx.get(COUNT)

    @accounts.handler
    async def work(ctx: ObjectContext) -> int:
        ctx.set(COUNT, 3)
        return await ctx.call(look, key=ctx.key)

    async with world.run(accounts) as env:
        assert await env.call(work, key="a") == 3
