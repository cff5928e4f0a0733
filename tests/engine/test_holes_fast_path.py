"""The fast path serves many records with one session: none of them may see that it is not its own (I2, I4)."""

from __future__ import annotations

from streamstate import ObjectContext, Record, VirtualObject, subscribe
from tests.engine.world import World


async def test_a_context_that_a_handler_keeps_stays_that_of_its_event(world: World) -> None:
    kept: list[ObjectContext] = []
    objects = VirtualObject("Object")

    @subscribe("events")
    @objects.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        if number % 2:
            kept.append(ctx)
        ctx.set("last", number)

    async with world.run(objects) as env:
        for number, key in enumerate("abcd"):
            await env.topic("events").send(number, key=key)
        await env.idle()
        # The records are of several partitions, which come in any order.
        assert sorted(ctx.key for ctx in kept) == ["b", "d"]


async def test_every_record_has_an_identity_and_a_seed_of_its_own(world: World) -> None:
    ids: list[str] = []
    numbers: list[float] = []
    objects = VirtualObject("Object")

    @subscribe("events")
    @objects.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ids.append(ctx.invocation_id)
        numbers.append(ctx.random.random())
        ctx.set("last", number)

    async with world.run(objects) as env:
        for number in range(4):
            await env.topic("events").send(number, key="k")
        await env.idle()
        assert len(set(ids)) == len(set(numbers)) == 4


async def test_offsets_that_go_back_within_one_delivery_are_taken_once(world: World) -> None:
    objects = VirtualObject("Object")

    @subscribe("events", name="events")
    @objects.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set("log", [*(await ctx.get("log") or []), number])

    async with world.run(objects) as env:
        engine = env.running.engine
        intake = engine.intake(engine.program.subscriptions[0])
        records = [Record("events", 9, offset, 0, b"k", str(offset).encode()) for offset in (0, 1, 2, 1, 2, 3)]
        intake.take(records, {"events": "id"})
        engine.pump()
        await env.idle()
        assert await env.state(objects, "k").get("log") == [0, 1, 2, 3]
