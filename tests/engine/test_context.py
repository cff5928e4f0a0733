import logging
import uuid

import pytest

from streamstate import Context, ObjectContext, Service, VirtualObject
from tests.engine.world import SECOND, World

pytestmark = pytest.mark.timeout(10)


async def test_random_uuid_and_time_are_the_same_on_every_attempt(world: World) -> None:
    dice = Service("Dice")
    seen: list[list[object]] = []
    failures = [1, 1]

    @dice.handler
    async def roll(ctx: Context) -> list[object]:
        found = [ctx.random.random(), str(ctx.uuid()), (await ctx.time()).isoformat(), ctx.random.randint(1, 6)]
        seen.append(found)
        await ctx.sleep(SECOND)
        if failures:
            failures.pop()
            raise ValueError("again")
        return found

    async with world.run(dice) as env:
        one = await env.send(roll)
        await env.clock.advance(10 * SECOND)
        first = await one.result()
        two = await env.send(roll)
        await env.clock.advance(10 * SECOND)
        second = await two.result()
    assert {str(each) for each in seen} == {str(first), str(second)}
    assert first[0] != second[0]
    assert uuid.UUID(str(first[1])).version == 4


async def test_time_is_the_clock_of_the_engine(world: World) -> None:
    dice = Service("Dice")

    @dice.handler
    async def look(ctx: Context) -> str:
        before = await ctx.time()
        await ctx.sleep(90 * SECOND)
        return f"{before.isoformat()} {await ctx.time() - before}"

    async with world.run(dice) as env:
        started = world.clock.now()
        sent = await env.send(look)
        await env.clock.advance(90 * SECOND)
        assert await sent.result() == f"{started.isoformat()} 0:01:30"


async def test_the_log_is_silent_on_replay_and_says_whose_it_is(world: World, caplog: pytest.LogCaptureFixture) -> None:
    dice = VirtualObject("Dice")

    @dice.handler
    async def roll(ctx: ObjectContext) -> None:
        ctx.log.info("first")
        await ctx.sleep(SECOND)
        ctx.log.info("second")
        await ctx.run("a", int)
        ctx.log.info("third")

    with caplog.at_level(logging.INFO, "streamstate.invocation"):
        async with world.run(dice) as env:
            sent = await env.send(roll, key="d6")
            await env.clock.advance(SECOND)
            await sent.result()
    records = [record for record in caplog.records if record.name == "streamstate.invocation"]
    assert [record.message for record in records] == ["first", "second", "third"]
    assert {getattr(record, "invocation_id", None) for record in records} == {sent.id}
    assert "Dice" in str(getattr(records[0], "target", ""))
    assert getattr(records[0], "object_key", None) == "d6"


async def test_a_handler_knows_its_id_its_key_its_headers_and_that_no_record_started_it(world: World) -> None:
    dice = VirtualObject("Dice")

    @dice.handler
    async def look(ctx: ObjectContext) -> list[object]:
        await ctx.sleep(SECOND)
        return [ctx.invocation_id, ctx.key, dict(ctx.headers), ctx.record]

    async with world.run(dice) as env:
        sent = await env.send(look, key="ключ/1", headers={"tenant": "north"})
        await env.clock.advance(SECOND)
        assert await sent.result() == [sent.id, "ключ/1", {"tenant": "north"}, None]
