"""The App: `streamstate run food_ordering.app:app`, or `build_app` for other clusters and books."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from food_ordering import deliveries, orders
from food_ordering.bank import bank
from streamstate import App
from streamstate_kafka import Kafka

DEFINITIONS = (
    orders.order,
    orders.fulfilment,
    orders.restaurant_desk,
    deliveries.manager,
    deliveries.matcher,
    deliveries.twin,
)


def build_app(connectors: Sequence[Kafka], books: Path) -> App:
    """The application on these clusters.

    Args:
        connectors: the clusters; the topics are looked for on the only one.
        books: the file with the bank's books.
    """

    @asynccontextmanager
    async def clients(_app: App) -> AsyncIterator[None]:
        with bank.opened(books):
            yield

    return App(DEFINITIONS, name="food-ordering", connectors=connectors, lifespan=clients)


app = build_app(
    [Kafka(os.environ.get("KAFKA_BOOTSTRAP", "localhost:9092"))],
    Path(os.environ.get("FOOD_ORDERING_BOOKS", "food-ordering-bank.db")),
)
