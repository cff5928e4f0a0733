"""Timers whose moments are close to each other (I6); each case by itself, so that one bug hides no other."""

from __future__ import annotations

from streamstate.engine._timers import Timers
from streamstate.storage import TimerRow
from tests.engine.world import SECOND, SkippingClock

MILLISECOND = SECOND / 1_000


def test_the_first_of_two_timers_does_not_take_the_second_with_it() -> None:
    clock = SkippingClock()
    timers = Timers(clock, lambda: None)
    first, second = (TimerRow(clock.now_ms() + delay_ms, "a", "sleep", delay_ms) for delay_ms in (10, 11))
    timers.add(second)
    timers.add(first)
    clock.skip(9 * MILLISECOND)
    assert timers.pop_due() is None
    clock.skip(MILLISECOND)
    assert timers.pop_due() == first
    assert timers.pop_due() is None
    assert timers.next_ms() == second.fire_ms
    clock.skip(MILLISECOND)
    assert timers.pop_due() == second


def test_a_timer_that_was_cancelled_does_not_fire_and_is_not_counted() -> None:
    clock = SkippingClock()
    timers = Timers(clock, lambda: None)
    rows = [TimerRow(clock.now_ms() + 5, name, "sleep", 0) for name in "abc"]
    for row in rows:
        timers.add(row)
    timers.cancel(rows[1].id)
    assert len(timers) == 2
    clock.skip(5 * MILLISECOND)
    assert [timers.pop_due() for _ in rows] == [rows[0], rows[2], None]
    assert len(timers) == 0


def test_the_clock_is_asked_for_an_earlier_timer_that_comes_later() -> None:
    clock = SkippingClock()
    told: list[int] = []
    timers = Timers(clock, lambda: told.append(clock.now_ms()))
    start_ms = clock.now_ms()
    timers.add(TimerRow(start_ms + 1_000, "a", "sleep", 0))
    timers.add(TimerRow(start_ms + 10, "b", "sleep", 0))
    clock.skip(10 * MILLISECOND)
    assert told == [start_ms + 10]
