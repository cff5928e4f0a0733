"""One batch into SQLite, in few and large statements. Called inside a transaction."""

from __future__ import annotations

import apsw

from streamstate.journal import Entry, Outcome
from streamstate.storage._codec import (
    SqlValue,
    entry_columns,
    invocation_columns,
    message_columns,
    outcome_columns,
)
from streamstate.storage._multirow import delete, insert, upsert
from streamstate.storage._rows import (
    Batch,
    InvocationRow,
    ObjectId,
    OutboxMessage,
    PositionId,
    PromiseId,
    TimerId,
    TimerRow,
    WaiterId,
)
from streamstate.storage._schema import INVOCATION_COLUMNS

_put_state = upsert("object_state", ("service", "key", "name"), ("value",))
_drop_state = delete("object_state", ("service", "key", "name"))
_put_positions = upsert("positions", ("subscription", "topic", "topic_id", "partition"), ("next_offset",))
_put_invocations = upsert("invocations", ("id",), INVOCATION_COLUMNS[1:])
# Arrivals that were not delivered move to the back when a turn comes in front of them: the tail is written anew.
_cut_journal = "DELETE FROM journal WHERE invocation = ? AND position >= ?"
_put_journal = insert("journal", ("invocation", "position", "kind", "name", "entry"))
_put_timers = upsert("timers", ("invocation", "kind", "idx"), ("fire_ms", "attempt"))
_drop_timers = delete("timers", ("invocation", "kind", "idx"))
# A waiter that is there already keeps its place in the order.
_put_waiters = insert("waiters", ("awaited", "invocation", "idx"), "ON CONFLICT DO NOTHING")
_drop_waiters = delete("waiters", ("awaited", "invocation", "idx"))
_put_promises = upsert("promises", ("service", "key", "name"), ("value", "failure"))
_drop_promises = delete("promises", ("service", "key", "name"))
_put_trials = upsert("trials", ("invocation",), ("deaths",))
_drop_trials = delete("trials", ("invocation",))
_put_outbox = insert("outbox", ("cluster", "position", "topic", "key", "value", "headers", "message_id"))

# A deleted invocation neither waits for anything nor is waited for.
_forget = (
    delete("invocations", ("id",)),
    delete("journal", ("invocation",)),
    delete("timers", ("invocation",)),
    delete("trials", ("invocation",)),
    delete("waiters", ("invocation",)),
    delete("waiters", ("awaited",)),
)


_forget_objects = (delete("object_state", ("service", "key")), delete("promises", ("service", "key")))


def write_batch(cursor: apsw.Cursor, batch: Batch) -> None:
    """Apply the batch; deletions of invocations come first."""
    if batch.forgotten:
        for statement in _forget_objects:
            statement.run(cursor, [part for ident in batch.forgotten for part in ident])
    if batch.invocations:
        _write_invocations(cursor, batch.invocations)
    if batch.journal:
        _write_journal(cursor, batch.journal)
    if batch.timers:
        _write_timers(cursor, batch.timers)
    _write_trials(cursor, batch.trials)
    if batch.waiters:
        _write_waiters(cursor, batch.waiters)
    if batch.promises:
        _write_promises(cursor, batch.promises)
    if batch.outbox:
        _write_outbox(cursor, batch.outbox)
    for cluster, position in batch.outbox_done.items():
        cursor.execute("DELETE FROM outbox WHERE cluster = ? AND position <= ?", (cluster, position))
    if batch.state:
        _write_state(cursor, batch.state)
    if batch.positions:
        _write_positions(cursor, batch.positions)


def _write_state(cursor: apsw.Cursor, state: dict[ObjectId, dict[str, bytes | None]]) -> None:
    put: list[SqlValue] = []
    drop: list[SqlValue] = []
    for (service, key), values in state.items():
        for name, value in values.items():
            if value is None:
                drop += (service, key, name)
            else:
                put += (service, key, name, value)
    _drop_state.run(cursor, drop)
    _put_state.run(cursor, put)


def _write_positions(cursor: apsw.Cursor, positions: dict[PositionId, int]) -> None:
    put: list[SqlValue] = []
    for position, offset in positions.items():
        put += position
        put.append(offset)
    _put_positions.run(cursor, put)


def _write_invocations(cursor: apsw.Cursor, invocations: dict[str, InvocationRow | None]) -> None:
    put: list[SqlValue] = []
    drop: list[SqlValue] = []
    for invocation, row in invocations.items():
        if row is None:
            drop.append(invocation)
        else:
            put += invocation_columns(row)
    for statement in _forget:
        statement.run(cursor, drop)
    _put_invocations.run(cursor, put)


def _write_journal(cursor: apsw.Cursor, journal: dict[str, tuple[int, list[Entry]]]) -> None:
    put: list[SqlValue] = []
    cursor.executemany(_cut_journal, [(invocation, first) for invocation, (first, _) in journal.items()])
    for invocation, (first, entries) in journal.items():
        for position, entry in enumerate(entries, first):
            put += (invocation, position, *entry_columns(entry))
    _put_journal.run(cursor, put)


def _write_timers(cursor: apsw.Cursor, timers: dict[TimerId, TimerRow | None]) -> None:
    put: list[SqlValue] = []
    drop: list[SqlValue] = []
    for timer, row in timers.items():
        if row is None:
            drop += timer
        else:
            put += (*timer, row.fire_ms, row.attempt)
    _drop_timers.run(cursor, drop)
    _put_timers.run(cursor, put)


def _write_trials(cursor: apsw.Cursor, trials: dict[str, int | None]) -> None:
    put: list[SqlValue] = []
    drop: list[SqlValue] = []
    for invocation, deaths in trials.items():
        if deaths is None:
            drop.append(invocation)
        else:
            put += (invocation, deaths)
    _drop_trials.run(cursor, drop)
    _put_trials.run(cursor, put)


def _write_waiters(cursor: apsw.Cursor, waiters: dict[WaiterId, bool]) -> None:
    put: list[SqlValue] = []
    drop: list[SqlValue] = []
    for waiter, waits in waiters.items():
        (put if waits else drop).extend(waiter)
    _drop_waiters.run(cursor, drop)
    _put_waiters.run(cursor, put)


def _write_promises(cursor: apsw.Cursor, promises: dict[PromiseId, Outcome | None]) -> None:
    put: list[SqlValue] = []
    drop: list[SqlValue] = []
    for promise, outcome in promises.items():
        if outcome is None:
            drop += promise
        else:
            put += (*promise, *outcome_columns(outcome))
    _drop_promises.run(cursor, drop)
    _put_promises.run(cursor, put)


def _write_outbox(cursor: apsw.Cursor, messages: list[OutboxMessage]) -> None:
    put: list[SqlValue] = []
    for message in messages:
        put += message_columns(message)
    _put_outbox.run(cursor, put)
