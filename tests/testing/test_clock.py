from datetime import UTC, datetime, timedelta

import pytest

from streamstate.testing import VirtualClock


async def test_a_clock_stands_still_until_it_is_advanced() -> None:
    clock = VirtualClock(datetime(2030, 1, 1, tzinfo=UTC))
    assert clock.now() == datetime(2030, 1, 1, tzinfo=UTC)
    await clock.advance(timedelta(hours=1))
    assert clock.now() == datetime(2030, 1, 1, 1, tzinfo=UTC)


async def test_a_clock_does_not_go_back() -> None:
    clock = VirtualClock()
    with pytest.raises(ValueError, match="does not go back"):
        await clock.advance(timedelta(seconds=-1))


async def test_a_callback_sees_its_own_moment_and_not_the_end_of_the_advance() -> None:
    clock = VirtualClock()
    started_ms = clock.now_ms()
    seen: list[int] = []

    def called() -> None:
        seen.append(clock.now_ms() - started_ms)
        if len(seen) < 3:
            clock.wake_at(clock.now_ms() + 1_000, called)

    clock.wake_at(started_ms + 500, called)
    await clock.advance(timedelta(seconds=2))
    assert seen == [500, 1_500]
    assert clock.now_ms() - started_ms == 2_000


def test_a_clock_starts_no_earlier_than_what_is_stored() -> None:
    clock = VirtualClock()
    clock.start(clock.now_ms() + 5_000)
    later = clock.now_ms()
    clock.start(0)
    assert clock.now_ms() == later
