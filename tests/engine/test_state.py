import msgspec
import pytest

from streamstate import ObjectContext, ObjectSharedContext, StateKey, TerminalError, VirtualObject
from tests.engine.world import SECOND, World, failure_of

pytestmark = pytest.mark.timeout(10)

COUNT = StateKey[int]("count", default=0)
NAME = StateKey[str]("name")
TAGS = StateKey[list[str]]("tags", default=[])


class Place(msgspec.Struct):
    city: str
    zip: str


def _with_zip(old: bytes) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(old), "zip": "?"})


PLACE = StateKey[Place]("place", upgrade=_with_zip)


async def test_what_was_set_is_read_back_in_the_same_and_in_the_next_invocation(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        await ctx.sleep(SECOND)
        ctx.set(COUNT, await ctx.get(COUNT) + by)
        return await ctx.get(COUNT)

    async with world.run(counters) as env:
        for expected in (2, 4):
            sent = await env.send(add, 1, key="a")
            await env.clock.advance(SECOND)
            assert await sent.result() == expected
        assert await env.state(counters, "a").get(COUNT) == 4
        assert await env.state(counters, "b").get(COUNT) == 0
    async with world.run(counters) as env:
        assert await env.state(counters, "a").get(COUNT) == 4


async def test_what_is_not_there_is_none_or_the_default_and_a_default_is_new_each_time(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def look(ctx: ObjectContext) -> list[object]:
        (await ctx.get(TAGS)).append("mine")
        return [await ctx.get(NAME), await ctx.get("plain"), await ctx.get(TAGS)]

    async with world.run(counters) as env:
        assert await env.call(look, key="a") == [None, None, []]


async def test_clear_removes_one_name_and_clear_all_removes_everything(world: World) -> None:
    counters = VirtualObject("Counter")
    seen: list[list[str]] = []

    @counters.handler
    async def work(ctx: ObjectContext) -> list[list[str]]:
        ctx.set(COUNT, 1)
        ctx.set(NAME, "n")
        ctx.set("plain", {"a": 1})
        names = [await ctx.state_keys()]
        ctx.clear(NAME)
        names.append(await ctx.state_keys())
        await ctx.sleep(SECOND)
        names.append(await ctx.state_keys())
        ctx.clear_all()
        names.append(await ctx.state_keys())
        ctx.set(NAME, "again")
        names.append(await ctx.state_keys())
        return names

    async with world.run(counters) as env:
        sent = await env.send(work, key="a")
        await env.clock.advance(SECOND)
        seen = await sent.result()
        assert await env.state(counters, "a").all() == {"name": b'"again"'}
    assert seen == [["count", "name", "plain"], ["count", "plain"], ["count", "plain"], [], ["name"]]


async def test_clear_all_removes_what_earlier_invocations_left(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def fill(ctx: ObjectContext) -> None:
        ctx.set("x", 1)

    @counters.handler
    async def wipe(ctx: ObjectContext) -> object:
        ctx.set("y", 1)
        ctx.clear_all()
        return await ctx.get("x")

    async with world.run(counters) as env:
        await env.call(fill, key="a")
        assert await env.call(wipe, key="a") is None
    async with world.run(counters) as env:
        assert await env.state(counters, "a").all() == {}


async def test_an_older_shape_is_upgraded_when_it_is_read(world: World) -> None:
    shops = VirtualObject("Shop")

    @shops.shared
    async def where(ctx: ObjectSharedContext) -> Place | None:
        return await ctx.get(PLACE)

    async with world.run(shops) as env:
        await env.state(shops, "a").set("place", {"city": "Bonn"})
        assert await env.call(where, key="a") == Place("Bonn", "?")


async def test_state_written_before_a_terminal_error_stays(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def spend(ctx: ObjectContext) -> None:
        ctx.set(COUNT, 9)
        raise TerminalError("no")

    async with world.run(counters) as env:
        with pytest.raises(TerminalError, match="no"):
            await env.call(spend, key="a")
        assert await env.state(counters, "a").get(COUNT) == 9


async def test_a_turn_that_fails_leaves_no_state_behind(world: World) -> None:
    counters = VirtualObject("Counter")
    failures = [RuntimeError("first"), RuntimeError("second")]

    @counters.handler
    async def add(ctx: ObjectContext) -> int:
        ctx.set(COUNT, await ctx.get(COUNT) + 1)
        ctx.set(NAME, "half")
        if failures:
            raise failures.pop()
        ctx.clear(NAME)
        return await ctx.get(COUNT)

    async with world.run(counters) as env:
        sent = await env.send(add, key="a")
        await env.idle()
        assert await env.state(counters, "a").all() == {}
        await env.clock.advance(SECOND * 10)
        assert await sent.result() == 1
        assert await env.state(counters, "a").all() == {"count": b"1"}


async def test_a_handler_that_writes_without_end_commits_on_its_way(world: World) -> None:
    counters = VirtualObject("Counter")
    left = [1]

    @counters.handler
    async def fill(ctx: ObjectContext, count: int) -> int:
        for number in range(count):
            ctx.set(f"n{number}", number)
            ctx.set(COUNT, await ctx.get(COUNT) + 1)
            if number == 1_500 and left:
                left.pop()
                raise ConnectionError("in the middle")
        return await ctx.get(COUNT)

    async with world.run(counters) as env:
        sent = await env.send(fill, 2_500, key="a")
        await env.idle()
        assert "in the middle" in failure_of(env, sent.id)
        half = await env.state(counters, "a").get(COUNT)
        assert 0 < half < 1_501
        await env.clock.advance(SECOND)
        assert await sent.result() == 2_500
        stored = await env.state(counters, "a").all()
        assert len(stored) == 2_501
        assert stored["n2499"] == b"2499"
    async with world.run(counters) as env:
        assert await env.state(counters, "a").get(COUNT) == 2_500


async def test_stored_bytes_that_do_not_fit_their_key_are_named(world: World) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def look(ctx: ObjectContext) -> int:
        return await ctx.get(COUNT)

    async with world.run(counters) as env:
        await env.state(counters, "a").set("count", "many")
        sent = await env.send(look, key="a")
        await env.idle()
        assert "SerdeError" in failure_of(env, sent.id)
