"""A cancel is told once, to what the handler's tasks await, in the order of the tasks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamstate.context import Blocked, ObjectContext
from streamstate.errors import TerminalError
from streamstate.journal import CancelArrived
from tests.context.driver import STARTED_MS, Run, Script, Tell, check, deliver, start
from tests.context.programs import CASES, echo, ms, reserve, step


def told_in_order(run: Run) -> list[object]:
    return [word for word in run.words if str(word).startswith("told")]


def test_a_cancel_reaches_every_waiting_task_once_in_the_order_of_the_tasks() -> None:
    program, script = CASES["cancelled_with_compensations"]
    run = check(program, script)
    assert run.words == [*(f"told c{n}" for n in range(12)), "root"]
    assert run.issued[12:] == [*(f"run undo c{n}" for n in range(12)), "run undo all"]
    assert run.failure.code == 409


def test_a_cancel_is_heard_once_so_that_a_compensation_may_wait() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        try:
            await ctx.sleep(ms(10_000))
        except TerminalError as error:
            tell(type(error).__name__)
        await ctx.sleep(ms(10))
        return await step(ctx, "undo")

    run = check(program, Script(cancels=[5]))
    assert run.words == ["CancelledError"]
    assert run.value == "undo"


def test_each_cancel_is_heard() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        for _ in range(2):
            try:
                await ctx.sleep(ms(10_000))
            except TerminalError as error:
                tell(str(error))

    assert check(program, Script(cancels=[5, 6])).words == ["the invocation was cancelled"] * 2


def test_a_cancel_that_a_child_has_told_already_is_not_told_again() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        return await ctx.awakeable(str)

    run = deliver(start(program), CancelArrived(STARTED_MS + 1, raised=True))
    assert isinstance(run.outcome, Blocked)
    run.close()


@pytest.mark.parametrize(
    "combine",
    [
        lambda ctx: asyncio.gather(ctx.sleep(ms(9_000)), ctx.awakeable(str)),
        lambda ctx: asyncio.wait({ctx.sleep(ms(9_000)), ctx.awakeable(str)}),
        lambda ctx: asyncio.wait_for(ctx.awakeable(str), 5),
        lambda ctx: asyncio.shield(ctx.awakeable(str)),
        lambda ctx: asyncio.sleep(5),
        lambda ctx: ctx.signal("go", str),
    ],
    ids=["gather", "wait", "wait_for", "shield", "sleep", "signal"],
)
def test_a_cancel_is_heard_in_every_way_of_waiting(combine: Any) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        try:
            await combine(ctx)
        except TerminalError as error:
            tell(type(error).__name__)
            await step(ctx, "undo")
            raise

    run = check(program, Script(cancels=[5]))
    assert run.words == ["CancelledError"]
    assert run.issued[-1] == "run undo"
    assert run.failure.code == 409


def test_a_cancel_reaches_what_waits_for_locks_and_queues_in_the_order_of_the_tasks() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue[int]()
        await lock.acquire()

        async def wait(name: str, waiting: Any) -> None:
            try:
                await waiting
            except TerminalError:
                tell(f"told {name}")
                raise

        results = await asyncio.gather(
            wait("event", event.wait()),
            wait("lock", lock.acquire()),
            wait("queue", queue.get()),
            wait("sleep", ctx.sleep(ms(9_000))),
            return_exceptions=True,
        )
        tell(len(results))

    run = check(program, Script(cancels=[5]))
    assert told_in_order(run) == ["told event", "told lock", "told queue", "told sleep"]
    assert run.failure.code == 409


def test_a_cancel_in_a_group_inside_a_context_manager_of_the_user_is_told_to_the_children_first() -> None:
    @asynccontextmanager
    async def scope() -> Any:
        async with asyncio.TaskGroup() as tasks:
            yield tasks

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        try:
            async with scope() as tasks:
                for seat in "ab":
                    tasks.create_task(reserve(ctx, tell, seat))
        finally:
            tell("root")

    run = check(program, Script(cancels=[100]))
    assert run.words == ["undo a", "undo b", "root"]
    assert run.issued[-2:] == ["run undo a", "run undo b"]


def test_a_step_that_waits_for_its_next_attempt_is_given_up_on_cancel() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        try:
            await ctx.run("flaky", echo, 1)
        except TerminalError:
            tell("told")
        return await step(ctx, "undo")

    run = check(program, Script(durations={"flaky": None}, cancels=[5]))
    assert run.words == ["told"]
    assert run.value == "undo"
