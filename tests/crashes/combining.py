"""Scenarios: asyncio's combinators over durable verbs, sagas, publishing, and what is deterministic."""

import asyncio

from streamstate import (
    CancelledError,
    Context,
    ObjectContext,
    Service,
    StateKey,
    TerminalError,
    Topic,
    VirtualObject,
)
from tests.crashes.outside import MINUTE, SECOND, Outside, Plot

COUNT = StateKey[int]("count", default=0)
LOG = StateKey[list[str]]("log", default=[])
RECEIPTS = Topic[dict[str, int]]("receipts")


def gathered_steps(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> list[str]:
        async def pack(item: str) -> str:
            await out.act(ctx, f"pick {item}")
            return str(await out.act(ctx, f"pack {item}", item.upper()))

        packed = await asyncio.gather(pack("a"), out.act(ctx, "print", "bill"), pack("b"))
        failed = await asyncio.gather(
            out.act(ctx, "weigh", 1), out.act(ctx, "stamp", refusal="no stamps"), return_exceptions=True
        )
        return [*packed, *map(str, failed)]

    async def script() -> None:
        await out.call("a", order)

    return Plot([shop], script)


def waited_for_one_after_the_other(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> list[str]:
        bids = {ctx.awakeable(str) for _ in range(3)}
        await out.act(ctx, "ask", sorted(bid.id for bid in bids))
        heard: list[str] = []
        pending: set[asyncio.Future[str]] = {*bids}
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            heard += [each.result() for each in done]
            await out.act(ctx, f"note {len(heard)}")
        return heard

    async def script() -> None:
        await out.send("a", order)
        for place, word in ((2, "two"), (0, "zero"), (1, "one")):
            await out.settle()
            await out.resolve(out.notes["ask"][place], word)
        await out.call("a", order)

    return Plot([shop], script)


def as_they_are_completed(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> list[str]:
        async def bake(minutes: int) -> str:
            await asyncio.sleep(minutes * 60)
            return str(await out.act(ctx, f"bake {minutes}", f"cake {minutes}"))

        return [await each for each in asyncio.as_completed([bake(2), bake(1), bake(3)])]

    async def script() -> None:
        await out.over(5 * MINUTE, out.call("a", order))

    return Plot([shop], script)


def a_task_group_that_fails_compensates(out: Outside) -> Plot:
    shows = VirtualObject("Show")

    @shows.handler
    async def reserve(ctx: ObjectContext, seats: list[str]) -> str:
        async def take(seat: str) -> None:
            try:
                await out.act(ctx, f"take {seat}")
                await asyncio.sleep(60)
            finally:
                await out.act(ctx, f"give back {seat}")

        async def refuse() -> None:
            await ctx.sleep(SECOND)
            await out.act(ctx, "count", refusal="sold out")

        try:
            async with asyncio.TaskGroup() as group:
                for seat in seats:
                    group.create_task(take(seat))
                group.create_task(refuse())
        except* TerminalError as errors:
            ctx.set("refused", str(errors.exceptions[0]))
        return "done"

    async def script() -> None:
        await out.over(MINUTE, out.call("a", reserve, ["s1", "s2"], key="k"))

    return Plot([shows], script)


def a_timeout_and_a_shield(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> list[object]:
        answers: list[object] = []
        charged = out.act(ctx, "charge", "charged", gate="bank")
        try:
            async with asyncio.timeout(5):
                answers.append(await asyncio.shield(charged))
        except TimeoutError:
            answers.append("late")
        await out.act(ctx, "apologize")
        answers.append(await charged)
        try:
            await asyncio.wait_for(ctx.awakeable(str), 5)
        except TimeoutError:
            answers.append("nobody")
        return answers

    async def script() -> None:
        sent = await out.send("a", order)
        await out.stir(lambda: bool(out.witness.shadow.invocations.timers(sent)))
        await out.skip(6 * SECOND)
        await out.stir(lambda: "apologize" in out.notes)
        out.gate("bank").set()
        await out.over(MINUTE, out.call("a", order))

    return Plot([shop], script)


def a_saga(out: Outside) -> Plot:
    trips = VirtualObject("Trip")

    @trips.handler
    async def book(ctx: ObjectContext, places: list[str]) -> list[str]:
        undo: list[str] = []
        try:
            for place in places:
                undo.append(place)
                await out.act(ctx, f"book {place}", refusal="full" if place == "rome" else "")
                ctx.set(LOG, [*await ctx.get(LOG), place])
        except TerminalError:
            for place in reversed(undo):
                await out.act(ctx, f"free {place}")
                ctx.publish("freed", place, key=ctx.key)
            ctx.clear(LOG)
            raise
        return undo

    async def script() -> None:
        await out.call("a", book, ["oslo", "bonn"], key="k")
        await out.call("b", book, ["oslo", "bonn", "rome", "bern"], key="k")

    return Plot([trips], script)


def sleeps_take_their_time(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def nap(ctx: Context) -> list[float]:
        began = await ctx.time()
        await ctx.sleep(10 * SECOND)
        first = await ctx.time()
        await out.act(ctx, "turn over")
        await asyncio.gather(asyncio.sleep(5), ctx.sleep(20 * SECOND), asyncio.sleep(0))
        return [(first - began).total_seconds(), (await ctx.time() - first).total_seconds()]

    async def script() -> None:
        await out.over(MINUTE, out.call("a", nap))

    return Plot([shop], script)


def everything_is_published_once_by_id(out: Outside) -> Plot:
    orders = VirtualObject("Order")

    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> None:
        ctx.publish(RECEIPTS, {"amount": amount}, key=ctx.key, headers={"kind": "receipt"})
        await out.act(ctx, f"charge {amount}")
        sent = [ctx.publish("audit", [amount, part], key="all") for part in range(3)]
        await asyncio.gather(*sent)
        ctx.publish("audit", None, key="all")

    async def script() -> None:
        await out.call("a", pay, 1, key="k")
        await out.call("b", pay, 2, key="l")

    return Plot([orders], script)


def random_numbers_and_times_are_the_same(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def draw(ctx: Context) -> list[str]:
        before = [str(ctx.uuid()), str(ctx.random.randrange(1_000_000)), (await ctx.time()).isoformat()]
        await out.act(ctx, "look")
        ctx.publish("drawn", str(ctx.uuid()), key="k")
        await ctx.sleep(SECOND)
        return [*before, str(ctx.uuid()), (await ctx.time()).isoformat()]

    async def script() -> None:
        await out.over(MINUTE, out.call("a", draw))

    return Plot([shop], script)


def steps_that_nobody_awaits_are_joined(out: Outside) -> Plot:
    orders = VirtualObject("Order")

    @orders.handler
    async def pay(ctx: ObjectContext, amount: int) -> int:
        out.act(ctx, "log it", amount)
        task = asyncio.create_task(_later(out, ctx))
        ctx.publish("paid", amount, key=ctx.key)
        ctx.set(COUNT, await ctx.get(COUNT) + amount)
        await asyncio.sleep(0)
        return amount + len(task.get_name())

    async def script() -> None:
        await out.call("a", pay, 1, key="k")
        await out.call("b", pay, 2, key="k")

    return Plot([orders], script)


async def _later(out: Outside, ctx: Context) -> None:
    await out.act(ctx, "in a task")


def a_cancelled_group_compensates_in_every_task(out: Outside) -> Plot:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        async def wait(name: str) -> None:
            try:
                await ctx.sleep(10 * MINUTE)
            except CancelledError:
                await out.act(ctx, f"undo {name}")
                raise

        try:
            async with asyncio.TaskGroup() as group:
                for name in "abc":
                    group.create_task(wait(name))
        except* CancelledError:
            await out.act(ctx, "undo all")
            raise

    async def script() -> None:
        sent = await out.send("a", order)
        await out.settle()
        await out.cancel(sent)
        await out.settle()
        await out.call("a", order)

    return Plot([shop], script)


SCENARIOS = (
    gathered_steps,
    waited_for_one_after_the_other,
    as_they_are_completed,
    a_task_group_that_fails_compensates,
    a_timeout_and_a_shield,
    a_saga,
    sleeps_take_their_time,
    everything_is_published_once_by_id,
    random_numbers_and_times_are_the_same,
    steps_that_nobody_awaits_are_joined,
    a_cancelled_group_compensates_in_every_task,
)
