"""What the readers find and in which order, on both stores."""

from __future__ import annotations

import pytest

from streamstate.errors import StorageCorruptError
from streamstate.journal import Command, Kind
from streamstate.storage import Batch, InvocationRow, Status, Store, TimerRow
from tests.storage.rows import OpenStore, accepted, ids, message, row, timers


def test_s3_an_empty_store_answers_every_question_with_nothing(store: Store) -> None:
    assert store.state("Order", "a") == {}
    assert store.positions() == {}
    assert store.timers(None, 10) == []
    assert store.outbox("main", 0, 10) == []
    assert store.promise(("Flow", "a", "p")) is None
    assert store.waiters("w") == []
    reader = store.invocations
    assert (reader.get("a"), reader.journal("a"), reader.timers("a")) == (None, [], [])
    assert (reader.lane("Order", "k", 0, 10), reader.runnable(0, 10), reader.expired(10, 10)) == ([], [], [])
    assert store.header.seq == store.header.outbox_position == store.header.clock_ms == store.header.live == 0


def test_s3_state_comes_by_name_and_never_from_another_object(store: Store) -> None:
    store.commit(Batch(state={("Order", "a"): {"z": b"1", "ä": b"2", "B": b"3"}, ("Order", "ab"): {"z": b"4"}}))
    assert list(store.state("Order", "a").items()) == [("B", b"3"), ("z", b"1"), ("ä", b"2")]
    assert store.state("Ord", "era") == {}


def test_s3_positions_are_kept_per_topic_id(store: Store) -> None:
    kept = {("orders", "topic", "id-1", 0): 5, ("orders", "topic", "id-2", 0): 1, ("orders", "topic", "id-1", 1): 0}
    store.commit(Batch(positions=dict(kept)))
    store.commit(Batch(positions={("orders", "topic", "id-2", 0): 2}))
    assert store.positions() == kept | {("orders", "topic", "id-2", 0): 2}


def test_s3_a_lane_holds_what_takes_its_turn_on_the_key_by_seq_in_pages(store: Store) -> None:
    waiting = [status for status in Status if status not in (Status.COMPLETED, Status.SCHEDULED)]
    rows = [row(f"in-{number}", number, status) for number, status in enumerate(waiting, 10)]
    store.commit(
        accepted(
            *reversed(rows),
            row("completed", 1, Status.COMPLETED),
            row("scheduled", 2, Status.SCHEDULED),
            row("shared", 3, lane=False),
            row("other key", 4, key="k2"),
        )
    )
    lane = store.invocations.lane
    assert lane("Order", "k", 0, 100) == rows
    assert lane("Order", "k", 0, 2) == rows[:2]
    assert lane("Order", "k", rows[1].seq, 2) == rows[2:4]
    assert lane("Order", "k", rows[-1].seq, 2) == []
    assert ids(lane("Order", "k2", 0, 100)) == ["other key"]
    assert lane("Courier", "k", 0, 100) == []


def test_s3_an_invocation_leaves_its_lane_when_it_completes_and_enters_it_when_its_time_has_come(store: Store) -> None:
    store.commit(accepted(row("a", 1), row("b", 2, Status.SCHEDULED)))
    store.commit(accepted(row("a", 1, Status.COMPLETED), row("b", 2, Status.PENDING)))
    assert ids(store.invocations.lane("Order", "k", 0, 10)) == ["b"]
    store.commit(Batch(invocations={"b": None}))
    assert store.invocations.lane("Order", "k", 0, 10) == []


def test_s3_runnable_ones_come_by_seq_in_pages_whatever_their_key(store: Store) -> None:
    runnable = (Status.PENDING, Status.READY, Status.RUNNING)
    rows = [row(f"{number}", number, status) for number, status in enumerate(list(Status) * 3, 1)]
    store.commit(accepted(*reversed(rows)))
    expected = [each for each in rows if each.status in runnable]
    found: list[InvocationRow] = []
    while page := store.invocations.runnable(found[-1].seq if found else 0, 4):
        assert len(page) <= 4
        found += page
    assert found == expected


def test_s3_expired_ones_are_completed_and_due_oldest_first(store: Store) -> None:
    store.commit(
        accepted(
            row("later", 1, Status.COMPLETED, expires_ms=300),
            row("now", 2, Status.COMPLETED, expires_ms=200),
            row("before", 3, Status.COMPLETED, expires_ms=100),
            row("kept for ever", 4, Status.COMPLETED),
            row("alive", 5, Status.SUSPENDED, expires_ms=100),
        )
    )
    assert store.invocations.expired(200, 10) == ["before", "now"]
    assert store.invocations.expired(200, 1) == ["before"]
    assert store.invocations.expired(99, 10) == []


def test_s3_timers_come_in_one_total_order_in_pages(store: Store) -> None:
    made = [
        TimerRow(at, invocation, kind, index)
        for at in (5, 10, 2**40)
        for invocation in ("a", "b")
        for kind in ("retry", "sleep")
        for index in (0, 2, 10)
    ]
    expected = sorted({each.id: each for each in made}.values(), key=lambda t: (t.fire_ms, *t.id))
    store.commit(timers(*made))
    found: list[TimerRow] = []
    after: tuple[int, str, str, int] | None = None
    while page := store.timers(after, 5):
        found += page
        after = (page[-1].fire_ms, *page[-1].id)
    assert found == expected
    assert store.invocations.timers("a") == [each for each in expected if each.invocation == "a"]


def test_s3_a_timer_that_is_set_again_has_only_its_new_time(store: Store) -> None:
    store.commit(timers(TimerRow(5, "a", "retry", 0)))
    store.commit(timers(TimerRow(9, "a", "retry", 0, attempt=2)))
    assert store.timers(None, 10) == [TimerRow(9, "a", "retry", 0, attempt=2)]


def test_s3_the_outbox_comes_by_position_in_pages_per_cluster(store: Store) -> None:
    store.commit(Batch(outbox=[message(position, "main" if position % 2 else "other") for position in range(1, 21)]))
    assert [each.position for each in store.outbox("main", 0, 4)] == [1, 3, 5, 7]
    assert [each.position for each in store.outbox("main", 7, 100)] == [9, 11, 13, 15, 17, 19]
    assert store.outbox("other", 20, 4) == []


def test_s3_waiters_come_in_the_order_of_their_insertion_also_after_a_restart(opened: OpenStore) -> None:
    opened.store.commit(Batch(waiters={("w", "z", 1): True, ("w", "a", 9): True, ("v", "m", 0): True}))
    opened.store.commit(Batch(waiters={("w", "m", 5): True, ("w", "z", 1): True}))
    opened.store.commit(Batch(waiters={("w", "m", 5): False}))
    opened.store.commit(Batch(waiters={("w", "b", 0): True, ("w", "m", 5): True}))
    expected = [("z", 1), ("a", 9), ("b", 0), ("m", 5)]
    assert opened.store.waiters("w") == expected
    assert opened.restart().waiters("w") == expected


def test_s2_a_journal_with_a_gap_is_named_as_corrupt(store: Store) -> None:
    store.commit(Batch(journal={"inv_1": (0, [Command(Kind.RUN)])}))
    store.commit(Batch(journal={"inv_1": (2, [Command(Kind.RUN)])}))
    with pytest.raises(StorageCorruptError, match="the journal of inv_1 has 2 entries, but its last position is 2"):
        store.invocations.journal("inv_1")
