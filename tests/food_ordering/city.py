"""A city without people: tests say what customers, restaurants and drivers do, and see what they are told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from food_ordering import topics
from food_ordering.bank import Booking, read_books
from food_ordering.model import (
    DeliverOrder,
    DriverTask,
    DriverUpdate,
    Location,
    OrderCancelled,
    OrderPlaced,
    OrderStatus,
    PrepareOrder,
    Progress,
    ReleaseDriver,
    RestaurantAnswer,
    RestaurantRequest,
)
from streamstate import Topic
from streamstate.testing import Environment, VirtualClock

T = TypeVar("T")

RESTAURANT_AT = Location(0, 1)
CUSTOMER_AT = Location(1, 1)
PIZZA = OrderPlaced("north", "Byte & Bite", RESTAURANT_AT, CUSTOMER_AT, ("Pizza Margherita",), 1090)


class City:
    """The world around one environment; every event is followed by all that it causes."""

    def __init__(self, env: Environment[VirtualClock], books: Path) -> None:
        self.env = env
        self._books = books
        self._sequences: dict[str, int] = {}

    async def place(self, order_id: str, order: OrderPlaced = PIZZA) -> None:
        await self._send(topics.ORDERS, order, order_id)

    async def cancel(self, order_id: str) -> None:
        await self._send(topics.ORDERS, OrderCancelled(), order_id)

    async def cook(self, order_id: str, refusal: str = "") -> None:
        """The restaurant answers the request for this order."""
        tickets = [request.ticket for request in self.requests(order_id) if isinstance(request, PrepareOrder)]
        assert len(tickets) == 1, f"the restaurant was asked {len(tickets)} times for {order_id}"
        await self._send(topics.RESTAURANT_ANSWERS, RestaurantAnswer(tickets[0], refusal), order_id)

    async def report(
        self, driver: str, progress: Progress, order_id: str | None = None, at: Location = RESTAURANT_AT
    ) -> None:
        """The driver's phone sends an update."""
        self._sequences[driver] = self._sequences.get(driver, 0) + 1
        update = DriverUpdate(self._sequences[driver], "north", at, progress, order_id)
        await self._send(topics.DRIVER_UPDATES, update, driver)

    async def wait(self, duration: timedelta) -> None:
        await self.env.clock.advance(duration)
        await self.env.idle()

    def statuses(self, order_id: str) -> list[OrderStatus]:
        """What the customer's phone has shown."""
        return [change.status for change in self.published(topics.ORDER_STATUS, order_id)]

    def requests(self, order_id: str) -> list[RestaurantRequest]:
        return self.published(topics.RESTAURANT_REQUESTS, order_id)

    def tasks(self, driver: str) -> list[DriverTask]:
        return self.published(topics.DRIVER_TASKS, driver)

    def orders_of(self, driver: str) -> list[str]:
        """The orders that the driver was sent for, a minus in front of those that he was released from."""
        named = []
        for task in self.tasks(driver):
            match task:
                case DeliverOrder(order_id):
                    named.append(order_id)
                case ReleaseDriver(order_id):
                    named.append(f"-{order_id}")
        return named

    def bookings(self, order_id: str) -> list[Booking]:
        return [booking for booking in read_books(self._books) if booking.order_id == order_id]

    def published(self, topic: Topic[T], key: str) -> list[T]:
        """The values published under this key, in order."""
        records = self.env.topic(topic).records()
        return [topic.value.decode(record.value or b"") for record in records if record.key == key.encode()]

    async def _send(self, topic: Topic[T], value: T, key: str) -> None:
        await self.env.topic(topic).send(value, key=key)
        await self.env.idle()
