import msgspec
import pytest

from streamstate import Context, ObjectContext, RetryPolicy, Service, TerminalError, Topic, VirtualObject
from tests.engine.world import SECOND, World, failure_of

pytestmark = pytest.mark.timeout(10)


class Order(msgspec.Struct):
    item: str


ORDERS = Topic[Order]("orders")


async def test_messages_leave_in_order_with_key_headers_and_a_message_id_of_their_own(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        ctx.publish(ORDERS, Order("tea"), key="k", headers={"trace": "t1"})
        await ctx.publish(ORDERS, Order("milk"), key="k")
        await ctx.sleep(SECOND)
        ctx.publish("orders", {"item": "cake"}, key=b"k")

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert env.topic(ORDERS).values() == [Order("tea"), Order("milk")]
        await env.clock.advance(SECOND)
        await sent.result()
        records = env.topic(ORDERS).records()
        assert [record.value for record in records] == [b'{"item":"tea"}', b'{"item":"milk"}', b'{"item":"cake"}']
        assert [record.key for record in records] == [b"k"] * 3
        assert records[0].headers[0] == ("trace", b"t1")
        ids = [dict(record.headers)["streamstate-message-id"] for record in records]
        assert len(set(ids)) == 3
        assert all(sent.id.encode() in each for each in ids if each is not None)


async def test_none_is_a_tombstone(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def forget(ctx: Context) -> None:
        ctx.publish(ORDERS, None, key="k")

    async with world.run(shop) as env:
        await env.call(forget)
        await env.idle()
        assert [(record.key, record.value) for record in env.topic(ORDERS).records()] == [(b"k", None)]


async def test_a_turn_that_fails_publishes_nothing_and_its_repetition_publishes_once(world: World) -> None:
    shop = VirtualObject("Shop")
    failures = [1]

    @shop.handler
    async def order(ctx: ObjectContext) -> None:
        ctx.publish("orders", 1)
        if failures:
            failures.pop()
            raise ValueError("once")

    async with world.run(shop) as env:
        sent = await env.send(order, key="a")
        await env.idle()
        assert env.topic("orders").records() == []
        await env.clock.advance(SECOND)
        await sent.result()
        await env.idle()
        assert env.topic("orders").values() == [1]


async def test_what_was_published_before_a_terminal_error_stays(world: World) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        ctx.publish("orders", 1)
        raise TerminalError("no")

    async with world.run(shop) as env:
        with pytest.raises(TerminalError):
            await env.call(order)
        await env.idle()
        assert env.topic("orders").values() == [1]


async def test_messages_of_one_key_keep_the_order_of_their_invocations(world: World) -> None:
    shop = VirtualObject("Shop")

    @shop.handler
    async def order(ctx: ObjectContext, number: int) -> None:
        ctx.publish("orders", number, key=ctx.key)
        if number % 3 == 0:
            await ctx.run("pause", int)
        ctx.publish("orders", number + 100, key=ctx.key)

    async with world.run(shop) as env:
        for number in range(10):
            await env.send(order, number, key="k")
        await env.idle()
        assert env.topic("orders").values() == [each for number in range(10) for each in (number, number + 100)]


async def test_a_cluster_that_is_not_there_is_named(world: World) -> None:
    shop = Service("Shop", retry=RetryPolicy(attempts_max=1))

    @shop.handler
    async def order(ctx: Context) -> None:
        ctx.publish(Topic[int]("orders", cluster="mars"), 1)

    async with world.run(shop) as env:
        sent = await env.send(order)
        await env.idle()
        assert "mars" in failure_of(env, sent.id)
