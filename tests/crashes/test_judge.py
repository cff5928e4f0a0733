"""The judge and the witness can say no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamstate import ObjectContext, VirtualObject
from streamstate.storage import Batch
from tests.crashes.disks import MemoryDisk
from tests.crashes.judge import judge
from tests.crashes.outside import Answer, Effect, Outside, Plot
from tests.crashes.perform import Performance, Stage, Stuck, Way
from tests.crashes.process import CrashPoint, Moment
from tests.crashes.witness import Witness


def two_payments(out: Outside) -> Plot:
    orders = VirtualObject("Order")

    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> int:
        await out.act(ctx, "charge", amount)
        ctx.set("paid", amount)
        ctx.publish("paid", amount, key="k")
        return amount

    async def script() -> None:
        await out.call("a", pay, 1, key="k")
        await out.call("b", pay, 2, key="k")

    return Plot([orders], script)


async def perform(plan: dict[int, CrashPoint] | None = None) -> Performance:
    return await Stage(two_payments, MemoryDisk(), Way(False), plan or {}).perform()


def changed_state(run: Performance) -> Performance:
    return run._replace(content=run.content._replace(state={("Order", "k"): {"paid": b"3"}}))


def another_answer(run: Performance) -> Performance:
    return run._replace(answers={**run.answers, "a": Answer("result", 5)})


def changed_failure(run: Performance) -> Performance:
    rows = {name: row and msgspec.structs.replace(row, result=b"9") for name, row in run.content.invocations.items()}
    return run._replace(content=run.content._replace(invocations=rows))


def a_message_twice_without_crash(run: Performance) -> Performance:
    return run._replace(messages=[*run.messages, run.messages[0]])


def a_message_under_another_id(run: Performance) -> Performance:
    return run._replace(messages=[*run.messages, msgspec.structs.replace(run.messages[0], message_id="inv_x/1")])


def a_message_lost(run: Performance) -> Performance:
    return run._replace(messages=run.messages[1:])


def messages_in_another_order(run: Performance) -> Performance:
    return run._replace(messages=run.messages[::-1])


def a_message_changed(run: Performance) -> Performance:
    return run._replace(messages=[msgspec.structs.replace(run.messages[0], value=b"7"), *run.messages[1:]])


def a_step_too_often(run: Performance) -> Performance:
    return run._replace(effects=[run.effects[0], *run.effects])


def a_step_that_never_ran(run: Performance) -> Performance:
    return run._replace(effects=run.effects[1:])


def a_step_of_nobody(run: Performance) -> Performance:
    return run._replace(effects=[*run.effects, Effect("inv_x", "charge", None)])


def keys_in_another_order(run: Performance) -> Performance:
    return run._replace(effects=run.effects[::-1])


def a_timer_left(run: Performance) -> Performance:
    return run._replace(content=run.content._replace(waiters={"inv_x": [("inv_y", 1)]}))


def a_position_lost(run: Performance) -> Performance:
    return run._replace(content=run.content._replace(positions={("s", "t", "", 0): 4}))


def a_problem_seen(run: Performance) -> Performance:
    return run._replace(problems=["W3: a step runs again"])


@pytest.mark.parametrize(
    "change",
    [
        changed_state,
        another_answer,
        changed_failure,
        a_message_twice_without_crash,
        a_message_under_another_id,
        a_message_lost,
        messages_in_another_order,
        a_message_changed,
        a_step_too_often,
        a_step_that_never_ran,
        a_step_of_nobody,
        keys_in_another_order,
        a_timer_left,
        a_position_lost,
        a_problem_seen,
    ],
)
async def test_the_judge_sees(change: Callable[[Performance], Performance]) -> None:
    run = await perform()
    assert judge(run, run) == []
    assert judge(run, change(run)) != []


async def test_a_crash_behind_a_message_lets_it_leave_once_more_and_no_more() -> None:
    reference = await perform()
    events = reference.lives[0]
    place = next(number for number, event in enumerate(events) if event.kind == "message")
    run = await perform({0: CrashPoint(place, Moment.AFTER)})
    first = [each.message_id for each in run.messages][:2]
    assert first[0] == first[1], "the message left, and nobody heard of it"
    assert judge(reference, run) == []
    assert judge(reference, run._replace(messages=[run.messages[0], *run.messages])) != []


async def test_the_witness_sees_a_step_that_runs_again_and_one_that_runs_too_early() -> None:
    seen: list[list[str]] = []

    def peeked(out: Outside) -> Plot:
        plot = two_payments(out)

        async def script() -> None:
            await plot.script()
            ended = out.effects[0].invocation
            seen.append(out.witness.step_begins(ended, "charge"))
            seen.append(out.witness.step_begins("inv_x", "charge"))

        return Plot(plot.definitions, script)

    await Stage(peeked, MemoryDisk(), Way(False), {}).perform()
    assert [[each[:2] for each in problems] for problems in seen] == [["W3", "W3"], ["W2"]]


async def test_the_witness_sees_what_a_store_has_too_much_or_too_little() -> None:
    witness, disk = Witness(), MemoryDisk()
    batch = Batch(state={("Order", "k"): {"n": b"1"}}, positions={("s", "t", "", 0): 3}, clock_ms=5)
    store = disk.open()
    store.commit(batch)
    assert witness.opened(disk.open()) != []
    witness.saw(batch)
    assert witness.opened(disk.open()) == []
    witness.saw(Batch(state={("Order", "k"): {"n": b"2"}}))
    assert [each[:9] for each in witness.opened(disk.open())] == ["W1: the s"]


async def test_a_caller_who_waits_for_ever_is_found() -> None:
    def stuck(out: Outside) -> Plot:
        orders = VirtualObject("Order")

        @orders.handler
        async def wait(ctx: ObjectContext) -> str:
            return await ctx.awakeable(str)

        async def script() -> None:
            await out.call("a", wait, key="k")

        return Plot([orders], script)

    with pytest.raises(Stuck, match="suspended"):
        await Stage(stuck, MemoryDisk(), Way(False), {}).perform()


async def test_a_dead_process_reaches_nobody() -> None:
    after: list[Any] = []

    def lingering(out: Outside) -> Plot:
        orders = VirtualObject("Order")

        @orders.handler
        async def pay(ctx: ObjectContext) -> None:
            try:
                await out.act(ctx, "charge", 1)
            finally:
                ctx.publish("paid", 1)

        async def script() -> None:
            first = await out.process()
            await out.call("a", pay, key="k")
            if not first.is_alive:
                after.append(len(first.events))
                await asyncio.sleep(0)
                after.append(len(first.events))

        return Plot([orders], script)

    run = await Stage(lingering, MemoryDisk(), Way(False), {0: CrashPoint(1, Moment.AFTER)}).perform()
    assert after == [2, 2]
    assert [each[:2] for each in run.effects] == [(run.effects[0].invocation, "charge")] * 2
    assert len(run.messages) == 1
