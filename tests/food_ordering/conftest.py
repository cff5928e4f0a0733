"""The food-ordering App in an environment without network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from food_ordering.app import build_app
from streamstate.storage import MemoryStore, SqliteStore
from streamstate.testing import Environment, VirtualClock
from streamstate_kafka import Kafka
from tests.food_ordering.city import City


@pytest.fixture(params=["in memory", "in memory, always replayed", "on disk"])
async def city(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[City]:
    books = tmp_path / "bank.db"
    store = SqliteStore.open(tmp_path / "data") if request.param == "on disk" else MemoryStore()
    app = build_app([Kafka("nowhere:9092")], books)
    replays = "always replayed" in request.param
    async with Environment(app, clock=VirtualClock(), always_replay=replays, store=store) as env:
        yield City(env, books)
