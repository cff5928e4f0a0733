"""Scenarios: records of topics, on the fast path and off it; where reading goes on is stored with what was done."""

import json

from streamstate import (
    Context,
    ObjectContext,
    RetryPolicy,
    Service,
    Skip,
    StateKey,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    subscribe,
)
from tests.crashes.outside import MINUTE, SECOND, Outside, Plot

COUNT = StateKey[int]("count", default=0)
LOG = StateKey[list[int]]("log", default=[])


def produce(out: Outside, topic: str, *records: tuple[str | None, object]) -> None:
    for key, value in records:
        out.produce(topic, key, None if value is None else json.dumps(value).encode())


def records_that_end_in_their_first_turn(out: Outside) -> Plot:
    logs = VirtualObject("Log")

    @subscribe("numbers")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async def script() -> None:
        produce(out, "numbers", ("a", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5))
        await out.settle()
        produce(out, "numbers", ("b", 6), ("a", 7))
        await out.settle()
        produce(out, "numbers", ("a", 8))

    return Plot([logs], script)


def records_that_send_and_publish_in_their_first_turn(out: Outside) -> Plot:
    logs, totals = VirtualObject("Log"), VirtualObject("Total")

    @totals.handler
    async def add(ctx: ObjectContext, number: int) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + number)

    @subscribe("numbers")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        assert ctx.record is not None
        ctx.clear("last")
        ctx.send(add, number, key="all")
        ctx.publish("seen", number, key=ctx.key, headers={"offset": str(ctx.record.offset)})
        ctx.publish("ids", str(ctx.uuid()), key=ctx.key)
        ctx.set("last", number)

    async def script() -> None:
        produce(out, "numbers", ("a", 1), ("b", 2), ("a", 3))
        await out.settle()
        produce(out, "numbers", ("a", 4))

    return Plot([logs, totals], script)


def records_of_a_busy_key_wait_in_its_inbox(out: Outside) -> Plot:
    logs = VirtualObject("Log")

    @subscribe("numbers")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        if number < 3:
            await ctx.sleep(SECOND)
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async def script() -> None:
        produce(out, "numbers", ("slow", 1), ("slow", 3), ("quick", 4), ("slow", 2), ("slow", 5))
        await out.settle()
        produce(out, "numbers", ("slow", 6), ("quick", 7))
        await out.advance(MINUTE)
        produce(out, "numbers", ("slow", 8))

    return Plot([logs], script)


def records_with_steps(out: Outside) -> Plot:
    orders = VirtualObject("Order", retry=RetryPolicy(initial=SECOND))

    @subscribe("orders")
    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> None:
        charged = await out.act(ctx, f"charge {amount}", amount, fails=amount == 2)
        ctx.set(COUNT, await ctx.get(COUNT) + charged)
        ctx.publish("charged", charged, key=ctx.key)

    async def script() -> None:
        produce(out, "orders", ("a", 1), ("b", 2), ("a", 3))
        await out.advance(MINUTE)

    return Plot([orders], script)


def records_that_fail(out: Outside) -> Plot:
    orders = VirtualObject("Order", retry=RetryPolicy(initial=SECOND))

    @subscribe("orders", on_undecodable=Skip(), on_null_key=Skip())
    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> None:
        ctx.set("seen", amount)
        if amount < 0:
            raise TerminalError("less than nothing")
        if amount == 2 and not out.gate("mended").is_set():
            raise ValueError("not yet")
        ctx.set(LOG, [*await ctx.get(LOG), amount])

    async def script() -> None:
        produce(out, "orders", ("a", -1), ("a", 2), ("a", "no number"), ("b", 4), (None, 5), ("a", 6))
        await out.advance(2 * SECOND)
        out.gate("mended").set()
        await out.advance(MINUTE)

    return Plot([orders], script)


def records_without_keys_and_tombstones(out: Outside) -> Plot:
    counts = VirtualObject("Count")
    relay = Service("Relay")

    @counts.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        return await ctx.get(COUNT)

    @subscribe("words", on_tombstone=Skip())
    @relay.handler
    async def forward(ctx: Context, word: str) -> None:
        total = await ctx.call(add, len(word), key="letters")
        ctx.publish("lengths", total, key="all")

    async def script() -> None:
        produce(out, "words", (None, "one"), (None, "three"), (None, None))
        await out.settle()
        produce(out, "words", ("k", "seven"))

    return Plot([counts, relay], script)


def records_that_start_workflows(out: Outside) -> Plot:
    signup = Workflow("SignUp")

    @subscribe("users")
    @signup.main
    async def run(ctx: WorkflowContext, name: str) -> str:
        ctx.set("name", name)
        await out.act(ctx, "greet", name)
        return name.upper()

    async def script() -> None:
        produce(out, "users", ("u1", "ann"), ("u2", "bob"), ("u1", "cid"))
        await out.settle()
        await out.start("again", run, "dan", key="u1")

    return Plot([signup], script)


def two_subscriptions_of_one_topic(out: Outside) -> Plot:
    logs, totals = VirtualObject("Log"), VirtualObject("Total")

    @subscribe("numbers", name="logs")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    @subscribe("numbers", name="totals", key=lambda record: "all")
    @totals.handler
    async def add(ctx: ObjectContext, number: int) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + number)

    async def script() -> None:
        produce(out, "numbers", ("a", 1), ("b", 2))
        await out.settle()
        await out.restart()
        produce(out, "numbers", ("a", 3))

    return Plot([logs, totals], script)


SCENARIOS = (
    records_that_end_in_their_first_turn,
    records_that_send_and_publish_in_their_first_turn,
    records_of_a_busy_key_wait_in_its_inbox,
    records_with_steps,
    records_that_fail,
    records_without_keys_and_tombstones,
    records_that_start_workflows,
    two_subscriptions_of_one_topic,
)
