"""The values of food ordering and their few rules."""

from __future__ import annotations

import msgspec
import pytest

from food_ordering.model import DriverUpdate, Location, OrderStatus, Progress, extend_trail

HERE = Location(0, 0)
FIRST = DriverUpdate(1, "north", HERE, Progress.AVAILABLE)
SECOND = DriverUpdate(2, "north", Location(0, 0.5), Progress.DRIVING)


def test_a_step_goes_towards_the_goal() -> None:
    assert HERE.towards(Location(3, 4), 1) == Location(0.6, 0.8)


def test_a_step_does_not_go_past_the_goal() -> None:
    assert HERE.towards(Location(0.1, 0), 1) == Location(0.1, 0)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param([SECOND, FIRST], id="in another order"),
        pytest.param([FIRST, SECOND, SECOND], id="one twice"),
        pytest.param([FIRST], id="one less"),
        pytest.param([FIRST, msgspec.structs.replace(SECOND, location=HERE)], id="one elsewhere"),
    ],
)
def test_a_trail_tells_what_was_applied_and_in_which_order(other: list[DriverUpdate]) -> None:
    assert trail([FIRST, SECOND]) != trail(other)


def test_a_trail_is_the_same_for_the_same_updates() -> None:
    assert trail([FIRST, SECOND]) == trail([FIRST, SECOND])


def test_an_order_ends_delivered_rejected_or_cancelled() -> None:
    assert {status for status in OrderStatus if status.is_final} == {"delivered", "rejected", "cancelled"}


def trail(updates: list[DriverUpdate]) -> str:
    result = ""
    for update in updates:
        result = extend_trail(result, update)
    return result
