"""Restaurants: they cook what they are asked for, and refuse some of it."""

from __future__ import annotations

import asyncio
import random

import msgspec

from food_ordering.model import PrepareOrder, RestaurantAnswer, RestaurantRequest, StopPreparing
from food_ordering.wire import Wire

COOKING_S = (0.3, 1.2)
REFUSED_SHARE = 0.05

_decoder: msgspec.json.Decoder[RestaurantRequest] = msgspec.json.Decoder(RestaurantRequest)


class Restaurants:
    """All restaurants; they answer the tickets of `restaurant-requests` on `restaurant-answers`."""

    def __init__(self, wire: Wire, seed: int) -> None:
        self._wire = wire
        self._random = random.Random(seed)
        self._requests = wire.listen("restaurant-requests")
        self._kitchen: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Cook until cancelled."""
        async with asyncio.TaskGroup() as cooks:
            while True:
                event = await self._requests.get()
                match _decoder.decode(event.value):
                    case PrepareOrder() as wanted:
                        self._kitchen[event.key] = cooks.create_task(self._cook(event.key, wanted))
                    case StopPreparing() if event.key in self._kitchen:
                        self._kitchen[event.key].cancel()

    async def _cook(self, order_id: str, wanted: PrepareOrder) -> None:
        await asyncio.sleep(self._random.uniform(*COOKING_S))
        refusal = f"no {wanted.dishes[0]} left" if self._random.random() < REFUSED_SHARE else ""
        self._wire.publish("restaurant-answers", RestaurantAnswer(wanted.ticket, refusal), key=order_id)
