"""Wrong arguments to the verbs: told at the call, with what to write instead."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from streamstate.context import Context, ObjectContext, milliseconds
from streamstate.definitions import Service, VirtualObject
from streamstate.errors import StreamstateError, UsageError
from tests.context.driver import Tell, run_live
from tests.context.programs import echo

greeter = Service("Greeter")
drivers = VirtualObject("Driver")


@greeter.handler
async def greet(ctx: Context, name: str) -> str:
    return name


@greeter.handler
async def ping(ctx: Context) -> None:
    """Takes nothing."""


@drivers.handler
async def moved(ctx: ObjectContext, place: str) -> None:
    """Is keyed."""


def told(misuse: Callable[[Any], object]) -> str:
    """The message of the UsageError that a verb raises at once; nothing was journaled."""

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        try:
            misuse(ctx)
        except UsageError as error:
            tell(str(error))

    run = run_live(program)
    assert len(run.words) == 1, run.outcome
    assert run.log == []
    return str(run.words[0])


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda ctx: ctx.run("charge", 5), "takes a function and its arguments, got 5"),
        (lambda ctx: ctx.run("charge", None), "takes a function and its arguments, got None"),
        (lambda ctx: ctx.run(echo, "charge"), "ctx.run"),
        (lambda ctx: ctx.run(5, echo, 1), "ctx.run"),
        (lambda ctx: ctx.sleep(5), "ctx.sleep takes a timedelta, got 5; write timedelta(seconds=…)"),
        (lambda ctx: ctx.sleep(2.5), "ctx.sleep takes a timedelta, got 2.5"),
        (lambda ctx: ctx.sleep(timedelta(seconds=-1)), "zero or more"),
        (lambda ctx: ctx.send(greet, "a", delay=5), "delay takes a timedelta, got 5"),
        (lambda ctx: ctx.send(greet, "a", delay=timedelta(-1)), "zero or more"),
        (lambda ctx: ctx.call(greet), "Greeter.greet takes a payload; pass it as the second argument"),
        (lambda ctx: ctx.call(ping, "a"), "Greeter.ping takes no payload, got 'a'"),
        (lambda ctx: ctx.call(moved, "a"), "Driver.moved is called with key=…, a string; got None"),
        (lambda ctx: ctx.call(moved, "a", key=5), "Driver.moved is called with key=…, a string; got 5"),
        (lambda ctx: ctx.call(greet, "a", key="k"), "Greeter.greet belongs to a service and takes no key, got 'k'"),
        (lambda ctx: ctx.send(moved, "a"), "Driver.moved is called with key=…"),
        (lambda ctx: ctx.resolve_awakeable("inv_1", 1), "'inv_1' is not the id of an awakeable"),
        (lambda ctx: ctx.reject_awakeable("sign_", "no"), "'sign_' is not the id of an awakeable"),
    ],
)
def test_a_wrong_argument_is_told_at_the_call(misuse: Callable[[Any], object], message: str) -> None:
    assert message in told(misuse)


def test_a_coroutine_instead_of_a_function_is_told_and_leaves_no_warning() -> None:
    message = told(lambda ctx: ctx.run("charge", asyncio.sleep(0)))
    gc.collect()
    assert "write ctx.run(name, action, argument), not ctx.run(name, action(argument))" in message


@pytest.mark.parametrize("target", ["Driver", drivers, echo])
def test_calling_what_is_no_handler_is_told(target: object) -> None:
    assert "handler" in told(lambda ctx: ctx.call(target, 1, key="k"))


@pytest.mark.parametrize("key", [5, None, b"total"])
def test_a_state_key_that_is_neither_a_key_nor_a_name_is_told(key: object) -> None:
    assert "key" in told(lambda ctx: ctx.get(key))
    assert "key" in told(lambda ctx: ctx.set(key, 1))


def test_a_value_without_bytes_is_told_at_the_call() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        for verb in (lambda: ctx.set("a", object()), lambda: ctx.publish("orders", object())):
            try:
                verb()
            except StreamstateError as error:
                tell(type(error).__name__)

    run = run_live(program)
    assert run.words == ["SerdeError", "SerdeError"]
    assert run.log == []


@pytest.mark.parametrize("number", [0, 1, 1.5, True])
def test_a_duration_that_is_a_number_is_refused(number: Any) -> None:
    with pytest.raises(UsageError, match=r"write timedelta\(seconds=…\) or \(milliseconds=…\)"):
        milliseconds(number, "ctx.sleep")


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(), 0),
        (timedelta(milliseconds=1), 1),
        (timedelta(days=1), 86_400_000),
        (timedelta(microseconds=1_600), 2),
    ],
)
def test_a_duration_is_whole_milliseconds(duration: timedelta, expected: int) -> None:
    assert milliseconds(duration, "ctx.sleep") == expected
