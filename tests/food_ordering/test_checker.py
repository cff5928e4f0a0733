"""The checker finds each kind of broken promise, and nothing where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from food_ordering.bank import CREDIT_CENTS_MAX, Booking
from food_ordering.checker import Check, Evidence, check, collect
from food_ordering.model import (
    DriverPosition,
    DriverUpdate,
    Location,
    OrderCancelled,
    OrderPlaced,
    OrderStatus,
    PrepareOrder,
    Progress,
    RestaurantAnswer,
    StatusChange,
    StopPreparing,
    extend_trail,
)
from food_ordering.wire import Event

PIZZA = OrderPlaced("north", "Byte & Bite", Location(0, 0), Location(1, 1), ("pizza",), 1090)
PREPARE = PrepareOrder("Byte & Bite", ("pizza",), "ticket")
TO_THE_KITCHEN = [OrderStatus.CREATED, OrderStatus.PAYING, OrderStatus.IN_PREPARATION]
ALL_THE_WAY = [*TO_THE_KITCHEN, OrderStatus.WAITING_FOR_DRIVER, OrderStatus.IN_DELIVERY, OrderStatus.DELIVERED]

LOST = "every order that was placed is decided"
ONCE = "every order goes its way once"
MONEY = "what is delivered is paid once"
KITCHEN = "every restaurant is asked once"
ROAD = "every location update is applied once"


@pytest.fixture
def good() -> Evidence:
    """Four orders: delivered, cancelled in the kitchen, refused by the restaurant, declined by the bank."""
    updates = [
        DriverUpdate(1, "north", Location(0, 0), Progress.AVAILABLE),
        DriverUpdate(2, "north", Location(0, 0), Progress.PICKED_UP, "fine"),
        DriverUpdate(3, "north", Location(0.5, 0.5), Progress.DRIVING, "fine"),
        DriverUpdate(4, "north", Location(1, 1), Progress.DELIVERED, "fine"),
    ]
    return Evidence(
        orders={
            "fine": [PIZZA],
            "unwanted": [PIZZA, OrderCancelled()],
            "refused": [PIZZA],
            "declined": [msgspec.structs.replace(PIZZA, price_cents=CREDIT_CENTS_MAX + 1)],
        },
        statuses={
            "fine": [*ALL_THE_WAY],
            "unwanted": [*TO_THE_KITCHEN, OrderStatus.CANCELLED],
            "refused": [*TO_THE_KITCHEN, OrderStatus.REJECTED],
            "declined": [OrderStatus.CREATED, OrderStatus.PAYING, OrderStatus.REJECTED],
        },
        requests={
            "fine": [PREPARE],
            "unwanted": [PREPARE, StopPreparing()],
            "refused": [PREPARE, StopPreparing()],
        },
        answers={"refused": [RestaurantAnswer("ticket", "no pizza left")]},
        updates={"driver-1": updates},
        positions={"driver-1": applied(updates)},
        books=[
            Booking("t1", "fine", 1090, refunded=False, requests=1),
            Booking("t2", "unwanted", 1090, refunded=True, requests=2),
            Booking("t3", "refused", 1090, refunded=True, requests=1),
        ],
    )


def test_a_good_run_keeps_every_promise(good: Evidence) -> None:
    checks = check(good)
    assert [found.promise for found in checks if not found.is_kept] == []
    assert [found.seen for found in checks] == [
        "4 orders: 1 delivered, 2 rejected, 1 cancelled",
        "17 changes of status",
        "3 charges (asked for 4 times), 2 refunds",
        "3 requests, 2 of them called off later",
        "4 updates of 1 drivers",
    ]


def forget_an_order(evidence: Evidence) -> None:
    del evidence.statuses["declined"]


def leave_an_order_undecided(evidence: Evidence) -> None:
    del evidence.statuses["fine"][-1]


def deliver_twice(evidence: Evidence) -> None:
    evidence.statuses["fine"].append(OrderStatus.DELIVERED)


def hand_over_twice(evidence: Evidence) -> None:
    again = DriverUpdate(1, "north", Location(1, 1), Progress.DELIVERED, "fine")
    evidence.updates["driver-2"] = [again]
    evidence.positions["driver-2"] = applied([again])


def go_back(evidence: Evidence) -> None:
    evidence.statuses["fine"].insert(4, OrderStatus.IN_PREPARATION)


def cancel_for_no_reason(evidence: Evidence) -> None:
    evidence.orders["unwanted"] = [PIZZA]


def reject_for_no_reason(evidence: Evidence) -> None:
    evidence.answers["refused"] = [RestaurantAnswer("ticket")]


def charge_twice(evidence: Evidence) -> None:
    evidence.books = [*evidence.books, Booking("t4", "fine", 1090, refunded=False, requests=1)]


def deliver_for_free(evidence: Evidence) -> None:
    evidence.books = evidence.books[1:]


def refund_what_was_delivered(evidence: Evidence) -> None:
    evidence.books = [msgspec.structs.replace(booking, refunded=True) for booking in evidence.books]


def forget_a_refund(evidence: Evidence) -> None:
    evidence.books = [msgspec.structs.replace(booking, refunded=False) for booking in evidence.books]


def charge_another_price(evidence: Evidence) -> None:
    evidence.books = [msgspec.structs.replace(booking, cents=1) for booking in evidence.books]


def ask_the_restaurant_twice(evidence: Evidence) -> None:
    evidence.requests["fine"].append(PREPARE)


def let_the_kitchen_cook_on(evidence: Evidence) -> None:
    del evidence.requests["unwanted"][-1]


def lose_an_update(evidence: Evidence) -> None:
    sent = evidence.updates["driver-1"]
    evidence.positions["driver-1"] = applied([*sent[:1], *sent[2:]])


def lose_the_last_update(evidence: Evidence) -> None:
    del evidence.positions["driver-1"][-1]


def swap_two_updates(evidence: Evidence) -> None:
    first, second, third, fourth = evidence.updates["driver-1"]
    evidence.positions["driver-1"] = applied([first, third, second, fourth])


def apply_an_update_twice(evidence: Evidence) -> None:
    first, second, third, fourth = evidence.updates["driver-1"]
    evidence.positions["driver-1"] = applied([first, second, second, third, fourth])


def apply_an_update_twice_and_say_it_once(evidence: Evidence) -> None:
    first, second, third, fourth = evidence.updates["driver-1"]
    del evidence.positions["driver-1"][:]
    evidence.positions["driver-1"] += applied([first, second, second, third, fourth])[:1]
    evidence.positions["driver-1"] += applied([first, second, second, third, fourth])[2:]


def move_a_driver_elsewhere(evidence: Evidence) -> None:
    positions = evidence.positions["driver-1"]
    positions[2] = msgspec.structs.replace(positions[2], location=Location(9, 9))


def hear_of_nobody(evidence: Evidence) -> None:
    evidence.positions["driver-9"] = evidence.positions["driver-1"]


@pytest.mark.parametrize(
    ("breaks", "promise", "fault"),
    [
        (forget_an_order, LOST, "declined was placed and never heard of again"),
        (leave_an_order_undecided, LOST, "fine is still in delivery"),
        (deliver_twice, ONCE, "fine goes from delivered to delivered"),
        (hand_over_twice, ONCE, "fine is delivered, and was handed over 2 times"),
        (go_back, ONCE, "fine goes from waiting for driver to in preparation"),
        (cancel_for_no_reason, ONCE, "unwanted is cancelled for no reason"),
        (reject_for_no_reason, ONCE, "refused is rejected for no reason"),
        (charge_twice, MONEY, "fine is delivered with 2 charges and 0 refunds"),
        (deliver_for_free, MONEY, "fine is delivered with 0 charges and 0 refunds"),
        (refund_what_was_delivered, MONEY, "fine is delivered with 1 charges and 1 refunds"),
        (forget_a_refund, MONEY, "unwanted is cancelled with 1 charges and 0 refunds"),
        (charge_another_price, MONEY, "fine cost 1090 cents, and 1 were charged"),
        (ask_the_restaurant_twice, KITCHEN, "the restaurant was asked 2 times for fine, expected 1"),
        (let_the_kitchen_cook_on, KITCHEN, "the restaurant was stopped 0 times for unwanted, expected 1"),
        (lose_an_update, ROAD, "driver-1: update 2 was sent as 2"),
        (lose_the_last_update, ROAD, "driver-1: 4 updates were sent, and 3 applied"),
        (swap_two_updates, ROAD, "driver-1: update 2 was sent as 2"),
        (apply_an_update_twice, ROAD, "driver-1: update 3 was sent as 3"),
        (apply_an_update_twice_and_say_it_once, ROAD, "driver-1: update 2 was sent as 2"),
        (move_a_driver_elsewhere, ROAD, "driver-1: update 3 was sent as 3"),
        (hear_of_nobody, ROAD, "driver-9: 0 updates were sent, and 4 applied"),
    ],
)
def test_a_broken_promise_is_found(
    good: Evidence, breaks: Callable[[Evidence], None], promise: str, fault: str
) -> None:
    breaks(good)
    found = next(found for found in check(good) if found.promise.startswith(promise))
    assert any(said.startswith(fault) for said in found.faults), found.faults


def test_a_message_that_was_sent_again_counts_once() -> None:
    created = event("order-status", "o1", StatusChange(OrderStatus.CREATED), "m1")
    cancelled = event("order-status", "o1", StatusChange(OrderStatus.CANCELLED), "m2")
    evidence = collect([created, created, cancelled, created], [])
    assert evidence.statuses == {"o1": [OrderStatus.CREATED, OrderStatus.CANCELLED]}


def test_messages_without_an_id_all_count() -> None:
    update = DriverUpdate(1, "north", Location(0, 0), Progress.AVAILABLE)
    evidence = collect([event("driver-updates", "d1", update), event("driver-updates", "d1", update)], [])
    assert evidence.updates == {"d1": [update, update]}


def test_every_topic_is_collected() -> None:
    update = DriverUpdate(1, "north", Location(0, 0), Progress.AVAILABLE)
    events = [
        event("orders", "o1", PIZZA),
        event("orders", "o1", OrderCancelled()),
        event("order-status", "o1", StatusChange(OrderStatus.CREATED), "m1"),
        event("restaurant-requests", "o1", PREPARE, "m2"),
        event("restaurant-answers", "o1", RestaurantAnswer("ticket")),
        event("driver-updates", "d1", update),
        event("driver-positions", "d1", applied([update])[0], "m3"),
    ]
    assert collect(events, []) == Evidence(
        orders={"o1": [PIZZA, OrderCancelled()]},
        statuses={"o1": [OrderStatus.CREATED]},
        requests={"o1": [PREPARE]},
        answers={"o1": [RestaurantAnswer("ticket")]},
        updates={"d1": [update]},
        positions={"d1": applied([update])},
        books=[],
    )


def test_a_check_with_a_fault_is_not_kept() -> None:
    kept = Check("promise", "seen", ())
    assert kept.is_kept
    assert not replace(kept, faults=("fault",)).is_kept


def applied(updates: list[DriverUpdate]) -> list[DriverPosition]:
    """What a twin says that applies these updates."""
    trail, positions = "", []
    for number, update in enumerate(updates, start=1):
        trail = extend_trail(trail, update)
        positions.append(DriverPosition(update.sequence, update.location, number, trail))
    return positions


def event(topic: str, key: str, value: Any, message_id: str = "") -> Event:
    return Event(topic, key, msgspec.json.encode(value), message_id)
