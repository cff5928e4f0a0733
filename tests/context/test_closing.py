"""A handler that leaves memory, wherever it stands: its `finally` blocks run, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from streamstate.context import Blocked, ObjectContext
from streamstate.context._closing import CLOSES_MAX
from streamstate.errors import StreamstateError
from streamstate.journal import Command
from tests.context.driver import Tell, deliver, nothing_left_behind, replay, run_live, start
from tests.context.programs import CASES, echo, linger, ms, reserve, step

SPAN: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="none")


def test_a_task_that_is_left_in_a_sleep_of_its_finally_leaves_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn(ctx: ObjectContext, tell: Tell) -> None:
        try:
            await ctx.sleep(ms(60_000))
        finally:
            await ctx.sleep(ms(5))
            tell("closed")

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        task = asyncio.create_task(stubborn(ctx, tell))
        await step(ctx, "work")
        tell(task.done())

    with nothing_left_behind(caplog):
        run = run_live(program)
        words = run.words
        del run
    assert words == [False, "closed"]


@pytest.mark.parametrize("name", CASES)
def test_a_program_that_leaves_memory_at_any_point_leaves_nothing_behind(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    program, script = CASES[name]
    log = run_live(program, script).log
    gc.collect()
    caplog.clear()
    with nothing_left_behind(caplog):
        for length, entry in enumerate(log):
            if not isinstance(entry, Command) and length:
                replay(program, log[:length]).close()


def test_closing_runs_finally_blocks_and_refuses_their_verbs() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        try:
            await ctx.sleep(ms(10))
        finally:
            tell("finally")
            try:
                await ctx.run("release", echo, 1)
            except StreamstateError as error:
                tell(type(error).__name__)

    run = start(program)
    length = len(run.log)
    run.close()
    assert run.words == ["finally", "ForeignAwaitError"]
    assert len(run.log) == length


@pytest.mark.parametrize("verb", ["run", "set", "clear", "clear_all", "get", "send"])
def test_a_closed_session_takes_no_command(verb: str) -> None:
    verbs: dict[str, Any] = {
        "run": lambda ctx: ctx.run("a", echo, 1),
        "set": lambda ctx: ctx.set("a", 1),
        "clear": lambda ctx: ctx.clear("a"),
        "clear_all": lambda ctx: ctx.clear_all(),
        "get": lambda ctx: ctx.get("a"),
        "send": lambda ctx: ctx.publish("orders", 1),
    }

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        try:
            await ctx.sleep(ms(10))
        finally:
            try:
                verbs[verb](ctx)
            except StreamstateError:
                tell("refused")

    run = start(program)
    length = len(run.log)
    run.close()
    assert run.words == ["refused"]
    assert len(run.log) == length


def test_a_verb_that_is_refused_in_a_finally_does_not_reach_who_closes() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        try:
            await ctx.sleep(ms(10))
        finally:
            await ctx.run("release", echo, 1)

    run = start(program)
    run.close()
    assert isinstance(run.outcome, Blocked)


def test_an_error_in_a_finally_does_not_keep_the_others_from_closing() -> None:
    async def child(tell: Tell, ctx: ObjectContext, name: str) -> None:
        try:
            await ctx.sleep(ms(10))
        finally:
            tell(name)
            raise ValueError(name)

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        try:
            await asyncio.gather(child(tell, ctx, "a"), child(tell, ctx, "b"))
        finally:
            tell("root")

    run = start(program)
    run.close()
    assert sorted(map(str, run.words)) == ["a", "b", "root"]


def test_a_context_variable_can_be_reset_in_a_finally_that_closing_runs() -> None:
    async def traced(ctx: ObjectContext, tell: Tell, name: str) -> None:
        token = SPAN.set(name)
        try:
            await ctx.sleep(ms(10))
        finally:
            SPAN.reset(token)
            SPAN.set("closed")
            tell(name)

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        tasks = [asyncio.create_task(traced(ctx, tell, "child"))]
        await traced(ctx, tell, "root")
        await asyncio.wait(tasks)

    run = start(program)
    run.close()
    assert sorted(map(str, run.words)) == ["child", "root"]
    assert SPAN.get() == "none"


def test_a_task_that_is_made_in_a_finally_while_closing_leaves_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def cleanup(tell: Tell) -> None:
        tell("cleaned")

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        try:
            await ctx.sleep(ms(10))
        finally:
            await asyncio.shield(cleanup(tell))

    with nothing_left_behind(caplog):
        start(program).close()


def test_an_async_generator_that_is_left_open_is_finished_when_its_handler_leaves_memory() -> None:
    async def pages(tell: Tell) -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            tell("finished")

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        async for _ in pages(tell):
            await ctx.sleep(ms(10))

    run = start(program)
    run.close()
    assert run.words == ["finished"]


def test_a_handler_that_awaits_whenever_it_is_closed_is_told_and_left(caplog: pytest.LogCaptureFixture) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        while not any(record.levelname == "WARNING" for record in caplog.records):
            try:
                await (ctx.sleep(ms(10)) if "told" not in told else asyncio.get_running_loop().create_future())
            except GeneratorExit:
                told.append("told")

    told: list[str] = []
    run = start(program)
    run.close()
    assert len(told) == CLOSES_MAX
    assert [record.getMessage() for record in caplog.records] == [
        f"Cart/k1.handler does not let go: its finally blocks awaited {CLOSES_MAX} times while it left memory"
    ]
    run.close()


def test_a_blocked_group_leaves_memory_in_peace(caplog: pytest.LogCaptureFixture) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        async with asyncio.TaskGroup() as tasks:
            for seat in "abc":
                tasks.create_task(reserve(ctx, tell, seat))

    with nothing_left_behind(caplog):
        run = start(program)
        run.close()
        assert run.words == ["undo a", "undo b", "undo c"]
        del run


def test_a_session_may_be_closed_after_its_end() -> None:
    program, script = CASES["group"]
    run = run_live(program, script)
    run.close()
    assert run.value == ["a", "b", "c"]


def test_a_failed_attempt_may_be_closed(caplog: pytest.LogCaptureFixture) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        task = asyncio.create_task(linger(ctx, tell, "a"))
        await step(ctx, "work")
        tell(task.done())
        raise ValueError("again")

    with nothing_left_behind(caplog):
        run = start(program)
        deliver(run)
        run.close()
        del run
