"""Every command knows the user's line that issued it, however asyncio came to run it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from streamstate.context import ObjectContext
from tests.context.driver import Tell, start
from tests.context.programs import echo, ms

VERBS: dict[str, Callable[[ObjectContext], Any]] = {
    "get": lambda ctx: ctx.get("a"),
    "set": lambda ctx: ctx.set("a", 1),
    "clear": lambda ctx: ctx.clear("a"),
    "clear_all": lambda ctx: ctx.clear_all(),
    "state_keys": lambda ctx: ctx.state_keys(),
    "run": lambda ctx: ctx.run("a", echo, 1),
    "sleep": lambda ctx: ctx.sleep(ms(5)),
    "awakeable": lambda ctx: ctx.awakeable(str),
    "resolve": lambda ctx: ctx.resolve_awakeable("sign_a_1", 1),
    "signal": lambda ctx: ctx.signal("a", str),
    "send signal": lambda ctx: ctx.invocation("inv_1").signal("a").resolve(1),
    "cancel": lambda ctx: ctx.invocation("inv_1").cancel(),
    "attach": lambda ctx: ctx.invocation("inv_1").attach(str),
    "publish": lambda ctx: ctx.publish("orders", 1),
    "time": lambda ctx: ctx.time(),
}


def sites(program: Any) -> list[str]:
    run = start(program)
    _, entries = run.session.take_entries()
    found = [str(getattr(entry, "site", "")).rpartition("/")[2] for entry in entries]
    run.close()
    return found


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_verb_knows_its_line(verb: str, is_first: bool) -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        if not is_first:
            ctx.awakeable(str)
        VERBS[verb](ctx)
        await ctx.awakeable(str)

    line = VERBS[verb].__code__.co_firstlineno
    assert sites(program)[0 if is_first else 1] == f"test_sites.py:{line}"


def test_timers_of_asyncio_know_the_users_line() -> None:
    async def program(ctx: ObjectContext, tell: Tell) -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(1)

    line = program.__code__.co_firstlineno
    assert sites(program) == [f"test_sites.py:{line + 1}", f"test_sites.py:{line + 2}"]


def test_commands_of_tasks_know_the_line_of_their_coroutine() -> None:
    async def child(ctx: ObjectContext) -> None:
        await ctx.run("a", echo, 1)

    async def program(ctx: ObjectContext, tell: Tell) -> None:
        await asyncio.gather(child(ctx), child(ctx))

    assert sites(program) == [f"test_sites.py:{child.__code__.co_firstlineno + 1}"] * 2
