"""A program that stops, and goes on from what is stored."""

import asyncio
from datetime import timedelta

import pytest

from streamstate import (
    App,
    CancelledError,
    Context,
    EngineOptions,
    ObjectContext,
    RetryPolicy,
    Service,
    StateKey,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from streamstate.errors import InvocationPausedError, Unavailable
from streamstate.storage import MemoryStore, Status
from tests.engine.world import DAY, MINUTE, SECOND, World, failure_of, is_known, status_of

pytestmark = pytest.mark.timeout(10)

COUNT = StateKey[int]("count", default=0)


async def test_a_sleep_goes_on_after_a_restart_and_its_steps_are_not_run_again(world: World) -> None:
    shop = Service("Shop")
    runs: list[str] = []

    @shop.handler
    async def order(ctx: Context, item: str) -> str:
        def note(text: str) -> str:
            runs.append(text)
            return text.upper()

        first = await ctx.run("first", note, item)
        await ctx.sleep(MINUTE)
        return first + await ctx.run("second", note, "b")

    async with world.run(shop) as env:
        sent = await env.send(order, "a")
        await env.idle()
    async with world.run(shop) as env:
        await env.clock.advance(59 * SECOND)
        assert runs == ["a"]
        again = env.invocation(sent.id, str)
        await env.clock.advance(SECOND)
        assert await again.result() == "AB"
    assert runs == ["a", "b"]


async def test_a_timer_that_came_due_while_nothing_ran_fires_at_the_start(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> str:
        await ctx.sleep(MINUTE)
        return "done"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
    world.clock.skip(DAY)
    async with world.run(shop) as env:
        assert await env.invocation(sent.id, str).result() == "done"


async def test_an_awakeable_is_resolved_after_a_restart(world: World) -> None:
    shop = Service("Shop")
    ids: list[str] = []

    @shop.handler
    async def order(ctx: Context) -> int:
        answer = ctx.awakeable(int)
        ids.append(answer.id)
        return await answer

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
    async with world.run(shop) as env:
        again = env.invocation(sent.id, int)
        assert env.resolve_awakeable(ids[0], 4)
        assert await again.result() == 4


async def test_what_arrived_but_was_not_seen_is_seen_after_a_restart(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))
    ids: list[str] = []
    is_broken = True

    @shop.handler
    async def order(ctx: Context) -> list[int]:
        one, two = ctx.awakeable(int), ctx.awakeable(int)
        ids[:] = [one.id, two.id]
        first = await one
        if is_broken:
            raise ValueError("broken")
        return [first, await two]

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        env.resolve_awakeable(ids[0], 1)
        await env.idle()
        assert status_of(env, sent.id) is Status.PAUSED
        env.resolve_awakeable(ids[1], 2)
        await env.idle()
    is_broken = False
    async with world.run(shop) as env:
        env.invocation(sent.id).resume()
        assert await env.invocation(sent.id, list[int]).result() == [1, 2]


async def test_a_step_in_backoff_is_tried_again_after_a_restart_and_keeps_its_count(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=SECOND, attempts_max=3))
    attempts: list[int] = []

    @shop.handler
    async def order(ctx: Context) -> None:
        def charge() -> None:
            attempts.append(1)
            raise ConnectionError("bank is down")

        await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert status_of(env, sent.id) is Status.BACKING_OFF
    async with world.run(shop) as env:
        await env.idle()
        assert len(attempts) == 1
        await env.clock.advance(SECOND)
        assert len(attempts) == 2
    async with world.run(shop) as env:
        await env.clock.advance(DAY)
        assert len(attempts) == 3
        assert status_of(env, sent.id) is Status.PAUSED


async def test_a_step_that_runs_again_is_under_way_also_when_something_else_arrives(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=SECOND))
    attempts: list[int] = []
    runs_again, may_end = asyncio.Event(), asyncio.Event()
    ids: list[str] = []

    @shop.handler
    async def order(ctx: Context) -> None:
        async def charge() -> None:
            attempts.append(1)
            if len(attempts) == 1:
                raise ConnectionError("bank is down")
            runs_again.set()
            await may_end.wait()

        charged = ctx.run("charge", charge)
        approved = ctx.awakeable(bool)
        ids.append(approved.id)
        await approved
        await charged

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        env.clock.skip(SECOND)
        await runs_again.wait()
        env.resolve_awakeable(ids[0], True)
        await env.running.engine.durable()
        stored = env.running.engine.store.invocations.get(sent.id)
        assert stored is not None
        assert stored.status is Status.RUNNING, "a start after a crash must find it"
        may_end.set()
        await sent.result()
        assert len(attempts) == 2


async def test_a_handler_in_backoff_is_tried_again_after_a_restart(world: World) -> None:
    logs = VirtualObject("Log", retry=RetryPolicy(initial=MINUTE))
    failures = [1]

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> str:
        if failures:
            failures.pop()
            raise ValueError("once")
        ctx.set("log", [*(await ctx.get("log") or []), text])
        return text

    async with world.run(logs) as env:
        sent = await env.send(note, "a", key="k")
        await env.send(note, "b", key="k")
        await env.idle()
    async with world.run(logs) as env:
        await env.idle()
        assert status_of(env, sent.id) is Status.BACKING_OFF
        await env.clock.advance(MINUTE)
        assert await env.state(logs, "k").get("log") == ["a", "b"]


async def test_the_queue_of_a_busy_key_goes_on_in_order_after_a_restart(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        await ctx.sleep(SECOND)
        ctx.set("log", [*(await ctx.get("log") or []), text])

    async with world.run(logs) as env:
        for text in "abc":
            await env.send(note, text, key="k")
        await env.idle()
    async with world.run(logs) as env:
        await env.send(note, "d", key="k")
        await env.clock.advance(10 * SECOND)
        assert await env.state(logs, "k").get("log") == list("abcd")
        assert not env.running.engine.core.live


async def test_a_delayed_send_starts_after_a_restart(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        ctx.set("log", [*(await ctx.get("log") or []), text])

    async with world.run(logs) as env:
        await env.send(note, "late", key="k", delay=MINUTE)
    async with world.run(logs) as env:
        await env.idle()
        assert await env.state(logs, "k").get("log") is None
        await env.clock.advance(MINUTE)
        assert await env.state(logs, "k").get("log") == ["late"]
    async with world.run(logs) as env:
        await env.clock.advance(MINUTE)
        assert await env.state(logs, "k").get("log") == ["late"]


async def test_a_paused_invocation_stays_paused_and_is_resumed_on_new_code(world: World) -> None:
    def program(answer: str) -> tuple[VirtualObject, object]:
        logs = VirtualObject("Log", retry=RetryPolicy(attempts_max=1))

        @logs.handler
        async def note(ctx: ObjectContext) -> str:
            if not answer:
                raise ValueError("no answer yet")
            ctx.set("answer", answer)
            return answer

        @logs.handler
        async def look(ctx: ObjectContext) -> object:
            return await ctx.get("answer")

        return logs, (note, look)

    old, _ = program("")
    async with world.run(old) as env:
        spec = env.app.program.handler("Log", "note")
        invocation, _, _ = await env.running.engine.submit(spec, "k", b"")
        waiting, _, _ = await env.running.engine.submit(env.app.program.handler("Log", "look"), "k", b"")
        await env.idle()
    new, _ = program("42")
    async with world.run(new) as env:
        await env.clock.advance(DAY)
        assert status_of(env, invocation) is Status.PAUSED
        assert "no answer yet" in failure_of(env, invocation)
        assert status_of(env, waiting) is Status.PENDING
        env.invocation(invocation).resume()
        again, next_one = env.invocation(invocation, str), env.invocation(waiting, str)
        assert await again.result() == "42"
        assert await next_one.result() == "42"


async def test_who_asks_for_a_paused_invocation_after_a_restart_is_told(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))

    @shop.handler
    async def order(ctx: Context) -> None:
        raise ValueError("broken")

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
    async with world.run(shop) as env:
        async with asyncio.timeout(2):
            with pytest.raises(InvocationPausedError, match="broken"):
                await env.invocation(sent.id).result()


async def test_a_call_goes_on_after_a_restart_on_both_sides(world: World) -> None:
    back, front = VirtualObject("Back"), Service("Front")

    @back.handler
    async def work(ctx: ObjectContext, number: int) -> int:
        await ctx.sleep(MINUTE)
        return number * 2

    @front.handler
    async def ask(ctx: Context) -> list[int]:
        return list(await asyncio.gather(ctx.call(work, 1, key="a"), ctx.call(work, 2, key="a")))

    async with world.run(back, front) as env:
        sent = await env.send(ask)
        await env.idle()
    async with world.run(back, front) as env:
        again = env.invocation(sent.id, list[int])
        await env.clock.advance(MINUTE)
    async with world.run(back, front) as env:
        again = env.invocation(sent.id, list[int])
        await env.clock.advance(MINUTE)
        assert await again.result() == [2, 4]


async def test_an_attach_a_promise_and_a_signal_go_on_after_a_restart(world: World) -> None:
    signup = Workflow("SignUp")
    desk = Service("Desk")

    @signup.main
    async def run(ctx: WorkflowContext) -> str:
        clicked = await ctx.promise("clicked", str)
        return f"{clicked} {await ctx.signal('go', str)}"

    @signup.shared
    async def click(ctx: WorkflowSharedContext, to: str) -> None:
        ctx.promise("clicked", str).resolve("clicked")

    @desk.handler
    async def watch(ctx: Context, invocation: str) -> str:
        found: str = await ctx.invocation(invocation).attach(str)
        return f"saw {found}"

    @desk.handler
    async def tell(ctx: Context, invocation: str) -> None:
        ctx.invocation(invocation).signal("go").resolve("now")

    async with world.run(signup, desk) as env:
        main = await env.send(run, key="u1")
        watching = await env.send(watch, main.id)
        await env.call(tell, main.id)
        await env.idle()
    async with world.run(signup, desk) as env:
        again = env.invocation(watching.id, str)
        await env.call(click, "", key="u1")
        assert await again.result() == "saw clicked now"


async def test_a_cancellation_that_has_not_arrived_arrives_after_a_restart(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        await ctx.sleep(DAY)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        sent.cancel()
    async with world.run(shop) as env:
        with pytest.raises(CancelledError):
            await env.invocation(sent.id).result()


async def test_a_step_that_was_cut_off_runs_again_after_a_restart(world: World) -> None:
    shop = Service("Shop")
    started: list[int] = []
    is_first = asyncio.Event()

    @shop.handler
    async def order(ctx: Context) -> str:
        async def charge() -> str:
            started.append(1)
            if len(started) == 1:
                is_first.set()
                await asyncio.Event().wait()
            return "charged"

        return await ctx.run("charge", charge)

    app = App([shop], name="tests")
    store = world.open_store()
    options = EngineOptions(clock=world.clock, drain=timedelta(), writes_in_thread=not isinstance(store, MemoryStore))
    async with app.embedded(store, options=options, connectors=[]) as running:
        sent = await running.client.send(order)
        await is_first.wait()
    async with world.run(shop) as env:
        assert await env.invocation(sent.id, str).result() == "charged"
    assert len(started) == 2


async def test_a_program_that_has_stopped_takes_nothing_in(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None: ...

    async with world.run(shop) as env:
        await env.call(order)
    with pytest.raises(Unavailable):
        await env.call(order)


async def test_an_invocation_whose_handler_is_gone_is_paused_and_named(world: World) -> None:
    shop, other = Service("Shop"), Service("Other")

    @shop.handler
    async def order(ctx: Context) -> str:
        await ctx.sleep(MINUTE)
        return "done"

    @other.handler
    async def nothing(ctx: Context) -> None: ...

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
    async with world.run(other) as env:
        await env.clock.advance(MINUTE)
        assert status_of(env, sent.id) is not Status.COMPLETED
        assert "Shop" in failure_of(env, sent.id)
    async with world.run(shop) as env:
        env.invocation(sent.id).resume()
        assert await env.invocation(sent.id, str).result() == "done"


async def test_a_handler_that_was_cut_in_the_middle_of_a_long_turn_goes_on_where_it_was(world: World) -> None:
    counters = VirtualObject("Counter")
    failures = [1]

    @counters.handler
    async def fill(ctx: ObjectContext) -> int:
        for number in range(2_500):
            ctx.set(COUNT, await ctx.get(COUNT) + 1)
            if number == 2_200 and failures:
                failures.pop()
                raise ValueError("once")
        return await ctx.get(COUNT)

    async with world.run(counters) as env:
        sent = await env.send(fill, key="a")
        await env.idle()
        assert await env.state(counters, "a").get(COUNT) > 0
    async with world.run(counters) as env:
        again = env.invocation(sent.id, int)
        await env.clock.advance(SECOND)
        assert await again.result() == 2_500


async def test_results_failures_and_workflows_are_kept_for_a_day_and_then_purged(world: World) -> None:
    shop, signup = Service("Shop"), Workflow("SignUp")

    @shop.handler
    async def order(ctx: Context) -> str:
        return "done"

    @shop.handler
    async def refuse(ctx: Context) -> None:
        raise TerminalError("no")

    @signup.main
    async def run(ctx: WorkflowContext) -> str:
        ctx.set("x", 1)
        ctx.promise("clicked", str).resolve("yes")
        return "welcome"

    async with world.run(shop, signup) as env:
        plain = await env.send(order)
        kept = [
            (await env.send(order, idempotency_key="k")).id,
            (await env.send(refuse)).id,
            (await env.send(run, key="u1")).id,
        ]
        await env.idle()
        assert not is_known(env, plain.id)
        await env.clock.advance(DAY - MINUTE)
        assert [is_known(env, each) for each in kept] == [True] * 3
    async with world.run(shop, signup) as env:
        assert [is_known(env, each) for each in kept] == [True] * 3
        await env.clock.advance(3 * MINUTE)
        assert [is_known(env, each) for each in kept] == [False] * 3
        assert not env.running.engine.store.invocations.journal(kept[2])
        assert (await env.send(order, idempotency_key="k")).is_new
        assert await env.call(run, key="u1") == "welcome"


async def test_the_state_and_promises_of_a_workflow_go_with_it(world: World) -> None:
    signup = Workflow("SignUp")

    @signup.main
    async def run(ctx: WorkflowContext) -> object:
        before = await ctx.get("x")
        promised = await ctx.promise("clicked", str).peek()
        ctx.set("x", 1)
        ctx.promise("clicked", str).resolve("yes")
        return [before, promised]

    async with world.run(signup) as env:
        assert await env.call(run, key="u1") == [None, None]
        await env.clock.advance(DAY + 2 * MINUTE)
        assert await env.call(run, key="u1") == [None, None]


async def test_ended_invocations_leave_nothing_in_memory_and_nothing_in_the_store(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext) -> None:
        await ctx.run("a", int)
        await ctx.sleep(SECOND)

    async with world.run(logs) as env:
        sent = [await env.send(note, key=str(number)) for number in range(20)]
        await env.clock.advance(SECOND)
        core = env.running.engine.core
        assert (len(core.live), core.stored_count, len(core.replies)) == (0, 0, 0)
        store = env.running.engine.store
        assert [store.invocations.get(each.id) for each in sent] == [None] * 20
        assert [store.invocations.journal(each.id) for each in sent] == [[]] * 20
        assert store.timers(None, 10) == []
