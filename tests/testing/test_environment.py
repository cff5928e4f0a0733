from datetime import timedelta

import pytest

from streamstate import App, ObjectContext, StateKey, VirtualObject, subscribe
from streamstate.errors import UsageError
from streamstate.testing import Environment, VirtualClock
from streamstate.testing.pytest_plugin import MakeEnvironment

pytestmark = pytest.mark.timeout(10)

COUNT = StateKey[int]("count", default=0)


def counting() -> tuple[App, VirtualObject]:
    counters = VirtualObject("Counter")

    @subscribe("events")
    @counters.handler
    async def add(ctx: ObjectContext, by: int) -> None:
        await ctx.sleep(timedelta(minutes=1))
        ctx.set(COUNT, await ctx.get(COUNT) + by)

    return App([counters], name="tests"), counters


async def test_an_environment_runs_an_app_without_network_and_disk() -> None:
    app, counters = counting()
    async with Environment(app, clock=VirtualClock(), always_replay=True) as env:
        await env.state(counters, "a").set(COUNT, 10)
        await env.topic("events").send(5, key="a")
        await env.idle()
        assert await env.state(counters, "a").get(COUNT) == 10
        await env.clock.advance(timedelta(minutes=1))
        assert await env.state(counters, "a").get(COUNT) == 15
        await env.state(counters, "a").clear(COUNT)
        assert await env.state(counters, "a").all() == {}


async def test_the_fixture_makes_environments_that_end_with_the_test(streamstate_env: MakeEnvironment) -> None:
    app, counters = counting()
    env = await streamstate_env(app)
    await env.topic("events").send(5, key="a")
    await env.clock.advance(timedelta(minutes=1))
    assert await env.state(counters, "a").get(COUNT) == 5


async def test_two_environments_share_nothing() -> None:
    app, counters = counting()
    async with Environment(app, clock=VirtualClock()) as one, Environment(app, clock=VirtualClock()) as two:
        await one.state(counters, "a").set(COUNT, 1)
        assert await two.state(counters, "a").get(COUNT) == 0


async def test_an_environment_that_is_not_entered_says_so() -> None:
    app, _ = counting()
    env = Environment(app, clock=VirtualClock())
    with pytest.raises(UsageError, match="async with"):
        await env.idle()


async def test_a_cluster_that_is_not_there_is_named() -> None:
    app, _ = counting()
    async with Environment(app, clock=VirtualClock()) as env:
        with pytest.raises(UsageError, match="mars"):
            env.topic("events", cluster="mars")
