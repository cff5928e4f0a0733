"""Records that are not ordinary ones: what the policies of a subscription do with them."""

import re

import pytest

from streamstate import (
    DeadLetter,
    ObjectContext,
    RetryPolicy,
    Skip,
    StateKey,
    Stop,
    VirtualObject,
    subscribe,
)
from streamstate.errors import DefinitionError, SubscriptionStoppedError
from streamstate.storage import Status
from tests.engine.world import MINUTE, SECOND, Env, World, statuses

pytestmark = pytest.mark.timeout(10)


LOG = StateKey[list[int]]("log", default=[])


def stop_of(env: Env, name: str) -> SubscriptionStoppedError:
    error = env.running.feeds[name].error
    assert error is not None
    return error


async def test_the_policy_of_a_subscription_goes_before_that_of_its_handler(world: World) -> None:
    logs = VirtualObject("Log", retry=RetryPolicy(attempts_max=50))
    attempts: list[int] = []

    @subscribe("events", retry=RetryPolicy(initial=SECOND, attempts_max=2))
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        attempts.append(number)
        raise ValueError("broken")

    async with world.run(logs) as env:
        await env.topic("events").send(1, key="a")
        await env.clock.advance(MINUTE)
        assert statuses(env) == [("a", Status.PAUSED)]
    assert len(attempts) == 2


async def test_a_tombstone_is_shown_as_none_on_every_path(world: World) -> None:
    logs = VirtualObject("Log")
    seen: list[tuple[int | None, bool]] = []

    @subscribe("events")
    @logs.handler
    async def note(ctx: ObjectContext, number: int | None) -> None:
        assert ctx.record is not None
        if number == 1:
            await ctx.sleep(SECOND)
        else:
            seen.append((number, ctx.record.value is None))

    async with world.run(logs) as env:
        await env.topic("events").send(None, key="quick")
        await env.topic("events").send(1, key="busy")
        await env.topic("events").send(None, key="busy")
        await env.idle()
        assert seen == [(None, True)]
    async with world.run(logs) as env:
        await env.clock.advance(SECOND)
    assert seen == [(None, True), (None, True)]


async def test_a_tombstone_can_be_skipped(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events", on_tombstone=Skip())
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        for value in (1, None, 2):
            await env.topic("events").send(value, key="a")
        await env.idle()
        assert await env.state(logs, "a").get(LOG) == [1, 2]


async def test_a_record_without_key_stops_the_subscription_and_says_where(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events", name="notes")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        await env.topic("events").send(1, key="a")
        await env.idle()
        sent = await env.topic("events").send(2)
        await env.topic("events").send(3, key="a")
        await env.idle()
        message = str(stop_of(env, "notes"))
        assert re.search(rf"\bnotes\b.*\bevents\b.*partition {sent.partition}\b.*offset {sent.offset}\b", message)
        assert "no key" in message
        assert "on_null_key=Skip()" in message


async def test_a_record_without_key_can_be_skipped(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events", on_null_key=Skip())
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        await env.topic("events").send(1, key="a")
        await env.topic("events").send(2)
        await env.topic("events").send(3, key="a")
        await env.idle()
        assert await env.state(logs, "a").get(LOG) == [1, 3]


async def test_an_undecodable_record_stops_the_subscription_in_front_of_it(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events", name="notes", on_undecodable=Stop())
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        await env.topic("events").send(1, key="a")
        bad = await env.topic("events").send(b"{not json", key="a")
        await env.topic("events").send(3, key="a")
        await env.idle()
        message = str(stop_of(env, "notes"))
        assert f"partition {bad.partition}, offset {bad.offset}" in message
        assert await env.state(logs, "a").get(LOG) == [1]
    async with world.run(logs) as env:
        await env.topic("events").send(1, key="a")
        await env.topic("events").send(2, key="a")
        await env.topic("events").send(3, key="a")
        await env.idle()
        assert await env.state(logs, "a").get(LOG) == [1, 2, 3]


async def test_an_undecodable_record_can_be_skipped(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events", on_undecodable=Skip())
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        for value in (1, b"\xff", 3):
            await env.topic("events").send(value, key="a")
        await env.topic("events").send(4, key=b"\xff\xfe")
        await env.idle()
        assert await env.state(logs, "a").get(LOG) == [1, 3]


async def test_an_undecodable_record_of_a_busy_key_stops_the_subscription_too(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events", name="notes")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        await ctx.sleep(SECOND)
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        await env.topic("events").send(1, key="a")
        await env.topic("events").send("two", key="a")
        await env.idle()
        assert "offset 1" in str(stop_of(env, "notes"))
        await env.clock.advance(SECOND)
        assert await env.state(logs, "a").get(LOG) == [1]


async def test_a_stopped_subscription_does_not_stop_the_others(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("left", name="left")
    @subscribe("right", name="right")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        await env.topic("left").send(b"?", key="a")
        await env.idle()
        assert "left" in str(stop_of(env, "left"))
        await env.topic("right").send(1, key="a")
        await env.idle()
        assert await env.state(logs, "a").get(LOG) == [1]


async def test_a_key_function_that_fails_stops_the_subscription_and_not_the_engine(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events", name="notes", key=lambda record: str(1 // len(record.value or b"")))
    @logs.handler
    async def note(ctx: ObjectContext, event: object) -> None: ...

    @logs.handler
    async def look(ctx: ObjectContext) -> str:
        return "alive"

    async with world.run(logs) as env:
        await env.topic("events").send(None, key="x")
        await env.idle()
        message = str(stop_of(env, "notes"))
        assert "ZeroDivisionError" in message
        assert "offset 0" in message
        assert await env.call(look, key="a") == "alive"


async def test_a_policy_that_is_not_offered_is_refused_when_it_is_declared(world: World) -> None:
    with pytest.raises(DefinitionError):
        subscribe("events", on_null_key=DeadLetter("dlq"))  # type: ignore[arg-type]  # the mistake under test
