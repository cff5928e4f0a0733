"""Sends, delayed ones among them, and what a handler does with what it sent."""

from datetime import timedelta

import pytest

from streamstate import (
    CancelledError,
    Context,
    ObjectContext,
    Service,
    StateKey,
    TerminalError,
    VirtualObject,
)
from streamstate.errors import NotFoundError
from streamstate.storage import Status
from tests.engine.world import DAY, MINUTE, SECOND, World, is_known, status_of

pytestmark = pytest.mark.timeout(10)


COUNT = StateKey[int]("count", default=0)


async def test_a_send_does_not_wait_and_an_attach_does(world: World) -> None:
    back, front = Service("Back"), Service("Front")
    log: list[str] = []

    @back.handler
    async def slow(ctx: Context, name: str) -> str:
        await ctx.sleep(SECOND)
        log.append(name)
        return name * 2

    @front.handler
    async def work(ctx: Context) -> str:
        sent = ctx.send(slow, "x")
        assert (await sent.id()).startswith("inv_")
        return await sent.attach()

    @front.handler
    async def throw(ctx: Context) -> str:
        return await ctx.send(slow, "y").id()

    async with world.run(back, front) as env:
        attached = await env.send(work)
        thrown = await env.call(throw)
        assert log == []
        assert is_known(env, thrown)
        await env.clock.advance(SECOND)
        assert await attached.result() == "xx"
    assert sorted(log) == ["x", "y"]


async def test_a_delayed_send_starts_when_its_delay_has_passed(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + 1)

    @front.handler
    async def later(ctx: Context) -> str:
        return await ctx.send(add, key="a", delay=timedelta(minutes=15)).id()

    async with world.run(counters, front) as env:
        sent = await env.call(later)
        direct = await env.send(add, key="b", delay=timedelta(minutes=15))
        assert status_of(env, sent) is Status.SCHEDULED
        assert status_of(env, direct.id) is Status.SCHEDULED
        await env.clock.advance(timedelta(minutes=14, seconds=59))
        assert await env.state(counters, "a").get(COUNT) == 0
        await env.clock.advance(SECOND)
        assert await env.state(counters, "a").get(COUNT) == 1
        assert await env.state(counters, "b").get(COUNT) == 1


async def test_a_delayed_send_takes_its_place_in_the_queue_when_it_is_due(world: World) -> None:
    logs = VirtualObject("Log")
    order: list[str] = []

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        await ctx.sleep(timedelta(seconds=10))
        order.append(text)

    async with world.run(logs) as env:
        await env.send(note, "late", key="a", delay=SECOND)
        await env.send(note, "first", key="a")
        await env.send(note, "second", key="a")
        await env.clock.advance(MINUTE)
    assert order == ["first", "second", "late"]


async def test_a_handler_cancels_what_it_sent_before_it_starts(world: World) -> None:
    back, front = Service("Back"), Service("Front")
    log: list[str] = []

    @back.handler
    async def remind(ctx: Context) -> None:
        log.append("reminded")

    @front.handler
    async def work(ctx: Context) -> str:
        reminder = ctx.send(remind, delay=MINUTE)
        await ctx.sleep(SECOND)
        reminder.cancel()
        try:
            await reminder.attach()
        except CancelledError as error:
            return f"{error.code}"
        return "it ran"

    async with world.run(back, front) as env:
        sent = await env.send(work)
        await env.clock.advance(SECOND)
        assert await sent.result() == "409"
        await env.clock.advance(MINUTE)
    assert log == []


async def test_a_handler_cancels_and_attaches_by_id(world: World) -> None:
    back, front = Service("Back"), Service("Front")

    @back.handler
    async def wait(ctx: Context) -> int:
        try:
            await ctx.sleep(DAY)
        except CancelledError:
            return 5
        return 0

    @front.handler
    async def stop(ctx: Context, invocation: str) -> int:
        other = ctx.invocation(invocation)
        other.cancel()
        result: int = await other.attach(int)
        return result

    async with world.run(back, front) as env:
        waiting = await env.send(wait)
        assert await env.call(stop, waiting.id) == 5
        assert await waiting.result() == 5


async def test_attaching_to_what_never_was_fails_with_404(world: World) -> None:
    front = Service("Front")

    @front.handler
    async def work(ctx: Context) -> str:
        try:
            await ctx.invocation("inv_nobody").attach()
        except TerminalError as error:
            return str(error.code)
        return "found"

    async with world.run(front) as env:
        assert await env.call(work) == "404"
        with pytest.raises(NotFoundError):
            await env.invocation("inv_nobody").result()
