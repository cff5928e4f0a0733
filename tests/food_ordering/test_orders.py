"""Orders on their way, and every way off it."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from food_ordering import orders
from food_ordering.bank import CREDIT_CENTS_MAX
from food_ordering.model import OrderStatus, PrepareOrder, Progress, StopPreparing
from tests.food_ordering.city import PIZZA, City

KITCHEN = ["created", "paying", "in preparation"]
FOR_LATER = msgspec.structs.replace(PIZZA, deliver_in=timedelta(minutes=15))


async def test_an_order_is_paid_cooked_and_delivered(city: City) -> None:
    await city.report("driver-1", Progress.AVAILABLE)
    await city.place("order-1")
    await city.cook("order-1")
    await city.report("driver-1", Progress.PICKED_UP, "order-1")
    await city.report("driver-1", Progress.DELIVERED, "order-1")

    assert city.statuses("order-1") == [*KITCHEN, "waiting for driver", "in delivery", "delivered"]
    assert [(booking.cents, booking.refunded) for booking in city.bookings("order-1")] == [(1090, False)]
    assert city.orders_of("driver-1") == ["order-1"]
    assert await city.env.call(orders.status, key="order-1") is OrderStatus.DELIVERED


async def test_an_order_waits_for_the_restaurant(city: City) -> None:
    await city.place("order-1")
    await city.wait(timedelta(days=1))
    assert city.statuses("order-1") == KITCHEN
    assert len(city.requests("order-1")) == 1


async def test_an_order_for_later_starts_when_its_time_has_come(city: City) -> None:
    await city.place("order-1", FOR_LATER)
    await city.wait(timedelta(minutes=14, seconds=59))
    assert city.statuses("order-1") == ["created", "scheduled"]
    assert city.bookings("order-1") == []

    await city.wait(timedelta(seconds=1))
    assert city.statuses("order-1") == ["created", "scheduled", "paying", "in preparation"]


async def test_an_order_placed_twice_is_cooked_and_paid_once(city: City) -> None:
    await city.place("order-1")
    await city.place("order-1")
    assert city.statuses("order-1") == KITCHEN
    assert len(city.bookings("order-1")) == 1
    assert len(city.requests("order-1")) == 1


async def test_an_order_cancelled_before_its_time_costs_nothing(city: City) -> None:
    await city.place("order-1", FOR_LATER)
    await city.cancel("order-1")
    await city.wait(timedelta(minutes=15))
    assert city.statuses("order-1") == ["created", "scheduled", "cancelled"]
    assert city.bookings("order-1") == []
    assert city.requests("order-1") == []


async def test_an_order_cancelled_in_the_kitchen_is_refunded_and_the_kitchen_stops(city: City) -> None:
    await city.place("order-1")
    await city.cancel("order-1")
    assert city.statuses("order-1") == [*KITCHEN, "cancelled"]
    assert [booking.refunded for booking in city.bookings("order-1")] == [True]
    assert [type(request) for request in city.requests("order-1")] == [PrepareOrder, StopPreparing]


async def test_an_order_cancelled_before_it_is_fetched_releases_its_driver(city: City) -> None:
    await city.report("driver-1", Progress.AVAILABLE)
    await city.place("order-1")
    await city.cook("order-1")
    await city.cancel("order-1")
    assert city.statuses("order-1") == [*KITCHEN, "waiting for driver", "cancelled"]
    assert [booking.refunded for booking in city.bookings("order-1")] == [True]
    assert city.orders_of("driver-1") == ["order-1", "-order-1"]


async def test_an_order_cancelled_before_it_has_a_driver_gets_none(city: City) -> None:
    await city.place("order-1")
    await city.cook("order-1")
    await city.cancel("order-1")
    await city.report("driver-1", Progress.AVAILABLE)
    assert city.orders_of("driver-1") == []


async def test_an_order_on_its_way_cannot_be_cancelled(city: City) -> None:
    await city.report("driver-1", Progress.AVAILABLE)
    await city.place("order-1")
    await city.cook("order-1")
    await city.report("driver-1", Progress.PICKED_UP, "order-1")
    await city.cancel("order-1")
    await city.report("driver-1", Progress.DELIVERED, "order-1")
    assert city.statuses("order-1")[-2:] == ["in delivery", "delivered"]
    assert [booking.refunded for booking in city.bookings("order-1")] == [False]


async def test_an_order_cancelled_twice_is_refunded_once(city: City) -> None:
    await city.place("order-1")
    await city.cancel("order-1")
    await city.cancel("order-1")
    assert city.statuses("order-1") == [*KITCHEN, "cancelled"]
    assert len(city.requests("order-1")) == 2


async def test_cancelling_what_was_never_ordered_does_nothing(city: City) -> None:
    await city.cancel("order-1")
    assert city.statuses("order-1") == []
    assert await city.env.call(orders.status, key="order-1") is None


async def test_an_order_with_a_declined_card_never_reaches_the_restaurant(city: City) -> None:
    await city.place("order-1", msgspec.structs.replace(PIZZA, price_cents=CREDIT_CENTS_MAX + 1))
    assert city.statuses("order-1") == ["created", "paying", "rejected"]
    assert city.requests("order-1") == []
    assert city.bookings("order-1") == []


async def test_an_order_that_the_restaurant_refuses_is_refunded(city: City) -> None:
    await city.place("order-1")
    await city.cook("order-1", refusal="no dough left")
    assert city.statuses("order-1") == [*KITCHEN, "rejected"]
    assert [booking.refunded for booking in city.bookings("order-1")] == [True]


async def test_an_answer_to_a_cancelled_order_changes_nothing(city: City) -> None:
    await city.place("order-1")
    await city.cancel("order-1")
    await city.cook("order-1")
    assert city.statuses("order-1") == [*KITCHEN, "cancelled"]


async def test_orders_do_not_wait_for_each_other(city: City) -> None:
    await city.report("driver-1", Progress.AVAILABLE)
    await city.place("order-1")
    await city.place("order-2")
    await city.cook("order-2")
    assert city.statuses("order-1") == KITCHEN
    assert city.statuses("order-2") == [*KITCHEN, "waiting for driver"]
    assert city.orders_of("driver-1") == ["order-2"]


async def test_a_cancelled_invocation_compensates_like_a_cancelled_order(city: City) -> None:
    await city.place("order-1")
    run = await city.env.send(orders.fulfil, PIZZA, key="order-1")
    assert not run.is_new, "the order's own fulfilment is found by its key"
    assert run.cancel()
    assert await run.result() is OrderStatus.CANCELLED
    await city.env.idle()
    assert city.statuses("order-1") == [*KITCHEN, "cancelled"]
    assert [booking.refunded for booking in city.bookings("order-1")] == [True]
    assert [type(request) for request in city.requests("order-1")] == [PrepareOrder, StopPreparing]
