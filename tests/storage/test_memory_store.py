"""What only the in-memory twin does."""

from __future__ import annotations

import pytest

from streamstate.errors import CommitFailedError
from streamstate.storage import Batch, MemoryStore
from tests.storage.rows import accepted, one_value, row


def test_s4_after_a_reopening_the_old_store_takes_no_more_commits() -> None:
    old = MemoryStore()
    old.commit(one_value(1))
    new = old.reopen()
    with pytest.raises(CommitFailedError, match="its owner epoch is no longer 1"):
        old.commit(one_value(2))
    new.commit(one_value(3))
    assert (new.header.epoch, new.header.directory_id) == (2, old.header.directory_id)
    assert new.state("Order", "key-2") == {}
    assert new.state("Order", "a") == {"n": b"3"}


def test_s4_two_stores_share_nothing() -> None:
    first, second = MemoryStore(), MemoryStore()
    first.commit(one_value(1))
    assert second.state("Order", "a") == {}
    assert first.header.directory_id != second.header.directory_id


def test_everything_that_is_deleted_leaves_no_trace_in_memory() -> None:
    store = MemoryStore()
    store.commit(accepted(row("a")))
    store.commit(Batch(state={("Order", "a"): {"n": b"1"}}, waiters={("w", "a", 0): True, ("a", "b", 1): True}))
    store.commit(Batch(invocations={"a": None}, state={("Order", "a"): {"n": None}}))
    content = store._content
    tables = (content.invocations, content.state, content.waiters, content.lanes, content.timers, content._awaited_by)
    assert [dict(table) for table in tables] == [{}] * 6
