"""A program that is right: state keys and calls have the types of what they name."""

from __future__ import annotations

from typing import assert_type

from streamstate.context import Context, ObjectContext, ObjectSharedContext, WorkflowContext
from streamstate.definitions import DefaultedStateKey, ObjectHandler, Service, StateKey, VirtualObject, Workflow

NAME = StateKey[str]("name")
COUNT = StateKey[int]("count", default=0)
NICKNAME = StateKey[str | None]("nickname", default=None)
OLD = StateKey[str]("old", upgrade=lambda data: data.strip())

assert_type(NAME, StateKey[str])
assert_type(COUNT, DefaultedStateKey[int])
assert_type(COUNT.default, int)
assert_type(COUNT.decode(b"1"), int)
assert_type(OLD.encode("text"), bytes)

counters = VirtualObject("Counter")
callers = Service("Caller")
signup = Workflow("SignUp")


@counters.handler
async def add(ctx: ObjectContext, amount: int) -> int:
    assert_type(await ctx.get(NAME), str | None)
    assert_type(await ctx.get(NICKNAME), str | None)
    count = await ctx.get(COUNT)
    assert_type(count, int)
    ctx.set(COUNT, count + amount)
    return count + amount


@counters.shared
async def current(ctx: ObjectSharedContext) -> int:
    return await ctx.get(COUNT)


@callers.handler
async def double(ctx: Context, amount: int) -> str:
    assert_type(await ctx.call(add, amount, key="a"), int)
    assert_type(await ctx.call(current, key="a"), int)
    assert_type(await ctx.call(ping), None)
    return str(amount)


@callers.handler
async def ping(ctx: Context) -> None: ...


@signup.main
async def run(ctx: WorkflowContext) -> bool:
    assert_type(await ctx.call(double, 1), str)
    return await ctx.call(run, key="another")


def takes_any_number(handler: ObjectHandler[bool, object]) -> ObjectHandler[bool, object]:
    return handler


takes_any_number(add)  # what takes every int takes a bool, and what gives an int gives an object
