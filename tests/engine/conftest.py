from __future__ import annotations

from pathlib import Path

import pytest

from streamstate.storage import SqliteStore
from tests.engine.world import MemoryContent, World


@pytest.fixture(params=["memory", "memory-replayed", "sqlite", "sqlite-replayed"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Both stores, with handlers kept in memory and with each turn a replay: tests that take this run four times."""
    store, _, replayed = request.param.partition("-")
    if store == "memory":
        return World(MemoryContent().open, bool(replayed))
    return World(lambda: SqliteStore.open(tmp_path / "data"), bool(replayed))
