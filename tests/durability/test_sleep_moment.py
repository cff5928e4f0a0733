"""What a sleep counts from."""

from __future__ import annotations

from datetime import timedelta

import pytest

from streamstate import App, ObjectContext, VirtualObject
from streamstate.engine import SystemClock
from streamstate.testing import Environment

TURN_MS = 50
SLEEP_MS = 100


class Busy(SystemClock):
    """Time passes while a turn runs, as it does behind hundreds of others, or while a process is down."""

    passed_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.passed_ms


@pytest.mark.xfail(strict=True, reason="a sleep counts from the arrival that its turn began with, not from its command")
async def test_a_sleep_lasts_as_long_as_it_says_by_the_clock_that_its_handler_reads() -> None:
    clock = Busy()
    nappers = VirtualObject("Napper")

    @nappers.handler
    async def nap(ctx: ObjectContext) -> int:
        clock.passed_ms += TURN_MS
        began = await ctx.time()
        await ctx.sleep(timedelta(milliseconds=SLEEP_MS))
        return round((await ctx.time() - began).total_seconds() * 1000)

    async with Environment(App([nappers], name="napping"), clock=clock) as env:
        assert await env.call(nap, key="cat") >= SLEEP_MS
