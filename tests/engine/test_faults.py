"""What a handler must not do pauses its invocation at once, with the line and the remedy."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from streamstate import App, Context, ObjectContext, RetryPolicy, Service, VirtualObject
from streamstate.errors import InvocationPausedError, UsageError
from streamstate.storage import Status
from tests.engine.world import MINUTE, SECOND, World, failure_of, row_of, status_of

pytestmark = pytest.mark.timeout(10)

outside: list[asyncio.Future[None]] = []


async def open_connection(ctx: Context) -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def in_a_thread(ctx: Context) -> None:
    await asyncio.to_thread(int)


async def in_an_executor(ctx: Context) -> None:
    await asyncio.get_running_loop().run_in_executor(None, int)


async def future_of_another_loop(ctx: Context) -> None:
    await outside[-1]


async def event_that_nobody_sets(ctx: Context) -> None:
    await asyncio.Event().wait()


async def future_of_its_own(ctx: Context) -> None:
    await asyncio.get_running_loop().create_future()


async def subprocess(ctx: Context) -> None:
    await asyncio.create_subprocess_exec("true")


async def look_up(ctx: Context) -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


async def caught(ctx: Context) -> None:
    try:
        await asyncio.to_thread(int)
    except Exception:  # noqa: BLE001 - a handler that swallows everything must not hide the fault
        await ctx.sleep(SECOND)


async def after_a_sleep(ctx: Context) -> None:
    await ctx.sleep(SECOND)
    await asyncio.to_thread(int)


async def event_after_a_step(ctx: Context) -> None:
    await ctx.run("a", int)
    await asyncio.Event().wait()


FOREIGN = [
    open_connection,
    in_a_thread,
    in_an_executor,
    future_of_another_loop,
    event_that_nobody_sets,
    future_of_its_own,
    subprocess,
    look_up,
    caught,
    after_a_sleep,
    event_after_a_step,
]


@pytest.mark.parametrize("function", FOREIGN, ids=lambda function: function.__name__)
async def test_awaiting_the_outside_world_pauses_at_once_with_line_and_remedy(
    world: World, function: Callable[[Context], Coroutine[Any, Any, None]]
) -> None:
    odd = Service("Odd")
    handler = odd.handler(function)
    outside.append(asyncio.get_running_loop().create_future())
    async with world.run(odd) as env:
        sent = await env.send(handler)
        await env.idle()
        await env.clock.advance(SECOND)
        with pytest.raises(InvocationPausedError, match="resume"):
            await sent.result()
        assert status_of(env, sent.id) is Status.PAUSED
        message = failure_of(env, sent.id)
    assert "ForeignAwaitError" in message
    assert "ctx.run" in message
    line = re.search(r"test_faults\.py:(\d+)", message)
    assert line is not None, message
    code = function.__code__
    assert code.co_firstlineno < int(line[1]) <= max(last for _, _, last in code.co_lines() if last)


async def test_a_foreign_await_in_a_task_of_the_handler_pauses_too(world: World) -> None:
    odd = Service("Odd")

    @odd.handler
    async def work(ctx: Context) -> None:
        async def inner() -> None:
            await asyncio.to_thread(int)

        await asyncio.gather(ctx.sleep(SECOND), inner())

    async with world.run(odd) as env:
        sent = await env.send(work)
        await env.idle()
        assert status_of(env, sent.id) is Status.PAUSED
        assert "ctx.run" in failure_of(env, sent.id)


async def test_a_task_that_waits_for_a_future_of_another_loop_pauses_too(world: World) -> None:
    odd = Service("Odd")
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @odd.handler
    async def work(ctx: Context) -> None:
        async def inner() -> None:
            await future

        async with asyncio.TaskGroup() as group:
            group.create_task(inner())

    async with world.run(odd) as env:
        sent = await env.send(work)
        await env.idle()
        assert status_of(env, sent.id) is Status.PAUSED
        assert "ctx.run" in failure_of(env, sent.id)


async def test_a_handler_that_spins_is_stopped_and_named(world: World) -> None:
    odd = Service("Odd")

    @odd.handler
    async def spin(ctx: Context) -> None:
        while True:  # noqa: ASYNC110  # the spinning is the point
            await asyncio.sleep(0)

    async with world.run(odd) as env:
        sent = await env.send(spin)
        await env.idle()
        assert status_of(env, sent.id) is Status.PAUSED
        message = failure_of(env, sent.id)
    assert "RunawayTurnError" in message
    assert "test_faults.py:" in message


async def test_a_handler_that_writes_for_ever_is_stopped_and_leaves_nothing(world: World) -> None:
    odd = VirtualObject("Odd")

    @odd.handler
    async def write(ctx: ObjectContext) -> None:
        while True:
            ctx.set("n", 1)

    async with world.run(odd) as env:
        sent = await env.send(write, key="a")
        await env.idle()
        assert status_of(env, sent.id) is Status.PAUSED
        assert "RunawayTurnError" in failure_of(env, sent.id)
        assert await env.state(odd, "a").all() == {}


async def test_a_fault_does_not_hold_back_other_invocations(world: World) -> None:
    odd = VirtualObject("Odd")

    @odd.handler
    async def work(ctx: ObjectContext) -> str:
        if ctx.key == "bad":
            await asyncio.to_thread(int)
        return ctx.key

    async with world.run(odd) as env:
        await env.send(work, key="bad")
        assert await env.call(work, key="good") == "good"


async def test_code_that_no_longer_fits_its_journal_pauses_with_both_lines_and_old_code_goes_on(world: World) -> None:
    def program(step: str) -> Service:
        shop = Service("Shop")

        if step == "charge":

            @shop.handler
            async def order(ctx: Context) -> str:
                await ctx.run("charge", int)
                await ctx.sleep(SECOND)
                return "charged"

        else:

            @shop.handler(name="order")
            async def reordered(ctx: Context) -> str:
                await ctx.run("reserve", int)
                await ctx.sleep(SECOND)
                return "reserved"

        return shop

    old = program("charge")
    async with world.run(old) as env:
        handler = App([old], name="look").program.handler("Shop", "order")
        invocation, _, _ = await env.running.engine.submit(handler, "", b"")
        await env.idle()
    async with world.run(program("reserve")) as env:
        await env.clock.advance(SECOND)
        assert status_of(env, invocation) is Status.PAUSED
        message = failure_of(env, invocation)
        assert "JournalMismatchError" in message
        assert "command 0" in message
        shown = r"(?:recorded|attempted):\s+run '(\w+)'.* at (\S+test_faults\.py:\d+)"
        recorded, attempted = re.findall(shown, message)
        assert (recorded[0], attempted[0]) == ("charge", "reserve")
        assert int(recorded[1].rpartition(":")[2]) < int(attempted[1].rpartition(":")[2])
    async with world.run(program("charge")) as env:
        env.invocation(invocation).resume()
        assert await env.invocation(invocation, str).result() == "charged"


async def test_a_handler_that_ends_sooner_than_its_journal_pauses(world: World) -> None:
    is_short = False
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> str:
        if not is_short:
            await ctx.run("charge", int)
            await ctx.sleep(SECOND)
        return "done"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
    is_short = True
    async with world.run(shop) as env:
        await env.clock.advance(SECOND)
        assert status_of(env, sent.id) is Status.PAUSED
        assert "charge" in failure_of(env, sent.id)


async def test_an_attempt_that_fails_is_repeated_with_backoff_and_then_paused(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=SECOND, attempts_max=3))
    attempts: list[float] = []
    started = world.clock.now()

    @shop.handler
    async def order(ctx: Context) -> str:
        attempts.append((world.clock.now() - started) / SECOND)
        if len(attempts) < 4:
            raise ValueError(f"attempt {len(attempts)}")
        return "done"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert status_of(env, sent.id) is Status.BACKING_OFF
        await env.clock.advance(MINUTE)
        assert attempts == [0, 1, 3]
        assert status_of(env, sent.id) is Status.PAUSED
        assert "attempt 3" in failure_of(env, sent.id)
        assert row_of(env, sent.id).attempt == 3
        sent.resume()
        assert await env.invocation(sent.id, str).result() == "done"


async def test_resume_of_a_backing_off_invocation_does_not_wait_for_the_pause(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=MINUTE))
    attempts: list[int] = []

    @shop.handler
    async def order(ctx: Context) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("once")
        return "done"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        sent.resume()
        assert await sent.result() == "done"
        await env.clock.advance(2 * MINUTE)
    assert len(attempts) == 2


async def test_a_finally_block_that_uses_a_verb_survives_that_its_handler_leaves_memory(world: World) -> None:
    shop = Service("Shop")
    ids: list[str] = []
    log: list[str] = []

    def note(text: str) -> None:
        log.append(text)

    @shop.handler
    async def order(ctx: Context) -> int:
        try:
            answer = ctx.awakeable(int)
            ids.append(answer.id)
            return await answer
        finally:
            ctx.log.info("leaving")
            await ctx.run("clean up", note, "cleaned")

    async with world.run(shop) as env:
        sent = await env.send(order)
        killed = await env.send(order)
        await env.idle()
        assert killed.kill()
        await env.idle()
    async with world.run(shop) as env:
        again = env.invocation(sent.id, int)
        assert env.resolve_awakeable(ids[0], 3)
        assert await again.result() == 3
    assert log == ["cleaned"]


NOT_UNICODE = "file-\udcff"


async def test_text_that_is_not_unicode_is_refused_before_it_can_fail_a_commit(world: World) -> None:
    notes = VirtualObject("Notes")
    refused: list[str] = []

    @notes.handler
    async def note(ctx: ObjectContext) -> None:
        async def act() -> None: ...

        verbs: list[Callable[[], object]] = [
            lambda: ctx.set(NOT_UNICODE, 1),
            lambda: ctx.clear(NOT_UNICODE),
            lambda: ctx.run(NOT_UNICODE, act),
            lambda: ctx.call(note, key=NOT_UNICODE),
            lambda: ctx.send(note, key="other", idempotency_key=NOT_UNICODE),
            lambda: ctx.send(note, key="other", headers={"name": NOT_UNICODE}),
            lambda: ctx.signal(NOT_UNICODE, int),
        ]
        for verb in verbs:
            try:
                verb()
            except UsageError as error:
                refused.append(str(error))

    async with world.run(notes) as env:
        await env.call(note, key="a")
        assert len(refused) == 7
        assert all("is not Unicode text" in text for text in refused)
        with pytest.raises(UsageError, match="the key"):
            await env.call(note, key=NOT_UNICODE)
        with pytest.raises(UsageError, match="idempotency key"):
            await env.send(note, key="a", idempotency_key=NOT_UNICODE)
