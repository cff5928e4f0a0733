"""Timers and retention, where many of them come together or an identity comes a second time (I6, I12)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamstate import Context, ObjectContext, Retention, Service, VirtualObject, Workflow, WorkflowContext
from streamstate.engine._timers import Timers
from streamstate.storage import Batch, MemoryStore, Status, TimerId, TimerRow
from tests.engine.world import DAY, MINUTE, SECOND, MemoryContent, SkippingClock, World, is_known, status_of
from tests.properties import examples

IDS: st.SearchStrategy[TimerId] = st.sampled_from([("a", "sleep", 0), ("a", "step", 0), ("b", "sleep", 0)])


@examples(100)
@given(st.lists(st.tuples(st.sampled_from(["set", "cancel", "wait"]), IDS, st.integers(0, 9)), max_size=20))
def test_timers_fire_in_their_order_at_their_moment_and_cancelled_ones_never(
    deeds: list[tuple[str, TimerId, int]],
) -> None:
    """I6, against a model that is a dict."""
    clock = SkippingClock()
    timers = Timers(clock, lambda: None)
    model: dict[TimerId, TimerRow] = {}
    for deed, name, number in deeds:
        if deed == "set" and name not in model:
            row = TimerRow(clock.now_ms() + number, *name)
            timers.add(row)
            model[name] = row
        elif deed == "cancel" and name in model:
            timers.cancel(name)
            del model[name]
        elif deed == "wait":
            clock.skip(number * SECOND / 1_000)
            due = sorted((row for row in model.values() if row.fire_ms <= clock.now_ms()), key=_order)
            assert [timers.pop_due() for _ in due] == due
            assert timers.pop_due() is None
            for row in due:
                del model[row.id]
        assert len(timers) == len(model)
        assert timers.next_ms() == min((row.fire_ms for row in model.values()), default=None)
        for owner in "ab":
            assert sorted(timers.of(owner)) == sorted(name for name in model if name[0] == owner)


def _order(row: TimerRow) -> tuple[int, str, str, int]:
    return row.fire_ms, row.invocation, row.kind, row.index


def test_all_timers_of_a_store_are_loaded_page_after_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamstate.engine._timers._PAGE", 2)
    clock, store = SkippingClock(), MemoryStore()
    rows = [TimerRow(clock.now_ms() + number // 2, name, "sleep", 0) for number, name in enumerate("abcde")]
    store.commit(Batch(timers={row.id: row for row in rows}))
    timers = Timers(clock, lambda: None)
    timers.load(store)
    clock.skip(SECOND)
    assert [timers.pop_due() for _ in rows] == rows
    assert timers.pop_due() is None


async def test_the_sleep_of_a_second_run_does_not_end_with_that_of_the_run_that_was_killed(world: World) -> None:
    """I6: a workflow key whose retention is over may be used again, and its commands have the same indexes."""
    flows = Workflow("Flow", retention=Retention(workflow=MINUTE))
    hours = iter((1, 2))

    @flows.main
    async def run(ctx: WorkflowContext) -> None:
        await ctx.sleep(timedelta(hours=await ctx.run("hours", lambda: next(hours))))

    async with world.run(flows) as env:
        first = await env.send(run, key="k")
        await env.idle()
        assert first.kill()
        await env.clock.advance(5 * MINUTE)
        second = await env.send(run, key="k")
        assert second.is_new
        await env.clock.advance(90 * MINUTE)
        assert is_known(env, second.id), "it slept for less than its two hours"
        assert status_of(env, second.id) is Status.SUSPENDED
        await env.clock.advance(30 * MINUTE)
        assert status_of(env, second.id) is Status.COMPLETED


async def test_all_that_has_expired_goes_in_one_round_however_much_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I12: otherwise more may end in a minute than is purged in it, for ever."""
    monkeypatch.setattr("streamstate.engine._upkeep.PAGE", 3)
    works = Service("Work")

    @works.handler
    async def work(ctx: Context, number: int) -> int:
        return number

    async with world.run(works) as env:
        for number in range(10):
            await env.call(work, number, idempotency_key=str(number))
        await env.clock.advance(DAY)
        await env.clock.advance(2 * MINUTE)
        assert env.running.engine.store.invocations.expired(env.clock.now_ms(), 100) == []


async def test_a_call_that_waits_in_a_queue_is_durable_without_another_event() -> None:
    """Nothing else may happen for long, and the engine is not idle until then."""
    carts = VirtualObject("Cart")

    @carts.handler
    async def hold(ctx: ObjectContext) -> str:
        await ctx.sleep(MINUTE)
        return "held"

    async with World(MemoryContent().open, always_replay=False).run(carts) as env:
        calls = []
        for _ in range(2):
            calls.append(asyncio.create_task(env.call(hold, key="k")))
            for _ in range(10):  # the store in memory commits at once
                await asyncio.sleep(0)
        waiting = env.running.engine.store.invocations.lane("Cart", "k", 0, 10)
        await env.running.engine.durable()
        await env.clock.advance(2 * MINUTE)
        assert await asyncio.gather(*calls) == ["held", "held"]
        assert len(waiting) == 2
