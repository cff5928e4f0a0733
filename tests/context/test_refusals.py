"""What is not durable is refused at once, with the line and the remedy; it never hangs and cannot be hidden."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from streamstate.context import Blocked, HandlerLoop, ObjectContext
from streamstate.errors import ForeignAwaitError, RunawayTurnError
from tests.context.driver import Program, Run, Tell, check, deliver, replay, run_live, start
from tests.context.programs import echo, ms, step

REMEDY = 'Put it into a step: await ctx.run("name", action, …)'

# What a handler's loop does do; everything else of a loop would wait for the outside world, or change the loop.
OFFERED = {
    "call_at",
    "call_exception_handler",
    "call_later",
    "call_soon",
    "create_future",
    "create_task",
    "get_debug",
    "is_closed",
    "is_running",
    "set_debug",
    "time",
}
REFUSED = sorted(
    name
    for name, member in inspect.getmembers(asyncio.AbstractEventLoop, callable)
    if not name.startswith("_") and name not in OFFERED
)


def here() -> int:
    """The line of the caller."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def assert_refused(run: Run, *words: str) -> ForeignAwaitError:
    fault = run.fault
    assert isinstance(fault, ForeignAwaitError)
    for word in (*words, "test_refusals.py:", REMEDY):
        assert word in str(fault), str(fault)
    return fault


@pytest.mark.parametrize("name", REFUSED)
def test_a_loops_method_is_refused(name: str) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        getattr(asyncio.get_running_loop(), name)()

    loop_method = getattr(HandlerLoop, name)
    if name == "call_soon_threadsafe":
        program = calling(lambda: loop_method(asyncio.get_running_loop(), print))
    assert_refused(start(program), name)


def calling(what: Callable[[], Any]) -> Any:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        result = what()
        if inspect.isawaitable(result):
            await result

    return program


FOREIGN: dict[str, Callable[[], Awaitable[Any]]] = {
    "to_thread": lambda: asyncio.to_thread(print),
    "open_connection": lambda: asyncio.open_connection("localhost", 1),
    "open_unix_connection": lambda: asyncio.open_unix_connection("nowhere"),
    "start_server": lambda: asyncio.start_server(lambda _reader, _writer: None, "localhost", 0),
    "subprocess": lambda: asyncio.create_subprocess_exec("true"),
    "shell": lambda: asyncio.create_subprocess_shell("true"),
    "getaddrinfo": lambda: asyncio.get_running_loop().getaddrinfo("localhost", 80),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_io_of_asyncio_is_refused(name: str) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await FOREIGN[name]()

    assert_refused(start(program), f":{here() - 2}.")


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_io_in_a_task_is_refused(name: str) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await asyncio.gather(FOREIGN[name](), return_exceptions=True)

    assert_refused(start(program))


def test_a_request_of_httpx_is_refused() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        client = httpx.AsyncClient(trust_env=False, verify=False)
        await client.get("http://localhost:1/")

    assert_refused(start(program))


def test_a_refusal_that_is_caught_still_ends_the_attempt() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        try:
            await asyncio.to_thread(print)
        except Exception as error:  # noqa: BLE001  # what a careless handler does
            tell(type(error).__name__)
        return "hidden"

    run = start(program)
    assert run.words == ["ForeignAwaitError"]
    assert_refused(run, "run_in_executor")


def test_a_refusal_that_is_caught_still_ends_the_attempt_later() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        await step(ctx, "first")
        try:
            await asyncio.to_thread(print)
        except Exception:  # noqa: BLE001  # what a careless handler does
            return await step(ctx, "second")
        return "never"

    assert_refused(run_live(program))


def foreign_future() -> tuple[asyncio.Future[Any], asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    return loop.create_future(), loop


async def wait_for(future: asyncio.Future[Any]) -> None:
    await future


async def wait_and_hide(future: asyncio.Future[Any]) -> str:
    try:
        await future
    except Exception:  # noqa: BLE001  # what a careless handler does
        return "hidden"
    return "never"


@pytest.mark.parametrize("awaiting", [wait_for, wait_and_hide])
@pytest.mark.parametrize("in_a_task", [False, True], ids=["in the handler", "in a task"])
def test_a_future_of_another_loop_is_refused(awaiting: Callable[[Any], Any], in_a_task: bool) -> None:
    future, loop = foreign_future()

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await (asyncio.create_task(awaiting(future)) if in_a_task else awaiting(future))

    try:
        assert_refused(start(program), "Future")
    finally:
        loop.close()


@pytest.mark.parametrize("in_a_task", [False, True], ids=["in the handler", "in a task"])
def test_what_is_no_future_at_all_is_refused(in_a_task: bool) -> None:
    class Strange:
        def __await__(self) -> Any:
            yield 42

    async def wait() -> None:
        await Strange()

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await (asyncio.create_task(wait()) if in_a_task else wait())

    assert_refused(start(program), "42")


@pytest.mark.parametrize("never", [lambda: asyncio.Event().wait(), lambda: asyncio.get_running_loop().create_future()])
def test_what_nothing_will_complete_is_refused(never: Callable[[], Awaitable[Any]]) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await step(ctx, "before")
        await never()

    run = run_live(program)
    assert_refused(run, "no durable verb will complete", f":{here() - 3}.")
    assert_refused(replay(program, run.log), "no durable verb will complete")


def test_a_thread_cannot_wake_a_handler() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        loop = asyncio.get_running_loop()
        refused: list[BaseException] = []

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except ForeignAwaitError as error:
                refused.append(error)

        thread = threading.Thread(target=wake)
        thread.start()
        thread.join()
        tell(len(refused))
        await step(ctx, "after")

    run = start(program)
    assert run.words == [1]
    assert_refused(run, "call_soon_threadsafe")


def test_a_future_of_a_thread_pool_is_refused() -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await asyncio.wrap_future(future)

    assert_refused(start(program), "no durable verb will complete")


def test_a_second_event_loop_cannot_run_inside_a_handler() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        coroutine = asyncio.sleep(0)
        try:
            asyncio.run(coroutine)
        finally:
            coroutine.close()

    assert isinstance(start(program).error, RuntimeError)


async def spin(ctx: ObjectContext, tell: Tell) -> None:
    while not ctx.headers:  # noqa: ASYNC110  # spinning is the point
        await asyncio.sleep(0)


async def spin_in_a_task(ctx: ObjectContext, tell: Tell) -> None:
    await asyncio.create_task(spin(ctx, tell))


async def issue_without_end(ctx: ObjectContext, tell: Tell) -> None:
    while True:
        ctx.set("a", 1)


@pytest.mark.parametrize("program", [spin, spin_in_a_task, issue_without_end])
def test_a_handler_that_never_blocks_is_cut(program: Program) -> None:
    run = start(program)
    assert isinstance(run.fault, RunawayTurnError)
    assert "test_refusals.py:" in str(run.fault)
    run.close()


def test_a_handler_that_hides_its_runaway_turn_is_cut_all_the_same() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        try:
            await issue_without_end(ctx, tell)
        except Exception:  # noqa: BLE001  # what a careless handler does
            return "hidden"
        return "never"

    assert isinstance(start(program).fault, RunawayTurnError)


def test_a_mismatch_that_is_caught_still_ends_the_attempt() -> None:
    async def first(ctx: ObjectContext, tell: Tell) -> None:
        await step(ctx, "a")
        await ctx.sleep(ms(10))

    async def second(ctx: ObjectContext, tell: Tell) -> str:
        try:
            await step(ctx, "b")
        except Exception:  # noqa: BLE001  # what a careless handler does
            return "hidden"
        return "never"

    run = replay(second, run_live(first).log)
    assert "recorded:  run 'a'" in str(run.fault)
    assert "attempted: run 'b'" in str(run.fault)


def test_an_error_in_a_callback_of_the_handler_does_not_stop_it(caplog: pytest.LogCaptureFixture) -> None:
    def boom() -> None:
        raise ValueError("boom")

    async def program(ctx: ObjectContext, tell: Tell) -> str:
        asyncio.get_running_loop().call_soon(boom)
        return await step(ctx, "a")

    run = check(program)
    assert run.value == "a"
    assert "boom" in caplog.text


def test_a_verb_of_another_invocation_cannot_be_awaited() -> None:
    others: list[Any] = []

    async def other(ctx: ObjectContext, tell: Tell) -> None:
        others.append(ctx.run("a", echo, 1))
        await others[0]

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await others[0]

    waiting = start(other)
    assert isinstance(waiting.outcome, Blocked)
    assert_refused(start(program))
    deliver(waiting)
    waiting.close()
