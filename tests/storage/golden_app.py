"""The App whose data directories stand in `formats/`: one handler for each thing that a directory can hold.

It replays what it once wrote, so its handlers never change; what a new format brings gets a new handler.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from streamstate import (
    App,
    Context,
    ObjectContext,
    RetryPolicy,
    Service,
    StateKey,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
    subscribe,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

COUNT = StateKey[int]("count", default=0)
orders = VirtualObject("Order", retry=RetryPolicy(attempts_max=3))
shop = Service("Shop")
contracts = Workflow("Contract")

repaired: set[str] = set()
"""What fails no more: a test that goes on with the directory puts it right."""


@subscribe("orders")
@orders.handler
async def place(ctx: ObjectContext, wait_hours: int) -> None:
    ctx.set(COUNT, await ctx.get(COUNT) + 1)
    if wait_hours:
        await ctx.sleep(wait_hours * HOUR)
        ctx.set("waited", wait_hours)


@orders.handler
async def ask(ctx: ObjectContext) -> str:
    return await ctx.awakeable(str)


@orders.handler
async def remind(ctx: ObjectContext) -> None:
    ctx.set("reminded", True)


@orders.handler
async def refuse(ctx: ObjectContext) -> None:
    raise TerminalError("sold out", code=409)


@orders.handler(retry=RetryPolicy(initial=MINUTE))
async def flaky(ctx: ObjectContext) -> str:
    if "flaky" not in repaired:
        raise ValueError("not yet")
    return "at last"


@orders.handler(retry=RetryPolicy(attempts_max=1))
async def stuck(ctx: ObjectContext) -> str:
    nap = ctx.sleep(timedelta(seconds=30))
    charged = await ctx.run("charge", _charge)
    await nap
    return charged


@shop.handler
async def relay(ctx: Context, key: str) -> str:
    ctx.send(remind, key=key, delay=24 * HOUR)
    answers = await asyncio.gather(ctx.call(ask, key=key), ctx.call(ask, key=f"{key}-2"))
    return "+".join(answers)


@shop.handler(retry=RetryPolicy(initial=MINUTE))
async def pay(ctx: Context) -> str:
    return await ctx.run("pay", _pay)


@shop.handler
async def attach(ctx: Context, invocation: str) -> str:
    answer: str = await ctx.invocation(invocation).attach(str)
    return answer


@shop.handler
async def tell(ctx: Context, count: int) -> int:
    for number in range(count):
        ctx.publish("told", number, key="k", headers={"number": str(number)})
    return count


@shop.handler
async def work(ctx: Context) -> str:
    return await ctx.run("work", _work)


@contracts.main
async def conclude(ctx: WorkflowContext) -> str:
    ctx.set("seen", True)
    return await ctx.promise("signed", str)


@contracts.shared
async def sign(ctx: WorkflowSharedContext, name: str) -> None:
    ctx.promise("signed", str).resolve(name)


app = App([orders, shop, contracts], name="golden")


def _charge() -> str:
    if "charge" not in repaired:
        raise ValueError("the card reader is broken")
    return "charged"


def _pay() -> str:
    if "pay" not in repaired:
        raise ValueError("no money yet")
    return "paid"


async def _work() -> str:
    if "work" not in repaired:
        await asyncio.Event().wait()
    return "worked"
