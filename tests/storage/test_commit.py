"""What a commit keeps, on both stores, now and after a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import msgspec
import pytest

from streamstate.errors import CommitFailedError, StorageError
from streamstate.journal import CancelArrived, Command, Completion, Entry, Failure, Kind, SignalArrived, Success
from streamstate.storage import Batch, InvocationRow, Origin, Status, Store, TimerRow
from tests.storage.rows import OpenStore, accepted, ids, message, one_value, row, timers

_NOT_BYTES = cast(bytes, object())

_FULL_ROW = InvocationRow(
    id="inv_1",
    seq=7,
    service="Order",
    handler="create",
    key="ключ",
    lane=True,
    status=Status.COMPLETED,
    input=b"\x00\xff",
    origin=Origin(
        headers={"traceparent": "00-1"},
        caller="inv_0",
        caller_index=3,
        subscription="orders",
        topic="orders",
        partition=2,
        offset=99,
        timestamp_ms=5,
        record_key=b"\xff\x00",
        record_headers=[("h", b"\xfe"), ("h", None)],
        is_tombstone=True,
    ),
    created_ms=1,
    started_ms=2,
    attempt=3,
    first_failed_ms=4,
    due_ms=5,
    failure=Failure(409, "no", {"a": "b"}, "at shop.py:1"),
    result=b"",
    completed_ms=6,
    expires_ms=2**53,
    idempotency_key="once",
)

_ENTRIES: list[Entry] = [
    Command(Kind.CALL, "Order/create", "key", b"body", {"s": "text", "b": b"bytes", "n": 1, "d": {"a": "b"}}),
    Command(Kind.GET, "name", result=Success(None), site="shop.py:3"),
    Completion(0, Failure(500, "down", {"k": "v"}, "detail"), 12),
    SignalArrived("paid", Success(b"\xff"), 13),
    CancelArrived(14, True),
]


def test_s1_every_field_of_an_invocation_survives_a_restart(opened: OpenStore) -> None:
    opened.store.commit(accepted(_FULL_ROW))
    assert opened.store.invocations.get("inv_1") == _FULL_ROW
    assert opened.restart().invocations.get("inv_1") == _FULL_ROW


def test_s1_a_result_of_none_is_not_an_empty_one(store: Store) -> None:
    store.commit(accepted(row("a", 1), msgspec.structs.replace(row("b", 2), result=b"")))
    found = [store.invocations.get(name) for name in "ab"]
    assert [None if each is None else each.result for each in found] == [None, b""]


def test_s1_every_kind_of_journal_entry_survives_a_restart(opened: OpenStore) -> None:
    opened.store.commit(Batch(journal={"inv_1": (0, _ENTRIES[:2])}))
    opened.store.commit(Batch(journal={"inv_1": (2, _ENTRIES[2:])}))
    assert opened.store.invocations.journal("inv_1") == _ENTRIES
    assert opened.restart().invocations.journal("inv_1") == _ENTRIES


def test_s1_a_batch_with_every_kind_of_row_is_found_whole_after_a_restart(opened: OpenStore) -> None:
    batch = one_value(5)
    batch.invocations = {"inv_1": row("inv_1", 3)}
    batch.journal = {"inv_1": (0, _ENTRIES)}
    batch.timers = timers(TimerRow(9, "inv_1", "sleep", 2, 1)).timers
    batch.waiters = {("inv_2", "inv_1", 4): True}
    batch.promises = {("Flow", "a", "paid"): Success(b"yes"), ("Flow", "a", "void"): Failure(1, "no")}
    batch.outbox = [message(1), message(2, value=None)]
    opened.store.commit(batch)

    store = opened.restart()

    assert store.state("Order", "a") == {"n": b"5"}
    assert store.positions() == {("orders", "topic", "topic-id", 0): 5}
    assert store.invocations.get("inv_1") == row("inv_1", 3)
    assert store.invocations.journal("inv_1") == _ENTRIES
    assert store.invocations.timers("inv_1") == store.timers(None, 10) == [TimerRow(9, "inv_1", "sleep", 2, 1)]
    assert store.waiters("inv_2") == [("inv_1", 4)]
    assert store.promise(("Flow", "a", "paid")) == Success(b"yes")
    assert store.promise(("Flow", "a", "void")) == Failure(1, "no")
    assert store.outbox("main", 0, 10) == [message(1), message(2, value=None)]


def test_s1_none_deletes_and_deleting_what_is_not_there_is_nothing(opened: OpenStore) -> None:
    store = opened.store
    keep = TimerRow(2, "inv_1", "retry", 0)
    store.commit(
        Batch(
            state={("Order", "a"): {"x": b"1", "y": b"2"}, ("Order", "b"): {"x": b"3"}},
            timers={("inv_1", "sleep", 0): TimerRow(1, "inv_1", "sleep", 0), keep.id: keep},
            waiters={("w", "inv_1", 0): True, ("w", "inv_1", 1): True},
            promises={("Flow", "a", "p"): Success(None)},
        )
    )
    store.commit(
        Batch(
            state={("Order", "a"): {"x": None, "z": None}, ("Order", "b"): {"x": None}, ("Order", "c"): {"x": None}},
            timers={("inv_1", "sleep", 0): None, ("inv_9", "sleep", 0): None},
            waiters={("w", "inv_1", 0): False, ("nobody", "inv_1", 0): False},
            promises={("Flow", "a", "p"): None, ("Flow", "b", "p"): None},
            invocations={"inv_9": None},
        )
    )
    for seen in opened.before_and_after_a_restart():
        assert seen.state("Order", "a") == {"y": b"2"}
        assert seen.state("Order", "b") == {}
        assert seen.timers(None, 10) == [keep]
        assert seen.waiters("w") == [("inv_1", 1)]
        assert seen.promise(("Flow", "a", "p")) is None


def test_s1_deleting_an_invocation_deletes_what_belongs_to_it_and_nothing_else(opened: OpenStore) -> None:
    both = accepted(row("a", 1), row("b", 2))
    both.journal = {"a": (0, _ENTRIES), "b": (0, _ENTRIES)}
    both.timers = timers(TimerRow(1, "a", "sleep", 0), TimerRow(1, "b", "sleep", 0)).timers
    both.waiters = {("w", "a", 0): True, ("a", "c", 1): True, ("w", "b", 0): True, ("b", "c", 1): True}
    opened.store.commit(both)
    opened.store.commit(Batch(invocations={"a": None}))
    for store in opened.before_and_after_a_restart():
        assert store.invocations.get("a") is None
        assert store.invocations.journal("a") == []
        assert store.invocations.timers("a") == []
        assert store.waiters("w") == [("b", 0)]
        assert store.waiters("a") == []
        assert store.invocations.get("b") == row("b", 2)
        assert store.invocations.journal("b") == _ENTRIES
        assert store.timers(None, 10) == [TimerRow(1, "b", "sleep", 0)]
        assert store.waiters("b") == [("c", 1)]


def test_s1_acknowledged_messages_leave_the_outbox_of_their_cluster_only(store: Store) -> None:
    store.commit(Batch(outbox=[message(1), message(2, "other"), message(3), message(4)]))
    store.commit(Batch(outbox_done={"main": 3}))
    assert store.outbox("main", 0, 10) == [message(4)]
    assert store.outbox("other", 0, 10) == [message(2, "other")]


@pytest.mark.parametrize("count", [1, 2, 3, 15, 16, 17, 255, 257, 1_023, 1_024, 1_025, 5_000, 40_000])
def test_s1_a_batch_of_any_size_is_kept_and_deleted_whole(store: Store, count: int) -> None:
    keys = [("Order", f"key-{number}") for number in range(count)]
    store.commit(Batch(state={key: {"n": key[1].encode()} for key in keys}))
    for key in (keys[0], keys[count // 2], keys[-1]):
        assert store.state(*key) == {"n": key[1].encode()}
    store.commit(Batch(state={key: {"n": None} for key in keys[1:]}))
    assert store.state(*keys[0]) == {"n": b"key-0"}
    assert all(store.state(*key) == {} for key in keys[1 : 1 + 50] + keys[max(1, count - 50) :])


def test_s1_a_large_batch_of_invocations_and_journals_is_kept_whole(store: Store) -> None:
    rows = [row(f"inv_{number}", number) for number in range(1, 1_001)]
    batch = accepted(*rows)
    batch.journal = {each.id: (0, _ENTRIES) for each in rows}
    store.commit(batch)
    assert store.invocations.runnable(0, 2_000) == rows
    assert all(store.invocations.journal(each.id) == _ENTRIES for each in rows[::97])


@pytest.mark.parametrize("text", ["", "schlüssel", "鍵", "😀", "a\x00b", "'; DROP TABLE x; --", "e\u0301"])
def test_s1_any_text_names_an_object_and_its_state(opened: OpenStore, text: str) -> None:
    opened.store.commit(Batch(state={(text, text): {text: b"1"}}, positions={(text, text, text, 0): 1}))
    assert opened.restart().state(text, text) == {text: b"1"}
    assert opened.store.positions() == {(text, text, text, 0): 1}


def test_s1_values_from_empty_to_ten_megabytes_are_kept(opened: OpenStore) -> None:
    large = bytes(range(256)) * 40_000
    opened.store.commit(
        Batch(
            state={("Order", "a"): {"empty": b"", "large": large}},
            invocations={"inv_1": msgspec.structs.replace(row("inv_1"), input=large)},
            outbox=[message(1, value=large)],
        )
    )
    store = opened.restart()
    assert store.state("Order", "a") == {"empty": b"", "large": large}
    kept = store.invocations.get("inv_1")
    assert kept is not None and kept.input == large
    assert store.outbox("main", 0, 1)[0].value == large


def test_s1_a_commit_that_fails_leaves_nothing_and_is_the_last(store: Store) -> None:
    store.commit(one_value(1))
    broken = replace(one_value(2), invocations={"inv_1": row("inv_1")})
    broken.state["Order", "bad"] = {"n": _NOT_BYTES}
    with pytest.raises(CommitFailedError) as failed:
        store.commit(broken)
    assert isinstance(failed.value.__cause__, TypeError)
    with pytest.raises(CommitFailedError, match="no more commits: an earlier one failed"):
        store.commit(one_value(3))
    assert store.state("Order", "a") == {"n": b"1"}
    assert store.positions() == {("orders", "topic", "topic-id", 0): 1}
    assert store.invocations.get("inv_1") is None


def test_s1_after_a_failed_commit_a_restart_goes_on_from_the_last_good_one(opened: OpenStore) -> None:
    opened.store.commit(one_value(1))
    with pytest.raises(CommitFailedError):
        opened.store.commit(Batch(state={("Order", "a"): {"n": _NOT_BYTES}}))
    store = opened.restart()
    assert store.state("Order", "a") == {"n": b"1"}
    store.commit(one_value(2))
    assert store.state("Order", "a") == {"n": b"2"}


def test_s1_a_message_that_is_there_already_is_never_replaced(opened: OpenStore) -> None:
    opened.store.commit(Batch(outbox=[message(1)]))
    with pytest.raises(CommitFailedError):
        opened.store.commit(Batch(outbox=[message(1)]))
    assert opened.restart().outbox("main", 0, 10) == [message(1)]


def test_s1_the_tail_of_a_journal_is_replaced_from_the_first_written_place_on(opened: OpenStore) -> None:
    opened.store.commit(Batch(journal={"inv_1": (0, _ENTRIES)}))
    opened.store.commit(Batch(journal={"inv_1": (1, _ENTRIES[:1])}))
    assert opened.restart().invocations.journal("inv_1") == [_ENTRIES[0], _ENTRIES[0]]
    opened.store.commit(Batch(journal={"inv_1": (1, [])}))
    assert opened.restart().invocations.journal("inv_1") == _ENTRIES[:1]


def test_s2_the_last_of_several_commits_wins(opened: OpenStore) -> None:
    for number in range(1, 20):
        opened.store.commit(one_value(number))
    store = opened.restart()
    assert store.state("Order", "a") == {"n": b"19"}
    assert [store.state("Order", f"key-{number}") for number in (1, 19)] == [{"n": b"1"}, {"n": b"19"}]
    assert store.header.clock_ms == 19


def test_s2_the_header_remembers_the_highest_numbers_of_rows_that_are_gone(opened: OpenStore) -> None:
    opened.store.commit(accepted(row("a", 41), row("b", 3, Status.COMPLETED)))
    opened.store.commit(Batch(outbox=[message(17), message(18, "other")], clock_ms=700))
    opened.store.commit(Batch(invocations={"a": None}, outbox_done={"main": 17, "other": 18}, clock_ms=600))
    header = opened.restart().header
    assert (header.seq, header.outbox_position, header.clock_ms, header.live) == (41, 18, 700, 0)


def test_s2_the_header_counts_what_has_not_completed(opened: OpenStore) -> None:
    opened.store.commit(accepted(*(row(status.value, number, status) for number, status in enumerate(Status))))
    assert opened.restart().header.live == len(Status) - 1


def test_s3_a_batch_that_changes_after_its_commit_changes_nothing_in_the_store(store: Store) -> None:
    origin = Origin(headers={"a": "1"})
    batch = Batch(
        state={("Order", "a"): {"n": b"1"}},
        invocations={"inv_1": msgspec.structs.replace(row("inv_1"), origin=origin)},
        journal={"inv_1": (0, _ENTRIES[:1])},
    )
    store.commit(batch)
    batch.state["Order", "a"]["n"] = b"2"
    origin.headers["a"] = "2"
    batch.journal["inv_1"][1].clear()
    store.state("Order", "a")["n"] = b"3"
    found = store.invocations.get("inv_1")
    assert found is not None and found.origin.headers == {"a": "1"}
    found.origin.headers["a"] = "3"
    assert store.invocations.get("inv_1") != found
    assert store.state("Order", "a") == {"n": b"1"}
    assert store.invocations.journal("inv_1") == _ENTRIES[:1]


def test_s4_the_identity_stays_and_the_epoch_grows_with_every_opening(opened: OpenStore) -> None:
    first = opened.store.header
    second = opened.restart().header
    third = opened.restart().header
    assert first.directory_id == second.directory_id == third.directory_id != ""
    assert [first.epoch, second.epoch, third.epoch] == [1, 2, 3]


def test_s4_a_closed_store_refuses_by_name_and_closing_twice_is_nothing(store: Store) -> None:
    store.commit(accepted(row("a")))
    store.close()
    store.close()
    with pytest.raises(CommitFailedError, match="closed"):
        store.commit(Batch())
    with pytest.raises(StorageError, match="closed"):
        store.state("Order", "a")
    with pytest.raises(StorageError, match="closed"):
        ids(store.invocations.runnable(0, 1))
