"""The food-ordering App in an environment without network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from food_ordering.app import build_app
from streamstate.testing import Environment, VirtualClock
from streamstate_kafka import Kafka
from tests.food_ordering.city import City


@pytest.fixture(params=[False, True], ids=["live", "always replayed"])
async def city(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[City]:
    books = tmp_path / "bank.db"
    app = build_app([Kafka("nowhere:9092")], books)
    async with Environment(app, clock=VirtualClock(), always_replay=request.param) as env:
        yield City(env, books)
