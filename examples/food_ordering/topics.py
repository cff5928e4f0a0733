"""The topics, each with the type of its values."""

from __future__ import annotations

import os

from food_ordering.model import (
    DriverPosition,
    DriverTask,
    DriverUpdate,
    OrderEvent,
    RestaurantAnswer,
    RestaurantRequest,
    StatusChange,
)
from streamstate import Topic

# Several demos may share one real broker: each gives its topics a prefix of its own.
PREFIX = os.environ.get("FOOD_ORDERING_TOPIC_PREFIX", "")

# From the world to the application.
ORDERS = Topic[OrderEvent](f"{PREFIX}orders")
RESTAURANT_ANSWERS = Topic[RestaurantAnswer](f"{PREFIX}restaurant-answers")
DRIVER_UPDATES = Topic[DriverUpdate](f"{PREFIX}driver-updates")

# From the application to the world.
ORDER_STATUS = Topic[StatusChange](f"{PREFIX}order-status")
RESTAURANT_REQUESTS = Topic[RestaurantRequest](f"{PREFIX}restaurant-requests")
DRIVER_TASKS = Topic[DriverTask](f"{PREFIX}driver-tasks")
DRIVER_POSITIONS = Topic[DriverPosition](f"{PREFIX}driver-positions")

ALL = (
    ORDERS,
    RESTAURANT_ANSWERS,
    DRIVER_UPDATES,
    ORDER_STATUS,
    RESTAURANT_REQUESTS,
    DRIVER_TASKS,
    DRIVER_POSITIONS,
)
