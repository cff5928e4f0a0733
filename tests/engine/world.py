"""Where the tests of the engine run: one App after the other on the same store and the same clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from streamstate import App, Context, Service, VirtualObject, Workflow
from streamstate.storage import InvocationRow, MemoryStore, Status, Store
from streamstate.testing import Environment, VirtualClock

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


class SkippingClock(VirtualClock):
    """One that can also be moved while a step runs, when nothing will be idle."""

    def skip(self, duration: timedelta) -> None:
        """Let time pass without waiting for what happens; at most one timer may become due."""
        self._now_ms += round(duration / timedelta(milliseconds=1))
        if self._callback is not None and self._wake_ms is not None and self._wake_ms <= self._now_ms:
            callback, self._wake_ms = self._callback, None
            callback()


Env = Environment[SkippingClock]


class World:
    """A store and a clock that outlive the programs that run on them.

    Args:
        open_store: gives the first store, and the same content again after each run.
    """

    def __init__(self, open_store: Callable[[], Store], always_replay: bool) -> None:
        self.open_store = open_store
        self._always_replay = always_replay
        self.clock = SkippingClock()

    @asynccontextmanager
    async def run(self, *definitions: Service | VirtualObject | Workflow) -> AsyncIterator[Env]:
        """Run a program until the block ends; the next call goes on with what is stored."""
        app = App(definitions, name="tests")
        store = self.open_store()
        async with Environment(app, clock=self.clock, always_replay=self._always_replay, store=store) as env:
            yield env


class MemoryContent:
    """Opens the same content in memory again and again."""

    def __init__(self) -> None:
        self._last: MemoryStore | None = None

    def open(self) -> Store:
        self._last = MemoryStore() if self._last is None else self._last.reopen()
        return self._last


def row_of(env: Env, invocation: str) -> InvocationRow:
    """The invocation as the engine knows it now."""
    row = env.running.engine.core.find_row(invocation)
    assert row is not None, f"no trace of {invocation}"
    return row


def status_of(env: Env, invocation: str) -> Status:
    return row_of(env, invocation).status


def failure_of(env: Env, invocation: str) -> str:
    """The message of the last failure."""
    failure = row_of(env, invocation).failure
    assert failure is not None, f"{invocation} has not failed"
    return failure.message


def is_known(env: Env, invocation: str) -> bool:
    return env.running.engine.core.find_row(invocation) is not None


async def double(number: int) -> int:
    return number * 2


async def slow_double(ctx: Context, number: int) -> int:
    await ctx.sleep(number * SECOND)
    return await ctx.run(f"double {number}", double, number)


def statuses(env: Env) -> list[tuple[str, Status]]:
    return sorted((inv.row.key, inv.row.status) for inv in env.running.engine.core.live.values())
