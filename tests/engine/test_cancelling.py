import asyncio

import pytest

from streamstate import CancelledError, Context, ObjectContext, RetryPolicy, Service, TerminalError, VirtualObject
from streamstate.storage import Status
from tests.engine.world import DAY, MINUTE, SECOND, World, failure_of, is_known, status_of

pytestmark = pytest.mark.timeout(10)


async def test_a_pending_invocation_is_cancelled_without_running(world: World) -> None:
    logs = VirtualObject("Log")
    ran: list[str] = []

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        ran.append(text)
        await ctx.sleep(SECOND)

    async with world.run(logs) as env:
        await env.send(note, "first", key="a")
        second = await env.send(note, "second", key="a")
        third = await env.send(note, "third", key="a")
        await env.idle()
        assert second.cancel()
        with pytest.raises(CancelledError):
            await second.result()
        await env.clock.advance(2 * SECOND)
        await third.result()
        assert not third.cancel()
    assert list(dict.fromkeys(ran)) == ["first", "third"]


async def test_a_scheduled_invocation_is_cancelled_without_running(world: World) -> None:
    shop = Service("Shop")
    ran: list[str] = []

    @shop.handler
    async def order(ctx: Context) -> None:
        ran.append("order")

    async with world.run(shop) as env:
        sent = await env.send(order, delay=MINUTE)
        assert sent.cancel()
        with pytest.raises(CancelledError):
            await sent.result()
        await env.clock.advance(2 * MINUTE)
    assert ran == []


async def test_a_suspended_invocation_hears_of_its_cancellation_where_it_waits(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        await ctx.sleep(DAY)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert sent.cancel()
        with pytest.raises(CancelledError) as caught:
            await sent.result()
        assert caught.value.code == 409
        await env.idle()
        assert env.running.engine.store.timers(None, 10) == []


async def test_a_cancellation_is_raised_once_and_the_handler_may_go_on(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> str:
        try:
            await ctx.sleep(DAY)
        except CancelledError:
            await ctx.sleep(SECOND)
            return "cleaned up"
        return "slept"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert sent.cancel()
        assert sent.cancel()
        await env.clock.advance(SECOND)
        assert await sent.result() == "cleaned up"
        assert not sent.cancel()


async def test_a_cancelled_invocation_frees_its_key(world: World) -> None:
    logs = VirtualObject("Log")

    @logs.handler
    async def wait(ctx: ObjectContext) -> None:
        ctx.set("waiting", True)
        await ctx.sleep(DAY)

    @logs.handler
    async def look(ctx: ObjectContext) -> object:
        return await ctx.get("waiting")

    async with world.run(logs) as env:
        sent = await env.send(wait, key="a")
        next_one = await env.send(look, key="a")
        await env.idle()
        sent.cancel()
        assert await next_one.result() is True


async def test_a_running_step_is_awaited_before_the_cancellation_is_raised(world: World) -> None:
    shop = Service("Shop")
    started, gate = asyncio.Event(), asyncio.Event()
    log: list[str] = []

    @shop.handler
    async def order(ctx: Context) -> str:
        async def charge() -> None:
            started.set()
            await gate.wait()
            log.append("charged")

        def refund() -> None:
            log.append("refunded")

        try:
            await ctx.run("charge", charge)
            await ctx.sleep(DAY)
        except CancelledError:
            await ctx.run("refund", refund)
            return "refunded"
        return "charged"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await started.wait()
        assert sent.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert log == []
        gate.set()
        assert await sent.result() == "refunded"
    assert log == ["charged", "refunded"]


async def test_a_step_that_fails_after_the_cancellation_is_not_tried_again(world: World) -> None:
    shop = Service("Shop")
    started, gate = asyncio.Event(), asyncio.Event()
    attempts: list[int] = []

    @shop.handler
    async def order(ctx: Context) -> None:
        async def charge() -> None:
            attempts.append(1)
            started.set()
            await gate.wait()
            raise ConnectionError("bank is down")

        await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await started.wait()
        sent.cancel()
        gate.set()
        with pytest.raises(CancelledError):
            await sent.result()
        await env.clock.advance(MINUTE)
    assert len(attempts) == 1


async def test_a_step_in_backoff_does_not_keep_a_cancelled_invocation_waiting(world: World) -> None:
    shop = Service("Shop")
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
        assert sent.cancel()
        with pytest.raises(CancelledError):
            await sent.result()
        await env.clock.advance(MINUTE)
    assert len(attempts) == 1


async def test_a_handler_in_backoff_is_tried_again_at_once_when_it_is_cancelled(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=MINUTE))
    is_broken = True

    @shop.handler
    async def order(ctx: Context) -> None:
        if is_broken:
            raise ValueError("broken")
        await ctx.sleep(DAY)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        is_broken = False
        assert sent.cancel()
        with pytest.raises(CancelledError):
            await sent.result()


async def test_a_cancelled_handler_that_fails_before_it_waits_stays_visible_and_a_kill_ends_it(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(initial=SECOND))

    @shop.handler
    async def order(ctx: Context) -> None:
        raise ValueError("broken")

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert sent.cancel()
        await env.clock.advance(MINUTE)
        assert "broken" in failure_of(env, sent.id)
        assert sent.kill()
        with pytest.raises(TerminalError, match="kill"):
            await sent.result()


async def test_a_paused_invocation_is_cancelled_when_its_code_lets_it_wait_again(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))
    is_broken = True

    @shop.handler
    async def order(ctx: Context) -> str:
        if is_broken:
            raise ValueError("broken")
        try:
            await ctx.sleep(DAY)
        except CancelledError:
            return "compensated"
        return "slept"

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert status_of(env, sent.id) is Status.PAUSED
        is_broken = False
        assert sent.cancel()
        assert await env.invocation(sent.id, str).result() == "compensated"


async def test_a_paused_step_is_cancelled(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))

    @shop.handler
    async def order(ctx: Context) -> None:
        def charge() -> None:
            raise ConnectionError("bank is down")

        await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert status_of(env, sent.id) is Status.PAUSED
        assert sent.cancel()
        with pytest.raises(CancelledError):
            await env.invocation(sent.id, int).result()


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


async def test_a_kill_ends_at_once_without_compensation_and_frees_the_key(world: World) -> None:
    logs = VirtualObject("Log")
    log: list[str] = []

    def note(text: str) -> None:
        log.append(text)

    @logs.handler
    async def wait(ctx: ObjectContext) -> None:
        try:
            await ctx.sleep(DAY)
        except TerminalError:
            await ctx.run("undo", note, "undone")

    @logs.handler
    async def look(ctx: ObjectContext) -> str:
        return "free"

    async with world.run(logs) as env:
        sent = await env.send(wait, key="a")
        next_one = await env.send(look, key="a")
        await env.idle()
        assert sent.kill()
        with pytest.raises(TerminalError, match="kill"):
            await sent.result()
        assert await next_one.result() == "free"
        assert not sent.kill()
        await env.idle()
        assert env.running.engine.store.timers(None, 10) == []
    assert log == []


async def test_a_kill_does_not_wait_for_a_running_step(world: World) -> None:
    shop = Service("Shop")
    started, gate = asyncio.Event(), asyncio.Event()

    @shop.handler
    async def order(ctx: Context) -> None:
        async def charge() -> None:
            started.set()
            await gate.wait()

        await ctx.run("charge", charge)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await started.wait()
        assert sent.kill()
        with pytest.raises(TerminalError, match="kill"):
            await sent.result()


async def test_a_kill_takes_the_whole_tree_of_calls_with_it(world: World) -> None:
    leaves, back, front = VirtualObject("Leaf"), Service("Back"), Service("Front")

    @leaves.handler
    async def wait(ctx: ObjectContext) -> None:
        await ctx.sleep(DAY)

    @leaves.handler
    async def look(ctx: ObjectContext) -> str:
        return "free"

    @back.handler
    async def work(ctx: Context) -> None:
        await ctx.call(wait, key="a")

    @front.handler
    async def ask(ctx: Context) -> None:
        await ctx.call(work)

    async with world.run(leaves, back, front) as env:
        sent = await env.send(ask)
        await env.idle()
        next_one = await env.send(look, key="a")
        await env.idle()
        assert sent.kill()
        await env.idle()
        assert [inv.label for inv in env.running.engine.core.live.values()] == []
        assert await next_one.result() == "free"


async def test_a_kill_after_a_restart_takes_the_whole_tree_too(world: World) -> None:
    leaves, front = VirtualObject("Leaf"), Service("Front")

    @leaves.handler
    async def wait(ctx: ObjectContext) -> None:
        await ctx.sleep(DAY)

    @leaves.handler
    async def look(ctx: ObjectContext) -> str:
        return "free"

    @front.handler
    async def ask(ctx: Context) -> None:
        await ctx.call(wait, key="a")

    async with world.run(leaves, front) as env:
        sent = await env.send(ask)
        await env.idle()
    async with world.run(leaves, front) as env:
        assert env.invocation(sent.id).kill()
        await env.idle()
        assert await env.call(look, key="a") == "free"


async def test_a_killed_caller_is_not_known_after_its_retention_but_its_key_is_free_at_once(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        await ctx.sleep(DAY)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        sent.kill()
        await env.idle()
        assert "kill" in failure_of(env, sent.id)
        await env.clock.advance(DAY + 2 * MINUTE)
        assert not is_known(env, sent.id)


async def test_a_paused_invocation_is_killed_and_frees_its_key(world: World) -> None:
    logs = VirtualObject("Log", retry=RetryPolicy(attempts_max=1))

    @logs.handler
    async def fail(ctx: ObjectContext) -> None:
        raise ValueError("broken")

    @logs.handler
    async def look(ctx: ObjectContext) -> str:
        return "free"

    async with world.run(logs) as env:
        sent = await env.send(fail, key="a")
        next_one = await env.send(look, key="a")
        await env.idle()
        assert status_of(env, next_one.id) is Status.PENDING
        assert sent.kill()
        assert await next_one.result() == "free"
