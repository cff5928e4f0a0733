"""How a handler ends: leftovers are cancelled and joined, and what leaves memory leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from streamstate.context import Blocked, Ended, ObjectContext, running
from streamstate.errors import TerminalError
from streamstate.journal import Completion, Success
from tests.context.driver import STARTED_MS, Script, Tell, check, deliver, nothing_left_behind, replay, run_live, start
from tests.context.programs import CASES, echo, linger, ms, step


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
