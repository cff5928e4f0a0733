"""How a handler ends: leftovers are cancelled and joined, and what leaves memory leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import warnings
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from streamstate.context import Blocked, Ended, ObjectContext, running
from streamstate.context._closing import CLOSES_MAX
from streamstate.errors import StreamstateError, TerminalError
from streamstate.journal import CancelArrived, Command, Completion, Success
from tests.context.driver import STARTED_MS, Run, Script, Tell, check, deliver, replay, run_live, start
from tests.context.programs import CASES, echo, ms, reserve, step

SPAN: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="none")


@contextmanager
def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No warning, no unraisable error, no task that is destroyed while it is pending."""
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("error")
        yield
        gc.collect()
    assert [record.getMessage() for record in caplog.records] == []


async def linger(ctx: ObjectContext, tell: Tell, name: str) -> None:
    try:
        await ctx.sleep(ms(60_000))
    finally:
        tell(f"close {name}")
        await step(ctx, f"close {name}")
        tell(f"closed {name}")


def test_tasks_that_are_left_behind_are_cancelled_and_their_steps_joined() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        made = [asyncio.create_task(linger(ctx, tell, name)) for name in "ab"]
        await step(ctx, "work")
        return str(len(made))

    run = check(program, Script(durations={"close a": 20, "close b": 10}))
    assert run.value == "2"
    assert run.words == ["close a", "close b", "closed b", "closed a"]


def test_a_step_that_was_never_awaited_is_joined() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        ctx.run("unheard", echo, 1)
        return "done"

    assert isinstance(start(program).outcome, Blocked)
    run = check(program, Script(durations={"unheard": 500}))
    assert run.value == "done"
    assert len(run.log) == 2


def test_a_step_that_was_timed_out_is_joined_at_the_end() -> None:
    program, script = CASES["timed_out"]
    run = run_live(program, script)
    assert run.told == [(0.5, "late")]
    assert [type(entry).__name__ for entry in run.log[-2:]] == ["Completion", "Completion"]


def test_a_handler_that_fails_joins_its_steps_as_well() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        ctx.run("unheard", echo, 1)
        raise TerminalError("no")

    assert isinstance(start(program).outcome, Blocked)
    assert check(program).failure.message == "no"


def test_a_sleep_that_was_never_awaited_is_not_joined() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        ctx.sleep(ms(60_000))
        return "done"

    assert isinstance(start(program).outcome, Ended)


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


def test_a_task_that_is_left_behind_and_waits_for_nothing_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn(tell: Tell) -> None:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                tell("once more")

    async def program(ctx: ObjectContext, tell: Tell) -> str:
        task = asyncio.create_task(stubborn(tell))
        await step(ctx, "work")
        return str(task.done())

    with nothing_left_behind(caplog):
        run = check(program)
        assert run.value == "False"
        assert run.words == ["once more"]
        del run


def test_an_invocation_that_has_ended_takes_no_command() -> None:
    kept: list[ObjectContext] = []

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        kept.append(ctx)
        await step(ctx, "work")

    run = run_live(program)
    length = len(run.log)
    with running(run.session.loop), pytest.raises(RuntimeError, match="cannot issue a command: the journal of Cart/k1"):
        kept[0].set("a", 1)
    assert len(run.log) == length


def test_the_log_is_silent_in_all_turns_that_are_replayed(caplog: pytest.LogCaptureFixture) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        ctx.log.warning("first")
        await ctx.awakeable(str)
        ctx.log.warning("second")
        await ctx.awakeable(str)
        ctx.log.warning("third")

    def logged() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    run = deliver(start(program), Completion(0, Success(b'"x"'), STARTED_MS + 1))
    assert logged() == ["first", "second"]
    again = replay(program, run.log)
    assert logged() == []
    deliver(again, Completion(1, Success(b'"x"'), STARTED_MS + 2))
    assert logged() == ["third"]
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


def test_the_entries_of_a_turn_are_given_once_with_the_place_of_the_first() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        ctx.set("a", 1)
        await ctx.awakeable(str)
        await ctx.awakeable(str)

    run = start(program)
    place, entries = run.session.take_entries()
    assert (place, [type(entry).__name__ for entry in entries]) == (0, ["Command", "Command"])
    assert run.session.take_entries() == (2, [])
    run.session.take_turn()
    deliver(run, Completion(1, Success(b'"x"'), STARTED_MS + 1))
    place, entries = run.session.take_entries()
    assert (place, [type(entry).__name__ for entry in entries]) == (2, ["Completion", "Command"])
    run.close()


def test_a_replayed_session_has_no_entries_to_give() -> None:
    program, script = CASES["group"]
    log = run_live(program, script).log
    again = replay(program, log)
    assert again.session.take_entries() == (len(log), [])


def test_a_turn_gives_its_changes_and_effects_once() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        ctx.set("a", 1)
        ctx.clear("b")
        ctx.publish("orders", 5, key="k")
        await ctx.run("charge", echo, 1)

    run = start(program)
    turn = run.session.take_turn()
    assert turn.changes == {"a": b"1", "b": None}
    assert [(index, command.kind) for index, command in turn.effects or ()] == [(2, "publish"), (3, "run")]
    again = run.session.take_turn()
    assert (again.changes, again.effects, again.cancelled_timers) == (None, None, None)
    run.close()
