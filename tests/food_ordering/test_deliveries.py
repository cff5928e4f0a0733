"""Drivers and orders find each other, and the twin knows its driver."""

from __future__ import annotations

from datetime import timedelta

from food_ordering import deliveries, topics
from food_ordering.deliveries import Board, Delivery, estimate
from food_ordering.model import DriverUpdate, Location, Progress, extend_trail
from tests.food_ordering.city import CUSTOMER_AT, RESTAURANT_AT, City

DELIVERY = Delivery("north", RESTAURANT_AT, CUSTOMER_AT, "ticket-1", "ticket-2")


async def cooked(city: City, *order_ids: str) -> None:
    for order_id in order_ids:
        await city.place(order_id)
        await city.cook(order_id)


async def test_the_order_that_waits_longest_gets_the_first_driver(city: City) -> None:
    await cooked(city, "order-1", "order-2")
    await city.report("driver-1", Progress.AVAILABLE)
    assert city.orders_of("driver-1") == ["order-1"]
    assert await city.env.call(deliveries.waiting, key="north") == Board(orders=("order-2",))


async def test_the_driver_who_waits_longest_gets_the_first_order(city: City) -> None:
    await city.report("driver-1", Progress.AVAILABLE)
    await city.report("driver-2", Progress.AVAILABLE)
    await cooked(city, "order-1")
    assert (city.orders_of("driver-1"), city.orders_of("driver-2")) == (["order-1"], [])
    assert await city.env.call(deliveries.waiting, key="north") == Board(drivers=("driver-2",))


async def test_a_driver_who_says_twice_that_he_is_free_waits_once(city: City) -> None:
    await city.report("driver-1", Progress.AVAILABLE)
    await city.report("driver-1", Progress.AVAILABLE)
    assert await city.env.call(deliveries.waiting, key="north") == Board(drivers=("driver-1",))


async def test_a_released_driver_takes_the_next_order_when_he_is_free(city: City) -> None:
    await city.report("driver-1", Progress.AVAILABLE)
    await cooked(city, "order-1", "order-2")
    await city.cancel("order-1")
    await city.report("driver-1", Progress.AVAILABLE)
    assert city.orders_of("driver-1") == ["order-1", "-order-1", "order-2"]


async def test_a_driver_found_for_a_delivery_that_was_called_off_is_given_back(city: City) -> None:
    await cooked(city, "order-1")
    await city.cancel("order-1")
    await city.env.call(deliveries.assigned, "driver-1", key="order-1")
    await city.env.idle()
    assert city.orders_of("driver-1") == []
    assert await city.env.call(deliveries.waiting, key="north") == Board(drivers=("driver-1",))


async def test_the_customer_sees_how_long_it_takes(city: City) -> None:
    await city.report("driver-1", Progress.AVAILABLE)
    await cooked(city, "order-1")
    await city.report("driver-1", Progress.DRIVING, "order-1", at=Location(0, 0))
    assert await city.env.call(deliveries.arrives_in, key="order-1") == timedelta(minutes=4)
    await city.report("driver-1", Progress.PICKED_UP, "order-1", at=RESTAURANT_AT)
    assert await city.env.call(deliveries.arrives_in, key="order-1") == timedelta(minutes=2)


async def test_a_twin_has_applied_every_update_in_its_order(city: City) -> None:
    places = [Location(0, 0), Location(0, 0.5), Location(0, 1)]
    for place in places:
        await city.report("driver-1", Progress.DRIVING, at=place)

    sent = [DriverUpdate(number, "north", place, Progress.DRIVING) for number, place in enumerate(places, start=1)]
    trail = ""
    for update in sent:
        trail = extend_trail(trail, update)
    state = await city.env.state(deliveries.twin, "driver-1").get(deliveries.DRIVER)
    assert state == deliveries.DriverState(sent[-1], applied=3, trail=trail)
    positions = city.published(topics.DRIVER_POSITIONS, "driver-1")
    assert [(position.sequence, position.location) for position in positions] == list(enumerate(places, start=1))
    assert positions[-1].trail == trail
    assert await city.env.call(deliveries.last_update, key="driver-1") == sent[-1]


async def test_nothing_is_known_of_a_driver_who_never_reported(city: City) -> None:
    assert await city.env.call(deliveries.last_update, key="driver-1") is None


def test_the_way_to_the_restaurant_counts_until_the_food_is_in_the_car() -> None:
    assert estimate(Location(0, 0), DELIVERY, has_food=False) == timedelta(minutes=4)
    assert estimate(RESTAURANT_AT, DELIVERY, has_food=True) == timedelta(minutes=2)
