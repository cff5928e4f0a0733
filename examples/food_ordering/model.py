"""What travels through the topics, and the few rules about it that everyone shares. Values only."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

import msgspec


class Location(msgspec.Struct, frozen=True):
    """A place on the map, in kilometres from the middle of its region."""

    x: float
    y: float

    def distance_km(self, other: Location) -> float:
        return float(((self.x - other.x) ** 2 + (self.y - other.y) ** 2) ** 0.5)

    def towards(self, goal: Location, km: float) -> Location:
        """The place this many kilometres closer to the goal, or the goal."""
        distance_km = self.distance_km(goal)
        if distance_km <= km:
            return goal
        part = km / distance_km
        return Location(round(self.x + (goal.x - self.x) * part, 6), round(self.y + (goal.y - self.y) * part, 6))


class OrderPlaced(msgspec.Struct, frozen=True, tag_field="event", tag="placed"):
    """A customer ordered food. Topic `orders`, key: order id.

    Attributes:
        region: where restaurant, customer and drivers are.
        price_cents: what is charged.
        deliver_in: how long the kitchen waits before it starts.
    """

    region: str
    restaurant: str
    restaurant_at: Location
    customer_at: Location
    dishes: tuple[str, ...]
    price_cents: int
    deliver_in: timedelta = timedelta(0)


class OrderCancelled(msgspec.Struct, frozen=True, tag_field="event", tag="cancelled"):
    """The customer does not want the food any more. Topic `orders`, key: order id."""


OrderEvent: TypeAlias = OrderPlaced | OrderCancelled


class OrderStatus(StrEnum):
    CREATED = "created"
    SCHEDULED = "scheduled"
    PAYING = "paying"
    IN_PREPARATION = "in preparation"
    WAITING_FOR_DRIVER = "waiting for driver"
    IN_DELIVERY = "in delivery"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (OrderStatus.DELIVERED, OrderStatus.REJECTED, OrderStatus.CANCELLED)


class StatusChange(msgspec.Struct, frozen=True):
    """What the customer's phone shows. Topic `order-status`, key: order id."""

    status: OrderStatus
    reason: str = ""


class PrepareOrder(msgspec.Struct, frozen=True, tag_field="request", tag="prepare"):
    """To the restaurant; it answers with the ticket. Topic `restaurant-requests`, key: order id."""

    restaurant: str
    dishes: tuple[str, ...]
    ticket: str


class StopPreparing(msgspec.Struct, frozen=True, tag_field="request", tag="stop"):
    """To the restaurant: nobody will fetch this order. Topic `restaurant-requests`, key: order id."""


RestaurantRequest: TypeAlias = PrepareOrder | StopPreparing


class RestaurantAnswer(msgspec.Struct, frozen=True):
    """From the restaurant: the food is ready, or the reason why there will be none. Topic `restaurant-answers`."""

    ticket: str
    refusal: str = ""


class DeliverOrder(msgspec.Struct, frozen=True, tag_field="task", tag="deliver"):
    """To a driver's phone. Topic `driver-tasks`, key: driver id."""

    order_id: str
    restaurant_at: Location
    customer_at: Location


class ReleaseDriver(msgspec.Struct, frozen=True, tag_field="task", tag="release"):
    """To a driver's phone: forget this order. Topic `driver-tasks`, key: driver id."""

    order_id: str


DriverTask: TypeAlias = DeliverOrder | ReleaseDriver


class Progress(StrEnum):
    AVAILABLE = "available"
    DRIVING = "driving"
    PICKED_UP = "picked_up"
    DELIVERED = "delivered"


class DriverUpdate(msgspec.Struct, frozen=True):
    """From a driver's phone. Topic `driver-updates`, key: driver id.

    Attributes:
        sequence: counts the updates of this driver from 1.
        progress: what has just happened; `available` is said once, when the driver becomes free.
        order_id: the order being delivered; None for a driver without work.
    """

    sequence: int
    region: str
    location: Location
    progress: Progress
    order_id: str | None = None


class DriverPosition(msgspec.Struct, frozen=True):
    """What the twin knows after one update. Topic `driver-positions`, key: driver id.

    Attributes:
        sequence: of the update that was applied last.
        applied: how many updates the twin has applied.
        trail: a digest of all of them in their order (see `extend_trail`).
    """

    sequence: int
    location: Location
    applied: int
    trail: str


def extend_trail(trail: str, update: DriverUpdate) -> str:
    """The digest of a trail and one more update: equal only for the same updates in the same order."""
    step = f"{trail}|{update.sequence}|{update.location.x:.6f}|{update.location.y:.6f}|{update.progress}"
    return hashlib.blake2b(step.encode(), digest_size=8).hexdigest()
