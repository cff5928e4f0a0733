"""Mistakes in calls and with state: each marked line is an error, and no other."""

from __future__ import annotations

from streamstate.context import Context, ObjectContext, ObjectSharedContext
from streamstate.definitions import Service, StateKey, Topic, VirtualObject

COUNT = StateKey[int]("count", default=0)
NAME = StateKey[str]("name")
WRONG = StateKey[int]("wrong", default="zero")  # type: ignore[call-overload]  # expected: a default of another type
NAMES = Topic[str]("names")

counters = VirtualObject("Counter")
greeter = Service("Greeter")


@counters.handler
async def add(ctx: ObjectContext, amount: int) -> int:
    ctx.set(COUNT, "one")  # type: ignore[misc]  # expected: a value of another type
    name: str = await ctx.get(NAME)  # type: ignore[assignment]  # expected: it may be None
    NAME.default  # type: ignore[attr-defined]  # noqa: B018 - expected: it has none
    NAMES.encode_value(5)  # type: ignore[arg-type]  # expected: a value of another type
    return len(name) + amount


@counters.shared
async def current(ctx: ObjectSharedContext) -> int:
    ctx.set(COUNT, 1)  # type: ignore[attr-defined]  # expected: a shared handler only reads
    return await ctx.get(COUNT)


@greeter.handler
async def greet(ctx: Context, name: str) -> str:
    await ctx.call(add, 1)  # type: ignore[call-overload]  # expected: no key
    await ctx.call(add, "one", key="a")  # type: ignore[misc]  # expected: an argument of another type
    await ctx.call(add, key="a")  # type: ignore[arg-type]  # expected: no argument
    await ctx.call(current)  # type: ignore[call-overload]  # expected: no key
    await ctx.call(current, 1, key="a")  # type: ignore[misc]  # expected: it takes no argument
    await ctx.call(greet, "Ada", key="a")  # type: ignore[call-overload]  # expected: a service has no key
    wrong: str = await ctx.call(add, 1, key="a")  # type: ignore[arg-type]  # expected: it gives an int
    await greet(ctx, "Ada")  # type: ignore[operator]  # expected: a handler is not a function
    return wrong
