"""Events from topics, through the topics in memory of an Environment."""

import re

import msgspec
import pytest

from streamstate import (
    Context,
    ObjectContext,
    Record,
    RetryPolicy,
    Service,
    Start,
    StateKey,
    TerminalError,
    Topic,
    VirtualObject,
    Workflow,
    WorkflowContext,
    subscribe,
)
from streamstate.storage import Status
from tests.engine.world import MINUTE, SECOND, Env, World, statuses

pytestmark = pytest.mark.timeout(10)


COUNT = StateKey[int]("count", default=0)


LOG = StateKey[list[int]]("log", default=[])


class Location(msgspec.Struct):
    lat: float
    lon: float


async def sorted_log(env: Env, logs: VirtualObject) -> list[int]:
    noted = await env.state(logs, "k").get(LOG)
    return sorted(noted)


async def test_the_key_of_a_record_picks_the_object_and_its_value_is_the_payload(world: World) -> None:
    drivers = VirtualObject("Driver")

    @subscribe("driver-updates")
    @drivers.handler
    async def moved(ctx: ObjectContext, location: Location) -> None:
        ctx.set("last", location)

    async with world.run(drivers) as env:
        await env.topic("driver-updates").send(Location(1, 2), key="d1")
        await env.topic("driver-updates").send(Location(3, 4), key="d2")
        await env.topic("driver-updates").send(Location(5, 6), key="d1")
        await env.idle()
        assert await env.state(drivers, "d1").get("last") == {"lat": 5, "lon": 6}
        assert await env.state(drivers, "d2").get("last") == {"lat": 3, "lon": 4}


async def test_a_record_that_is_delivered_again_after_a_restart_changes_nothing(world: World) -> None:
    counters = VirtualObject("Counter")

    @subscribe("events")
    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + by)

    async with world.run(counters) as env:
        for by in (1, 2):
            await env.topic("events").send(by, key="k")
        await env.idle()
        assert await env.state(counters, "k").get(COUNT) == 3
    async with world.run(counters) as env:
        for by in (1, 2, 3):
            await env.topic("events").send(by, key="k")
        await env.idle()
        assert await env.state(counters, "k").get(COUNT) == 6


async def test_an_event_of_a_busy_key_waits_and_holds_back_no_other(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events", key=lambda record: (record.key or b"").decode().partition("/")[0])
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        if number == 1:
            await ctx.sleep(MINUTE)
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        for number, key in ((1, "slow"), (2, "slow"), (3, "quick"), (4, "slow")):
            await env.topic("events").send(number, key=key)
        await env.idle()
        assert await env.state(logs, "quick").get(LOG) == [3]
        assert await env.state(logs, "slow").get(LOG) == []
    async with world.run(logs) as env:
        await env.clock.advance(MINUTE)
        assert await env.state(logs, "slow").get(LOG) == [1, 2, 4]
        assert statuses(env) == []


async def test_a_failing_event_backs_off_in_its_place_while_other_keys_go_on(world: World) -> None:
    logs = VirtualObject("Log")
    failures = [1, 1]

    @subscribe("events")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        if number == 1 and failures:
            failures.pop()
            raise ConnectionError("no route")
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        for number, key in ((1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "b")):
            await env.topic("events").send(number, key=key)
        await env.idle()
        assert await env.state(logs, "b").get(LOG) == [3, 5]
        assert await env.state(logs, "a").get(LOG) == []
        assert statuses(env)[0] == ("a", Status.BACKING_OFF)
        await env.clock.advance(MINUTE)
        assert await env.state(logs, "a").get(LOG) == [1, 2, 4]


async def test_an_exhausted_event_is_paused_with_its_key_and_resumable(world: World) -> None:
    logs = VirtualObject("Log", retry=RetryPolicy(attempts_max=2))
    is_broken = True

    @subscribe("events")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        if number == 1 and is_broken:
            raise ValueError("broken")
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        for number, key in ((1, "a"), (2, "a"), (3, "b")):
            await env.topic("events").send(number, key=key)
        await env.clock.advance(MINUTE)
        assert statuses(env) == [("a", Status.PAUSED), ("a", Status.PENDING)]
        assert await env.state(logs, "b").get(LOG) == [3]
    is_broken = False
    async with world.run(logs) as env:
        await env.idle()
        core = env.running.engine.core
        paused = core.slot_of("Log", "a").holder
        assert paused is not None
        env.invocation(paused.id).resume()
        await env.idle()
        assert await env.state(logs, "a").get(LOG) == [1, 2]


async def test_an_event_that_fails_for_good_is_kept_visible_and_the_key_goes_on(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])
        if number == 1:
            raise TerminalError("bad order", code=422)

    async with world.run(logs) as env:
        for number in (1, 2):
            await env.topic("events").send(number, key="a")
        await env.idle()
        assert await env.state(logs, "a").get(LOG) == [1, 2]
        ended = [row for _, row in env.running.engine.core.ended.values()]
        store = env.running.engine.store.invocations
        kept = [store.get(name) for name in store.expired(env.clock.now_ms() + 100 * 86_400_000, 10)]
        rows = [row for row in (*kept, *ended) if row is not None]
        assert {(row.key, row.failure.message if row.failure else "") for row in rows} == {("a", "bad order")}
        assert rows[0].origin.offset == 0


async def test_a_record_is_shown_whole_to_its_handler_also_on_replay(world: World) -> None:
    logs = VirtualObject("Log")
    seen: list[Record | None] = []

    @subscribe("events")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        seen.append(ctx.record)
        await ctx.sleep(SECOND)
        seen.append(ctx.record)

    async with world.run(logs) as env:
        sent = await env.topic("events").send(7, key="a", headers={"trace": "t1"})
        await env.idle()
    async with world.run(logs) as env:
        await env.clock.advance(SECOND)
        assert statuses(env) == []
    assert len(seen) >= 3
    assert set(map(repr, seen)) == {repr(sent)}
    assert sent.headers == (("trace", b"t1"),)
    assert (sent.topic, sent.offset, sent.key, sent.value) == ("events", 0, b"a", b"7")
    assert sent.timestamp_ms == world.clock.now_ms() - 1_000


async def test_a_key_function_chooses_the_object(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events", key=lambda record: msgspec.json.decode(record.value or b"", type=dict[str, str])["who"])
    @logs.handler
    async def note(ctx: ObjectContext, event: dict[str, str]) -> None:
        ctx.set("last", event)

    async with world.run(logs) as env:
        await env.topic("events").send({"who": "ann"}, key="x")
        await env.topic("events").send({"who": "bob"})
        await env.idle()
        assert await env.state(logs, "ann").get("last") == {"who": "ann"}
        assert await env.state(logs, "bob").get("last") == {"who": "bob"}


async def test_several_subscriptions_of_one_handler_are_counted_apart(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("a", "b", name="one")
    @subscribe("c", name="two")
    @subscribe("c", name="three")
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        for number, topic in enumerate("abc"):
            await env.topic(topic).send(number, key="k")
        await env.idle()
        assert await sorted_log(env, logs) == [0, 1, 2, 2]
    async with world.run(logs) as env:
        for number, topic in enumerate("abc"):
            await env.topic(topic).send(number, key="k")
        await env.idle()
        assert await sorted_log(env, logs) == [0, 1, 2, 2]


async def test_a_pattern_takes_every_topic_that_matches(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe(re.compile(r"events-.*"))
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        for number, topic in enumerate(("events-a", "events-b", "other")):
            await env.topic(topic).send(number, key="k")
        await env.idle()
        assert await sorted_log(env, logs) == [0, 1]


async def test_latest_takes_only_what_comes_after_the_first_start(world: World) -> None:
    logs = VirtualObject("Log")

    @subscribe("events", start=Start.latest())
    @logs.handler
    async def note(ctx: ObjectContext, number: int) -> None:
        ctx.set(LOG, [*await ctx.get(LOG), number])

    async with world.run(logs) as env:
        await env.topic("events").send(1, key="k")
        await env.idle()
        assert await env.state(logs, "k").get(LOG) == [1]


async def test_a_service_is_a_target_and_needs_no_key(world: World) -> None:
    mail = Service("Mail")
    counters = VirtualObject("Counter")

    @counters.handler
    async def add(ctx: ObjectContext) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + 1)

    @subscribe("events")
    @mail.handler
    async def send(ctx: Context, text: str) -> None:
        await ctx.run("mail", int)
        ctx.send(add, key=text)

    async with world.run(mail, counters) as env:
        await env.topic("events").send("a")
        await env.topic("events").send("b", key="k")
        await env.idle()
        assert await env.state(counters, "a").get(COUNT) == 1
        assert await env.state(counters, "b").get(COUNT) == 1


async def test_a_workflow_is_a_target_and_a_second_record_of_its_key_is_skipped(world: World) -> None:
    signup = Workflow("SignUp")
    runs: list[str] = []

    @subscribe("users")
    @signup.main
    async def run(ctx: WorkflowContext, name: str) -> None:
        runs.append(f"{ctx.key} {name}")

    async with world.run(signup) as env:
        for name, key in (("ann", "u1"), ("ann again", "u1"), ("bob", "u2")):
            await env.topic("users").send(name, key=key)
        await env.idle()
    assert sorted(runs) == ["u1 ann", "u2 bob"]


async def test_a_handler_publishes_to_a_topic_that_another_handler_reads(world: World) -> None:
    orders, kitchen = VirtualObject("Order"), VirtualObject("Kitchen")
    dishes = Topic[str]("dishes")

    @subscribe("orders")
    @orders.handler
    async def placed(ctx: ObjectContext, dish: str) -> None:
        ctx.publish(dishes, dish, key="north")

    @subscribe(dishes)
    @kitchen.handler
    async def cook(ctx: ObjectContext, dish: str) -> None:
        ctx.set("cooked", [*(await ctx.get("cooked") or []), dish])

    async with world.run(orders, kitchen) as env:
        for dish in ("soup", "cake"):
            await env.topic("orders").send(dish, key="o1")
        await env.idle()
        assert await env.state(kitchen, "north").get("cooked") == ["soup", "cake"]


async def test_a_thousand_events_are_each_counted_once(world: World) -> None:
    counters = VirtualObject("Counter")

    @subscribe("events")
    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> None:
        ctx.set(COUNT, await ctx.get(COUNT) + by)

    async with world.run(counters) as env:
        for number in range(2_000):
            await env.topic("events").send(1, key=f"k{number % 7}")
        await env.idle()
        counts = [await env.state(counters, f"k{number}").get(COUNT) for number in range(7)]
        assert sum(counts) == 2_000
