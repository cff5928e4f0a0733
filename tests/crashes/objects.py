"""Scenarios: state, steps, attempts that fail, and the queue of a key."""

from streamstate import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    RetryPolicy,
    Service,
    StateKey,
    Step,
    TerminalError,
    VirtualObject,
)
from tests.crashes.outside import ALWAYS, MINUTE, SECOND, Outside, Plot

COUNT = StateKey[int]("count", default=0)
LOG = StateKey[list[str]]("log", default=[])


def state_is_set_cleared_and_listed(out: Outside) -> Plot:
    boxes = VirtualObject("Box")

    @boxes.handler
    async def fill(ctx: ObjectContext, names: list[str]) -> list[str]:
        for name in names:
            ctx.set(name, len(name))
        ctx.set(COUNT, await ctx.get(COUNT) + len(names))
        return await ctx.state_keys()

    @boxes.handler
    async def drop(ctx: ObjectContext, name: str) -> list[str]:
        ctx.clear(name)
        await out.act(ctx, f"dropped {name}")
        return await ctx.state_keys()

    @boxes.handler
    async def empty(ctx: ObjectContext) -> list[str]:
        ctx.clear_all()
        before = await ctx.state_keys()
        await out.act(ctx, "emptied")
        ctx.set("last", "kept")
        return [*before, *await ctx.state_keys()]

    async def script() -> None:
        await out.call("fill", fill, ["a", "bb"], key="k")
        await out.call("drop", drop, "a", key="k")
        await out.call("more", fill, ["ccc"], key="k")
        await out.call("other", fill, ["a"], key="l")
        await out.call("empty", empty, key="k")
        await out.call("after", fill, ["d"], key="k")

    return Plot([boxes], script)


def a_step_between_two_writes(out: Outside) -> Plot:
    orders = VirtualObject("Order")

    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + amount)
        await out.act(ctx, "charge", amount)
        ctx.set("paid", amount)
        return await ctx.get(COUNT)

    async def script() -> None:
        await out.call("a", pay, 3, key="k")
        await out.call("b", pay, 4, key="k")

    return Plot([orders], script)


def sync_steps_in_a_row(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def pack(ctx: Context, items: list[str]) -> list[str]:
        return [await out.act_in_thread(ctx, f"pack {item}", item.upper()) for item in items]

    async def script() -> None:
        await out.call("a", pack, ["x", "y", "z"])

    return Plot([shop], script)


def a_step_that_is_retried_by_the_handlers_policy(out: Outside) -> Plot:
    orders = VirtualObject("Order", retry=RetryPolicy(initial=SECOND))

    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> int:
        ctx.set("trying", True)
        charged = await out.act(ctx, "charge", amount, fails=2)
        ctx.set("charged", charged)
        return int(charged)

    async def script() -> None:
        await out.over(10 * SECOND, out.call("a", pay, 5, key="k"), out.call("b", pay, 6, key="l"))

    return Plot([orders], script)


def a_step_whose_own_policy_is_spent(out: Outside) -> Plot:
    orders = VirtualObject("Order")

    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> str:
        ctx.set("asked", amount)
        try:
            await out.act(ctx, Step("charge", retry=RetryPolicy(initial=SECOND, attempts_max=3)), amount, fails=ALWAYS)
        except TerminalError:
            await out.act(ctx, "tell the customer")
            return "not charged"
        return "charged"

    async def script() -> None:
        await out.over(10 * SECOND, out.call("a", pay, 5, key="k"))

    return Plot([orders], script)


def terminal_errors_after_writes(out: Outside) -> Plot:
    orders = VirtualObject("Order")

    @orders.handler
    async def refuse(ctx: ObjectContext, reason: str) -> None:
        ctx.set("refused", reason)
        raise TerminalError(reason, code=422)

    @orders.handler
    async def refuse_late(ctx: ObjectContext, reason: str) -> None:
        ctx.set("late", reason)
        await out.act(ctx, "ask", refusal=f"refused: {reason}")

    @orders.handler
    async def fall_back(ctx: ObjectContext, reason: str) -> str:
        try:
            await out.act(ctx, "ask first", refusal=reason)
        except TerminalError as error:
            ctx.set("instead", error.message)
            return str(await out.act(ctx, "ask second", "yes"))
        return "never"

    async def script() -> None:
        await out.call("a", refuse, "sold out", key="k")
        await out.call("b", refuse_late, "no seat", key="k")
        await out.call("c", fall_back, "no luck", key="k")

    return Plot([orders], script)


def an_attempt_that_fails_is_dropped_whole(out: Outside) -> Plot:
    orders = VirtualObject("Order", retry=RetryPolicy(initial=SECOND))

    @orders.handler
    async def note(ctx: ObjectContext, text: str) -> list[str]:
        before = await out.act(ctx, f"begin {text}", len(text))
        ctx.set(LOG, [*await ctx.get(LOG), text])
        ctx.publish("notes", text, key=ctx.key)
        if not out.gate("mended").is_set():
            raise ValueError(f"{before} is not mended yet")
        await out.act(ctx, f"end {text}")
        return await ctx.get(LOG)

    async def script() -> None:
        await out.send("a", note, "x", key="k")
        await out.send("b", note, "y", key="k")
        await out.advance(5 * SECOND)
        out.gate("mended").set()
        await out.advance(MINUTE)
        await out.call("c", note, "z", key="k")

    return Plot([orders], script)


def a_queue_of_a_key(out: Outside) -> Plot:
    logs = VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> list[str]:
        ctx.set(LOG, [*await ctx.get(LOG), text])
        await out.act(ctx, f"note {text}")
        await ctx.sleep(SECOND)
        await out.act(ctx, f"noted {text}")
        ctx.publish("noted", text, key=ctx.key)
        return await ctx.get(LOG)

    @logs.shared
    async def read(ctx: ObjectSharedContext) -> list[str]:
        return await ctx.get(LOG)

    async def script() -> None:
        for text in ("a", "b", "c"):
            await out.send(text, note, text, key="k")
            if text != "a":
                await out.restart()
        await out.send("d", note, "d", key="l")
        await out.advance(10 * SECOND)
        out.expect(await out.call("read", read, key="k"), ["a", "b", "c"])

    return Plot([logs], script)


def shared_handlers_beside_an_exclusive_one(out: Outside) -> Plot:
    logs = VirtualObject("Log")

    @logs.handler
    async def write(ctx: ObjectContext, text: str) -> str:
        ctx.set("text", text)
        await ctx.sleep(MINUTE)
        ctx.set("text", text * 2)
        return text

    @logs.shared
    async def read(ctx: ObjectSharedContext) -> list[str]:
        first = await ctx.get("text")
        await out.act(ctx, "look away")
        await ctx.sleep(2 * MINUTE)
        return [first, await ctx.get("text"), *await ctx.state_keys()]

    async def script() -> None:
        await out.send("write", write, "t", key="k")
        await out.settle()
        await out.over(5 * MINUTE, out.call("read", read, key="k"))
        await out.call("write", write, "t", key="k")

    return Plot([logs], script)


def a_step_in_backoff_is_resumed_and_fails_again(out: Outside) -> Plot:
    orders = VirtualObject("Order", retry=RetryPolicy(initial=10 * SECOND))

    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> int:
        charged = await out.act(ctx, "charge", amount, fails=3)
        ctx.set("charged", charged)
        return int(charged)

    async def script() -> None:
        sent = await out.send("a", pay, 5, key="k")
        await out.advance(7 * SECOND)
        await out.do(lambda client: client.invocation(sent).resume())
        await out.over(2 * MINUTE, out.call("a", pay, 5, key="k"))

    return Plot([orders], script)


def a_steps_pause_ends_while_its_handler_backs_off(out: Outside) -> Plot:
    shop = Service("Shop", retry=RetryPolicy(initial=10 * SECOND))

    @shop.handler
    async def order(ctx: Context) -> list[str]:
        packed = out.act(ctx, "pack", "packed", fails=1)
        await ctx.sleep(5 * SECOND)
        if not out.gate("mended").is_set():
            raise ValueError("not mended yet")
        return [await packed, await out.act(ctx, "send", "sent")]

    async def script() -> None:
        await out.send("a", order)
        await out.advance(12 * SECOND)
        out.gate("mended").set()
        await out.over(2 * MINUTE, out.call("a", order))

    return Plot([shop], script)


def a_handler_that_fails_until_it_is_paused(out: Outside) -> Plot:
    orders = VirtualObject("Order", retry=RetryPolicy(initial=SECOND, attempts_max=3))

    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + amount)
        if not out.gate("mended").is_set():
            raise ValueError("a bug")
        return await ctx.get(COUNT)

    @orders.handler
    async def charge(ctx: ObjectContext, amount: int) -> int:
        return int(await out.act(ctx, "charge", amount, fails=0 if out.gate("mended").is_set() else ALWAYS))

    async def script() -> None:
        paused = await out.send("a", pay, 1, key="k")
        step_paused = await out.send("b", charge, 1, key="l")
        await out.send("c", pay, 2, key="k")
        await out.advance(20 * SECOND)
        await out.ask("paused", lambda client: client.invocation(paused).result())
        await out.ask("step paused", lambda client: client.invocation(step_paused).result())
        out.gate("mended").set()
        await out.do(lambda client: client.invocation(paused).resume())
        await out.do(lambda client: client.invocation(step_paused).resume())
        for label, handler, amount, key in (("a", pay, 1, "k"), ("b", charge, 1, "l"), ("c", pay, 2, "k")):
            await out.call(label, handler, amount, key=key)

    return Plot([orders], script)


def sends_without_identity(out: Outside) -> Plot:
    """Not one of those that a crash leaves as they are: what nobody confirmed may have been accepted, or not."""
    logs = VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        await out.act(ctx, f"note {text}")
        ctx.set(LOG, [*await ctx.get(LOG), text])

    async def script() -> None:
        for text in ("a", "b", "c"):
            await out.send_once(text, note, text, key="k")

    return Plot([logs], script)


SCENARIOS = (
    state_is_set_cleared_and_listed,
    a_step_between_two_writes,
    sync_steps_in_a_row,
    a_step_that_is_retried_by_the_handlers_policy,
    a_step_whose_own_policy_is_spent,
    terminal_errors_after_writes,
    an_attempt_that_fails_is_dropped_whole,
    a_queue_of_a_key,
    shared_handlers_beside_an_exclusive_one,
    a_step_in_backoff_is_resumed_and_fails_again,
    a_steps_pause_ends_while_its_handler_backs_off,
    a_handler_that_fails_until_it_is_paused,
)
