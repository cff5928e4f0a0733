"""Scenarios: invocations that call, send to, and wait for each other."""

from streamstate import (
    Context,
    ObjectContext,
    Service,
    StateKey,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from tests.crashes.outside import MINUTE, SECOND, Outside, Plot
from tests.crashes.process import WRITE_ROUNDS

COUNT = StateKey[int]("count", default=0)
LOG = StateKey[list[str]]("log", default=[])


def calls_over_three_objects(out: Outside) -> Plot:
    front, carts, stock = Service("Front"), VirtualObject("Cart"), VirtualObject("Stock")

    @stock.handler
    async def take(ctx: ObjectContext, count: int) -> int:
        left = 10 - await ctx.get(COUNT) - count
        if left < 0:
            raise TerminalError(f"{-left} too few of {ctx.key}", code=409)
        ctx.set(COUNT, await ctx.get(COUNT) + count)
        return left

    @carts.handler
    async def add(ctx: ObjectContext, item: str) -> dict[str, str]:
        left = await ctx.call(take, 6, key=item, headers={"from": ctx.key})
        ctx.set(LOG, [*await ctx.get(LOG), item])
        return {"left": str(left), **ctx.headers}

    @front.handler
    async def order(ctx: Context, items: list[str]) -> list[dict[str, str]]:
        return [await ctx.call(add, item, key="ann", headers={"trace": "t"}) for item in items]

    async def script() -> None:
        await out.call("a", order, ["tea", "jam"])
        await out.call("b", order, ["tea"])

    return Plot([front, carts, stock], script)


def calls_by_name_and_with_idempotency_keys(out: Outside) -> Plot:
    front, counters = Service("Front"), VirtualObject("Counter")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        await out.act(ctx, f"add {by}")
        return await ctx.get(COUNT)

    @front.handler
    async def work(ctx: Context, by: int) -> list[int]:
        named = await ctx.call_by_name("Counter", "add", by, key="k", returns=int)
        once = await ctx.call(add, by, key="k", idempotency_key="once")
        ctx.send_by_name("Counter", "add", by, key="k", idempotency_key="sent once")
        return [named, once]

    async def script() -> None:
        await out.call("a", work, 2)
        await out.call("once", add, 2, key="k")
        await out.settle()
        await out.call("b", work, 2)

    return Plot([front, counters], script)


def two_callers_with_one_idempotency_key(out: Outside) -> Plot:
    counters = VirtualObject("Counter")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        await out.act(ctx, "add")
        await ctx.sleep(SECOND)
        return await ctx.get(COUNT)

    async def script() -> None:
        await out.over(MINUTE, out.call("one", add, 2, key="k"), out.call("one", add, 2, key="k"))

    return Plot([counters], script)


def sends_now_and_later_over_a_restart(out: Outside) -> Plot:
    front, logs = Service("Front"), VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), text])
        ctx.publish("noted", [text, (await ctx.time()).isoformat()], key=ctx.key)

    @front.handler
    async def order(ctx: Context) -> list[str]:
        late = ctx.send(note, "late", key="k", delay=20 * SECOND)
        ctx.send(note, "now", key="k")
        soon = ctx.send(note, "soon", key="k", delay=10 * SECOND)
        return [await late.id(), await soon.id()]

    async def script() -> None:
        await out.call("a", order)
        await out.send("much later", note, "outside", key="k", delay=MINUTE)
        await out.restart()
        await out.advance(15 * SECOND)
        await out.restart()
        await out.advance(15 * SECOND)

    return Plot([front, logs], script)


def sends_to_many_keys(out: Outside) -> Plot:
    front, logs = Service("Front"), VirtualObject("Log")

    @logs.handler
    async def note(ctx: ObjectContext, text: str) -> str:
        ctx.set(LOG, [*await ctx.get(LOG), text])
        await out.act(ctx, f"note {text}")
        return text * 2

    @front.handler
    async def order(ctx: Context) -> list[str]:
        sent = [ctx.send(note, f"{key}{n}", key=key) for n in (1, 2) for key in "ab"]
        return [await each.attach() for each in sent]

    async def script() -> None:
        await out.call("a", order)

    return Plot([front, logs], script)


def awakeables_from_outside_and_inside(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def ask(ctx: Context, name: str) -> list[str]:
        one, two = ctx.awakeable(str), ctx.awakeable(int)
        await out.act(ctx, f"{name} one", one.id)
        await out.act(ctx, f"{name} two", two.id)
        try:
            return [await one, str(await two)]
        except TerminalError as error:
            return [error.message]

    @shop.handler
    async def answer(ctx: Context, ids: list[str]) -> None:
        ctx.resolve_awakeable(ids[0], "yes")
        ctx.reject_awakeable(ids[1], "too late")

    async def script() -> None:
        await out.send("a", ask, "a")
        await out.send("b", ask, "b")
        await out.settle()
        await out.resolve(out.notes["a two"], 7)
        await out.resolve(out.notes["a one"], "ok")
        await out.call("answer", answer, [out.notes["b one"], out.notes["b two"]])
        await out.call("a", ask, "a")
        await out.call("b", ask, "b")

    return Plot([shop], script)


def answers_at_every_moment_of_a_commit(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def ask(ctx: Context, name: str) -> str:
        asked = ctx.awakeable(str)
        await out.act(ctx, name, asked.id)
        return await asked

    async def script() -> None:
        names = ["n0", "n1", "n2", "n3"]
        for name in names:
            await out.send(name, ask, name)
        await out.settle()
        # The first is written; the others come around the moment when that is done and the next batch is sealed.
        moments = (0, WRITE_ROUNDS + 1, WRITE_ROUNDS + 2, WRITE_ROUNDS + 3)
        resolved = [
            out.resolve_after(rounds, out.notes[name], name) for rounds, name in zip(moments, names, strict=True)
        ]
        await out.over(SECOND, *resolved)
        for name in names:
            await out.call(name, ask, name)

    return Plot([shop], script)


def promises_of_a_workflow(out: Outside) -> Plot:
    signup = Workflow("SignUp")

    @signup.main
    async def run(ctx: WorkflowContext, user: str) -> list[str | None]:
        ctx.set("user", user)
        await out.act(ctx, "send the mail")
        secret = await ctx.promise("secret", str)
        ctx.promise("answered", str).resolve(secret + "!")
        try:
            await ctx.promise("refused", str)
        except TerminalError as error:
            return [secret, error.message, await ctx.promise("never", str).peek()]
        return []

    @signup.shared
    async def click(ctx: WorkflowSharedContext, secret: str) -> list[str]:
        ctx.promise("secret", str).resolve(secret)
        ctx.promise("refused", str).reject("no")
        return [await ctx.promise("answered", str), str(await ctx.get("user"))]

    async def script() -> None:
        await out.send("run", run, "ann", key="u")
        await out.settle()
        await out.call("click", click, "s", key="u")
        await out.call("click again", click, "t", key="u")
        await out.start("result", run, "ann", key="u")

    return Plot([signup], script)


def a_workflow_runs_once_per_key(out: Outside) -> Plot:
    signup, front = Workflow("SignUp"), Service("Front")

    @signup.main
    async def run(ctx: WorkflowContext, user: str) -> str:
        await out.act(ctx, "greet", user)
        await ctx.sleep(SECOND)
        return user

    @front.handler
    async def register(ctx: Context, user: str) -> list[str]:
        started = ctx.send(run, user, key="u")
        try:
            await ctx.call(run, user, key="u")
        except TerminalError as error:
            return [await started.attach(), str(error.code), str(await ctx.invocation(await started.id()).attach(str))]
        return ["called twice"]

    async def script() -> None:
        await out.over(MINUTE, out.call("a", register, "ann"))
        await out.call("b", register, "bob")
        await out.start("c", run, "cid", key="u")

    return Plot([signup, front], script)


def signals_early_and_late(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def listen(ctx: Context) -> list[str]:
        await out.act(ctx, "listening", ctx.invocation_id)
        await ctx.sleep(SECOND)
        heard = [await ctx.signal("go", str), await ctx.signal("go", str)]
        try:
            await ctx.signal("stop", str)
        except TerminalError as error:
            heard.append(error.message)
        return heard

    @shop.handler
    async def shout(ctx: Context, words: list[str]) -> None:
        other = ctx.invocation(words[0])
        for word in words[1:]:
            other.signal("go").resolve(word)
        other.signal("stop").reject("enough")

    async def script() -> None:
        await out.send("l", listen)
        await out.settle()
        await out.call("early", shout, [out.notes["listening"], "one"])
        await out.advance(MINUTE)
        await out.call("late", shout, [out.notes["listening"], "two"])
        await out.call("l", listen)

    return Plot([shop], script)


SCENARIOS = (
    calls_over_three_objects,
    calls_by_name_and_with_idempotency_keys,
    two_callers_with_one_idempotency_key,
    sends_now_and_later_over_a_restart,
    sends_to_many_keys,
    awakeables_from_outside_and_inside,
    answers_at_every_moment_of_a_commit,
    promises_of_a_workflow,
    a_workflow_runs_once_per_key,
    signals_early_and_late,
)
