"""What an exception comes to: a terminal failure, another attempt, or a fault; and back to an exception."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from streamstate.context import ObjectContext, describe, error_of, failure_of, is_cancellation
from streamstate.errors import (
    CallCycleError,
    CancelledError,
    ForeignAwaitError,
    InputError,
    JournalMismatchError,
    NotFoundError,
    RetryableError,
    RunawayTurnError,
    TerminalError,
    UsageError,
)
from streamstate.journal import Failure, Success
from tests.context.driver import Script, Tell, check, run_live
from tests.context.programs import fail

TERMINAL = [TerminalError, CancelledError, InputError, NotFoundError, CallCycleError]


@pytest.mark.parametrize("kind", TERMINAL)
@pytest.mark.parametrize("code", [None, 418])
def test_a_terminal_error_comes_back_as_it_was(kind: type[TerminalError], code: int | None) -> None:
    error = kind("sold out", code=code, metadata={"seat": "7"})
    failure = failure_of(error)
    assert failure is not None
    back = error_of(failure)
    assert type(back) is kind
    assert (str(back), back.message, back.code, back.metadata) == ("sold out", "sold out", error.code, {"seat": "7"})


@pytest.mark.parametrize("kind", TERMINAL)
def test_a_terminal_error_comes_back_through_a_store(kind: type[TerminalError]) -> None:
    failure = failure_of(kind("no", metadata={"a": "b"}))
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(failure), type=Failure)
    assert stored == failure
    assert type(error_of(stored)) is kind


class SoldOut(TerminalError):
    default_code = 422


class DriverGone(NotFoundError):
    pass


def test_a_terminal_error_of_the_user_keeps_its_code() -> None:
    failure = failure_of(SoldOut("no seat"))
    assert failure is not None
    assert (failure.code, failure.message) == (422, "no seat")
    assert type(error_of(failure)) is TerminalError


def test_a_terminal_error_of_the_user_with_a_name_of_ours_is_not_ours() -> None:
    same_name = type("CancelledError", (TerminalError,), {})
    failure = failure_of(same_name("by the customer"))
    assert failure is not None
    assert type(error_of(failure)) is TerminalError
    assert not is_cancellation(failure)


def test_a_child_class_of_ours_is_still_ours() -> None:
    failure = failure_of(DriverGone("d1"))
    assert failure is not None
    assert isinstance(error_of(failure), NotFoundError)


@pytest.mark.parametrize("message", [ValueError("x"), 42, None, "bad \udcff name"])
def test_a_failure_can_be_stored_whatever_its_message_is(message: object) -> None:
    failure = failure_of(TerminalError(message))  # type: ignore[arg-type]  # what a careless handler does
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(failure), type=Failure)
    assert stored == failure


def test_a_failure_can_be_stored_whatever_its_metadata_is() -> None:
    failure = failure_of(TerminalError("no", metadata={"seat": 7}))  # type: ignore[dict-item]  # as above
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(failure), type=Failure) == failure


def test_a_timeout_is_terminal_408() -> None:
    assert failure_of(TimeoutError()) == Failure(408, "timed out", {}, describe(TimeoutError()))
    assert getattr(failure_of(TimeoutError("too slow")), "message", "") == "too slow"


def test_a_handler_that_cancels_itself_ends_with_409() -> None:
    failure = failure_of(asyncio.CancelledError())
    assert failure is not None
    assert failure.code == 409
    assert not is_cancellation(failure)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        RetryableError("later"),
        UsageError("wrong"),
        ForeignAwaitError("x"),
        JournalMismatchError("x"),
        RunawayTurnError("x"),
        SystemExit(1),
        ExceptionGroup("both", [TerminalError("no"), ValueError("x")]),
        ExceptionGroup("nested", [TerminalError("no"), ExceptionGroup("in", [ValueError("x")])]),
    ],
    ids=repr,
)
def test_what_is_not_terminal_has_no_failure(error: BaseException) -> None:
    assert failure_of(error) is None


@pytest.mark.parametrize(
    ("group", "code", "message"),
    [
        (ExceptionGroup("g", [TerminalError("first", code=410), TerminalError("second")]), 410, "first"),
        (ExceptionGroup("g", [TimeoutError(), TerminalError("second")]), 408, "timed out"),
        (ExceptionGroup("g", [ExceptionGroup("in", [NotFoundError("deep")])]), 404, "deep"),
        (
            BaseExceptionGroup("g", [asyncio.CancelledError(), TerminalError("x")]),
            409,
            "the handler cancelled its own task",
        ),
    ],
)
def test_a_group_of_terminal_errors_is_its_first(group: BaseException, code: int, message: str) -> None:
    failure = failure_of(group)
    assert failure is not None
    assert (failure.code, failure.message) == (code, message)


def test_only_our_cancellation_is_one() -> None:
    assert is_cancellation(failure_of(CancelledError("x")) or Success())
    assert not is_cancellation(Success())
    assert not is_cancellation(Failure(409, "x"))


def test_a_long_stack_keeps_its_end() -> None:
    text = describe(ValueError("x" * 10_000 + "the end"))
    assert text.startswith("…")
    assert text.endswith("the end\n")
    assert len(text) == 4_001


def test_the_detail_of_a_failure_is_its_stack() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        raise SoldOut("no seat")

    failure = run_live(program).failure
    assert "test_failures.py" in failure.detail
    assert "SoldOut: no seat" in failure.detail


def test_the_failure_of_a_step_can_be_caught() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> str:
        try:
            await ctx.run("pay", fail, "declined")
        except TerminalError as error:
            return error.message
        return "paid"

    assert check(program).value == "declined"


def test_a_timeout_that_nobody_catches_ends_the_handler() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        async with asyncio.timeout(2):
            await ctx.awakeable(str)

    assert check(program).failure.code == 408


def test_an_error_that_is_not_terminal_fails_the_attempt_and_is_no_fault() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await ctx.awakeable(str)
        raise ValueError("again")

    run = run_live(program, Script(answers={"awakeable": Success(b'"x"')}))
    assert isinstance(run.error, ValueError)
    assert not getattr(run.outcome, "is_fault", True)


def test_an_exit_of_the_handler_fails_its_attempt_alone() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        raise SystemExit(3)

    assert isinstance(run_live(program).error, SystemExit)


def test_an_exit_in_a_task_of_the_handler_fails_its_attempt_alone() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await asyncio.create_task(leave())

    run = run_live(program)
    assert isinstance(run.error, SystemExit)
    run.close()


def test_a_result_that_has_no_bytes_fails_the_attempt() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> object:
        return object()

    assert "object" in str(run_live(program).error)
