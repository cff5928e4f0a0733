"""Any sequence of batches: the two stores keep the same and say the same, also after a restart (S1 to S3)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from streamstate.errors import CommitFailedError
from streamstate.journal import (
    CancelArrived,
    Command,
    Completion,
    Entry,
    Failure,
    Option,
    Outcome,
    SignalArrived,
    Success,
)
from streamstate.storage import Batch, InvocationRow, MemoryStore, Origin, OutboxMessage, SqliteStore, Status, Store
from streamstate.storage import TimerRow as Timer
from streamstate.storage._codec import (
    entry_columns,
    entry_of,
    invocation_columns,
    invocation_of,
    message_columns,
    message_of,
    outcome_columns,
    outcome_of,
)
from tests.properties import examples

# Few names, so that batches meet each other's rows; some that sort or encode unlike others.
IDS = st.sampled_from(["a", "b", "B", "é", "c"])
SERVICES = st.sampled_from(["Order", "Flow"])
KEYS = st.sampled_from(["", "k", "ключ"])
NAMES = st.sampled_from(["x", "X", "ÿ", ""])
CLUSTERS = ["main", "other"]
MOMENTS = st.integers(0, 6)
NUMBERS = st.integers(0, 2**53)
TEXTS = st.text(max_size=5)
BYTES = st.binary(max_size=5)
HEADERS = st.dictionaries(TEXTS, TEXTS, max_size=2)

FAILURES = st.builds(Failure, NUMBERS, TEXTS, HEADERS, TEXTS)
OUTCOMES: st.SearchStrategy[Outcome] = st.builds(Success, st.none() | BYTES) | FAILURES
OPTIONS: st.SearchStrategy[dict[str, Option] | None] = st.none() | st.dictionaries(
    TEXTS, st.one_of(TEXTS, NUMBERS, BYTES, HEADERS), max_size=2
)
ENTRIES: st.SearchStrategy[Entry] = st.one_of(
    st.builds(Command, TEXTS, TEXTS, st.none() | TEXTS, st.none() | BYTES, OPTIONS, st.none() | OUTCOMES, TEXTS),
    st.builds(Completion, NUMBERS, OUTCOMES, NUMBERS),
    st.builds(SignalArrived, TEXTS, OUTCOMES, NUMBERS),
    st.builds(CancelArrived, NUMBERS, st.booleans()),
)
ORIGINS = st.builds(
    Origin,
    headers=HEADERS,
    caller=st.sampled_from(["", "inv_0"]),
    caller_index=st.integers(-1, 5),
    subscription=st.sampled_from(["", "orders"]),
    topic=TEXTS,
    partition=st.integers(-1, 3),
    offset=st.integers(-1, 2**53),
    timestamp_ms=st.integers(-1, 2**53),
    record_key=st.none() | BYTES,
    record_headers=st.lists(st.tuples(TEXTS, st.none() | BYTES), max_size=2),
    is_tombstone=st.booleans(),
)
MAYBE = st.none() | MOMENTS


def rows(ids: st.SearchStrategy[str], seqs: st.SearchStrategy[int]) -> st.SearchStrategy[InvocationRow]:
    return st.builds(
        InvocationRow,
        id=ids,
        seq=seqs,
        service=SERVICES,
        handler=st.just("create"),
        key=KEYS,
        lane=st.booleans(),
        status=st.sampled_from(Status),
        input=BYTES,
        origin=ORIGINS,
        created_ms=MOMENTS,
        started_ms=MAYBE,
        attempt=st.integers(0, 3),
        first_failed_ms=MAYBE,
        due_ms=MAYBE,
        failure=st.none() | FAILURES,
        result=st.none() | BYTES,
        completed_ms=MAYBE,
        expires_ms=MAYBE,
        idempotency_key=st.none() | TEXTS,
        undelivered=st.integers(0, 2),
    )


MESSAGES = st.builds(
    OutboxMessage,
    NUMBERS,
    TEXTS,
    TEXTS,
    st.none() | BYTES,
    st.none() | BYTES,
    st.lists(st.tuples(TEXTS, BYTES), max_size=2).map(tuple),
    TEXTS,
)


@examples(60)
@given(ENTRIES)
def test_s1_an_entry_is_read_as_it_was_written(entry: Entry) -> None:
    assert entry_of(entry_columns(entry)[2]) == entry


@examples(60)
@given(rows(TEXTS, NUMBERS))
def test_s1_an_invocation_is_read_as_it_was_written(row: InvocationRow) -> None:
    assert invocation_of(invocation_columns(row)) == row


@examples(60)
@given(MESSAGES, OUTCOMES)
def test_s1_a_message_and_an_outcome_are_read_as_they_were_written(message: OutboxMessage, outcome: Outcome) -> None:
    cluster, position, *rest = message_columns(message)
    assert message_of((cluster, position, *rest)) == message
    assert outcome_of(outcome_columns(outcome)) == outcome


def said(store: Store) -> dict[str, object]:
    """Everything that the readers of a store can be asked, as far as these tests write it."""
    ids, services, keys = ["a", "b", "B", "é", "c"], ["Order", "Flow"], ["", "k", "ключ"]
    reader = store.invocations
    told: dict[str, object] = {
        "positions": store.positions(),
        "timers": store.timers(None, 100),
        "runnable": reader.runnable(0, 100),
        "few runnable": reader.runnable(2, 2),
    }
    for limit, now_ms in ((1, 3), (100, 3), (100, 9)):
        told[f"expired {limit} {now_ms}"] = reader.expired(now_ms, limit)
    for name in ids:
        told[f"row {name}"] = reader.get(name)
        told[f"journal {name}"] = reader.journal(name)
        told[f"timers of {name}"] = reader.timers(name)
        told[f"waiters of {name}"] = store.waiters(name)
    for service in services:
        for key in keys:
            told[f"state {service} {key}"] = list(store.state(service, key).items())
            told[f"lane {service} {key}"] = reader.lane(service, key, 0, 100)
            told[f"part of lane {service} {key}"] = reader.lane(service, key, 1, 1)
            for name in ("x", "X", "ÿ", ""):
                told[f"promise {service} {key} {name}"] = store.promise((service, key, name))
    for cluster in CLUSTERS:
        told[f"outbox {cluster}"] = store.outbox(cluster, 0, 100)
        told[f"part of outbox {cluster}"] = store.outbox(cluster, 1, 1)
    pages: list[Timer] = []
    while page := store.timers((pages and _place(pages[-1])) or None, 2):
        pages += page
    told["pages of timers"] = pages
    return told


def _place(row: Timer) -> tuple[int, str, str, int]:
    return row.fire_ms, row.invocation, row.kind, row.index


class Twins(RuleBasedStateMachine):
    """The store on disk and the one in memory, given the same."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="streamstate-twins-"))
        self.disk = SqliteStore.open(self.directory)
        self.memory = MemoryStore()
        self.batch = Batch()
        self.is_restartable = False  # again and again without a commit would only take time
        self.seq = 0
        self.outbox = dict.fromkeys(CLUSTERS, 0)
        self.lengths: dict[str, int] = {}

    # What a batch holds is put together rule by rule, as turns do it.

    @rule(service=SERVICES, key=KEYS, changes=st.dictionaries(NAMES, st.none() | BYTES, min_size=1, max_size=3))
    def changes_state(self, service: str, key: str, changes: dict[str, bytes | None]) -> None:
        self.batch.state.setdefault((service, key), {}).update(changes)

    @rule(service=SERVICES, key=KEYS)
    def forgets_an_object(self, service: str, key: str) -> None:
        self.batch.forgotten.add((service, key))

    @rule(topic_id=st.sampled_from(["", "id"]), partition=st.integers(0, 1), offset=NUMBERS)
    def moves_on(self, topic_id: str, partition: int, offset: int) -> None:
        self.batch.positions["orders", "topic", topic_id, partition] = offset

    @rule(name=IDS, data=st.data())
    def puts_an_invocation(self, name: str, data: st.DataObject) -> None:
        there = self.batch.invocations.get(name) or self.disk.invocations.get(name)
        if there is None:
            self.seq += 1
        seq = self.seq if there is None else there.seq
        self.batch.invocations[name] = data.draw(rows(st.just(name), st.just(seq)))

    @rule(name=IDS)
    def removes_an_invocation(self, name: str) -> None:
        self.batch.invocations[name] = None
        self.batch.journal.pop(name, None)
        self.lengths[name] = 0

    @rule(name=st.sampled_from("ab"), entries=st.lists(ENTRIES, min_size=1, max_size=3), choice=st.integers(0, 9))
    def writes_a_journal(self, name: str, entries: list[Entry], choice: int) -> None:
        """Behind what is there, or over its end, as when undelivered arrivals move to the back."""
        first = choice % (self.lengths.get(name, 0) + 1)
        place, earlier = self.batch.journal.get(name, (first, []))
        if first < place:
            place, earlier = first, []
        self.batch.journal[name] = (place, [*earlier[: first - place], *entries])
        self.lengths[name] = first + len(entries)

    @rule(name=IDS, kind=st.sampled_from(["sleep", "step"]), index=st.integers(0, 1), fire=st.none() | MOMENTS)
    def sets_a_timer(self, name: str, kind: str, index: int, fire: int | None) -> None:
        self.batch.timers[name, kind, index] = None if fire is None else Timer(fire, name, kind, index, fire)

    @rule(awaited=IDS, name=IDS, index=st.integers(0, 1), waits=st.booleans())
    def waits(self, awaited: str, name: str, index: int, waits: bool) -> None:
        self.batch.waiters.pop((awaited, name, index), None)
        self.batch.waiters[awaited, name, index] = waits

    @rule(service=SERVICES, key=KEYS, name=NAMES, outcome=st.none() | OUTCOMES)
    def completes_a_promise(self, service: str, key: str, name: str, outcome: Outcome | None) -> None:
        self.batch.promises[service, key, name] = outcome

    @rule(cluster=st.sampled_from(CLUSTERS), message=MESSAGES)
    def publishes(self, cluster: str, message: OutboxMessage) -> None:
        self.outbox[cluster] += 1
        written = OutboxMessage(
            self.outbox[cluster], cluster, message.topic, message.key, message.value, message.headers, "id"
        )
        self.batch.outbox.append(written)

    @rule(cluster=st.sampled_from(CLUSTERS), done=st.integers(0, 8))
    def acknowledges(self, cluster: str, done: int) -> None:
        self.batch.outbox_done[cluster] = done

    # And then it becomes durable, or does not.

    @rule(clock_ms=st.integers(0, 99))
    def commits(self, clock_ms: int) -> None:
        self.batch.clock_ms = clock_ms
        self.disk.commit(self.batch)
        self.memory.commit(self.batch)
        self.batch = Batch()
        self.is_restartable = True
        assert said(self.disk) == said(self.memory)

    @precondition(lambda self: self.batch.outbox)
    @rule()
    def fails_to_commit(self) -> None:
        """S1: of a batch that cannot be kept nothing is, in either store."""
        before = said(self.disk)
        self.batch.outbox.append(self.batch.outbox[0])
        for store in (self.disk, self.memory):
            with pytest.raises(CommitFailedError, match="nothing of it is visible"):
                store.commit(self.batch)
            with pytest.raises(CommitFailedError, match="an earlier one failed"):
                store.commit(Batch())
        self._reopen()
        assert said(self.disk) == said(self.memory) == before

    @precondition(lambda self: self.is_restartable)
    @rule()
    def restarts(self) -> None:
        before = said(self.disk)
        self._reopen()
        assert said(self.disk) == said(self.memory) == before
        ours, twin = self.disk.header, self.memory.header
        assert (ours.epoch, ours.seq, ours.live) == (twin.epoch, twin.seq, twin.live)
        assert (ours.clock_ms, ours.outbox_position) == (twin.clock_ms, twin.outbox_position)

    def teardown(self) -> None:
        self.commits(clock_ms=1)
        self.restarts()
        self.disk.close()
        self.memory.close()
        shutil.rmtree(self.directory)

    def _reopen(self) -> None:
        """What was not committed is lost."""
        self.is_restartable = False
        self.disk.close()
        self.disk = SqliteStore.open(self.directory)
        self.memory = self.memory.reopen()
        self.batch = Batch()
        self.lengths = {name: len(self.disk.invocations.journal(name)) for name in ("a", "b", "B", "é", "c")}
        last = {cluster: self.disk.outbox(cluster, 0, 100) for cluster in CLUSTERS}
        for cluster, messages in last.items():
            self.outbox[cluster] = max(self.outbox[cluster], *(each.position for each in messages), 0)


TestTwins = Twins.TestCase
TestTwins.settings = examples(8, steps=40)
