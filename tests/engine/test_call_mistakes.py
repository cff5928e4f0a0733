"""Calls that cannot be right: told to the caller, and never retried."""

import pytest

from streamstate import (
    Context,
    ObjectContext,
    RetryPolicy,
    Service,
    VirtualObject,
)
from streamstate.errors import InputError, NotFoundError, UsageError
from tests.engine.world import World, failure_of

pytestmark = pytest.mark.timeout(10)


async def test_a_call_to_a_service_that_is_not_there_fails_with_404(world: World) -> None:
    front = Service("Front")

    @front.handler
    async def work(ctx: Context) -> str:
        try:
            await ctx.call_by_name("Nobody", "home", returns=int)
        except NotFoundError as error:
            return f"{error.code} {error.message}"
        return "called"

    async with world.run(front) as env:
        answer = await env.call(work)
    assert answer.startswith("404")
    assert "Nobody" in answer


async def test_a_payload_that_does_not_fit_is_refused_with_400_and_never_retried(world: World) -> None:
    back, front = Service("Back"), Service("Front")

    @back.handler
    async def take(ctx: Context, number: int) -> int:
        return number

    @front.handler
    async def give(ctx: Context) -> str:
        try:
            await ctx.call_by_name("Back", "take", "seven", returns=int)
        except InputError as error:
            return f"{error.code} {error.message}"
        return "taken"

    async with world.run(back, front) as env:
        answer = await env.call(give)
    assert answer.startswith("400")
    assert "Back" in answer
    assert "take" in answer


async def test_a_client_that_forgets_the_key_or_the_payload_is_told(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        return by

    async with world.run(counters) as env:
        with pytest.raises(UsageError, match="key="):
            await env.call(add, 1)  # type: ignore[call-overload]  # the mistake that the test is about
        with pytest.raises(UsageError, match="payload"):
            await env.call(add, key="a")  # type: ignore[arg-type]  # likewise


async def test_a_handler_that_forgets_the_key_is_told_at_its_line(world: World) -> None:
    counters = VirtualObject("Counter", retry=RetryPolicy(attempts_max=1))

    @counters.handler
    async def add(ctx: ObjectContext) -> None:
        ctx.send(add)  # type: ignore[call-overload]  # the mistake that the test is about

    async with world.run(counters) as env:
        sent = await env.send(add, key="a")
        await env.idle()
        assert "key=" in failure_of(env, sent.id)


async def test_a_handler_of_another_program_is_not_found(world: World) -> None:
    known, unknown = Service("Known"), Service("Unknown")

    @known.handler
    async def here(ctx: Context) -> None: ...

    @unknown.handler
    async def there(ctx: Context) -> None: ...

    async with world.run(known) as env:
        with pytest.raises(NotFoundError, match="Unknown"):
            await env.call(there)
