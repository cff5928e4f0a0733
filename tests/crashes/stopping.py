"""Scenarios: invocations that are cancelled, killed, paused, refused, or forgotten."""

from datetime import timedelta

from streamstate import (
    CancelledError,
    Context,
    ObjectContext,
    Retention,
    RetryPolicy,
    Service,
    StateKey,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
)
from tests.crashes.outside import MINUTE, SECOND, Outside, Plot

COUNT = StateKey[int]("count", default=0)


def a_cancelled_invocation_compensates(out: Outside) -> Plot:
    trips, hotels = VirtualObject("Trip"), VirtualObject("Hotel")

    @hotels.handler
    async def reserve(ctx: ObjectContext, nights: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + nights)
        try:
            await ctx.sleep(10 * MINUTE)
        except CancelledError:
            await out.act(ctx, "free the room")
            ctx.set(COUNT, await ctx.get(COUNT) - nights)
            raise
        return nights

    @trips.handler
    async def book(ctx: ObjectContext, nights: int) -> int:
        await out.act(ctx, "book the flight")
        try:
            return await ctx.call(reserve, nights, key="inn")
        except CancelledError:
            await out.act(ctx, "cancel the flight")
            ctx.publish("cancelled", ctx.key)
            raise

    @trips.handler
    async def change(ctx: ObjectContext, nights: int) -> int:
        return nights

    async def script() -> None:
        booked = await out.send("book", book, 2, key="t")
        await out.send("change", change, 3, key="t")
        await out.settle()
        await out.cancel(booked)
        await out.settle()
        await out.call("book", book, 2, key="t")
        await out.call("change", change, 3, key="t")

    return Plot([trips, hotels], script)


def a_handler_cancels_what_it_sent(out: Outside) -> Plot:
    front, logs = Service("Front"), VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> str:
        try:
            await ctx.sleep(MINUTE)
        except CancelledError:
            await out.act(ctx, f"cancelled {text}")
            return "caught"
        ctx.set("text", text)
        return text

    @front.handler
    async def work(ctx: Context) -> list[str]:
        running = ctx.send(note, "running", key="k", idempotency_key="running")
        queued = ctx.send(note, "queued", key="k", idempotency_key="queued")
        later = ctx.send(note, "later", key="k", delay=MINUTE, idempotency_key="later")
        await out.act(ctx, "wait a little")
        answers = []
        for each in (later, queued, running):
            each.cancel()
            try:
                answers.append(await each.attach())
            except CancelledError as error:
                answers.append(error.message)
        return answers

    async def script() -> None:
        await out.call("a", work)

    return Plot([front, logs], script)


def a_killed_call_tree_frees_its_keys(out: Outside) -> Plot:
    trips, hotels = VirtualObject("Trip"), VirtualObject("Hotel")

    @hotels.handler
    async def reserve(ctx: ObjectContext, nights: int) -> int:
        ctx.set(COUNT, nights)
        await out.act(ctx, f"reserve {nights}")
        await ctx.sleep(timedelta(minutes=nights))
        await out.act(ctx, f"reserved {nights}")
        return nights

    @trips.handler
    async def book(ctx: ObjectContext, nights: int) -> int:
        return await ctx.call(reserve, nights, key="inn")

    async def script() -> None:
        booked = await out.send("book", book, 10, key="t")
        await out.settle()
        await out.do(lambda client: client.invocation(booked).kill())
        await out.call("book", book, 10, key="t")
        await out.over(2 * MINUTE, out.call("again", book, 1, key="t"))

    return Plot([trips, hotels], script)


def a_paused_invocation_is_resumed(out: Outside) -> Plot:
    orders = VirtualObject("Order", retry=RetryPolicy(initial=SECOND, attempts_max=2))

    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + amount)
        paid = await out.act(ctx, f"charge {amount}", amount)
        if amount == 1 and not out.gate("mended").is_set():
            raise ValueError("a bug")
        return int(paid) + await ctx.get(COUNT)

    async def script() -> None:
        paused = await out.send("a", pay, 1, key="k")
        await out.send("b", pay, 2, key="k")
        await out.advance(10 * SECOND)
        await out.ask("paused", lambda client: client.invocation(paused).result())
        out.gate("mended").set()
        await out.do(lambda client: client.invocation(paused).resume())
        await out.settle()
        await out.call("a", pay, 1, key="k")
        await out.call("b", pay, 2, key="k")

    return Plot([orders], script)


def what_arrives_in_a_backoff_is_kept(out: Outside) -> Plot:
    front, naps = Service("Front", retry=RetryPolicy(initial=20 * SECOND)), VirtualObject("Nap")

    @naps.handler
    async def nap(ctx: ObjectContext, text: str) -> str:
        await ctx.sleep(5 * SECOND)
        return text

    @front.handler
    async def work(ctx: Context) -> list[str]:
        napped = ctx.call(nap, "napped", key="k")
        one, two, signalled = ctx.awakeable(str), ctx.awakeable(str), ctx.signal("go", str)
        await out.act(ctx, "ask", [one.id, two.id, ctx.invocation_id])
        first = await one
        if not out.gate("mended").is_set():
            raise ValueError("not mended yet")
        return [first, await two, await signalled, await napped]

    @front.handler
    async def shout(ctx: Context, invocation: str) -> None:
        ctx.invocation(invocation).signal("go").resolve("signalled")

    async def script() -> None:
        await out.send("a", work)
        await out.settle()
        one, two, invocation = out.notes["ask"]
        await out.resolve(one, "one")
        await out.resolve(two, "two")
        await out.call("shout", shout, invocation)
        await out.advance(10 * SECOND)
        out.gate("mended").set()
        await out.over(MINUTE, out.call("a", work))

    return Plot([front, naps], script)


def a_cycle_of_calls_is_refused(out: Outside) -> Plot:
    nodes = VirtualObject("Node")

    @nodes.handler
    async def visit(ctx: ObjectContext, path: list[str]) -> str:
        ctx.set("path", path)
        try:
            return await ctx.call_by_name("Node", "visit", path[1:], key=path[0], returns=str)
        except TerminalError as error:
            ctx.set("refused", error.code)
            raise

    async def script() -> None:
        await out.call("a", visit, ["b", "a"], key="a")

    return Plot([nodes], script)


def what_has_passed_its_retention_begins_anew(out: Outside) -> Plot:
    kept = Retention(idempotency=2 * MINUTE, workflow=2 * MINUTE)
    counters, signup = VirtualObject("Counter", retention=kept), Workflow("SignUp", retention=kept)

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        await out.act(ctx, "add")
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        return await ctx.get(COUNT)

    @signup.main
    async def run(ctx: WorkflowContext, user: str) -> list[str | None]:
        before = [await ctx.get("user"), await ctx.promise("p", str).peek()]
        ctx.set("user", user)
        ctx.promise("p", str).resolve(user)
        return before

    async def script() -> None:
        for turn in ("first", "second"):
            await out.call("add", add, 1, key="k", heard=f"add, {turn}")
            await out.start(f"run, {turn}", run, turn, key="u")
            out.forget(f"add, {turn}")
            out.forget(f"run, {turn}")
            await out.advance(5 * MINUTE)

    return Plot([counters, signup], script)


SCENARIOS = (
    a_cancelled_invocation_compensates,
    a_handler_cancels_what_it_sent,
    a_killed_call_tree_frees_its_keys,
    a_paused_invocation_is_resumed,
    what_arrives_in_a_backoff_is_kept,
    a_cycle_of_calls_is_refused,
    what_has_passed_its_retention_begins_anew,
)
