"""All of asyncio works in a handler, and replays exactly: `check` replays every beginning of every journal."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

import pytest

from streamstate.context import Ended, ObjectContext, running
from streamstate.context._loop import TASKS_KEPT_MIN
from streamstate.errors import ForeignAwaitError, TerminalError, UsageError
from streamstate.journal import Command, Completion, Kind, Success, child_identity
from tests.context.driver import STARTED_MS, Script, Tell, check, deliver, new_session, replay, run_live, spec_of, start
from tests.context.programs import CASES, echo, ms, reserve, step

LEAK: contextvars.ContextVar[str] = contextvars.ContextVar("leak", default="outside")


@pytest.mark.parametrize("name", CASES)
def test_a_program_replays_from_every_point_of_its_journal(name: str) -> None:
    program, script = CASES[name]
    check(program, script)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gathered", ["a", "b", "c"]),
        ("gathered_with_exceptions", ["no", "b"]),
        ("gathered_of_gathered", [["a", "b"], ["c"]]),
        ("waited_for_the_first", ["a", "b", "c"]),
        ("waited_for_the_first_exception", [2, 1, 1]),
        ("waited_for_all", [f"s{n}" for n in range(20)]),
        ("waited_with_a_timeout", [2, 0]),
        ("as_completed_of_coroutines", [f"s{n}" for n in range(12)]),
        ("as_completed_of_futures", ["b", "c", "a"]),
        ("as_completed_of_futures_that_are_done", list(range(12))),
        ("as_completed_with_a_timeout", "late"),
        ("group", ["a", "b", "c"]),
        ("group_with_a_failing_body", "undone"),
        ("timed_out", "after"),
        ("in_time", "in time"),
        ("timed_out_in_a_task", "late"),
        ("waited_for_with_a_limit", "late"),
        ("shielded", "slow"),
        ("promised", ["e"]),
        ("awakened_and_signalled", ["e", "woken", "l"]),
    ],
)
def test_a_program_returns_what_it_would_on_asyncio(name: str, expected: object) -> None:
    program, script = CASES[name]
    assert run_live(program, script).value == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("waited_for_the_first", [(0.01, ["b"]), (0.02, ["c"]), (0.03, ["a"])]),
        ("waited_with_a_timeout", [(0.05, [1, 1])]),
        ("timed_out", [(0.5, "late")]),
        ("in_time", [(0.91, False)]),
        ("nested_timeouts", [(1.0, "outer")]),
        ("slept", [(0.0, 0), (0.1, 0.1), (0.2, 0.2), (0.3, 0.3), (1.8, "end")]),
        ("shielded", [(0.01, "late")]),
    ],
)
def test_a_program_sees_the_time_that_passed(name: str, expected: list[tuple[float, object]]) -> None:
    program, script = CASES[name]
    assert run_live(program, script).told == expected


def test_a_group_aborts_its_tasks_in_the_order_of_their_creation() -> None:
    program, script = CASES["group_with_a_failure"]
    run = run_live(program, script)
    assert run.words == [f"undo seat{n}" for n in range(20)]
    assert run.failure.message == "sold out"


def test_a_group_that_succeeds_issues_in_the_order_of_its_tasks() -> None:
    program, script = CASES["group"]
    assert run_live(program, script).issued == ["run a", "run b", "run c"]


def test_a_timer_that_is_not_needed_any_more_is_given_back() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        async with asyncio.timeout(5):
            return await step(ctx, "quick")

    run = run_live(program)
    assert [turn.cancelled_timers for turn in run.turns] == [None, [0]]
    assert run.session.machine.pending == {}


def test_a_sleep_that_is_timed_out_gives_its_timer_back() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        try:
            async with asyncio.timeout(1):
                await ctx.sleep(ms(86_400_000))
        except TimeoutError:
            return await step(ctx, "after")
        return "never"

    run = check(program)
    assert [command.kind for command in run.session.machine.pending.values()] == []


def test_timers_are_durable_moments() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await asyncio.sleep(1.5)
        await ctx.sleep(ms(250))

    run = check(program)
    assert [command.options for command in run.commands] == [
        {"wake_ms": STARTED_MS + 1_500},
        {"wake_ms": STARTED_MS + 1_750},
    ]


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, 1e15])
def test_sleeping_for_ever_is_refused_with_the_remedy(seconds: float) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await asyncio.sleep(seconds)

    run = start(program)
    assert isinstance(run.error, UsageError)
    assert "await ctx.awakeable(…) or ctx.signal(…)" in str(run.error)
    assert run.log == []


def test_steps_of_one_turn_are_all_issued_before_any_ends() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await asyncio.gather(*(step(ctx, f"s{n}") for n in range(50)))

    assert len(start(program).commands) == 50


@pytest.mark.parametrize("collect", [set, iter, frozenset])
def test_as_completed_without_an_order_is_refused_with_the_remedy(collect: Any) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        coroutines: list[Coroutine[Any, Any, str]] = [step(ctx, "a"), step(ctx, "b")]
        try:
            for each in asyncio.as_completed(collect(coroutines)):
                await each
        finally:
            for coroutine in coroutines:
                coroutine.close()

    fault = run_live(program).fault
    assert isinstance(fault, ForeignAwaitError)
    assert "as_completed" in str(fault)
    assert "pass a list" in str(fault)
    assert "test_combinators.py:" in str(fault)


def test_as_completed_does_not_take_a_generator() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        for each in asyncio.as_completed(step(ctx, name) for name in "ab"):
            await each

    assert isinstance(start(program).error, TypeError | ForeignAwaitError)


def test_as_completed_takes_a_tuple() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> list[str]:
        return [await each for each in asyncio.as_completed((step(ctx, "a"), step(ctx, "b")))]

    assert check(program).value == ["a", "b"]


def test_futures_that_hash_by_address_cannot_be_waited_for_in_a_set() -> None:
    program, script = CASES["done_in_the_order_of_a_set_of_gathers"]
    orders = {str(run_live(program, script).conclusion) for _ in range(10)}
    assert len(orders) == 1


def test_the_default_names_of_tasks_are_the_same_on_every_attempt() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        async def child() -> None:
            current = asyncio.current_task()
            assert current is not None
            tell(current.get_name())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(child())

    first = run_live(program)
    assert run_live(program).words == first.words
    assert len(set(first.words)) == 3


def test_the_order_of_a_set_is_that_of_the_first_attempt_when_the_first_turn_only_noted_its_writes() -> None:
    # A set of few things begins anew every eight numbers: what counted on one attempt alone would turn it round.
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        for n in range(5):
            ctx.set(f"k{n}", n)
            await ctx.get(f"k{n}")
        tasks = {asyncio.create_task(step(ctx, name), name=name) for name in "abc"}
        tell([task.get_name() for task in tasks])
        done, _ = await asyncio.wait(tasks)
        tell([task.get_name() for task in done])

    check(program)


def test_tasks_of_many_invocations_do_not_collide() -> None:
    hashes: list[int] = []

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(step(ctx, name)) for name in "ab"]
            hashes.extend(map(hash, made))
            assert hash(made[0]) < hash(made[1])

    for n in range(50):
        session = new_session(spec_of(program, []), identity=child_identity("test", n))
        with running(session.loop):
            session.start(session.setting.spec.function(ObjectContext(session)))
            session.close()
    assert len(set(hashes)) == 100


def test_tasks_that_have_ended_are_not_kept() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        for _ in range(1_000):
            await asyncio.create_task(asyncio.sleep(0))

    run = start(program)
    assert isinstance(run.outcome, Ended)
    assert len(run.session.loop.tasks) <= TASKS_KEPT_MIN


def test_what_a_handler_sets_in_a_context_variable_stays_in_it() -> None:
    async def child(tell: Tell) -> None:
        tell(LEAK.get())
        LEAK.set("child")

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        LEAK.set("handler")
        await asyncio.create_task(child(tell))
        await ctx.run("a", echo, 1)
        tell(LEAK.get())

    run = start(program)
    assert LEAK.get() == "outside"
    run = check(program)
    assert run.words == ["handler", "handler"]
    assert LEAK.get() == "outside"


def test_a_handler_sees_the_context_variables_of_who_started_it() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        tell(LEAK.get())

    token = LEAK.set("trace-1")
    try:
        assert run_live(program).words == ["trace-1"]
    finally:
        LEAK.reset(token)


def test_what_is_awaited_late_has_the_index_of_when_it_was_called() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> list[str]:
        first, second = ctx.run("first", echo, "1"), ctx.run("second", echo, "2")
        return [await second, await first]

    run = check(program, Script(durations={"first": 50}))
    assert run.issued == ["run first", "run second"]
    assert run.value == ["2", "1"]


def test_a_step_is_not_performed_again_on_replay() -> None:
    performed: list[str] = []

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await ctx.run("a", performed.append, "a")

    run = run_live(program)
    replay(program, run.log)
    assert performed == ["a"]


def test_an_async_generator_that_is_left_is_finished_on_the_handlers_loop() -> None:
    async def pages(ctx: ObjectContext, tell: Tell) -> Any:
        try:
            yield await ctx.run("page", echo, 1)
            yield 2
        finally:
            await ctx.run("close", echo, 3)
            tell("closed")

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        async for page in pages(ctx, tell):
            tell(page)
            break
        await ctx.sleep(ms(10))

    async def main() -> None:
        run = check(program)
        await asyncio.sleep(0)
        assert run.words == [1, "closed"]
        assert run.issued == ["run page", "sleep", "run close"]

    asyncio.run(main())


def test_the_steps_of_a_failing_group_are_undone_in_order() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        async with asyncio.TaskGroup() as tasks:
            for seat in ("b", "a", "c"):
                tasks.create_task(reserve(ctx, tell, seat))
            await asyncio.sleep(0.1)
            raise TerminalError("no")

    run = run_live(program)
    assert run.issued[-3:] == ["run undo b", "run undo a", "run undo c"]


def test_a_read_that_does_not_fit_into_the_turn_is_answered_by_the_next() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> int:
        total = 0
        for _ in range(2_500):
            total += await ctx.get("one")
        return total

    run = check(program, Script(values={"one": 1}))
    assert run.value == 2_500
    assert len(run.turns) == 3


def test_a_turn_that_writes_much_is_cut_at_its_next_read() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        for n in range(8):
            ctx.set(f"k{n}", "x" * 1024 * 1024)
        await ctx.get("k0")
        tell("read")

    run = start(program)
    assert run.words == []
    assert [command.kind for command in run.session.machine.pending.values()] == [Kind.GET]


def test_state_that_was_written_is_read_back_in_the_same_turn() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> list[Any]:
        ctx.set("a", 1)
        before = [await ctx.get("a"), await ctx.get("b"), await ctx.state_keys()]
        ctx.clear("a")
        return [*before, await ctx.get("a"), await ctx.state_keys()]

    assert check(program, Script(values={"b": 2})).value == [1, 2, ["a", "b"], None, ["b"]]


def test_the_whole_state_is_cleared() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> list[str]:
        ctx.set("new", 1)
        ctx.clear_all()
        ctx.set("newer", 1)
        return await ctx.state_keys()

    run = check(program, Script(values={"old": 1}))
    assert run.value == ["newer"]
    assert run.turns[0].changes == {"old": None, "new": None, "newer": b"1"}


def test_a_signal_whose_wait_timed_out_is_kept_for_the_next_wait() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        try:
            return await asyncio.wait_for(ctx.signal("go", str), 1)
        except TimeoutError:
            return await ctx.signal("go", str)

    assert check(program, Script(signals=[(2_000, "go", "late")])).value == "late"


def test_a_second_outcome_of_a_command_changes_nothing() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        tell(await ctx.awakeable(str))
        await ctx.awakeable(str)

    run = start(program)
    deliver(run, Completion(0, Success(b'"1"'), STARTED_MS + 1), Completion(0, Success(b'"2"'), STARTED_MS + 2))
    assert run.words == ["1"]
    assert replay(program, run.log).words == ["1"]
    assert all(isinstance(entry, Command | Completion) for entry in run.log)
