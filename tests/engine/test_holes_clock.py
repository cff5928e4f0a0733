"""The machine's clock as the engine reads it: a wall clock that jumps moves no timer (I6, §5)."""

from __future__ import annotations

import asyncio
import functools
from types import SimpleNamespace

import pytest

from streamstate.engine import SystemClock

NOW_MS = 1_700_000_000_000


class Machine:
    """The two clocks of a machine, to be moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_ms = NOW_MS
        self.up_s = 100.0
        read = SimpleNamespace(time_ns=lambda: self.wall_ms * 1_000_000, monotonic=lambda: self.up_s)
        # Not the module itself: asyncio reads that.
        monkeypatch.setattr("streamstate.engine._clock.time", read)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize("jump_ms", [-86_400_000, 86_400_000])
async def test_a_wall_clock_that_jumps_changes_nothing(machine: Machine, jump_ms: int) -> None:
    clock = SystemClock()
    clock.start(0)
    machine.wall_ms += jump_ms
    assert clock.now_ms() == NOW_MS
    machine.up_s += 1.5
    assert clock.now_ms() == NOW_MS + 1_500


async def test_it_goes_on_from_the_last_durable_time_when_the_wall_clock_was_set_back(machine: Machine) -> None:
    clock = SystemClock()
    clock.start(NOW_MS + 60_000)
    assert clock.now_ms() == NOW_MS + 60_000
    machine.up_s += 1
    assert clock.now_ms() == NOW_MS + 61_000


async def test_after_a_long_stop_it_shows_the_time_of_the_machine(machine: Machine) -> None:
    clock = SystemClock()
    clock.start(NOW_MS - 86_400_000)
    assert clock.now_ms() == NOW_MS


def _tell(clock: SystemClock, woken: asyncio.Future[int]) -> None:
    woken.set_result(clock.now_ms())


async def test_who_is_woken_is_never_too_early() -> None:
    clock = SystemClock()
    clock.start(0)
    for delay_ms in (0, 1, 7):
        woken: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        when_ms = clock.now_ms() + delay_ms
        clock.wake_at(when_ms, functools.partial(_tell, clock, woken))
        async with asyncio.timeout(30):
            assert await woken >= when_ms


async def test_a_moment_replaces_the_one_that_was_asked_for_before() -> None:
    clock = SystemClock()
    clock.start(0)
    told: list[str] = []
    clock.wake_at(clock.now_ms() + 1, lambda: told.append("replaced"))
    clock.wake_at(clock.now_ms() + 1, lambda: told.append("never"))
    clock.wake_at(None, lambda: told.append("nobody"))
    ended = asyncio.Event()
    clock.wake_at(clock.now_ms() + 3, ended.set)
    async with asyncio.timeout(30):
        await ended.wait()
    assert told == []
