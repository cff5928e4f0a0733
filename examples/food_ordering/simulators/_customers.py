"""Customers: they order, some for later, some too much for their card, and some change their mind."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import msgspec

from food_ordering.bank import CREDIT_CENTS_MAX
from food_ordering.model import Location, OrderCancelled, OrderPlaced, OrderStatus, StatusChange
from food_ordering.wire import Wire

MENU = {"Pizza Margherita": 1090, "Sushi box": 1760, "Cheese burger": 850, "Dal makhani": 1240, "Ramen": 1380}
RESTAURANTS = ("Byte & Bite", "Heap of Noodles", "The Open Kettle")

SCHEDULED_SHARE = 0.2
SCHEDULED_IN = timedelta(seconds=2)
TOO_EXPENSIVE_SHARE = 0.04
# How many customers cancel when they see this status.
CANCELLED_SHARE = {
    OrderStatus.SCHEDULED: 0.1,
    OrderStatus.IN_PREPARATION: 0.06,
    OrderStatus.WAITING_FOR_DRIVER: 0.03,
    OrderStatus.IN_DELIVERY: 0.03,
}

_decoder = msgspec.json.Decoder(StatusChange)


class Customers:
    """All customers; they place and cancel on `orders`, and watch `order-status`.

    Attributes:
        placed: how many orders were placed.
        statuses: the last status seen, by order id.
        changes_seen: how many changes of status there were.
    """

    def __init__(self, wire: Wire, seed: int, regions: Sequence[str]) -> None:
        self._wire = wire
        self._random = random.Random(seed)
        self._regions = regions
        self._changes = wire.listen("order-status")
        self.placed = 0
        self.statuses: dict[str, OrderStatus] = {}
        self.changes_seen = 0

    @property
    def by_status(self) -> Counter[OrderStatus]:
        return Counter(self.statuses.values())

    @property
    def undecided(self) -> int:
        """How many orders were placed and have not reached a final status."""
        return self.placed - sum(status.is_final for status in self.statuses.values())

    async def place(self, count: int | None, rate: float) -> None:
        """Place orders, `rate` of them a second; without a count, until cancelled."""
        while count is None or self.placed < count:
            self._wire.publish("orders", self._order(), key=f"order-{self.placed + 1:05}")
            self.placed += 1
            await asyncio.sleep(1 / rate)

    async def watch(self) -> None:
        """Look at the phones until cancelled."""
        while True:
            event = await self._changes.get()
            status = _decoder.decode(event.value).status
            self.statuses[event.key] = status
            self.changes_seen += 1
            if self._random.random() < CANCELLED_SHARE.get(status, 0):
                self._wire.publish("orders", OrderCancelled(), key=event.key)

    def _order(self) -> OrderPlaced:
        dishes = tuple(self._random.choices(list(MENU), k=self._random.randint(1, 3)))
        price_cents = sum(MENU[dish] for dish in dishes)
        if self._random.random() < TOO_EXPENSIVE_SHARE:
            price_cents += CREDIT_CENTS_MAX
        return OrderPlaced(
            region=self._random.choice(self._regions),
            restaurant=self._random.choice(RESTAURANTS),
            restaurant_at=self._place(),
            customer_at=self._place(),
            dishes=dishes,
            price_cents=price_cents,
            deliver_in=SCHEDULED_IN if self._random.random() < SCHEDULED_SHARE else timedelta(0),
        )

    def _place(self) -> Location:
        return Location(round(self._random.uniform(-1, 1), 3), round(self._random.uniform(-1, 1), 3))
