import asyncio
from datetime import timedelta

import pytest

from streamstate import (
    CancelledError,
    Context,
    ObjectContext,
    ObjectSharedContext,
    RetryPolicy,
    Service,
    StateKey,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
)
from streamstate.errors import InputError, InvocationPausedError, NotFoundError, UsageError
from streamstate.storage import Status
from tests.engine.world import DAY, MINUTE, SECOND, World, failure_of, is_known, status_of

pytestmark = pytest.mark.timeout(10)

COUNT = StateKey[int]("count", default=0)


async def test_a_call_gives_the_typed_result_and_passes_headers(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> dict[str, str]:
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        count = await ctx.get(COUNT)
        return {"key": ctx.key, "count": str(count), **ctx.headers}

    @front.handler
    async def twice(ctx: Context, by: int) -> list[dict[str, str]]:
        first = await ctx.call(add, by, key="a", headers={"trace": "t1"})
        second = await ctx.call(add, by, key="a")
        return [first, second]

    async with world.run(counters, front) as env:
        assert await env.call(twice, 2) == [{"key": "a", "count": "2", "trace": "t1"}, {"key": "a", "count": "4"}]


async def test_a_call_by_name_needs_no_import_and_decodes_what_is_asked_for(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        return await ctx.get(COUNT)

    @front.handler
    async def work(ctx: Context) -> list[int]:
        called = await ctx.call_by_name("Counter", "add", 3, key="a", returns=int)
        attached = await ctx.send_by_name("Counter", "add", 4, key="a").attach()
        return [called, attached]

    async with world.run(counters, front) as env:
        assert await env.call(work) == [3, 7]


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


async def test_the_terminal_error_of_a_called_handler_reaches_its_caller(world: World) -> None:
    back, front = Service("Back"), Service("Front")

    @back.handler
    async def refuse(ctx: Context) -> None:
        raise TerminalError("sold out", code=410, metadata={"left": "0"})

    @front.handler
    async def work(ctx: Context) -> str:
        try:
            await ctx.call(refuse)
        except TerminalError as error:
            return f"{error.code} {error.message} {error.metadata}"
        return "sold"

    async with world.run(back, front) as env:
        assert await env.call(work) == "410 sold out {'left': '0'}"
        with pytest.raises(TerminalError, match="sold out") as caught:
            await env.call(refuse)
        assert caught.value.code == 410


async def test_a_call_waits_for_a_slow_handler_and_for_a_busy_key(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        await ctx.sleep(SECOND)
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        return await ctx.get(COUNT)

    @front.handler
    async def work(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*(ctx.call(add, by, key="a") for by in (1, 2, 3))))

    async with world.run(counters, front) as env:
        sent = await env.send(work)
        await env.clock.advance(3 * SECOND)
        assert await sent.result() == [1, 3, 6]


async def test_a_call_that_was_never_awaited_still_happens(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + 1)

    @front.handler
    async def work(ctx: Context) -> str:
        ctx.call(add, key="a")
        return "done"

    async with world.run(counters, front) as env:
        assert await env.call(work) == "done"
        await env.idle()
        assert await env.state(counters, "a").get(COUNT) == 1


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


async def test_one_idempotency_key_has_one_effect_and_one_result_even_after_completion(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        await ctx.sleep(SECOND)
        return await ctx.get(COUNT)

    async with world.run(counters) as env:
        first = await env.send(add, 5, key="a", idempotency_key="evt-1")
        second = await env.send(add, 5, key="a", idempotency_key="evt-1")
        assert (first.is_new, second.is_new) == (True, False)
        assert first.id == second.id
        await env.clock.advance(SECOND)
        assert [await first.result(), await second.result()] == [5, 5]
        assert await env.call(add, 5, key="a", idempotency_key="evt-1") == 5
        other = await env.send(add, 1, key="a", idempotency_key="evt-2")
        await env.clock.advance(SECOND)
        assert await other.result() == 6
    async with world.run(counters) as env:
        assert await env.call(add, 5, key="a", idempotency_key="evt-1") == 5
        assert await env.state(counters, "a").get(COUNT) == 6


async def test_calls_and_sends_of_handlers_share_an_idempotency_key(world: World) -> None:
    counters = VirtualObject("Counter")
    front = Service("Front")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        await ctx.sleep(SECOND)
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        return await ctx.get(COUNT)

    @front.handler
    async def work(ctx: Context) -> list[int]:
        one = ctx.call(add, 2, key="a", idempotency_key="k")
        two = ctx.call(add, 2, key="a", idempotency_key="k")
        three = ctx.send(add, 2, key="a", idempotency_key="k")
        results = [await one, await two, await three.attach()]
        return [*results, await ctx.call(add, 2, key="a", idempotency_key="k")]

    async with world.run(counters, front) as env:
        sent = await env.send(work)
        await env.clock.advance(SECOND)
        assert await sent.result() == [2, 2, 2, 2]
        assert await env.state(counters, "a").get(COUNT) == 2


async def test_a_workflow_runs_once_for_its_key(world: World) -> None:
    signup = Workflow("SignUp")
    front = Service("Front")
    runs: list[str] = []

    @signup.main
    async def run(ctx: WorkflowContext, user: str) -> str:
        runs.append(user)
        return f"welcome {user}"

    @front.handler
    async def again(ctx: Context) -> str:
        try:
            return await ctx.call(run, "ann", key="u1")
        except TerminalError as error:
            return f"{error.code} {await ctx.send(run, 'ann', key='u1').attach()}"

    async with world.run(signup, front) as env:
        assert await env.call(run, "ann", key="u1") == "welcome ann"
        with pytest.raises(TerminalError) as caught:
            await env.call(run, "ann", key="u1")
        assert caught.value.code == 409
        assert "u1" in caught.value.message
        second = await env.send(run, "bob", key="u1")
        assert not second.is_new
        assert await second.result() == "welcome ann"
        assert await env.call(again) == "409 welcome ann"
        assert await env.call(run, "cyd", key="u2") == "welcome cyd"
    assert runs == ["ann", "cyd"]


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


async def test_the_caller_of_a_handler_that_pauses_is_told_and_gets_the_result_after_resume(world: World) -> None:
    back, front = Service("Back", retry=RetryPolicy(attempts_max=1)), Service("Front")
    is_broken = True

    @back.handler
    async def work(ctx: Context) -> str:
        if is_broken:
            raise ValueError("not yet")
        return "done"

    @front.handler
    async def ask(ctx: Context) -> str:
        return await ctx.call(work)

    async with world.run(back, front) as env:
        sent = await env.send(ask)
        with pytest.raises(InvocationPausedError, match="not yet"):
            await sent.result()
        assert status_of(env, sent.id) is Status.SUSPENDED
        is_broken = False
        paused = [inv.id for inv in env.running.engine.core.live.values() if inv.row.status is Status.PAUSED]
        again = env.invocation(sent.id, str)
        env.invocation(paused[0]).resume()
        assert await again.result() == "done"
