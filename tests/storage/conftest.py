from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamstate.storage import MemoryStore, SqliteStore, Store
from tests.storage.rows import OpenStore


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Both stores: every test that takes this runs twice."""

    def reopen_memory(store: Store) -> Store:
        assert isinstance(store, MemoryStore)
        return store.reopen()

    def reopen_sqlite(store: Store) -> Store:
        store.close()
        return SqliteStore.open(tmp_path / "data")

    if request.param == "memory":
        opened = OpenStore(MemoryStore(), reopen_memory)
    else:
        opened = OpenStore(SqliteStore.open(tmp_path / "data"), reopen_sqlite)
    yield opened
    opened.store.close()


@pytest.fixture
def store(opened: OpenStore) -> Store:
    return opened.store
