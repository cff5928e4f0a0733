import asyncio
import threading
from datetime import timedelta

import msgspec
import pytest

from streamstate import Context, RetryableError, RetryPolicy, Service, Step, TerminalError
from streamstate.storage import Status
from tests.engine.world import MINUTE, SECOND, World, failure_of, status_of

pytestmark = pytest.mark.timeout(10)


class Receipt(msgspec.Struct):
    number: int


async def test_a_step_runs_once_however_often_its_handler_is_replayed(world: World) -> None:
    shop = Service("Shop")
    runs: list[str] = []

    @shop.handler
    async def order(ctx: Context, item: str) -> list[int]:
        async def charge(what: str) -> int:
            runs.append(what)
            return len(what)

        first = await ctx.run("first", charge, item)
        await ctx.sleep(SECOND)
        second = await ctx.run("second", charge, item + item)
        return [first, second]

    async with world.run(shop) as env:
        sent = await env.send(order, "tea")
        await env.clock.advance(SECOND)
        assert await sent.result() == [3, 6]
    assert runs == ["tea", "teatea"]


async def test_async_steps_run_on_the_loop_of_the_application_and_sync_ones_in_threads(world: World) -> None:
    shop = Service("Shop")
    seen: dict[str, bool] = {}
    outer = asyncio.get_running_loop()
    main = threading.get_ident()

    @shop.handler
    async def order(ctx: Context) -> None:
        async def on_loop() -> None:
            seen["loop"] = asyncio.get_running_loop() is outer

        def in_thread() -> None:
            seen["thread"] = threading.get_ident() != main

        await ctx.run("a", on_loop)
        await ctx.run("b", in_thread)

    async with world.run(shop) as env:
        await env.call(order)
    assert seen == {"loop": True, "thread": True}


async def test_a_live_result_is_what_a_replay_would_give(world: World) -> None:
    shop = Service("Shop")
    types: set[str] = set()

    @shop.handler
    async def order(ctx: Context) -> None:
        def typed() -> Receipt:
            return Receipt(7)

        def untyped():  # type: ignore[no-untyped-def]  # what a user without annotations writes
            return (1, 2)

        receipt = await ctx.run("typed", typed)
        pair = await ctx.run("untyped", untyped)
        types.add(f"{type(receipt).__name__} {type(pair).__name__}")
        assert receipt == Receipt(7)
        await ctx.sleep(SECOND)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.clock.advance(SECOND)
        await sent.result()
    assert types == {"Receipt list"}


async def test_a_step_that_fails_is_tried_again_after_the_pause_of_the_handlers_policy(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=SECOND, factor=2.0))
    moments: list[float] = []
    started = world.clock.now()

    @shop.handler
    async def order(ctx: Context) -> str:
        async def flaky() -> str:
            moments.append((world.clock.now() - started).total_seconds())
            if len(moments) < 4:
                raise ConnectionError("no route")
            return "charged"

        return await ctx.run("charge", flaky)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert status_of(env, sent.id) is Status.BACKING_OFF
        assert "no route" in failure_of(env, sent.id)
        await env.clock.advance(MINUTE)
        assert await sent.result() == "charged"
    assert moments == [0, 1, 3, 7]


async def test_a_step_whose_own_policy_is_spent_fails_with_a_terminal_error(world: World) -> None:
    shop = Service("Shop")
    attempts: list[int] = []

    @shop.handler
    async def order(ctx: Context) -> str:
        def charge() -> str:
            attempts.append(1)
            raise ValueError("card is odd")

        try:
            return await ctx.run(Step("charge", retry=RetryPolicy(attempts_max=3)), charge)
        except TerminalError as error:
            return error.message

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.clock.advance(MINUTE)
        message = await sent.result()
    assert "charge" in message
    assert "card is odd" in message
    assert len(attempts) == 3


async def test_a_step_whose_handlers_policy_is_spent_pauses_the_invocation_and_resume_tries_again(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=2))
    attempts: list[int] = []
    is_down = True

    @shop.handler
    async def order(ctx: Context) -> int:
        def charge() -> int:
            attempts.append(1)
            if is_down:
                raise ValueError("bank is down")
            return 5

        return await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.clock.advance(MINUTE)
        assert status_of(env, sent.id) is Status.PAUSED
        assert "bank is down" in failure_of(env, sent.id)
        assert len(attempts) == 2
        is_down = False
        sent.resume()
        assert await env.invocation(sent.id, int).result() == 5


async def test_a_terminal_error_of_a_step_is_not_tried_again_and_can_be_caught(world: World) -> None:
    shop = Service("Shop")
    attempts: list[int] = []

    @shop.handler
    async def order(ctx: Context) -> str:
        async def charge() -> None:
            attempts.append(1)
            raise TerminalError("no money", code=402, metadata={"bank": "north"})

        try:
            await ctx.run("charge", charge)
        except TerminalError as error:
            return f"{error.code} {error.message} {error.metadata}"
        return "charged"

    async with world.run(shop) as env:
        assert await env.call(order) == "402 no money {'bank': 'north'}"
    assert len(attempts) == 1


async def test_retry_after_of_a_retryable_error_is_waited_for(world: World) -> None:
    shop = Service("Shop")
    attempts: list[int] = []

    @shop.handler
    async def order(ctx: Context) -> int:
        async def charge() -> int:
            attempts.append(1)
            if len(attempts) == 1:
                raise RetryableError("closed", retry_after=timedelta(minutes=10))
            return 1

        return await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.clock.advance(timedelta(minutes=9))
        assert len(attempts) == 1
        await env.clock.advance(MINUTE)
        assert await sent.result() == 1


async def test_a_timeout_inside_an_action_is_an_ordinary_failure_of_its_step(world: World) -> None:
    shop = Service("Shop")
    attempts: list[int] = []

    @shop.handler
    async def order(ctx: Context) -> int:
        async def charge() -> int:
            attempts.append(1)
            if len(attempts) == 1:
                raise TimeoutError("bank is slow")
            return 1

        return await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.clock.advance(SECOND)
        assert await sent.result() == 1
    assert len(attempts) == 2


async def test_a_step_that_was_never_awaited_is_joined_before_the_result(world: World) -> None:
    shop = Service("Shop")
    started, gate = asyncio.Event(), asyncio.Event()
    log: list[str] = []

    @shop.handler
    async def order(ctx: Context) -> str:
        async def notify() -> None:
            started.set()
            await gate.wait()
            log.append("notified")

        ctx.run("notify", notify)
        return "done"

    async with world.run(shop) as env:
        sent = await env.send(order)
        result = asyncio.create_task(sent.result())
        await started.wait()
        await asyncio.sleep(0)
        assert not result.done()
        gate.set()
        assert await result == "done"
    assert log == ["notified"]


async def test_a_step_that_was_never_awaited_and_fails_for_good_does_not_change_the_result(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> str:
        def notify() -> None:
            raise TerminalError("no such phone")

        ctx.run("notify", notify)
        return "done"

    async with world.run(shop) as env:
        assert await env.call(order) == "done"


async def test_a_handler_that_fails_for_good_while_a_step_runs_ends_after_the_step(world: World) -> None:
    shop = Service("Shop")
    started, gate = asyncio.Event(), asyncio.Event()
    log: list[str] = []

    @shop.handler
    async def order(ctx: Context) -> str:
        async def slow() -> None:
            started.set()
            await gate.wait()
            log.append("slow")

        async def quick() -> None:
            await started.wait()
            raise TerminalError("no")

        await asyncio.gather(ctx.run("slow", slow), ctx.run("quick", quick))
        return "done"

    async with world.run(shop) as env:
        sent = await env.send(order)
        result = asyncio.create_task(sent.result())
        await started.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not result.done()
        gate.set()
        with pytest.raises(TerminalError, match="no"):
            await result
    assert log == ["slow"]


async def test_a_value_of_ten_megabytes_passes_through_arguments_steps_and_results(world: World) -> None:
    shop = Service("Shop")
    size = 10 * 1024 * 1024

    @shop.handler
    async def double(ctx: Context, data: bytes) -> bytes:
        def copy() -> bytes:
            return bytes(reversed(data))

        copied = await ctx.run("copy", copy)
        await ctx.sleep(SECOND)
        return copied + data[:1]

    async with world.run(shop) as env:
        sent = await env.send(double, b"a" * (size - 1) + b"z")
        await env.clock.advance(SECOND)
        result = await sent.result()
    assert len(result) == size + 1
    assert result[:1] == b"z"


async def test_running_the_result_of_a_function_instead_of_the_function_is_refused(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))

    @shop.handler
    async def order(ctx: Context) -> None:
        await ctx.run("charge", 5)  # type: ignore[call-overload]  # the mistake that the test is about

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert "ctx.run(name, action, argument)" in failure_of(env, sent.id)
